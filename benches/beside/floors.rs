//! What has to be done for a pull, each by itself and on both processors.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Mutex;

use layerseal::digest::{Algorithm, VerityHasher};

/// The first argument of the program that [`digests_of`] starts.
pub const DIGESTS: &str = "fs-verity-digests";

/// What is kept in the EROFS image and has no digest.
const INLINE: u64 = 64;

/// Makes a command that hashes blobs, two at a time.
pub fn sha256(blobs: &[PathBuf]) -> Command {
    let mut command = Command::new("sh");
    command
        .args(["-c", "printf '%s\\0' \"$@\" | xargs -0 -n 1 -P 2 openssl dgst -sha256 >/dev/null", "sh"])
        .args(blobs);
    command
}

/// Makes a command that computes the fs-verity digests of all files beneath a directory.
pub fn digests_of(dir: &Path) -> Command {
    let mut command = Command::new(std::env::current_exe().unwrap());
    command.arg(DIGESTS).arg(dir);
    command
}

/// Computes them, on two threads.
pub fn digests(dir: &Path) {
    let mut files = Vec::new();
    let mut todo = vec![dir.to_owned()];
    while let Some(dir) = todo.pop() {
        for entry in std::fs::read_dir(dir).unwrap().map(Result::unwrap) {
            let found = entry.metadata().unwrap();
            match found.is_dir() {
                true => todo.push(entry.path()),
                false if found.is_file() && found.len() > INLINE => files.push(entry.path()),
                false => {}
            }
        }
    }
    let files = Mutex::new(files.into_iter());
    let work = || {
        let mut buffer = vec![0; 1 << 20];
        loop {
            let next = files.lock().unwrap().next();
            let Some(path) = next else { break };
            let mut file = std::fs::File::open(path).unwrap();
            let mut hasher = VerityHasher::new(Algorithm::Sha256);
            loop {
                match std::io::Read::read(&mut file, &mut buffer).unwrap() {
                    0 => break,
                    n => hasher.update(&buffer[..n]),
                }
            }
            std::hint::black_box(hasher.finish());
        }
    };
    std::thread::scope(|scope| {
        scope.spawn(work);
        work();
    });
}
