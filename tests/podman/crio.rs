//! Bundles as CRI-O 1.37 writes them, and layerseal as the runtime that conmon runs: native overlays, no hook and no mount
//! program. CRI-O itself is not here.

use std::process::Output;

use serde_json::{Value, json};

use crate::common;
use crate::image::{APP, FRESH};
use crate::podman::{Podman, Program, default_policy};
use crate::ready;

/// With each runtime that is here behind it.
fn with_layerseal_as_runtime(what: &str, test: impl Fn(&Podman, &'static str)) {
    if !ready(what) {
        return;
    }
    let podman = Podman::with_both(Program::Runtime);
    for runtime in ["crun", "runc"] {
        if podman.host.command(runtime, &["--version"]).output().is_ok_and(|o| o.status.success()) {
            podman.runtime(runtime);
            podman.noted();
            test(&podman, runtime);
        } else {
            support::skip!(part: "{what} with {runtime}: it is not installed");
        }
    }
}

/// A container of CRI-O 1.37 (callers: config.json 1.3.0), and its sandbox's directory.
struct CriO<'a> {
    podman: &'a Podman,
    runtime: &'static str,
    id: String,
    merged: String,
    config: Value,
}

impl<'a> CriO<'a> {
    fn new(podman: &'a Podman, runtime: &'static str, image: &str, sandbox: bool) -> Self {
        Self::created(podman, runtime, sandbox, &[image, "sleep", "1000"])
    }

    /// A container that podman makes by these arguments of `create`.
    fn created(podman: &'a Podman, runtime: &'static str, sandbox: bool, args: &[&str]) -> Self {
        let id = podman.ok(&[&["create"], args].concat()).trim().to_owned();
        let merged = podman.ok(&["mount", &id]).trim().to_owned();
        // CRI-O writes into the container's root as the host's root before the runtime runs.
        podman.host.sh(&format!("mkdir -p '{merged}/etc' '{merged}/proc'; ln -sfn /proc/mounts '{merged}/etc/mtab'"));
        let config = if sandbox { Self::sandbox(&id, &merged) } else { Self::container(&id, &merged) };
        Self { podman, runtime, id, merged, config }
    }

    fn common(id: &str, merged: &str, kind: &str) -> Value {
        let mount = |destination: &str, kind: &str, source: &str, options: &[&str]| json!({"destination": destination, "type": kind, "source": source, "options": options});
        json!({
            // What bookworm has knows no later one.
            "ociVersion": if Podman::version() < (5, 0) { "1.0.2" } else { "1.3.0" },
            "process": {
                "user": {"uid": 0, "gid": 0, "additionalGids": [0]}, "cwd": "/",
                "env": ["PATH=/usr/sbin:/usr/bin:/sbin:/bin", "HOSTNAME=pod", "PATH=/usr/sbin:/usr/bin:/sbin:/bin"],
            },
            "root": {"path": merged},
            "hostname": "pod",
            "mounts": [
                mount("/proc", "proc", "proc", &["nosuid", "noexec", "nodev"]),
                mount("/dev", "tmpfs", "tmpfs", &["nosuid", "strictatime", "mode=755", "size=65536k"]),
                mount("/dev/pts", "devpts", "devpts", &["nosuid", "noexec", "newinstance", "ptmxmode=0666", "mode=0620"]),
                mount("/etc/hostname", "bind", "/etc/hostname", &["ro", "bind", "nodev", "nosuid", "noexec"]),
            ],
            "annotations": {
                "io.container.manager": "cri-o",
                "io.kubernetes.cri-o.ContainerID": id,
                "io.kubernetes.cri-o.ContainerType": kind,
                "io.kubernetes.cri-o.MountPoint": merged,
                "io.kubernetes.cri-o.SandboxID": "1".repeat(64),
                "io.kubernetes.pod.namespace": "default",
            },
            "linux": {
                "namespaces": [{"type": "pid"}, {"type": "ipc", "path": "/var/run/ipcns/1"}, {"type": "uts", "path": "/var/run/utsns/1"}, {"type": "mount"}],
                "cgroupsPath": format!("/crio-{id}"),
                "resources": {"devices": [{"access": "rwm", "allow": false}]},
            },
        })
    }

    fn container(id: &str, merged: &str) -> Value {
        let mut config = Self::common(id, merged, "container");
        config["process"]["args"] = json!(["cat", "/etc/gone/again"]);
        config["process"]["oomScoreAdj"] = 1000.into();
        config["annotations"]["io.kubernetes.cri-o.ImageName"] = APP.into();
        config["annotations"]["io.kubernetes.cri-o.ImageRef"] = "0".repeat(64).into();
        config
    }

