//! Our writer beside the composefs crate's, on trees with everything that a layer can hold.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;

use composefs::erofs::format::FormatVersion;
use composefs::erofs::writer::{ValidatedFileSystem, mkfs_erofs_versioned};
use composefs::fsverity::{FsVerityHashValue, Sha256HashValue, Sha512HashValue};
use composefs::generic_tree::{LeafId, Stat};
use composefs::tree::{Directory, FileSystem, Inode, LeafContent, RegularFile};

use super::write::write;
use crate::error::Case;
use crate::image::file_tree::{Child, DirId, FileTree, ROOT};

/// xorshift64*, so that a failure can be repeated.
pub(super) struct Random(pub(super) u64);

impl Random {
    pub(super) fn below(&mut self, bound: usize) -> usize {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        (self.0.wrapping_mul(0x2545_F491_4F6C_DD1D) >> 33) as usize % bound
    }

    pub(super) fn one_of<T: Copy>(&mut self, these: &[T]) -> T {
        these[self.below(these.len())]
    }
}

fn stat(random: &mut Random) -> Stat {
    let mut xattrs = std::collections::BTreeMap::new();
    for _ in 0..random.one_of(&[0, 0, 0, 0, 1, 2, 5]) {
        let name = random.one_of(&[
            "security.capability",
            "security.selinux",
            "user.a",
            "user.b",
            "trusted.overlay.opaque",
            "trusted.overlay.metacopy",
            "trusted.overlay.overlay.whiteout",
            "system.posix_acl_access",
            "system.posix_acl_default",
            "lustre.lov",
            "odd",
        ]);
        let value = vec![random.below(2) as u8; random.one_of(&[0, 1, 1, 2, 20, 300])];
        xattrs.insert(Box::from(OsStr::new(name)), value.into_boxed_slice());
    }
    Stat {
        st_mode: random.one_of(&[0o644, 0o755, 0o4755, 0o1777]),
        st_uid: random.one_of(&[0, 0, 1000, 65_535, 65_536]),
        st_gid: random.one_of(&[0, 0, 70_000]),
        st_mtim_sec: random.one_of(&[1_700_000_000, 1_700_000_000, 1_700_000_001, 0, -1]),
        st_mtim_nsec: random.one_of(&[0, 0, 0, 5]),
        xattrs,
    }
}

fn content<H: FsVerityHashValue>(random: &mut Random) -> LeafContent<H> {
    match random.below(10) {
        0 => LeafContent::Regular(RegularFile::Inline(Box::default())),
        1 => {
            let size = random.one_of(&[1, 63, 64, 2048, 2049, 4095, 4096, 4097, 9000]);
            LeafContent::Regular(RegularFile::Inline(vec![7; size].into()))
        }
        2..=4 => {
            let mut digest = H::EMPTY;
            // So few that some occur again.
            digest.as_mut_bytes()[3] = random.below(60) as u8;
            let size = random.one_of(&[65, 4096, 4097, 1 << 20, (1 << 32) - 1, 1 << 32, (1 << 40) + 1]);
            LeafContent::Regular(RegularFile::External(digest, size))
        }
        5 | 6 => LeafContent::Symlink(
            OsStr::from_bytes(&vec![b't'; random.one_of(&[1, 20, 300, 2000, 3990, 4032, 4064, 4090])]).into(),
        ),
        7 => LeafContent::CharacterDevice(random.one_of(&[0, 0, 0x103, u64::from(u32::MAX)])),
        8 => LeafContent::BlockDevice(0x800),
        9 if random.below(2) == 0 => LeafContent::Fifo,
        _ => LeafContent::Socket,
    }
}

/// Makes a directory with a few levels beneath it, in which links to earlier leaves occur.
fn fill<H: FsVerityHashValue>(fs: &mut FileSystem<H>, random: &mut Random, depth: usize) -> Directory<H> {
    let mut dir = Directory::new(stat(random));
    for n in 0..random.one_of(&[0, 1, 3, 8, 8, 40, 150]) {
        if fs.leaves.len() > 300 {
            break;
        }
        let name = match random.below(6) {
            0 => format!("{:02x}", random.below(256)),
            1 => format!("-{n}"),
            2 => format!("{n}{}", "n".repeat(random.one_of(&[1, 100, 250]))),
            _ => format!("file{n}"),
        };
        let inode = match random.below(8) {
            0 | 1 if depth < 4 => Inode::Directory(Box::new(fill(fs, random, depth + 1))),
            2 if !fs.leaves.is_empty() => {
                let id = LeafId(random.below(fs.leaves.len()));
                // The crate does not take devices 0:0 with two names.
                match fs.leaf(id).content {
                    LeafContent::CharacterDevice(0) => continue,
                    _ => Inode::leaf(id),
                }
            }
            _ => {
                let (stat, content) = (stat(random), content(random));
                Inode::leaf(fs.push_leaf(stat, content))
            }
        };
        dir.insert(OsStr::new(&name), inode);
    }
    dir
}

pub(super) fn tree<H: FsVerityHashValue>(seed: u64) -> FileSystem<H> {
    let mut random = Random(seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1);
    let mut fs = FileSystem::new(Stat::uninitialized());
    fs.root = fill(&mut fs, &mut random, 0);
    // The format's own devices are known by all of their metadata, and in the root only.
    let root = fs.root.stat.clone();
    let mut sub = Directory::new(root.clone());
    for (name, mode) in [("a0", 0o644), ("a1", 0o600)] {
        for dir in [&mut fs.root, &mut sub] {
            let stat = Stat { st_mode: mode, xattrs: Default::default(), ..root.clone() };
            fs.leaves.push(composefs::tree::Leaf { stat, content: LeafContent::CharacterDevice(0) });
            dir.insert(OsStr::new(name), Inode::leaf(LeafId(fs.leaves.len() - 1)));
        }
    }
    fs.root.insert(OsStr::new("sub"), Inode::Directory(Box::new(sub)));
    fs.compact();
    fs
}

