//! Extended attributes of inodes, and which of them are shared.

use std::borrow::Cow;
use std::cmp::Ordering;
use std::collections::{HashMap, HashSet};
use std::hash::{BuildHasher as _, RandomState};
use std::os::unix::ffi::OsStrExt;

use composefs::erofs::composefs::OverlayMetacopy;
use composefs::erofs::format::{
    XATTR_FILTER_SEED, XATTR_INDEX_LUSTRE, XATTR_INDEX_POSIX_ACL_ACCESS, XATTR_INDEX_POSIX_ACL_DEFAULT,
    XATTR_OVERLAY_ESCAPED_PREFIX, XATTR_OVERLAY_METACOPY, XATTR_OVERLAY_OPAQUE, XATTR_OVERLAY_OPAQUE_ROOT,
    XATTR_OVERLAY_PREFIX, XATTR_OVERLAY_REDIRECT, XATTR_OVERLAY_WHITEOUT, XATTR_OVERLAY_WHITEOUTS, XATTR_PREFIXES,
    XATTR_USERXATTR_OPAQUE, XATTR_USERXATTR_WHITEOUT, XATTR_USERXATTR_WHITEOUTS,
};
use composefs::fsverity::FsVerityHashValue;
use composefs::tree::{LeafContent, RegularFile};
use hashbrown::HashTable;
use xxhash_rust::xxh32::xxh32;
use zerocopy::IntoBytes;

use super::inodes::{Inodes, NumberedInode, too_large};
use crate::error::Result;
use crate::sys::scratch::ScratchWriter;

/// One attribute: the number of a prefix that EROFS knows, the rest of the name, and the value.
#[derive(Clone, PartialEq, Eq, Hash)]
pub(super) struct Attribute<'a, H: FsVerityHashValue> {
    pub(super) prefix: u8,
    pub(super) suffix: Cow<'a, [u8]>,
    value: XattrValue<'a, H>,
}

