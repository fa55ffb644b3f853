//! Containers as CRI-O starts them: containers-storage mounts the root with the mount program, the bundle lies
//! in the run root, and crun or runc is told of the hook by the configuration. CRI-O itself is not here.

use std::process::Output;

use serde_json::{Value, json};

use crate::common;
use crate::crio::{by_place, in_pod};
use crate::image::{APP, FRESH};
use crate::podman::{Podman, Program, default_policy};
use crate::ready;

/// A container of the store, mounted, and a bundle for it.
struct Bundle<'a> {
    podman: &'a Podman,
    runtime: &'static str,
    id: String,
    merged: String,
    config: Value,
}

/// As CRI-O writes it (internal/factory/container), with what matters here.
fn config(id: &str, merged: &str) -> Value {
    let hook: Value = serde_json::from_str(include_str!("../../hooks/crio/layerseal-createRuntime.json")).unwrap();
    let path = common::binary().display().to_string();
    let namespaces: Vec<Value> = ["pid", "ipc", "uts", "mount", "network"].map(|t| json!({"type": t})).into();
    json!({
        "ociVersion": "1.0.2",
        "process": {
            "user": {"uid": 0, "gid": 0}, "args": ["cat", "/etc/gone/again"], "cwd": "/",
            "env": ["PATH=/usr/sbin:/usr/bin:/sbin:/bin"], "noNewPrivileges": true,
        },
        "root": {"path": merged},
        "hostname": "pod",
        "mounts": [
            {"destination": "/proc", "type": "proc", "source": "proc", "options": ["nosuid", "noexec", "nodev"]},
            {"destination": "/dev", "type": "tmpfs", "source": "tmpfs", "options": ["nosuid", "mode=755"]},
            {"destination": "/etc/hostname", "type": "bind", "source": "/etc/hostname", "options": ["ro", "bind"]},
        ],
        "hooks": {"createRuntime": [{"path": path, "args": hook["hook"]["args"]}]},
        "annotations": {
            "io.container.manager": "cri-o",
            "io.kubernetes.cri-o.ContainerID": id,
            "io.kubernetes.cri-o.ContainerType": "container",
            "io.kubernetes.cri-o.Image": APP,
            "io.kubernetes.cri-o.ImageName": APP,
            "io.kubernetes.cri-o.MountPoint": merged,
        },
        "linux": {"namespaces": namespaces, "cgroupsPath": format!("/crio-{id}"), "resources": {}},
    })
}

impl<'a> Bundle<'a> {
    fn new(podman: &'a Podman, runtime: &'static str, image: &str) -> Self {
        let id = podman.ok(&["create", image, "sleep", "1000"]).trim().to_owned();
        let merged = podman.ok(&["mount", &id]).trim().to_owned();
        let config = config(&id, &merged);
        Self { podman, runtime, id, merged, config }
    }

    fn directory(&self) -> String {
        format!("/run/containers/storage/overlay-containers/{}/userdata", self.id)
    }

    /// Writes the bundle as it is, and runs it.
    fn run(&self) -> Output {
        let dir = self.directory();
        let host = &self.podman.host;
        host.write(&format!("{dir}/config.json"), self.config.to_string());
        host.sh("rm -rf /run/layerseal/hooks");
        let no_cgroup = if self.runtime == "crun" { &["--cgroup-manager=disabled"][..] } else { &[] };
        let args = [no_cgroup, &["run", "--bundle", &dir, &self.id]].concat();
        let output = host.command(self.runtime, &args).output().unwrap();
        let _ = host.command(self.runtime, &["delete", "-f", &self.id]).output();
        output
    }

    #[track_caller]
    fn starts(&self) {
        let output = self.run();
        let error = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{}: {error} {:?}", self.runtime, self.podman.last("createRuntime"));
        assert_eq!(String::from_utf8_lossy(&output.stdout), "app\n");
        assert_eq!(self.podman.last("createRuntime").0, "allowed");
    }

