//! The file format of BoltDB (go.etcd.io/bbolt, `page.go`, `db.go`), as far as a database of somebody else's is looked
//! at: every page has one place, in one bucket or among the free ones. Of a page with two, podman reads in the one what
//! it wrote to the other. BoltDB has a check for that (`bbolt check`), which nobody asks.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt as _;

/// The bytes of a page's header, and of each element that follows it.
const HEADER: usize = 16;
const ELEMENT: usize = 16;

/// The kinds of pages, by their flags.
const BRANCH: u16 = 0x01;
const LEAF: u16 = 0x02;
const FREE: u16 = 0x10;

/// The flag of an element that is a bucket.
const BUCKET: u32 = 0x01;

/// How a meta page begins, after the header, and which version it has.
const MAGIC: u32 = 0xed0c_daed;
const VERSION: u32 = 2;

/// What of a meta page its checksum is about, and all of it.
const SUMMED: usize = 56;
const META: usize = SUMMED + 8;

/// The freelist of a database that has none on the disk.
const NO_FREELIST: u64 = u64::MAX;

/// How many pages a database may have, and how many bytes all of them: BoltDB keeps those that are free.
const MAX_PAGES: u64 = 1 << 20;
const MAX_BYTES: u64 = 1 << 32;

/// How many bytes of pages in use are read, and how many one may have with what it goes on for: podman's have a few
/// kilobytes for each container.
const MAX_READ: u64 = 256 << 20;
const MAX_ONE: u64 = 64 << 20;

/// How many elements are looked at, which may be in each other's place: podman's have some dozens for each container.
const MAX_ELEMENTS: usize = 4 << 20;

/// How deep buckets are within others without a page of their own, and pages beneath each other: podman's have one
/// bucket there, and three pages.
const MAX_DEPTH: usize = 16;

/// What one of the two meta pages says.
struct Meta {
    page_size: usize,
    root: u64,
    freelist: u64,
    /// The first page that was never used.
    end: u64,
    transaction: u64,
}

impl Meta {
    /// Reads a meta page; `None` for one that BoltDB does not take for one.
    fn read(file: &File, at: u64) -> io::Result<Option<Self>> {
        let mut page = [0; HEADER + META];
        match file.read_exact_at(&mut page, at) {
            Err(e) if e.kind() == io::ErrorKind::UnexpectedEof => return Ok(None),
            read => read?,
        }
        let meta = &page[HEADER..];
        if u32_at(meta, 0)? != MAGIC || u32_at(meta, 4)? != VERSION {
            return Ok(None);
        }
        match u64_at(meta, SUMMED)? {
            // Old versions take it, and new ones do not.
            0 => return Err(strange("a page without a checksum")),
            sum if sum != fnv(&meta[..SUMMED]) => return Ok(None),
            _ => {}
        }
        let page_size = u32_at(meta, 8)? as usize;
        if !page_size.is_power_of_two() || !(1 << 10..=1 << 20).contains(&page_size) {
            return Err(strange("pages of no size"));
        }
        let (root, freelist, end) = (u64_at(meta, 16)?, u64_at(meta, 32)?, u64_at(meta, 40)?);
        Ok(Some(Self { page_size, root, freelist, end, transaction: u64_at(meta, 48)? }))
    }

    /// Finds the one that counts: the later one, unless it was not written to its end.
    fn of(file: &File) -> io::Result<(Self, usize)> {
        let first = Self::read(file, 0)?;
        // Of which size the pages are, the first one says.
        let size = first.as_ref().map_or_else(rustix::param::page_size, |meta| meta.page_size);
        let second = Self::read(file, size as u64)?;
        let meta = match (first, second) {
            (Some(first), Some(second)) if second.transaction > first.transaction => second,
            (Some(first), _) => first,
            (None, Some(second)) if second.page_size == size => second,
            (None, _) => return Err(strange("it is no database of BoltDB")),
        };
        Ok((meta, size))
    }
}

/// Checks that no page of the database has two places.
///
/// # Errors
/// `InvalidData` if one has, or cannot be read; the kernel's.
pub(super) fn check_places(file: &File) -> io::Result<()> {
    if file.metadata()?.len() == 0 {
        return Ok(());
    }
    let (meta, size) = Meta::of(file)?;
    if meta.end > MAX_PAGES.min(MAX_BYTES / size as u64) {
        return Err(strange("it is larger than podman's"));
    }
    Pages::of(file, size, meta.end).check(&meta)
}

/// The pages whose place is known.
struct Pages<'a> {
    file: &'a File,
    size: usize,
    known: Vec<bool>,
    /// How many bytes may still be read, and how many elements be looked at.
    bytes: u64,
    elements: usize,
}

impl<'a> Pages<'a> {
    /// Makes them of a file with pages of this size, before page `end`.
    fn of(file: &'a File, size: usize, end: u64) -> Self {
        Self { file, size, known: vec![false; end as usize], bytes: MAX_READ, elements: MAX_ELEMENTS }
    }

    /// Gives all pages their place: those that are free, and those of buckets.
    fn check(&mut self, meta: &Meta) -> io::Result<()> {
        if meta.freelist != NO_FREELIST {
            self.free(meta.freelist)?;
        }
        self.tree(meta.root, 0)
    }

