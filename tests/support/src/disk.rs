//! A small separate filesystem on a loop device, whose blocks can be changed behind the kernel's back.

use std::path::{Path, PathBuf};
use std::process::Command;

use crate::common::Bench;

pub struct Disk {
    dir: tempfile::TempDir,
    /// The options of mount(8), besides `loop`.
    options: &'static str,
}

#[track_caller]
fn run(command: &mut Command) -> String {
    let output = command.output().unwrap();
    assert!(output.status.success(), "{command:?}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8_lossy(&output.stdout).into_owned()
}

impl Disk {
    /// Makes an empty filesystem of `megabytes`, with or without the verity feature, and mounts it.
    pub fn new(megabytes: u32, verity: bool) -> Self {
        let features = if verity { "verity,^has_journal" } else { "^verity,^has_journal" };
        Self::formatted(megabytes, &["mke2fs", "-q", "-F", "-t", "ext4", "-b", "4096", "-O", features], "loop")
    }

    /// Makes a filesystem with this command, and mounts it with these options.
    pub fn formatted(megabytes: u32, command: &[&str], options: &'static str) -> Self {
        let dir = tempfile::tempdir_in(crate::scratch_dir()).unwrap();
        let disk = Self { dir, options };
        std::fs::File::create(disk.image()).unwrap().set_len(u64::from(megabytes) << 20).unwrap();
        run(Command::new(command[0]).args(&command[1..]).arg(disk.image()));
        std::fs::create_dir(disk.mount_point()).unwrap();
        disk.mount();
        disk
    }

    pub fn image(&self) -> PathBuf {
        self.dir.path().join("disk.img")
    }

    pub fn mount_point(&self) -> PathBuf {
        self.dir.path().join("mnt")
    }

    pub fn mount(&self) {
        run(Command::new("mount").args(["-o", self.options]).arg(self.image()).arg(self.mount_point()));
    }

    pub fn umount(&self) {
        run(Command::new("umount").arg(self.mount_point()));
    }

    /// Makes a bench on this disk.
    pub fn bench(&self) -> Bench {
        self.bench_in(&self.mount_point())
    }

    /// Makes a bench in a directory of this disk.
    pub fn bench_in(&self, dir: &Path) -> Bench {
        Bench { dir: tempfile::Builder::new().prefix("b").tempdir_in(dir).unwrap() }
    }

    /// Changes one byte of every block of the filesystem that holds this, while the disk is unmounted: for filesystems that
    /// have no tool to say where a file is.
    pub fn flip_content(&self, block: &[u8]) {
        use std::os::unix::fs::FileExt as _;
        self.umount();
        let image = std::fs::File::options().read(true).write(true).open(self.image()).unwrap();
        let mut found = 0;
        let mut buffer = vec![0; block.len()];
        for at in (0..image.metadata().unwrap().len()).step_by(4096) {
            if image.read_exact_at(&mut buffer, at).is_ok() && buffer == block {
                image.write_all_at(&[block[100] ^ 0x40], at + 100).unwrap();
                found += 1;
            }
        }
        assert_ne!(found, 0, "no block of the disk holds it");
        image.sync_all().unwrap();
        self.mount();
    }

    /// Changes one byte of block `block` of the file, while the disk is unmounted.
    pub fn flip(&self, file: &Path, block: u64) {
        self.umount();
        self.change(file, block);
        self.mount();
    }

    /// Changes one byte like [`Self::flip`], while the disk is mounted; nothing of it stays in memory. For the tests
    /// with podman.
    pub fn flip_mounted(&self, file: &Path, block: u64) {
        run(&mut Command::new("sync"));
        self.change(file, block);
        std::fs::write("/proc/sys/vm/drop_caches", "3").unwrap();
    }

    fn change(&self, file: &Path, block: u64) {
        change(&self.image(), file.strip_prefix(self.mount_point()).unwrap(), block);
    }
}

/// Changes one byte of block `block` of a file, named from the root of the ext4 in `image`, behind whoever has it mounted.
pub fn change(image: &Path, file: &Path, block: u64) {
    use std::os::unix::fs::FileExt as _;
    let inside = Path::new("/").join(file);
    let text = run(Command::new("debugfs").arg("-R").arg(format!("bmap {} {block}", inside.display())).arg(image));
    let physical: u64 = text.trim().parse().unwrap_or_else(|e| panic!("{e}: {text:?}"));
    assert_ne!(physical, 0);
    let image = std::fs::File::options().read(true).write(true).open(image).unwrap();
    let mut byte = [0];
    image.read_exact_at(&mut byte, physical * 4096 + 100).unwrap();
    image.write_all_at(&[byte[0] ^ 0x40], physical * 4096 + 100).unwrap();
    image.sync_all().unwrap();
}

impl Drop for Disk {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg("-l").arg(self.mount_point()).status();
    }
}
