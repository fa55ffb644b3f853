//! Which Kubernetes namespace a container is in, when its configuration is at hand in addition to the store's records.

use super::last_call::CRI_O;
use crate::container_store::{PodNamespace, StoredContainer};

/// Determines the place by the store's record, which only CRI-O writes. What the configuration says in addition comes
/// from the kubelet, but whoever makes a pod can put other annotations over it: if it contradicts the record, nobody
/// can tell, and then every place's rules count, each setting in its strictest form. So it is for a container of another
/// engine that a record puts into a pod.
pub(super) fn place(stored: Option<&StoredContainer>, manager: &str, said: Option<&String>) -> PodNamespace {
    let recorded = stored.map(|stored| stored.place.clone()).unwrap_or_default();
    match (&recorded, said) {
        (PodNamespace::Namespace(recorded), Some(said)) if recorded != said => {
            log::warn!("the container is in namespace {recorded:?} by its record, and in {said:?} by its annotation");
            PodNamespace::Unknown
        }
        (PodNamespace::Namespace(_), _) if manager != CRI_O => PodNamespace::Unknown,
        // CRI-O keeps a record of each of its containers.
        (PodNamespace::NotInPod, _) if manager == CRI_O => PodNamespace::Unknown,
        _ => recorded,
    }
}
