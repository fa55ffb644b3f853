//! Whether every page of a database of SQLite has one place. A page that is part of two trees, or is free and in use,
//! holds what was written last, for whichever of them: rows of one table are found in the place of another one's.
//! `PRAGMA integrity_check` finds that too, and SQLite itself never looks.

use std::io;
use std::os::unix::fs::FileExt as _;

use super::sqlite::{Database, INDEX_INTERIOR, INDEX_LEAF, INTERIOR, LEAF, be32, byte, strange, varint};

/// How many bytes a database may have: more than those of a hundred thousand containers.
const MAX_DATABASE: u64 = 1 << 30;

/// How many entries all pages together may have: podman's have fewer than twenty for each container.
const MAX_CELLS: usize = 2 << 20;

/// Where the header has what: how often the file was changed, its pages, the first page that lists free ones, and for
/// which change the number of pages holds.
const CHANGES: usize = 24;
const PAGES: usize = 28;
const FREE: usize = 32;
const VALID_FOR: usize = 92;

/// The pages whose place is known.
struct Places {
    known: Vec<bool>,
    /// How many entries may still be looked at.
    cells: usize,
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

    /// Gives a page its place, and returns it.
    fn claimed(&mut self, page: u32) -> io::Result<u32> {
        self.claim(page).map(|()| page)
    }

    /// Counts entries of a page: any number of them can be in one place of it, and pages without anything else take no room
    /// on the disk.
    fn count(&mut self, cells: usize) -> io::Result<usize> {
        self.cells = self.cells.checked_sub(cells).ok_or_else(|| strange("it is larger than podman's"))?;
        Ok(cells)
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
        let mut places = Places { known: vec![false; pages as usize], cells: MAX_CELLS };
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

    /// Gives the pages of one tree their places, each when it is found: so none waits to be read twice.
    fn check_tree(&self, root: u32, places: &mut Places) -> io::Result<()> {
        places.claim(root)?;
        let mut todo = vec![root];
        while let Some(number) = todo.pop() {
            let page = self.page(number)?;
            let kind = byte(&page.bytes, page.header)?;
            let is_above = match kind {
                INTERIOR | INDEX_INTERIOR => true,
                LEAF | INDEX_LEAF => false,
                _ => return Err(strange("a page of no kind")),
            };
            if is_above {
                todo.push(places.claimed(page.rightmost()?)?);
            }
            for cell in 0..places.count(page.cells()?)? {
                let mut at = page.cell(cell)?;
                if is_above {
                    todo.push(places.claimed(be32(&page.bytes, at)?)?);
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

#[cfg(test)]
mod tests {
    use std::fs::File;
    use std::ops::RangeInclusive;

    use super::super::sqlite::FILE_HEADER;
    use super::*;

    const SIZE: usize = 1 << 16;

    /// Makes a database of sparse pages: a first one without entries, and as many that have `begin` in their header, and so
    /// many entries.
    fn of_pages(pages: RangeInclusive<u32>, begin: u8, cells: u16) -> File {
        let file = tempfile::tempfile().unwrap();
        file.set_len(u64::from(*pages.end()) * SIZE as u64).unwrap();
        let mut first = b"SQLite format 3\0\0\x01\x01\x01\0".to_vec();
        first.resize(FILE_HEADER + 8, 0);
        first[FILE_HEADER] = LEAF;
        file.write_all_at(&first, 0).unwrap();
        for number in pages {
            let [high, low] = cells.to_be_bytes();
            file.write_all_at(&[begin, 0, 0, high, low], u64::from(number - 1) * SIZE as u64).unwrap();
        }
        file
    }

    /// Checks it, and returns why it is refused, and how many pages were read.
    fn check(file: &File, roots: RangeInclusive<u32>) -> (Option<String>, usize) {
        let database = Database::of(file).unwrap().unwrap();
        let checked = database.check_places(roots);
        let pages = file.metadata().unwrap().len() as usize / SIZE;
        (checked.err().map(|e| e.to_string()), pages - database.left.get())
    }

    // Each said that thousands are beneath it, and all of these waited to be read.
    #[test]
    fn b15_pages_that_wait_to_be_read_have_their_place() {
        let pages = 64;
        let file = of_pages(2..=pages, INTERIOR, 32_000);
        for page in 2..pages {
            // Of all entries but the last one nothing is written. The last is the next page.
            let at = u64::from(page - 1) * SIZE as u64;
            file.write_all_at(&(page + 1).to_be_bytes(), at + 65_000).unwrap();
            file.write_all_at(&65_000_u16.to_be_bytes(), at + 12 + 2 * 31_999).unwrap();
            file.write_all_at(&page.to_be_bytes(), at + 8).unwrap();
        }
        let (why, read) = check(&file, 2..=2);
        assert!(why.unwrap().contains("two places"));
        assert_eq!(read, 2);
    }

    #[test]
    fn b15_entries_of_a_database_are_counted() {
        let within = (MAX_CELLS / 32_000) as u32;
        let file = of_pages(2..=within + 2, LEAF, 32_000);
        assert_eq!(check(&file, 2..=9), (None, 9));
        let (why, _) = check(&file, 2..=within + 2);
        assert!(why.unwrap().contains("larger than podman's"));
    }
}
