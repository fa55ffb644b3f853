//! podman's own database, `db.sql` (SQLite, since podman 4.8), which is in the graph root, so that whoever writes there
//! writes it. What rows say of a container that exists is podman's to judge. But the file can also change what podman
//! writes, or what it reads back: every new container gets another command, other mounts or hooks of the host than podman
//! was told, every new volume another directory. A trigger, a view or a computed column does that; a column that replaces what
//! is missing; a log beside the file, which SQLite reads first; rows with the numbers that new ones will get; a page that is part of two
//! tables; and a link, which SQLite follows in its own way. podman's has nothing of the kind.

use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use rustix::fs::{AtFlags, CWD, FileType, FlockOperation, Mode, OFlags, ResolveFlags, fcntl_lock, openat2, statat};
use rustix::io::Errno;

use super::configured::configured;
use super::sqlite::Database;
use crate::error::{Case, Refusal, Result};
use crate::sys::files;
use crate::sys::process::{self, User};

/// Where podman has its database in a graph root (libpod, `sqliteStatePath`).
const DATABASE: &str = "db.sql";

/// Words that no entry of podman's schema has. A computed column says `AS`, as a view does; `ON CONFLICT REPLACE` and `ON
/// DELETE SET DEFAULT` put a default in the place of what podman writes.
const WORDS: [&str; 6] = ["TRIGGER", "VIEW", "VIRTUAL", "AS", "CONFLICT", "SET"];

/// How long a podman that is writing is waited for: it writes for milliseconds.
const PATIENCE: Duration = Duration::from_secs(10);

/// How long before the next try.
const PAUSE: Duration = Duration::from_millis(10);

/// Checks the database in the graph root that is configured and the one in `store`, where there is one. What users other than
/// root have in theirs is their own affair.
///
/// # Errors
/// [`Case::B15Database`] for one that can change what podman writes to it, or that cannot be read;
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
    let io = |e: io::Error| Refusal::io(path.display().to_string(), e);
    let place = match statat(CWD, path, AtFlags::SYMLINK_NOFOLLOW) {
        Ok(place) => place,
        Err(Errno::NOENT | Errno::NOTDIR) => return Ok(()),
        Err(e) => return Err(io(e.into())),
    };
    let is_link = FileType::from_raw_mode(place.st_mode) == FileType::Symlink;
    let flags = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::CLOEXEC;
    // A link of the kernel's own leads each process elsewhere.
    let file = match openat2(CWD, path, flags, Mode::empty(), ResolveFlags::NO_MAGICLINKS) {
        Ok(file) => File::from(file),
        // SQLite itself reads links, and takes away what is before `..` without looking for it: it finds the file of
        // `none/../other`, and the kernel does not.
        Err(e) if is_link => return Err(refuse(&format!("a link that cannot be followed: {e}"))),
        Err(Errno::NOENT) => return Ok(()),
        Err(e) => return Err(io(e.into())),
    };
    let is_file = file.metadata().is_ok_and(|found| found.is_file());
    if !is_file {
        return Err(refuse(&"no file"));
    }
    // Where a link leads, SQLite has it beside the file there.
    let found = std::fs::read_link(files::proc_path(&file)).map_err(io)?;
    let store = path.parent().map(std::fs::canonicalize).transpose().map_err(io)?;
    if is_link && store.is_some_and(|store| found.starts_with(store)) {
        // podman replaces directories there, after it has opened its database.
        return Err(refuse(&"a link to a place in the same store"));
    }
    let mut log = found.into_os_string();
    log.push("-wal");
    match std::fs::metadata(&log) {
        Ok(found) if found.len() == 0 => {}
        Err(e) if e.kind() == io::ErrorKind::NotFound => {}
        // One that cannot be looked at is one as well.
        _ => return Err(refuse(&"it has a write-ahead log, which podman's has not")),
    }
    let look = || match unlike_podmans(&file) {
        Ok(None) => Ok(()),
        Ok(Some(what)) => Err(refuse(&what)),
        Err(e) if e.kind() == io::ErrorKind::InvalidData => Err(refuse(&e)),
        Err(e) => Err(io(e)),
    };
    // Another podman may be writing.
    look().or_else(|_| {
        keep_from_writers(&file);
        look()
    })
}

/// Keeps other processes from writing to the database, as long as it is open, unless one of them does not end: then what is
/// there counts.
fn keep_from_writers(file: &File) {
    let until = Instant::now() + PATIENCE;
    while let Err(Errno::AGAIN | Errno::ACCESS | Errno::INTR) = fcntl_lock(file, FlockOperation::NonBlockingLockShared)
    {
        if Instant::now() > until {
            return;
        }
        std::thread::sleep(PAUSE);
    }
}

