use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;

use composefs::generic_tree::Stat;
use tar_core::parse::ParsedEntry;
use tar_core::{EntryType, PaxExtensions, SparseEntry};

use crate::digest::VerityDigest;
use crate::error::{Case, Refusal, Result};
use crate::oci::Budget;

/// One entry of a layer, canonical: the only view of a tar that anything behind this file has
/// (CVE-2025 class: seal and mount must use the same view).
#[derive(Clone, Debug)]
pub struct TarEntry {
    /// Components joined by `/`, neither leading nor trailing; empty for the root.
    pub path: Box<[u8]>,
    /// What the entry is.
    pub kind: EntryKind,
    /// Mode (permission bits only), owner, mtime and all extended attributes of the tar.
    pub stat: Stat,
    /// Why composefs' importers refuse it; `None` where they do not. If they do, the image has no merged tree.
    pub beyond: Option<&'static str>,
}

impl TarEntry {
    /// Estimates how many bytes of memory the entry takes.
    pub(super) fn weight(&self) -> u64 {
        let own = match &self.kind {
            EntryKind::Inline(bytes) | EntryKind::Hardlink(bytes) | EntryKind::Symlink(bytes) => bytes.len(),
            _ => 0,
        };
        let xattrs: usize = self.stat.xattrs.iter().map(|(name, value)| name.len() + value.len() + 64).sum();
        (256 + self.path.len() + own + xattrs) as u64
    }
}

/// What an entry of a layer is.
#[derive(Clone, Debug)]
pub enum EntryKind {
    /// A directory.
    Directory,
    /// The root, by another name than `.`: podman gives it these metadata while it unpacks. They do not show, but
    /// directories that are made in it inherit from them.
    Root,
    /// A regular file of at most 64 bytes, kept in the EROFS image.
    Inline(Box<[u8]>),
    /// A regular file of more than 64 bytes, kept as an object.
    External(VerityDigest, u64),
    /// Another name for the non-directory at this path.
    Hardlink(Box<[u8]>),
    /// A symbolic link to this target.
    Symlink(Box<[u8]>),
    /// A character device of this number (Linux `makedev`).
    CharacterDevice(u64),
    /// A block device of this number.
    BlockDevice(u64),
    /// A named pipe.
    Fifo,
    /// `.wh.NAME`: what is at `path` so far is removed (image-spec, layer.md, "Whiteouts").
    Whiteout,
    /// `.wh..wh..opq`: what is beneath `path` so far is removed ("Opaque Whiteout").
    Opaque,
}

/// The part of an entry that its header gives; a regular file's content follows.
pub(super) enum Head {
    Complete(TarEntry),
    /// A regular file: an entry whose kind is still to be filled in, and the bytes of its content.
    File(TarEntry, u64),
    /// An entry whose content is skipped: a whiteout with bytes in it.
    Skip {
        entry: TarEntry,
        size: u64,
    },
}

/// Turns a parsed header into an entry.
///
/// # Errors
/// H03–H06: paths, whiteouts, attributes and types that cannot be sealed.
pub(super) fn head(parsed: &ParsedEntry<'_>, budget: &Budget) -> Result<Head> {
    let shown = String::from_utf8_lossy(&parsed.path).into_owned();
    let refuse = |case, why: &str| Refusal::new(case, shown.clone(), why);
    let (path, mut beyond) = canonical(&parsed.path, budget).map_err(|(case, why)| refuse(case, why))?;
    let (stat, early) = stat(parsed, &shown)?;
    beyond = beyond.or(early);
    // As in Go's reader, and so in podman: only a file has content, whatever the size says.
    let entry_type = file_type(parsed);
    let content = matches!(entry_type, EntryType::Regular | EntryType::Continuous);
    let size = parsed.size;
    if !content && size != 0 {
        // Readers differ on whether content follows such a header: GNU tar and Go say no, others skip it.
        beyond = beyond.or(Some("content after an entry that is no regular file"));
    }
    let marker = whiteout(&path).map_err(|why| refuse(Case::H04Whiteout, why))?;
    let name = marker.as_ref().map_or(&path, |(path, _)| path);
    if name.split(|b| *b == b'/').any(|part| part.len() > 255) {
        return Err(refuse(Case::H06Entry, "a name longer than 255 bytes"));
    }
    if let Some((path, kind)) = marker {
        let entry = TarEntry { path, kind, stat, beyond };
        return Ok(if content { Head::Skip { entry, size } } else { Head::Complete(entry) });
    }
    let kind = match entry_type {
        EntryType::Regular => {
            if path.is_empty() {
                return Err(refuse(Case::H03Path, "the root is a file"));
            }
            if parsed.path.ends_with(b"/") {
                beyond = beyond.or(Some("a file whose name ends in a slash"));
            }
            return Ok(Head::File(TarEntry { path, kind: EntryKind::Inline(Box::default()), stat, beyond }, size));
        }
        EntryType::Directory => {
            if parsed.entry_type != EntryType::Directory {
                beyond = beyond.or(Some("a file whose name ends in a slash"));
            }
            if path.is_empty() && !is_dot(&parsed.path) { EntryKind::Root } else { EntryKind::Directory }
        }
        EntryType::Link => {
            let target = link_target(parsed).ok_or_else(|| refuse(Case::H06Entry, "a hard link to nothing"))?;
            let (target, outside) = canonical(target, budget).map_err(|(case, why)| refuse(case, why))?;
            beyond = beyond.or(outside);
            EntryKind::Hardlink(target)
        }
        EntryType::Symlink => EntryKind::Symlink(symlink(parsed).map_err(|why| refuse(Case::H06Entry, why))?),
        EntryType::Char => EntryKind::CharacterDevice(device(parsed).map_err(|why| refuse(Case::H06Entry, why))?),
        EntryType::Block => EntryKind::BlockDevice(device(parsed).map_err(|why| refuse(Case::H06Entry, why))?),
        EntryType::Fifo => EntryKind::Fifo,
        other => return Err(refuse(Case::H06Entry, &format!("entry type {:?}", char::from(other.to_byte())))),
    };
    if path.is_empty() && !matches!(kind, EntryKind::Directory | EntryKind::Root) {
        return Err(refuse(Case::H03Path, "the root is no directory"));
    }
    Ok(Head::Complete(TarEntry { path, kind, stat, beyond }))
}

