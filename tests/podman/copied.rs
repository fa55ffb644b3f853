//! What podman takes out of layers that nobody has verified yet, before `precreate`: copied into volumes, into the
//! container's upper directory and its hosts; and what a refused start leaves of that.

use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use rustix::fs::XattrFlags;

use crate::guard::{NOT_SEALED, REJECTED, RUN, text};
use crate::image::{APP, FRESH, repository};
use crate::podman::{Podman, Program, default_policy};
use crate::ready;
use crate::refusals::in_diff;

/// Something done to a layer, and taken back.
struct Undo<'a>(Box<dyn Fn() + 'a>);

impl Drop for Undo<'_> {
    fn drop(&mut self) {
        (self.0)();
    }
}

/// A file that the sealed image has not.
fn planted<'a>(podman: &Podman, dir: &str, name: &str, content: &str) -> Undo<'a> {
    let path = in_diff(podman, dir).join(name);
    let top: Vec<PathBuf> = path.ancestors().take_while(|p| !p.exists()).map(Path::to_owned).collect();
    std::fs::create_dir_all(path.parent().unwrap()).unwrap();
    std::fs::write(&path, content).unwrap();
    Undo(Box::new(move || match top.last() {
        Some(top) if top.is_dir() => std::fs::remove_dir_all(top).unwrap(),
        _ => std::fs::remove_file(&path).unwrap(),
    }))
}

fn mode<'a>(path: PathBuf, mode: u32) -> Undo<'a> {
    let before = std::fs::metadata(&path).unwrap().permissions();
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(mode)).unwrap();
    Undo(Box::new(move || std::fs::set_permissions(&path, before.clone()).unwrap()))
}

fn attribute<'a>(path: PathBuf, name: &'static str, value: &[u8]) -> Undo<'a> {
    rustix::fs::setxattr(&path, name, value, XattrFlags::empty()).unwrap();
    Undo(Box::new(move || rustix::fs::removexattr(&path, name).unwrap()))
}

fn owner<'a>(path: PathBuf, uid: u32) -> Undo<'a> {
    let before = std::os::unix::fs::MetadataExt::uid(&std::fs::metadata(&path).unwrap());
    std::os::unix::fs::chown(&path, Some(uid), None).unwrap();
    Undo(Box::new(move || std::os::unix::fs::chown(&path, Some(before), None).unwrap()))
}

/// `cap_setuid=ep`, as vfs_cap_data of revision 2.
const CAPABILITY: [u8; 20] = [1, 0, 0, 2, 0x80, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0];

impl Podman {
    fn clear(&self) {
        self.run(&["rm", "-fa", "-t", "0"]);
        self.run(&["volume", "rm", "-fa"]);
    }

    /// A new volume at this place is refused before anything runs.
    #[track_caller]
    fn not_filled(&self, mount: &[&str]) {
        let args = [&["run", "--rm"], mount, &[APP, "true"]].concat();
        self.stopped("precreate", REJECTED, &["O09"], &args);
        self.clear();
    }

    #[track_caller]
    fn filled(&self, mount: &[&str]) {
        self.ok(&[&["run", "--rm"], mount, &[APP, "true"]].concat());
        self.clear();
    }

    /// Lines for containers.conf, beneath the table that they begin with.
    fn containers_conf(&self, table: &str, line: &str) -> String {
        let before = self.host.sh("cat /etc/containers/containers.conf");
        self.host.write("/etc/containers/containers.conf", before.replace(table, &format!("{table}\n{line}")));
        before
    }
}

#[test]
fn o09_a_volume_is_compared_wherever_it_lies() {
    if !ready("o09 by path") {
        return;
    }
    let podman = Podman::new(Program::Hooked);
    let mounts = [
        &["-v", "fresh:/opt:O"][..],
        &["-v", "fresh:/opt:U"],
        &["--mount", "type=volume,src=fresh,dst=/opt"],
        &["-v", "/opt"],
    ];
    let all = |check: &dyn Fn(&[&str])| {
        mounts.iter().for_each(|mount| check(mount));
        // Where there is no `volumes` in the path.
        podman.host.sh("mkdir -p /var/tmp/elsewhere");
        let before = podman.containers_conf("[engine]", "volume_path = \"/var/tmp/elsewhere\"");
        // The database would say otherwise.
        podman.host.sh("rm -rf /var/lib/containers/storage/libpod /var/lib/containers/storage/db.sql");
        check(&["-v", "fresh:/opt"]);
        check(&["-v", "fresh:/opt:O"]);
        podman.host.write("/etc/containers/containers.conf", before);
        podman.host.sh("rm -rf /var/lib/containers/storage/libpod /var/lib/containers/storage/db.sql");
    };
    all(&|mount| podman.filled(mount));
    let _planted = planted(&podman, "opt", "injected", "evil");
    all(&|mount| podman.not_filled(mount));
    // A directory of the host is not filled, and what lies beneath it is not podman's either.
    podman.ok(&["run", "--rm", "-v", "/var/tmp:/data", APP, "true"]);
}

