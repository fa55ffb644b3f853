//! Which image a call means, as containers-storage has it on record.
//!
//! All that is read here lies on a disk that somebody else may have written: these are claims. What is promised is that
//! the claims match each other (the directories are the recorded layers, in order; their IDs follow from the image's
//! diff_ids; manifest and config are those that their digests name) and that everything handed on was opened beneath
//! the store's root, through no symlink. `verify` and `prepare` tell whether it is sealed, and what directories hold.

mod big_data;
mod bolt;
mod claimed;
mod configured;
mod container;
mod database;
mod document_names;
mod id_sets;
mod image;
mod image_store;
mod instances;
mod layer_ids;
mod layer_paths;
mod layers;
mod listed;
mod lists;
mod lookup;
mod namespace;
mod noted_mounts;
mod order;
mod own_files;
mod parsed;
mod records;
mod root;
mod sqlite;
mod sqlite_pages;
mod storage;
mod stored;

use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};

use rustix::io::Errno;

pub use claimed::{ClaimedContainer, OwnLayer};
pub use configured::{
    Configured, Generation, configured, drop_in_files, drop_ins_of, further_stores, graph_root, mount_program,
    own_config_dir, run_root, use_store_of_user,
};
pub use container::{
    MadeFrom, RequestedBy, StoredContainer, container_of_layer, layer_of, or_unknown, stored_container,
};
pub use database::{check_database, database_paths};
pub use document_names::check_names;
pub use image::Candidate;
pub use instances::recorded_instances;
pub use layer_ids::check_layer_ids;
pub use layers::{ClaimedLayer, LayerBlob, Tie};
pub use listed::{ListedContainer, container_names, image_names, listed_containers};
pub use lookup::{StoredImage, images_above, recorded_lowers, stored_images};
pub use namespace::PodNamespace;
pub use noted_mounts::find_untrue_note;
pub use own_files::{
    WRITABLE, check_layer, check_made, check_merged, check_own_files, check_volume, is_of_engine, links_in, made_links,
};
pub use records::{
    RecordedContainer, RecordedImage, RecordedLayer, recorded_containers, recorded_images, recorded_layers,
};
pub use root::Root;
pub use stored::{layer_ids, manifest_digests};

use crate::digest::BlobDigest;
use crate::error::{Case, Refusal, Result};
use crate::oci::LayerId;
use crate::oci::name::UNKNOWN;
use crate::protocol::MountCall;
use crate::sys::{files, same_paths};
use layer_paths::{LayerDir, absolute};
use layers::{ChainLink, OpenStores};

/// What a call means.
#[derive(Debug)]
pub enum CallTarget {
    /// The root of a container or of an image: its lower directories are one image, in order.
    Image(Box<ClaimedImage>),
    /// Layers that are not an image: part of one (`podman diff`), one that is being made, a copy for other user IDs.
    Layers(Box<ClaimedLayers>),
    /// An overlay volume of buildah (`--volume …:O`, `--rootfs …:O`, image volumes): lower
    /// directories of any kind, and not the root of a container made from an image.
    Volume,
}

/// An image, as the store claims it.
#[derive(Debug)]
pub struct ClaimedImage {
    /// What it may be, at least one, all with the same diff_ids; the container's claim first.
    pub images: Vec<Candidate>,
    /// Its layers, lowest first; each has a diff_id.
    pub layers: Vec<ClaimedLayer>,
    /// What lies over it.
    pub own: Option<OwnLayer>,
    /// The store in which it is to be mounted.
    pub root: Root,
}

/// Layers, as the store claims them.
#[derive(Debug)]
pub struct ClaimedLayers {
    /// Lowest first; empty for a container from scratch.
    pub layers: Vec<ClaimedLayer>,
    /// What lies over them.
    pub own: Option<OwnLayer>,
    /// For copies of layers for other user IDs, which lie in several directories: all lower directories of the call,
    /// uppermost first, open. Empty for other layers.
    pub copies: Vec<OwnedFd>,
    /// Why they are not an image, for the log.
    pub why: &'static str,
    /// The names that the policy decides by: for a container those of its image, and the one that was asked for. Empty
    /// for layers that are nobody's.
    pub names: Vec<String>,
    /// The store in which they are to be mounted.
    pub root: Root,
}

/// Returns whether there is a store, or a part of one; an error does not count as "no".
fn is_dir(path: &Path) -> Result<bool> {
    same_paths::is_dir(path).map_err(|e| not_of_all(path, e))
}

