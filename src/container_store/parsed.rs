//! Files of records that this process has parsed: what starts a container, or lists many, asks the same ones several
//! times, and on a host with many images that is most of the work.

use std::any::Any;
use std::collections::VecDeque;
use std::fs::{File, Metadata};
use std::os::unix::fs::MetadataExt as _;
use std::sync::{Arc, Mutex, PoisonError};

/// How many files are remembered: five of each store, for a few stores.
const REMEMBERED: usize = 16;

/// What is another one when the file is: containers-storage replaces it (storage/pkg/ioutils, `AtomicFileWriter`), and
/// whoever writes into it changes its times.
#[derive(Clone, Copy, PartialEq, Eq)]
struct FileState {
    file: (u64, u64, u64),
    modified: (i64, i64),
    changed: (i64, i64),
}

impl FileState {
    fn of(metadata: &Metadata) -> Self {
        Self {
            file: (metadata.dev(), metadata.ino(), metadata.len()),
            modified: (metadata.mtime(), metadata.mtime_nsec()),
            changed: (metadata.ctime(), metadata.ctime_nsec()),
        }
    }
}

type Parsed = Arc<dyn Any + Send + Sync>;

static PARSED: Mutex<VecDeque<(FileState, Parsed)>> = Mutex::new(VecDeque::new());

/// Returns what `parse` makes of `file`, of which this is known, or made of it before. What could not be parsed is not remembered.
///
/// # Errors
/// The errors of `parse`.
pub(super) fn once<T: Any + Send + Sync, E>(
    file: File,
    metadata: &Metadata,
    parse: impl FnOnce(File) -> Result<T, E>,
) -> Result<Arc<T>, E> {
    let state = FileState::of(metadata);
    let known = || PARSED.lock().unwrap_or_else(PoisonError::into_inner);
    let find = |(of, parsed): &(FileState, Parsed)| (*of == state).then(|| Arc::clone(parsed).downcast().ok())?;
    if let Some(parsed) = known().iter().find_map(find) {
        return Ok(parsed);
    }
    let parsed = Arc::new(parse(file)?);
    let mut all = known();
    all.truncate(REMEMBERED - 1);
    all.push_front((state, parsed.clone()));
    Ok(parsed)
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;

    #[test]
    fn a_file_is_parsed_once_until_it_is_another_one() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("records");
        let open = |path: &Path| {
            let file = File::open(path).unwrap();
            let metadata = file.metadata().unwrap();
            (file, metadata)
        };
        let parse = |expected: &str, parses: bool| {
            let mut parsed = false;
            let (file, metadata) = open(&path);
            let text = once(file, &metadata, |file| {
                parsed = true;
                std::io::read_to_string(file)
            });
            assert_eq!((text.unwrap().as_str(), parsed), (expected, parses));
        };
        let replace = |text: &str| {
            std::fs::write(dir.path().join("new"), text).unwrap();
            std::fs::rename(dir.path().join("new"), &path).unwrap();
        };
        replace("one");
        parse("one", true);
        parse("one", false);
        replace("two");
        parse("two", true);
        parse("two", false);
        // Of another kind it is not the same.
        let (file, metadata) = open(&path);
        assert_eq!(*once(file, &metadata, |_| std::io::Result::Ok(7)).unwrap(), 7);
        parse("two", false);
        for number in 0..REMEMBERED {
            replace(&number.to_string());
            parse(&number.to_string(), true);
        }
        let (file, metadata) = open(dir.path());
        let failed: std::io::Result<Arc<u8>> = once(file, &metadata, |_| Err(std::io::Error::other("no")));
        assert!(failed.is_err());
        assert!(PARSED.lock().unwrap().len() <= REMEMBERED);
    }
}
