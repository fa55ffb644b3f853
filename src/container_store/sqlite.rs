//! The file format of SQLite (sqlite.org/fileformat2.html), as far as a database of somebody else's is looked at: the b-tree of the
//! table `sqlite_schema`, whose root is the first page, and the way to the last row of a table.

use std::cell::Cell;
use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt as _;

/// How many pages of the schema are read, any of them as often as the file says: podman's schema has two or three.
const MAX_PAGES: usize = 256;

/// How many pages of tables are read: podman's have some dozens on the ways to their last rows.
const MAX_ROW_PAGES: usize = 4096;

/// How many entries of the schema are read: podman's has fewer than thirty.
pub(super) const MAX_ENTRIES: usize = 1000;

/// How many bytes of SQL one entry may have: podman's have less than a thousand.
const MAX_SQL: usize = 64 << 10;

/// How many pages SQLite goes down in one table.
const MAX_DEPTH: usize = 20;

/// The bytes before the header of the first page.
pub(super) const FILE_HEADER: usize = 100;

/// The kinds of pages: of a table's rows, and above such pages; of an index, and above such.
pub(super) const LEAF: u8 = 0x0d;
pub(super) const INTERIOR: u8 = 0x05;
const OF_INDEX: [u8; 2] = [INDEX_LEAF, INDEX_INTERIOR];
pub(super) const INDEX_LEAF: u8 = 0x0a;
pub(super) const INDEX_INTERIOR: u8 = 0x02;

/// A database, open.
pub(super) struct Database<'a> {
    pub(super) file: &'a File,
    /// The bytes of a page.
    pub(super) size: usize,
    /// What of a page holds data.
    pub(super) usable: usize,
    /// How many may still be read.
    pub(super) left: Cell<usize>,
}

/// An entry of the schema.
pub(super) struct SchemaEntry {
    /// What made it; `None` for an index that a constraint makes.
    pub sql: Option<String>,
    /// Its first page.
    pub root: u32,
}

impl<'a> Database<'a> {
    /// Reads the header; `None` for a database that was made and not written to.
    ///
    /// # Errors
    /// `InvalidData` for what is no database, or one that cannot be read like podman's; the kernel's.
    pub(super) fn of(file: &'a File) -> io::Result<Option<Self>> {
        if file.metadata()?.len() == 0 {
            return Ok(None);
        }
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
        // Whoever made the list of free pages chooses what is written over when a page is moved to one.
        if be32(&header, 52)? != 0 {
            return Err(strange("SQLite moves its pages, which it does not with podman's"));
        }
        if be32(&header, 56)? > 1 {
            return Err(strange("it is not in UTF-8"));
        }
        let usable = size - usize::from(header[20]);
        if usable < 480 {
            return Err(strange("pages without room"));
        }
        Ok(Some(Self { file, size, usable, left: Cell::new(MAX_PAGES) }))
    }

    /// Reads the schema.
    ///
    /// # Errors
    /// `InvalidData` for one that cannot be read, or is larger than podman's; the kernel's.
    pub(super) fn schema(&self) -> io::Result<Vec<SchemaEntry>> {
        self.left.set(MAX_PAGES);
        let (mut todo, mut entries) = (vec![1], Vec::new());
        while let Some(number) = todo.pop() {
            let page = self.page(number)?;
            let is_leaf = page.is_leaf().ok_or_else(|| strange("no page of a table"))?;
            if !is_leaf {
                todo.push(page.rightmost()?);
            }
            if entries.len() + page.cells()? > MAX_ENTRIES {
                return Err(strange("it is larger than podman's"));
            }
            for cell in 0..page.cells()? {
                let at = page.cell(cell)?;
                match is_leaf {
                    true => entries.push(entry(&self.payload(&page.bytes, at)?)?),
                    false => todo.push(be32(&page.bytes, at)?),
                }
            }
        }
        Ok(entries)
    }

    /// Returns whether SQLite finds the last row of each of these tables by its number. It numbers a new row after the last one,
    /// and adds it there; whoever looks for it begins at the first page, and goes by the numbers that are noted on the way. If these are
    /// made up, another row with that number is found. Of indexes nothing is asked: SQLite adds to them where it looks.
    ///
    /// # Errors
    /// As for [`Self::schema`].
    pub(super) fn find_new_rows(&self, tables: impl Iterator<Item = u32>) -> io::Result<bool> {
        self.left.set(MAX_ROW_PAGES);
        for root in tables {
            if !self.finds_last(root)? {
                return Ok(false);
            }
        }
        Ok(true)
    }

