use std::collections::BTreeMap;

use crate::digest::BlobDigest;
use crate::error::{Case, Refusal, Result};

/// The highest sequence that this host has accepted for each name, without tag.
#[derive(Clone, Debug, Default)]
pub struct RollbackFloors {
    known: BTreeMap<String, u64>,
    /// Notes that cannot be read: the path of each, by the digest of its name, which is all that is known about it.
    unreadable: BTreeMap<BlobDigest, String>,
}

impl RollbackFloors {
    /// Makes the floors of a host where nothing was accepted yet, or where nobody asks.
    pub fn none() -> Self {
        Self::default()
    }

    /// Adds the floor of a name.
    pub fn insert(&mut self, name: String, sequence: u64) {
        self.known.insert(name, sequence);
    }

    /// Adds a note that cannot be read: for the name with this digest, in the file `path`.
    pub fn insert_unreadable(&mut self, name: BlobDigest, path: String) {
        self.unreadable.insert(name, path);
    }

    /// Returns the floor of a name, where it has one.
    ///
    /// # Errors
    /// [`Case::D10Floors`] where there is one and nobody knows which: a floor that is not known is not one that is
    /// not there.
    pub fn of(&self, name: &str) -> Result<Option<u64>> {
        match self.unreadable.get(&BlobDigest::of(name.as_bytes())) {
            None => Ok(self.known.get(name).copied()),
            Some(path) => {
                let why = format!(
                    "{path} is damaged; where the newest build of {name} is here, `rm {path}`: the next start notes it again"
                );
                Err(Refusal::new(Case::D10Floors, name, why))
            }
        }
    }
}
