//! A test that cannot run here says so, where it can be counted: on its output, which is shown with `--nocapture`, and
//! in a file, `$LAYERSEAL_SKIPS` or else `target/skipped/TARGET`. `tests/run.sh` counts the lines of that file.

use std::collections::BTreeSet;
use std::fmt::Arguments;
use std::io::Write as _;
use std::path::PathBuf;
use std::sync::{Mutex, PoisonError};

/// `skip!("needs root")` ends a test, or a function that gives a test what it needs (`false`, `None`), with a line that
/// says why. `skip!(part: "needs strace")` says that a part of the test is left out, and goes on.
#[macro_export]
macro_rules! skip {
    (part: $($why:tt)+) => { $crate::skip::record("a part of ", format_args!($($why)+)) };
    ($($why:tt)+) => {{
        $crate::skip::record("", format_args!($($why)+));
        return Default::default();
    }};
}

/// Records what [`skip!`] skips; `part` comes before the name. The test is the one whose thread this is. A line is
/// written once.
///
/// # Panics
///
/// Where `$LAYERSEAL_SKIPS` cannot be written to: what is not counted would pass for tested.
pub fn record(part: &str, why: Arguments<'_>) {
    static SAID: Mutex<BTreeSet<String>> = Mutex::new(BTreeSet::new());
    let thread = std::thread::current();
    let line = format!("SKIPPED {part}{}::{}: {why}", target(), thread.name().unwrap_or("?"));
    let mut said = SAID.lock().unwrap_or_else(PoisonError::into_inner);
    let first = said.is_empty();
    if !said.insert(line.clone()) {
        return;
    }
    println!("{line}");
    let line = format!("{}\n", line.replace('\n', " "));
    let mut options = std::fs::OpenOptions::new();
    options.create(true);
    if let Some(path) = std::env::var_os("LAYERSEAL_SKIPS").map(PathBuf::from) {
        let file = options.append(true).open(&path);
        let written = file.and_then(|mut file| file.write_all(line.as_bytes()));
        written.unwrap_or_else(|e| panic!("{}: {e}", path.display()));
    } else {
        // The lines of one run: these are not counted.
        let dir = crate::profile_dir().with_file_name("skipped");
        let _ = std::fs::create_dir_all(&dir);
        let file = options.write(true).truncate(first).append(!first).open(dir.join(target()));
        let _ = file.and_then(|mut file| file.write_all(line.as_bytes()));
    }
}

/// Returns the name of the test target: its file is called `TARGET-HASH`.
fn target() -> String {
    let exe = std::env::current_exe().unwrap();
    let name = exe.file_name().unwrap_or_default().to_string_lossy();
    name.rsplit_once('-').map_or(&*name, |(target, _)| target).to_owned()
}