/// Returns whether there may be a store here; if that cannot be told, whoever opens it says why.
fn may_be_dir(path: &Path) -> bool {
    same_paths::is_dir(path).unwrap_or(true)
}

/// Makes the refusal for a directory of a store that cannot be opened, or is another one for every process.
fn not_of_all(path: &Path, error: std::io::Error) -> Refusal {
    let shown = path.display().to_string();
    match Errno::from_io_error(&error) {
        Some(Errno::LOOP) => {
            Refusal::new(Case::B09Replaced, shown, "a link leads there that is another one for every process")
        }
        _ => Refusal::io(shown, error),
    }
}

/// Finds the container whose layer this is, by the records in a run root: a transient store keeps its records there
/// (storage/containers.go, `newContainerStore`).
///
/// # Errors
/// `B01`, `B09`, `B13`.
pub fn transient_container(run_root: &Path, layer: &LayerId) -> Result<Option<ClaimedContainer>> {
    if !is_dir(&run_root.join("overlay-containers"))? {
        return Ok(None);
    }
    let store = storage::Store::open_without_layers(run_root, "overlay")?;
    store.container_of(layer)?.map(|record| ClaimedContainer::of(&store, record)).transpose()
}

/// Opens the target of a call that [`identify`] found in a store: beneath the store's root and through no symlink, like
/// the layers. If something is mounted on it, that is opened.
///
/// # Errors
/// [`Case::A08Target`] for something that is not a directory, [`Case::Usage`] for what does not exist.
pub fn open_target(root: &Root, call: &MountCall) -> Result<OwnedFd> {
    let refuse = |case, why: &dyn std::fmt::Display| Refusal::new(case, call.target.display().to_string(), why);
    let home = layer_paths::target(&absolute(&call.target)?)?.ok_or_else(|| refuse(Case::Bug, &"not in a store"))?;
    files::open_path_at(&*root.targets, format!("overlay/{}/merged", home.id)).map_err(|e| {
        match Errno::from_io_error(&e) {
            Some(Errno::LOOP | Errno::NOTDIR) => refuse(Case::A08Target, &"it must be a directory and no symlink"),
            _ => refuse(Case::Usage, &e),
        }
    })
}

/// Opens the directory of the layer that a call mounts on, `overlay/ID`, as [`open_target`] does.
///
/// # Errors
/// As for [`open_target`].
pub fn open_target_home(root: &Root, call: &MountCall) -> Result<OwnedFd> {
    let refuse = |e: &dyn std::fmt::Display| Refusal::new(Case::A08Target, call.target.display().to_string(), e);
    let home = layer_paths::target(&absolute(&call.target)?)?.ok_or_else(|| refuse(&"not in a store"))?;
    files::open_dir_at(&*root.targets, format!("overlay/{}", home.id)).map_err(|e| refuse(&e))
}

/// Finds out what a call means. No lock is taken and nothing is written.
///
/// # Errors
/// `A08` for the target, `B01` to `B13` if the store contradicts the call or itself.
pub fn identify(call: &MountCall) -> Result<CallTarget> {
    identify_with(call, &|_| Ok(None))
}

/// Finds out the same for a call about which more is known: if the store has no record of the container for a layer,
/// `known` is asked. That is the hook's caller, or the run root, where a transient store keeps such records.
///
/// # Errors
/// As for [`identify`].
pub fn identify_with(
    call: &MountCall,
    known: &dyn Fn(&LayerId) -> Result<Option<ClaimedContainer>>,
) -> Result<CallTarget> {
    identified(call, known, Copies::Count)
}

/// Finds out the same of an overlay of a user's podman, which shows copies of the layers for other user IDs: what is
/// found is the image that the copies were made of, and what the copies hold does not count.
///
/// # Errors
/// As for [`identify`].
pub fn identify_beneath_copies(
    call: &MountCall,
    known: &dyn Fn(&LayerId) -> Result<Option<ClaimedContainer>>,
) -> Result<CallTarget> {
    identified(call, known, Copies::AreLeftOut)
}

/// What copies of layers for other user IDs are to a call.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Copies {
    /// They are part of what is shown.
    Count,
    /// The image is shown in their place, under those IDs.
    AreLeftOut,
}

