//! Symlinks in the places of a store on which podman mounts, into which it writes, and from which the runtime reads: podman
//! follows them as root.

use std::os::unix::fs::symlink;
use std::path::PathBuf;

use serde_json::json;

use crate::database::doctor;
use crate::guard::text;
use crate::hostile::{GRAPH_ROOT, IMAGES, json_of};
use crate::image::APP;
use crate::podman::{Podman, Program, default_policy};
use crate::ready;

pub const WAYS: [Program; 4] = [Program::Hooked, Program::Runtime, Program::Guarded, Program::Layerseal];

/// Directories of a container that existed while somebody had the disk, from outside of the host.
struct Existing {
    id: String,
    userdata: PathBuf,
    layer: PathBuf,
}

impl Existing {
    /// A container that ran, after a boot.
    fn of(podman: &Podman) -> Self {
        podman.ok(&["create", "--name", "c", APP, "ls", "/opt"]);
        podman.ok(&["start", "-a", "c"]);
        support::eventually("cleaning up", || {
            podman.run(&["container", "cleanup", "c"]);
            podman.container_mounts().is_empty()
        });
        podman.host.reboot();
        let record = json_of(&podman.graph_root().join("overlay-containers/containers.json"))[0].clone();
        let text = |key: &str| record[key].as_str().unwrap().to_owned();
        let id = text("id");
        let userdata = podman.graph_root().join("overlay-containers").join(&id).join("userdata");
        Self { id, userdata, layer: podman.graph_root().join("overlay").join(text("layer")) }
    }
}

impl Podman {
    /// What was started is refused for this case, and shows nothing of somebody else's.
    #[track_caller]
    pub fn refused_for(&self, case: &str, args: &[&str]) {
        let output = self.run(args);
        let said = text(&output);
        assert!(!output.status.success() && !said.contains("evil"), "{:?} {args:?}: {said}", self.program);
        match self.program {
            // The mount program is asked first.
            Program::Layerseal | Program::Guarded => assert!(said.contains(&format!("[R-{case}]")), "{said}"),
            Program::Runtime if case == "F07" => assert!(said.contains("[R-F07]"), "{said}"),
            Program::Runtime => assert_eq!(self.last("runtime"), ("refused".into(), case.into()), "{said}"),
            _ => assert_eq!(self.last("precreate"), ("refused".into(), case.into()), "{said}"),
        }
    }

    /// Has the configuration of this host be in filesystems of their own, as most hosts have it on no overlay: podman
    /// takes an overlay for a mount of its own.
    fn configuration_on_tmpfs(&self) {
        for place in ["/etc/layerseal", "/etc/containers/hooks"] {
            self.host.sh(&format!(
                "rm -rf /var/tmp/kept; cp -a {place} /var/tmp/kept; mount -t tmpfs -o mode=755 none {place}; \
                 cp -a /var/tmp/kept/. {place}"
            ));
        }
    }
}

