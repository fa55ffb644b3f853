//! In which Kubernetes namespace a container is, where more than the store's records is at hand: its configuration.

use super::called::CRI_O;
use crate::identify::{Place, Stored};

/// By the store's record, which only CRI-O writes. What the configuration says besides comes from the kubelet, but whoever
/// makes a pod can put other annotations over it: where it contradicts the record nobody can tell, and then every place's rules
/// count, each setting in its strictest form.
pub(super) fn place(stored: Option<&Stored>, manager: &str, said: Option<&String>) -> Place {
    let recorded = stored.map(|stored| stored.place.clone()).unwrap_or_default();
    match (&recorded, said) {
        (Place::Namespace(recorded), Some(said)) if recorded != said => {
            log::warn!("the container is in namespace {recorded:?} by its record, and in {said:?} by its annotation");
            Place::Unknown
        }
        // CRI-O has a record of each of its containers.
        (Place::Nowhere, _) if manager == CRI_O => Place::Unknown,
        _ => recorded,
    }
}
