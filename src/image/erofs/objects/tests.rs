//! The walk beside the composefs crate's reader, on images as they are written and with changes.

use std::ffi::OsStr;

use composefs::erofs::format::FormatVersion;
use composefs::erofs::reader::{Image as ErofsImage, erofs_to_filesystem};
use composefs::erofs::writer::{ValidatedFileSystem, mkfs_erofs_versioned};
use composefs::fsverity::{FsVerityHashValue, Sha256HashValue, Sha512HashValue};
use composefs::generic_tree::Stat;
use composefs::tree::{Directory, FileSystem, Inode, LeafContent, RegularFile};
use zerocopy::IntoBytes as _;

use super::super::on_deep_stack;
use super::super::read::read;
use super::super::tests::{Random, of_composefs, tree};
use super::super::write::write;
use super::objects;
use crate::digest::{Algorithm, VerityDigest};
use crate::error::Case;
use crate::image::file_tree::{Child, FileTree, ROOT};

/// Lists the objects of the tree that the composefs crate makes of an image, or why it makes none.
fn of_tree<H: FsVerityHashValue>(image: &[u8], algorithm: Algorithm) -> Result<Vec<(VerityDigest, u64)>, String> {
    let tree = erofs_to_filesystem::<H>(image).map_err(|e| format!("{e:#}"))?;
    let mut found = Vec::new();
    for leaf in &tree.leaves {
        if let LeafContent::Regular(RegularFile::External(id, size)) = &leaf.content {
            found.push((VerityDigest::new(algorithm, id.as_bytes()).unwrap(), *size));
        }
    }
    found.sort_unstable();
    found.dedup();
    Ok(found)
}

/// Changes a few bytes that are not zero, or puts others of the image in their place.
fn change(image: &mut [u8], random: &mut Random) {
    let place = |random: &mut Random| loop {
        let at = random.below(image.len() - 32);
        if image[at] != 0 {
            return random.one_of(&[at, at & !3]);
        }
    };
    let (at, from) = (place(random), place(random));
    match random.below(4) {
        0 => image[at] = random.below(256) as u8,
        1 => image[at] ^= 1 << random.below(8),
        2 => image[at] = image[at].wrapping_add(random.one_of(&[1, 0xff])),
        _ => image.copy_within(from..from + random.one_of(&[1, 2, 4, 8, 12, 32]), at),
    }
}

/// Checks that [`objects`] takes what the composefs crate's reader takes, and finds the same in it: in images of every
/// format version, as they were written and with changes. Returns how many of the changed ones were taken.
fn same_objects<H: FsVerityHashValue>(algorithm: Algorithm, seeds: std::ops::Range<u64>, changes: usize) -> usize {
    let mut taken = 0;
    for (seed, version) in
        seeds.flat_map(|seed| [FormatVersion::V0, FormatVersion::V1, FormatVersion::V2].map(|v| (seed, v)))
    {
        let mut tree = tree::<H>(seed);
        for leaf in &mut tree.leaves {
            // Of this version it takes no larger ones.
            match &mut leaf.content {
                LeafContent::Regular(RegularFile::Inline(bytes)) if bytes.len() > 512 => *bytes = vec![7; 512].into(),
                LeafContent::Symlink(target) if target.len() > 1024 => *target = OsStr::new("target").into(),
                _ => {}
            }
        }
        let image = mkfs_erofs_versioned(&ValidatedFileSystem::new(tree).unwrap(), version).into_vec();
        let mut random = Random((seed + 1).wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1);
        for number in 0..=changes {
            let mut changed = image.clone();
            (0..number.min(1 + number % 3)).for_each(|_| change(&mut changed, &mut random));
            let ours = objects(&changed.clone().into(), algorithm);
            // The crate's reader takes names in any order, and goes every way.
            let beyond = ["has two names", "too deep", "Duplicate directory entry"];
            if ours.as_ref().is_err_and(|refusal| beyond.iter().any(|why| refusal.to_string().contains(why))) {
                continue;
            }
            let theirs = on_deep_stack(|| Ok(of_tree::<H>(&changed, algorithm))).unwrap();
            match (&ours, &theirs) {
                (Ok(ours), Ok(theirs)) => assert!(ours == theirs, "tree {seed}, {version:?}, change {number}"),
                (Err(_), Err(_)) if number > 0 => continue,
                _ => panic!("tree {seed}, {version:?}, change {number}: {ours:?}, {theirs:?}"),
            }
            taken += usize::from(number > 0);
        }
    }
    taken
}

#[test]
fn objects_are_found_and_refused_as_by_the_composefs_crate() {
    let taken = same_objects::<Sha256HashValue>(Algorithm::Sha256, 0..12, 40)
        + same_objects::<Sha512HashValue>(Algorithm::Sha512, 12..16, 40);
    assert!((100..1800).contains(&taken), "{taken} of 1920");
}

