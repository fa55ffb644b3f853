use std::io::Write as _;

use super::*;

fn table(lines: impl Iterator<Item = String>) -> Vec<u8> {
    let text: String = lines.map(|line| line + "\n").collect();
    let mut out = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    out.write_all(text.as_bytes()).unwrap();
    out.finish().unwrap()
}

fn segment(bytes: &[u8]) -> String {
    format!(r#"{{"type":2,"payload":"{}"}}"#, STANDARD.encode(bytes))
}

fn refused(lines: impl Iterator<Item = String>, cases: &[Case]) {
    let gzip = table(lines);
    let skeleton = Skeleton::read(&*gzip, &Budget::STANDARD).unwrap_err().case();
    let digest = diff_id(&*gzip, &Budget::STANDARD, &mut |_| Ok(Box::new(io::empty()))).unwrap_err().case();
    assert!(cases.contains(&skeleton) && cases.contains(&digest), "{skeleton:?} {digest:?}");
}

/// Checks that the lines of a table are counted: two of them, repeated, make a million in a few kilobytes of gzip.
#[test]
fn c03_lines_and_bytes_of_a_table_are_counted() {
    let many = || 0..2_000;
    refused(many().map(|_| r#"{"type":1,"size":0}"#.to_owned()), &[Case::H11Layer]);
    refused(many().map(|_| r#"{"type":2,"payload":""}"#.to_owned()), &[Case::C03TooBig]);
    let turns = |n: i32| if n % 2 == 0 { segment(b"") } else { r#"{"type":1}"#.to_owned() };
    refused(many().map(turns), &[Case::C03TooBig, Case::H11Layer]);
    // A byte in each, and a header in each that is followed by crumbs.
    refused(many().map(|_| segment(&[0])), &[Case::C03TooBig]);
    let crumbs = |n: i32| if n % 100 == 0 { segment(&[0; 512]) } else { segment(&[0; 2]) };
    refused(many().map(crumbs), &[Case::C03TooBig]);
    // White space, and keys that no format has.
    refused((0..4).map(|_| format!("{}{}", " ".repeat(1 << 20), segment(&[0; 512]))), &[Case::C03TooBig]);
    let word = format!(r#"{{"type":2,"x":"{}","payload":""}}"#, "x".repeat(1 << 20));
    refused((0..4).map(|_| word.clone()), &[Case::C03TooBig]);
}

#[test]
fn x02_contents_and_files_are_as_many() {
    let lines = || [segment(&tar_header(b"f", 1)), r#"{"type":1,"size":1}"#.to_owned(), segment(&[0; 511])];
    let skeleton = || Skeleton::read(&*table(lines().into_iter()), &Budget::STANDARD).unwrap();
    let one = || FileContent::Inline([7].into());
    assert_eq!(skeleton().fill(vec![one()]).unwrap().len(), 1);
    for wrong in [vec![], vec![one(), one()]] {
        assert_eq!(skeleton().fill(wrong).unwrap_err().case(), Case::Bug);
    }
}

#[test]
fn tables_of_small_files_are_honest() {
    // The shortest that there are: a header, an empty file and nothing behind it; or a byte and its padding.
    let mut header = tar_header(b"f", 1);
    let one = |n: usize, header: &[u8]| match n % 3 {
        0 => segment(header),
        1 => r#"{"type":1,"size":1,"name":"f","position":7,"payload":"AAAAAAAAAAE="}"#.to_owned(),
        _ => segment(&[0; 511]),
    };
    let end = [segment(&[0; 512]), segment(&[0; 512])];
    let lines = (0..3 * 500).map(|n| one(n, &header)).chain(end.clone());
    assert_eq!(Skeleton::read(&*table(lines), &Budget::STANDARD).unwrap().count(), 500);
    header = tar_header(b"f", 0);
    let lines = (0..2 * 500).map(|n| if n % 2 == 0 { segment(&header) } else { r#"{"type":1}"#.to_owned() });
    // Blocks of an archive end with more of nothing.
    let lines = lines.chain(end).chain((0..19).map(|_| segment(&[0; 512])));
    assert_eq!(Skeleton::read(&*table(lines), &Budget::STANDARD).unwrap().entries.len(), 500);
}

fn tar_header(name: &[u8], size: u64) -> Vec<u8> {
    let mut header = vec![0; 512];
    header[..name.len()].copy_from_slice(name);
    for (at, text) in [(100, "0000644\0"), (108, "0000000\0"), (116, "0000000\0"), (136, "00000000000\0")] {
        header[at..at + text.len()].copy_from_slice(text.as_bytes());
    }
    header[124..136].copy_from_slice(format!("{size:011o}\0").as_bytes());
    header[156] = b'0';
    header[257..265].copy_from_slice(b"ustar\x0000");
    header[148..156].fill(b' ');
    let sum: u32 = header.iter().map(|b| u32::from(*b)).sum();
    header[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
    header
}
