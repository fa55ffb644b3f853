use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;

use composefs::generic_tree::Stat;
use tar_core::parse::ParsedEntry;
use tar_core::{EntryType, PaxExtensions};

use crate::digest::VerityDigest;
use crate::oci::Budget;
use crate::report::{Case, Refusal, Result};

/// One entry of a layer, canonical: the only view of a tar that anything behind this file has
/// (CVE-2025 class: seal and mount must use the same view).
#[derive(Clone, Debug)]
pub struct Entry {
    /// Components joined by `/`, neither leading nor trailing; empty for the root.
    pub path: Box<[u8]>,
    /// What is there.
    pub kind: Kind,
    /// Mode (permission bits only), owner, mtime and all extended attributes of the tar.
    pub stat: Stat,
}

impl Entry {
    /// About how many bytes of memory it takes.
    pub(super) fn weight(&self) -> u64 {
        let own = match &self.kind {
            Kind::Inline(bytes) | Kind::Hardlink(bytes) | Kind::Symlink(bytes) => bytes.len(),
            _ => 0,
        };
        let xattrs: usize = self.stat.xattrs.iter().map(|(name, value)| name.len() + value.len() + 64).sum();
        (256 + self.path.len() + own + xattrs) as u64
    }
}

/// What an entry of a layer is.
#[derive(Clone, Debug)]
pub enum Kind {
    /// A directory.
    Directory,
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
    Complete(Entry),
    File {
        path: Box<[u8]>,
        stat: Stat,
        size: u64,
    },
    /// An entry whose content is skipped: a whiteout with bytes in it.
    Skip {
        entry: Entry,
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
    let path = canonical(&parsed.path, budget).map_err(|(case, why)| refuse(case, why))?;
    let stat = stat(parsed, &shown)?;
    let size = parsed.size;
    if let Some((path, kind)) = whiteout(&path).map_err(|why| refuse(Case::H04Whiteout, why))? {
        return Ok(Head::Skip { entry: Entry { path, kind, stat }, size });
    }
    let kind = match parsed.entry_type {
        EntryType::Regular | EntryType::Continuous => {
            if path.is_empty() {
                return Err(refuse(Case::H03Path, "the root is a file"));
            }
            if parsed.path.ends_with(b"/") {
                // Old tars mark directories so; Go reads a directory here, others a file.
                return Err(refuse(Case::H06Entry, "a file whose name ends in a slash"));
            }
            return Ok(Head::File { path, stat, size });
        }
        EntryType::Directory => Kind::Directory,
        EntryType::Link => Kind::Hardlink(
            canonical(link_target(parsed).ok_or_else(|| refuse(Case::H06Entry, "a hard link to nothing"))?, budget)
                .map_err(|(case, why)| refuse(case, why))?,
        ),
        EntryType::Symlink => Kind::Symlink(symlink(parsed).map_err(|why| refuse(Case::H06Entry, why))?),
        EntryType::Char => Kind::CharacterDevice(device(parsed).map_err(|why| refuse(Case::H06Entry, why))?),
        EntryType::Block => Kind::BlockDevice(device(parsed).map_err(|why| refuse(Case::H06Entry, why))?),
        EntryType::Fifo => Kind::Fifo,
        other => return Err(refuse(Case::H06Entry, &format!("entry type {:?}", char::from(other.to_byte())))),
    };
    // Readers differ on whether content follows such a header: GNU tar and Go say no, others skip it.
    if size != 0 {
        return Err(refuse(Case::H06Entry, "content after an entry that is no regular file"));
    }
    if path.is_empty() && !matches!(kind, Kind::Directory) {
        return Err(refuse(Case::H03Path, "the root is no directory"));
    }
    Ok(Head::Complete(Entry { path, kind, stat }))
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

/// Device numbers as Linux encodes them in 32 bits: 12 bits major, 20 bits minor.
fn device(parsed: &ParsedEntry<'_>) -> std::result::Result<u64, &'static str> {
    let (major, minor) = (parsed.dev_major.unwrap_or(0), parsed.dev_minor.unwrap_or(0));
    if major > 0xfff || minor > 0xf_ffff {
        return Err("a device number outside 12 bits major and 20 bits minor");
    }
    Ok(rustix::fs::makedev(major, minor))
}

/// Drops leading and trailing slashes and `.` parts; refuses what leaves the root.
pub(super) fn canonical(path: &[u8], budget: &Budget) -> std::result::Result<Box<[u8]>, (Case, &'static str)> {
    let mut out = Vec::with_capacity(path.len());
    let mut depth = 0;
    if path.contains(&0) {
        return Err((Case::H03Path, "a NUL in the path"));
    }
    for part in path.split(|b| *b == b'/') {
        match part {
            b"" | b"." => continue,
            b".." => return Err((Case::H03Path, "the path holds ..")),
            _ if part.len() > 255 => return Err((Case::H06Entry, "a name longer than 255 bytes")),
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
    Ok(out.into())
}

type Marker = Option<(Box<[u8]>, Kind)>;

fn whiteout(path: &[u8]) -> std::result::Result<Marker, &'static str> {
    let (parent, name) = match path.iter().rposition(|b| *b == b'/') {
        Some(at) => (&path[..at], &path[at + 1..]),
        None => (&path[..0], path),
    };
    let Some(victim) = name.strip_prefix(b".wh.") else { return Ok(None) };
    match victim {
        b".wh..opq" => Ok(Some((parent.into(), Kind::Opaque))),
        b"" => Err("a whiteout of nothing"),
        b"." | b".." => Err("a whiteout of . or .."),
        _ if parent.is_empty() => Ok(Some((victim.into(), Kind::Whiteout))),
        _ => Ok(Some(([parent, b"/", victim].concat().into(), Kind::Whiteout))),
    }
}

fn stat(parsed: &ParsedEntry<'_>, shown: &str) -> Result<Stat> {
    let refuse = |case, why: &str| Refusal::new(case, shown, why);
    let id = |n: u64| u32::try_from(n).map_err(|_| refuse(Case::H06Entry, "an owner beyond 32 bits"));
    let mut stat = Stat {
        // Some tars put the file type into the mode field too.
        st_mode: parsed.mode & 0o7777,
        st_uid: id(parsed.uid)?,
        st_gid: id(parsed.gid)?,
        st_mtim_sec: i64::try_from(parsed.mtime).map_err(|_| refuse(Case::H06Entry, "a time beyond 63 bits"))?,
        st_mtim_nsec: nanoseconds(parsed.pax).map_err(|why| refuse(Case::H06Entry, why))?,
        xattrs: Default::default(),
    };
    for (name, value) in &parsed.xattrs {
        // linux/xattr.h: XATTR_NAME_MAX 255, XATTR_SIZE_MAX 65536; EROFS has 16 bits for the size.
        if name.is_empty() || name.contains(&0) || name.len() > 255 || value.len() > 65_535 {
            return Err(refuse(Case::H05Xattr, &String::from_utf8_lossy(name)));
        }
        stat.xattrs.insert(OsStr::from_bytes(name).into(), value.as_ref().into());
    }
    Ok(stat)
}

/// The fraction of PAX `mtime`; the parser gives whole seconds only.
fn nanoseconds(pax: Option<&[u8]>) -> std::result::Result<u32, &'static str> {
    let mut nanoseconds = 0;
    for extension in PaxExtensions::new(pax.unwrap_or_default()) {
        let extension = extension.map_err(|_| "a damaged PAX header")?;
        if extension.key_bytes() != b"mtime" {
            continue;
        }
        let value = extension.value().map_err(|_| "a PAX mtime that is no number")?;
        nanoseconds = 0;
        if let Some((_, fraction)) = value.split_once('.') {
            if !fraction.bytes().all(|b| b.is_ascii_digit()) {
                return Err("a PAX mtime that is no number");
            }
            let nine: String = fraction.chars().chain("000000000".chars()).take(9).collect();
            nanoseconds = nine.parse().map_err(|_| "a PAX mtime that is no number")?;
        }
    }
    Ok(nanoseconds)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn h03_paths_are_canonical_or_refused() {
        let budget = Budget::STANDARD;
        let ok = |p: &[u8]| canonical(p, &budget).map(|b| b.to_vec());
        assert_eq!(ok(b"/./usr//bin/").unwrap(), b"usr/bin");
        assert_eq!(ok(b"./").unwrap(), b"");
        assert_eq!(ok(b"a/../b").unwrap_err().0, Case::H03Path);
        assert_eq!(ok(b"..").unwrap_err().0, Case::H03Path);
        assert_eq!(ok(b"a\0b").unwrap_err().0, Case::H03Path);
        assert_eq!(ok(&[b'a'; 256]).unwrap_err().0, Case::H06Entry);
    }

    #[test]
    fn h04_whiteouts_are_read_by_name() {
        assert!(matches!(whiteout(b"etc/.wh.x"), Ok(Some((p, Kind::Whiteout))) if *p == *b"etc/x"));
        assert!(matches!(whiteout(b".wh.x"), Ok(Some((p, Kind::Whiteout))) if *p == *b"x"));
        assert!(matches!(whiteout(b"etc/.wh..wh..opq"), Ok(Some((p, Kind::Opaque))) if *p == *b"etc"));
        assert!(matches!(whiteout(b"etc/x.wh."), Ok(None)));
        for bad in [&b"etc/.wh."[..], b".wh..", b"a/.wh..."] {
            assert!(whiteout(bad).is_err());
        }
    }
}
