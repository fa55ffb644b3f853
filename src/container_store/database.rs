//! podman's own database, `db.sql` (SQLite, since podman 4.8), which is in the graph root, so that whoever writes there
//! writes it. What rows say of a container that exists is podman's to judge. But a schema can also change what podman
//! writes: a trigger, a view or a computed column gives every new container another command, other mounts or hooks of
//! the host than podman was told. podman's schema has nothing of the kind.
//!
//! Only the schema is read, by the format of the file (sqlite.org/fileformat2.html): the b-tree of the table
//! `sqlite_schema`, whose root is the first page.

use std::cell::Cell;
use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};

use rustix::fs::{CWD, Mode, OFlags, openat};
use rustix::io::Errno;

use super::configured::configured;
use crate::error::{Case, Refusal, Result};
use crate::sys::process::{self, User};

/// Where podman has its database in a graph root (libpod, `sqliteStatePath`).
const DATABASE: &str = "db.sql";

/// How many pages are read, any of them as often as the file says: podman's schema has two or three.
const MAX_PAGES: usize = 256;

/// How many entries are read: podman's schema has fewer than thirty.
const MAX_ENTRIES: usize = 1000;

/// How many bytes of SQL one entry may have: podman's have less than a thousand.
const MAX_SQL: usize = 64 << 10;

/// The bytes before the header of the first page.
const FILE_HEADER: usize = 100;

/// Words that no entry of podman's schema has. A computed column says `AS`, as a view does.
const WORDS: [&str; 4] = ["TRIGGER", "VIEW", "VIRTUAL", "AS"];

/// Checks the database in the graph root that is configured and the one in `store`, where there is one. What users other than
/// root have in theirs is their own affair.
///
/// # Errors
/// [`Case::B15Database`] for one that can change what podman writes to it, or whose schema cannot be read;
/// [`Case::Io`].
pub fn check_database(store: Option<&Path>) -> Result<()> {
    let mut places: Vec<PathBuf> = configured().map(|found| found.graph_root).into_iter().collect();
    places.extend(store.map(Path::to_owned));
    places.dedup();
    let checked = places.iter().try_for_each(|place| check_one(&place.join(DATABASE)));
    // A user's is that user's own, who can have podman do what they like. Asked last: whose process this is has to be read.
    checked.or_else(|refusal| match process::user() {
        User::Rootless => Ok(()),
        _ => Err(refusal),
    })
}

/// Checks one database, if it is there.
fn check_one(path: &Path) -> Result<()> {
    let refuse = |why: &dyn std::fmt::Display| Refusal::new(Case::B15Database, path.display().to_string(), why);
    let flags = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::CLOEXEC;
    let file = match openat(CWD, path, flags, Mode::empty()) {
        Ok(file) => File::from(file),
        Err(Errno::NOENT | Errno::NOTDIR) => return Ok(()),
        Err(e) => return Err(Refusal::io(path.display().to_string(), e)),
    };
    let is_file = file.metadata().is_ok_and(|found| found.is_file());
    if !is_file {
        return Err(refuse(&"no file"));
    }
    let log = PathBuf::from(format!("{}-wal", path.display()));
    if log.metadata().is_ok_and(|found| found.len() > 0) {
        return Err(refuse(&"it has a write-ahead log, which podman's has not"));
    }
    match unlike_podmans(&file) {
        Ok(None) => Ok(()),
        Ok(Some(sql)) => Err(refuse(&sql)),
        Err(e) if e.kind() == io::ErrorKind::InvalidData => Err(refuse(&e)),
        Err(e) => Err(Refusal::io(path.display().to_string(), e)),
    }
}

fn strange(why: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, format!("its schema cannot be read: {why}"))
}

