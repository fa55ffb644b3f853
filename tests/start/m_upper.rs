//! Group M: what is writable, and was written before.

use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;

use crate::host::{APP, AUDIT, Container, ENFORCE, Host, TOOL};

const EMPTY: &str = "upper = \"empty\"\n";

/// What somebody put into the upper directory while the host was off.
fn seed(host: &Host, container: &Container) {
    let diff = Path::new(&host.of(&container.layer, "diff")).to_owned();
    std::fs::create_dir_all(diff.join("usr/bin")).unwrap();
    std::fs::write(diff.join("usr/bin/sh"), "evil").unwrap();
    std::fs::set_permissions(diff.join("usr/bin/sh"), std::fs::Permissions::from_mode(0o4755)).unwrap();
    let flags = rustix::fs::XattrFlags::empty();
    rustix::fs::setxattr(diff.join("usr"), "trusted.overlay.opaque", b"y", flags).unwrap();
}

/// The host was started anew: what lies in `/run` is gone.
fn reboot(host: &Host) {
    host.sandbox.sh("rm -rf /run/layerseal && mkdir /run/layerseal");
}

fn notes(host: &Host) -> Vec<String> {
    let dir = host.sandbox.path(Path::new("/run/layerseal/uppers"));
    std::fs::read_dir(dir).into_iter().flatten().flatten().map(|e| e.file_name().into_string().unwrap()).collect()
}

#[test]
fn m01_an_upper_directory_that_holds_something_is_refused() {
    let Some(host) = Host::new(&format!("{ENFORCE}{EMPTY}")) else { return };
    let container = host.container("c", &host.image(APP));
    seed(&host, &container);
    let ran = host.start_refused(&container, 4, "M01");
    assert!(ran.stderr.contains(&host.of(&container.layer, "diff")), "{ran:?}");
    // One entry is enough, whatever its name.
    let diff = host.of(&container.layer, "diff");
    std::fs::remove_dir_all(&diff).unwrap();
    std::fs::create_dir(&diff).unwrap();
    let odd = <std::ffi::OsStr as std::os::unix::ffi::OsStrExt>::from_bytes(b"\xff");
    std::fs::write(Path::new(&diff).join(odd), "").unwrap();
    host.start_refused(&container, 4, "M01");
    std::fs::remove_file(Path::new(&diff).join(odd)).unwrap();
    host.start(&container).ok();
}

#[test]
fn m01_what_a_container_wrote_since_the_boot_is_its_own() {
    let Some(host) = Host::new(&format!("{ENFORCE}{EMPTY}")) else { return };
    let container = host.container("c", &host.image(APP));
    for round in ["one", "two", "three"] {
        host.start(&container).ok();
        std::fs::write(host.merged(&container).join("etc").join(round), "mine").unwrap();
        host.unmount(&container);
    }
    host.start(&container).ok();
    assert_eq!(host.read(&container, "etc/one").unwrap(), b"mine");
    host.unmount(&container);
    assert_eq!(notes(&host).len(), 1);
    reboot(&host);
    host.start_refused(&container, 4, "M01");
    // Asked for its differences it is only read.
    let own = [vec![container.layer.clone()], container.lowers.clone()].concat();
    let lowers: Vec<String> = own.iter().map(|id| host.of(id, "diff")).collect();
    host.call(&format!("lowerdir={}", lowers.join(":")), &host.of(&container.layer, "merged")).ok();
    assert!(std::fs::write(host.merged(&container).join("x"), "").is_err());
}

#[test]
fn m01_audit_says_so_and_any_says_nothing() {
    let Some(host) = Host::new(&format!("{AUDIT}{EMPTY}")) else { return };
    let container = host.container("c", &host.image(APP));
    seed(&host, &container);
    let ran = host.start(&container).ok();
    assert!(ran.records.len() == 1 && ran.records[0].contains("\nLAYERSEAL_CASE=M01\n"), "{ran:?}");
    let status = host.layerseal(&["status", "--json"]).stdout;
    assert!(status.contains("\"audit\"") && !status.contains("\"sealed\""), "{status}");
    host.unmount(&container);
    // What was written before anything was verified hides nothing of the image; what was brought stays.
    host.config("policy.toml", ENFORCE);
    host.start(&container).refused(4, "O09");
    host.start(&container).refused(4, "O13");
    let container = host.container("d", &host.image(APP));
    std::fs::write(Path::new(&host.of(&container.layer, "diff")).join("brought"), "x").unwrap();
    assert_eq!(host.start(&container).ok().records, Vec::<String>::new());
    host.unmount(&container);
    // Allowed once is no leave for later.
    host.config("policy.toml", &format!("{ENFORCE}{EMPTY}"));
    host.start_refused(&container, 4, "M01");
}