    /// It is refused for this case, and the runtime says what it can.
    #[track_caller]
    fn refused(&self, code: i32, case: &str) {
        let output = self.run();
        let error = String::from_utf8_lossy(&output.stderr);
        assert!(!output.status.success() && output.stdout.is_empty(), "{} started", self.runtime);
        assert_eq!(self.podman.last("createRuntime"), ("refused".into(), case.into()), "{error}");
        let shown = match self.runtime {
            "crun" => format!("exit code: {code}"),
            _ => format!("[R-{case}]"),
        };
        assert!(error.contains(&shown), "{}: {error}", self.runtime);
        println!("refused as it must be: {case}: {}", self.runtime);
    }

    fn remove(self) {
        self.podman.run(&["umount", "-f", &self.id]);
        self.podman.run(&["rm", "-f", "-t", "0", &self.id]);
        assert_eq!(self.podman.container_mounts(), [""; 0]);
    }
}

/// Lets a runtime run what only it is needed for; both are in every system that podman's tests are for.
fn with_runtimes(what: &str, test: impl Fn(&Podman, &'static str)) {
    if !ready(what) {
        return;
    }
    let podman = Podman::with_both(Program::Layerseal);
    for runtime in ["crun", "runc"] {
        if podman.host.command(runtime, &["--version"]).output().is_ok_and(|o| o.status.success()) {
            test(&podman, runtime);
        } else {
            support::skip!(part: "{what} with {runtime}: it is not installed");
        }
    }
}

#[test]
fn bundles_of_sealed_images_start() {
    with_runtimes("bundles", |podman, runtime| {
        let mut bundle = Bundle::new(podman, runtime, APP);
        bundle.starts();
        // Again: as a container that was restarted.
        bundle.starts();
        bundle.config["root"]["readonly"] = true.into();
        bundle.starts();
        // Other words for the same directory; runc 1.3 takes none.
        if runtime == "crun" {
            bundle.config["root"]["path"] = bundle.merged.replace("/merged", "//./merged/.").into();
            bundle.starts();
        }
        // What annotations say is no matter.
        bundle.config["annotations"] =
            json!({"io.kubernetes.cri-o.ImageName": "localhost/other", "io.kubernetes.cri-o.MountPoint": "/"});
        bundle.config["root"]["path"] = bundle.merged.clone().into();
        bundle.starts();
        bundle.remove();
    });
}

#[test]
fn o03_bundles_whose_root_was_changed_do_not_start() {
    with_runtimes("changed bundles", |podman, runtime| {
        let bundle = Bundle::new(podman, runtime, APP);
        let merged = bundle.merged.clone();
        let undo = format!("umount '{merged}'");
        // Mounted over.
        podman.host.sh(&format!("cp -a '{merged}' /var/tmp/copy; mount --bind /var/tmp/copy '{merged}'"));
        bundle.refused(3, "O01");
        podman.host.sh(&undo);
        // Bound from another sealed container.
        let other = Bundle::new(podman, runtime, FRESH);
        podman.host.sh(&format!("mount --bind '{}' '{merged}'", other.merged));
        bundle.refused(4, "O03");
        podman.host.sh(&undo);
        // A part of itself, and something in it.
        podman.host.sh(&format!("mount --bind '{merged}/usr' '{merged}'; mkdir -p '{merged}/proc' '{merged}/dev' '{merged}/etc'; touch '{merged}/etc/hostname'"));
        bundle.refused(4, "O03");
        podman.host.sh(&undo);
        podman.host.sh(&format!("mount -t tmpfs tmpfs '{merged}/opt'"));
        bundle.refused(4, "O03");
        podman.host.sh(&format!("umount '{merged}/opt'"));
        bundle.starts();
        // Mounted again, by whoever, without us; the annotations say what they said.
        podman.host.sh(&format!(
            "layer=${{0%/merged}}; umount '{merged}'; mount -t overlay -o \"lowerdir=/var/tmp/copy,upperdir=$layer/diff,workdir=$layer/work\" \
             composefs:x '{merged}'",
        ).replace("${0%/merged}", merged.trim_end_matches("/merged")));
        bundle.refused(3, "O01");
        podman.host.sh(&format!("umount '{merged}'; rm -r /var/tmp/copy"));
        // A container that no store knows, with another's root: its writable layer is for that one.
        let id = "0".repeat(64);
        let stranger = Bundle { podman, runtime, id, merged: other.merged.clone(), config: config("x", &other.merged) };
        stranger.refused(4, "O03");
        // The other container's bundle, with our root.
        let mut swapped = Bundle { config: bundle.config.clone(), ..Bundle::new(podman, runtime, APP) };
        swapped.config["root"]["path"] = other.merged.clone().into();
        swapped.refused(4, "O03");
        swapped.remove_only();
        other.remove_only();
        bundle.remove();
    });
}

impl Bundle<'_> {
    fn remove_only(self) {
        self.podman.run(&["umount", "-f", &self.id]);
        self.podman.run(&["rm", "-f", "-t", "0", &self.id]);
    }
}

