//! Containers whose writable layer or record podman made from what nobody had verified: before their first start, or for one
//! that was refused.

use std::os::unix::fs::{PermissionsExt as _, chown};
use std::path::{Path, PathBuf};

use crate::guard::text;
use crate::image::{APP, FRESH};
use crate::podman::{Podman, Program, default_policy};
use crate::ready;
use crate::refusals::in_diff;

const STORE: &str = "/var/lib/containers/storage";
/// Both ways on podman's own overlay, and the stage that decides.
const WAYS: [(Program, &str); 2] = [(Program::Hooked, "precreate"), (Program::Runtime, "runtime")];

/// Gives a directory of a layer to everybody, and says what it was.
fn open(dir: &Path) -> u32 {
    let before = std::fs::metadata(dir).unwrap().permissions().mode() & 0o7777;
    std::fs::set_permissions(dir, std::fs::Permissions::from_mode(0o777)).unwrap();
    chown(dir, Some(1000), None).unwrap();
    before
}

fn close(dir: &Path, mode: u32) {
    chown(dir, Some(0), None).unwrap();
    std::fs::set_permissions(dir, std::fs::Permissions::from_mode(mode)).unwrap();
}

impl Podman {
    /// A start of this container is refused for one of these cases.
    #[track_caller]
    fn not_made_anew(&self, name: &str, stage: &str, cases: &[&str]) {
        let output = self.run(&["start", "-a", name]);
        assert!(!output.status.success(), "{name}: {}", text(&output));
        let (decision, case) = self.last(stage);
        assert!(
            decision == "refused" && cases.contains(&case.as_str()),
            "{name}: {decision} {case}: {}",
            text(&output)
        );
    }
}

impl Podman {
    /// Its mount goes when podman has cleaned up behind it, a moment later.
    fn cleaned_up(&self, name: &str) {
        support::eventually("cleaning up", || {
            self.run(&["container", "cleanup", name]);
            self.container_mounts().is_empty()
        });
    }
}

const LOOK: [&str; 4] = ["stat", "-c", "%a %u", "/etc"];

/// `podman cp` copies directories up, before anybody has verified what they are copies of.
#[test]
fn o09_what_was_copied_up_before_the_first_start_is_the_images() {
    if !ready("copied before the first start") {
        return;
    }
    for (program, stage) in WAYS {
        let podman = Podman::new(program);
        podman.host.write("/var/tmp/settings", "set\n");
        let create = |name: &str| podman.ok(&[&["create", "--name", name, APP][..], &LOOK].concat());
        for (place, dir) in [("c:/etc/settings", "etc"), ("c:/usr/bin/settings", "usr/bin")] {
            create("c");
            let dir = in_diff(&podman, dir);
            let mode = open(&dir);
            podman.ok(&["cp", "/var/tmp/settings", place]);
            podman.not_made_anew("c", stage, &["O09"]);
            close(&dir, mode);
            // The layer is mended, and the copy is not.
            podman.not_made_anew("c", stage, &["O09", "O13"]);
            podman.ok(&["rm", "c"]);
        }
        // What was brought is there, and stays what it is, with what the container makes of it.
        create("d");
        podman.ok(&["cp", "/var/tmp/settings", "d:/etc/settings"]);
        podman.host.sh("mkdir -p /var/tmp/tree/deep; echo x >/var/tmp/tree/deep/file; ln -s deep /var/tmp/tree/link");
        podman.ok(&["cp", "/var/tmp/tree", "d:/opt/tree"]);
        assert_eq!(podman.ok(&["start", "-a", "d"]), "755 0\n");
        podman.ok(&["rm", "d"]);
        let change = "chmod 700 /etc; chown 5 /usr/bin; rm /etc/gone/again 2>/dev/null; cat /etc/settings";
        podman.ok(&["create", "--name", "e", APP, "sh", "-c", change]);
        podman.ok(&["cp", "/var/tmp/settings", "e:/etc/settings"]);
        for _ in 0..3 {
            assert_eq!(podman.ok(&["start", "-a", "e"]), "set\n");
        }
        podman.ok(&["rm", "e"]);
    }
}

