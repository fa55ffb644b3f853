use super::super::sqlite::{FILE_HEADER, MAX_ENTRIES};
use super::*;

const DATABASE: &str = "db.sql";

fn sqlite(path: &Path) -> Result<()> {
    check_one(path, Format::Sqlite)
}

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
        sqlite(&path).map_err(|r| (r.case(), r.detail().to_owned()))
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
    assert_eq!(sqlite(&path), Ok(()), "none");
    std::fs::write(&path, "").unwrap();
    assert_eq!(sqlite(&path), Ok(()), "one that podman has just made");
    let mut header = b"SQLite format 3\0\x10\0\x01\x01\0".to_vec();
    header.resize(4096, 0);
    for bytes in [b"text".to_vec(), vec![0; 4096], header] {
        std::fs::write(&path, bytes).unwrap();
        assert_eq!(sqlite(&path).map_err(|r| r.case()), Err(Case::B15Database));
    }
    std::fs::remove_file(&path).unwrap();
    std::fs::create_dir(&path).unwrap();
    assert_eq!(sqlite(&path).map_err(|r| r.case()), Err(Case::B15Database));
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
    let check = || [&path, &link].map(|path| sqlite(path).map_err(|r| r.case()));
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
        sqlite(&path).map_err(|r| r.case())
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
        sqlite(&path).map_err(|r| (r.case(), r.detail().to_owned()))
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
        sqlite(&path).map_err(|r| (r.case(), r.detail().to_owned()))
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

/// Makes a database of BoltDB: of the root bucket on page 3 with buckets that begin on these pages, each of them empty, and with a
/// list of free pages.
fn of_buckets(buckets: &[u64], free: &[u64]) -> Vec<u8> {
    let page = |number: u64, flags: u16, count: usize, body: &[u8]| {
        let header = [&number.to_ne_bytes()[..], &flags.to_ne_bytes(), &(count as u16).to_ne_bytes(), &[0; 4]].concat();
        let mut page = [&header[..], body].concat();
        page.resize(4096, 0);
        page
    };
    let numbers = |numbers: &[u64]| numbers.iter().flat_map(|n| n.to_ne_bytes()).collect::<Vec<u8>>();
    let fields = |fields: &[u32]| fields.iter().flat_map(|n| n.to_ne_bytes()).collect::<Vec<u8>>();
    let meta = |number: u64| {
        let words = fields(&[0xed0c_daed, 2, 4096, 0]);
        let meta = [words, numbers(&[3, 0, 2, 8, number])].concat();
        let sum = bolt::fnv(&meta);
        page(number, 4, 0, &[meta, numbers(&[sum])].concat())
    };
    let all = buckets.len() as u32;
    let element = |n: u32| fields(&[1, 16 * (all - n) + 33 * n, 1, 32]);
    let elements = (0..all).flat_map(element);
    let values = buckets.iter().enumerate().flat_map(|(n, root)| [vec![n as u8], numbers(&[*root, 0, 0, 0])].concat());
    let root = elements.chain(values).collect::<Vec<u8>>();
    let leaves = (4..8).flat_map(|number| page(number, 2, 0, &[])).collect();
    [meta(0), meta(1), page(2, 16, free.len(), &numbers(free)), page(3, 2, buckets.len(), &root), leaves].concat()
}

#[test]
fn b15_every_page_of_boltdb_has_one_place() {
    let scratch = tempfile::tempdir().unwrap();
    let path = scratch.path().join("bolt_state.db");
    let bolt = |database: &[u8]| {
        std::fs::write(&path, database).unwrap();
        check_one(&path, Format::Bolt).map_err(|r| (r.case(), r.detail().to_owned()))
    };
    assert_eq!(bolt(b""), Ok(()), "one that podman has just made");
    assert_eq!(bolt(&of_buckets(&[4, 5], &[6, 7])), Ok(()));
    // A bucket that has no page of its own.
    assert_eq!(bolt(&of_buckets(&[4, 0], &[])), Ok(()));
    // One that was not written to its end, and the earlier one.
    for meta in [0, 4096] {
        let mut database = of_buckets(&[4], &[]);
        database[meta + 16 + 40] ^= 1;
        assert_eq!(bolt(&database), Ok(()), "{meta}");
    }
    let refused = |what: &str, database: Vec<u8>, said: &str| {
        let (case, why) = bolt(&database).unwrap_err();
        assert!(case == Case::B15Database && why.contains(said), "{what}: {why}");
    };
    refused("free twice", of_buckets(&[4], &[6, 6]), "two places");
    refused("free and in use", of_buckets(&[4], &[4]), "two places");
    refused("in two buckets", of_buckets(&[4, 4], &[]), "two places");
    refused("within itself", of_buckets(&[3], &[]), "two places");
    refused("the list is a bucket", of_buckets(&[2], &[]), "two places");
    refused("beyond the last one", of_buckets(&[8], &[]), "missing");
    refused("free beyond the last one", of_buckets(&[4], &[8]), "missing");
    refused("free: the first page", of_buckets(&[4], &[1]), "missing");
    let changed = |at: usize, byte: u8| {
        let mut database = of_buckets(&[4], &[]);
        database[at] = byte;
        database
    };
    refused("the number of another", changed(4 * 4096, 5), "number");
    refused("of no kind", changed(4 * 4096 + 8, 3), "kind");
    refused("goes on over another", changed(3 * 4096 + 12, 1), "two places");
    refused("goes on for ever", changed(3 * 4096 + 15, 0xff), "larger");
    refused("an entry elsewhere", changed(3 * 4096 + 16 + 5, 0xff), "leaves its page");
    refused("text", b"text".to_vec(), "no database");
    let mut unsummed = of_buckets(&[4], &[]);
    unsummed[16 + 56..16 + 64].fill(0);
    refused("without a checksum", unsummed, "checksum");
}

