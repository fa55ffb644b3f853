//! The objects that an EROFS image names. Its inodes are looked at one by one, and checked as the reader of the composefs
//! crate checks them, whose tree of a million files takes a quarter of a gigabyte.

use std::collections::{HashMap, HashSet};
use std::error::Error;
use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt as _;

use composefs::erofs::composefs::OverlayMetacopy;
use composefs::erofs::format::{
    COMPOSEFS_VERSION, DataLayout, S_IFBLK, S_IFCHR, S_IFIFO, S_IFLNK, S_IFMT, S_IFREG, S_IFSOCK,
    XATTR_OVERLAY_WHITEOUT, XATTR_PREFIXES,
};
use composefs::erofs::reader::{
    DirectoryBlock, ErofsReaderError, Image as ErofsImage, InodeHeader as _, InodeOps as _, InodeType, XAttr,
};
use composefs::fsverity::{FsVerityHashValue, Sha256HashValue, Sha512HashValue};
use composefs::{MAX_INLINE_CONTENT, SYMLINK_MAX};
use zerocopy::FromBytes as _;

use crate::digest::{Algorithm, VerityDigest};
use crate::error::{Case, Refusal, Result};
use crate::oci::Budget;
use crate::sys::scratch::Scratch;

#[cfg(test)]
mod tests;

/// After how many bytes of the image the memory that they take is given back.
const GIVEN_BACK: usize = 16 << 20;

/// The number of the prefix `trusted.`.
const TRUSTED: u8 = 4;

/// Why the bytes are not an image that composefs makes.
type Fault = Box<dyn Error + Send + Sync>;
type Checked<T> = std::result::Result<T, Fault>;

/// Lists the objects that an EROFS image refers to, with their sizes, sorted. The bytes may be an attacker's.
///
/// # Errors
/// [`Case::H09Erofs`].
pub fn objects(image: &Scratch, algorithm: Algorithm) -> Result<Vec<(VerityDigest, u64)>> {
    match algorithm {
        Algorithm::Sha256 => named::<Sha256HashValue>(image, algorithm),
        Algorithm::Sha512 => named::<Sha512HashValue>(image, algorithm),
    }
}

fn named<H: FsVerityHashValue>(image: &Scratch, algorithm: Algorithm) -> Result<Vec<(VerityDigest, u64)>> {
    let mut found = Vec::new();
    check::<H>(image, &|| image.forget(), &mut |id, size| {
        found.push((VerityDigest::new(algorithm, id.as_bytes()).ok_or("the size of a digest")?, size));
        Ok(())
    })?;
    found.sort_unstable();
    found.dedup();
    Ok(found)
}

/// Checks every inode of an EROFS image of any composefs format version. `take` gets the object of each file that has
/// one, and its size; `forget` is called when much of the image was looked at.
///
/// No directory can be reached in two ways: the reader of the composefs crate follows every way, and sixty directories
/// that each hold the next one twice would keep it busy for ever.
///
/// # Errors
/// [`Case::H09Erofs`].
pub(super) fn check<H: FsVerityHashValue>(
    image: &[u8],
    forget: &dyn Fn(),
    take: &mut dyn FnMut(&H, u64) -> Checked<()>,
) -> Result<()> {
    if image.is_empty() || !image.len().is_multiple_of(4096) {
        return Err(Refusal::new(Case::H09Erofs, "image", format!("{} bytes are no multiple of 4096", image.len())));
    }
    walk(image, forget, take).map_err(|fault| Refusal::new(Case::H09Erofs, "image", fault))
}

fn walk<H: FsVerityHashValue>(
    image: &[u8],
    forget: &dyn Fn(),
    take: &mut dyn FnMut(&H, u64) -> Checked<()>,
) -> Checked<()> {
    let image = &ErofsImage::open(image)?.restrict_to_composefs()?;
    let (seen, links, todo) = (HashSet::new(), HashMap::new(), Vec::new());
    InodeWalk { image, forget, take, seen, links, todo, looked_at: 0 }.all()
}

/// A directory that is to be looked at.
struct FoundDirectory {
    nid: u64,
    parent: u64,
    depth: usize,
}

/// How many names a file has.
struct Names {
    claimed: u32,
    found: u32,
}

/// A walk through all inodes that can be reached.
struct InodeWalk<'a, H> {
    image: &'a ErofsImage<'a>,
    forget: &'a dyn Fn(),
    take: &'a mut dyn FnMut(&H, u64) -> Checked<()>,
    /// The directories that were found so far.
    seen: HashSet<u64>,
    /// Files that do not claim to have one name.
    links: HashMap<u64, Names>,
    todo: Vec<FoundDirectory>,
    /// How many bytes were looked at since memory was given back.
    looked_at: usize,
}

