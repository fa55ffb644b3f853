//! A caller that comes twice for one target (I06, I11).

use layerseal::error::Case;
use layerseal::mount::{MountOptions, again, mount, plain, unmount};
use layerseal::sys::mounts::{identify, open_target};
use layerseal::verify::Waiver;

use crate::common::{self, Bench, when_unused};
use crate::place::{open, place, prepared, upper};
use crate::{Mount, can_mount, mounts_beneath};

#[test]
fn i11_the_live_mount_outlives_a_second_call_and_its_unmount() {
    if !can_mount("I11 again") {
        return;
    }
    let bench = Bench::new();
    let image = prepared(&bench);
    let root = Mount::at(&bench, "root");
    assert!(!again(&root.path(), None).unwrap());
    let there = mount(&image, &place(root.path(), Some(upper(&bench, "c")), MountOptions::default())).unwrap();
    // A process of the container, which has its files open.
    let live = open(&root.path().join("etc"));
    for count in 2..4 {
        assert!(again(&root.path(), None).unwrap());
        let mounts = mounts_beneath(&root.path());
        assert_eq!(mounts.len(), count);
        assert!(mounts.last().unwrap().options.iter().any(|o| o == "ro"), "{mounts:?}");
    }
    assert_eq!(std::fs::read(root.path().join("etc/small")).unwrap(), b"short\n");
    std::fs::write(root.path().join("etc/x"), "").unwrap_err();
    std::fs::write(format!("/proc/self/fd/{}/new", std::os::fd::AsRawFd::as_raw_fd(&live)), "live").unwrap();
    assert_eq!(std::fs::read(root.path().join("etc/new")).unwrap(), b"live");
    drop(live);
    for _ in 0..2 {
        common::unmount(&root.path());
    }
    let now = identify(open_target(&root.path()).unwrap()).unwrap();
    assert_eq!((now.device, now.id), (there.device, there.id));
    std::fs::write(root.path().join("etc/x"), "").unwrap();
}

#[test]
fn i06_again_knows_plain_overlays_and_nothing_of_others() {
    if !can_mount("I06 again") {
        return;
    }
    let bench = Bench::new();
    let (root, foreign) = (Mount::at(&bench, "root"), Mount::at(&bench, "foreign"));
    std::fs::create_dir(bench.path("lower")).unwrap();
    bench.write("lower/file", b"content");
    let volume = || {
        plain(
            &Waiver::for_volume(),
            vec![open(&bench.path("lower"))],
            &place(root.path(), None, MountOptions::default()),
        )
    };
    volume().unwrap();
    assert_eq!(mounts_beneath(&root.path())[0].source, "layerseal:plain");
    // Not idempotent: nobody can say that the directories are the same.
    assert_eq!(volume().unwrap_err().case(), Case::I06Mounted);
    assert!(again(&root.path(), None).unwrap());
    when_unused(|| unmount(&root.path())).unwrap();
    when_unused(|| unmount(&root.path())).unwrap();
    assert_eq!(unmount(&root.path()).unwrap_err().case(), Case::I06Nothing);
    let status = std::process::Command::new("mount").args(["-t", "tmpfs", "none"]).arg(foreign.path()).status();
    assert!(status.unwrap().success());
    assert_eq!(again(&foreign.path(), None).unwrap_err().case(), Case::I06Mounted);
    assert_eq!(unmount(&foreign.path()).unwrap_err().case(), Case::I06Mounted);
    assert_eq!(mounts_beneath(&foreign.path()).len(), 1);
}

#[test]
fn a08_a_target_that_is_no_directory_is_refused() {
    let bench = Bench::new();
    bench.write("file", b"");
    std::fs::create_dir(bench.path("dir")).unwrap();
    std::os::unix::fs::symlink("dir", bench.path("link")).unwrap();
    for (name, case) in [("file", Case::A08Target), ("link", Case::A08Target), ("missing", Case::Usage)] {
        assert_eq!(again(&bench.path(name), None).unwrap_err().case(), case, "{name}");
        assert_eq!(unmount(&bench.path(name)).unwrap_err().case(), case, "{name}");
        let id = case.id();
        bench.run(&["mount", "app", name]).refused(2, id);
    }
}
