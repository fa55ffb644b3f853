//! F01, F02: trust stores on disk.

use std::fs;
use std::os::unix::fs::{PermissionsExt, chown, symlink};
use std::path::{Path, PathBuf};

use layerseal::error::{Case, Result};
use layerseal::pki::pkcs7::Certificate;
use layerseal::pki::trust::{Ownership, TrustStore};
use tempfile::TempDir;

use crate::keys::*;

fn pem(name: &str) -> Vec<u8> {
    Recipe::new(&P256, name).build().to_pem().unwrap()
}

fn load(path: &Path, ownership: Ownership) -> Result<TrustStore> {
    TrustStore::load(&[path.to_owned()], ownership)
}

fn subjects(store: &TrustStore) -> Vec<&str> {
    store.certificates().iter().map(Certificate::subject).collect()
}

/// A directory `store` with one certificate, in a private directory.
fn store() -> (TempDir, PathBuf) {
    let private = tempfile::tempdir().unwrap();
    let dir = private.path().join("store");
    fs::create_dir(&dir).unwrap();
    fs::set_permissions(&dir, fs::Permissions::from_mode(0o755)).unwrap();
    fs::write(dir.join("a.crt"), pem("a")).unwrap();
    fs::set_permissions(dir.join("a.crt"), fs::Permissions::from_mode(0o644)).unwrap();
    (private, dir)
}

fn is_root() -> bool {
    if !rustix::process::geteuid().is_root() {
        support::skip!("needs root");
    }
    true
}

#[test]
fn f01_empty_stores() {
    let (_private, dir) = store();
    assert_refused(TrustStore::load(&[], Ownership::Any), Case::F01Store);
    fs::rename(dir.join("a.crt"), dir.join("a.txt")).unwrap();
    assert_refused(load(&dir, Ownership::Any), Case::F01Store);
    assert_refused(load(&dir.join("missing"), Ownership::Any), Case::F01Store);
    assert_refused(load(Path::new("/dev/null"), Ownership::Any), Case::F01Store);
}

#[test]
fn f02_what_counts_in_a_directory() {
    let (_private, dir) = store();
    fs::write(dir.join("c.pem"), [pem("c1"), pem("c2")].concat()).unwrap();
    fs::write(dir.join("b.der"), Recipe::new(&P256, "b").build().to_der().unwrap()).unwrap();
    fs::write(dir.join("d.cer"), pem("d")).unwrap();
    for ignored in ["README", "key.key", "crt", ".hidden.crt", "a.crt.bak", "a.CRT"] {
        fs::write(dir.join(ignored), "not a certificate").unwrap();
    }
    fs::create_dir(dir.join("deeper")).unwrap();
    fs::write(dir.join("deeper/e.crt"), pem("e")).unwrap();
    let store = load(&dir, Ownership::Any).unwrap();
    assert_eq!(subjects(&store), ["CN=a", "CN=b", "CN=c1", "CN=c2", "CN=d"]);
    // A name that counts must be a certificate.
    fs::write(dir.join("z.crt"), "not a certificate").unwrap();
    let refusal = load(&dir, Ownership::Any).unwrap_err();
    assert_eq!(refusal.case(), Case::F02Certificate);
    assert!(refusal.subject().ends_with("/z.crt"), "{refusal}");
    fs::write(dir.join("z.crt"), "").unwrap();
    assert_refused(load(&dir, Ownership::Any), Case::F02Certificate);
}

#[test]
fn f02_duplicates_are_merged() {
    let (_private, dir) = store();
    let again = fs::read(dir.join("a.crt")).unwrap();
    fs::write(dir.join("b.crt"), [pem("b"), again.clone(), again].concat()).unwrap();
    let paths = [dir.join("a.crt"), dir.clone(), dir.join("b.crt")];
    let store = TrustStore::load(&paths, Ownership::Any).unwrap();
    assert_eq!(subjects(&store), ["CN=a", "CN=b"]);
}

