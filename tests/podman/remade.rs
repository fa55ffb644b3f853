//! Containers whose writable layer or record podman made from what nobody had verified: before their first start, or for one
//! that was refused.

use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _, chown};
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
    /// A start of this container is refused for one of these cases, and `check` says so before.
    #[track_caller]
    fn not_made_anew(&self, name: &str, stage: &str, cases: &[&str]) {
        let foretold = self.foretold(name);
        let output = self.run(&["start", "-a", name]);
        assert!(!output.status.success(), "{name}: {}", text(&output));
        let (decision, case) = self.last(stage);
        assert!(
            decision == "refused" && cases.contains(&case.as_str()),
            "{name}: {decision} {case}: {}",
            text(&output)
        );
        assert_eq!(foretold, (decision, case.clone()), "{name}: {}", text(&output));
        // People know it by its name, and it can be renamed.
        let note = self.last_note(stage);
        let message = note["message"].as_str().unwrap_or_default();
        assert!(case != "O13" || message.contains(&format!("{name} (")), "{name}: {message}");
    }
}

impl Podman {
    /// Has podman give a start up, whatever for: here nobody is asked.
    fn given_up(&self, name: &str) {
        const HOOKS: &str = "/etc/containers/hooks";
        const BROKEN: &str =
            r#"{"version":"1.0.0","hook":{"path":"/bin/false"},"when":{"always":true},"stages":["precreate"]}"#;
        self.host.sh(&format!("mkdir -p {HOOKS}; mv {HOOKS} {HOOKS}.away; mkdir {HOOKS}"));
        self.host.write(&format!("{HOOKS}/broken.json"), BROKEN);
        assert!(!self.run(&["start", "-a", name]).status.success());
        self.host.sh(&format!("rm -r {HOOKS}; mv {HOOKS}.away {HOOKS}"));
    }

    /// A start of this container passes, and `check` says so before.
    #[track_caller]
    fn goes_on(&self, name: &str) -> String {
        assert_eq!(self.foretold(name), ("sealed".to_owned(), String::new()), "{name}");
        self.ok(&["start", "-a", name])
    }

