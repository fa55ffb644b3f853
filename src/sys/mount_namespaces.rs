//! Mounts of other mount namespaces.

use std::collections::BTreeSet;
use std::fs::File;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use super::mounts::{self, MountId};
use super::rooted_dir::RootedDir;

/// A mount in a namespace that this process is not in.
#[derive(Debug)]
pub struct Elsewhere {
    /// The namespace.
    pub namespace: File,
    /// The mount.
    pub mount: MountId,
}

/// Opens a process's mount namespace, and returns its number too; `None` where there is no such process, or where it
/// cannot be asked.
pub fn of(process: &str) -> Option<(u64, File)> {
    let file = File::open(format!("/proc/{process}/ns/mnt")).ok()?;
    Some((file.metadata().ok()?.ino(), file))
}

/// Reads the number of a process's mount namespace from its name in `/proc` (namespaces(7)).
fn number_of(process: u32) -> Option<u64> {
    let name = std::fs::read_link(format!("/proc/{process}/ns/mnt")).ok()?;
    name.to_str()?.strip_prefix("mnt:[")?.strip_suffix(']')?.parse().ok()
}

/// Lists the uppermost mounts on the path `target` in all other namespaces that some process is in, where they are of
/// the filesystem `device`: that of the machine's first process comes first.
///
/// # Errors
/// The kernel's, for `/proc`.
pub fn elsewhere(target: &Path, device: (u32, u32)) -> std::io::Result<impl Iterator<Item = Elsewhere>> {
    let (own, _) = of("self").ok_or_else(|| std::io::Error::other("/proc/self/ns/mnt cannot be opened"))?;
    let target: PathBuf = target.into();
    let number = |entry: std::fs::DirEntry| entry.file_name().to_str()?.parse::<u32>().ok();
    let processes: BTreeSet<u32> = std::fs::read_dir("/proc")?.flatten().filter_map(number).collect();
    // Of all processes with the same namespace and root, one is enough.
    let mut seen = BTreeSet::new();
    Ok(processes.into_iter().filter_map(move |process| {
        // Most processes are in few namespaces: nothing is opened to find that out.
        let number = number_of(process).filter(|number| *number != own)?;
        let root = Path::new("/proc").join(process.to_string()).join("root");
        let identity = std::fs::metadata(&root).ok()?;
        if !seen.insert((number, identity.dev(), identity.ino())) {
            return None;
        }
        let (_, namespace) = of(&process.to_string()).filter(|(opened, _)| *opened == number)?;
        let place = RootedDir::open(&root).and_then(|root| root.dir(&target)).ok()?;
        let mount = mounts::identify(place).ok()?;
        (mount.device == device && mount.is_root).then_some(Elsewhere { namespace, mount })
    }))
}
