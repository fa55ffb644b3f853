use std::os::fd::OwnedFd;
use std::time::Duration;

use rustix::fs::FlockOperation;

use super::Vault;
use crate::report::{Case, Refusal, Result};
use crate::sys::files;

/// How long collecting waits for others to be done.
const EXCLUSIVE: Duration = Duration::from_secs(10);

/// How long others wait for a collection to be done: on a slow disk it deletes for a while.
const SHARED: Duration = Duration::from_secs(60);

/// A hold on the vault; it ends when this is dropped, or with the process.
#[derive(Debug)]
pub struct Lock {
    _directory: OwnedFd,
}

impl Vault {
    /// Keeps what is in the vault there: for whoever reads it or adds to it, from before the first
    /// look until the mount stands. Several can hold it.
    ///
    /// It is no lock of containers-storage and waits for none: a mount program can take it.
    ///
    /// # Errors
    /// [`Case::VaultBusy`] when a collection does not end within a minute.
    pub fn shared(&self) -> Result<Lock> {
        self.lock(FlockOperation::NonBlockingLockShared, SHARED, "it is being collected by `layerseal gc`")
    }

    /// Keeps everybody else out: for removing what nobody needs.
    ///
    /// # Errors
    /// [`Case::VaultBusy`] when others do not end within ten seconds.
    pub fn exclusive(&self) -> Result<Lock> {
        self.lock(FlockOperation::NonBlockingLockExclusive, EXCLUSIVE, "an image is being pulled, prepared or mounted")
    }

    fn lock(&self, operation: FlockOperation, wait: Duration, who: &str) -> Result<Lock> {
        let refuse = || Refusal::new(Case::VaultBusy, self.path.display().to_string(), who);
        let directory = files::lock(&self.root, operation, wait).map_err(|e| self.io(e))?;
        directory.map(|directory| Lock { _directory: directory }).ok_or_else(refuse)
    }
}