/// Returns the first entry of the schema that podman does not have, as SQL.
fn unlike_podmans(file: &File) -> io::Result<Option<String>> {
    // podman has made it and written nothing yet.
    if file.metadata()?.len() == 0 {
        return Ok(None);
    }
    let pages = Pages::of(file)?;
    let (mut todo, mut entries) = (vec![1], 0);
    while let Some(number) = todo.pop() {
        let page = pages.read(number)?;
        let header = if number == 1 { FILE_HEADER } else { 0 };
        let cells = usize::from(be16(&page, header + 3)?);
        let leaf = match byte(&page, header)? {
            0x0d => true,
            0x05 => false,
            _ => return Err(strange("no page of a table")),
        };
        let pointers = header + if leaf { 8 } else { 12 };
        if !leaf {
            todo.push(be32(&page, header + 8)?);
        }
        entries += cells;
        if entries > MAX_ENTRIES {
            return Err(strange("it is larger than podman's"));
        }
        for cell in 0..cells {
            let at = usize::from(be16(&page, pointers + 2 * cell)?);
            if !leaf {
                todo.push(be32(&page, at)?);
            } else if let Some(sql) = sql_of(&pages.payload(&page, at)?)?
                && !is_podmans(&sql)
            {
                return Ok(Some(sql.chars().take(100).collect()));
            }
        }
    }
    Ok(None)
}

/// Returns whether an entry is a table or an index as podman has them. SQLite goes by the SQL and not by the columns
/// beside it.
fn is_podmans(sql: &str) -> bool {
    let mut words = sql.split(|c: char| !c.is_ascii_alphanumeric() && c != '_').filter(|word| !word.is_empty());
    let is = |word: Option<&str>, what: &str| word.is_some_and(|word| word.eq_ignore_ascii_case(what));
    let all_known = || !words.clone().any(|word| WORDS.iter().any(|bad| word.eq_ignore_ascii_case(bad)));
    if !all_known() || !is(words.next(), "CREATE") {
        return false;
    }
    let kind = words.next();
    let kind = if is(kind, "UNIQUE") { words.next() } else { kind };
    is(kind, "TABLE") || is(kind, "INDEX")
}

struct Pages<'a> {
    file: &'a File,
    size: usize,
    /// What of a page holds data.
    usable: usize,
    /// How many may still be read.
    left: Cell<usize>,
}

impl<'a> Pages<'a> {
    fn of(file: &'a File) -> io::Result<Self> {
        let mut header = [0; FILE_HEADER];
        file.read_exact_at(&mut header, 0).map_err(|_| strange("it is too short"))?;
        if !header.starts_with(b"SQLite format 3\0") {
            return Err(strange("it is no database of SQLite"));
        }
        let size = match be16(&header, 16)? {
            1 => 1 << 16,
            size if size >= 512 && size.is_power_of_two() => usize::from(size),
            _ => return Err(strange("pages of no size")),
        };
        if be32(&header, 56)? > 1 {
            return Err(strange("it is not in UTF-8"));
        }
        let usable = size - usize::from(header[20]);
        if usable < 480 {
            return Err(strange("pages without room"));
        }
        Ok(Self { file, size, usable, left: Cell::new(MAX_PAGES) })
    }

    fn read(&self, number: u32) -> io::Result<Vec<u8>> {
        let number = number.checked_sub(1).ok_or_else(|| strange("no page"))?;
        let left = self.left.get().checked_sub(1).ok_or_else(|| strange("it is larger than podman's"))?;
        self.left.set(left);
        let mut page = vec![0; self.size];
        self.file.read_exact_at(&mut page, u64::from(number) * self.size as u64).map_err(|e| match e.kind() {
            io::ErrorKind::UnexpectedEof => strange("a page is missing"),
            _ => e,
        })?;
        Ok(page)
    }