    fn sandbox(id: &str, merged: &str) -> Value {
        let mut config = Self::common(id, merged, "sandbox");
        config["process"]["args"] = json!(["cat", "/etc/gone/again"]);
        config["root"]["readonly"] = true.into();
        config["hooks"] = Value::Null;
        // Its process begins the namespaces that its containers share.
        config["linux"]["namespaces"] = json!([{"type": "pid"}, {"type": "mount"}, {"type": "ipc"}, {"type": "uts"}]);
        config
    }

    /// As conmon runs it: the bundle is in the run root, and the runtime gets three arguments before the verb.
    fn run(&self) -> Output {
        let dir = format!("/run/containers/storage/overlay-containers/{}/userdata", self.id);
        let host = &self.podman.host;
        host.write(&format!("{dir}/config.json"), self.config.to_string());
        // Namespaces by path, as CRI-O pins them.
        host.sh("mkdir -p /run/ipcns /run/utsns; [ -e /var/run ] || ln -s /run /var/run; for n in ipc uts; do grep -q /${n}ns/1 /proc/self/mountinfo || { touch /run/${n}ns/1; unshare --$n=/run/${n}ns/1 true; }; done");
        host.sh("rm -rf /run/layerseal/hooks");
        let no_cgroup = if self.runtime == "crun" { "--cgroup-manager=disabled" } else { "" };
        let call = format!("/var/tmp/layerseal-runtime --root=/run/runtime {no_cgroup}");
        let create = format!("{call} create --bundle {dir} --pid-file {dir}/pidfile {0} && {call} start {0}", self.id);
        let output = host.shell(&create);
        host.shell(&format!("{call} delete --force {}", self.id));
        output
    }

    #[track_caller]
    fn starts(&self) -> String {
        let output = self.run();
        let error = String::from_utf8_lossy(&output.stderr);
        let last = |stage| self.podman.last(stage);
        assert!(output.status.success(), "{}: {error} {:?} {:?}", self.runtime, last("runtime"), last("createRuntime"));
        assert_eq!([last("runtime").0, last("createRuntime").0], ["allowed", "allowed"]);
        String::from_utf8_lossy(&output.stdout).into_owned()
    }

    #[track_caller]
    fn refused(&self, cases: &[&str]) {
        let output = self.run();
        let error = String::from_utf8_lossy(&output.stderr);
        assert!(!output.status.success() && output.stdout.is_empty(), "{} started", self.runtime);
        let (decision, case) = self.podman.last("runtime");
        assert!(decision == "refused" && cases.contains(&case.as_str()), "{case} {error}");
        assert!(error.starts_with("layerseal: ") && error.trim_end().ends_with(&format!("[R-{case}]")), "{error}");
        println!("refused as it must be: {}: {error}", self.runtime);
    }

    /// What becomes of it: off and started, or refused for a case.
    #[track_caller]
    fn ends(&self) -> (String, String) {
        let output = self.run();
        let ended = self.podman.last("runtime");
        assert_eq!(output.status.success(), ended.0 == "off", "{} {ended:?}", self.runtime);
        ended
    }

    fn remove(self) {
        self.podman.run(&["umount", "-f", &self.id]);
        self.podman.run(&["rm", "-f", "-t", "0", &self.id]);
    }
}

/// Changes the record that the store has of a container: what is in its metadata.
pub fn record(podman: &Podman, id: &str, change: impl FnOnce(&mut Value)) {
    let file = podman.graph_root().join("overlay-containers/containers.json");
    let mut all: Value = serde_json::from_slice(&std::fs::read(&file).unwrap()).unwrap();
    let own = all.as_array_mut().unwrap().iter_mut().find(|c| c["id"] == id).unwrap();
    let mut metadata: Value = serde_json::from_str(own["metadata"].as_str().unwrap()).unwrap();
    change(&mut metadata);
    own["metadata"] = metadata.to_string().into();
    std::fs::write(&file, all.to_string()).unwrap();
}

/// Has the store say of a container and of a sandbox what CRI-O writes (internal/storage/runtime.go).
pub fn in_pod(podman: &Podman, id: &str, sandbox: &str, namespace: &str) {
    let pod = format!("k8s_pod_{namespace}_1_0");
    record(podman, id, |container| {
        container["pod-name"] = pod.as_str().into();
        container["pod-id"] = sandbox.into();
        container["metadata-name"] = "app".into();
    });
    record(podman, sandbox, |container| {
        container["pod-name"] = pod.as_str().into();
        container["pod-id"] = sandbox.into();
        container["metadata-name"] = "pod".into();
        container["uid"] = "1".into();
        container["namespace"] = namespace.into();
        container["pod"] = true.into();
    });
}

