//! What the runtime has made is looked at before it is started, by the process that has verified the root: without hooks.

use crate::guard::{RUN, text};
use crate::image::APP;
use crate::podman::{Podman, Program};
use crate::ready;

impl Podman {
    /// Has crun called by this script, whose last line has it run; `$merged` is where the root is mounted.
    fn instead_of_crun(&self, script: &str) {
        let program = format!(
            "#!/bin/sh\nset -eu\ncase \" $* \" in *' create '*)\nbundle=$(echo \"$*\" | sed 's/.*--bundle[ =]//; s/ .*//')\nmerged=$(grep -o '/[^\"]*/merged' \"$bundle/config.json\" | head -n 1)\n\
             {script}\n;; esac\nexec crun \"$@\"\n"
        );
        self.host.write("/etc/layerseal/instead", program);
        self.host.sh("chmod 755 /etc/layerseal/instead");
        self.host.write("/etc/layerseal/runtime.toml", "path = \"/etc/layerseal/instead\"\n");
        self.noted();
    }

    /// Waits until `layerseal-runtime` knows its runtime for certain. Until then hooks do what is tested here.
    pub fn noted(&self) {
        self.host.sh("rm -f /run/layerseal/runtime");
        support::eventually("a note of the runtime", || {
            self.host.shell("/var/tmp/layerseal-runtime --version; ls /run/layerseal/runtime").status.success()
        });
    }

    /// Has podman make a container `c` once, whose root stays mounted, and returns what finds its ID and its bundle.
    fn bundle_of_c(&self) -> &'static str {
        let bundle = "id=$(podman inspect --format '{{.ID}}' c); dir=/var/lib/containers/storage/overlay-containers/$id/userdata";
        self.noted();
        self.ok(&["create", "--name", "c", APP, "sleep", "1000"]);
        self.ok(&["mount", "c"]);
        self.ok(&["init", "c"]);
        self.host.sh(&format!("{bundle}; crun delete -f $id"));
        // podman cleans up, which must not meet what is made of the bundle next.
        support::eventually("podman has cleaned up", || {
            self.host.processes().iter().all(|name| !matches!(name.as_str(), "conmon" | "podman" | "crun"))
        });
        bundle
    }

    /// Has podman run a container, which is refused at the second look with a line of ours; nothing of it stays.
    #[track_caller]
    fn refused_when_made(&self, case: &str, args: &[&str]) {
        let before = self.host.sh("crun list -q");
        let output = self.run(args);
        let error = text(&output);
        assert!(!output.status.success() && output.stdout.is_empty(), "{error}");
        assert_eq!(self.last("runtime").0, "allowed", "{error}");
        assert_eq!(self.last("createRuntime"), ("refused".into(), case.into()), "{error}");
        assert!(error.contains("layerseal: ") && error.contains(&format!("[R-{case}]")), "{error}");
        assert_eq!(self.host.sh("crun list -q"), before, "{error}");
    }
}

#[test]
fn containers_are_looked_at_when_they_are_made() {
    if !ready("second look") {
        return;
    }
    let podman = Podman::new(Program::Runtime);
    podman.noted();
    let id = podman.ok(&["create", "--name", "c", APP, "sleep", "1000"]).trim().to_owned();
    podman.ok(&["init", "c"]);
    assert_eq!([podman.last("runtime").0, podman.last("createRuntime").0], ["allowed", "allowed"]);
    let config =
        podman.host.sh(&format!("cat /var/lib/containers/storage/overlay-containers/{id}/userdata/config.json"));
    assert!(config.contains("\"args\"") && !config.contains("createRuntime"), "{config}");
    let flags = "grep ' / / ' /proc/$(podman inspect --format '{{.State.Pid}}' c)/mountinfo | cut -d ' ' -f 6";
    assert!(podman.host.sh(flags).split(',').any(|flag| flag == "nodev"), "{}", podman.host.sh(flags));
    podman.ok(&["start", "c"]);
    podman.ok(&["exec", "c", "cat", "/etc/kept"]);
    // By whom the process was started that the container came from is no matter.
    podman.host.sh("pid=$(podman inspect --format '{{.State.Pid}}' c); tr '\\0' ' ' </proc/$(awk '/PPid/ {print $2}' /proc/$pid/status)/comm | grep conmon");
    podman.ok(&["rm", "-f", "-t", "0", "c"]);
    assert_eq!(podman.container_mounts(), [""; 0]);
}