impl<H: FsVerityHashValue> InodeWalk<'_, H> {
    fn all(mut self) -> Checked<()> {
        let nid = u64::from(self.image.sb.root_nid.get());
        has_known_attributes(self.image, &self.image.inode(nid)?)?;
        self.add(FoundDirectory { nid, parent: nid, depth: 0 })?;
        while let Some(directory) = self.todo.pop() {
            self.directory(&directory)?;
        }
        match self.links.iter().find(|(_, names)| names.claimed != names.found) {
            Some((nid, Names { claimed, found })) => {
                Err(format!("inode {nid} has {found} names, not {claimed}").into())
            }
            None => Ok(()),
        }
    }

    fn add(&mut self, directory: FoundDirectory) -> Checked<()> {
        if !self.seen.insert(directory.nid) {
            return Err(format!("directory {} has two names", directory.nid).into());
        }
        if directory.depth > Budget::STANDARD.depth {
            return Err("its directories are too deep".into());
        }
        self.todo.push(directory);
        Ok(())
    }

    fn directory(&mut self, directory: &FoundDirectory) -> Checked<()> {
        let image = self.image;
        let inode = image.inode(directory.nid)?;
        let whole = image.inode_blocks(&inode)?.map(|number| image.directory_block(number));
        let tail = inode.inline().map(|bytes| DirectoryBlock::ref_from_bytes(bytes));
        let tail = tail.map(|block| block.map_err(|_| ErofsReaderError::OutOfBounds));
        let (mut own, mut parent, mut subdirectories) = (None, None, 0_u32);
        let mut last: Option<&[u8]> = None;
        for block in whole.chain(tail) {
            let block = block?;
            self.count(block.0.len());
            for entry in block.entries()? {
                let entry = entry?;
                // The kernel searches by halves: a name out of order would be listed and could not be opened.
                if last.is_some_and(|last| last >= entry.name) {
                    return Err(ErofsReaderError::DuplicateEntry(OsStr::from_bytes(entry.name).into()).into());
                }
                last = Some(entry.name);
                match entry.name {
                    b"." => own = Some(entry.nid()),
                    b".." => parent = Some(entry.nid()),
                    name => subdirectories += u32::from(self.child(directory, name, entry.nid())?),
                }
            }
        }
        if own != Some(directory.nid) {
            return Err(ErofsReaderError::InvalidSelfReference.into());
        }
        if parent != Some(directory.parent) {
            return Err(ErofsReaderError::InvalidParentReference.into());
        }
        // Its name, its own entry, and that for the parent in each directory beneath.
        match subdirectories.checked_add(2) {
            Some(links) if links == inode.nlink() => Ok(()),
            _ => {
                Err(format!("directory {} has {} links, not {subdirectories} + 2", directory.nid, inode.nlink()).into())
            }
        }
    }

    /// Looks at what a name in a directory stands for, and returns whether that is a directory.
    fn child(&mut self, directory: &FoundDirectory, name: &[u8], nid: u64) -> Checked<bool> {
        let image = self.image;
        let inode = &image.inode(nid)?;
        self.count(match inode {
            InodeType::Compact(inode) => size_of_val(*inode),
            InodeType::Extended(inode) => size_of_val(*inode),
        });
        if inode.mode().is_dir() {
            has_known_attributes(image, inode)?;
            self.add(FoundDirectory { nid, parent: directory.nid, depth: directory.depth + 1 })?;
            return Ok(true);
        }
        // Every image has these 256 in its root, and containers do not see them.
        let in_root = directory.nid == u64::from(image.sb.root_nid.get());
        let escaped = is_escaped_whiteout(image, inode)?;
        let is_of_format = in_root && name.len() == 2 && name.iter().all(u8::is_ascii_hexdigit);
        if is_of_format && (escaped || inode.is_whiteout()) {
            return Ok(false);
        }
        match self.links.get_mut(&nid) {
            Some(names) => names.found = names.found.saturating_add(1),
            None => {
                self.file(inode, escaped).map_err(|fault| format!("{:?}: {fault}", OsStr::from_bytes(name)))?;
                if inode.nlink() != 1 {
                    self.links.insert(nid, Names { claimed: inode.nlink(), found: 1 });
                }
            }
        }
        Ok(false)
    }

    /// Looks at what is not a directory.
    fn file(&mut self, inode: &InodeType<'_>, escaped: bool) -> Checked<()> {
        let image = self.image;
        has_known_attributes(image, inode)?;
        if inode.nlink() > 1 && (escaped || inode.is_whiteout()) {
            return Err("a whiteout with several names".into());
        }
        // The crate takes no more in images of the newest format version, which only it writes.
        let strict = image.header.composefs_version == COMPOSEFS_VERSION;
        match inode.mode().0.get() & S_IFMT {
            S_IFREG if escaped => Ok(()),
            S_IFREG => match object::<H>(image, inode)? {
                Some(id) => (self.take)(&id, inode.size()),
                None if is_redirected::<H>(image, inode)? || inode.data_layout()? == DataLayout::ChunkBased => Ok(()),
                None if strict && inode.size() > MAX_INLINE_CONTENT as u64 => {
                    Err(format!("a file of {} bytes in the image", inode.size()).into())
                }
                None => content_size(image, inode).map(drop),
            },
            S_IFLNK => match content_size(image, inode)? {
                size if strict && size > SYMLINK_MAX => Err(format!("a symbolic link of {size} bytes").into()),
                _ => Ok(()),
            },
            S_IFBLK | S_IFCHR | S_IFIFO | S_IFSOCK => Ok(()),
            other => Err(format!("unknown file type {other:#o}").into()),
        }
    }

    fn count(&mut self, bytes: usize) {
        self.looked_at += bytes;
        if self.looked_at > GIVEN_BACK {
            self.looked_at = 0;
            (self.forget)();
        }
    }
}

