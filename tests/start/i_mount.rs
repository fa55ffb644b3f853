//! Groups I and K, as far as they need no fs-verity: what stands after a call, and after the next.

use std::path::Path;

use crate::host::{APP, ENFORCE, EVIL, Host, OFF, TOOL};

#[test]
fn i06_a_target_that_carries_something_already() {
    let Some(host) = Host::new(ENFORCE) else { return };
    let container = host.container("c", &host.image(APP));
    let target = host.of(&container.layer, "merged");
    host.sandbox.sh(&format!("mount -t tmpfs none '{target}'"));
    host.start_refused(&container, 2, "I06");
    host.sandbox.sh(&format!("umount '{target}'"));
    // An overlay of somebody else, under a name that is nearly ours.
    for source in ["composefs", "layerseal:plain2"] {
        host.sandbox.sh(&format!("mount -t overlay -o lowerdir=/usr:/etc '{source}' '{target}'"));
        host.start_refused(&container, 2, "I06");
        host.sandbox.sh(&format!("umount '{target}'"));
    }
    host.start(&container).ok();
    // Once more, as `podman diff` of a running container has it: the live mount stays below.
    host.start(&container).ok();
    assert_eq!(host.mounts_of(&container).len(), 2);
    assert!(std::fs::write(host.merged(&container).join("x"), "").is_err());
    host.unmount(&container);
    std::fs::write(host.merged(&container).join("x"), "").unwrap();
    assert_eq!(host.read(&container, "usr/bin/tool").unwrap(), TOOL);
}

#[test]
fn i07_one_upper_directory_on_two_places() {
    let Some(host) = Host::new(OFF) else { return };
    for dir in ["one", "two", "lower", "u", "w"] {
        std::fs::create_dir(host.bench.path(dir)).unwrap();
    }
    let at = |name: &str| host.bench.path(name).display().to_string();
    let options = format!("lowerdir={},upperdir={},workdir={}", at("lower"), at("u"), at("w"));
    host.call(&options, &at("one")).ok();
    host.refused(&options, &at("two"), 6, "I07");
    host.sandbox.sh(&format!("umount '{}'", at("one")));
    host.call(&options, &at("two")).ok();
}

/// On a shared tree others see the container's root, and nothing of how it was made.
#[test]
fn i08_others_see_the_root_and_nothing_else() {
    let Some(host) = Host::new(ENFORCE) else { return };
    let container = host.container("c", &host.image(APP));
    host.sandbox.sh("mount --make-rshared /");
    let before = host.sandbox.mounts();
    let (options, target) = (host.options(&container), host.of(&container.layer, "merged"));
    let mut peer = host.sandbox.command("unshare");
    peer.args(["--mount", "--propagation", "unchanged", crate::host::binary(), "-o", &options, &target]);
    host.sandbox.run(&mut peer).ok();
    let new: Vec<_> = host.sandbox.mounts().into_iter().filter(|m| !before.contains(m)).collect();
    assert_eq!(new.iter().map(|(at, _)| at.clone()).collect::<Vec<_>>(), vec![target], "{new:?}");
    assert_eq!(host.read(&container, "usr/bin/tool").unwrap(), TOOL);
}

/// As containers-storage does it: first fuse's own way, then the kernel's.
#[test]
fn i12_the_ways_to_unmount_leave_nothing() {
    let Some(host) = Host::new(ENFORCE) else { return };
    let container = host.container("c", &host.image(APP));
    let before = host.sandbox.mounts();
    let target = host.of(&container.layer, "merged");
    for _ in 0..3 {
        host.start(&container).ok();
        host.sandbox.sh(&format!("fusermount3 -u '{target}' || fusermount -u '{target}' || umount -l '{target}'"));
        assert_eq!(host.sandbox.mounts(), before);
        // Nothing keeps the directory: containers-storage renames another over it.
        std::fs::create_dir(format!("{target}.1")).unwrap();
        std::fs::rename(format!("{target}.1"), &target).unwrap();
    }
    let left = host.sandbox.sh("ls -A /run/layerseal");
    assert_eq!(left.split_whitespace().collect::<Vec<_>>(), ["certificates", "log", "mounts", "podman", "signatures"]);
    let loops = host.sandbox.sh("cat /sys/block/loop*/loop/backing_file 2>/dev/null || true");
    assert!(!loops.contains(host.root.to_str().unwrap()), "{loops}");
}

/// A directory or a file that is added to a layer on the disk is in no sealed root.
#[test]
fn k03_what_is_added_to_a_layer_is_not_seen() {
    let Some(host) = Host::new(ENFORCE) else { return };
    let app = host.image(APP);
    let container = host.container("c", &app);
    host.start(&container).ok();
    let diff = Path::new(&host.of(&app.layers[0], "diff")).to_owned();
    std::fs::write(diff.join("etc/added"), "evil").unwrap();
    std::fs::create_dir(diff.join("added")).unwrap();
    std::fs::remove_file(diff.join("etc/small")).unwrap();
    std::fs::write(diff.join("etc/small"), EVIL).unwrap();
    let as_sealed = |host: &Host| {
        assert!(!host.merged(&container).join("etc/added").exists());
        assert!(!host.merged(&container).join("added").exists());
        assert_eq!(host.read(&container, "etc/small").unwrap(), vec![b's'; 100]);
    };
    as_sealed(&host);
    host.unmount(&container);
    host.start(&container).ok();
    as_sealed(&host);
}

/// Records that somebody put in the way: a mount that nobody can ask about does not stay.
#[test]
fn i05_a_mount_without_a_record_does_not_stay() {
    let Some(host) = Host::new(ENFORCE) else { return };
    let container = host.container("c", &host.image(APP));
    let outside = host.bench.path("outside");
    std::fs::create_dir(&outside).unwrap();
    host.sandbox.sh(&format!("ln -s '{}' /run/layerseal/mounts", outside.display()));
    host.start_refused(&container, 1, "X01");
    assert_eq!(std::fs::read_dir(&outside).unwrap().count(), 0);
}