#[test]
fn o04_bundles_with_mounts_over_system_paths_do_not_start() {
    with_runtimes("bundles with mounts", |podman, runtime| {
        let mut bundle = Bundle::new(podman, runtime, APP);
        let plain = bundle.config["mounts"].as_array().unwrap().clone();
        for (destination, refused) in
            [("/usr/share", true), ("/usr/bin/cat", true), ("/etc", true), ("/opt", false), ("/var/data", false)]
        {
            let source = if destination.ends_with("cat") { "/etc/hostname" } else { "/var/tmp" };
            let mut mounts = plain.clone();
            mounts.push(
                json!({"destination": destination, "type": "bind", "source": source, "options": ["rbind", "ro"]}),
            );
            // /etc holds the file of another mount.
            if destination == "/etc" {
                mounts.remove(2);
            }
            bundle.config["mounts"] = mounts.into();
            if refused {
                bundle.refused(4, "O04");
            } else {
                bundle.starts();
            }
        }
        bundle.remove();
    });
}

#[test]
fn bundles_without_a_store_start_from_what_was_mounted_by_hand() {
    with_runtimes("bundles without a store", |podman, runtime| {
        let host = &podman.host;
        let binary = common::binary().display().to_string();
        let sealed = crate::podman::sealed(APP);
        let verity = if crate::podman::has_verity() { "require" } else { "off" };
        host.sh("mkdir -p /var/tmp/m /var/tmp/b /var/tmp/u /var/tmp/w; cp -a /etc/layerseal/trust.d/acme/acme.crt /var/tmp/acme.crt");
        let layout = format!("oci:{}:{APP}", sealed.display());
        let args = [
            "mount",
            &layout,
            "/var/tmp/m",
            "--trust",
            "/var/tmp/acme.crt",
            "--verity",
            verity,
            "--upper",
            "/var/tmp/u",
            "--work",
            "/var/tmp/w",
        ];
        let output = host.command(&binary, &args).output().unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        let mut config = config("by-hand", "/var/tmp/m");
        let run = |config: &Value| {
            host.write("/var/tmp/b/config.json", config.to_string());
            host.sh("rm -rf /run/layerseal/hooks");
            let no_cgroup = if runtime == "crun" { &["--cgroup-manager=disabled"][..] } else { &[] };
            host.command(runtime, &[no_cgroup, &["run", "--bundle", "/var/tmp/b", "by-hand"]].concat())
                .output()
                .unwrap()
        };
        let output = run(&config);
        assert!(
            output.status.success(),
            "{runtime}: {} {:?}",
            String::from_utf8_lossy(&output.stderr),
            podman.last("createRuntime")
        );
        // A directory.
        host.sh("cp -a /var/tmp/m /var/tmp/copy");
        config["root"]["path"] = "/var/tmp/copy".into();
        assert!(!run(&config).status.success());
        assert_eq!(podman.last("createRuntime"), ("refused".into(), "O01".into()));
        // The mount, bound elsewhere.
        host.sh("mkdir -p /var/tmp/n; mount --bind /var/tmp/m /var/tmp/n");
        config["root"]["path"] = "/var/tmp/n".into();
        assert!(!run(&config).status.success());
        assert_eq!(podman.last("createRuntime"), ("refused".into(), "O03".into()));
        // Nobody asks for anything.
        podman.policy(&(default_policy() + "[[rule]]\nimage = \"*\"\nmode = \"off\"\n"));
        config["root"]["path"] = "/var/tmp/copy".into();
        let output = run(&config);
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        podman.policy(&default_policy());
        host.sh(&format!("umount /var/tmp/n; {binary} umount /var/tmp/m; rm -r /var/tmp/copy /var/tmp/m /var/tmp/n /var/tmp/b /var/tmp/u /var/tmp/w"));
    });
}