/// The same between two starts of a container, and through directories that the image has not.
#[test]
fn o09_what_was_copied_up_between_two_starts_is_the_images() {
    if !ready("copied between two starts") {
        return;
    }
    for (program, stage) in WAYS {
        let podman = Podman::new(program);
        podman.host.write("/var/tmp/settings", "set\n");
        let change = "chmod 700 /etc; mkdir -p /opt/own; chown 5 /opt; true";
        let create = |name: &str| podman.ok(&["create", "--name", name, APP, "sh", "-c", change]);
        // A container that ran has what it made of its directories, and what was brought since.
        create("c");
        for place in ["c:/etc/one", "c:/usr/bin/two", "c:/opt/own/three"] {
            podman.ok(&["start", "-a", "c"]);
            podman.ok(&["cp", "/var/tmp/settings", place]);
        }
        podman.ok(&["start", "-a", "c"]);
        // What podman copied up for that meanwhile is the image's.
        create("d");
        podman.ok(&["start", "-a", "d"]);
        podman.cleaned_up("d");
        let bin = in_diff(&podman, "usr/bin");
        let mode = open(&bin);
        podman.ok(&["cp", "/var/tmp/settings", "d:/usr/bin/settings"]);
        close(&bin, mode);
        podman.not_made_anew("d", stage, &["O09"]);
        podman.ok(&["rm", "d"]);
        // A directory that only the unverified layer has.
        create("e");
        let planted = in_diff(&podman, "etc").with_file_name("planted");
        std::fs::create_dir(&planted).unwrap();
        open(&planted);
        podman.ok(&["cp", "/var/tmp/settings", "e:/planted/settings"]);
        std::fs::remove_dir(&planted).unwrap();
        podman.not_made_anew("e", stage, &["O09"]);
        podman.ok(&["rm", "e"]);
        // Users that podman copied up for a start that came to nothing.
        podman.ok(&["create", "--name", "f", "--user", "nobody-there", APP, "true"]);
        podman.ok(&["create", "--name", "g", APP, "true"]);
        let passwd = in_diff(&podman, "etc/passwd");
        let users = std::fs::read(&passwd).unwrap();
        std::fs::write(&passwd, [&users[..], b"evil::0:0::/:/bin/sh\n"].concat()).unwrap();
        podman.ok(&["cp", "/var/tmp/settings", "g:/etc/settings"]);
        let merged = podman.ok(&["mount", "g"]);
        podman.host.sh(&format!("chmod 666 {}/etc/passwd", merged.trim()));
        podman.ok(&["umount", "g"]);
        std::fs::write(&passwd, &users).unwrap();
        podman.not_made_anew("g", stage, &["O09"]);
        podman.ok(&["rm", "g"]);
        // What audit let pass is not verified.
        podman.policy(&default_policy().replace("enforce", "audit"));
        podman.ok(&["create", "--name", "h", APP, "true"]);
        let etc = in_diff(&podman, "etc");
        let mode = open(&etc);
        podman.ok(&["cp", "/var/tmp/settings", "h:/etc/settings"]);
        podman.ok(&["start", "-a", "h"]);
        podman.cleaned_up("h");
        close(&etc, mode);
        podman.policy(&default_policy());
        podman.not_made_anew("h", stage, &["O09"]);
    }
}