/// Makes the same tree of ours.
pub(super) fn of_composefs<H: FsVerityHashValue>(tree: &FileSystem<H>) -> FileTree<H> {
    fn fill<H: FsVerityHashValue>(made: &mut FileTree<H>, to: DirId, leaves: &[Child], from: &Directory<H>) {
        for (name, inode) in from.entries() {
            let child = match inode {
                Inode::Leaf(id, _) => leaves[id.0],
                Inode::Directory(sub) => {
                    let dir = made.add_directory(sub.stat.clone()).unwrap();
                    fill(made, dir, leaves, sub);
                    Child::Directory(dir)
                }
            };
            made.insert(to, name.as_bytes(), child).unwrap();
        }
    }
    let mut made = FileTree::new(tree.root.stat.clone());
    let leaf = |leaf: &composefs::tree::Leaf<H>| made.add_leaf(leaf.stat.clone(), leaf.content.clone()).unwrap();
    let leaves: Vec<Child> = tree.leaves.iter().map(leaf).map(Child::Leaf).collect();
    fill(&mut made, ROOT, &leaves, &tree.root);
    made
}

fn same<H: FsVerityHashValue>(seeds: std::ops::Range<u64>) {
    for seed in seeds {
        let tree = tree::<H>(seed);
        let theirs = mkfs_erofs_versioned(&ValidatedFileSystem::new(tree.clone()).unwrap(), FormatVersion::V1);
        let ours = write(of_composefs(&tree), None).unwrap();
        let differs = ours.iter().zip(&theirs).position(|(a, b)| a != b);
        assert_eq!((ours.len(), differs), (theirs.len(), None), "tree {seed}");
    }
}

#[test]
fn images_are_those_of_the_composefs_crate() {
    same::<Sha256HashValue>(0..300);
    same::<Sha512HashValue>(300..400);
}

/// Checks that a whiteout is written as another device, and then set to zero: nothing else changes.
#[test]
fn whiteouts_act_and_devices_of_the_layer_are_shown() {
    let mut tree = FileSystem::<Sha256HashValue>::new(Stat { st_mode: 0o755, ..Stat::uninitialized() });
    for (name, number) in [("gone", 0xfeed), ("shown", 0), ("null", 0x103)] {
        let id = tree.push_leaf(Stat { st_mtim_sec: 3, ..Stat::uninitialized() }, LeafContent::CharacterDevice(number));
        tree.root.insert(OsStr::new(name), Inode::leaf(id));
    }
    let marked = write(of_composefs(&tree), Some(1)).unwrap();
    let ours = write(of_composefs(&tree), Some(0xfeed)).unwrap();
    let changed: Vec<usize> = (0..ours.len()).filter(|at| ours[*at] != marked[*at]).collect();
    assert_eq!(changed.len(), 2, "{changed:?}");
    assert_eq!(marked[changed[0]..=changed[1]], 0xfeed_u16.to_le_bytes());
    assert_eq!(ours[changed[0]..=changed[1]], [0, 0]);
    let read = super::read::<Sha256HashValue>(&ours).unwrap();
    let content = |name: &str| match read.root.lookup(OsStr::new(name)) {
        Some(Inode::Leaf(id, _)) => &read.leaf(*id).content,
        _ => panic!("{name} is missing"),
    };
    assert!(matches!(content("gone"), LeafContent::CharacterDevice(0)), "{:?}", content("gone"));
    assert!(matches!(content("null"), LeafContent::CharacterDevice(0x103)));
}

/// Checks H06: what EROFS has no room for is refused and not cut off.
#[test]
fn h06_what_does_not_fit_is_refused() {
    let root = || FileSystem::<Sha256HashValue>::new(Stat { st_mode: 0o755, ..Stat::uninitialized() });
    let refused = |stat: Stat, content: LeafContent<Sha256HashValue>, names: &[&str]| {
        let mut tree = root();
        let id = tree.push_leaf(stat, content);
        for name in names {
            tree.root.insert(OsStr::new(name), Inode::leaf(id));
        }
        write(of_composefs(&tree), None).unwrap_err()
    };
    let plain = Stat::uninitialized;
    let with = |name: &str, value: usize| Stat {
        xattrs: [(Box::from(OsStr::new(name)), vec![0; value].into_boxed_slice())].into(),
        ..Stat::uninitialized()
    };
    let many = Stat {
        xattrs: (0..256).map(|n| (Box::from(OsStr::new(&format!("user.{n}"))), Box::default())).collect(),
        ..Stat::uninitialized()
    };
    let symlink = |length: usize| LeafContent::Symlink(OsStr::from_bytes(&vec![b'x'; length]).into());
    for refusal in [
        refused(plain(), LeafContent::CharacterDevice(0), &["a", "b"]),
        refused(plain(), LeafContent::BlockDevice(1 << 32), &["a"]),
        refused(plain(), LeafContent::Regular(RegularFile::External(Sha256HashValue::EMPTY, u64::MAX)), &["a"]),
        refused(plain(), symlink(4097), &["a"]),
        refused(plain(), LeafContent::Fifo, &[&"n".repeat(4096)]),
        refused(with(&format!("user.{}", "x".repeat(256)), 0), LeafContent::Fifo, &["a"]),
        refused(with("user.x", 65_536), LeafContent::Fifo, &["a"]),
        refused(many, LeafContent::Fifo, &["a"]),
    ] {
        assert_eq!(refusal.case(), Case::H06Entry, "{refusal}");
    }
}