#[test]
fn f01_what_is_not_a_file() {
    let (_private, dir) = store();
    fs::create_dir(dir.join("b.crt")).unwrap();
    assert_refused(load(&dir, Ownership::Any), Case::F01Store);
    fs::remove_dir(dir.join("b.crt")).unwrap();
    symlink("nowhere", dir.join("b.crt")).unwrap();
    assert_refused(load(&dir, Ownership::Any), Case::F01Store);
    fs::remove_file(dir.join("b.crt")).unwrap();
    // A fifo must not hang.
    let mode = rustix::fs::Mode::from_raw_mode(0o600);
    rustix::fs::mknodat(rustix::fs::CWD, dir.join("b.crt"), rustix::fs::FileType::Fifo, mode, 0).unwrap();
    assert_refused(load(&dir, Ownership::Any), Case::F01Store);
    assert_refused(load(&dir.join("b.crt"), Ownership::Any), Case::F01Store);
    fs::remove_file(dir.join("b.crt")).unwrap();
    fs::write(dir.join("b.crt"), vec![b'\n'; 2 << 20]).unwrap();
    assert_refused(load(&dir, Ownership::Any), Case::F02Certificate);
}

#[test]
fn f01_root_only() {
    if !is_root() {
        return;
    }
    let (private, dir) = store();
    let file = dir.join("a.crt");
    for path in [&dir, &file] {
        let store = load(path, Ownership::RootOnly).unwrap();
        assert_eq!(subjects(&store), ["CN=a"]);
    }
    let mode = |path: &Path, mode| {
        fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
    };
    // Writable for others or group: the file, its directory, the directory around that.
    for (path, bad, good) in [
        (file.as_path(), 0o646, 0o644),
        (&file, 0o664, 0o600),
        (&dir, 0o777, 0o755),
        (&dir, 0o1777, 0o755),
        (&dir, 0o775, 0o700),
        (private.path(), 0o777, 0o700),
    ] {
        mode(path, bad);
        assert_refused(load(&dir, Ownership::RootOnly), Case::F01Store);
        assert!(load(&dir, Ownership::Any).is_ok());
        mode(path, good);
        assert!(load(&dir, Ownership::RootOnly).is_ok());
    }
    // A file's directory counts when only the file is named.
    mode(&dir, 0o777);
    assert_refused(load(&file, Ownership::RootOnly), Case::F01Store);
    mode(&dir, 0o755);
    for path in [&file, &dir] {
        chown(path, Some(1000), None).unwrap();
        assert_refused(load(&dir, Ownership::RootOnly), Case::F01Store);
        chown(path, Some(0), None).unwrap();
    }
    assert!(load(&dir, Ownership::RootOnly).is_ok());
}

#[test]
fn f01_symbolic_links() {
    if !is_root() {
        return;
    }
    let (private, dir) = store();
    // Within the directory: followed, under both rules.
    symlink("a.crt", dir.join("b.crt")).unwrap();
    assert!(load(&dir, Ownership::RootOnly).is_ok());
    assert!(load(&dir.join("b.crt"), Ownership::RootOnly).is_ok());
    // Out of it, relative, absolute and by way of /proc.
    fs::write(private.path().join("out.crt"), pem("out")).unwrap();
    let outside = private.path().join("out.crt");
    for target in
        [PathBuf::from("../out.crt"), outside, PathBuf::from("../store/a.crt"), PathBuf::from("/proc/self/fd/0")]
    {
        let link = dir.join("c.crt");
        symlink(&target, &link).unwrap();
        assert_refused(load(&dir, Ownership::RootOnly), Case::F01Store);
        assert_refused(load(&link, Ownership::RootOnly), Case::F01Store);
        fs::remove_file(&link).unwrap();
    }
    // The store itself may be a link beside it, and not elsewhere.
    symlink("store", private.path().join("linked")).unwrap();
    assert!(load(&private.path().join("linked"), Ownership::RootOnly).is_ok());
    fs::create_dir(private.path().join("sub")).unwrap();
    symlink(&dir, private.path().join("sub/linked")).unwrap();
    let linked = private.path().join("sub/linked");
    assert_refused(load(&linked, Ownership::RootOnly), Case::F01Store);
    assert!(load(&linked, Ownership::Any).is_ok());
}

#[test]
fn f01_user_owned_is_not_roots() {
    let (_private, dir) = store();
    if rustix::process::geteuid().is_root() {
        chown(dir.join("a.crt"), Some(1000), Some(1000)).unwrap();
    }
    let refusal = load(&dir, Ownership::RootOnly).unwrap_err();
    assert_eq!(refusal.case(), Case::F01Store);
}