/// Pages that go on for others are read with these, and a file with holes there takes no room on the disk.
#[test]
fn b15_what_is_read_of_a_database_of_boltdb_has_a_limit() {
    use std::os::unix::fs::FileExt as _;
    const EACH: u64 = (64 << 20) / 4096;
    let scratch = tempfile::tempdir().unwrap();
    let path = scratch.path().join("bolt_state.db");
    let header = |number: u64, flags: u16, count: u16, more: u64| {
        [&number.to_ne_bytes()[..], &flags.to_ne_bytes(), &count.to_ne_bytes(), &(more as u32).to_ne_bytes()].concat()
    };
    let of_holes = |pages: u64| {
        let last = 8 + pages * EACH;
        let mut database = of_buckets(&[8], &[4, 5, 6, 7]);
        for at in [16, 4096 + 16] {
            database[at + 40..at + 48].copy_from_slice(&(last + 1).to_ne_bytes());
            let sum = bolt::fnv(&database[at..at + 56]);
            database[at + 56..at + 64].copy_from_slice(&sum.to_ne_bytes());
        }
        std::fs::write(&path, database).unwrap();
        let file = File::options().write(true).open(&path).unwrap();
        file.set_len((last + 1) * 4096).unwrap();
        for number in (8..last).step_by(EACH as usize) {
            let next = [&header(number, 1, 1, EACH - 1)[..], &[0; 8], &(number + EACH).to_ne_bytes()].concat();
            file.write_all_at(&next, number * 4096).unwrap();
        }
        file.write_all_at(&header(last, 2, 0, 0), last * 4096).unwrap();
        check_one(&path, Format::Bolt).map_err(|r| (r.case(), r.detail().to_owned()))
    };
    assert_eq!(of_holes(3), Ok(()));
    let (case, why) = of_holes(60).unwrap_err();
    assert!(case == Case::B15Database && why.contains("larger than podman's"), "{why}");
}

/// Elements of a leaf may all be one bucket without a page of its own, whose elements are all the next one.
#[test]
fn b15_elements_of_a_database_of_boltdb_are_counted() {
    const MANY: usize = 40;
    let scratch = tempfile::tempdir().unwrap();
    let path = scratch.path().join("bolt_state.db");
    let of_levels = |levels: usize| {
        let mut database = of_buckets(&[], &[]);
        let page = &mut database[3 * 4096..4 * 4096];
        let begin = |level: usize| level * (16 + 16 + 16 * MANY);
        for level in 0..levels {
            // The first has no bucket before its header.
            let header = begin(level) + if level == 0 { 0 } else { 16 };
            page[header + 8..header + 10].copy_from_slice(&2_u16.to_ne_bytes());
            page[header + 10..header + 12].copy_from_slice(&(MANY as u16).to_ne_bytes());
            let next = begin(level + 1);
            for element in (0..MANY).map(|n| header + 16 + 16 * n).filter(|_| level + 1 < levels) {
                let fields = [1, next - element, 0, 4096 - next].map(|field| (field as u32).to_ne_bytes());
                page[element..element + 16].copy_from_slice(&fields.concat());
            }
        }
        std::fs::write(&path, database).unwrap();
        check_one(&path, Format::Bolt).map_err(|r| (r.case(), r.detail().to_owned()))
    };
    assert_eq!(of_levels(3), Ok(()));
    let (case, why) = of_levels(6).unwrap_err();
    assert!(case == Case::B15Database && why.contains("larger than podman's"), "{why}");
}