fn identified(
    call: &MountCall,
    known: &dyn Fn(&LayerId) -> Result<Option<ClaimedContainer>>,
    copies: Copies,
) -> Result<CallTarget> {
    let Some(home) = layer_paths::target(&absolute(&call.target)?)? else { return Ok(CallTarget::Volume) };
    if let Some(data) = call.data_lowers.first() {
        let why = "data-only directories: use_composefs does not go together with a mount_program";
        return Err(Refusal::new(Case::B08Lowers, data.display().to_string(), why));
    }
    let (home, run) = match additional(call, &home) {
        Some(root) => (LayerDir { root, id: home.id }, Some(home.root)),
        None => (home, None),
    };
    call.upper.is_none().then(|| check_layer_ids([home.root.clone()])).transpose()?;
    let mut stores = OpenStores::open(&home.root)?;
    stores.own().check_lowers(&home.id)?;
    let places = call.lowers.iter().map(|l| layer_paths::lower(l, &home)).collect::<Result<Vec<_>>>()?;
    let layers::Chain { links: mut chain, own_shifted, directories } =
        layers::chain(places, &home, call.upper.is_some(), &mut stores)?;
    let of = |record| ClaimedContainer::of(stores.own(), record);
    let mut container = stores.own().container_of(&home.id)?.map(of).transpose()?;
    if container.is_none() && call.upper.is_some() && stores.own().layer(&home.id).is_none() {
        container = known(&home.id)?;
    }

    // The target's layer: the upper directory, or the first lower one. A container's is its own; an image's belongs to
    // the chain.
    let mut own = None;
    if let Some(upper) = &call.upper {
        for (path, name) in [(&upper.upper, "diff"), (&upper.work, "work")] {
            let path_is = places_path(path, &home);
            let end = Path::new("overlay").join(home.id.as_str()).join(name);
            let elsewhere = || {
                path_is.ancestors().nth(3).is_some_and(|root| root.join(&end) == path_is && stores.own().is_at(root))
            };
            if path_is != home.join(name) && !elsewhere() {
                return Err(Refusal::new(Case::B08Lowers, path.display().to_string(), "not the target's own"));
            }
        }
        let link = ChainLink { store: 0, home: home.clone(), shifted: own_shifted };
        let is_an_images = stores.all().iter().flat_map(|s| s.images()).any(|i| i.has_top(home.id.as_str()));
        // Old versions ask for an image's own layer to be writable for `podman diff IMAGE`, which only reads.
        match container.is_none() && is_an_images {
            true => chain.insert(0, link),
            false => own = Some(link),
        }
    } else {
        if chain.first().is_none_or(|first| first.home.id != home.id) {
            let why = "the first lower directory is not the target's own layer";
            return Err(Refusal::new(Case::B08Lowers, call.target.display().to_string(), why));
        }
        if container.is_some() {
            own = Some(chain.remove(0));
        }
    }
    layers::check(&stores, own.as_mut(), &mut chain)?;
    if copies == Copies::AreLeftOut {
        layers::leave_out_copies(&stores, own.as_mut(), &mut chain);
    }

    let claimed = container.as_ref().and_then(|c| c.image.as_ref());
    stores.open_additional(claimed)?;
    let why = reason(&stores, own.as_ref(), container.as_ref(), &chain)?;
    let thorough = container.as_ref().is_none_or(|c| matches!(c.asked, None | Some(RequestedBy::SomeName)));
    let mut images = match why {
        None => image::candidates(&stores, &chain, claimed, thorough)?,
        Some(_) => Vec::new(),
    };
    // Seals may also be found under this name, and it decides along with the names that the store gives the image.
    if let Some(name) = container.as_ref().and_then(|c| c.asked.as_ref()?.name()) {
        images.iter_mut().filter(|i| !i.names.contains(name)).for_each(|i| i.names.push(name.clone()));
    }
    let diff_ids: Option<Vec<BlobDigest>> = images.first().map(|c| c.image.layers.iter().map(|l| l.diff_id).collect());
    let layers = image::with_blobs(layers::open(&stores, &chain, diff_ids.as_deref())?, &images);
    let names = names(&stores, own.as_ref(), container.as_ref());
    let own = own.map(|link| open_own(&stores, &link, call.upper.is_some(), container)).transpose()?;
    let root = Root::of_call(stores.own(), run.as_deref())?;
    if images.is_empty() {
        let why = why.unwrap_or("the uppermost layer is no image's");
        let shifted = own_shifted || layers.iter().any(|l| l.shifted);
        let open = |(store, name): &(usize, String)| stores.all()[*store].dir(name);
        let copies = if shifted { directories.iter().map(open).collect::<Result<_>>()? } else { Vec::new() };
        return Ok(CallTarget::Layers(Box::new(ClaimedLayers { layers, own, copies, why, names, root })));
    }
    Ok(CallTarget::Image(Box::new(ClaimedImage { images, layers, own, root })))
}