/// A policy whose signers have signed nothing of what is here, and one more rule for all images of a namespace.
pub fn by_place(podman: &Podman, default: &str, namespace: &str, mode: &str) {
    let verity = if crate::podman::has_verity() { "require" } else { "off" };
    podman.host.write("/etc/layerseal/trust.d/other/other.crt", common::stranger().cert.to_pem().unwrap());
    podman.policy(&format!(
        "version = 1\n[default]\nmode = \"{default}\"\ntrust = [\"other\"]\nverity = \"{verity}\"\n\
         [[rule]]\nimage = \"*\"\nnamespace = \"{namespace}\"\nmode = \"{mode}\"\n"
    ));
}

#[test]
fn f04_a_rule_of_a_namespace_counts_by_cri_os_records_alone() {
    with_layerseal_as_runtime("rules of namespaces", |podman, runtime| {
        let sandbox = CriO::new(podman, runtime, APP, true);
        let mut bundle = CriO::new(podman, runtime, APP, false);
        let says = |bundle: &mut CriO<'_>, namespace: &str| {
            bundle.config["annotations"]["io.kubernetes.pod.namespace"] = namespace.into();
        };
        let off = || ("off".to_owned(), String::new());
        let refused = || ("refused".to_owned(), "E07".to_owned());
        in_pod(podman, &bundle.id, &sandbox.id, "dev");
        says(&mut bundle, "dev");
        by_place(podman, "enforce", "dev", "off");
        assert_eq!(bundle.ends(), off());
        by_place(podman, "off", "prod", "enforce");
        assert_eq!(bundle.ends(), off());
        // The same of the sandbox itself, which CRI-O runs where it shares its PID namespace.
        let mut sandbox = sandbox;
        says(&mut sandbox, "dev");
        assert_eq!(sandbox.ends(), off());
        in_pod(podman, &bundle.id, &sandbox.id, "prod");
        says(&mut bundle, "prod");
        says(&mut sandbox, "prod");
        assert_eq!((bundle.ends(), sandbox.ends()), (refused(), refused()));
        by_place(podman, "enforce", "dev", "off");
        assert_eq!((bundle.ends(), sandbox.ends()), (refused(), refused()));
        // A pod says what it likes: nothing is loosened by it, and where nobody can tell the strictest counts.
        for (key, value) in [
            ("io.kubernetes.pod.namespace", "dev"),
            ("io.kubernetes.cri-o.Namespace", "dev"),
            ("io.kubernetes.cri-o.Labels", r#"{"io.kubernetes.pod.namespace":"dev"}"#),
            ("io.kubernetes.cri-o.SandboxID", "2"),
            ("io.kubernetes.cri-o.SandboxName", "k8s_pod_dev_1_0"),
            ("io.container.manager", "libpod"),
        ] {
            bundle.config["annotations"][key] = value.into();
            for (default, namespace, mode) in [("enforce", "dev", "off"), ("off", "prod", "enforce")] {
                by_place(podman, default, namespace, mode);
                assert_eq!(bundle.ends(), refused(), "{key} with {mode} for {namespace}");
            }
        }
        // Records that contradict what is said, or each other.
        in_pod(podman, &bundle.id, &sandbox.id, "dev");
        bundle.config["annotations"] = json!({"io.container.manager": "cri-o"});
        by_place(podman, "enforce", "dev", "off");
        assert_eq!(bundle.ends(), off(), "nothing is said besides");
        for said in [json!("stage"), json!(""), json!(["dev"])] {
            bundle.config["annotations"]["io.kubernetes.pod.namespace"] = said.clone();
            assert_eq!(bundle.ends(), refused(), "{said}");
        }
        says(&mut bundle, "dev");
        record(podman, &sandbox.id, |metadata| metadata["pod"] = false.into());
        assert_eq!(bundle.ends(), refused());
        by_place(podman, "off", "prod", "enforce");
        assert_eq!(bundle.ends(), refused());
        // What CRI-O has no record of, and podman's own.
        record(podman, &bundle.id, |metadata| {
            for key in ["pod-id", "pod-name"] {
                metadata.as_object_mut().unwrap().remove(key);
            }
        });
        assert_eq!(bundle.ends(), refused());
        says(&mut bundle, "prod");
        bundle.config["annotations"]["io.container.manager"] = "libpod".into();
        assert_eq!(bundle.ends(), off());
        by_place(podman, "enforce", "prod", "off");
        assert_eq!(bundle.ends(), refused());
        podman.policy(&default_policy());
        bundle.remove();
        sandbox.remove();
        assert_eq!(podman.container_mounts(), [""; 0]);
    });
}

