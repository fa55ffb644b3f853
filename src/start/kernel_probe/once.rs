//! The probe of a start: once per boot, before the first image of a filesystem is mounted.

use std::path::Path;

use super::{Probe, Way, fails};
use crate::error::{Case, Refusal, Result};
use crate::oci::Budget;
use crate::policy::Verity;
use crate::prepare::{PreparedImage, RootShape, prepare};
use crate::state::{Notes, StateDir};
use crate::sys::files::proc_path;
use crate::vault::Vault;
use crate::verify::VerifiedImage;

/// What a note says about a kernel that did what it promised.
const HELD: &str = "held";

/// The longest note: a line.
const MAX_NOTE: u64 = 4096;

/// Prepares an image for mounting, on a kernel that was seen to refuse what it must, if it is to check files at all.
///
/// # Errors
/// The errors of [`prepare`], and [`Case::G10Proof`].
pub fn prepare_proven(
    vault: &Vault,
    image: &VerifiedImage,
    shape: RootShape,
    mode: Verity,
    budget: &Budget,
) -> Result<PreparedImage> {
    let prepared = prepare(vault, image, shape, mode, budget)?;
    if mode == Verity::Require {
        proven(vault)?;
    }
    Ok(prepared)
}

/// Checks that this kernel does with files of this vault's filesystem what `verity=require` promises: tried once per
/// boot.
fn proven(vault: &Vault) -> Result<()> {
    // By filesystem: the kernel asks it for digests. If the result cannot be noted, it is tried each time.
    let stat = rustix::fs::fstat(vault.data_dir()).map_err(|e| Refusal::io(vault.path().display().to_string(), e))?;
    let name = format!("{:x}", stat.st_dev);
    let logged = |e: std::io::Error| log::debug!("{}: {e}", StateDir::Proof);
    let notes: Option<Notes> = StateDir::Proof.make().inspect_err(|e| log::debug!("{}: {e}", StateDir::Proof)).ok();
    let read = || notes.as_ref()?.read(&name, MAX_NOTE).ok()?;
    let write = |text: &str| notes.iter().for_each(|notes| notes.write(&name, text.as_bytes()).unwrap_or_else(logged));
    // Beside the objects, by the descriptor that overlays get: elsewhere it would prove nothing.
    let dir = format!("{}/..", proc_path(vault.data_dir()));
    once(read, write, || Probe::new(Path::new(&dir))?.brief(Way::ReadOnly))
}

/// Runs the probe unless a verdict is noted, and notes its verdict, good or bad. If the probe reaches none, the start
/// goes on: it does the same, and is refused for whatever is in the way.
fn once(read: impl Fn() -> Option<Vec<u8>>, write: impl Fn(&str), probe: impl FnOnce() -> Result<()>) -> Result<()> {
    match read() {
        Some(note) if note == HELD.as_bytes() => return Ok(()),
        Some(note) => return fails(format!("{}, as a trial in this boot showed", String::from_utf8_lossy(&note))),
        None => {}
    }
    match probe() {
        Ok(()) => write(HELD),
        Err(refusal) if refusal.case() == Case::G10Proof => {
            write(refusal.detail());
            return Err(refusal);
        }
        Err(refusal) => log::debug!("it cannot be tried whether the kernel does what it says: {refusal}"),
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::cell::{Cell, RefCell};

    use super::*;

    /// Makes up the kernel's answers.
    #[test]
    fn g10_a_kernel_is_tried_once_in_a_boot() {
        let (note, tried) = (RefCell::new(None::<Vec<u8>>), Cell::new(0));
        let start = |answer: Result<()>| {
            let write = |text: &str| drop(note.borrow_mut().replace(text.as_bytes().to_vec()));
            once(
                || note.borrow().clone(),
                write,
                || {
                    tried.set(tried.get() + 1);
                    answer
                },
            )
        };
        // Nothing was found out: the next start tries again.
        assert_eq!(start(Err(Refusal::new(Case::NoRoom, "", ""))), Ok(()));
        assert_eq!((tried.get(), note.borrow().is_none()), (1, true));
        assert_eq!((start(Ok(())), start(fails("never".into())), tried.get()), (Ok(()), Ok(()), 2));
        // The next boot, with another kernel.
        note.take();
        assert_eq!(start(fails("it cannot be read".into())).unwrap_err().case(), Case::G10Proof);
        let again = start(Ok(())).unwrap_err();
        assert_eq!((again.case(), tried.get()), (Case::G10Proof, 3));
        assert!(again.detail().contains("it cannot be read"), "{again}");
        // An unreadable note does not count as a good one.
        note.replace(Some(Vec::new()));
        assert_eq!(start(Ok(())).unwrap_err().case(), Case::G10Proof);
    }
}