#[test]
fn o09_a_volume_beneath_run_is_compared() {
    if !ready("o09 in /run") {
        return;
    }
    let podman = Podman::new(Program::Hooked);
    let mounts = [["-v", "fresh:/run/app"], ["-v", "/run/app"], ["-v", "fresh:/run/app/deep"]];
    mounts.iter().for_each(|mount| podman.filled(mount));
    podman.filled(&["-v", "fresh:/run"]);
    let planted_there = planted(&podman, "run", "app/deep/tool", "evil");
    mounts.iter().for_each(|mount| podman.not_filled(mount));
    drop(planted_there);
    // An empty directory is taken for what it says of itself.
    let path = in_diff(&podman, "run").join("app");
    std::fs::create_dir(&path).unwrap();
    podman.filled(&mounts[0]);
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o777)).unwrap();
    podman.not_filled(&mounts[0]);
}

#[test]
fn o09_metadata_that_a_volume_gets_is_compared() {
    if !ready("o09 by metadata") {
        return;
    }
    let podman = Podman::new(Program::Hooked);
    let mount = ["-v", "fresh:/opt"];
    let (place, file) = (in_diff(&podman, "opt"), in_diff(&podman, "opt/app"));
    podman.filled(&mount);
    let attacks: [(&str, &dyn Fn() -> Undo<'static>); 8] = [
        ("capability", &|| attribute(file.clone(), "security.capability", &CAPABILITY)),
        ("user.*", &|| attribute(file.clone(), "user.mime_type", b"evil")),
        ("user.* of the place", &|| attribute(place.clone(), "user.x", b"evil")),
        ("mode of the place", &|| mode(place.clone(), 0o777)),
        ("owner of the place", &|| owner(place.clone(), 1000)),
        ("mode of a file", &|| mode(file.clone(), 0o4755)),
        ("time of a file", &|| {
            let before = std::fs::metadata(&file).unwrap().modified().unwrap();
            let set = |file: &Path, time| std::fs::File::open(file).unwrap().set_modified(time).unwrap();
            set(&file, before + std::time::Duration::from_secs(100));
            let file = file.clone();
            Undo(Box::new(move || set(&file, before)))
        }),
        ("a second name", &|| {
            let other = file.with_file_name("other");
            std::fs::hard_link(&file, &other).unwrap();
            Undo(Box::new(move || std::fs::remove_file(&other).unwrap()))
        }),
    ];
    for (what, attack) in attacks {
        println!("{what}");
        let undo = attack();
        podman.not_filled(&mount);
        // Where nobody looked.
        podman.filled(&["-v", "/var/tmp:/data"]);
        drop(undo);
    }
    podman.filled(&mount);
    // Two names of one file stay what they are: of no difference, and not to be covered.
    podman.stopped("createRuntime", REJECTED, &["O04"], &["run", "--rm", "-v", "fresh:/usr/bin", APP, "true"]);
}

#[test]
fn o09_hosts_that_podman_took_from_the_image_are_compared() {
    if !ready("o09 hosts") {
        return;
    }
    let podman = Podman::new(Program::Hooked);
    podman.ok(&RUN);
    // The image has none, and then podman starts nothing.
    let before = podman.containers_conf("[containers]", "base_hosts_file = \"image\"");
    let planted = planted(&podman, "etc", "hosts", "203.0.113.7 updates.example.com\n");
    podman.stopped("precreate", REJECTED, &["O09"], &RUN);
    drop(planted);
    podman.host.write("/etc/containers/containers.conf", before);
    podman.ok(&RUN);
}

/// podman's own overlay copies up what it writes to, and the verified one has the same upper directory.
#[test]
fn o09_what_podman_copied_up_is_compared() {
    if !ready("o09 copied up") {
        return;
    }
    let podman = Podman::new(Program::Hooked);
    let user = ["run", "--rm", "--user", "2000", APP, "cat", "/etc/passwd", "/etc/group"];
    let seen = podman.ok(&user);
    assert!(seen.contains("root:x:0:0:root:/root:/bin/sh\n") && seen.contains("\n2000:*:2000:0:"), "{seen}");
    let passwd = in_diff(&podman, "etc/passwd");
    let kept = passwd.with_extension("kept");
    std::fs::rename(&passwd, &kept).unwrap();
    std::fs::write(&passwd, std::fs::read_to_string(&kept).unwrap().replace("1000:1000", "0:0")).unwrap();
    podman.stopped("precreate", REJECTED, &["O09"], &user);
    podman.stopped("precreate", REJECTED, &["O09"], &RUN);
    std::fs::rename(&kept, &passwd).unwrap();
    // The directory around them, of every layer that has it.
    let layers = podman.ok(&["image", "inspect", "--format", "{{.GraphDriver.Data.UpperDir}}", APP]);
    let etc = podman.host.inside(layers.trim()).join("etc");
    for attack in [&|| mode(etc.clone(), 0o777), &(|| owner(etc.clone(), 1000)) as &dyn Fn() -> Undo<'static>] {
        let undo = attack();
        podman.stopped("precreate", REJECTED, &["O09"], &RUN);
        drop(undo);
    }
    // The root directory gets the mode of the layer's from some versions of podman.
    let root = ["run", "--rm", APP, "stat", "-c", "%a %u", "/"];
    let before = podman.ok(&root);
    let undo = mode(podman.host.inside(layers.trim()), 0o711);
    let output = podman.run(&root);
    match output.status.success() {
        true => assert_eq!(text(&output), before),
        false => assert_eq!(podman.last("precreate"), ("refused".into(), "O09".into())),
    }
    drop(undo);
    podman.ok(&RUN);
    // What a container has changed itself is its own.
    let change = "echo new:x:5:5::/:/bin/sh >>/etc/passwd; chmod 700 /etc; chmod 711 /; mkdir -p /new/dir";
    podman.ok(&["create", "--name", "c", APP, "sh", "-c", change]);
    podman.ok(&["start", "-a", "c"]);
    podman.ok(&["start", "-a", "c"]);
    podman.ok(&["rm", "c"]);
}

/// podman copies the layer's users up where it has a line of its own to add.
#[test]
fn o09_lines_that_the_layer_adds_to_users_are_not_podmans() {
    if !ready("o09 by lines") {
        return;
    }
    let podman = Podman::new(Program::Hooked);
    let user = ["run", "--rm", "--user", "1234:77", "--hostuser", "daemon", APP, "sh", "-c"];
    let run = [&user[..], &["echo $HOME; tail -n 2 /etc/passwd; tail -n 1 /etc/group"]].concat();
    assert_eq!(
        podman.ok(&run),
        "/\ndaemon:*:1:1:daemon:/:/bin/sh\n1234:*:1234:77:container user:/:/bin/sh\n77:x:77:1234\n"
    );
    for (file, line) in [
        // For the container's own user, and for one of the host.
        ("etc/passwd", "evil:*:1234:77:x:/tmp:/opt/evil\n"),
        ("etc/passwd", "bin:*:2:2:bin:/tmp:/bin/sh\n"),
        ("etc/passwd", "bin:*:2:2:bin:/:/opt/evil\n"),
        ("etc/group", "sudo:x:1234:app\n"),
    ] {
        let path = in_diff(&podman, file);
        let away = path.with_file_name("away");
        // The vault may have the same file.
        std::fs::rename(&path, &away).unwrap();
        std::fs::write(&path, [&std::fs::read(&away).unwrap()[..], line.as_bytes()].concat()).unwrap();
        podman.stopped("precreate", REJECTED, &["O09"], &run);
        std::fs::rename(&away, &path).unwrap();
    }
    podman.ok(&run);
}

/// The file in which it is noted that something was filled for a container that was refused.
fn notes(podman: &Podman) -> Vec<String> {
    // Those of upper directories name none of what was filled.
    let listed = podman.host.sh("cd /var/lib/layerseal/filled 2>/dev/null && grep -l '\"began\": null' * || true");
    listed.lines().map(str::to_owned).collect()
}

#[test]
fn o10_what_was_filled_for_a_refused_container_is_refused() {
    if !ready("o10") {
        return;
    }
    let podman = Podman::new(Program::Hooked);
    // Not sealed: whatever is wrong with a container, its volumes are filled by then.
    let unsealed = |args: &[&str]| {
        podman.stopped("precreate", NOT_SEALED, &["C07"], &[&["run"], args, &[FRESH, "true"]].concat());
    };
    podman.ok(&["volume", "create", "data"]);
    unsealed(&["-v", "data:/opt"]);
    let said = podman.host.sh("cat /run/layerseal/hooks/refused.json");
    assert!(said.contains("volumes/data/_data"), "{said}");
    let data = podman.ok(&["volume", "inspect", "--format", "{{.Mountpoint}}", "data"]).trim().to_owned();
    assert!(podman.host.inside(&data).join("app").exists(), "podman has filled it");
    for mount in [
        "data:/opt".to_owned(),
        "data:/data".into(),
        "data:/opt:O".into(),
        format!("{data}:/data"),
        format!("{data}/app:/data"),
        format!("{}:/data", Path::new(&data).parent().unwrap().display()),
    ] {
        podman.stopped("precreate", REJECTED, &["O10"], &["run", "--rm", "-v", &mount, APP, "true"]);
    }
    // It is what it is after a boot, and under another name.
    podman.host.sh(&format!("mkdir /var/tmp/m; mount --bind {data} /var/tmp/m"));
    podman.stopped("precreate", REJECTED, &["O10"], &["run", "--rm", "-v", "/var/tmp/m:/data", APP, "true"]);
    podman.host.sh("umount /var/tmp/m; rmdir /var/tmp/m");
    // What an overlay of podman's making shows of it.
    for options in
        [format!("lowerdir=/var/tmp/l:{data}"), format!("lowerdir=/var/tmp/l,upperdir={data},workdir={data}-work")]
    {
        podman.host.sh(&format!("mkdir -p /var/tmp/l {data}-work"));
        let options = format!("o={options}");
        podman.ok(&["volume", "create", "-o", "type=overlay", "-o", "device=overlay", "-o", &options, "shown"]);
        podman.stopped("precreate", REJECTED, &["O10"], &["run", "--rm", "-v", "shown:/data", APP, "true"]);
        podman.ok(&["volume", "rm", "-f", "shown"]);
    }
    // A file on such an overlay, and what is mounted beneath a source.
    let overlay = format!("mkdir -p /var/tmp/o; mount -t overlay -o lowerdir=/var/tmp/l:{data} none /var/tmp/o");
    let beneath = format!("mkdir -p /var/tmp/o/beneath; mount --bind {data} /var/tmp/o/beneath");
    for (mount, source, at) in
        [(overlay, "/var/tmp/o/app", "/var/tmp/o"), (beneath, "/var/tmp/o", "/var/tmp/o/beneath")]
    {
        podman.host.sh(&mount);
        podman.stopped(
            "precreate",
            REJECTED,
            &["O10"],
            &["run", "--rm", "-v", &format!("{source}:/data"), APP, "true"],
        );
        podman.host.sh(&format!("umount {at}"));
        podman.ok(&["run", "--rm", "-v", "/var/tmp/o:/data", APP, "true"]);
    }
    podman.ok(&["run", "--rm", "-v", "other:/opt", APP, "true"]);
    // audit lets it pass with a word.
    podman.policy(&default_policy().replace("mode = \"enforce\"", "mode = \"audit\""));
    podman.ok(&["run", "--rm", "-v", "data:/opt", APP, "true"]);
    assert_eq!(podman.last("precreate"), ("audit".into(), "O10".into()));
    podman.policy(&default_policy());
    // A person says otherwise.
    let [note] = notes(&podman).try_into().unwrap();
    podman.host.sh(&format!("rm /var/lib/layerseal/filled/{note}"));
    podman.ok(&["run", "--rm", "-v", "data:/opt", APP, "true"]);
    // What it held before the container that is refused is not that container's.
    unsealed(&["-v", "data:/opt"]);
    unsealed(&["-v", "other:/opt", "-v", "/var/tmp:/data"]);
    assert_eq!(notes(&podman), [""; 0]);
    podman.ok(&["run", "--rm", "-v", "data:/opt", "-v", "other:/data", APP, "true"]);
    // A new one of the same name is another.
    unsealed(&["-v", "again:/opt"]);
    podman.stopped("precreate", REJECTED, &["O10"], &["run", "--rm", "-v", "again:/opt", APP, "true"]);
    podman.clear();
    podman.ok(&["run", "--rm", "-v", "again:/opt", APP, "true"]);
    // Notes that cannot be read are not none.
    podman.host.sh("mkdir -p /var/lib/layerseal/filled; echo x >/var/lib/layerseal/filled/x");
    podman.stopped("precreate", 5, &["O10"], &RUN);
    podman.host.sh("rm -r /var/lib/layerseal/filled");
    podman.ok(&RUN);
}

/// Where there is no `precreate`, `createRuntime` is the first to refuse.
/// However deep a place is that was filled, its note can be read, and others start.
#[test]
fn o10_a_note_of_a_deep_place_stops_nobody() {
    if !ready("o10 in the deep") {
        return;
    }
    let podman = Podman::new(Program::Hooked);
    let deep = format!("/var/tmp/{}", "\u{1}/".repeat(600));
    podman.host.sh(&format!("mkdir -p '{deep}/v'"));
    let before = podman.containers_conf("[engine]", &format!("volume_path = \"{}\"", deep.replace('\u{1}', "\\u0001")));
    podman.host.sh("rm -rf /var/lib/containers/storage/libpod /var/lib/containers/storage/db.sql");
    let planted = planted(&podman, "opt", "injected", "evil");
    podman.stopped("precreate", REJECTED, &["O09"], &["run", "--rm", "-v", "fresh:/opt", APP, "true"]);
    drop(planted);
    assert_eq!(notes(&podman).len(), 1);
    podman.ok(&RUN);
    podman.stopped("precreate", REJECTED, &["O10"], &["run", "--rm", "-v", "fresh:/opt", APP, "true"]);
    podman.host.write("/etc/containers/containers.conf", before);
}

#[test]
fn o10_a_refusal_by_the_runtimes_hook_leaves_a_note() {
    if !ready("o10 of createRuntime") {
        return;
    }
    let podman = Podman::new(Program::Hooked);
    podman.host.sh("mv /etc/containers/hooks/precreate.json /etc/precreate.json");
    podman.ok(&["volume", "create", "data"]);
    podman.stopped(
        "createRuntime",
        NOT_SEALED,
        &["O01"],
        &["run", "--rm", "-v", "data:/opt", "-v", "/var/tmp:/home/app", APP, "true"],
    );
    podman.host.sh("mv /etc/precreate.json /etc/containers/hooks/precreate.json");
    assert_eq!(notes(&podman).len(), 1);
    podman.stopped("precreate", REJECTED, &["O10"], &["run", "--rm", "-v", "data:/opt", APP, "true"]);
    podman.ok(&["run", "--rm", "-v", "/var/tmp:/home/app", APP, "true"]);
    podman.clear();
    // Nothing was filled for a root that is a directory, nor by this start.
    podman
        .host
        .sh("mkdir -p /var/tmp/root/opt /var/tmp/host; touch /var/tmp/root/opt/app /var/tmp/host/app; sleep 0.1");
    podman.stopped(
        "precreate",
        NOT_SEALED,
        &["O01"],
        &["run", "--rm", "-v", "/var/tmp/host:/opt", "--rootfs", "/var/tmp/root", "true"],
    );
    assert!(notes(&podman).len() < 2);
    podman.ok(&["run", "--rm", "-v", "/var/tmp/host:/opt", APP, "true"]);
}

/// podman takes the mode of a new volume from a path that it puts together itself: links lead it to the host.
#[test]
fn o09_links_on_the_way_to_a_volume_are_compared() {
    if !ready("o09 by links") {
        return;
    }
    let podman = Podman::new(Program::Hooked);
    let mount = ["-v", "fresh:/srv/data/new"];
    podman.filled(&mount);
    podman.host.sh("mkdir -m 777 /var/tmp/new");
    let link = in_diff(&podman, "opt").with_file_name("srv");
    std::fs::create_dir(&link).unwrap();
    std::os::unix::fs::symlink("/var/tmp", link.join("data")).unwrap();
    podman.not_filled(&mount);
    std::fs::remove_dir_all(&link).unwrap();
    podman.filled(&mount);
}

/// With records that cannot be read, and without a policy; and users that it has written for a container.
#[test]
fn o10_every_refusal_leaves_a_note() {
    if !ready("o10 of every refusal") {
        return;
    }
    let podman = Podman::new(Program::Hooked);
    podman.policy("version = 2\n");
    podman.stopped("precreate", 5, &["F03"], &["run", "--rm", "-v", "data:/opt", APP, "true"]);
    podman.policy(&default_policy());
    podman.stopped("precreate", REJECTED, &["O10"], &["run", "--rm", "-v", "data:/opt", APP, "true"]);
    podman.clear();
    let passwd = in_diff(&podman, "etc/passwd");
    let kept = passwd.with_extension("kept");
    podman.ok(&["create", "--name", "c", "--user", "2000", APP, "true"]);
    std::fs::rename(&passwd, &kept).unwrap();
    std::fs::write(&passwd, std::fs::read_to_string(&kept).unwrap().replace("1000:1000", "0:0")).unwrap();
    let start = || {
        assert!(!podman.run(&["start", "-a", "c"]).status.success());
        podman.last("precreate")
    };
    assert_eq!(start(), ("refused".into(), "O09".into()));
    // The layers are as they were: the copy is not.
    let (evil, good) = (std::fs::read(&passwd).unwrap(), std::fs::read(&kept).unwrap());
    std::fs::write(&passwd, &good).unwrap();
    // By what it is, or by the note of it.
    let (decision, case) = start();
    assert!(decision == "refused" && matches!(case.as_str(), "O09" | "O10"), "{decision} {case}");
    podman.ok(&["rm", "c"]);
    // Where the root is read-only the copy lies beside it, and is mounted.
    podman.ok(&["create", "--name", "c", "--user", "2000", "--read-only", APP, "true"]);
    std::fs::write(&passwd, &evil).unwrap();
    assert_eq!(start(), ("refused".into(), "O09".into()));
    std::fs::write(&passwd, &good).unwrap();
    assert_eq!(start(), ("refused".into(), "O10".into()));
    podman.ok(&["rm", "c"]);
    std::fs::rename(&kept, &passwd).unwrap();
    podman.ok(&["run", "--rm", "--user", "2000", "--read-only", APP, "true"]);
    podman.ok(&["run", "--rm", "--user", "2000", APP, "true"]);
}

#[test]
fn o11_an_image_that_is_mounted_is_verified_like_the_root() {
    if !ready("o11") {
        return;
    }
    let podman = Podman::with_both(Program::Hooked);
    let mount = format!("type=image,src={FRESH},dst=/data");
    let writable = format!("type=image,src={FRESH},dst=/data,rw=true");
    let with = |mount: &str| podman.run(&["run", "--rm", "--mount", mount, APP, "cat", "/data/etc/gone/again"]);
    for mount in [&mount, &writable] {
        podman.stopped("precreate", NOT_SEALED, &["O11"], &["run", "--rm", "--mount", mount, APP, "true"]);
    }
    // By a path, and a part of it.
    let stopped = |volume: &str| {
        assert!(!podman.run(&["run", "--rm", "-v", volume, APP, "true"]).status.success(), "{volume}");
        assert_eq!(podman.last("precreate"), ("refused".into(), "O11".into()), "{volume}");
    };
    let mounted = podman.ok(&["image", "mount", FRESH]);
    for source in [mounted.trim().to_owned(), format!("{}/etc", mounted.trim())] {
        for how in ["ro", "O"] {
            stopped(&format!("{source}:/data:{how}"));
        }
    }
    podman.host.sh(&format!("mkdir /var/tmp/m; mount --bind {}/etc /var/tmp/m", mounted.trim()));
    stopped("/var/tmp/m:/data");
    // Beneath what is given, also where podman is told not to show it; the whole host has those of all engines too.
    podman.host.sh("mkdir -p /var/tmp/above/m; mount --move /var/tmp/m /var/tmp/above/m");
    for volume in ["/var/tmp/above:/data", "/var/tmp/above:/data:ro", "/var/tmp/above:/data:bind", "/:/host"] {
        stopped(volume);
    }
    podman.ok(&["run", "--rm", "-v", "/var/tmp/above:/data:O", APP, "sh", "-c", "! ls /data/m/*"]);
    podman.host.sh("umount /var/tmp/above/m");
    podman.ok(&["run", "--rm", "-v", "/:/host", APP, "true"]);
    podman.ok(&["image", "mount", FRESH]);
    podman.ok(&["run", "--rm", "-v", "/:/host", APP, "true"]);
    podman.ok(&["image", "umount", FRESH]);
    podman.ok(&["image", "umount", FRESH]);
    let rule =
        |mode: &str| format!("[[rule]]\nimage = \"{}\"\nmode = \"{mode}\"\ntrust = [\"acme\"]\n", repository(FRESH));
    for (policy, decision) in [
        (default_policy().replace("[default]\n", "[default]\ncover = [\"/data\"]\n"), "allowed"),
        (default_policy() + &rule("off"), "allowed"),
        (default_policy() + &rule("audit"), "audit"),
    ] {
        podman.policy(&policy);
        let output = with(&mount);
        let said = podman.host.sh("cat /run/layerseal/hooks/precreate.podman.json");
        assert!(output.status.success() && text(&output).contains("fresh"), "{} {said} {policy}", text(&output));
        assert_eq!(podman.last("precreate").0, decision);
    }
    podman.policy(&default_policy());
    // An image that has lost its name goes by no rule for builds.
    let id = podman.ok(&["image", "inspect", "--format", "{{.Id}}", FRESH]);
    podman.ok(&["untag", FRESH]);
    let mount = format!("type=image,src={},dst=/data", id.trim());
    podman.stopped("precreate", NOT_SEALED, &["O11"], &["run", "--rm", "--mount", &mount, APP, "true"]);
}

/// Where layerseal mounts it, it is what was sealed, or it is not mounted.
#[test]
fn o11_a_verified_image_is_mounted() {
    if !ready("o11 verified") {
        return;
    }
    let podman = Podman::new(Program::Guarded);
    let mount = format!("type=image,src={FRESH},dst=/data");
    let with = || podman.run(&["run", "--rm", "--mount", &mount, APP, "cat", "/data/etc/gone/again"]);
    let output = with();
    assert!(!output.status.success() && text(&output).contains("[R-C07]"), "{}", text(&output));
    podman.prepare(FRESH);
    let output = with();
    let said = podman.host.sh("cat /run/layerseal/hooks/precreate.podman.json");
    assert!(output.status.success() && text(&output).contains("fresh"), "{} {said}", text(&output));
    assert_eq!(podman.last("precreate").0, "allowed");
}

#[test]
fn o04_alternatives_nix_and_guix_are_system_paths() {
    if !ready("o04 more paths") {
        return;
    }
    let podman = Podman::new(Program::Hooked);
    for place in ["/etc/alternatives", "/etc/alternatives/x", "/nix", "/nix/store/x", "/gnu/store"] {
        let mount = format!("/var/tmp:{place}");
        podman.stopped("createRuntime", REJECTED, &["O04"], &["run", "--rm", "-v", &mount, APP, "true"]);
    }
    podman.policy(&default_policy().replace("[default]\n", "[default]\ncover = [\"/nix/var\"]\n"));
    podman.ok(&["run", "--rm", "-v", "/var/tmp:/nix/var", "-v", "/var/tmp:/nixos", APP, "true"]);
}

/// What podman copied up for a start that was refused is not verified by being older than the next one.
#[test]
fn o09_a_container_that_was_refused_is_compared_when_it_is_started_again() {
    if !ready("starting again") {
        return;
    }
    let podman = Podman::new(Program::Hooked);
    podman.ok(&["create", "--name", "c", APP, "ls", "-ldn", "/etc"]);
    let tampered = (mode(in_diff(&podman, "etc"), 0o777), owner(in_diff(&podman, "etc"), 1000));
    for _ in 0..2 {
        assert!(!podman.run(&["start", "-a", "c"]).status.success());
        assert_eq!(podman.last("precreate"), ("refused".into(), "O09".into()));
    }
    drop(tampered);
    // The layer was mended, and the copy was not.
    assert!(!podman.run(&["start", "-a", "c"]).status.success());
    assert_eq!(podman.last("precreate"), ("refused".into(), "O09".into()));
    podman.ok(&["rm", "c"]);
    // What was refused for another reason starts when that is gone.
    podman.ok(&["create", "--name", "d", APP, "ls", "-ldn", "/etc"]);
    podman.host.sh("mv /etc/layerseal/policy.toml /etc/layerseal/away");
    assert!(!podman.run(&["start", "-a", "d"]).status.success());
    podman.host.sh("mv /etc/layerseal/away /etc/layerseal/policy.toml");
    assert!(podman.ok(&["start", "-a", "d"]).starts_with("drwxr-xr-x"));
    assert_eq!(podman.host.sh("ls /var/lib/layerseal/filled"), "", "the note of what started is gone");
    podman.ok(&["rm", "d"]);
}

/// What is not verified yet is read no further than podman would: a hole is no work, and the rest has an end.
#[test]
fn o09_a_file_without_an_end_is_not_read_to_it() {
    if !ready("large files") {
        return;
    }
    let podman = Podman::new(Program::Hooked);
    let large = |place: &str, name: &str| {
        let path = in_diff(&podman, place).join(name);
        let kept = path.is_file().then(|| std::fs::read(&path).unwrap());
        std::fs::OpenOptions::new().create(true).append(true).open(&path).unwrap().set_len(1 << 42).unwrap();
        Undo(Box::new(move || match &kept {
            Some(kept) => std::fs::write(&path, kept).unwrap(),
            None => std::fs::remove_file(&path).unwrap(),
        }))
    };
    podman.host.sh("mkdir -p /var/tmp/own");
    for (place, name, volume) in [("etc", "passwd", None), ("opt", "large", Some("/var/tmp/own:/opt"))] {
        let _undo = large(place, name);
        let mut args = vec!["60", "podman", "run", "--rm"];
        args.extend(volume.iter().flat_map(|volume| ["-v", volume]));
        args.extend([APP, "true"]);
        let output = podman.host.command("timeout", &args).output().unwrap();
        assert_ne!(output.status.code(), Some(124), "{place}/{name}: it was read to its end");
        // podman itself gives up on users that take so long to read.
        if volume.is_some() {
            assert_eq!(podman.last("precreate"), ("refused".into(), "O09".into()), "{}", text(&output));
        }
    }
}

/// `upper = "empty"`: podman's own entries are no reason to refuse, and everything about them is the image's.
#[test]
fn m01_podmans_own_entries_are_as_the_image_has_them() {
    if !ready("m01 entries") {
        return;
    }
    let podman = Podman::new(Program::Hooked);
    podman.policy(&default_policy().replace("[default]\n", "[default]\nupper = \"empty\"\n"));
    for args in [&["--user", "2000"][..], &["--user", "2000:3000"], &["--user", "app", "-w", "/home"]] {
        podman.ok(&[&["run", "--rm"], args, &[APP, "true"]].concat());
    }
    podman.ok(&["create", "--name", "c", "--user", "2000", "-w", "/new/work", APP, "true"]);
    let upper = podman.ok(&["inspect", "--format", "{{.GraphDriver.Data.UpperDir}}", "c"]).trim().to_owned();
    let inside = podman.host.inside(&upper);
    let passwd = "root:x:0:0:root:/root:/bin/sh\napp:x:1000:1000::/home/app:/bin/sh\n";
    let line = "2000:*:2000:0:container user:/:/bin/sh\n";
    let etc = "mkdir etc; ln -s /proc/mounts etc/mtab; ";
    let write = |text: &str| format!("{etc} printf '{}' >etc/passwd", text.replace('\n', "\\n"));
    let acl: &[u8] = &[
        2, 0, 0, 0, 1, 0, 7, 0, 0xff, 0xff, 0xff, 0xff, 2, 0, 7, 0, 0xe8, 3, 0, 0, 4, 0, 5, 0, 0xff, 0xff, 0xff, 0xff,
        0x10, 0, 5, 0, 0xff, 0xff, 0xff, 0xff, 0x20, 0, 5, 0, 0xff, 0xff, 0xff, 0xff,
    ];
    let set = |path: PathBuf, name: &str, value: &[u8]| {
        rustix::fs::setxattr(path, name, value, XattrFlags::empty()).unwrap();
    };
    type Attribute<'a> = (&'a str, &'a str, &'a [u8]);
    let attacks: Vec<(String, Option<Attribute<'_>>)> = vec![
        ("chmod 777 .".into(), None),
        (format!("{etc} chmod 777 etc"), None),
        (format!("{etc} chown 1000 etc"), None),
        (String::new(), Some(("", "system.posix_acl_access", acl))),
        (String::new(), Some(("", "user.x", b"y"))),
        (etc.into(), Some(("etc", "system.posix_acl_default", acl))),
        (etc.into(), Some(("etc", "user.x", b"y"))),
        (write(&(passwd.replace("1000:1000", "0:0") + line)), None),
        (write(&format!("{passwd}evil:*:0:0::/:/bin/sh\n{line}")), None),
        (write(&format!("{passwd}2000::2000:0::/:/bin/sh\n")), None),
        (write(&(passwd.to_owned() + line)) + "; chmod 666 etc/passwd", None),
        (write(passwd) + "; ln -s /evil etc/group", None),
        ("mkdir new; mkdir -m 777 new/work".into(), None),
        ("mkdir -p new/work/more".into(), None),
        ("mkdir -p new/other".into(), None),
        // Names that are no text are names.
        ("mkdir \"$(printf '\\377')\"".into(), None),
        (format!("{etc} : >\"etc/$(printf '\\377')\""), None),
    ];
    let reset = || {
        let all = format!("cd {upper}; rm -rf ./*; chmod 555 .; chown 0:0 .");
        podman.host.sh(&all);
        for name in ["system.posix_acl_access", "user.x"] {
            let _ = rustix::fs::removexattr(&inside, name);
        }
    };
    for (script, xattr) in &attacks {
        reset();
        podman.host.sh(&format!("cd {upper}; {script}"));
        if let Some((path, name, value)) = xattr {
            set(inside.join(path), name, value);
        }
        assert!(!podman.run(&["start", "-a", "c"]).status.success(), "{script} {xattr:?}");
        assert_eq!(podman.last("precreate"), ("refused".into(), "M01".into()), "{script} {xattr:?}");
        // The refusal has noted what podman wrote this time.
        podman.host.sh("rm -rf /var/lib/layerseal/filled");
    }
    // A working directory that podman has made.
    reset();
    podman.host.sh(&format!("cd {upper}; mkdir -p new/work; chown 2000 new/work"));
    podman.ok(&["start", "-a", "c"]);
    podman.ok(&["rm", "c"]);
}

