//! What an inode of an EROFS image holds, and where that is written: with the inode, or in separate blocks.

use composefs::erofs::format::{BLOCK_BITS, BLOCK_SIZE, DataLayout, DirectoryEntryHeader};

use super::inodes::too_large;
use crate::error::Result;

pub(super) const BLOCK: usize = BLOCK_SIZE as usize;

/// The content that follows an inode, or that the inode points to.
pub(super) struct Content<'a> {
    pub(super) layout: DataLayout,
    pub(super) size: u64,
    pub(super) body: Body<'a>,
    /// Number of its blocks.
    pub(super) blocks: usize,
    /// Bytes in the inode.
    pub(super) tail: usize,
    /// The inode's `i_u`, where it is not the address of its first block.
    pub(super) value: u32,
}

pub(super) enum Body<'a> {
    Nothing,
    Bytes(&'a [u8]),
    /// One chunk that is not in the image.
    Chunk,
    /// The entries of a directory, and how many of them each of its blocks has.
    Names(Vec<(&'a [u8], u32)>, Vec<usize>),
}

impl<'a> Content<'a> {
    pub(super) fn nothing(value: u32) -> Self {
        Self { layout: DataLayout::FlatPlain, size: 0, body: Body::Nothing, blocks: 0, tail: 0, value }
    }

    /// Makes the content of a small file. A tail of more than half a block gets a block.
    pub(super) fn inline(bytes: &'a [u8]) -> Self {
        let half = bytes.len() % BLOCK > BLOCK / 2;
        let tail = if half { 0 } else { bytes.len() % BLOCK };
        let layout = if tail > 0 { DataLayout::FlatInline } else { DataLayout::FlatPlain };
        let blocks = bytes.len() / BLOCK + usize::from(half);
        Self { layout, size: bytes.len() as u64, body: Body::Bytes(bytes), blocks, tail, value: 0 }
    }

    /// Makes the content of a symlink. It stays with the inode if there is room for both in a block.
    pub(super) fn symlink(target: &'a [u8], inode: impl Fn(u64) -> usize) -> Result<Self> {
        if target.len() > BLOCK {
            return Err(too_large("a symbolic link that is longer than a block"));
        }
        let size = target.len() as u64;
        let apart = inode(size) + target.len() >= BLOCK;
        let (layout, blocks, tail) =
            if apart { (DataLayout::FlatPlain, 1, 0) } else { (DataLayout::FlatInline, 0, target.len()) };
        Ok(Self { layout, size, body: Body::Bytes(target), blocks, tail, value: 0 })
    }

    /// Makes the content of a file that is an object: one chunk for the whole file. The format has 31 for the largest,
    /// which is more than we take.
    pub(super) fn external(size: u64) -> Result<Self> {
        let bits = (64 - size.saturating_sub(1).leading_zeros()).max(u32::from(BLOCK_BITS));
        let value = bits - u32::from(BLOCK_BITS);
        if value > 31 {
            return Err(too_large("a file of more than 8 TiB"));
        }
        let tail = if size > 0 { 4 } else { 0 };
        Ok(Self { layout: DataLayout::ChunkBased, size, body: Body::Chunk, blocks: 0, tail, value })
    }

    pub(super) fn directory(names: Vec<(&'a [u8], u32)>) -> Result<Self> {
        let mut blocks = Vec::new();
        let (mut held, mut bytes) = (0, 0);
        for (name, _) in &names {
            let more = size_of::<DirectoryEntryHeader>() + name.len();
            if more > BLOCK {
                return Err(too_large("a name that is longer than a block"));
            }
            if bytes + more > BLOCK {
                blocks.push(std::mem::take(&mut held));
                bytes = 0;
            }
            held += 1;
            bytes += more;
        }
        if bytes > BLOCK / 2 {
            blocks.push(held);
            bytes = 0;
        }
        let layout = if bytes > 0 { DataLayout::FlatInline } else { DataLayout::FlatPlain };
        let (size, count) = ((BLOCK * blocks.len() + bytes) as u64, blocks.len());
        Ok(Self { layout, size, body: Body::Names(names, blocks), blocks: count, tail: bytes, value: 0 })
    }
}