/// The hook alone refuses whatever CRI-O mounts by itself.
#[test]
fn x16_doctor_says_what_cri_o_is_configured_to_do() {
    if !ready("doctor: the hook without the handler") {
        return;
    }
    let podman = Podman::at(crate::scratch::fresh("host"), Program::Native);
    let state = |name: &str| {
        let output = podman.host.command(common::binary().to_str().unwrap(), &["doctor", "--json"]).output().unwrap();
        let report: Value = serde_json::from_slice(&output.stdout).unwrap();
        let checks = report["checks"].as_array().unwrap();
        let found = checks.iter().find(|c| c["check"] == name).unwrap_or_else(|| panic!("{checks:?}"));
        (found["state"].as_str().unwrap().to_owned(), found["found"].as_str().unwrap().to_owned())
    };
    podman.host.write("/etc/crio/crio.conf", "[crio.runtime]\ndefault_runtime = \"crun\"\n");
    assert_eq!(state("CRI-O's runtime"), ("optional".into(), "crun, which is not layerseal".into()));
    let binary = common::binary().display().to_string();
    let hook = include_str!("../../hooks/crio/layerseal-createRuntime.json").replace("/usr/bin/layerseal", &binary);
    podman.host.write("/etc/crio/hooks/layerseal.json", hook);
    podman.host.write("/etc/crio/crio.conf.d/50.conf", "[crio.runtime]\nhooks_dir = [\"/etc/crio/hooks\"]\n");
    let (missing, said) = state("CRI-O's runtime");
    assert!(missing == "missing" && said.contains("refuses sealed images too"), "{said}");
    let handler = include_str!("../../contrib/crio/10-layerseal-runtime.conf");
    podman.host.write("/etc/crio/crio.conf.d/10.conf", handler);
    assert_eq!(state("CRI-O's runtime").0, "ok");
    // The image's own config chooses among these, before anybody has verified it.
    let platforms = "platform_runtime_paths = { \"wasi/wasm32\" = \"/usr/bin/crun-wasm\" }\n";
    podman.host.write("/etc/crio/crio.conf.d/10.conf", format!("{handler}{platforms}"));
    let (optional, said) = state("CRI-O's runtime");
    assert!(
        optional == "optional" && said.ends_with("layerseal for images of wasi/wasm32 (/usr/bin/crun-wasm)"),
        "{said}"
    );
    podman.host.write("/etc/crio/crio.conf.d/10.conf", handler);
    assert_eq!(state("CRI-O's runtime").0, "ok");
    // What layerseal's own verbs look at is not what CRI-O has.
    podman.host.write("/etc/crio/crio.conf.d/20.conf", "[crio]\nroot = \"/data/graph\"\n");
    let (missing, said) = state("CRI-O's store");
    assert!(missing == "missing" && said.starts_with("root /data/graph, not /"), "{said}");
    let layerseal = |args: &[&str]| {
        let output = podman.host.command(common::binary().to_str().unwrap(), args).output().unwrap();
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        (output.status.code().unwrap(), text(&output.stdout), text(&output.stderr))
    };
    for all in [&["check"][..], &["check", "--containers"], &["prepare", "--all"], &["fetch", "--all"]] {
        let said = layerseal(all).2;
        assert!(said.contains("CRI-O's store is not looked at: root /data/graph, not /"), "{all:?}: {said}");
    }
    podman.policy(&default_policy().replace("enforce", "audit"));
    let refused = layerseal(&["enforce"]);
    assert!(refused.0 == 6 && refused.2.contains("CRI-O's store: ") && refused.2.ends_with("[R-X16]\n"), "{refused:?}");
    let forced = layerseal(&["enforce", "--force"]);
    assert!(forced.0 == 0 && forced.1.contains("mode = \"enforce\""), "{forced:?}");
    podman.host.write("/etc/crio/crio.conf.d/20.conf", "[crio]\nroot = \"\"\n");
    // After an unclean end CRI-O mounts every layer, and removes the store for what cannot be mounted.
    let program = "[crio]\nstorage_option = [\"overlay.mount_program=/usr/bin/layerseal\"]\n";
    podman.host.write("/etc/crio/crio.conf.d/60.conf", program);
    let (missing, said) = state("CRI-O's mount_program");
    assert!(missing == "missing" && said.contains("the whole graph root"), "{said}");
    podman.policy(&(default_policy() + "[mount]\ntop = \"fuse-overlayfs\"\n"));
    let (optional, said) = state("CRI-O's mount_program");
    assert!(optional == "optional" && said.contains("images that are refused"), "{said}");
    podman.host.write("/etc/crio/crio.conf.d/70.conf", "[crio]\ninternal_repair = false\n");
    assert_eq!(state("CRI-O's mount_program"), ("ok".into(), "/usr/bin/layerseal".into()));
}