    /// Reads the payload of the cell at `at` on a leaf, with what of it is on further pages.
    fn payload(&self, page: &[u8], at: usize) -> io::Result<Vec<u8>> {
        let (length, at) = varint(page, at)?;
        let (_, at) = varint(page, at)?;
        let length = usize::try_from(length).ok().filter(|length| *length <= MAX_SQL);
        let length = length.ok_or_else(|| strange("an entry is longer than podman's"))?;
        let most = self.usable - 35;
        let least = (self.usable - 12) * 32 / 255 - 23;
        let here = match length {
            _ if length <= most => length,
            _ => match least + (length - least) % (self.usable - 4) {
                here if here <= most => here,
                _ => least,
            },
        };
        let part = |page: &[u8], at: usize, length: usize| {
            page.get(at..at + length).map(<[u8]>::to_vec).ok_or_else(|| strange("an entry leaves its page"))
        };
        let mut payload = part(page, at, here)?;
        let mut next = if here < length { be32(page, at + here)? } else { 0 };
        while payload.len() < length {
            let page = self.read(next)?;
            next = be32(&page, 0)?;
            let more = (length - payload.len()).min(self.usable - 4);
            payload.extend(part(&page, 4, more)?);
        }
        Ok(payload)
    }
}

/// Returns the column `sql` of an entry, the fifth; `None` for an index that a constraint makes.
fn sql_of(record: &[u8]) -> io::Result<Option<String>> {
    let (header, mut at) = varint(record, 0)?;
    let (mut body, mut found) = (usize::try_from(header).map_err(|_| strange("an entry"))?, None);
    for _ in 0..5 {
        let (kind, next) = varint(record, at)?;
        at = next;
        let length = match kind {
            0 | 8 | 9 => 0,
            1..=4 => kind,
            5 => 6,
            6 | 7 => 8,
            10 | 11 => return Err(strange("an entry of no type")),
            _ => (kind - 12) / 2,
        };
        let length = usize::try_from(length).map_err(|_| strange("an entry"))?;
        let end = body.checked_add(length).ok_or_else(|| strange("an entry"))?;
        found = Some((kind, record.get(body..end).ok_or_else(|| strange("an entry is cut off"))?));
        body = end;
    }
    match found {
        Some((0, _)) => Ok(None),
        Some((kind, text)) if kind >= 12 => Ok(Some(String::from_utf8_lossy(text).into_owned())),
        _ => Err(strange("SQL that is no text")),
    }
}

fn byte(bytes: &[u8], at: usize) -> io::Result<u8> {
    bytes.get(at).copied().ok_or_else(|| strange("it is cut off"))
}

fn be16(bytes: &[u8], at: usize) -> io::Result<u16> {
    Ok(u16::from_be_bytes([byte(bytes, at)?, byte(bytes, at + 1)?]))
}

fn be32(bytes: &[u8], at: usize) -> io::Result<u32> {
    Ok(u32::from(be16(bytes, at)?) << 16 | u32::from(be16(bytes, at + 2)?))
}