/// The inode of a directory that is gone is given to another.
#[test]
fn m01_a_note_is_of_one_directory_only() {
    let Some(host) = Host::new(&format!("{ENFORCE}{EMPTY}")) else { return };
    let container = host.container("c", &host.image(APP));
    host.start(&container).ok();
    host.unmount(&container);
    let diff = host.of(&container.layer, "diff");
    let inode = |path: &str| std::os::unix::fs::MetadataExt::ino(&std::fs::metadata(path).unwrap());
    let before = inode(&diff);
    let mut same = false;
    for _ in 0..50 {
        std::fs::remove_dir_all(&diff).unwrap();
        std::fs::create_dir(&diff).unwrap();
        same |= inode(&diff) == before;
        if same {
            break;
        }
    }
    if !same {
        support::skip!(part: "the same inode twice: this filesystem gives it not again");
    }
    seed(&host, &container);
    host.start_refused(&container, 4, "M01");
    // And the notes of what is gone go with the next.
    let next = host.container("d", &host.image(APP));
    host.start(&next).ok();
    assert_eq!(notes(&host).len(), 1);
}

#[test]
fn m01_notes_that_somebody_else_could_write_do_not_count() {
    let Some(host) = Host::new(&format!("{ENFORCE}{EMPTY}")) else { return };
    let container = host.container("c", &host.image(APP));
    let outside = host.bench.path("outside");
    std::fs::create_dir(&outside).unwrap();
    host.sandbox.sh(&format!("ln -s '{}' /run/layerseal/uppers", outside.display()));
    host.start_refused(&container, 1, "X01");
    assert_eq!(std::fs::read_dir(&outside).unwrap().count(), 0);
    host.sandbox.sh("rm /run/layerseal/uppers; mkdir /run/layerseal/uppers; chown 1000 /run/layerseal/uppers");
    host.start_refused(&container, 1, "X01");
    host.sandbox.sh("chown 0 /run/layerseal/uppers; chmod 777 /run/layerseal/uppers");
    host.start(&container).ok();
    let mode = host.sandbox.path(Path::new("/run/layerseal/uppers")).metadata().unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o700);
}

/// An upper directory of another stack: its redirects lead to files of the vault that are not the image's.
#[test]
fn m02_an_upper_directory_from_another_stack() {
    let Some(host) = Host::new(&format!("{ENFORCE}{EMPTY}")) else { return };
    let container = host.container("c", &host.image(APP));
    let diff = Path::new(&host.of(&container.layer, "diff")).to_owned();
    std::fs::write(diff.join("file"), "").unwrap();
    let flags = rustix::fs::XattrFlags::empty();
    rustix::fs::setxattr(diff.join("file"), "trusted.overlay.metacopy", b"", flags).unwrap();
    rustix::fs::setxattr(diff.join("file"), "trusted.overlay.redirect", b"/usr/bin/tool", flags).unwrap();
    host.start_refused(&container, 4, "M01");
}

#[test]
fn m03_what_a_volatile_container_leaves() {
    let Some(host) = Host::new(ENFORCE) else { return };
    let container = host.container("c", &host.image(APP));
    let (options, target) = (host.options(&container), host.of(&container.layer, "merged"));
    host.call(&format!("{options},volatile"), &target).ok();
    std::fs::write(host.merged(&container).join("etc/x"), "x").unwrap();
    host.unmount(&container);
    host.call(&options, &target).refused(6, "I11");
    assert!(host.mounts_of(&container).is_empty());
    host.call(&format!("{options},volatile"), &target).ok();
    assert_eq!(host.read(&container, "etc/x").unwrap(), b"x");
    host.unmount(&container);
    // A symlink in the place of what is to be removed: nothing outside is.
    let work = Path::new(&host.of(&container.layer, "work")).join("work/incompat");
    let outside = host.bench.path("outside");
    std::fs::create_dir_all(outside.join("volatile")).unwrap();
    std::fs::write(outside.join("volatile/dirty"), "").unwrap();
    std::fs::remove_dir_all(&work).unwrap();
    std::os::unix::fs::symlink(&outside, &work).unwrap();
    let _ = host.call(&format!("{options},volatile"), &target);
    assert!(outside.join("volatile/dirty").exists());
}

/// With all rights, which a container does not have.
#[test]
fn m04_attributes_set_from_within_change_nothing_below() {
    let Some(host) = Host::new(ENFORCE) else { return };
    let container = host.container("c", &host.image(APP));
    host.start(&container).ok();
    let root = host.merged(&container);
    let flags = rustix::fs::XattrFlags::empty();
    std::fs::write(root.join("usr/new"), "").unwrap();
    for (path, name, value) in [
        ("usr", "trusted.overlay.opaque", &b"y"[..]),
        ("usr/new", "trusted.overlay.redirect", b"/etc/small"),
        ("usr/new", "trusted.overlay.metacopy", b""),
        ("usr", "user.overlay.opaque", b"y"),
    ] {
        let _ = rustix::fs::setxattr(root.join(path), name, value, flags);
    }
    host.unmount(&container);
    host.start(&container).ok();
    assert_eq!(host.read(&container, "usr/bin/tool").unwrap(), TOOL);
    assert_eq!(host.read(&container, "usr/new").unwrap(), b"");
    assert_eq!(host.read(&container, "etc/small").unwrap(), vec![b's'; 100]);
}