#[test]
fn containers_and_sandboxes_of_cri_o_start_with_layerseal_as_runtime() {
    with_layerseal_as_runtime("CRI-O's bundles", |podman, runtime| {
        for sandbox in [false, true] {
            let bundle = CriO::new(podman, runtime, APP, sandbox);
            assert_eq!(bundle.starts(), "app\n");
            // As a container that was restarted, and one that the store mounted anew.
            assert_eq!(bundle.starts(), "app\n");
            podman.ok(&["umount", "-f", &bundle.id]);
            podman.ok(&["mount", &bundle.id]);
            assert_eq!(bundle.starts(), "app\n");
            let mut bundle = bundle;
            let look = "grep ' / / ' /proc/self/mountinfo | cut -d ' ' -f 6";
            bundle.config["process"]["args"] = json!(["sh", "-c", look]);
            for readonly in [false, true] {
                bundle.config["root"]["readonly"] = readonly.into();
                let flags = bundle.starts();
                let has = |flag: &str| flags.trim().split(',').any(|f| f == flag);
                assert!(has("nodev") && has("ro") == readonly, "{runtime}: {flags}");
            }
            bundle.remove();
            let bundle = CriO::new(podman, runtime, FRESH, sandbox);
            podman.policy(
                &(default_policy() + "[[rule]]\nimage = \"registry.example.com/acme/fresh\"\ntrust = [\"other\"]\n"),
            );
            podman.host.write("/etc/layerseal/trust.d/other/other.crt", common::stranger().cert.to_pem().unwrap());
            bundle.refused(&["E07"]);
            podman.policy(&default_policy());
            bundle.remove();
        }
        assert_eq!(podman.container_mounts(), [""; 0]);
    });
}

/// Nobody says which process is the container's first.
#[test]
fn o05_a_container_that_cannot_be_looked_at_starts_under_audit_alone() {
    with_layerseal_as_runtime("containers that cannot be looked at", |podman, runtime| {
        let bundle = CriO::new(podman, runtime, APP, false);
        let hides = format!(
            "#!/bin/sh\n{runtime} \"$@\" || exit\nrm -f /run/containers/storage/overlay-containers/*/userdata/pidfile\n"
        );
        podman.host.write("/etc/layerseal/hides", hides);
        podman.host.sh("chmod 755 /etc/layerseal/hides");
        podman.host.write("/etc/layerseal/runtime.toml", "path = \"/etc/layerseal/hides\"\n");
        podman.noted();
        let output = bundle.run();
        let error = String::from_utf8_lossy(&output.stderr);
        assert!(!output.status.success() && output.stdout.is_empty() && error.contains("[R-O05]"), "{error}");
        assert_eq!([podman.last("runtime").0, podman.last("createRuntime").1], ["allowed", "O05"]);
        podman.policy(&default_policy().replace("enforce", "audit"));
        let output = bundle.run();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        assert_eq!(podman.last("createRuntime"), ("audit".into(), "O05".into()));
        podman.policy(&default_policy());
        bundle.remove();
    });
}

/// crun shows of a hook's refusal an exit code: what the configuration tells is said before.
#[test]
fn o04_a_pod_that_mounts_over_a_system_path_is_told_which() {
    with_layerseal_as_runtime("mounts of pods over system paths", |podman, runtime| {
        let mut bundle = CriO::new(podman, runtime, APP, false);
        let mounts = bundle.config["mounts"].as_array().unwrap().clone();
        let mount = |destination: &str| json!({"destination": destination, "type": "bind", "source": "/var/tmp/pod", "options": ["rw", "rbind", "rprivate", "bind"]});
        let with = |places: &[&str]| mounts.iter().cloned().chain(places.iter().map(|p| mount(p))).collect::<Value>();
        podman.host.sh("mkdir -p /var/tmp/pod");
        for place in ["/usr/share/nginx/html", "/bin", "/nix/store"] {
            bundle.config["mounts"] = with(&["/data", place]);
            bundle.refused(&["O04"]);
            // No verified mount stays; an engine mounts its own for the next one.
            assert_eq!(podman.container_mounts(), [""; 0]);
            podman.ok(&["umount", "-f", &bundle.id]);
            podman.ok(&["mount", &bundle.id]);
        }
        podman.policy(&default_policy().replace("[default]\n", "[default]\ncover = [\"/usr/share/nginx\"]\n"));
        bundle.config["mounts"] = with(&["/data", "/usr/share/nginx/html"]);
        assert_eq!(bundle.starts(), "app\n", "it was refused before for that alone");
        podman.policy(&default_policy().replace("enforce", "audit"));
        bundle.config["mounts"] = with(&["/usr/share/nginx/html"]);
        assert!(bundle.run().status.success());
        assert_eq!([podman.last("runtime").0, podman.last("createRuntime").0], ["allowed", "audit"]);
        podman.policy(&default_policy());
        bundle.remove();
    });
}