    /// Gives so many pages their place, from `first`.
    fn claim(&mut self, first: u64, count: u64) -> io::Result<()> {
        let end = first.checked_add(count).filter(|end| first >= 2 && *end <= self.known.len() as u64);
        let end = end.ok_or_else(|| strange("a page is missing"))?;
        for known in &mut self.known[first as usize..end as usize] {
            if std::mem::replace(known, true) {
                return Err(strange("a page has two places, and what is written to one is read at the other"));
            }
        }
        Ok(())
    }

    /// Counts the elements of a page, or of a bucket on one.
    fn elements(&mut self, page: &[u8]) -> io::Result<usize> {
        let count = usize::from(u16_at(page, 10)?);
        self.elements = self.elements.checked_sub(count).ok_or_else(|| strange("it is larger than podman's"))?;
        Ok(count)
    }

    /// Reads a page that has its place, with those that it goes on for, and gives them theirs.
    fn page(&mut self, number: u64) -> io::Result<Vec<u8>> {
        let at = number.checked_mul(self.size as u64).ok_or_else(|| strange("a page is missing"))?;
        let missing = |e: io::Error| match e.kind() {
            io::ErrorKind::UnexpectedEof => strange("a page is missing"),
            _ => e,
        };
        let mut header = [0; HEADER];
        self.file.read_exact_at(&mut header, at).map_err(missing)?;
        // It is freed by the number that it has there.
        if u64_at(&header, 0)? != number {
            return Err(strange("a page has the number of another one"));
        }
        let count = u64::from(u32_at(&header, 12)?) + 1;
        if count > MAX_ONE / self.size as u64 {
            return Err(strange("a page is larger than podman's"));
        }
        // Before reading: holes in a file take no room on the disk.
        let length = count * self.size as u64;
        self.bytes = self.bytes.checked_sub(length).ok_or_else(|| strange("it is larger than podman's"))?;
        self.claim(number + 1, count - 1)?;
        let mut page = vec![0; length as usize];
        self.file.read_exact_at(&mut page, at).map_err(missing)?;
        Ok(page)
    }

    /// Gives the pages their places that the list at `number` says are free, and those of the list.
    fn free(&mut self, number: u64) -> io::Result<()> {
        self.claim(number, 1)?;
        let page = self.page(number)?;
        if u16_at(&page, 8)? & FREE == 0 {
            return Err(strange("a page of no kind"));
        }
        let (first, count) = match u16_at(&page, 10)? {
            u16::MAX => (HEADER + 8, u64_at(&page, HEADER)?),
            count => (HEADER, u64::from(count)),
        };
        if count > (page.len() / 8) as u64 {
            return Err(strange("it is cut off"));
        }
        (0..count as usize).try_for_each(|n| self.claim(u64_at(&page, first + 8 * n)?, 1))
    }

    /// Gives the pages of a bucket their places, and those of the buckets in it.
    fn tree(&mut self, root: u64, depth: usize) -> io::Result<()> {
        self.claim(root, 1)?;
        let mut todo = vec![root];
        while let Some(number) = todo.pop() {
            let page = self.page(number)?;
            match u16_at(&page, 8)? {
                BRANCH => {
                    for n in 0..self.elements(&page)? {
                        let beneath = u64_at(&page, HEADER + ELEMENT * n + 8)?;
                        // Here and not when it is read: so none waits for that twice.
                        self.claim(beneath, 1)?;
                        todo.push(beneath);
                    }
                }
                LEAF => self.leaf(&page, depth)?,
                _ => return Err(strange("a page of no kind")),
            }
        }
        Ok(())
    }

    /// Gives the pages of the buckets on a leaf their places.
    fn leaf(&mut self, page: &[u8], depth: usize) -> io::Result<()> {
        if depth > MAX_DEPTH {
            return Err(strange("its buckets are deeper than podman's"));
        }
        for n in 0..self.elements(page)? {
            let element = HEADER + ELEMENT * n;
            if u32_at(page, element)? & BUCKET == 0 {
                continue;
            }
            let [position, key, length] =
                [4, 8, 12].map(|field| u32_at(page, element + field).map(|value| value as usize));
            let at = element + position? + key?;
            let value = page.get(at..at + length?).ok_or_else(|| strange("an entry leaves its page"))?;
            match u64_at(value, 0)? {
                // The bucket's only page follows.
                0 => self.leaf(value.get(HEADER..).unwrap_or_default(), depth + 1)?,
                root => self.tree(root, depth + 1)?,
            }
        }
        Ok(())
    }
}

/// Makes the error for what cannot be read.
fn strange(why: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, format!("it cannot be read: {why}"))
}

fn at<const N: usize>(bytes: &[u8], at: usize) -> io::Result<[u8; N]> {
    let found = bytes.get(at..).and_then(|rest| rest.first_chunk());
    found.copied().ok_or_else(|| strange("it is cut off"))
}

// As the machine has them.
fn u16_at(bytes: &[u8], place: usize) -> io::Result<u16> {
    at(bytes, place).map(u16::from_ne_bytes)
}

fn u32_at(bytes: &[u8], place: usize) -> io::Result<u32> {
    at(bytes, place).map(u32::from_ne_bytes)
}

fn u64_at(bytes: &[u8], place: usize) -> io::Result<u64> {
    at(bytes, place).map(u64::from_ne_bytes)
}

/// Computes the checksum of a meta page (FNV-1a).
pub(super) fn fnv(bytes: &[u8]) -> u64 {
    bytes.iter().fold(0xcbf2_9ce4_8422_2325, |sum, byte| (sum ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3))
}
