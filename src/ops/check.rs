//! What would start, and what would not.

use std::path::{Path, PathBuf};

use serde::Deserialize;

use super::stored::warn_of_other_store;
use super::{Context, ImageSelection};
use crate::container_store::{
    CallTarget, ListedContainer, MadeFrom, PodNamespace, RequestedBy, StoredContainer, further_stores,
    listed_containers, run_root, stored_images,
};
use crate::error::{Case, Refusal, Result};
use crate::hook::{
    GivenContainer, GivenImage, GivenMount, expect_container, expect_new_container, not_by_fuse_overlayfs,
};
use crate::policy::{Directories, Mode, Policy};
use crate::protocol::{self, redirection};
use crate::start::{Expected, StartVerdict, expect_for_user, expect_image, expect_unknown_for_user};
use crate::sys::files;
use crate::sys::openssl::{self, Openssl};
use crate::sys::process::{self, User};

/// What is to be looked at.
#[derive(Clone, Debug)]
pub struct CheckRequest {
    /// Which images; `None` for none at all.
    pub images: Option<ImageSelection>,
    /// Whether to look at containers.
    pub containers: bool,
    /// The Kubernetes namespace in which images are to be started.
    pub namespace: Option<String>,
}

/// An image, by one of the names that it may be started by.
#[derive(Debug)]
pub struct CheckedImage {
    /// The name; `None` for an image without one.
    pub name: Option<String>,
    /// Its ID in the store.
    pub id: String,
    /// What would become of it.
    pub expected: Expected,
}

/// A container.
#[derive(Debug)]
pub struct CheckedContainer {
    /// Its ID.
    pub id: String,
    /// Its names.
    pub names: Vec<String>,
    /// What would become of it.
    pub expected: Expected,
}

/// What was found.
#[derive(Debug, Default)]
pub struct Checks {
    /// Images.
    pub images: Vec<CheckedImage>,
    /// Containers.
    pub containers: Vec<CheckedContainer>,
}

impl Checks {
    /// Iterates over all verdicts.
    pub fn verdicts(&self) -> impl Iterator<Item = &StartVerdict> {
        let images = self.images.iter().map(|image| &image.expected.verdict);
        images.chain(self.containers.iter().map(|container| &container.expected.verdict))
    }

    /// Returns the refusal that decides the exit code: the first that stops a start, or otherwise the first that
    /// `audit` lets pass.
    pub fn worst(&self) -> Option<&Refusal> {
        let refused = self.verdicts().find(|verdict| matches!(verdict, StartVerdict::Refused(_)));
        refused.or_else(|| self.verdicts().find(|verdict| verdict.refusal().is_some())).and_then(StartVerdict::refusal)
    }
}

/// Finds out what would start, in the same way as a start, and writes nothing.
///
/// # Errors
/// F03 for the policy, [`Case::NotStored`] and [`Case::Usage`] for names, and errors of reading the records.
pub fn check(context: &Context, request: &CheckRequest) -> Result<Checks> {
    check_by(context, request, &Policy::load(&Directories::system())?)
}