/// podman finds nothing in the place of the configuration, and writes through the link into its own working directory;
/// the runtime, whose working directory is the bundle, reads another file, which names another root, and no hooks.
#[test]
fn o15_the_runtime_reads_what_podman_wrote() {
    if !ready("a configuration that leads elsewhere") {
        return;
    }
    let off = default_policy().replace("\"enforce\"", "\"off\"");
    for program in WAYS {
        let podman = Podman::new(program);
        let own = Existing::of(&podman);
        let evil = format!("{GRAPH_ROOT}/evil");
        podman.host.sh(&format!(
            "mkdir -p {evil}/bin {evil}/usr/bin; cp /bin/busybox {evil}/bin/ls; cp {evil}/bin/ls {evil}/usr/bin"
        ));
        podman.host.sh(&format!("mkdir -p {evil}/opt {evil}/proc {evil}/dev; touch {evil}/opt/evil"));
        let config = own.userdata.join("config.json");
        let mut other = json_of(&config);
        other["root"]["path"] = json!(evil);
        other["hooks"] = json!({});
        other["mounts"].as_array_mut().unwrap().retain(|mount| mount["destination"] == "/proc");
        std::fs::write(own.userdata.join("other.json"), other.to_string()).unwrap();
        for policy in [&default_policy(), &off] {
            podman.policy(policy);
            let _ = std::fs::remove_file(&config);
            symlink("/proc/self/cwd/other.json", &config).unwrap();
            assert_eq!(podman.foretold("c"), ("refused".into(), "O15".into()), "{program:?}");
            podman.refused_for("O15", &["start", "-a", "c"]);
            // What podman wrote is in its own directory, which here is the test's.
            podman.host.sh("rm -f other.json");
        }
        podman.policy(&default_policy());
        // Where podman wrote to by such a link cannot be told, until a person has looked.
        if matches!(program, Program::Hooked | Program::Runtime) {
            podman.refused_for("F10", &["run", "--rm", "--pull=never", APP, "ls", "/opt"]);
        }
        podman.host.sh("rm -f /var/lib/layerseal/filled/*");
        let said = doctor(&podman, "links in podman's store");
        assert!(said.starts_with("\"missing\"") && said.contains(&own.id), "{said}");
        // Control: without the link it is as it was.
        std::fs::remove_file(&config).unwrap();
        assert_eq!(doctor(&podman, "links in podman's store"), "none", "{program:?}");
        let output = podman.ok(&["start", "-a", "c"]);
        assert!(!output.contains("evil"), "{program:?}: {output}");
    }
}

/// podman mounts a filesystem in memory on the container's `shm`: where that leads, a directory of the host is empty. With
/// the hooks alone, and their own directory, nobody is asked (docs/threat-model.md).
#[test]
fn o15_shared_memory_is_mounted_where_its_name_says() {
    if !ready("shared memory that leads elsewhere") {
        return;
    }
    for program in WAYS {
        let podman = Podman::new(program);
        let own = Existing::of(&podman);
        podman.host.sh("mkdir -p /var/tmp/target; touch /var/tmp/target/there");
        let shm = own.userdata.join("shm");
        std::fs::remove_dir(&shm).unwrap();
        let lead = |target: &str| {
            let _ = std::fs::remove_file(&shm);
            symlink(target, &shm).unwrap();
        };
        lead("/var/tmp/target");
        podman.refused_for("O15", &["start", "-a", "c"]);
        assert_eq!(podman.host.sh("ls /var/tmp/target").trim(), "there", "{program:?}");
        lead("/etc/containers/hooks");
        match program {
            Program::Hooked => {}
            Program::Runtime => podman.refused_for("O15", &["start", "-a", "c"]),
            _ => podman.refused_for("F10", &["start", "-a", "c"]),
        }
        assert!(doctor(&podman, "links in podman's store").contains("shm"), "{program:?}");
        lead("/etc/layerseal");
        // The hook looks at the container first, and the runtime asks for its file.
        let case = match program {
            Program::Hooked => "O15",
            Program::Runtime => "F07",
            _ => "F10",
        };
        podman.refused_for(case, &["start", "-a", "c"]);
        std::fs::remove_file(&shm).unwrap();
        std::fs::create_dir(&shm).unwrap();
        podman.ok(&["start", "-a", "c"]);
    }
}

