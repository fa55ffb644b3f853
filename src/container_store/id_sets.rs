//! The sets of user and group IDs in the records of layers (storage/layers.go, `UIDs`, `GIDs`): nothing here needs them,
//! and a pulled image decides how large they are. One entry of its tar, which may be a hard link, can add a number to
//! each.

use std::io::{Error, ErrorKind, Read, Result};

use memchr::memmem;

use crate::sys::files::FEW;

/// How containers-storage writes the beginning of a set, without its first letter. In JSON these bytes are the end of a
/// key and the beginning of its value wherever they occur, since a quote within a string is escaped; and they are that of
/// no other key that we read.
const KEY: &[u8] = b"idset\":[";

/// Bytes that are read at a time.
const CHUNK: u64 = 256 << 10;

/// Reads a file of records and leaves out the numbers of such sets, which become empty. `most` is how many bytes may be
/// kept, `all` how many may be read.
///
/// # Errors
/// Those of reading, and [`ErrorKind::FileTooLarge`].
pub(super) fn read_without(mut file: impl Read, most: u64, all: u64) -> Result<Vec<u8>> {
    let (mut kept, mut chunk) = (Vec::new(), Vec::with_capacity(FEW));
    let (mut total, mut within) = (0, false);
    loop {
        chunk.clear();
        file.by_ref().take(CHUNK).read_to_end(&mut chunk)?;
        total += chunk.len() as u64;
        if total > all {
            return Err(too_large(all));
        }
        let mut rest = chunk.as_slice();
        while !rest.is_empty() {
            if within {
                let numbers = rest.iter().take_while(|byte| byte.is_ascii_digit() || **byte == b',').count();
                rest = &rest[numbers..];
                within = rest.is_empty();
                continue;
            }
            // The beginning may be in two chunks.
            let before = kept.len().saturating_sub(2 + KEY.len());
            let had = kept.len();
            kept.extend_from_slice(rest);
            let end = ends(&kept[before..]).map(|end| before + end).find(|end| *end > had);
            within = end.is_some();
            rest = end.map_or(&[], |end| &rest[end - had..]);
            kept.truncate(end.unwrap_or(kept.len()));
        }
        if kept.len() as u64 > most {
            return Err(too_large(most));
        }
        if (chunk.len() as u64) < CHUNK {
            return Ok(kept);
        }
    }
}

/// Lists where sets begin: behind their keys and brackets.
fn ends(bytes: &[u8]) -> impl Iterator<Item = usize> {
    let is_set = |at: &usize| matches!(bytes[..*at].last_chunk(), Some(b"\"u" | b"\"g"));
    memmem::find_iter(bytes, KEY).filter(is_set).map(|at| at + KEY.len())
}

fn too_large(allowed: u64) -> Error {
    Error::new(ErrorKind::FileTooLarge, format!("allowed are {allowed} bytes"))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Gives so many bytes at a time.
    struct Slow<'a>(&'a [u8], usize);

    impl Read for Slow<'_> {
        fn read(&mut self, buffer: &mut [u8]) -> Result<usize> {
            let count = self.1.min(buffer.len());
            self.0.read(&mut buffer[..count])
        }
    }

    #[test]
    fn b01_sets_of_user_ids_are_left_out() {
        let read = |text: &str| {
            let kept = read_without(text.as_bytes(), 1 << 20, 1 << 30).unwrap();
            assert_eq!(kept, read_without(Slow(text.as_bytes(), 1), 1 << 20, 1 << 30).unwrap());
            String::from_utf8(kept).unwrap()
        };
        let record = r#"[{"id":"a","uidset":[0,1000],"gidset":[0],"flags":{}},{"uidset":[],"gidset":null}]"#;
        assert_eq!(read(record), r#"[{"id":"a","uidset":[],"gidset":[],"flags":{}},{"uidset":[],"gidset":null}]"#);
        // Nothing else is.
        for same in [
            "",
            "[]",
            r#"[{"metadata":"\"uidset\":[1,2]","uidset":{"x":[1,2]},"xidset":[1,2],"uidset" : [1, 2]}]"#,
            r#"[{"uidset":[-1],"gidset":["1,2"]}]"#,
        ] {
            assert_eq!(read(same), same);
        }
        // What is wrong stays wrong.
        assert_eq!(read(r#"[{"uidset":[1,2 3]"#), r#"[{"uidset":[ 3]"#);
    }

    #[test]
    fn b01_sets_in_any_place_of_a_chunk_are_left_out() {
        for before in (CHUNK as usize - 40)..(CHUNK as usize + 4) {
            let text = |set: &str| format!("[{}{{\"uidset\":[{set}],\"gidset\":[{set}]}}]", " ".repeat(before));
            let kept = read_without(text(&"1000,".repeat(20)).as_bytes(), 1 << 20, 1 << 30).unwrap();
            assert!(kept == text("").as_bytes(), "{before}");
        }
    }

    #[test]
    fn b01_what_is_kept_and_what_is_read_have_limits() {
        let large = |text: &str| read_without(text.as_bytes(), 20, 600).map_err(|e| e.kind());
        assert_eq!(large(&format!("{{\"uidset\":[{}]}}", "1,".repeat(200))).unwrap(), b"{\"uidset\":[]}");
        assert_eq!(large(&format!("{{\"uidset\":[{}]}}", "1,".repeat(300))).unwrap_err(), ErrorKind::FileTooLarge);
        assert_eq!(large(&" ".repeat(21)).unwrap_err(), ErrorKind::FileTooLarge);
    }
}