#[test]
fn what_others_do_while_it_is_made_is_seen_and_the_container_is_removed() {
    if !ready("second look: refusals") {
        return;
    }
    let podman = Podman::new(Program::Runtime);
    podman.noted();
    podman.refused_when_made("O04", &["run", "--rm", "--tmpfs", "/usr/share", APP, "true"]);
    podman.starts(APP);
    // Another container's root is mounted over the one that was verified, or what nobody sealed.
    podman.ok(&["run", "-d", "--name", "other", APP, "sleep", "1000"]);
    let other = podman.ok(&["inspect", "--format", "{{.GraphDriver.Data.MergedDir}}", "other"]);
    podman.instead_of_crun(&format!("mount --bind '{}' \"$merged\"", other.trim()));
    podman.refused_when_made("O03", &["run", "--name", "c", APP, "true"]);
    podman.host.sh("umount $(podman inspect --format '{{.GraphDriver.Data.MergedDir}}' c) || true");
    podman.run(&["rm", "-f", "c"]);
    podman.instead_of_crun("mount --bind /usr \"$merged\"");
    podman.refused_when_made("O01", &["run", "--name", "c", APP, "true"]);
    podman.host.sh("umount $(podman inspect --format '{{.GraphDriver.Data.MergedDir}}' c) || true");
    podman.run(&["rm", "-f", "c"]);
    podman.run(&["rm", "-f", "-t", "0", "other"]);
    // What looks is killed while the runtime is at work: nobody looked.
    podman.instead_of_crun(
        "for f in $(grep -la 'runtime-[s]upervise' /proc/[0-9]*/cmdline); do p=${f%/cmdline}; kill -9 ${p#/proc/}; done",
    );
    let output = podman.run(&RUN);
    assert!(!output.status.success() && text(&output).contains("nobody looked at the container"), "{}", text(&output));
    assert_eq!(podman.host.sh("crun list -q"), "");
    // The runtime fails: it has said why, and nothing is said besides.
    podman.instead_of_crun("echo no room >&2; exit 1");
    let error = text(&podman.run(&RUN));
    assert!(error.contains("no room") && !error.contains("[R-"), "{error}");
    podman.instead_of_crun("true");
    podman.run(&["rm", "-fa", "-t", "0"]);
    podman.starts(APP);
    assert_eq!(podman.last("createRuntime").0, "allowed");
    assert_eq!(podman.container_mounts(), [""; 0]);
}

/// Something that was mounted in the root before the container was made would be in it.
#[test]
fn o03_what_is_mounted_in_a_root_that_stays_mounted_is_refused() {
    if !ready("second look: mounts before") {
        return;
    }
    let podman = Podman::new(Program::Runtime);
    podman.noted();
    podman.ok(&["create", "--name", "c", APP, "true"]);
    let merged = podman.ok(&["mount", "c"]).trim().to_owned();
    podman.ok(&["start", "-a", "c"]);
    podman.host.sh(&format!("mount -t tmpfs none '{merged}/opt'"));
    // podman cleans up when the container has ended, and not before it says so.
    support::eventually("the runtime knows no container", || podman.host.sh("crun list -q").is_empty());
    podman.refused_when_made("O03", &["start", "-a", "c"]);
    podman.host.sh(&format!("umount '{merged}/opt'"));
    podman.ok(&["start", "-a", "c"]);
    podman.run(&["umount", "c"]);
    podman.run(&["rm", "-f", "c"]);
    assert_eq!(podman.container_mounts(), [""; 0]);
}

/// What is mounted over a root that is in use is listed above it, and the container does not see it.
#[test]
fn o03_what_is_mounted_over_the_root_of_a_container_that_is_made_is_not_its_root() {
    if !ready("second look: mounts over the root") {
        return;
    }
    let podman = Podman::new(Program::Runtime);
    if !podman.has_program("runc") {
        return support::skip!(part: "mounts over the root: runc is not installed");
    }
    let bundle = podman.bundle_of_c();
    podman.host.sh("mkdir -p /var/tmp/verified /var/tmp/unsealed");
    // With runc what is mounted on the host reaches the root of a container where mounts are shared.
    podman.instead_of_crun(
        "cp -a \"$merged/.\" /var/tmp/unsealed; mount --bind \"$merged\" /var/tmp/verified\n\
         mount --bind /var/tmp/unsealed \"$merged\"; mount --make-private \"$merged\"; mount --make-shared \"$merged\"\n\
         runc \"$@\"; mount --bind /var/tmp/verified \"$merged\"; exit 0",
    );
    let create = "/var/tmp/layerseal-runtime create --bundle $dir --pid-file /var/tmp/pid $id";
    let said = podman.host.sh(&format!("{bundle}; ! {create} </dev/null 2>&1; runc delete -f $id || true"));
    // Newer versions of runc keep it out, and then the root is what was mounted before.
    let (decision, case) = podman.last("createRuntime");
    let is_over = said.contains("was mounted over it when it was made") && case == "O03";
    assert!(decision == "refused" && (is_over || case == "O01"), "{said}");
}

/// A caller that reads the number of the first process from a pipe gets it.
#[test]
fn numbers_of_processes_that_go_into_a_pipe_are_for_the_caller() {
    if !ready("second look: pipes") {
        return;
    }
    let podman = Podman::new(Program::Runtime);
    let bundle = podman.bundle_of_c();
    let create =
        "/var/tmp/layerseal-runtime --cgroup-manager=disabled create --bundle $dir --pid-file /var/tmp/pid $id";
    let said = podman.host.sh(&format!(
        "{bundle}; mkfifo /var/tmp/pid; timeout 20 cat /var/tmp/pid >/var/tmp/number &\n\
         {bundle}; timeout 20 {create} </dev/null >/var/tmp/out 2>&1 || echo failed; cat /var/tmp/out\n\
         wait; cat /var/tmp/number; crun delete -f $id"
    ));
    assert!(said.trim().parse::<u32>().is_ok(), "{said}");
    podman.run(&["umount", "c"]);
    podman.run(&["rm", "-f", "-t", "0", "c"]);
}