/// podman mounts what the layers hold on `merged`: where that leads, they are files of the host, which belong to root.
#[test]
fn o15_a_root_is_mounted_where_its_name_says() {
    if !ready("a root that leads elsewhere") {
        return;
    }
    for program in WAYS {
        let podman = Podman::new(program);
        let own = Existing::of(&podman);
        podman.configuration_on_tmpfs();
        let policy = "version = 1\n[default]\nmode = \"off\"\n";
        std::fs::write(own.layer.join("diff/policy.toml"), policy).unwrap();
        std::fs::write(own.layer.join("diff/runtime.toml"), "path = \"/usr/bin/crun\"\n").unwrap();
        std::fs::create_dir(own.layer.join("diff/opt")).unwrap();
        std::fs::write(own.layer.join("diff/opt/evil"), "").unwrap();
        let merged = own.layer.join("merged");
        let _ = std::fs::remove_dir(&merged);
        podman.host.sh("mkdir -p /run/target");
        let mounts = matches!(program, Program::Hooked | Program::Runtime);
        let rootfs = format!("{}[[rule]]\nimage = \"<rootfs>\"\nmode = \"off\"\n", default_policy());
        for (target, policy) in
            [("/run/target", &default_policy()), ("/run/target", &rootfs), ("/etc/layerseal", &default_policy())]
        {
            podman.policy(policy);
            symlink(target, &merged).unwrap();
            // The mount program does not follow it.
            podman.refused_for(if mounts { "O15" } else { "A08" }, &["start", "-a", "c"]);
            assert!(doctor(&podman, "links in podman's store").contains("merged"), "{program:?}");
            podman.policy(&default_policy());
            podman.host.reboot();
            podman.host.sh("mkdir -p /run/target");
            podman.configuration_on_tmpfs();
            std::fs::remove_file(&merged).unwrap();
        }
    }
}

/// The same with a layer of an image, whose name everybody knows: whoever has the image mounted, in a container that is made
/// anew too, has it mounted on the configuration.
#[test]
fn f10_an_image_is_not_mounted_over_the_configuration() {
    if !ready("an image that is mounted over the configuration") {
        return;
    }
    for program in [Program::Hooked, Program::Runtime] {
        let podman = Podman::new(program);
        let record = json_of(&podman.graph_root().join(IMAGES))[0].clone();
        let (top, image) = (record["layer"].as_str().unwrap(), record["id"].as_str().unwrap());
        let layer = podman.graph_root().join("overlay").join(top);
        let run = ["run", "--rm", "--pull=never", APP, "ls", "/opt"];
        let mount = format!("type=image,source={image},destination=/img");
        let with = ["run", "--rm", "--pull=never", "--mount", &mount, APP, "ls", "/img"];
        podman.ok(&run);
        podman.host.reboot();
        podman.configuration_on_tmpfs();
        let off = "version = 1\n[default]\nmode = \"off\"\n";
        for (name, content) in [("policy.toml", off), ("runtime.toml", "path = \"/usr/bin/crun\"\n"), ("evil", "")] {
            std::fs::write(layer.join("diff").join(name), content).unwrap();
        }
        let merged = layer.join("merged");
        let _ = std::fs::remove_dir(&merged);
        symlink("/etc/layerseal", &merged).unwrap();
        podman.refused_for("F10", &with);
        podman.host.reboot();
        podman.configuration_on_tmpfs();
        podman.ok(&["image", "mount", image]);
        podman.refused_for("F10", &run);
        // Control: what is beneath it is this host's own.
        podman.host.sh("umount /etc/layerseal");
        podman.ok(&run);
    }
}

