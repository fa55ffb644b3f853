//! Where everything of a test run lies, and what takes it away.

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU32, Ordering};

/// Removes the directory when this process has ended, in whatever way: its standard input ends then.
/// Mounts of the namespaces are no obstacle: they end with the same pipe's other readers.
const JANITOR: &str = r#"
cat >/dev/null
for try in 1 2 3 4 5 6 7 8 9 10; do
    rm -rf --one-file-system "$1" 2>/dev/null && exit
    sleep 0.2
done
"#;

/// Returns the directory of this test run, on a filesystem that can hold a container store.
pub fn base() -> &'static Path {
    static BASE: OnceLock<(PathBuf, Child)> = OnceLock::new();
    let (path, _) = BASE.get_or_init(|| {
        let path = tempfile::Builder::new().prefix("podman.").tempdir_in(crate::scratch_dir()).unwrap().keep();
        let mut janitor = Command::new("setsid");
        janitor.args(["sh", "-c", JANITOR, "janitor"]).arg(&path).stdin(Stdio::piped());
        let child = janitor.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
        (path, child)
    });
    path
}

/// Makes up a name for a new directory in [`base`].
pub fn fresh(prefix: &str) -> PathBuf {
    static COUNT: AtomicU32 = AtomicU32::new(0);
    base().join(format!("{prefix}.{}", COUNT.fetch_add(1, Ordering::Relaxed)))
}