/// The value of an attribute. One that follows from a digest is written out when it is needed.
#[derive(Clone, PartialEq, Eq, Hash)]
enum XattrValue<'a, H: FsVerityHashValue> {
    Bytes(&'a [u8]),
    /// The kernel's `struct ovl_metacopy`, with the object's digest.
    Metacopy(&'a H),
    /// The object's path.
    Redirect(&'a H),
}

impl<'a, H: FsVerityHashValue> Attribute<'a, H> {
    fn new(name: impl Into<Cow<'a, [u8]>>, value: XattrValue<'a, H>) -> Self {
        let name = name.into();
        let known = |(n, prefix): &(usize, &&[u8])| *n != XATTR_INDEX_LUSTRE as usize && name.starts_with(prefix);
        // The first prefix is empty: every name begins with it. mkcomposefs does not know "lustre.".
        let (prefix, text) = XATTR_PREFIXES.iter().enumerate().rev().find(known).unwrap_or((0, &XATTR_PREFIXES[0]));
        let suffix = match name {
            Cow::Borrowed(name) => Cow::Borrowed(&name[text.len()..]),
            Cow::Owned(name) => Cow::Owned(name[text.len()..].to_vec()),
        };
        Self { prefix: prefix as u8, suffix, value }
    }

    fn bytes(name: impl Into<Cow<'a, [u8]>>, value: &'a [u8]) -> Self {
        Self::new(name, XattrValue::Bytes(value))
    }

    fn name(&self) -> impl Iterator<Item = &u8> {
        XATTR_PREFIXES[self.prefix as usize].iter().chain(self.suffix.iter())
    }

    pub(super) fn value_len(&self) -> usize {
        match self.value {
            XattrValue::Bytes(bytes) => bytes.len(),
            XattrValue::Metacopy(_) => size_of::<OverlayMetacopy<H>>(),
            // "/", two digits, "/", and the others.
            XattrValue::Redirect(_) => 2 + 2 * size_of::<H>(),
        }
    }

    pub(super) fn write_value(&self, out: &mut ScratchWriter) {
        match self.value {
            XattrValue::Bytes(bytes) => out.extend_from_slice(bytes),
            XattrValue::Metacopy(digest) => out.extend_from_slice(OverlayMetacopy::new(digest).as_bytes()),
            XattrValue::Redirect(digest) => {
                out.extend_from_slice(b"/");
                out.extend_from_slice(digest.to_object_pathname().as_bytes());
            }
        }
    }

    /// Compares by the whole name, then by the length of the value, then by the value, as `mkcomposefs` sorts. Values
    /// that follow from digests sort as these do, and only among themselves: no file can bring an attribute of that
    /// name, because those of the layers are escaped.
    fn order(&self, other: &Self) -> Ordering {
        let value = || match (&self.value, &other.value) {
            (XattrValue::Metacopy(a), XattrValue::Metacopy(b)) | (XattrValue::Redirect(a), XattrValue::Redirect(b)) => {
                a.as_bytes().cmp(b.as_bytes())
            }
            (XattrValue::Bytes(a), XattrValue::Bytes(b)) => a.cmp(b),
            _ => Ordering::Equal,
        };
        let names =
            if self.prefix == other.prefix { self.suffix.cmp(&other.suffix) } else { self.name().cmp(other.name()) };
        names.then_with(|| self.value_len().cmp(&other.value_len())).then_with(value)
    }

    /// Returns the attribute's bit in the inode's filter: set bits tell which names are not there.
    pub(super) fn bit(&self) -> u32 {
        1 << (xxh32(&self.suffix, XATTR_FILTER_SEED + u32::from(self.prefix)) % 32)
    }

    /// Returns how many bytes it takes, padded to whole words.
    pub(super) fn size(&self) -> usize {
        (4 + self.suffix.len() + self.value_len()).next_multiple_of(4)
    }

    fn is_acl(&self) -> bool {
        [XATTR_INDEX_POSIX_ACL_ACCESS, XATTR_INDEX_POSIX_ACL_DEFAULT].contains(&self.prefix)
    }
}

/// Collects the attributes of one inode, sorted. In the tree of a layer those for overlayfs are ours, and `act`.
pub(super) fn attributes<'a, H: FsVerityHashValue>(
    inodes: &Inodes<'a, H>,
    number: usize,
    act: bool,
) -> Vec<Attribute<'a, H>> {
    let node = &inodes.nodes[number];
    let mut found = Vec::new();
    match node {
        NumberedInode::Directory { holds_escaped, .. } => {
            if *holds_escaped {
                found.push(Attribute::bytes(XATTR_OVERLAY_WHITEOUTS, b""));
                found.push(Attribute::bytes(XATTR_USERXATTR_WHITEOUTS, b""));
                found.push(Attribute::bytes(XATTR_OVERLAY_OPAQUE, b"x"));
                found.push(Attribute::bytes(XATTR_USERXATTR_OPAQUE, b"x"));
            }
            if number == 0 {
                found.push(Attribute::bytes(XATTR_OVERLAY_OPAQUE_ROOT, b"y"));
            }
        }
        NumberedInode::Leaf { escaped, .. } => {
            if *escaped {
                found.push(Attribute::bytes(XATTR_OVERLAY_WHITEOUT, b""));
                found.push(Attribute::bytes(XATTR_USERXATTR_WHITEOUT, b""));
            }
            if let Some(LeafContent::Regular(RegularFile::External(digest, _))) = inodes.content(node) {
                found.push(Attribute::new(XATTR_OVERLAY_METACOPY, XattrValue::Metacopy(digest)));
                found.push(Attribute::new(XATTR_OVERLAY_REDIRECT, XattrValue::Redirect(digest)));
            }
        }
    }
    for (name, value) in &inodes.stat(node).xattrs {
        // An attribute for overlayfs that a layer brings is to be seen, not to act.
        found.push(match name.as_bytes().strip_prefix(XATTR_OVERLAY_PREFIX) {
            Some(rest) if !act => Attribute::bytes([XATTR_OVERLAY_ESCAPED_PREFIX, rest].concat(), value),
            _ => Attribute::bytes(name.as_bytes(), value),
        });
    }
    found.sort_by(Attribute::order);
    found
}

/// Digests of files, to find those that several have.
struct Digests<'i, 'a, H: FsVerityHashValue> {
    inodes: &'i Inodes<'a, H>,
    /// Numbers of inodes, one for each digest.
    seen: HashTable<u32>,
    keys: RandomState,
    twice: HashSet<&'a H>,
}