/// Finds out the same by a policy other than this host's.
///
/// # Errors
/// As for [`check`].
pub(super) fn check_by(context: &Context, request: &CheckRequest, policy: &Policy) -> Result<Checks> {
    openssl::start(Openssl::Verify);
    let mut checks = Checks::default();
    if request.containers || matches!(request.images, Some(ImageSelection::All)) {
        warn_of_other_store();
    }
    if let Some(images) = &request.images {
        let place = request.namespace.clone().map_or(PodNamespace::NotInPod, PodNamespace::Namespace);
        let policy = policy.clone().at(place);
        for (word, stored) in images.by_word(context)? {
            let asked: Vec<RequestedBy> = match &word {
                // The kubelet asks for the ID, whatever name a pod gives.
                _ if request.namespace.is_some() => vec![RequestedBy::SomeName],
                Some(word) => vec![stored.asked(word)],
                None if stored.names.is_empty() => vec![RequestedBy::Id],
                None => stored.names.iter().cloned().map(RequestedBy::Name).collect(),
            };
            for asked in asked {
                let expected = match &stored.image {
                    Ok(image) if is_another_users() => expect_for_user(&policy, image, Some(&asked), &stored.names)?,
                    Err(refusal) if is_another_users() => {
                        expect_unknown_for_user(&policy, &stored.names, refusal.clone())?
                    }
                    Ok(image) => {
                        let seen = expect_image(&policy, image, Some(&asked)).and(not_by_fuse_overlayfs());
                        let copied = match &seen.verdict {
                            StartVerdict::Sealed(_) => expect_new_container(image, seen.image.as_ref()),
                            _ => Ok(()),
                        };
                        seen.and(copied)
                    }
                    Err(refusal) => Expected::unknown(&policy, &stored.names, refusal.clone()),
                };
                let by_word = || stored.asked(word.as_deref()?).name().cloned();
                let name = asked.name().cloned().or_else(by_word).or_else(|| stored.names.first().cloned());
                checks.images.push(CheckedImage { name, id: stored.id.clone(), expected });
            }
        }
    }
    if request.containers {
        let stores = context.stores()?;
        let Some(root) = stores.first() else { return Ok(checks) };
        let listed = listed_containers(root, &run_root()?, &further_stores()?)?;
        let told = told_by_podman(&listed);
        let images = || stored_images(&stores, None).unwrap_or_default();
        for container in listed {
            let mut given = told.iter().find(|(id, _)| *id == container.id).map(|(_, g)| g.clone()).unwrap_or_default();
            let by_podman = std::mem::take(&mut given.mounts);
            given.mounts = match mounts_of(&container)? {
                Some(mounts) => {
                    // podman tells what it was started with, and which images those were.
                    let images = by_podman.into_iter().filter(|mount| mount.image.is_some()).collect::<Vec<_>>();
                    let known = |m: &GivenMount| images.iter().any(|image| image.destination == m.destination);
                    mounts.into_iter().filter(|mount| !known(mount)).chain(images.clone()).collect()
                }
                None => by_podman,
            };
            let expected = match is_another_users() {
                true => of_user(policy, &container)?,
                false => expect_container(policy, &container, &given, &images),
            };
            checks.containers.push(CheckedContainer { id: container.id, names: container.names, expected });
        }
    }
    Ok(checks)
}

fn is_another_users() -> bool {
    process::user() != User::Root
}

/// Finds out what becomes of a user's container.
fn of_user(policy: &Policy, container: &ListedContainer) -> Result<Expected> {
    let names = match &container.stored {
        Ok(StoredContainer { made_from: MadeFrom::Image { names, .. }, .. }) => names.as_slice(),
        Ok(_) | Err(_) => &[],
    };
    match &container.target {
        Ok(CallTarget::Image(image)) => expect_for_user(policy, image, None, names),
        Ok(CallTarget::Layers(claimed)) => {
            expect_unknown_for_user(policy, names, Refusal::new(Case::B12Layers, "", claimed.why))
        }
        Ok(CallTarget::Volume) => expect_unknown_for_user(policy, names, Refusal::new(Case::B12Layers, "", "a volume")),
        Err(refusal) => expect_unknown_for_user(policy, names, refusal.clone()),
    }
}

/// Where podman keeps overlays for mounts of a container, among others those over images (buildah, pkg/overlay).
const OWN_OVERLAYS: &str = "/userdata/overlay/";

#[derive(Deserialize)]
struct Spec {
    #[serde(default)]
    mounts: Vec<SpecMount>,
}

#[derive(Deserialize)]
struct SpecMount {
    destination: String,
    #[serde(default, rename = "type")]
    kind: String,
    #[serde(default)]
    source: String,
    #[serde(default)]
    options: Vec<String>,
}

impl SpecMount {
    /// Finds the image that a mount shows: podman shows an image by the place where it has mounted it, or by an overlay
    /// over that.
    fn image(&self) -> Option<GivenImage> {
        let lowers = self.options.iter().filter_map(|option| option.strip_prefix("lowerdir="));
        let places = lowers.flat_map(|lowers| lowers.split(':')).chain([self.source.as_str()]);
        places.filter_map(|place| layer_of_place(Path::new(place))).map(GivenImage::Layer).next()
    }
}

/// Returns the ID of the layer that is mounted at `ROOT/overlay/ID/merged`, or above this path.
fn layer_of_place(path: &Path) -> Option<String> {
    let parts: Vec<&str> = path.components().filter_map(|part| part.as_os_str().to_str()).collect();
    let at = parts.windows(3).find(|parts| parts[0] == "overlay" && parts[2] == "merged")?;
    Some(at[1].to_owned())
}

