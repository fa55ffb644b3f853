//! Bytes changed on the disk itself, where no file permission counts.

use crate::disk::Disk;
use crate::{Sealed, TOOL, errno, new_enough};

#[test]
fn g05_a_changed_block_of_an_object_gives_eio_and_nothing_else() {
    if !new_enough() {
        support::skip!("needs Linux 6.12");
    }
    let disk = Disk::new(64, true);
    let sealed = Sealed::in_bench(disk.bench());
    disk.flip(&sealed.object(&TOOL), 1);
    sealed.mount().ok();
    // The first block is as it was; the second is refused.
    let mut file = std::fs::File::open(sealed.root("usr/bin/tool")).unwrap();
    let mut block = [0; 4096];
    std::io::Read::read_exact(&mut file, &mut block).unwrap();
    assert_eq!(block, TOOL[..4096]);
    assert_eq!(errno(std::io::Read::read(&mut file, &mut block)), libc::EIO);
    assert_eq!(std::fs::read(sealed.root("etc/small")).unwrap(), vec![b's'; 100]);
    drop(file);
    sealed.bench.run(&["umount", "root"]).ok();
}

#[test]
fn g05_a_changed_first_block_of_the_erofs_is_not_mounted() {
    if !new_enough() {
        support::skip!("needs Linux 6.12");
    }
    let disk = Disk::new(64, true);
    let sealed = Sealed::in_bench(disk.bench());
    let merged = sealed.rootfs();
    disk.flip(&merged, 0);
    // The digest still measures right: it is in the descriptor. The first read tells.
    sealed.mount().refused(4, "G05");
    assert!(layerseal::sys::mountinfo::own().unwrap().iter().all(|m| m.kind != "erofs" && !m.target.ends_with("root")));
}

#[test]
fn g05_a_changed_later_block_of_the_erofs_gives_eio() {
    if !new_enough() {
        support::skip!("needs Linux 6.12");
    }
    let disk = Disk::new(64, true);
    // Enough files for several blocks of metadata.
    let bench = disk.bench();
    let mut entries = crate::common::base();
    for n in 0..400 {
        entries.push(crate::common::Entry::file(&format!("etc/file-with-a-long-name-{n:04}"), format!("{n}")));
    }
    crate::common::Layout::new(&bench.path("image"), &[crate::common::Layer::new(&entries)]);
    bench.signer("signer", crate::common::signer());
    bench.run(&["sign", "oci:image", "--cert", "signer.crt", "--key", "signer.key"]).ok();
    bench.run(&["pull", "oci:image", "--name", "app", "--require-signature", "--trust", "signer.crt"]).ok();
    std::fs::create_dir(bench.path("root")).unwrap();
    let sealed = Sealed { bench };
    let merged = sealed.rootfs();
    let blocks = std::fs::metadata(&merged).unwrap().len() / 4096;
    assert!(blocks > 6, "{blocks}");
    disk.flip(&merged, blocks / 2);
    sealed.mount().ok();
    let mut failed = 0;
    for n in 0..400 {
        match std::fs::read(sealed.root(&format!("etc/file-with-a-long-name-{n:04}"))) {
            Ok(content) => assert_eq!(content, format!("{n}").as_bytes(), "altered content was served"),
            Err(e) => {
                assert_eq!(e.raw_os_error(), Some(libc::EIO), "{e}");
                failed += 1;
            }
        }
    }
    assert!(failed > 0);
    sealed.bench.run(&["umount", "root"]).ok();
}

#[test]
fn j01_the_measured_descriptor_is_what_is_mounted() {
    if !new_enough() {
        support::skip!("needs Linux 6.12");
    }
    let sealed = Sealed::new();
    let merged = sealed.rootfs();
    let evil = sealed.bench.write("evil.erofs", &vec![0; 16_384]);
    // Somebody swaps the file all the time; every mount is either refused or the right one.
    let stop = std::sync::atomic::AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            let keep = merged.with_extension("keep");
            std::fs::hard_link(&merged, &keep).unwrap();
            while !stop.load(std::sync::atomic::Ordering::Relaxed) {
                let swap = merged.with_extension("swap");
                std::fs::hard_link(&evil, &swap).unwrap();
                std::fs::rename(&swap, &merged).unwrap();
                std::fs::hard_link(&keep, &swap).unwrap();
                std::fs::rename(&swap, &merged).unwrap();
            }
        });
        let (mut mounted, mut refused) = (0, 0);
        for _ in 0..400 {
            if mounted >= 10 && refused >= 10 {
                break;
            }
            let run = sealed.mount();
            if run.code == 0 {
                assert_eq!(std::fs::read(sealed.root("usr/bin/tool")).unwrap(), TOOL);
                sealed.bench.run(&["umount", "root"]).ok();
                mounted += 1;
            } else {
                assert!(run.code == 4, "{}", run.stderr);
                refused += 1;
            }
        }
        stop.store(true, std::sync::atomic::Ordering::Relaxed);
        assert!(mounted > 0 && refused > 0, "{mounted} mounted, {refused} refused: nothing was raced");
    });
}