/// podman fills a new volume before anybody has verified the image, and its place may be there already, as a link: what is
/// written into the configuration stays there.
#[test]
fn o15_f10_a_volume_is_not_the_configuration() {
    if !ready("a volume that leads to the configuration") {
        return;
    }
    for program in [Program::Hooked, Program::Runtime] {
        let podman = Podman::new(program);
        podman.host.sh("mkdir -p -m 755 /etc/layerseal/policy.d");
        let layers = json_of(&podman.graph_root().join("overlay-layers/layers.json"));
        let layers = layers.as_array().unwrap().iter().map(|layer| layer["id"].as_str().unwrap());
        for opt in layers.map(|id| podman.graph_root().join("overlay").join(id).join("diff/opt")).filter(|o| o.is_dir())
        {
            std::fs::remove_dir_all(&opt).unwrap();
            std::fs::create_dir(&opt).unwrap();
            let off = "version = 1\n[[rule]]\nimage = \"*\"\nmode = \"off\"\n";
            std::fs::write(opt.join("evil.toml"), off).unwrap();
        }
        let volume = podman.graph_root().join("volumes/data");
        std::fs::create_dir_all(&volume).unwrap();
        symlink("/etc/layerseal/policy.d", volume.join("_data")).unwrap();
        podman.refused_for("O15", &["run", "--rm", "--pull=never", "-v", "data:/opt", APP, "ls", "/bin"]);
        assert_eq!(podman.host.sh("ls /etc/layerseal/policy.d").trim(), "evil.toml", "{program:?}");
        let run = ["run", "--rm", "--pull=never", APP, "ls", "/bin"];
        podman.refused_for("F10", &run);
        podman.host.sh("rm /etc/layerseal/policy.d/evil.toml");
        podman.refused_for("F10", &run);
        // Control: a person has looked at it, and removed the note.
        podman.host.sh("rm $(grep -l policy.d /var/lib/layerseal/filled/*)");
        podman.ok(&run);
        // Whoever names the directory means it, where it is not noted as that volume either.
        podman.host.sh("rm -f /var/lib/layerseal/filled/*");
        podman.ok(&["run", "--rm", "--pull=never", "-v", "/etc/layerseal/policy.d:/data", APP, "ls", "/data"]);
    }
}

/// podman writes the users of a container without a writable root into its directory, with those of layers that nobody has
/// verified: a link there leads into the configuration, and what is written stays.
#[test]
fn o15_f10_the_users_of_a_container_are_not_the_configuration() {
    if !ready("a container whose users are written into the configuration") {
        return;
    }
    for program in [Program::Hooked, Program::Runtime] {
        for up in ["", "/proc/self/cwd/../../../../../../../.."] {
            let podman = Podman::new(program);
            podman.host.sh("mkdir -p -m 755 /etc/layerseal/policy.d");
            let users = ["--read-only", "--user", "4321", "--passwd-entry", "# $UID"];
            podman.ok(&[&["create", "--name", "c"], &users[..], &[APP, "ls", "/opt"]].concat());
            podman.host.reboot();
            let record = json_of(&podman.graph_root().join("overlay-containers/containers.json"))[0].clone();
            let id = record["id"].as_str().unwrap();
            let link = podman.graph_root().join("overlay-containers").join(id).join("userdata/passwd");
            let layers = json_of(&podman.graph_root().join("overlay-layers/layers.json"));
            let layers = layers.as_array().unwrap().iter().map(|layer| layer["id"].as_str().unwrap());
            let users = layers.map(|id| podman.graph_root().join("overlay").join(id).join("diff/etc/passwd"));
            let users: Vec<(PathBuf, Vec<u8>)> =
                users.filter_map(|path| std::fs::read(&path).ok().map(|before| (path, before))).collect();
            assert!(!users.is_empty());
            for (path, _) in &users {
                std::fs::write(path, "version = 1\n[[rule]]\nimage = \"*\"\nmode = \"off\"\n").unwrap();
            }
            symlink(format!("{up}/etc/layerseal/policy.d/planted.toml"), &link).unwrap();
            podman.refused_for("O15", &["start", "-a", "c"]);
            assert_eq!(podman.host.sh("ls /etc/layerseal/policy.d").trim(), "planted.toml", "{program:?}");
            for (path, before) in &users {
                std::fs::write(path, before).unwrap();
            }
            let run = ["run", "--rm", "--pull=never", APP, "ls", "/bin"];
            podman.refused_for("F10", &run);
            // Control: a person has looked at it, and removed the note.
            podman
                .host
                .sh("rm /etc/layerseal/policy.d/planted.toml; rm $(grep -l etc/layerseal /var/lib/layerseal/filled/*)");
            podman.ok(&run);
        }
    }
}