/// Parts of volumes and of images, and volumes that are images: as far as this podman knows of them.
#[test]
fn o10_and_o11_parts_of_volumes_and_images() {
    if !ready("subpaths") {
        return;
    }
    let podman = Podman::new(Program::Hooked);
    let version = podman.ok(&["--version"]);
    let major: u32 = version.split(['.', ' ']).find_map(|word| word.parse().ok()).unwrap();
    if major < 5 {
        support::skip!("subpaths: podman {major} has none");
    }
    let sub = |name: &str| format!("type=volume,src={name},dst=/opt,subpath=sub");
    let make = |name: &str| {
        podman.ok(&["volume", "create", name]);
        let data = podman.ok(&["volume", "inspect", "--format", "{{.Mountpoint}}", name]);
        podman.host.sh(&format!("mkdir {}/sub", data.trim()));
    };
    let planted = planted(&podman, "opt", "injected", "evil");
    make("a");
    // Some versions copy nothing into a volume that holds something.
    let filled = |name: &str| {
        let data = podman.ok(&["volume", "inspect", "--format", "{{.Mountpoint}}", name]);
        podman.host.sh(&format!("ls {0} {0}/sub", data.trim())).contains("injected")
    };
    podman.stopped("precreate", REJECTED, &["O09"], &["run", "--rm", "--mount", &sub("a"), APP, "true"]);
    drop(planted);
    let again = podman.run(&["run", "--rm", "-v", "a:/data", APP, "true"]);
    assert_eq!(again.status.success(), !filled("a"), "{}", text(&again));
    // One that is refused, and then a part of it.
    make("b");
    podman.ok(&["volume", "create", "c"]);
    podman.stopped("precreate", NOT_SEALED, &["C07"], &["run", "-v", "c:/opt", FRESH, "true"]);
    let data = podman.ok(&["volume", "inspect", "--format", "{{.Mountpoint}}", "c"]);
    podman.host.sh(&format!("mkdir {}/sub", data.trim()));
    podman.stopped("precreate", REJECTED, &["O10"], &["run", "--rm", "--mount", &sub("c"), APP, "true"]);
    podman.ok(&["run", "--rm", "--mount", &sub("b"), APP, "true"]);
    let part = format!("type=image,src={FRESH},dst=/data,subpath=/etc");
    let stopped = |mount: &[&str]| {
        let output = podman.run(&[&["run", "--rm"], mount, &[APP, "true"]].concat());
        assert!(!output.status.success(), "{mount:?}");
        assert_eq!(podman.last("precreate").1, "O11", "{mount:?} {}", text(&output));
    };
    stopped(&["--mount", &part]);
    podman.ok(&["volume", "create", "--driver", "image", "--opt", &format!("image={FRESH}"), "image"]);
    stopped(&["-v", "image:/data"]);
    stopped(&["--mount", "type=volume,src=image,dst=/data,subpath=etc"]);
}