impl<'i, 'a, H: FsVerityHashValue> Digests<'i, 'a, H> {
    fn new(inodes: &'i Inodes<'a, H>) -> Self {
        Self { inodes, seen: HashTable::new(), keys: RandomState::new(), twice: HashSet::new() }
    }

    fn add(&mut self, number: usize, digest: &'a H) {
        let Self { inodes, seen, keys, twice } = self;
        let of = |number: &u32| match inodes.content(&inodes.nodes[*number as usize]) {
            Some(LeafContent::Regular(RegularFile::External(digest, _))) => Some(digest),
            _ => None,
        };
        let hash = |digest: Option<&H>| keys.hash_one(digest);
        match seen.find(hash(Some(digest)), |known| of(known) == Some(digest)) {
            Some(_) => _ = twice.insert(digest),
            None => _ = seen.insert_unique(hash(Some(digest)), number as u32, |known| hash(of(known))),
        }
    }
}

/// Attributes that more than one inode has, in the order in which they are written, and where each is.
pub(super) struct Shared<'a, H: FsVerityHashValue> {
    pub(super) table: Vec<Attribute<'a, H>>,
    places: HashMap<Attribute<'a, H>, usize>,
    /// Whether any inode has an access control list.
    pub(super) has_acl: bool,
}

impl<'a, H: FsVerityHashValue> Shared<'a, H> {
    pub(super) fn new(inodes: &Inodes<'a, H>, act: bool) -> Result<Self> {
        // Two attributes of each file follow from its digest: it is enough to look for that.
        let mut digests = Digests::new(inodes);
        let mut others: HashMap<Attribute<'a, H>, u32> = HashMap::new();
        let mut has_acl = false;
        for number in 0..inodes.nodes.len() {
            let found = attributes(inodes, number, act);
            if found.len() > usize::from(u8::MAX) {
                return Err(too_large("a file with more than 255 extended attributes"));
            }
            for attribute in found {
                if attribute.suffix.len() > usize::from(u8::MAX) || attribute.value_len() > usize::from(u16::MAX) {
                    return Err(too_large("an extended attribute that is too long for EROFS"));
                }
                has_acl |= attribute.is_acl();
                match attribute.value {
                    XattrValue::Metacopy(digest) => digests.add(number, digest),
                    XattrValue::Redirect(_) => {}
                    XattrValue::Bytes(_) => *others.entry(attribute).or_default() += 1,
                }
            }
        }
        let twice = digests.twice.into_iter().flat_map(|digest| {
            [
                (XATTR_OVERLAY_METACOPY, XattrValue::Metacopy(digest)),
                (XATTR_OVERLAY_REDIRECT, XattrValue::Redirect(digest)),
            ]
            .map(|(name, value)| Attribute::new(name, value))
        });
        let mut table: Vec<_> = twice.collect();
        table.extend(others.into_iter().filter(|(_, users)| *users > 1).map(|(attribute, _)| attribute));
        table.sort_by(|a, b| b.order(a));
        let places = table.iter().cloned().enumerate().map(|(place, attribute)| (attribute, place)).collect();
        Ok(Self { table, places, has_acl })
    }

    /// Splits the attributes of an inode: returns places of those that are shared, and the others.
    pub(super) fn split(&self, all: Vec<Attribute<'a, H>>) -> Split<'a, H> {
        let mut split = Split { filter: 0, shared: Vec::new(), own: Vec::new() };
        for attribute in all {
            split.filter |= attribute.bit();
            match self.places.get(&attribute) {
                Some(place) => split.shared.push(*place),
                None => split.own.push(attribute),
            }
        }
        split
    }
}

/// The attributes of one inode as they are written.
pub(super) struct Split<'a, H: FsVerityHashValue> {
    pub(super) filter: u32,
    pub(super) shared: Vec<usize>,
    pub(super) own: Vec<Attribute<'a, H>>,
}

impl<H: FsVerityHashValue> Split<'_, H> {
    /// Returns how many bytes they take in the inode.
    pub(super) fn size(&self) -> usize {
        match (self.shared.len(), self.own.len()) {
            (0, 0) => 0,
            (shared, _) => 12 + 4 * shared + self.own.iter().map(Attribute::size).sum::<usize>(),
        }
    }
}
