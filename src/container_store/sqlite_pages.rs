//! Whether every page of a database of SQLite has one place. A page that is part of two trees, or is free and in use,
//! holds what was written last, for whichever of them: rows of one table are found in the place of another one's.
//! `PRAGMA integrity_check` finds that too, and SQLite itself never looks.

use std::io;
use std::os::unix::fs::FileExt as _;

use super::sqlite::{Database, INDEX_INTERIOR, INDEX_LEAF, INTERIOR, LEAF, be32, byte, strange, varint};

/// How many bytes a database may have: more than those of a hundred thousand containers.
const MAX_DATABASE: u64 = 1 << 30;

/// Where the header has what: how often the file was changed, its pages, the first page that lists free ones, and for
/// which change the number of pages holds.
const CHANGES: usize = 24;
const PAGES: usize = 28;
const FREE: usize = 32;
const VALID_FOR: usize = 92;

/// The pages whose place is known.
struct Places {
    known: Vec<bool>,
}

impl Places {
    /// Gives a page its place.
    fn claim(&mut self, page: u32) -> io::Result<()> {
        let number = page.checked_sub(1).ok_or_else(|| strange("no page"))?;
        let known = self.known.get_mut(number as usize).ok_or_else(|| strange("a page is missing"))?;
        match std::mem::replace(known, true) {
            true => Err(strange("a page has two places, and what is written to one is read at the other")),
            false => Ok(()),
        }
    }
}

impl Database<'_> {
    /// Checks that no page has two places: in the trees that begin at these pages, in that of the schema, and among the
    /// free ones.
    ///
    /// # Errors
    /// `InvalidData` if one has, or cannot be read; the kernel's.
    pub(super) fn check_places(&self, roots: impl Iterator<Item = u32>) -> io::Result<()> {
        let first = self.read(1)?;
        let pages = self.pages(&first)?;
        // Each is read once.
        self.left.set(pages as usize);
        let mut places = Places { known: vec![false; pages as usize] };
        for root in std::iter::once(1).chain(roots.filter(|root| *root != 0)) {
            self.check_tree(root, &mut places)?;
        }
        let mut trunk = be32(&first, FREE)?;
        while trunk != 0 {
            places.claim(trunk)?;
            let page = self.read(trunk)?;
            let leaves = be32(&page, 4)? as usize;
            for leaf in 0..leaves.min(self.size / 4) {
                places.claim(be32(&page, 8 + 4 * leaf)?)?;
            }
            trunk = be32(&page, 0)?;
        }
        Ok(())
    }

    /// Returns how many pages SQLite takes the database for: those of the header, if they hold for its last change.
    fn pages(&self, first: &[u8]) -> io::Result<u32> {
        let there = u32::try_from(self.file.metadata()?.len() / self.size as u64).unwrap_or(u32::MAX);
        let noted = be32(first, PAGES)?;
        let holds = noted != 0 && be32(first, CHANGES)? == be32(first, VALID_FOR)?;
        match if holds { noted.min(there) } else { there } {
            pages if u64::from(pages) <= MAX_DATABASE / self.size as u64 => Ok(pages),
            _ => Err(strange("it is larger than podman's")),
        }
    }

    /// Gives the pages of one tree their places.
    fn check_tree(&self, root: u32, places: &mut Places) -> io::Result<()> {
        let mut todo = vec![root];
        while let Some(number) = todo.pop() {
            places.claim(number)?;
            let page = self.page(number)?;
            let kind = byte(&page.bytes, page.header)?;
            let is_above = match kind {
                INTERIOR | INDEX_INTERIOR => true,
                LEAF | INDEX_LEAF => false,
                _ => return Err(strange("a page of no kind")),
            };
            if is_above {
                todo.push(page.rightmost()?);
            }
            for cell in 0..page.cells()? {
                let mut at = page.cell(cell)?;
                if is_above {
                    todo.push(be32(&page.bytes, at)?);
                    at += 4;
                }
                // What a page of an index holds of an entry, and one of a table.
                let most = match kind {
                    INTERIOR => continue,
                    LEAF => self.usable - 35,
                    _ => (self.usable - 12) * 64 / 255 - 23,
                };
                let (length, mut at) = varint(&page.bytes, at)?;
                if kind == LEAF {
                    at = varint(&page.bytes, at)?.1;
                }
                let length = usize::try_from(length).map_err(|_| strange("an entry"))?;
                let here = self.local(length, most);
                if here < length {
                    self.check_rest(be32(&page.bytes, at + here)?, length - here, places)?;
                }
            }
        }
        Ok(())
    }

    /// Gives the pages their places on which an entry goes on for so many bytes.
    fn check_rest(&self, mut next: u32, length: usize, places: &mut Places) -> io::Result<()> {
        for _ in 0..length.div_ceil(self.usable - 4) {
            places.claim(next)?;
            let mut number = [0; 4];
            let at = u64::from(next - 1) * self.size as u64;
            self.file.read_exact_at(&mut number, at).map_err(|_| strange("a page is missing"))?;
            next = u32::from_be_bytes(number);
        }
        Ok(())
    }
}
