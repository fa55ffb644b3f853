//! A container and its writable layer, as a store claims them.

use std::os::fd::OwnedFd;
use std::path::PathBuf;

use super::container::{MadeFrom, RequestedBy, StoredContainer};
use super::namespace::PodNamespace;
use super::storage::{ContainerRecord, Store};
use crate::error::{Refusal, Result};
use crate::oci::{ContainerId, ImageId, LayerId};

/// A layer over the image, whose content nobody can have sealed.
#[derive(Debug)]
pub struct OwnLayer {
    /// Its ID in the store.
    pub id: LayerId,
    /// `…/overlay/ID/diff`, for messages.
    pub path: PathBuf,
    /// The same directory, open.
    pub diff: OwnedFd,
    /// `…/overlay/ID/work`, open, if the layer is the upper directory. Otherwise the layer is the uppermost lower
    /// directory, and can be seen but not written (`podman diff CONTAINER`).
    pub work: Option<OwnedFd>,
    /// The container that it belongs to, if one is on record.
    pub container: Option<ClaimedContainer>,
}

impl OwnLayer {
    /// Duplicates it, with its own descriptors.
    ///
    /// # Errors
    /// [`Case::Io`](crate::error::Case::Io) if there are no more descriptors.
    pub fn try_clone(&self) -> Result<Self> {
        let copy = |fd: &OwnedFd| fd.try_clone().map_err(|e| Refusal::io(self.path.display().to_string(), e));
        Ok(Self {
            id: self.id.clone(),
            path: self.path.clone(),
            diff: copy(&self.diff)?,
            work: self.work.as_ref().map(copy).transpose()?,
            container: self.container.clone(),
        })
    }
}

/// A container, as the store claims it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ClaimedContainer {
    /// Its ID.
    pub id: ContainerId,
    /// Its names.
    pub names: Vec<String>,
    /// The ID of its image, if it is made from one.
    pub image: Option<ImageId>,
    /// How the image was asked for; `None` if nobody says.
    pub asked: Option<RequestedBy>,
    /// Where it runs.
    pub place: PodNamespace,
}

impl From<&StoredContainer> for ClaimedContainer {
    fn from(stored: &StoredContainer) -> Self {
        let image = match &stored.made_from {
            MadeFrom::Image { id, .. } | MadeFrom::Unknown { id } => Some(id.clone()),
            MadeFrom::Nothing => None,
        };
        Self {
            id: stored.id.clone(),
            names: stored.names.clone(),
            image,
            asked: stored.asked.clone(),
            place: stored.place.clone(),
        }
    }
}

impl ClaimedContainer {
    pub(super) fn of(store: &Store, record: &ContainerRecord) -> Result<Self> {
        Ok(Self {
            id: record.id()?,
            names: record.names.clone(),
            image: record.image()?,
            asked: RequestedBy::of(record)?,
            place: PodNamespace::of(store, record)?,
        })
    }
}
