//! How OpenSSL finds the certificate authorities that the system trusts. Left to itself, native-tls has it read the file
//! with all of them, twice for each connector: four fifths of the processor time of a question to a registry. In a
//! directory where each has a link by the hash of its name (openssl-rehash(1)) it reads the one that is needed.

use std::ffi::OsString;
use std::path::Path;
use std::process::Command;
use std::sync::OnceLock;

use memchr::memmem;

/// What update-ca-certificates(8) keeps, links and file.
const DIR: &str = "/etc/ssl/certs";
const FILE: &str = "/etc/ssl/certs/ca-certificates.crt";

/// The variables that OpenSSL and Go read.
const VARIABLES: [&str; 2] = ["SSL_CERT_FILE", "SSL_CERT_DIR"];

/// What the caller said, once this process says something else.
static CALLERS: OnceLock<[Option<OsString>; 2]> = OnceLock::new();

/// Has authorities looked up by name, if all of those in the file have links, or if none is `needed` at all. Nothing
/// changes for a caller who says where others are, or as soon as there is more than one thread.
pub fn find_by_name(needed: bool) {
    if CALLERS.get().is_some() || !is_alone() {
        return;
    }
    let said = VARIABLES.map(std::env::var_os);
    let is_usual = said.iter().zip([FILE, DIR]).all(|(said, usual)| said.as_ref().is_none_or(|said| said == usual));
    if needed && !(is_usual && are_linked(Path::new(DIR), Path::new(FILE))) {
        return;
    }
    // SAFETY: this is the only thread (see above), so nobody reads the environment meanwhile.
    unsafe {
        std::env::set_var(VARIABLES[0], "/dev/null");
        std::env::set_var(VARIABLES[1], DIR);
    }
    let _ = CALLERS.set(said);
}

/// Lets a child find authorities as it does without us.
pub fn as_before(command: &mut Command) {
    for (name, said) in VARIABLES.iter().zip(CALLERS.get().into_iter().flatten()) {
        match said {
            Some(said) => command.env(name, said),
            None => command.env_remove(name),
        };
    }
}

/// Returns whether this process has one thread.
fn is_alone() -> bool {
    std::fs::read_dir("/proc/self/task").is_ok_and(|tasks| tasks.count() == 1)
}

/// Returns whether there are as many links in `dir` as certificates in `file`.
fn are_linked(dir: &Path, file: &Path) -> bool {
    let Ok(text) = std::fs::read(file) else { return false };
    let wanted = memmem::find_iter(&text, "-----BEGIN CERTIFICATE-----").count();
    let is_link = |name: &[u8]| {
        let (hash, number) = name.split_at_checked(9).unwrap_or_default();
        hash.strip_suffix(b".").is_some_and(|hash| hash.iter().all(u8::is_ascii_hexdigit))
            && !number.is_empty()
            && number.iter().all(u8::is_ascii_digit)
    };
    let links = std::fs::read_dir(dir).into_iter().flatten().flatten();
    let links = links.filter(|entry| is_link(entry.file_name().as_encoded_bytes()) && entry.path().exists());
    wanted > 0 && links.count() >= wanted
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn authorities_without_links_are_read_from_the_file() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("all.crt");
        let certificate = "-----BEGIN CERTIFICATE-----\nx\n-----END CERTIFICATE-----\n";
        let linked = || are_linked(dir.path(), &file);
        assert!(!linked());
        std::fs::write(&file, certificate.repeat(2)).unwrap();
        assert!(!linked());
        std::fs::write(dir.path().join("0a1b2c3d.0"), certificate).unwrap();
        for other in ["0a1b2c3d", "0a1b2c3d.", "0a1b2c3d.r0", "0a1b2c3x.0", "0a1b2c3.00", "0a1b2c3d.1.pem"] {
            std::fs::write(dir.path().join(other), certificate).unwrap();
        }
        std::os::unix::fs::symlink("gone.pem", dir.path().join("0a1b2c3d.1")).unwrap();
        assert!(!linked());
        std::fs::write(dir.path().join("gone.pem"), certificate).unwrap();
        assert!(linked());
        std::fs::write(&file, "").unwrap();
        assert!(!linked());
    }
}
