//! EROFS images of composefs format V1, byte for byte what C `mkcomposefs --min-version=1` and the composefs
//! crate write.
//!
//! The crate's writer copies the tree and keeps the attributes and directory entries of all inodes beside it:
//! a kilobyte and a half for a file, which for a million files is more than all the rest that we do. Here
//! whatever follows from the tree is made again for each of the two passes, the first of which finds where
//! everything goes.

use std::os::unix::ffi::OsStrExt;

use composefs::erofs::format::{
    BLOCK_BITS, COMPOSEFS_FLAGS_HAS_ACL, COMPOSEFS_MAGIC, COMPOSEFS_VERSION_V1, CompactInodeHeader, ComposefsHeader,
    DirectoryEntryHeader, ExtendedInodeHeader, FEATURE_COMPAT_MTIME, FEATURE_COMPAT_XATTR_FILTER, FileType,
    InodeLayout, InodeXAttrHeader, MAGIC_V1, Superblock, VERSION, XAttrHeader,
};
use composefs::fsverity::FsVerityHashValue;
use composefs::generic_tree::Stat;
use composefs::tree::{LeafContent, RegularFile};
use zerocopy::IntoBytes;

use super::content::{BLOCK, Body, Content};
use super::inodes::{Inodes, NumberedInode, add_stubs, too_large};
use super::xattrs::{Attribute, Shared, Split, attributes};
use crate::error::{Case, Refusal, Result};
use crate::image::file_tree::FileTree;
use crate::sys::scratch::{Scratch, ScratchWriter};

/// Inodes begin at multiples of this; their numbers count it (erofs_fs.h).
const SLOT: usize = 32;
/// The place of the first inode: behind the header of composefs and the superblock.
const FIRST_INODE: usize = 1024 + size_of::<Superblock>();

/// Writes `tree`. With the number `whiteout` it is the tree of a layer for a stack: character devices of that number
/// become 0:0, and they and the attributes for overlayfs act. Without it, both are escaped and only shown.
///
/// Only trees that are shown by themselves have the devices that V1 puts into the root: in a stack they would
/// hide what lower layers have under these names.
///
/// # Errors
/// [`Case::H06Entry`] for what EROFS cannot hold.
pub(super) fn write<H: FsVerityHashValue>(mut tree: FileTree<H>, whiteout: Option<u64>) -> Result<Scratch> {
    if whiteout.is_none() {
        add_stubs(&mut tree)?;
    }
    let inodes = Inodes::new(&tree)?;
    let shared = Shared::new(&inodes, whiteout.is_some())?;
    let time = inodes.nodes.iter().map(|node| time(inodes.stat(node))).min().unwrap_or_default();
    let mut image = ImageLayout { inodes, shared, time, whiteout, starts: Vec::new(), with_blocks: Vec::new() };
    let ends = image.layout()?;
    image.emit(ends)
}

/// Returns a time as it is stored and compared: seconds without a sign.
fn time(stat: &Stat) -> (u64, u32) {
    (stat.st_mtim_sec as u64, stat.st_mtim_nsec)
}

struct ImageLayout<'a, H: FsVerityHashValue> {
    inodes: Inodes<'a, H>,
    shared: Shared<'a, H>,
    /// The earliest time of all: inodes that have it can be compact.
    time: (u64, u32),
    whiteout: Option<u64>,
    /// Slot in which each inode begins: its number in directories.
    starts: Vec<u32>,
    /// Inodes that have separate blocks.
    with_blocks: Vec<usize>,
}

/// Where the parts of an image end, in bytes.
struct SectionEnds {
    inodes: usize,
    shared: usize,
    blocks: usize,
}

/// How an inode is written.
struct InodeForm<'a, H: FsVerityHashValue> {
    attributes: Split<'a, H>,
    content: Content<'a>,
    compact: bool,
    links: u32,
}

impl<H: FsVerityHashValue> InodeForm<'_, H> {
    fn head(&self) -> usize {
        head(self.compact) + self.attributes.size()
    }
}

