//! Removing what no image needs.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use super::Vault;
use super::mark::{GcRoots, Marked};
use super::sweep::{GcReport, Sweep};
use crate::error::Result;
use crate::oci::Budget;

/// How long others are kept out at a time.
const MOMENT: Duration = Duration::from_millis(250);

/// How long others get in between: longer than anybody who waits for the vault sleeps between two looks.
const GAP: Duration = Duration::from_millis(50);

/// Removes what neither a name, nor a store, nor a mount needs. What there is to do is found out while others are at
/// work, and done in moments in which nobody else may be, each of which begins by asking again what is needed. What is
/// removed goes in an order in which a kill leaves nothing that looks whole and is not: first the record of an image,
/// then the notes, its EROFS images, and everything else last. `roots` says what others need, and is asked each time.
///
/// # Errors
/// [`Case::VaultBusy`](crate::error::Case::VaultBusy). Where anything that tells what is needed cannot be read,
/// nothing is removed: what `roots` gives, [`Case::I02Object`](crate::error::Case::I02Object) for a damaged EROFS
/// image, and those of reading.
pub fn collect(vault: &Vault, roots: &dyn Fn() -> Result<GcRoots>, budget: &Budget, dry_run: bool) -> Result<GcReport> {
    let mut named = HashMap::new();
    let (mut sweep, mut collected) = {
        let _lock = vault.shared()?;
        let marked = Marked::now(vault, &roots()?, budget, &mut named)?;
        let mut sweep = Sweep::plan(vault, &marked)?;
        let collected = GcReport {
            images: marked.gone,
            kept: marked.kept,
            mounted: marked.mounted,
            mounts: marked.mounts,
            ..Default::default()
        };
        if dry_run {
            return sweep.count(collected);
        }
        (sweep, collected)
    };
    while !sweep.is_done() {
        let _lock = vault.exclusive()?;
        let marked = Marked::now(vault, &roots()?, budget, &mut named)?;
        sweep.remove(&marked, Instant::now() + MOMENT, &mut collected)?;
        drop(_lock);
        if !sweep.is_done() {
            std::thread::sleep(GAP);
        }
    }
    Ok(collected)
}