/// Does `each` with every extended attribute of an inode, those that it shares first, until it returns something.
fn find_attribute<T>(
    image: &ErofsImage<'_>,
    inode: &InodeType<'_>,
    each: impl Fn(&XAttr) -> Checked<Option<T>>,
) -> Checked<Option<T>> {
    let Some(attributes) = inode.xattrs()? else { return Ok(None) };
    for place in attributes.shared()? {
        if let found @ Some(_) = each(image.shared_xattr(place.get())?)? {
            return Ok(found);
        }
    }
    for attribute in attributes.local()? {
        if let found @ Some(_) = each(attribute?)? {
            return Ok(found);
        }
    }
    Ok(None)
}

fn prefix(attribute: &XAttr) -> Checked<&'static [u8]> {
    let number = attribute.header.name_index;
    let prefix = XATTR_PREFIXES.get(usize::from(number)).copied();
    prefix.ok_or_else(|| format!("an extended attribute with prefix {number}").into())
}

/// Checks that all attributes of an inode can be read.
fn has_known_attributes(image: &ErofsImage<'_>, inode: &InodeType<'_>) -> Checked<()> {
    find_attribute(image, inode, |attribute| {
        prefix(attribute)?;
        attribute.suffix()?;
        attribute.value()?;
        Ok(None::<()>)
    })?;
    Ok(())
}

/// Returns whether the file is how the format shows a device 0:0 of a layer.
fn is_escaped_whiteout(image: &ErofsImage<'_>, inode: &InodeType<'_>) -> Checked<bool> {
    if inode.mode().0.get() & S_IFMT != S_IFREG {
        return Ok(false);
    }
    let found = find_attribute(image, inode, |attribute| {
        let suffix = XATTR_OVERLAY_WHITEOUT.strip_prefix(prefix(attribute)?);
        Ok((suffix == Some(attribute.suffix()?)).then_some(()))
    })?;
    Ok(found.is_some())
}

/// Returns the object that the file's content is.
fn object<H: FsVerityHashValue>(image: &ErofsImage<'_>, inode: &InodeType<'_>) -> Checked<Option<H>> {
    find_attribute(image, inode, |attribute| {
        let value = attribute.value()?;
        if attribute.header.name_index != TRUSTED || attribute.suffix()? != b"overlay.metacopy" || value.is_empty() {
            return Ok(None);
        }
        match OverlayMetacopy::<H>::read_from_bytes(value) {
            Ok(value) if value.valid() => Ok(Some(value.digest)),
            _ => Err("a digest of another form".into()),
        }
    })
}

/// Returns whether the file names an object without its digest.
fn is_redirected<H: FsVerityHashValue>(image: &ErofsImage<'_>, inode: &InodeType<'_>) -> Checked<bool> {
    let found = find_attribute(image, inode, |attribute| {
        if attribute.header.name_index != TRUSTED || attribute.suffix()? != b"overlay.redirect" {
            return Ok(None);
        }
        let value = attribute.value()?;
        Ok(H::from_object_pathname(value.strip_prefix(b"/").unwrap_or(value)).ok())
    })?;
    Ok(found.is_some())
}

/// Returns how many bytes of content are in the image itself, as many as the inode says; they are all there.
fn content_size(image: &ErofsImage<'_>, inode: &InodeType<'_>) -> Checked<usize> {
    let size = usize::try_from(inode.size()).unwrap_or(usize::MAX).min(image.image.len());
    if size == 0 {
        return Ok(0);
    }
    let blocks = image.inode_blocks(inode)?;
    let tail = inode.inline().map_or(0, <[u8]>::len);
    Ok(size.min((blocks.end - blocks.start) as usize * image.block_size + tail))
}