fn head(compact: bool) -> usize {
    if compact { size_of::<CompactInodeHeader>() } else { size_of::<ExtendedInodeHeader>() }
}

impl<'a, H: FsVerityHashValue> ImageLayout<'a, H> {
    fn shape(&self, number: usize) -> Result<InodeForm<'a, H>> {
        let node = &self.inodes.nodes[number];
        let attributes = self.shared.split(attributes(&self.inodes, number, self.whiteout.is_some()));
        let (links, content) = match (node, self.inodes.content(node)) {
            (NumberedInode::Leaf { links, .. }, Some(content)) => {
                let inode = |size| head(self.compact(node, *links, size)) + attributes.size();
                let content = match content {
                    LeafContent::Regular(RegularFile::Inline(bytes)) => Content::inline(bytes),
                    LeafContent::Regular(RegularFile::External(_, size)) => Content::external(*size)?,
                    LeafContent::Symlink(target) => Content::symlink(target.as_bytes(), inode)?,
                    LeafContent::CharacterDevice(0) if *links > 1 => {
                        return Err(too_large("a device 0:0 with more than one name"));
                    }
                    LeafContent::CharacterDevice(device) if Some(*device) == self.whiteout => Content::nothing(0),
                    LeafContent::CharacterDevice(device) | LeafContent::BlockDevice(device) => Content::nothing(
                        u32::try_from(*device).map_err(|_| too_large("a device number of over 32 bits"))?,
                    ),
                    LeafContent::Fifo | LeafContent::Socket => Content::nothing(0),
                    LeafContent::Regular(RegularFile::ExternalNoVerity(..) | RegularFile::Sparse(_)) => {
                        return Err(Refusal::new(Case::Bug, "tree", "a file without a digest"));
                    }
                };
                (*links, content)
            }
            _ => {
                let names = self.inodes.names(number);
                let directory =
                    |(_, n): &&(&[u8], u32)| matches!(self.inodes.nodes[*n as usize], NumberedInode::Directory { .. });
                (names.iter().filter(directory).count() as u32, Content::directory(names)?)
            }
        };
        let compact = self.compact(node, links, content.size);
        Ok(InodeForm { attributes, content, compact, links })
    }

    /// Returns whether 32 bytes are enough for the inode.
    fn compact(&self, node: &NumberedInode, links: u32, size: u64) -> bool {
        let stat = self.inodes.stat(node);
        time(stat) == self.time
            && links <= u32::from(u16::MAX)
            && stat.st_uid <= u32::from(u16::MAX)
            && stat.st_gid <= u32::from(u16::MAX)
            && size <= u64::from(u32::MAX)
    }

    /// Finds where everything goes.
    fn layout(&mut self) -> Result<SectionEnds> {
        let mut at = FIRST_INODE;
        let mut blocks = 0;
        self.starts.reserve_exact(self.inodes.nodes.len());
        for number in 0..self.inodes.nodes.len() {
            let shape = self.shape(number)?;
            let symlink = matches!(self.inodes.file_type(&self.inodes.nodes[number]), FileType::Symlink);
            at = start(at, &shape, symlink);
            self.starts.push(u32::try_from(at / SLOT).map_err(|_| too_large("an image of more than 128 GiB"))?);
            at = (at + shape.head() + shape.content.tail).next_multiple_of(SLOT);
            if shape.content.blocks > 0 {
                blocks += shape.content.blocks;
                self.with_blocks.push(number);
            }
        }
        let inodes = at;
        let shared = inodes + self.shared.table.iter().map(Attribute::size).sum::<usize>();
        Ok(SectionEnds { inodes, shared, blocks: shared.next_multiple_of(BLOCK) + blocks * BLOCK })
    }

    fn emit(&self, ends: SectionEnds) -> Result<Scratch> {
        let mut out = ScratchWriter::new(ends.blocks);
        self.head(&ends, &mut out)?;
        // A place counts words from the block in which the inodes end.
        let mut at = ends.inodes % BLOCK;
        let mut places = Vec::with_capacity(self.shared.table.len());
        for attribute in &self.shared.table {
            places.push(u32::try_from(at / 4).map_err(|_| too_large("too many shared attributes"))?);
            at += attribute.size();
        }
        let mut block = ends.shared.div_ceil(BLOCK);
        for number in 0..self.inodes.nodes.len() {
            out.zeros_to(self.starts[number] as usize * SLOT);
            let shape = self.shape(number)?;
            self.inode(number, &shape, block as u32, &places, &mut out);
            block += shape.content.blocks;
        }
        out.zeros_to(ends.inodes);
        self.shared.table.iter().for_each(|attribute| put_attribute(attribute, &mut out));
        for number in &self.with_blocks {
            out.zeros_to(out.size().next_multiple_of(BLOCK));
            self.blocks(&self.shape(*number)?.content, &mut out);
        }
        out.zeros_to(out.size().next_multiple_of(BLOCK));
        if out.size() != ends.blocks {
            return Err(Refusal::new(Case::Bug, "EROFS image", "it is not as long as it was to be"));
        }
        out.finish().map_err(|e| Refusal::io("EROFS image", e))
    }

    fn head(&self, ends: &SectionEnds, out: &mut ScratchWriter) -> Result<()> {
        let header = ComposefsHeader {
            magic: COMPOSEFS_MAGIC,
            version: VERSION,
            flags: if self.shared.has_acl { COMPOSEFS_FLAGS_HAS_ACL } else { 0.into() },
            composefs_version: COMPOSEFS_VERSION_V1,
            ..ComposefsHeader::default()
        };
        out.extend_from_slice(header.as_bytes());
        out.zeros_to(1024);
        let blocks = u32::try_from(ends.blocks / BLOCK).map_err(|_| too_large("an image of more than 16 TiB"))?;
        let superblock = Superblock {
            magic: MAGIC_V1,
            blkszbits: BLOCK_BITS,
            feature_compat: (FEATURE_COMPAT_MTIME | FEATURE_COMPAT_XATTR_FILTER).into(),
            root_nid: (self.starts[0] as u16).into(),
            inos: (self.inodes.nodes.len() as u64).into(),
            blocks: blocks.into(),
            build_time: self.time.0.into(),
            build_time_nsec: self.time.1.into(),
            xattr_blkaddr: ((ends.inodes / BLOCK) as u32).into(),
            ..Superblock::default()
        };
        out.extend_from_slice(superblock.as_bytes());
        Ok(())
    }

    /// Writes the inode with what it holds itself; `block` is where its blocks begin, if it has any.
    fn inode(&self, number: usize, shape: &InodeForm<'_, H>, block: u32, places: &[u32], out: &mut ScratchWriter) {
        let node = &self.inodes.nodes[number];
        let (stat, content) = (self.inodes.stat(node), &shape.content);
        let mode = self.inodes.file_type(node) | stat.st_mode;
        let value = if content.blocks > 0 { block } else { content.value };
        // The header counts as one word, whatever its size.
        let words = match shape.attributes.size() {
            0 => 0,
            bytes => (1 + (bytes - size_of::<InodeXAttrHeader>()) / 4) as u16,
        };
        if shape.compact {
            let inode = CompactInodeHeader {
                format: InodeLayout::Compact | content.layout,
                xattr_icount: words.into(),
                mode,
                nlink: (shape.links as u16).into(),
                size: (content.size as u32).into(),
                u: value.into(),
                ino: (number as u32).into(),
                uid: (stat.st_uid as u16).into(),
                gid: (stat.st_gid as u16).into(),
                ..CompactInodeHeader::default()
            };
            out.extend_from_slice(inode.as_bytes());
        } else {
            let inode = ExtendedInodeHeader {
                format: InodeLayout::Extended | content.layout,
                xattr_icount: words.into(),
                mode,
                size: content.size.into(),
                u: value.into(),
                ino: (number as u32).into(),
                uid: stat.st_uid.into(),
                gid: stat.st_gid.into(),
                mtime: time(stat).0.into(),
                mtime_nsec: stat.st_mtim_nsec.into(),
                nlink: shape.links.into(),
                ..ExtendedInodeHeader::default()
            };
            out.extend_from_slice(inode.as_bytes());
        }
        put_attributes(&shape.attributes, places, out);
        self.tail(content, out);
    }

    fn tail(&self, content: &Content<'_>, out: &mut ScratchWriter) {
        match &content.body {
            Body::Nothing => {}
            Body::Bytes(bytes) => out.extend_from_slice(&bytes[bytes.len() - content.tail..]),
            Body::Chunk => out.extend_from_slice(&[0xff; 4][..content.tail]),
            Body::Names(names, blocks) => self.names(&names[blocks.iter().sum()..], out),
        }
    }

    fn blocks(&self, content: &Content<'_>, out: &mut ScratchWriter) {
        match &content.body {
            Body::Nothing | Body::Chunk => {}
            Body::Bytes(bytes) => out.extend_from_slice(&bytes[..bytes.len() - content.tail]),
            Body::Names(names, blocks) => {
                let mut rest = names.as_slice();
                for held in blocks {
                    let (these, others) = rest.split_at(*held);
                    out.zeros_to(out.size().next_multiple_of(BLOCK));
                    self.names(these, out);
                    rest = others;
                }
            }
        }
    }

    /// Writes a block of a directory: fixed parts, then names.
    fn names(&self, names: &[(&[u8], u32)], out: &mut ScratchWriter) {
        let mut at = size_of::<DirectoryEntryHeader>() * names.len();
        for (name, number) in names {
            let number = *number as usize;
            let entry = DirectoryEntryHeader {
                inode_offset: u64::from(self.starts[number]).into(),
                name_offset: (at as u16).into(),
                file_type: self.inodes.file_type(&self.inodes.nodes[number]).into(),
                ..DirectoryEntryHeader::default()
            };
            out.extend_from_slice(entry.as_bytes());
            at += name.len();
        }
        names.iter().for_each(|(name, _)| out.extend_from_slice(name));
    }
}