/// Reads what a container was last started with; `None` for one that never was.
fn mounts_of(container: &ListedContainer) -> Result<Option<Vec<GivenMount>>> {
    let path = container.directory.join("config.json");
    let bytes = match protocol::read_config(&container.directory) {
        Ok(bytes) => bytes,
        // podman takes away what is no file there.
        Err(e) if files::no_file(&e).is_some() => return Ok(None),
        Err(e) => return Err(Refusal::io(path.display().to_string(), e)),
    };
    // Nothing can be said about a configuration that cannot be read.
    let Ok(Spec { mounts }) = serde_json::from_slice(&bytes) else { return Ok(None) };
    let given = |m: SpecMount| GivenMount {
        image: m.image(),
        what: format!("{} {}", m.kind, m.source),
        source: absolute(&m.source),
        destination: m.destination,
    };
    Ok(Some(mounts.into_iter().map(given).collect()))
}

fn absolute(source: &str) -> Option<PathBuf> {
    Some(PathBuf::from(source)).filter(|source| source.is_absolute())
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Inspected {
    id: String,
    #[serde(default)]
    mounts: Vec<InspectedMount>,
    host_config: InspectedHost,
    #[serde(default)]
    config: InspectedConfig,
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
struct InspectedConfig {
    user: String,
    working_dir: PathBuf,
    annotations: Option<std::collections::BTreeMap<String, serde_json::Value>>,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct InspectedMount {
    destination: String,
    #[serde(rename = "Type", default)]
    kind: String,
    #[serde(default)]
    source: String,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct InspectedHost {
    #[serde(default)]
    tmpfs: std::collections::BTreeMap<String, String>,
    #[serde(default, rename = "IDMappings")]
    maps: Option<InspectedMaps>,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct InspectedMaps {
    #[serde(default)]
    uid_map: Option<Vec<String>>,
}

/// Asks podman what a container that never ran would be given, and which images others are given by podman's own mounts:
/// only podman knows, from its database.
fn told_by_podman(containers: &[ListedContainer]) -> Vec<(String, GivenContainer)> {
    let is_asked = |container: &&ListedContainer| match mounts_of(container) {
        Ok(None) => true,
        Ok(Some(mounts)) => mounts.iter().any(|mount| mount.what.contains(OWN_OVERLAYS)),
        Err(_) => false,
    };
    let new = containers.iter().filter(is_asked).map(|c| c.id.as_str());
    let ids: Vec<&str> = new.collect();
    if ids.is_empty() {
        return Vec::new();
    }
    let output = std::process::Command::new("podman").args(["container", "inspect"]).args(ids).output();
    // CRI-O's containers are not podman's: it tells about those that are.
    let text = output.map(|output| output.stdout).unwrap_or_default();
    let inspected: Vec<Inspected> = serde_json::from_slice(&text).unwrap_or_else(|e| {
        log::warn!("podman says nothing of the mounts of containers that never ran: {e}");
        Vec::new()
    });
    let given = |m: InspectedMount| GivenMount {
        image: (m.kind == "image").then(|| GivenImage::Named(m.source.clone())),
        what: format!("{} {}", m.kind, m.source),
        source: absolute(&m.source),
        destination: m.destination,
    };
    let all = |c: Inspected| {
        let tmpfs = c.host_config.tmpfs.into_keys().map(|destination| GivenMount {
            destination,
            what: "tmpfs".into(),
            image: None,
            source: None,
        });
        let mounts = c.mounts.into_iter().map(given).chain(tmpfs).collect();
        let mapped = c.host_config.maps.is_some_and(|maps| maps.uid_map.is_some_and(|map| !map.is_empty()));
        let InspectedConfig { user, working_dir: directory, annotations } = c.config;
        let redirection = redirection(&annotations.unwrap_or_default());
        (c.id, GivenContainer { mounts, user, directory, mapped, redirection })
    };
    inspected.into_iter().map(all).collect()
}

/// Sums and questions for the output.
impl Checks {
    /// Counts the starts: those that a seal passes for, those that nothing is asked of, those that `audit` lets pass,
    /// those that are refused.
    pub fn sum(&self) -> [usize; 4] {
        let mut sum = [0; 4];
        for verdict in self.verdicts() {
            let at = match verdict {
                StartVerdict::Sealed(_) => 0,
                StartVerdict::Unasked => 1,
                StartVerdict::Audit(_) => 2,
                StartVerdict::Refused(_) => 3,
            };
            sum[at] += 1;
        }
        sum
    }

    /// Returns whether anything requires a seal.
    pub fn asks(&self) -> bool {
        self.images.iter().any(|image| image.expected.decision.mode != Mode::Off)
    }
}
