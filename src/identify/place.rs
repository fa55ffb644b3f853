//! In which Kubernetes namespace a container is: by the records that CRI-O writes into the store when it makes a pod's
//! sandbox and its containers (cri-o, internal/storage/runtime.go, `RuntimeContainerMetadata`). Nobody who makes a pod can
//! set anything of them.

use super::storage::{ContainerRecord, Store};
use crate::report::Result;

/// Where a container runs.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Place {
    /// In no pod of Kubernetes: podman's and buildah's, and what is nobody's container.
    #[default]
    Nowhere,
    /// In a pod of this namespace.
    Namespace(String),
    /// In a pod, and its namespace cannot be told.
    Unknown,
}

impl Place {
    /// The record of a container names its sandbox, and the sandbox's record the namespace.
    ///
    /// # Errors
    /// [`crate::report::Case::B01Records`], [`crate::report::Case::B13Folded`].
    pub(super) fn of(store: &Store, container: &ContainerRecord) -> Result<Self> {
        let own = container.metadata()?;
        if own.pod_id.is_empty() && own.namespace.is_empty() && !own.pod {
            return Ok(Self::Nowhere);
        }
        let sandbox = match store.container(&own.pod_id) {
            Some(record) => record.metadata()?,
            None => return Ok(Self::Unknown),
        };
        let agree = sandbox.pod
            && sandbox.pod_id == own.pod_id
            && own.pod == (container.id == own.pod_id)
            && (own.namespace.is_empty() || own.namespace == sandbox.namespace);
        Ok(match agree && !sandbox.namespace.is_empty() {
            true => Self::Namespace(sandbox.namespace),
            false => Self::Unknown,
        })
    }
}
