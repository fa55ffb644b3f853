//! Which Kubernetes namespace a container is in, by the records that CRI-O writes into the store when it makes a pod's
//! sandbox and its containers (cri-o, internal/storage/runtime.go, `RuntimeContainerMetadata`). Nobody who makes a pod
//! can set any of them.

use super::storage::{ContainerRecord, Store};
use crate::error::Result;

/// Where a container runs.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum PodNamespace {
    /// In no pod of Kubernetes: podman's and buildah's containers, and what belongs to no container.
    #[default]
    NotInPod,
    /// In a pod of this namespace.
    Namespace(String),
    /// In a pod whose namespace cannot be told.
    Unknown,
}

impl PodNamespace {
    /// Finds the namespace: the record of a container names its sandbox, and the sandbox's record the namespace.
    ///
    /// # Errors
    /// [`crate::error::Case::B01Records`], [`crate::error::Case::B13Folded`].
    pub(super) fn of(store: &Store, container: &ContainerRecord) -> Result<Self> {
        let own = container.metadata()?;
        if !own.is_of_pod() {
            return Ok(Self::NotInPod);
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

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::super::stored_container;
    use super::*;
    use crate::error::{Case, Result};

    /// Finds the namespace of a container that names the pod `1...`, and has this sandbox.
    fn of(container: &Value, sandbox: Option<&Value>) -> Result<PodNamespace> {
        let dir = tempfile::tempdir().unwrap();
        let (id, pod) = ("2".repeat(64), "1".repeat(64));
        let record = |id: &str, metadata: &Value| {
            let metadata = metadata.as_str().map_or_else(|| metadata.to_string(), str::to_owned);
            json!({"id": id, "layer": id, "metadata": metadata})
        };
        let records: Vec<Value> =
            std::iter::once(record(&id, container)).chain(sandbox.map(|s| record(&pod, s))).collect();
        std::fs::create_dir(dir.path().join("overlay-containers")).unwrap();
        // Where CRI-O has all of its containers.
        let file = dir.path().join("overlay-containers/volatile-containers.json");
        std::fs::write(file, Value::from(records).to_string()).unwrap();
        let stored = stored_container(dir.path(), "overlay", &id, &[])?;
        Ok(stored.unwrap().place)
    }

    #[test]
    fn f04_a_place_is_what_cri_os_records_say() {
        let pod = "1".repeat(64);
        let container = json!({"pod-name": "k8s_p_prod_u_0", "pod-id": pod, "image-name": "a/b:1", "image-id": "4",
            "name": "k8s_c_p_prod_u_0", "metadata-name": "c", "created-at": 1});
        let sandbox = json!({"pod-name": "k8s_p_prod_u_0", "pod-id": pod, "image-name": "a/pause:1", "image-id": "4",
            "name": "k8s_POD_p_prod_u_0", "metadata-name": "p", "uid": "u", "namespace": "prod", "created-at": 1, "pod": true});
        let with = |value: &Value, key: &str, word: Value| {
            let mut changed = value.clone();
            changed[key] = word;
            changed
        };
        let known = PodNamespace::Namespace("prod".into());
        assert_eq!(of(&container, Some(&sandbox)), Ok(known.clone()));
        // The sandbox itself is a container as well.
        let own = with(&sandbox, "pod-id", "2".repeat(64).into());
        assert_eq!(of(&own, None), Ok(known.clone()));
        // podman's containers, and none.
        let podman = json!({"image-name": "a/b:1", "image-id": "4", "name": "c", "created-at": 1});
        assert_eq!(of(&podman, Some(&sandbox)), Ok(PodNamespace::NotInPod));
        assert_eq!(of(&"".into(), None), Ok(PodNamespace::NotInPod));
        // What is inconsistent tells no namespace, but it does not mean "in no pod" either.
        for (container, sandbox) in [
            (container.clone(), None),
            (container.clone(), Some(podman)),
            (container.clone(), Some(with(&sandbox, "namespace", "".into()))),
            (container.clone(), Some(with(&sandbox, "namespace", Value::Null))),
            (container.clone(), Some(with(&sandbox, "pod", false.into()))),
            (container.clone(), Some(with(&sandbox, "pod-id", "9".repeat(64).into()))),
            (with(&container, "namespace", "dev".into()), Some(sandbox.clone())),
            (with(&container, "pod", true.into()), Some(sandbox.clone())),
            (json!({"namespace": "prod"}), None),
        ] {
            assert_eq!(of(&container, sandbox.as_ref()), Ok(PodNamespace::Unknown), "{container} {sandbox:?}");
        }
        // Keys that Go reads differently, and what is not a record at all.
        let case = |container: &Value, sandbox: &Value| of(container, Some(sandbox)).map_err(|r| r.case());
        assert_eq!(case(&container, &with(&sandbox, "Namespace", "dev".into())), Err(Case::B13Folded));
        assert_eq!(case(&container, &with(&sandbox, "namespace", 1.into())), Err(Case::B01Records));
        assert_eq!(case(&container, &"no JSON".into()), Err(Case::B01Records));
    }
}