/// Returns where an inode begins that could begin at `at`: its tail must not lie across the end of a block, and kernels
/// before 6.12 do not read a symlink of which any part does.
fn start<H: FsVerityHashValue>(at: usize, shape: &InodeForm<'_, H>, symlink: bool) -> usize {
    let content = &shape.content;
    let (head, tail) = (shape.head(), content.tail);
    if symlink {
        // The inode counts with its target, even where that has been moved to a block.
        let whole = head + content.size as usize;
        return if at % BLOCK + whole > BLOCK { at.next_multiple_of(BLOCK) } else { at };
    }
    let left = (at + head).next_multiple_of(BLOCK) - (at + head);
    if left > 0 && left < tail { at + left.next_multiple_of(SLOT) } else { at }
}

fn put_attributes<H: FsVerityHashValue>(split: &Split<'_, H>, places: &[u32], out: &mut ScratchWriter) {
    if split.size() == 0 {
        return;
    }
    let header = InodeXAttrHeader {
        name_filter: (!split.filter).into(),
        shared_count: split.shared.len() as u8,
        ..InodeXAttrHeader::default()
    };
    out.extend_from_slice(header.as_bytes());
    split.shared.iter().for_each(|place| out.extend_from_slice(&places[*place].to_le_bytes()));
    split.own.iter().for_each(|attribute| put_attribute(attribute, out));
}

fn put_attribute<H: FsVerityHashValue>(attribute: &Attribute<'_, H>, out: &mut ScratchWriter) {
    let header = XAttrHeader {
        name_len: attribute.suffix.len() as u8,
        name_index: attribute.prefix,
        value_size: (attribute.value_len() as u16).into(),
    };
    out.extend_from_slice(header.as_bytes());
    out.extend_from_slice(&attribute.suffix);
    attribute.write_value(out);
    out.zeros_to(out.size().next_multiple_of(4));
}
