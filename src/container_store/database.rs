//! podman's own database, `db.sql` (SQLite, since podman 4.8) or `bolt_state.db` (BoltDB), which is in the graph root,
//! so that whoever writes there writes it; that of a transient store is in the run root, which may be on a disk too. What
//! rows say of a container that exists is podman's to judge. But the file can also change what podman writes, or what it
//! reads back: every new container gets another command, other mounts or hooks of the host than podman was told, every
//! new volume another directory. A trigger, a view or a computed column does that; a column that replaces what is
//! missing; a log beside the file, which SQLite reads first; rows with the numbers that new ones will get; a page that is
//! part of two tables; a link, which SQLite follows in its own way; and another name, by which a container can write.
//! podman's has nothing of the kind.

use std::fs::File;
use std::io;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use rustix::fs::{FlockOperation, OFlags, fcntl_lock, flock};
use rustix::io::Errno;

use super::bolt;
use super::configured::configured;
use super::own_files::ANOTHER_NAME;
use super::sqlite::Database;
use crate::error::{Case, Refusal, Result};
use crate::sys::process::{self, User};
use crate::sys::{files, same_paths};

/// Where podman has its databases in a graph root, or for a transient store in the run root (libpod, `sqliteStatePath`,
/// `getBoltDBPath`).
const DATABASES: [(&str, Format); 2] = [("db.sql", Format::Sqlite), ("libpod/bolt_state.db", Format::Bolt)];

/// How a database is written.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Format {
    Sqlite,
    /// BoltDB: podman 4, and podman 5 where podman 4 has made it.
    Bolt,
}

/// Words that no entry of podman's schema has. A computed column says `AS`, as a view does; `ON CONFLICT REPLACE` and
/// `ON DELETE SET DEFAULT` put a default in the place of what podman writes.
const WORDS: [&str; 6] = ["TRIGGER", "VIEW", "VIRTUAL", "AS", "CONFLICT", "SET"];

/// How long a podman that is writing is waited for: it writes for milliseconds.
const PATIENCE: Duration = Duration::from_secs(10);

/// How long before the next try.
const PAUSE: Duration = Duration::from_millis(10);

/// Checks the databases in the graph root and the run root that are configured, and those in `others`, where there are
/// any. What users other than root have in theirs is their own affair.
///
/// # Errors
/// [`Case::B15Database`] for one that can change what podman writes to it, or that cannot be read;
/// [`Case::Io`].
pub fn check_database<'a>(others: impl IntoIterator<Item = &'a Path>) -> Result<()> {
    let mut places: Vec<PathBuf> = configured().map(|found| vec![found.graph_root, found.run_root]).unwrap_or_default();
    places.extend(others.into_iter().map(Path::to_owned));
    places.sort_unstable();
    places.dedup();
    let checked = places
        .iter()
        .try_for_each(|place| DATABASES.iter().try_for_each(|(name, format)| check_one(&place.join(name), *format)));
    // A user's is that user's own, who can have podman do what they like. Asked last: whose process this is has to be
    // read.
    checked.or_else(|refusal| match process::user() {
        User::Rootless => Ok(()),
        _ => Err(refusal),
    })
}

/// Lists where podman may have its database in a graph root or a run root.
pub fn database_paths(root: &Path) -> impl Iterator<Item = PathBuf> {
    DATABASES.iter().map(|(name, _)| root.join(name))
}

/// Checks one database, if it is there.
fn check_one(path: &Path, format: Format) -> Result<()> {
    let refuse = |why: &dyn std::fmt::Display| Refusal::new(Case::B15Database, path.display().to_string(), why);
    let io = |e: io::Error| Refusal::io(path.display().to_string(), e);
    let Some(file) = open(path)? else { return Ok(()) };
    if format == Format::Sqlite {
        // Where a link leads, SQLite has it beside the file there.
        let mut log = std::fs::read_link(files::proc_path(&file)).map_err(io)?.into_os_string();
        log.push("-wal");
        match std::fs::metadata(&log) {
            Ok(found) if found.len() == 0 => {}
            Err(e) if e.kind() == io::ErrorKind::NotFound => {}
            // One that cannot be looked at is one as well.
            _ => return Err(refuse(&"it has a write-ahead log, which podman's has not")),
        }
    }
    let unlike_podmans = || match format {
        Format::Sqlite => unlike_podmans(&file),
        Format::Bolt => bolt::check_places(&file).map(|()| None),
    };
    let look = || match unlike_podmans() {
        Ok(None) => Ok(()),
        Ok(Some(what)) => Err(refuse(&what)),
        Err(e) if e.kind() == io::ErrorKind::InvalidData => Err(refuse(&e)),
        Err(e) => Err(io(e)),
    };
    // Another podman may be writing.
    look().or_else(|_| {
        keep_from_writers(&file, format);
        look()
    })
}

/// Opens a database where podman finds it; `None` if there is none.
fn open(path: &Path) -> Result<Option<File>> {
    let refuse = |why: &dyn std::fmt::Display| Refusal::new(Case::B15Database, path.display().to_string(), why);
    let io = |e: io::Error| Refusal::io(path.display().to_string(), e);
    let opened = same_paths::open(path, OFlags::RDONLY | OFlags::NONBLOCK);
    let is_link = path.is_symlink();
    let file = match opened {
        Ok(file) => File::from(file),
        // SQLite itself reads links, and takes away what is before `..` without looking for it: it finds the file of
        // `none/../other`, and the kernel does not.
        Err(e) if is_link => return Err(refuse(&format!("a link that cannot be followed: {e}"))),
        Err(e) if matches!(e.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory) => return Ok(None),
        Err(e) => return Err(io(e)),
    };
    let metadata = file.metadata().map_err(io)?;
    if !metadata.is_file() {
        return Err(refuse(&"no file"));
    }
    if metadata.nlink() > 1 {
        return Err(refuse(&ANOTHER_NAME));
    }
    let found = std::fs::read_link(files::proc_path(&file)).map_err(io)?;
    let store = path.parent().map(std::fs::canonicalize).transpose().map_err(io)?;
    if is_link && store.is_some_and(|store| found.starts_with(store)) {
        // podman replaces directories there, after it has opened its database.
        return Err(refuse(&"a link to a place in the same store"));
    }
    Ok(Some(file))
}

/// Keeps other processes from writing to the database, as long as it is open, unless one of them does not end: then
/// what is there counts.
fn keep_from_writers(file: &File, format: Format) {
    let until = Instant::now() + PATIENCE;
    let lock = || match format {
        Format::Sqlite => fcntl_lock(file, FlockOperation::NonBlockingLockShared),
        Format::Bolt => flock(file, FlockOperation::NonBlockingLockShared),
    };
    while let Err(Errno::AGAIN | Errno::ACCESS | Errno::INTR) = lock() {
        if Instant::now() > until {
            return;
        }
        std::thread::sleep(PAUSE);
    }
}

/// Returns the first thing in the database that podman's has not: an entry of the schema, as SQL, or rows that stand in
/// the way.
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
mod tests;