/// Reads a number of up to nine bytes, and returns where the next one begins.
fn varint(bytes: &[u8], at: usize) -> io::Result<(u64, usize)> {
    let mut value = 0;
    for n in 0..8 {
        let next = byte(bytes, at + n)?;
        value = value << 7 | u64::from(next & 0x7f);
        if next & 0x80 == 0 {
            return Ok((value, at + n + 1));
        }
    }
    Ok((value << 8 | u64::from(byte(bytes, at + 8)?), at + 9))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn b15_only_tables_and_indexes_are_podmans() {
        for sql in [
            "CREATE TABLE ContainerState(\n  ID TEXT PRIMARY KEY NOT NULL,\n CHECK (ExitCode BETWEEN -1 AND 255)\n )",
            "create unique index i on t(a)",
            "CREATE INDEX i ON t(a)",
        ] {
            assert!(is_podmans(sql), "{sql}");
        }
        for sql in [
            "CREATE TRIGGER t AFTER INSERT ON ContainerConfig BEGIN SELECT 1; END",
            "CREATE/**/TRIGGER t AFTER INSERT ON a BEGIN SELECT 1; END",
            "create temp trigger t after insert on a begin select 1; end",
            "CREATE VIEW ContainerConfig AS SELECT 1",
            "CREATE VIRTUAL TABLE ContainerConfig USING fts5(a)",
            "CREATE TABLE ContainerConfig(Raw TEXT, JSON TEXT GENERATED ALWAYS AS (Raw))",
            "CREATE TABLE ContainerConfig(Raw TEXT, JSON TEXT AS(Raw))",
            "SELECT 1",
            "",
        ] {
            assert!(!is_podmans(sql), "{sql}");
        }
    }

    /// As much of an entry as is on its first page, if the rest fills others (of 4096 bytes).
    const HERE: usize = 489;

    /// Makes a database of one page: a leaf with one entry, which counts as many, and goes on for `more` pages: this one.
    fn of_one_page(entries: u16, more: usize) -> Vec<u8> {
        const AT: u16 = 3000;
        let mut page = b"SQLite format 3\0\x10\0".to_vec();
        page.resize(4096, 0);
        page[FILE_HEADER] = 0x0d;
        page[FILE_HEADER + 3..FILE_HEADER + 5].copy_from_slice(&entries.to_be_bytes());
        for entry in 0..usize::from(entries) {
            let at = FILE_HEADER + 8 + 2 * entry;
            page[at..at + 2].copy_from_slice(&AT.to_be_bytes());
        }
        let (at, length) = (usize::from(AT), HERE + more * 4092);
        let septet = |shift: usize| (length >> shift & 0x7f) as u8;
        // The length, the number of the row, and nothing in five columns.
        page[at..at + 5].copy_from_slice(&[0x80 | septet(14), 0x80 | septet(7), septet(0), 1, 6]);
        page[at + 4 + HERE..at + 8 + HERE].copy_from_slice(&1_u32.to_be_bytes());
        page
    }

    #[test]
    fn b15_a_database_is_read_within_limits() {
        let scratch = tempfile::tempdir().unwrap();
        let path = scratch.path().join(DATABASE);
        let case = |page: Vec<u8>| {
            std::fs::write(&path, page).unwrap();
            check_one(&path).map_err(|r| (r.case(), r.detail().to_owned()))
        };
        assert_eq!(case(of_one_page(1, 0)), Ok(()));
        assert_eq!(case(of_one_page(MAX_ENTRIES as u16, 0)), Ok(()));
        let too_large = |found: std::result::Result<(), (Case, String)>| {
            let (case, why) = found.unwrap_err();
            assert!(case == Case::B15Database && why.contains("larger than podman's"), "{why}");
        };
        too_large(case(of_one_page(MAX_ENTRIES as u16 + 1, 0)));
        // Entries that go on elsewhere, again and again.
        assert_eq!(case(of_one_page(1, 1)), Ok(()));
        too_large(case(of_one_page(900, 1)));
        // A page beneath itself.
        let mut page = of_one_page(0, 0);
        page[FILE_HEADER] = 0x05;
        page[FILE_HEADER + 11] = 1;
        too_large(case(page));
    }

    #[test]
    fn b15_what_is_no_database_is_refused() {
        let scratch = tempfile::tempdir().unwrap();
        let path = scratch.path().join(DATABASE);
        assert_eq!(check_one(&path), Ok(()), "none");
        std::fs::write(&path, "").unwrap();
        assert_eq!(check_one(&path), Ok(()), "one that podman has just made");
        let mut header = b"SQLite format 3\0\x10\0\x01\x01\0".to_vec();
        header.resize(4096, 0);
        for bytes in [b"text".to_vec(), vec![0; 4096], header] {
            std::fs::write(&path, bytes).unwrap();
            assert_eq!(check_one(&path).map_err(|r| r.case()), Err(Case::B15Database));
        }
        std::fs::remove_file(&path).unwrap();
        std::fs::create_dir(&path).unwrap();
        assert_eq!(check_one(&path).map_err(|r| r.case()), Err(Case::B15Database));
    }
}