/// CRI-O makes what an image's volumes are mounted on, and the working directory, by IDs that it does not map
/// (cri-o, `addImageVolumes` and `setupWorkingDirectory`).
#[test]
fn o09_directories_that_cri_o_makes_for_volumes_of_the_image_are_its_own() {
    with_layerseal_as_runtime("volumes of images", |podman, runtime| {
        let merged = |bundle: &CriO<'_>, script: &str| podman.host.sh(&format!("cd '{}'; {script}", bundle.merged));
        let made = "mkdir -p new/volume usr/share/volume opt/work; chown -R 33:33 new usr/share/volume";
        let mapped = ["--uidmap", "0:200000:65536", "--gidmap", "0:200000:65536", APP, "sleep", "1000"];
        for args in [&mapped[4..], &mapped] {
            let mut bundle = CriO::created(podman, runtime, false, args);
            bundle.config["process"]["user"] = json!({"uid": 33, "gid": 33, "additionalGids": [33]});
            bundle.config["process"]["cwd"] = "/opt/work".into();
            if args.len() > 3 {
                let map = json!([{"containerID": 0, "hostID": 200_000, "size": 65536}]);
                bundle.config["linux"]["uidMappings"] = map.clone();
                bundle.config["linux"]["gidMappings"] = map;
                bundle.config["linux"]["namespaces"].as_array_mut().unwrap().push(json!({"type": "user"}));
            }
            merged(&bundle, made);
            // Without CRI-O's own namespaces crun does not get as far with other users.
            let error = String::from_utf8_lossy(&bundle.run().stderr).into_owned();
            assert_eq!(podman.last("runtime"), ("allowed".into(), String::new()), "{error}");
            assert!(args.len() > 3 || error.is_empty(), "{error}");
            bundle.remove();
        }
        // What it would not have made.
        for change in [
            "chmod 777 new/volume",
            "chown 34:33 new",
            "echo x >new/volume/file; chown 33:33 new/volume/file",
            "ln -s /usr/bin new/volume/link",
            "chmod 700 usr/share",
        ] {
            let mut bundle = CriO::new(podman, runtime, APP, false);
            bundle.config["process"]["user"] = json!({"uid": 33, "gid": 33});
            merged(&bundle, &format!("{made}; {change}"));
            bundle.refused(&["O09"]);
            bundle.remove();
        }
        // podman makes no such directory.
        let mut bundle = CriO::new(podman, runtime, APP, false);
        merged(&bundle, "mkdir new");
        bundle.config["annotations"]["io.container.manager"] = "libpod".into();
        bundle.refused(&["O09"]);
        bundle.remove();
    });
}

#[test]
fn o03_roots_that_were_changed_do_not_start_with_layerseal_as_runtime() {
    with_layerseal_as_runtime("changed roots", |podman, runtime| {
        let bundle = CriO::new(podman, runtime, APP, false);
        let merged = bundle.merged.clone();
        let other = CriO::new(podman, runtime, FRESH, false);
        assert_eq!(other.starts(), "fresh\n");
        let bind = format!("mount --bind '{}' '{merged}'", other.merged);
        let tmpfs = format!("mount -t tmpfs tmpfs '{merged}'; mkdir -p '{merged}/etc' '{merged}/proc' '{merged}/dev'");
        let within = format!("mount -t tmpfs tmpfs '{merged}/opt'");
        let part = format!("mount --bind '{merged}/usr' '{merged}'");
        for (what, target, cases) in [
            (bind, merged.clone(), &["O03"][..]),
            (tmpfs, merged.clone(), &["O06"]),
            (within, format!("{merged}/opt"), &["O06"]),
            (part, merged.clone(), &["O06", "O03"]),
        ] {
            podman.host.sh(&what);
            bundle.refused(cases);
            podman.host.sh(&format!("umount '{target}'"));
        }
        // Another container's root, and none at all.
        let mut stranger =
            CriO { config: bundle.config.clone(), merged: other.merged.clone(), id: bundle.id.clone(), ..bundle };
        stranger.config["root"]["path"] = other.merged.clone().into();
        stranger.refused(&["O03"]);
        stranger.config["root"]["path"] = "/usr".into();
        stranger.refused(&["O01"]);
        // As buildah does it: bound into a bundle that is in no store. Verified where it is, it is.
        let bound = |stranger: &mut CriO<'_>, from: &str| {
            let place = "/var/tmp/build/mnt/rootfs";
            podman.host.sh(&format!("mkdir -p {place}; mount --bind '{from}' {place}"));
            stranger.config["root"]["path"] = place.into();
            podman.host.write("/var/tmp/build/config.json", stranger.config.to_string());
            let no_cgroup = if runtime == "crun" { &["--cgroup-manager=disabled"][..] } else { &[] };
            let args = [&["--root=/run/runtime"], no_cgroup, &["run", "--bundle", "/var/tmp/build", "build"]].concat();
            let output = podman.host.command("/var/tmp/layerseal-runtime", &args).output().unwrap();
            podman.host.sh(&format!("umount {place}"));
            (output.status.success(), String::from_utf8_lossy(&output.stderr).into_owned())
        };
        let (started, error) = bound(&mut stranger, &other.merged);
        assert!(started, "{error}");
        let (started, error) = bound(&mut stranger, &merged);
        assert!(!started && error.contains("[R-O01]"), "{error}");
        stranger.config["root"]["path"] = "relative".into();
        stranger.refused(&["O05", "O01"]);
        stranger.config["root"] = Value::Null;
        stranger.refused(&["O05"]);
        stranger.remove();
        other.remove();
    });
}