/// Returns the root of the additional store in which a layer to be read lies, if the target does not.
fn additional(call: &MountCall, target: &LayerDir) -> Option<PathBuf> {
    let first = layer_paths::lower(call.lowers.first()?, target).ok()?;
    let same = matches!(&first.name, layer_paths::LayerName::Id(id) if *id == target.id)
        && first.kind == layer_paths::LowerKind::Diff;
    (call.upper.is_none() && same && first.root != target.root).then_some(first.root)
}

/// Returns why the chain cannot be taken for an image, if that is known without looking at one.
///
/// # Errors
/// [`Case::B03Layers`] when the container was made from an image whose layers these are not.
fn reason(
    stores: &OpenStores,
    own: Option<&ChainLink>,
    container: Option<&ClaimedContainer>,
    chain: &[ChainLink],
) -> Result<Option<&'static str>> {
    let images = || stores.all().iter().flat_map(|s| s.images());
    let top = chain.first().map_or("", |l| l.home.id.as_str());
    let own_is_an_images = own.is_some_and(|own| images().any(|i| i.has_top(own.home.id.as_str())));
    if let Some(container) = container {
        if own_is_an_images {
            // If it were taken for a container's layer, it would pass unchecked.
            let why = format!("container {} and an image have the same layer", container.id);
            return Err(Refusal::new(Case::B03Layers, own.map(layers::shown).unwrap_or_default(), why));
        }
        if let Some(image) = &container.image {
            let mut same = images().filter(|i| i.id == image.as_str()).peekable();
            if same.peek().is_none() {
                return Ok(Some("the container's image is not in the store"));
            }
            if !same.any(|i| if chain.is_empty() { i.is_empty() } else { i.has_top(top) }) {
                let why = format!("container {} is made from image {image}", container.id);
                return Err(Refusal::new(Case::B03Layers, own.map(layers::shown).unwrap_or_default(), why));
            }
        }
    } else if let Some(own) = own
        && (own_is_an_images || stores.of(own).layer(&own.home.id).is_some())
    {
        // `podman diff IMAGE` of old versions, and layers that are being made. A layer without any record is different:
        // that is a container's in a transient store.
        return Ok(Some("the layer to be written is not a container's"));
    }
    if own.into_iter().chain(chain).any(|l| l.shifted) {
        return Ok(Some("the layers are copies for other user IDs"));
    }
    Ok(if chain.is_empty() { Some("there are no layers") } else { None })
}

/// Returns the names of a container whose layers are not an image, such as copies for other user IDs. A container that
/// was made from an image always gets a name: if none is known, the one for unknown images.
fn names(stores: &OpenStores, own: Option<&ChainLink>, container: Option<&ClaimedContainer>) -> Vec<String> {
    let unknown = vec![UNKNOWN.to_owned()];
    let Some(container) = container else {
        // A layer without any record is a container's in a transient store.
        let transient = own.is_some_and(|own| stores.of(own).layer(&own.home.id).is_none());
        return if transient { unknown } else { Vec::new() };
    };
    let Some(image) = &container.image else { return Vec::new() };
    let images: Vec<_> = stores.all().iter().flat_map(|s| s.images()).filter(|i| i.id == image.as_str()).collect();
    let mut names: Vec<String> = images.iter().flat_map(|i| i.names.iter().cloned()).collect();
    names.extend(container.asked.as_ref().and_then(RequestedBy::name).cloned());
    if images.is_empty() {
        names.extend(unknown);
    }
    or_unknown(names, container.asked.as_ref())
}

fn open_own(
    stores: &OpenStores,
    link: &ChainLink,
    writable: bool,
    container: Option<ClaimedContainer>,
) -> Result<OwnLayer> {
    let dir = |name: &str| stores.of(link).dir(&format!("overlay/{}/{name}", link.home.id));
    Ok(OwnLayer {
        id: link.home.id.clone(),
        path: link.home.join("diff"),
        diff: dir("diff")?,
        work: writable.then(|| dir("work")).transpose()?,
        container,
    })
}

/// Returns a path of the call; relative ones begin at `ROOT/overlay`.
fn places_path(path: &Path, home: &LayerDir) -> PathBuf {
    home.root.join("overlay").join(path)
}