/// A link that leads to no configuration stops that container alone.
#[test]
fn o15_a_link_to_anything_else_stops_one_container() {
    if !ready("a container with a link to a file of the host") {
        return;
    }
    for program in [Program::Hooked, Program::Runtime] {
        let podman = Podman::new(program);
        let own = Existing::of(&podman);
        for target in ["/var/tmp/none", "/var/tmp"] {
            let link = own.userdata.join("other");
            let _ = std::fs::remove_file(&link);
            symlink(target, &link).unwrap();
            podman.refused_for("O15", &["start", "-a", "c"]);
            podman.ok(&["run", "--rm", "--pull=never", APP, "ls", "/bin"]);
        }
    }
}

/// podman adds users to the root of a container before anybody is asked: where its writable layer leads into the
/// configuration, what is written stays.
#[test]
fn o15_f10_a_writable_layer_is_not_the_configuration() {
    if !ready("a writable layer that leads to the configuration") {
        return;
    }
    for program in [Program::Hooked, Program::Runtime] {
        let podman = Podman::new(program);
        podman.ok(&["create", "--name", "c", "--user", "4321", "--passwd-entry", "# $UID", APP, "ls", "/opt"]);
        podman.host.reboot();
        // As on most hosts, one filesystem that can be written to.
        podman.host.sh("mkdir -p -m 755 /etc/layerseal/policy.d /etc/empty; cp -a /etc /var/tmp/kept-etc; \
             mount -t tmpfs -o mode=755 none /etc; cp -a /var/tmp/kept-etc/. /etc");
        let record = json_of(&podman.graph_root().join("overlay-containers/containers.json"))[0].clone();
        let own = podman.graph_root().join("overlay").join(record["layer"].as_str().unwrap());
        let layers = json_of(&podman.graph_root().join("overlay-layers/layers.json"));
        let layers = layers.as_array().unwrap().iter().map(|layer| layer["id"].as_str().unwrap());
        let layers = layers.map(|id| podman.graph_root().join("overlay").join(id).join("diff"));
        let mut changed: Vec<(PathBuf, Vec<u8>)> = Vec::new();
        for layer in layers.filter(|layer| layer.join("etc/passwd").exists()) {
            let users = layer.join("etc/passwd");
            changed.push((users.clone(), std::fs::read(&users).unwrap()));
            std::fs::remove_file(&users).unwrap();
            symlink("../policy.d/planted.toml", users).unwrap();
            std::fs::create_dir(layer.join("policy.d")).unwrap();
            let off = "version = 1\n[[rule]]\nimage = \"*\"\nmode = \"off\"\n";
            std::fs::write(layer.join("policy.d/planted.toml"), off).unwrap();
        }
        assert!(!changed.is_empty());
        for (name, target) in [("diff", "/etc/layerseal"), ("work", "/etc/empty")] {
            std::fs::remove_dir_all(own.join(name)).unwrap();
            symlink(target, own.join(name)).unwrap();
        }
        // Another link, which leads to nothing of it, hides nothing.
        let containers = podman.graph_root().join("overlay-containers").join(record["id"].as_str().unwrap());
        symlink("/var/tmp", containers.join("userdata/aaa")).unwrap();
        podman.refused_for("O15", &["start", "-a", "c"]);
        assert_eq!(podman.host.sh("ls /etc/layerseal/policy.d").trim(), "planted.toml", "{program:?}");
        for (users, before) in changed {
            std::fs::remove_dir_all(users.ancestors().nth(2).unwrap().join("policy.d")).unwrap();
            std::fs::remove_file(&users).unwrap();
            std::fs::write(users, before).unwrap();
        }
        let run = ["run", "--rm", "--pull=never", APP, "ls", "/bin"];
        podman.refused_for("F10", &run);
        // Control: a person has looked at it, and removed the note.
        podman.host.sh("rm -r /etc/layerseal/policy.d; rm $(grep -l etc/layerseal /var/lib/layerseal/filled/*)");
        podman.ok(&run);
    }
}