/// The kubelet resolves the name that a pod gives to an ID, and asks CRI-O for that: the container's record names none.
#[test]
fn d18_b14_a_pod_gets_what_is_sealed_for_each_name_of_its_image() {
    with_layerseal_as_runtime("names of pods", |podman, runtime| {
        let victim = &format!("registry.example.com/acme/victim-{runtime}:1");
        let image = podman.ok(&["image", "inspect", "--format", "{{.Id}}", FRESH]).trim().to_owned();
        let sandbox = CriO::new(podman, runtime, APP, true);
        // As the kubelet asks for it, or crictl.
        let pod = |asked: &str| {
            let bundle = CriO::new(podman, runtime, &image, false);
            in_pod(podman, &bundle.id, &sandbox.id, "default");
            record(podman, &bundle.id, |metadata| metadata["image-name"] = asked.into());
            bundle
        };
        let starts = |asked: &str| {
            let bundle = pod(asked);
            assert_eq!(bundle.starts(), "fresh\n", "{asked}");
            bundle.remove();
        };
        let refused = |asked: &str, case: &str| {
            let bundle = pod(asked);
            bundle.refused(&[case]);
            bundle.remove();
        };
        starts(&image);
        // Another tag of a name that is sealed, and its digest.
        podman.ok(&["tag", FRESH, "registry.example.com/acme/fresh:2"]);
        starts(&image);
        // What a registry answers for one tag is another image, which the node has too: the store adds the name.
        podman.ok(&["tag", FRESH, victim]);
        refused(&image, "D18");
        refused(victim, "D18");
        starts(FRESH);
        // podman's own container: whoever gives the ID means the image.
        let mut own = CriO::new(podman, runtime, &image, false);
        record(podman, &own.id, |metadata| metadata["image-name"] = image.as_str().into());
        own.config["annotations"]["io.container.manager"] = "libpod".into();
        assert_eq!(own.starts(), "fresh\n");
        own.remove();
        // A pod that pins a digest: whoever has the disk gives this name to another image.
        podman.ok(&["untag", FRESH, victim]);
        let pinned = format!("registry.example.com/acme/fresh@sha256:{}", "a".repeat(64));
        let file = podman.graph_root().join("overlay-images/images.json");
        let before = std::fs::read_to_string(&file).unwrap();
        let mut all: Value = serde_json::from_str(&before).unwrap();
        let own = all.as_array_mut().unwrap().iter_mut().find(|i| i["id"] == image.as_str()).unwrap();
        own["names"].as_array_mut().unwrap().insert(0, pinned.as_str().into());
        std::fs::write(&file, all.to_string()).unwrap();
        refused(&image, "B14");
        std::fs::write(&file, before).unwrap();
        starts(&image);
        // Sealed for the other name too.
        podman.ok(&["tag", FRESH, victim]);
        let (layout, bench) = (crate::podman::signed(FRESH, common::signer()), common::Bench::new());
        bench.signer("signer", common::signer());
        let reference = format!("oci:{}:{FRESH}", layout.display());
        let identity = crate::image::repository(victim);
        bench.run(&["sign", &reference, "--cert", "signer.crt", "--key", "signer.key", "--identity", identity]).ok();
        let output = podman.try_prepare(FRESH, &layout);
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        starts(&image);
        podman.ok(&["untag", FRESH, victim]);
        sandbox.remove();
    });
}

