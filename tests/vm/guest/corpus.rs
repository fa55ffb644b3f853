//! E17: the kernel's verdicts on the corpus of signatures, which lies beside the test as `pkcs7/`.

use std::path::Path;

use layerseal::digest::Algorithm;
use layerseal::sys::keyring::VerityKeyring;
use layerseal::sys::{mounts, verity};
use openssl::x509::X509;

use crate::common::Bench;
use crate::draft;

/// The column of `cases.tsv` for this kernel.
fn column() -> usize {
    match mounts::kernel_version() {
        (6, ..12) => 5,
        (6, _) => 6,
        _ => 7,
    }
}

#[test]
fn e17_the_kernel_accepts_what_is_written_down_and_all_that_we_accept() {
    let dir = Path::new("/t/pkcs7");
    let keyring = VerityKeyring::find().unwrap();
    for entry in std::fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        if path.extension().is_some_and(|e| e == "crt") {
            let x509 = X509::from_pem(&std::fs::read(&path).unwrap()).unwrap();
            // Kernels do not know every kind of key; a signature by one of those is refused.
            let _ = keyring.add(&x509.to_der().unwrap());
        }
    }
    let content = std::fs::read(dir.join("file")).unwrap();
    let table = std::fs::read_to_string(dir.join("cases.tsv")).unwrap();
    let bench = Bench::new();
    let mut wrong = Vec::new();
    for line in table.lines().filter(|l| !l.starts_with('#')) {
        let cells: Vec<&str> = line.split('\t').collect();
        let signature = std::fs::read(dir.join(format!("{}.der", cells[0]))).unwrap();
        let path = bench.write(cells[0], &content);
        let enabled = verity::enable(&draft(path), Algorithm::Sha256, Some(&signature), cells[0]);
        let found = if enabled.is_ok() { "accepted" } else { "refused" };
        if found != cells[column()] {
            wrong.push(format!("{}\t{found}", cells[0]));
        }
    }
    assert!(wrong.is_empty(), "column {}:\n{}", column(), wrong.join("\n"));
}