    /// Its mount goes when podman has cleaned up behind it, a moment later.
    fn cleaned_up(&self, name: &str) {
        support::eventually("cleaning up", || {
            self.run(&["container", "cleanup", name]);
            // Where two of podman's own clean-ups met, of this or another one, it counts a mount that nobody takes away.
            self.run(&["umount", "-f", "-a"]);
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
        assert_eq!(podman.goes_on("d"), "755 0\n");
        podman.ok(&["rm", "d"]);
        let change = "chmod 700 /etc; chown 5 /usr/bin; rm /etc/gone/again 2>/dev/null; cat /etc/settings";
        podman.ok(&["create", "--name", "e", APP, "sh", "-c", change]);
        podman.ok(&["cp", "/var/tmp/settings", "e:/etc/settings"]);
        for _ in 0..3 {
            assert_eq!(podman.goes_on("e"), "set\n");
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
            podman.goes_on("c");
            podman.ok(&["cp", "/var/tmp/settings", place]);
        }
        podman.goes_on("c");
        // What podman copied up for that meanwhile is the image's.
        create("d");
        podman.goes_on("d");
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

/// podman gives up starts by itself, before anybody is asked, and has written users by then: where the layer's links led it.
#[test]
fn o09_what_podman_appended_to_for_a_start_that_came_to_nothing_is_not_brought() {
    if !ready("appended to") {
        return;
    }
    for (program, stage) in WAYS {
        let podman = Podman::new(program);
        let etc = in_diff(&podman, "etc/gone/again").ancestors().nth(2).unwrap().to_owned();
        let app = in_diff(&podman, "opt/app");
        let (passwd, group, away) = (etc.join("passwd"), etc.join("group"), app.with_file_name("away"));
        for name in ["one", "several"] {
            std::os::unix::fs::symlink("/opt/app", &passwd).unwrap();
            std::fs::create_dir(&group).unwrap();
            std::fs::rename(&app, &away).unwrap();
            std::fs::write(&app, "#!/bin/sh\necho evil\nexit\n").unwrap();
            std::fs::set_permissions(&app, std::fs::Permissions::from_mode(0o4777)).unwrap();
            if name == "several" {
                std::fs::hard_link(&app, app.with_file_name("names")).unwrap();
            }
            podman.ok(&["create", "--name", name, "--user", "1234", APP, "/opt/app"]);
            let output = podman.run(&["start", "-a", name]);
            assert!(text(&output).contains("temporary passwd file"), "{}", text(&output));
            let _ = std::fs::remove_file(app.with_file_name("names"));
            std::fs::rename(&away, &app).unwrap();
            std::fs::remove_file(&passwd).unwrap();
            std::fs::remove_dir(&group).unwrap();
            podman.not_made_anew(name, stage, &["O09"]);
            podman.ok(&["rm", name]);
        }
        // What was brought in its place is what it is.
        podman.host.write("/var/tmp/script", "#!/bin/sh\necho fine\n");
        podman.host.sh("chmod 755 /var/tmp/script");
        podman.ok(&["create", "--name", "c", "--user", "1234", APP, "/opt/app"]);
        podman.ok(&["cp", "/var/tmp/script", "c:/opt/app"]);
        assert_eq!(podman.goes_on("c"), "fine\n");
    }
}

/// The same for a root that is read-only, over which podman mounts copies that it made once.
#[test]
fn o09_users_that_were_copied_for_a_start_that_came_to_nothing_are_the_images() {
    if !ready("users copied before") {
        return;
    }
    for (program, stage) in WAYS {
        let podman = Podman::new(program);
        let create = |name: &str| {
            let look = ["cat", "/etc/group", "/etc/passwd"];
            podman.ok(&[&["create", "--read-only", "--user", "1234:77", "--name", name, APP][..], &look].concat());
        };
        for (file, name, line) in [("etc/passwd", "p", "evil::0:0::/:/bin/sh\n"), ("etc/group", "g", "evil:x:0:app\n")]
        {
            let users = in_diff(&podman, file);
            let away = users.with_file_name("away");
            std::fs::rename(&users, &away).unwrap();
            std::fs::write(&users, [line.as_bytes(), &std::fs::read(&away).unwrap()].concat()).unwrap();
            create(name);
            podman.given_up(name);
            std::fs::rename(&away, &users).unwrap();
            podman.not_made_anew(name, stage, &["O09"]);
            podman.ok(&["rm", name]);
        }
        create("c");
        for _ in 0..2 {
            assert!(podman.goes_on("c").ends_with("1234:*:1234:77:container user:/:/bin/sh\n"));
        }
    }
}

/// podman fills a volume that it makes once, for the first start that it tries.
#[test]
fn o09_a_volume_that_was_filled_for_a_start_that_came_to_nothing_is_the_images() {
    if !ready("a volume filled before") {
        return;
    }
    for (program, stage) in WAYS {
        let podman = Podman::new(program);
        let volume = |name: &str, with: &[&str], run: &str| {
            let run = format!("{run}; sleep 0.2");
            podman.ok(&[&["create", "--name", name][..], with, &[APP, "sh", "-c", &run]].concat());
        };
        let app = in_diff(&podman, "opt/app");
        let diff = app.ancestors().nth(2).unwrap();
        let away = diff.with_file_name("away");
        let evil = |name: &str| {
            std::fs::rename(&app, &away).unwrap();
            std::fs::write(&app, "evil\n").unwrap();
            podman.given_up(name);
            std::fs::rename(&away, &app).unwrap();
        };
        volume("c", &["-v", "/opt"], "cat /opt/app");
        evil("c");
        podman.not_made_anew("c", stage, &["O09"]);
        podman.ok(&["rm", "-v", "c"]);
        // What the layer adds, and what it takes away.
        let added = diff.join("opt/added");
        volume("d", &["-v", "/opt"], "ls /opt");
        std::fs::write(&added, "").unwrap();
        podman.given_up("d");
        std::fs::remove_file(&added).unwrap();
        podman.not_made_anew("d", stage, &["O09"]);
        podman.ok(&["rm", "-v", "d"]);
        volume("h", &["-v", "/opt"], "ls /opt");
        let owner = std::fs::metadata(&app).unwrap().uid();
        chown(&app, Some(1234), None).unwrap();
        podman.given_up("h");
        chown(&app, Some(owner), None).unwrap();
        podman.not_made_anew("h", stage, &["O09"]);
        podman.ok(&["rm", "-v", "h"]);
        // One of the image's is its container's to change, and others' who are given it.
        volume("e", &["-v", "/opt"], "cat /opt/app; echo own >/opt/app; touch /opt/more");
        podman.given_up("e");
        podman.ok(&["start", "-a", "e"]);
        assert_eq!(podman.ok(&["start", "-a", "e"]), "own\n");
        volume("f", &["--volumes-from", "e"], "cat /opt/app");
        assert_eq!(podman.ok(&["start", "-a", "f"]), "own\n");
        // It was made with another container, and has what was brought.
        podman.ok(&["run", "--rm", "-v", "data:/opt", APP, "sh", "-c", "echo brought >/opt/app"]);
        volume("g", &["-v", "data:/opt"], "cat /opt/app");
        podman.given_up("g");
        assert_eq!(podman.ok(&["start", "-a", "g"]), "brought\n");
    }
}

/// What a layer lies on may have no handles for files. Overlayfs does not say then which one a copy was of, and says that
/// it is one.
#[test]
fn o09_what_was_copied_up_from_a_filesystem_without_handles_is_the_images() {
    if !ready("copied from a filesystem without handles") {
        return;
    }
    for (program, stage) in WAYS {
        let podman = Podman::new(program);
        podman.host.write("/var/tmp/settings", "set\n");
        let diff = in_diff(&podman, "opt/app").ancestors().nth(2).unwrap().to_owned();
        let away = diff.with_file_name("away");
        podman.host.sh("mkdir -p /var/tmp/ram; mount -t ramfs ram /var/tmp/ram; mkdir -m 777 /var/tmp/ram/planted");
        for (name, place) in [("c", "c:/planted/settings"), ("d", "d:/planted")] {
            std::fs::rename(&diff, &away).unwrap();
            std::os::unix::fs::symlink("/var/tmp/ram", &diff).unwrap();
            podman.ok(&[&["create", "--name", name, APP][..], &LOOK].concat());
            podman.ok(&["cp", "/var/tmp/settings", place]);
            std::fs::remove_file(&diff).unwrap();
            std::fs::rename(&away, &diff).unwrap();
            podman.not_made_anew(name, stage, &["O09"]);
        }
        podman.ok(&["rm", "c", "d"]);
        podman.host.sh("umount /var/tmp/ram");
        // A directory that was brought there is nobody's copy.
        podman.ok(&[&["create", "--name", "e", APP][..], &LOOK].concat());
        podman.host.sh("mkdir -p /var/tmp/planted");
        podman.ok(&["cp", "/var/tmp/planted", "e:/planted"]);
        assert_eq!(podman.goes_on("e"), "755 0\n");
    }
}

/// Whatever overlayfs notes of a copy is podman's: the verified overlay notes nothing. An origin in an EROFS image without a
/// UUID is no word of layerseal's, for somebody who has the disk can give podman such a layer
/// (`composefs-data/composefs.blob`).
#[test]
fn o09_an_origin_in_an_erofs_image_is_podmans_own() {
    if !ready("origins") {
        return;
    }
    for (program, stage) in WAYS {
        let podman = Podman::new(program);
        podman.ok(&["create", "--name", "c", APP, "sh", "-c", "chmod 700 /etc; mkdir -p /new"]);
        podman.goes_on("c");
        podman.cleaned_up("c");
        let upper = podman.ok(&["inspect", "--format", "{{.GraphDriver.Data.UpperDir}}", "c"]);
        let etc = podman.host.inside(upper.trim()).join("etc");
        let mut noted = [0; 64];
        let size = rustix::fs::getxattr(&etc, "trusted.overlay.origin", &mut noted).unwrap();
        assert_eq!(size, 0, "{:?}", &noted[..size]);
        podman.goes_on("c");
        podman.cleaned_up("c");
        // As podman's overlay wrote it of such a layer (struct ovl_fb: a handle of type 0x81, and no UUID).
        let mut forged = [0_u8; 33];
        forged[..5].copy_from_slice(&[0, 0xfb, 33, 0, 0x81]);
        forged[28] = 0x33;
        rustix::fs::setxattr(&etc, "trusted.overlay.origin", &forged, rustix::fs::XattrFlags::empty()).unwrap();
        podman.not_made_anew("c", stage, &["O09"]);
    }
}

/// The same where layerseal becomes the mount program after that: what podman wrote by itself is looked at once more.
#[test]
fn o09_what_was_copied_up_before_there_was_a_mount_program_is_the_images() {
    if !ready("copied before there was a mount program") {
        return;
    }
    let podman = Podman::new(Program::Hooked);
    let ours = crate::common::binary().display().to_string();
    podman.host.write("/var/tmp/settings", "set\n");
    let own = "chmod 700 /etc; chown 5 /usr/bin; mkdir -p /opt/own; cat /etc/settings";
    for name in ["copied", "brought"] {
        podman.ok(&["create", "--name", name, APP, "sh", "-c", own]);
    }
    podman.ok(&["create", "--name", "users", APP, "true"]);
    podman.ok(&["cp", "/var/tmp/settings", "brought:/etc/settings"]);
    let etc = in_diff(&podman, "etc");
    let mode = open(&etc);
    podman.ok(&["cp", "/var/tmp/settings", "copied:/etc/settings"]);
    close(&etc, mode);
    let passwd = in_diff(&podman, "etc/passwd");
    let users = std::fs::read(&passwd).unwrap();
    std::fs::write(&passwd, [&users[..], b"evil::0:0::/:/bin/sh\n"].concat()).unwrap();
    let merged = podman.ok(&["mount", "users"]);
    podman.host.sh(&format!("chmod 666 {}/etc/passwd", merged.trim()));
    podman.ok(&["umount", "users"]);
    std::fs::write(&passwd, &users).unwrap();

    podman.storage_conf(Some(&ours), "");
    for name in ["copied", "users"] {
        let output = podman.run(&["start", "-a", name]);
        assert!(!output.status.success() && text(&output).contains("R-O09"), "{name}: {}", text(&output));
    }
    // What the container makes of its directories through the verified mount is its own, whenever it was made.
    for _ in 0..3 {
        assert_eq!(podman.goes_on("brought"), "set\n");
        podman.ok(&["cp", "/var/tmp/settings", "brought:/usr/bin/settings"]);
    }
    // And where podman's own overlay comes back.
    podman.cleaned_up("brought");
    podman.host.sh("rm -f /var/lib/containers/storage/overlay/.has-mount-program");
    podman.storage_conf(None, "");
    assert_eq!(podman.goes_on("brought"), "set\n");
    let (decision, case) = podman.last("precreate");
    assert_eq!((decision.as_str(), case.as_str()), ("allowed", ""));
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
        assert_eq!(podman.goes_on("v"), "755 0\n");

        // A store that was written for a mount program once.
        create("f");
        open(&etc);
        podman.host.sh(&format!("printf true >{STORE}/overlay/.has-mount-program"));
        let first = podman.run(&["start", "-a", "f"]);
        assert!(!first.status.success(), "{}", text(&first));
        // The runtime alone is not told by podman that it is there, and sees what podman copied up by it.
        assert!(["O14", "O09"].contains(&podman.last(stage).1.as_str()), "{:?}", podman.last(stage));
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
        podman.goes_on("u");
    }
}

/// A container that ran, and is not unmounted when it is refused: nobody but itself wrote into its layer.
#[test]
fn o09_a_refusal_on_the_verified_mount_says_nothing_of_what_the_container_wrote() {
    if !ready("refused while it is mounted") {
        return;
    }
    for (program, stage) in WAYS {
        let podman = Podman::new(program);
        podman.ok(&["run", "-d", "--name", "u", "-v", "data:/opt", APP, "sleep", "100"]);
        podman.ok(&["exec", "u", "sh", "-c", "echo x >/etc/settings; cp -p /opt/app /opt/new; mv /opt/new /opt/app"]);
        // By this it stays mounted.
        podman.ok(&["mount", "u"]);
        podman.ok(&["stop", "-t", "0", "u"]);
        podman.host.sh("mv /etc/layerseal/trust.d/acme/acme.crt /etc/layerseal/away");
        podman.not_made_anew("u", stage, &["E07", "F01", "C07"]);
        podman.host.sh("mv /etc/layerseal/away /etc/layerseal/trust.d/acme/acme.crt");
        podman.ok(&["umount", "-f", "u"]);
        podman.ok(&["start", "u"]);
        podman.ok(&["rm", "-f", "-t", "0", "u"]);
    }
}

/// A start that audit let pass verified nothing, whoever had mounted the root by then.
#[test]
fn o09_what_audit_let_pass_is_compared_later_all_the_same() {
    if !ready("copied up, and started under audit") {
        return;
    }
    for (program, stage) in WAYS {
        let podman = Podman::new(program);
        let etc = in_diff(&podman, "etc");
        let mode = open(&etc);
        podman.policy(&default_policy().replace("enforce", "audit"));
        podman.host.write("/var/tmp/settings", "set\n");
        podman.ok(&["create", "--name", "c", APP, "true"]);
        podman.ok(&["cp", "/var/tmp/settings", "c:/etc/settings"]);
        // The second start finds the mount of the first.
        podman.ok(&["mount", "c"]);
        podman.ok(&["start", "-a", "c"]);
        podman.ok(&["start", "-a", "c"]);
        assert_eq!(podman.last(stage).0, "audit");
        podman.ok(&["umount", "c"]);
        podman.cleaned_up("c");
        close(&etc, mode);
        podman.policy(&default_policy());
        podman.not_made_anew("c", stage, &["O09"]);
    }
}

/// What is remembered of containers that were refused stays while their disk is not there, and others are in its place.
#[test]
fn o13_notes_stay_while_the_graph_root_is_another_one() {
    if !ready("another graph root for a while") {
        return;
    }
    let podman = Podman::new(Program::Hooked);
    podman.ok(&["create", "--name", "u", FRESH, "true"]);
    podman.not_made_anew("u", "precreate", &["C07"]);
    podman.prepare(FRESH);
    let away =
        |from: &str, to: &str| podman.host.sh(&format!("umount {STORE}/overlay 2>/dev/null || true; mv {from} {to}"));
    away(STORE, "/var/lib/containers/away");
    podman.host.sh(&format!(
        "cp -a /var/lib/containers/away {STORE}; rm -rf {STORE}/overlay-containers; mkdir {STORE}/overlay-containers"
    ));
    podman.host.sh("mv /etc/layerseal/policy.toml /etc/layerseal/away");
    assert!(!podman.run(&["run", "--rm", APP, "true"]).status.success());
    podman.host.sh("mv /etc/layerseal/away /etc/layerseal/policy.toml");
    podman.host.sh(&format!("umount {STORE}/overlay 2>/dev/null || true; rm -rf {STORE}"));
    away("/var/lib/containers/away", STORE);
    podman.not_made_anew("u", "precreate", &["O13"]);
    // In a copy of the store it is the same container.
    away(STORE, "/var/lib/containers/away");
    podman.host.sh(&format!("cp -a /var/lib/containers/away {STORE}; rm -rf /var/lib/containers/away"));
    podman.not_made_anew("u", "precreate", &["O13"]);
}

/// The hooks are not called where the mount program refuses.
#[test]
fn o13_the_mount_program_remembers_whom_it_refused() {
    if !ready("refused by the mount program") {
        return;
    }
    let podman = Podman::new(Program::Hooked);
    let ours = crate::common::binary().display().to_string();
    podman.ok(&["create", "--name", "u", FRESH, "true"]);
    podman.storage_conf(Some(&ours), "");
    let refused = |case: &str| {
        let output = podman.run(&["start", "-a", "u"]);
        assert!(!output.status.success() && text(&output).contains(case), "{case}: {}", text(&output));
    };
    refused("R-C07");
    podman.prepare(FRESH);
    refused("R-O13");
    // Whatever the policy says of upper directories.
    podman.policy(&default_policy().replace("mode =", "upper = \"empty\"\nmode ="));
    refused("R-O13");
    podman.policy(&default_policy());
    podman.ok(&["rm", "u"]);
    podman.ok(&["run", "--rm", FRESH, "true"]);
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
