use std::collections::BTreeMap;

use crate::digest::BlobDigest;
use crate::error::{Case, Refusal, Result};
use crate::oci::name::ImageName;

/// The highest sequence that this host has accepted for each name, without tag. A name counts in the form in which names
/// are compared: whatever a signer called the registry, older builds of the same image have the same floor.
#[derive(Clone, Debug, Default)]
pub struct RollbackFloors {
    known: BTreeMap<ImageName, u64>,
    /// Whether older builds are refused at all.
    counts: bool,
    /// Notes that cannot be read: the path of each, by the digest of its name, which is all that is known about it.
    unreadable: BTreeMap<BlobDigest, String>,
}

impl RollbackFloors {
    /// Makes the floors of a host where nobody asks how old a build is.
    pub fn none() -> Self {
        Self::default()
    }

    /// Makes the floors of a host where nothing was accepted yet.
    pub fn empty() -> Self {
        Self { counts: true, ..Self::default() }
    }

    /// Returns whether a seal must tell how old it is.
    pub fn count(&self) -> bool {
        self.counts
    }

    /// Adds the floor of a name; the highest of several counts.
    pub fn insert(&mut self, name: &str, sequence: u64) {
        let floor = self.known.entry(ImageName::of(name)).or_insert(sequence);
        *floor = sequence.max(*floor);
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
        let asked = ImageName::of(name);
        let unreadable = [name, asked.as_str()].map(|name| self.unreadable.get(&BlobDigest::of(name.as_bytes())));
        match unreadable.into_iter().flatten().next() {
            None => Ok(self.known.get(&asked).copied()),
            Some(path) => {
                let why = format!(
                    "{path} is damaged; where the newest build of {name} is here, `rm {path}`: the next start notes it again"
                );
                Err(Refusal::new(Case::D10Floors, name, why))
            }
        }
    }
}