    fn finds_last(&self, root: u32) -> io::Result<bool> {
        let (mut number, mut last) = (root, None);
        for depth in 0..MAX_DEPTH {
            let page = self.page(number)?;
            let is_leaf = match page.is_leaf() {
                Some(is_leaf) => is_leaf,
                None if depth == 0 && OF_INDEX.contains(&byte(&page.bytes, page.header)?) => return Ok(true),
                None => return Err(strange("no page of a table")),
            };
            for cell in 0..page.cells()? {
                let at = page.cell(cell)?;
                let before = if is_leaf { varint(&page.bytes, at)?.1 } else { at + 4 };
                let row = varint(&page.bytes, before)?.0.cast_signed();
                if last.is_some_and(|last| row <= last) {
                    return Ok(false);
                }
                last = Some(row);
            }
            if is_leaf {
                return Ok(depth == 0 || page.cells()? > 0);
            }
            number = page.rightmost()?;
        }
        Err(strange("a table is deeper than SQLite's"))
    }

    pub(super) fn page(&self, number: u32) -> io::Result<Page> {
        let header = if number == 1 { FILE_HEADER } else { 0 };
        Ok(Page { bytes: self.read(number)?, header })
    }

    pub(super) fn read(&self, number: u32) -> io::Result<Vec<u8>> {
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

    /// Returns how many bytes of a payload are on its own page, of which at most `most` can be there.
    pub(super) fn local(&self, length: usize, most: usize) -> usize {
        let least = (self.usable - 12) * 32 / 255 - 23;
        match length {
            _ if length <= most => length,
            _ => match least + (length - least) % (self.usable - 4) {
                here if here <= most => here,
                _ => least,
            },
        }
    }

    /// Reads the payload of the cell at `at` on a leaf, with what of it is on further pages.
    fn payload(&self, page: &[u8], at: usize) -> io::Result<Vec<u8>> {
        let (length, at) = varint(page, at)?;
        let (_, at) = varint(page, at)?;
        let length = usize::try_from(length).ok().filter(|length| *length <= MAX_SQL);
        let length = length.ok_or_else(|| strange("an entry is longer than podman's"))?;
        let here = self.local(length, self.usable - 35);
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

/// A page of a b-tree.
pub(super) struct Page {
    pub(super) bytes: Vec<u8>,
    /// Where its header begins.
    pub(super) header: usize,
}

impl Page {
    /// Returns whether it holds rows; `None` for a page of no table.
    fn is_leaf(&self) -> Option<bool> {
        match *self.bytes.get(self.header)? {
            LEAF => Some(true),
            INTERIOR => Some(false),
            _ => None,
        }
    }

    pub(super) fn cells(&self) -> io::Result<usize> {
        Ok(usize::from(be16(&self.bytes, self.header + 3)?))
    }

    /// Returns where a cell begins.
    pub(super) fn cell(&self, number: usize) -> io::Result<usize> {
        let is_leaf = matches!(byte(&self.bytes, self.header)?, LEAF | INDEX_LEAF);
        let pointers = self.header + if is_leaf { 8 } else { 12 };
        Ok(usize::from(be16(&self.bytes, pointers + 2 * number)?))
    }

    /// Returns the last page beneath one that holds no rows.
    pub(super) fn rightmost(&self) -> io::Result<u32> {
        be32(&self.bytes, self.header + 8)
    }
}

/// Makes the error for what cannot be read.
pub(super) fn strange(why: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, format!("it cannot be read: {why}"))
}

/// Reads an entry of the schema: type, name, table, root and SQL.
fn entry(record: &[u8]) -> io::Result<SchemaEntry> {
    let (header, mut at) = varint(record, 0)?;
    let (mut body, mut columns) = (usize::try_from(header).map_err(|_| strange("an entry"))?, Vec::new());
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
        columns.push((kind, record.get(body..end).ok_or_else(|| strange("an entry is cut off"))?));
        body = end;
    }
    let root = match columns[3] {
        (0 | 8, _) => 0,
        (9, _) => 1,
        // SQLite reads a number of any form there.
        (1..=6, number) => number.iter().fold(0_u64, |value, byte| value << 8 | u64::from(*byte)),
        _ => return Err(strange("a root that is no number")),
    };
    let sql = match columns[4] {
        (0, _) => None,
        (kind, text) if kind >= 12 => Some(String::from_utf8_lossy(text).into_owned()),
        _ => return Err(strange("SQL that is no text")),
    };
    Ok(SchemaEntry { sql, root: u32::try_from(root).map_err(|_| strange("a root beyond all pages"))? })
}

pub(super) fn byte(bytes: &[u8], at: usize) -> io::Result<u8> {
    bytes.get(at).copied().ok_or_else(|| strange("it is cut off"))
}

pub(super) fn be16(bytes: &[u8], at: usize) -> io::Result<u16> {
    Ok(u16::from_be_bytes([byte(bytes, at)?, byte(bytes, at + 1)?]))
}

pub(super) fn be32(bytes: &[u8], at: usize) -> io::Result<u32> {
    Ok(u32::from(be16(bytes, at)?) << 16 | u32::from(be16(bytes, at + 2)?))
}

/// Reads a number of up to nine bytes, and returns where the next one begins.
pub(super) fn varint(bytes: &[u8], at: usize) -> io::Result<(u64, usize)> {
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