/// Bytes, and where they are put.
type Changes<'a> = &'a [(usize, &'a [u8])];

/// Checks H09: what a changed image would have the kernel show.
#[test]
fn h09_images_that_composefs_would_not_write_are_refused() {
    let plain = || Stat { st_mode: 0o755, ..Stat::uninitialized() };
    let mut tree = FileSystem::<Sha256HashValue>::new(plain());
    let mut leaf = |content| Inode::leaf(tree.push_leaf(plain(), content));
    let mut digest = Sha256HashValue::EMPTY;
    digest.as_mut_bytes()[0] = 0xd1;
    let twice = leaf(LeafContent::Regular(RegularFile::External(digest, 70)));
    let inline = leaf(LeafContent::Regular(RegularFile::Inline((*b"content").into())));
    let device = leaf(LeafContent::CharacterDevice(0x103));
    let (mut a, mut b) = (Directory::new(plain()), Directory::new(plain()));
    b.insert(OsStr::new("inner"), Inode::Directory(Box::new(Directory::new(plain()))));
    a.insert(OsStr::new("one"), twice.clone());
    a.insert(OsStr::new("two"), twice);
    a.insert(OsStr::new("text"), inline);
    a.insert(OsStr::new("zero"), device);
    tree.root.insert(OsStr::new("a"), Inode::Directory(Box::new(a)));
    tree.root.insert(OsStr::new("b"), Inode::Directory(Box::new(b)));
    let image = write(of_composefs(&tree), None).unwrap().to_vec();
    assert_eq!(objects(&image.clone().into(), Algorithm::Sha256).unwrap().len(), 1);

    let reader = ErofsImage::open(&image).unwrap();
    let child = |of: u64, name: &str| reader.find_child_nid(of, name.as_bytes()).unwrap().unwrap();
    let root = u64::from(reader.sb.root_nid.get());
    let (a, b) = (child(root, "a"), child(root, "b"));
    let [one, text, zero] = ["one", "text", "zero"].map(|name| child(a, name));
    // struct erofs_inode_compact: the mode is at 4, the number of links at 6, the size at 8, a device's number at 16.
    let field = |nid: u64, at: usize| {
        assert_eq!(image[32 * nid as usize] & 1, 0, "not compact");
        32 * nid as usize + at
    };
    let after =
        |at: usize, bytes: &[u8]| at + image[at..].windows(bytes.len()).position(|found| found == bytes).unwrap();
    // struct erofs_dirent begins with the inode number. Entries of these directories follow their inodes.
    let entry = |of: u64, nid: u64| after(field(of, 32), &nid.to_le_bytes());
    let names = after(field(a, 32), b"...onetexttwozero") + 3;
    let digest = after(0, b"overlay.metacopy");
    let number = |nid: u64| nid.to_le_bytes();
    let larger = (image.len() as u32 + 7).to_le_bytes();
    let refused: [(&str, Changes<'_>); 19] = [
        ("has two names", &[(entry(b, child(b, "inner")), &number(a))]),
        ("has two names", &[(entry(b, child(b, "inner")), &number(b))]),
        ("Invalid inode", &[(entry(a, text), &number(1 << 40))]),
        ("Invalid '.' entry", &[(entry(a, a), &number(b))]),
        ("Invalid '..' entry", &[(entry(a, root), &number(b))]),
        ("3 names, not 2", &[(entry(a, text), &number(one))]),
        ("2 names, not 3", &[(field(one, 6), &[3])]),
        ("1 names, not 0", &[(field(text, 6), &[0])]),
        ("3 links, not 0 + 2", &[(field(a, 6), &[3])]),
        ("Duplicate directory entry", &[(names, b"zne")]),
        ("Duplicate directory entry", &[(names + 7, b"one")]),
        ("unknown file type", &[(field(zero, 4), &[0xed, 0x01])]),
        ("a whiteout with several names", &[(field(zero, 16), &[0, 0]), (field(zero, 6), &[2])]),
        ("exceeds image size", &[(field(text, 8), &larger)]),
        ("a digest of another form", &[(digest + 16, &[1])]),
        ("a digest of another form", &[(digest + 19, &[2])]),
        ("an extended attribute with prefix 99", &[(digest - 3, &[99])]),
        ("bad EROFS magic", &[(1024, &[0])]),
        ("bad composefs magic", &[(0, &[0])]),
    ];
    for (why, changes) in refused {
        let mut changed = image.clone();
        changes.iter().for_each(|(at, bytes)| changed[*at..*at + bytes.len()].copy_from_slice(bytes));
        for refusal in [
            objects(&changed.clone().into(), Algorithm::Sha256).unwrap_err(),
            read::<Sha256HashValue>(&changed).unwrap_err(),
        ] {
            assert_eq!(refusal.case(), Case::H09Erofs);
            assert!(refusal.to_string().contains(why), "{refusal}, not {why}");
        }
    }
    for length in [0, 1, image.len() - 1] {
        let refusal = objects(&image[..length].to_vec().into(), Algorithm::Sha256).unwrap_err();
        assert_eq!(refusal.case(), Case::H09Erofs, "{refusal}");
    }
}

/// Checks H09: directories as deep as the budget allows, and no deeper.
#[test]
fn h09_too_deep_directories_are_refused() {
    for (depth, is_taken) in [(2000, true), (2001, false)] {
        let mut tree = FileTree::<Sha256HashValue>::new(Stat::uninitialized());
        let mut at = ROOT;
        for _ in 0..depth {
            let new = tree.add_directory(Stat::uninitialized()).unwrap();
            tree.insert(at, b"d", Child::Directory(new)).unwrap();
            at = new;
        }
        let image = on_deep_stack(|| write(tree, None)).unwrap();
        assert_eq!(objects(&image, Algorithm::Sha256).is_ok(), is_taken, "{depth}");
    }
}