/// Returns the first thing in the database that podman's has not: an entry of the schema, as SQL, or rows that stand in the
/// way.
fn unlike_podmans(file: &File) -> io::Result<Option<String>> {
    let Some(database) = Database::of(file)? else { return Ok(None) };
    let schema = database.schema()?;
    let tables = || schema.iter().filter_map(|entry| Some((entry.sql.as_ref()?, entry.root)));
    if let Some((sql, _)) = tables().find(|(sql, _)| !is_podmans(sql)) {
        return Ok(Some(sql.chars().take(100).collect()));
    }
    database.check_places(schema.iter().map(|entry| entry.root))?;
    let found = database.find_new_rows(tables().map(|(_, root)| root))?;
    Ok((!found).then(|| "rows in it are not in order: others are found in the place of new ones".to_owned()))
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

#[cfg(test)]
mod tests {
    use super::super::sqlite::{FILE_HEADER, MAX_ENTRIES};
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
            "CREATE TABLE VolumeConfig(Name TEXT, JSON TEXT NOT NULL ON CONFLICT REPLACE DEFAULT '{}', StorageID TEXT)",
            "CREATE TABLE t(a TEXT REFERENCES s(a) ON UPDATE SET DEFAULT)",
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
        assert!(case(of_one_page(1, 1)).unwrap_err().1.contains("two places"));
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

    #[test]
    fn b15_a_log_is_found_wherever_the_database_is() {
        use std::ffi::OsStr;
        use std::os::unix::ffi::OsStrExt as _;
        use std::os::unix::fs::symlink;
        let scratch = tempfile::tempdir().unwrap();
        let dir = scratch.path().join(OsStr::from_bytes(b"no text \xff"));
        std::fs::create_dir(&dir).unwrap();
        let (path, log) = (dir.join(DATABASE), dir.join("db.sql-wal"));
        std::fs::write(&path, of_one_page(1, 0)).unwrap();
        let store = scratch.path().join("store");
        std::fs::create_dir(&store).unwrap();
        let link = store.join(DATABASE);
        symlink(&path, &link).unwrap();
        let check = || [&path, &link].map(|path| check_one(path).map_err(|r| r.case()));
        assert_eq!(check(), [Ok(()), Ok(())]);
        std::fs::write(&log, "").unwrap();
        assert_eq!(check(), [Ok(()), Ok(())], "nothing is in it");
        std::fs::write(&log, "a frame").unwrap();
        assert_eq!(check(), [Err(Case::B15Database); 2]);
        std::fs::remove_file(&log).unwrap();
        symlink(&log, &log).unwrap();
        assert_eq!(check(), [Err(Case::B15Database); 2], "it cannot be looked at");
    }

    #[test]
    fn b15_a_link_leads_where_sqlite_finds_it() {
        use std::os::unix::fs::symlink;
        let scratch = tempfile::tempdir().unwrap();
        let (store, other) = (scratch.path().join("store"), scratch.path().join("other"));
        for dir in [&store, &other] {
            std::fs::create_dir_all(dir.join("sub")).unwrap();
            std::fs::write(dir.join("a.sql"), of_one_page(1, 0)).unwrap();
        }
        let path = store.join(DATABASE);
        let case = |to: &str| {
            _ = std::fs::remove_file(&path);
            symlink(to, &path).unwrap();
            check_one(&path).map_err(|r| r.case())
        };
        let other = other.to_str().unwrap();
        let elsewhere = [format!("{other}/a.sql"), format!("{other}/sub/../a.sql"), "../other/a.sql".to_owned()];
        for to in elsewhere {
            assert_eq!(case(&to), Ok(()), "{to}");
        }
        let magic = format!("/proc/self/root{other}/a.sql");
        // The last ones are what podman may have replaced since it opened them.
        for to in [
            "none/../a.sql",
            "a.sql/../a.sql",
            "../other/none/../a.sql",
            "none",
            &magic,
            DATABASE,
            "a.sql",
            "../store/a.sql",
        ] {
            assert_eq!(case(to), Err(Case::B15Database), "{to}");
        }
    }

    /// Makes a database of a table whose rows are on two pages; `above` is the number noted on the way to the first.
    fn of_two_leaves(above: u8, first: &[u8], last: &[u8]) -> Vec<u8> {
        let page = |kind: u8, at: usize, cells: &[Vec<u8>]| {
            let mut page = vec![0; 4096];
            page[at] = kind;
            page[at + 4] = cells.len() as u8;
            let (mut end, pointers) = (4096, at + if kind == 0x05 { 12 } else { 8 });
            for (n, cell) in cells.iter().enumerate() {
                end -= cell.len();
                page[end..end + cell.len()].copy_from_slice(cell);
                page[pointers + 2 * n..pointers + 2 * n + 2].copy_from_slice(&(end as u16).to_be_bytes());
            }
            page
        };
        let sql = b"CREATE TABLE t(a TEXT)";
        // Its columns: nothing in three, the number of its first page, SQL.
        let record = [&[6, 0, 0, 0, 1, 12 + 1 + 2 * sql.len() as u8, 2][..], &sql[..]].concat();
        let mut schema = page(0x0d, FILE_HEADER, &[[&[record.len() as u8, 1][..], &record].concat()]);
        schema[..18].copy_from_slice(b"SQLite format 3\0\x10\0");
        let mut root = page(0x05, 0, &[vec![0, 0, 0, 3, above]]);
        root[8..12].copy_from_slice(&4_u32.to_be_bytes());
        let rows = |numbers: &[u8]| numbers.iter().map(|number| vec![2, *number, 2, 0]).collect::<Vec<_>>();
        [schema, root, page(0x0d, 0, &rows(first)), page(0x0d, 0, &rows(last))].concat()
    }

    #[test]
    fn b15_rows_are_in_order_on_the_way_to_the_last_one() {
        let scratch = tempfile::tempdir().unwrap();
        let path = scratch.path().join(DATABASE);
        let check = |database: Vec<u8>| {
            std::fs::write(&path, database).unwrap();
            check_one(&path).map_err(|r| (r.case(), r.detail().to_owned()))
        };
        assert_eq!(check(of_two_leaves(2, &[1, 2], &[3, 7])), Ok(()));
        assert_eq!(check(of_two_leaves(2, &[1], &[4])), Ok(()), "one was removed");
        for (above, first, last) in [
            (9, &[8, 9][..], &[3, 7][..]),
            (7, &[7], &[7]),
            (2, &[1, 2], &[7, 3]),
            (2, &[1, 2], &[3, 3]),
            (2, &[1, 2], &[]),
        ] {
            let (case, why) = check(of_two_leaves(above, first, last)).unwrap_err();
            assert!(case == Case::B15Database && why.contains("not in order"), "{above} {first:?} {last:?}: {why}");
        }
        let mut moved = of_two_leaves(2, &[1], &[3]);
        moved[55] = 3;
        assert_eq!(check(moved).map_err(|(case, _)| case), Err(Case::B15Database));
    }

    #[test]
    fn b15_every_page_has_one_place() {
        let scratch = tempfile::tempdir().unwrap();
        let path = scratch.path().join(DATABASE);
        let check = |change: &dyn Fn(&mut Vec<u8>)| {
            let mut database = of_two_leaves(2, &[1, 2], &[3, 7]);
            change(&mut database);
            std::fs::write(&path, database).unwrap();
            check_one(&path).map_err(|r| (r.case(), r.detail().to_owned()))
        };
        let with_free = |numbers: [u32; 3], trunk: u32| {
            move |database: &mut Vec<u8>| {
                database[32..36].copy_from_slice(&trunk.to_be_bytes());
                database.extend(numbers.iter().flat_map(|number| number.to_be_bytes()));
                database.resize(6 * 4096, 0);
            }
        };
        // A page that lists free ones: the next such page, how many, and one.
        assert_eq!(check(&with_free([0, 1, 6], 5)), Ok(()));
        for (what, change) in [
            ("free and in use", with_free([0, 1, 4], 5)),
            ("in use, and a list", with_free([0, 0, 0], 4)),
            ("a list of itself", with_free([5, 0, 0], 5)),
            ("free twice", with_free([6, 1, 6], 5)),
        ] {
            let (case, why) = check(&change).unwrap_err();
            assert!(case == Case::B15Database && why.contains("two places"), "{what}: {why}");
        }
        // The same leaf twice, and one that is not counted.
        let twice = |database: &mut Vec<u8>| database[4096 + 11] = 3;
        assert_eq!(check(&twice).map_err(|(case, _)| case), Err(Case::B15Database));
        let fewer = |database: &mut Vec<u8>| database[31] = 3;
        let (case, why) = check(&fewer).unwrap_err();
        assert!(case == Case::B15Database && why.contains("missing"), "{why}");
    }
}