/// Returns whether Go's `filepath.Clean` makes `.` of the name of a root.
fn is_dot(path: &[u8]) -> bool {
    let mut depth = 0_usize;
    !path.starts_with(b"/")
        && path.split(|b| *b == b'/').all(|part| {
            match part {
                b"" | b"." => {}
                b".." if depth == 0 => return false,
                b".." => depth -= 1,
                _ => depth += 1,
            }
            true
        })
}

/// Returns the type of an entry. Where the header's type is NUL, a slash at the end of the name makes a directory
/// (archive/tar, "Legacy archives").
fn file_type(parsed: &ParsedEntry<'_>) -> EntryType {
    const TYPE: usize = 156;
    match parsed.entry_type {
        EntryType::Regular if parsed.header.as_bytes()[TYPE] == 0 && parsed.path.ends_with(b"/") => {
            EntryType::Directory
        }
        other => other,
    }
}

fn link_target<'a>(parsed: &'a ParsedEntry<'_>) -> Option<&'a [u8]> {
    parsed.link_target.as_deref()
}

fn symlink(parsed: &ParsedEntry<'_>) -> std::result::Result<Box<[u8]>, &'static str> {
    let target = link_target(parsed).ok_or("a symbolic link to nothing")?;
    if target.contains(&0) {
        return Err("a NUL in the link target");
    }
    // PATH_MAX with its NUL: symlink(2) gives ENAMETOOLONG beyond.
    if target.len() > 4095 {
        return Err("a link target longer than 4095 bytes");
    }
    Ok(target.into())
}

/// Encodes a device number as Linux does, in 32 bits: 12 bits major, 20 bits minor.
fn device(parsed: &ParsedEntry<'_>) -> std::result::Result<u64, &'static str> {
    let (major, minor) = (parsed.dev_major.unwrap_or(0), parsed.dev_minor.unwrap_or(0));
    if major > 0xfff || minor > 0xf_ffff {
        return Err("a device number outside 12 bits major and 20 bits minor");
    }
    Ok(rustix::fs::makedev(major, minor))
}

/// A path, and why composefs' importers refuse it, where they do.
type Cleaned = (Box<[u8]>, Option<&'static str>);

/// Drops leading and trailing slashes and `.` parts; `..` goes up, inside the root, as podman cleans names before it
/// looks at the disk. The second value says so where composefs' importers refuse the path.
pub(super) fn canonical(path: &[u8], budget: &Budget) -> std::result::Result<Cleaned, EntryFault> {
    let mut out: Vec<u8> = Vec::with_capacity(path.len());
    let mut beyond = None;
    let mut depth = 0;
    if path.contains(&0) {
        return Err((Case::H03Path, "a NUL in the path"));
    }
    for part in path.split(|b| *b == b'/') {
        match part {
            b"" | b"." => continue,
            b".." => {
                beyond = Some("the path holds ..");
                out.truncate(out.iter().rposition(|b| *b == b'/').unwrap_or(0));
                depth = usize::saturating_sub(depth, 1);
                continue;
            }
            // The name of a whiteout is longer than the name that it takes away.
            _ if part.len() > 255 + b".wh.".len() => return Err((Case::H06Entry, "a name longer than 255 bytes")),
            _ => {}
        }
        if !out.is_empty() {
            out.push(b'/');
        }
        out.extend_from_slice(part);
        depth += 1;
    }
    if depth > budget.depth || out.len() > 4095 {
        return Err((Case::H06Entry, "a path longer than 4095 bytes"));
    }
    Ok((out.into(), beyond))
}

type Marker = Option<(Box<[u8]>, EntryKind)>;

fn whiteout(path: &[u8]) -> std::result::Result<Marker, &'static str> {
    let (parent, name) = match path.iter().rposition(|b| *b == b'/') {
        Some(at) => (&path[..at], &path[at + 1..]),
        None => (&path[..0], path),
    };
    let Some(victim) = name.strip_prefix(b".wh.") else { return Ok(None) };
    match victim {
        b".wh..opq" => Ok(Some((parent.into(), EntryKind::Opaque))),
        b"" => Err("a whiteout of nothing"),
        b"." | b".." => Err("a whiteout of . or .."),
        _ if parent.is_empty() => Ok(Some((victim.into(), EntryKind::Whiteout))),
        _ => Ok(Some(([parent, b"/", victim].concat().into(), EntryKind::Whiteout))),
    }
}

/// Reads the metadata of an entry; the second value says why composefs does not take them, where it does not.
fn stat(parsed: &ParsedEntry<'_>, shown: &str) -> Result<(Stat, Option<&'static str>)> {
    let refuse = |case, why: &str| Refusal::new(case, shown, why);
    let id = |n: u64| u32::try_from(n).map_err(|_| refuse(Case::H06Entry, "an owner beyond 32 bits"));
    let mut stat = Stat {
        // Some tars put the file type into the mode field too.
        st_mode: parsed.mode & 0o7777,
        st_uid: id(parsed.uid)?,
        st_gid: id(parsed.gid)?,
        st_mtim_sec: i64::try_from(parsed.mtime).map_err(|_| refuse(Case::H06Entry, "a time beyond 63 bits"))?,
        st_mtim_nsec: 0,
        xattrs: Default::default(),
    };
    if let Some((seconds, nanoseconds)) = pax(parsed.pax).map_err(|(case, why)| refuse(case, why))? {
        (stat.st_mtim_sec, stat.st_mtim_nsec) = (seconds, nanoseconds);
    }
    for (name, value) in &parsed.xattrs {
        // linux/xattr.h: XATTR_NAME_MAX 255, XATTR_SIZE_MAX 65536; EROFS has 16 bits for the size.
        if name.is_empty() || name.contains(&0) || name.len() > 255 || value.len() > 65_535 {
            return Err(refuse(Case::H05Xattr, &String::from_utf8_lossy(name)));
        }
        stat.xattrs.insert(OsStr::from_bytes(name).into(), value.as_ref().into());
    }
    let early = (stat.st_mtim_sec < 0).then_some("a time before 1970");
    Ok((stat, early))
}

/// Returns whether Go's reader takes the PAX header of a sparse file with `pieces` pieces: the formats before 1.0 count
/// them.
pub(super) fn counts_pieces(pax: Option<&[u8]>, pieces: usize) -> bool {
    let (mut major, mut count) = (None, None);
    for extension in PaxExtensions::new(pax.unwrap_or_default()).flatten() {
        let value = || extension.value().ok().and_then(|value| value.parse::<usize>().ok());
        match extension.key_bytes() {
            b"GNU.sparse.major" => major = value(),
            b"GNU.sparse.numblocks" => count = value(),
            _ => {}
        }
    }
    major == Some(1) || count == Some(pieces)
}

/// Checks where the pieces of a sparse file are that its content consists of, in their order, as Go's reader takes
/// them: one after the other, within `size`, and together as long as the content.
///
/// # Errors
/// What keeps the map from being one.
pub(super) fn pieces(map: &[SparseEntry], size: u64, content: u64) -> std::result::Result<(), &'static str> {
    let (mut end, mut sum) = (0_u64, 0_u64);
    for piece in map {
        if piece.offset < end {
            return Err("a sparse map out of order");
        }
        end = piece.offset.checked_add(piece.length).ok_or("a sparse map beyond 64 bits")?;
        sum = sum.saturating_add(piece.length);
    }
    if end > size || sum != content {
        return Err("a sparse map that does not fit its file");
    }
    Ok(())
}

type EntryFault = (Case, &'static str);

/// Reads the time of a PAX header, and checks that its numbers are numbers: the parser ignores those that are not, and
/// knows no fractions and no time before 1970.
fn pax(pax: Option<&[u8]>) -> std::result::Result<Option<(i64, u32)>, EntryFault> {
    let mut time = None;
    for extension in PaxExtensions::new(pax.unwrap_or_default()) {
        let extension = extension.map_err(|_| (Case::H11Layer, "a damaged PAX header"))?;
        match extension.key_bytes() {
            b"mtime" => {
                let no_number = (Case::H11Layer, "a PAX mtime that is no number");
                time = Some(seconds(extension.value().map_err(|_| no_number)?)?);
            }
            b"size"
            | b"uid"
            | b"gid"
            | b"GNU.sparse.major"
            | b"GNU.sparse.minor"
            | b"GNU.sparse.realsize"
            | b"GNU.sparse.size"
            | b"GNU.sparse.offset"
            | b"GNU.sparse.numbytes" => {
                let value = extension.value().ok().and_then(|value| value.parse::<u64>().ok());
                value.ok_or((Case::H11Layer, "a PAX number that is none"))?;
            }
            _ => {}
        }
    }
    Ok(time)
}

/// Parses decimal seconds, with a sign and a fraction where there are some (pax(1), "mtime").
fn seconds(text: &str) -> std::result::Result<(i64, u32), EntryFault> {
    let (whole, fraction) = text.split_once('.').unwrap_or((text, ""));
    if !fraction.bytes().all(|b| b.is_ascii_digit()) {
        return Err((Case::H06Entry, "a PAX mtime that is no number"));
    }
    let nine: String = fraction.chars().chain("000000000".chars()).take(9).collect();
    let nanoseconds: u32 = nine.parse().map_err(|_| (Case::H06Entry, "a PAX mtime that is no number"))?;
    let seconds: i128 = whole.parse().map_err(|_| (Case::H11Layer, "a PAX mtime that is no number"))?;
    let seconds = i64::try_from(seconds).map_err(|_| (Case::H06Entry, "a time beyond 63 bits"))?;
    match whole.starts_with('-') && nanoseconds > 0 {
        // The fraction of a time before 1970 goes back too; what is stored counts forward.
        true => Ok((seconds.saturating_sub(1), 1_000_000_000 - nanoseconds)),
        false => Ok((seconds, nanoseconds)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn h03_paths_are_canonical_or_refused() {
        let budget = Budget::STANDARD;
        let ok = |p: &[u8]| canonical(p, &budget).map(|(b, beyond)| (b.to_vec(), beyond.is_some()));
        assert_eq!(ok(b"/./usr//bin/").unwrap(), (b"usr/bin".to_vec(), false));
        assert_eq!(ok(b"./").unwrap(), (b"".to_vec(), false));
        assert_eq!(ok(b"a/../b").unwrap(), (b"b".to_vec(), true));
        assert_eq!(ok(b"../..").unwrap(), (b"".to_vec(), true));
        assert_eq!(ok(b"a/b/../../../c/d").unwrap(), (b"c/d".to_vec(), true));
        assert_eq!(ok(b"a\0b").unwrap_err().0, Case::H03Path);
        assert_eq!(ok(&[b'a'; 260]).unwrap_err().0, Case::H06Entry);
    }

    #[test]
    fn h11_times_have_signs_and_fractions() {
        assert_eq!(seconds("1700000000.123456789999"), Ok((1_700_000_000, 123_456_789)));
        assert_eq!(seconds("-1"), Ok((-1, 0)));
        assert_eq!(seconds("-1.5"), Ok((-2, 500_000_000)));
        assert_eq!(seconds("-0.25"), Ok((-1, 750_000_000)));
        for bad in ["", "now", "1.5x", "1.-5", "18446744073709551615", "--1", "."] {
            assert!(seconds(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn h04_whiteouts_are_read_by_name() {
        assert!(matches!(whiteout(b"etc/.wh.x"), Ok(Some((p, EntryKind::Whiteout))) if *p == *b"etc/x"));
        assert!(matches!(whiteout(b".wh.x"), Ok(Some((p, EntryKind::Whiteout))) if *p == *b"x"));
        assert!(matches!(whiteout(b"etc/.wh..wh..opq"), Ok(Some((p, EntryKind::Opaque))) if *p == *b"etc"));
        assert!(matches!(whiteout(b"etc/x.wh."), Ok(None)));
        for bad in [&b"etc/.wh."[..], b".wh..", b"a/.wh..."] {
            assert!(whiteout(bad).is_err());
        }
    }
}