/// CRI-O copies users and groups with the owner and the mode that they have in layers that nobody has verified (cri-o,
/// utils.go, `GeneratePasswd`, `GenerateGroup`, `createAndSecureFile`), and mounts the copies so that they can be written.
#[test]
fn o09_copies_of_users_belong_to_whom_they_do_in_the_image() {
    with_layerseal_as_runtime("owners of users and groups", |podman, runtime| {
        let mapped = ["--uidmap", "0:200000:65536", "--gidmap", "0:200000:65536", APP, "sleep", "1000"];
        let layers = |script: &str| {
            let all = "for f in */diff/etc/passwd */diff/etc/group";
            podman.host.sh(&format!("cd {}/overlay; {all}; do {script}; done", crate::hostile::GRAPH_ROOT));
        };
        // As CRI-O does for user 1234 and group 5678, whom the image does not know.
        let copied = |args: &[&str], change: &str| {
            let mut bundle = CriO::created(podman, runtime, false, args);
            let dir = format!("/run/containers/storage/overlay-containers/{}/userdata", bundle.id);
            podman.host.sh(&format!(
                "mkdir -p {dir}; cd '{}/etc'; (cat passwd; echo '1234:x:1234:5678:1234 user:/:/sbin/nologin') >{dir}/passwd; \
                 (cat group; echo '5678:x:5678:') >{dir}/group; \
                 for f in passwd group; do chmod $(stat -c %a $f) {dir}/$f; chown $(stat -c %u:%g $f) {dir}/$f; done; \
                 cd {dir}; {change}",
                bundle.merged
            ));
            for name in ["passwd", "group"] {
                let mount = json!({"destination": format!("/etc/{name}"), "type": "bind", "source": format!("{dir}/{name}"),
                    "options": ["rw", "bind", "nodev", "nosuid", "noexec"]});
                bundle.config["mounts"].as_array_mut().unwrap().push(mount);
            }
            bundle.config["process"]["user"] = json!({"uid": 1234, "gid": 5678, "additionalGids": [5678]});
            let script =
                "(chmod 644 /etc/passwd; echo evil::0:0::/:/bin/sh >>/etc/passwd) 2>/dev/null; cat /etc/passwd";
            bundle.config["process"]["args"] = json!(["sh", "-c", script]);
            if args.len() > 3 {
                let map = json!([{"containerID": 0, "hostID": 200_000, "size": 65536}]);
                bundle.config["linux"]["uidMappings"] = map.clone();
                bundle.config["linux"]["gidMappings"] = map;
                bundle.config["linux"]["namespaces"].as_array_mut().unwrap().push(json!({"type": "user"}));
            }
            bundle
        };
        let refused = |bundle: &CriO<'_>| {
            assert!(!bundle.run().status.success(), "{} started", bundle.runtime);
            assert_eq!(podman.last("runtime"), ("refused".into(), "O09".into()));
        };
        // As it is, and by whatever umask.
        for change in ["true", "chmod 600 group"] {
            let bundle = copied(&mapped[4..], change);
            let users = bundle.starts();
            assert!(users.contains("1234 user") && !users.contains("evil"), "{users}");
            bundle.remove();
        }
        // Without CRI-O's own namespaces crun does not get as far with other users.
        let bundle = copied(&mapped, "true");
        bundle.run();
        assert_eq!(podman.last("runtime"), ("allowed".into(), String::new()));
        bundle.remove();
        // The copies alone: by a store that was another one when they were made.
        let ways: [(&[&str], &str); 5] = [
            (&mapped[4..], "chown 1234:0 passwd; chmod 444 passwd"),
            (&mapped[4..], "chown 0:5678 group"),
            (&mapped[4..], "chmod 666 passwd"),
            (&mapped, "chown 201234:200000 passwd"),
            (&mapped, "chown 1234:0 group"),
        ];
        for (args, change) in ways {
            let bundle = copied(args, change);
            refused(&bundle);
            bundle.remove();
        }
        if podman.has_program("setfattr") {
            let bundle = copied(&mapped[4..], "setfattr -n trusted.x -v y group");
            refused(&bundle);
            bundle.remove();
        }
        // The layers: what is copied is what they have.
        for (change, back) in [
            ("chown 1234:0 $f; chmod 444 $f", "chown 0:0 $f; chmod 644 $f"),
            ("chmod 666 $f", "chmod 644 $f"),
            ("chown 201234:0 $f", "chown 0:0 $f"),
        ] {
            layers(change);
            let bundle = copied(&mapped[4..], "true");
            refused(&bundle);
            bundle.remove();
            layers(back);
        }
        let bundle = copied(&mapped[4..], "true");
        bundle.starts();
        bundle.remove();
    });
}