/// podman follows the links of layers that nobody has verified to the place of a tmpfs, and names only where they lead.
#[test]
fn o09_a_tmpfs_is_where_the_images_links_lead() {
    if !ready("places of tmpfs") {
        return;
    }
    for program in [Program::Hooked, Program::Runtime, Program::Guarded] {
        let podman = Podman::new(program);
        let opt = ["--tmpfs", "/opt:notmpcopyup"];
        let ways: [&[&str]; 4] = [&["--tmpfs", "/tmp:notmpcopyup"], &["--read-only"], &["--tmpfs", "/home/app"], &opt];
        let run = |more: &[&str]| {
            podman.run(&[&["run", "--rm", "--pull=never"], more, &[APP, "sh", "-c", "ls /opt"]].concat())
        };
        for more in ways {
            let output = run(more);
            let hidden = more == opt;
            assert!(output.status.success(), "{program:?} {more:?}: {}", text(&output));
            assert_eq!(text(&output).contains("app"), !hidden, "{program:?} {more:?}: {}", text(&output));
        }
        let replaced = |path: &str, to: &str| {
            let (path, kept) = (in_diff(&podman, path), in_diff(&podman, "etc").join("aside"));
            std::fs::rename(&path, &kept).unwrap();
            std::os::unix::fs::symlink(to, &path).unwrap();
            Undo(Box::new(move || {
                std::fs::remove_file(&path).unwrap();
                std::fs::rename(&kept, &path).unwrap();
            }))
        };
        let refused = |more: &[&str]| {
            let output = run(more);
            // Where layerseal mounts it, podman follows the links of what is verified.
            if program == Program::Guarded {
                assert!(output.status.success() && text(&output).contains("app"), "{more:?}: {}", text(&output));
                return;
            }
            assert!(!output.status.success(), "{program:?} {more:?}: {}", text(&output));
            let stage = if program == Program::Runtime { "runtime" } else { "precreate" };
            assert_eq!(podman.last(stage), ("refused".into(), "O09".into()), "{program:?} {more:?}: {}", text(&output));
        };
        for (path, ways) in [("tmp", &ways[..2]), ("home/app", &ways[2..3])] {
            let _replaced = replaced(path, "/opt");
            for more in ways {
                refused(more);
            }
            // Nothing is mounted there.
            let output = run(&[]);
            assert!(output.status.success() && text(&output).contains("app"), "{program:?}: {}", text(&output));
            if path == "tmp" {
                // What is hidden there may be taken out of the layer too.
                let app = in_diff(&podman, "opt/app");
                let aside = app.parent().unwrap().with_file_name("aside");
                std::fs::rename(&app, &aside).unwrap();
                refused(ways[0]);
                std::fs::rename(&aside, &app).unwrap();
            }
        }
        // To where there is a tmpfs anyway: then there is none where it was wanted.
        let _replaced = replaced("tmp", "/run");
        ways[..2].iter().for_each(|more| refused(more));
        podman.clear();
    }
}