#[test]
fn o05_what_is_no_call_of_a_runtime_is_refused() {
    if !ready("o05") {
        return;
    }
    let podman = Podman::at(crate::scratch::fresh("o05"), Program::Layerseal);
    let binary = common::binary().display().to_string();
    for input in [
        "",
        "{}",
        "[]",
        "{\"id\":\"x\",\"pid\":1,\"bundle\":\"relative\"}",
        "{\"id\":\"x\",\"pid\":0,\"bundle\":\"/\"}",
    ] {
        for stage in ["createRuntime", "precreate"] {
            let output = podman.host.shell(&format!("printf %s '{input}' | {binary} hook {stage}"));
            assert_eq!(output.status.code(), Some(2), "{stage} {input}");
            assert!(output.stdout.is_empty() && String::from_utf8_lossy(&output.stderr).contains("[R-O05]"));
        }
    }
    // A process that is gone, a container that never was.
    for state in [
        "{\"id\":\"x\",\"pid\":4000000,\"bundle\":\"/run\",\"root\":\"/run\"}",
        "{\"id\":\"x\",\"pid\":1,\"bundle\":\"/run\"}",
    ] {
        let output = podman.host.shell(&format!("printf %s '{state}' | {binary} hook createRuntime"));
        assert_eq!(output.status.code(), Some(2), "{}", String::from_utf8_lossy(&output.stderr));
    }
    // Other stages are nobody's.
    let output = podman.host.shell(&format!("{binary} hook poststop </dev/null"));
    assert_eq!(output.status.code(), Some(2));
}

/// Of a container whose root is mounted, decided by the hook: see crio.rs for the runtime.
#[test]
fn f04_rules_of_namespaces_count_for_the_hook() {
    with_runtimes("rules of namespaces", |podman, runtime| {
        let sandbox = Bundle::new(podman, runtime, APP);
        let mut bundle = Bundle::new(podman, runtime, APP);
        let id = bundle.id.clone();
        let mut ends = |said: Option<&str>| {
            let annotations = bundle.config["annotations"].as_object_mut().unwrap();
            annotations.remove("io.kubernetes.pod.namespace");
            annotations.extend(said.map(|said| ("io.kubernetes.pod.namespace".to_owned(), said.into())));
            let output = bundle.run();
            let (decision, case) = podman.last("createRuntime");
            assert_eq!(output.status.success(), decision == "off", "{runtime} {decision} {case}");
            (decision, case)
        };
        let off = || ("off".to_owned(), String::new());
        let refused = || ("refused".to_owned(), "E07".to_owned());
        in_pod(podman, &id, &sandbox.id, "dev");
        by_place(podman, "enforce", "dev", "off");
        assert_eq!((ends(Some("dev")), ends(None), ends(Some("prod"))), (off(), off(), refused()));
        in_pod(podman, &id, &sandbox.id, "prod");
        assert_eq!((ends(Some("prod")), ends(None), ends(Some("dev"))), (refused(), refused(), refused()));
        by_place(podman, "off", "prod", "enforce");
        assert_eq!((ends(Some("prod")), ends(None), ends(Some("dev"))), (refused(), refused(), refused()));
        in_pod(podman, &id, &sandbox.id, "dev");
        assert_eq!((ends(Some("dev")), ends(Some("prod"))), (off(), refused()));
        podman.policy(&default_policy());
        podman.run(&["umount", "-f", &sandbox.id]);
        bundle.remove();
        sandbox.remove();
    });
}