/// Whatever a start was refused for, podman has been at the container's writable layer and volumes by then.
#[test]
fn o13_a_container_that_was_refused_is_made_anew() {
    if !ready("refused before") {
        return;
    }
    for (program, stage) in WAYS {
        let podman = Podman::new(program);
        let etc = in_diff(&podman, "etc");
        let create = |name: &str| podman.ok(&[&["create", "--name", name, APP][..], &LOOK].concat());
        // Records that we do not read, and podman does.
        create("c");
        create("v");
        podman.ok(&["volume", "create", "data"]);
        let mode = open(&etc);
        let records = format!("{STORE}/overlay-images/images.json");
        podman.host.sh(&format!("cp -p {records} /var/tmp/kept; sed -i 's/\"id\":/\"Flags\":null,\"id\":/' {records}"));
        podman.not_made_anew("c", stage, &["B13"]);
        let volume = ["run", "--rm", "-v", "data:/opt", APP, "true"];
        assert!(!podman.run(&volume).status.success());
        podman.host.sh(&format!("cp -p /var/tmp/kept {records}"));
        close(&etc, mode);
        podman.not_made_anew("c", stage, &["O09", "O13"]);
        assert!(!podman.run(&volume).status.success());
        assert_eq!(podman.last(stage), ("refused".into(), "O10".into()));
        // Another one, that was not started meanwhile, is what it was.
        assert_eq!(podman.ok(&["start", "-a", "v"]), "755 0\n");

        // A store that was written for a mount program once.
        create("f");
        open(&etc);
        podman.host.sh(&format!("printf true >{STORE}/overlay/.has-mount-program"));
        let first = podman.run(&["start", "-a", "f"]);
        assert!(!first.status.success(), "{}", text(&first));
        podman.host.sh(&format!("rm {STORE}/overlay/.has-mount-program"));
        podman.not_made_anew("f", stage, &["O09", "O13"]);
        close(&etc, mode);
        podman.not_made_anew("f", stage, &["O09", "O13"]);

        // A link in the layer leads podman elsewhere.
        create("l");
        let opt = in_diff(&podman, "opt");
        let mode = open(&opt);
        let away = etc.with_file_name("away");
        let users = std::fs::read(in_diff(&podman, "etc/passwd")).unwrap();
        std::fs::rename(&etc, &away).unwrap();
        std::os::unix::fs::symlink("opt", &etc).unwrap();
        std::fs::write(opt.join("passwd"), users).unwrap();
        assert!(!podman.run(&["start", "-a", "l"]).status.success());
        std::fs::remove_file(opt.join("passwd")).unwrap();
        std::fs::remove_file(&etc).unwrap();
        std::fs::rename(&away, &etc).unwrap();
        close(&opt, mode);
        podman.not_made_anew("l", stage, &["O09", "O13"]);

        // An image that nobody had sealed then gave the container its command and its user.
        podman.ok(&["create", "--name", "u", FRESH, "true"]);
        podman.not_made_anew("u", stage, &["C07"]);
        podman.prepare(FRESH);
        podman.not_made_anew("u", stage, &["O13"]);
        // What is wrong with this host meanwhile changes nothing about it.
        podman.host.sh("mv /etc/layerseal/policy.toml /etc/layerseal/away");
        podman.not_made_anew("u", stage, &["F03"]);
        podman.host.sh("mv /etc/layerseal/away /etc/layerseal/policy.toml");
        podman.not_made_anew("u", stage, &["O13"]);
        podman.ok(&["rm", "u"]);
        podman.ok(&["run", "--name", "u", FRESH, "true"]);
        // One that ran before, and is refused for a while, has its own data, and goes on.
        podman.host.sh("mkdir -p /etc/layerseal/deny.d");
        podman.host.sh("mv /etc/layerseal/trust.d/acme/acme.crt /etc/layerseal/away");
        podman.not_made_anew("u", stage, &["E07", "F01", "C07"]);
        podman.host.sh("mv /etc/layerseal/away /etc/layerseal/trust.d/acme/acme.crt");
        podman.ok(&["start", "-a", "u"]);
    }
}

/// podman puts what stands in a layer's `lower` file among the options of a mount, and mounts otherwise where those are long.
#[test]
fn b08_a_lower_directory_is_a_link_and_no_path() {
    if !ready("long lower directories") {
        return;
    }
    for (program, _) in WAYS {
        let podman = Podman::new(program);
        let top: PathBuf = in_diff(&podman, "etc").ancestors().nth(2).unwrap().to_owned();
        let lower = top.join("lower");
        let Ok(kept) = std::fs::read_to_string(&lower) else { panic!("{}", lower.display()) };
        let name = "x".repeat(250);
        let overlay = top.parent().unwrap();
        std::os::unix::fs::symlink("..", overlay.join(&name)).unwrap();
        std::os::unix::fs::symlink(".", overlay.parent().unwrap().join(&name)).unwrap();
        std::fs::write(&lower, format!("{name}/{name}/overlay/{}", kept.trim())).unwrap();
        let output = podman.run(&["run", "--rm", APP, "true"]);
        assert!(!output.status.success(), "{}", text(&output));
        std::fs::write(&lower, kept).unwrap();
        podman.ok(&["run", "--rm", APP, "true"]);
    }
}

/// podman keeps for each container the runtime that it was made with: with hooks beside the runtime such a container is seen
/// all the same, and without them the doctor says what is not.
#[test]
fn containers_of_another_runtime_are_seen_by_the_hooks() {
    if !ready("containers of another runtime") {
        return;
    }
    let podman = Podman::new(Program::Native);
    podman.ok(&["create", "--name", "old", FRESH, "true"]);
    podman.runtime("crun");
    podman.ok(&["start", "-a", "old"]);
    let doctor = |podman: &Podman| {
        let program = crate::common::binary().display().to_string();
        text(&podman.host.command(&program, &["doctor"]).output().unwrap())
    };
    let said = doctor(&podman);
    assert!(said.contains("made with another runtime"), "{said}");
    podman.hook("createRuntime");
    podman.hook("precreate");
    assert!(!podman.run(&["start", "-a", "old"]).status.success());
    assert_eq!(podman.last("precreate").0, "refused");
    assert!(!doctor(&podman).contains("made with another runtime"));
}
