//! Which image a call means, as containers-storage has it on record.
//!
//! All that is read here lies on a disk that somebody else may have written: it is claims. What is
//! promised is that the claims hold together (the directories are the recorded layers, in order;
//! their IDs follow from the image's diff_ids; manifest and config are those that their digests
//! name) and that what is handed on was opened beneath the store's root, through no symlink.
//! Whether anybody sealed that image, and whether the directories hold it, is for `verify` and
//! `prepare`.

mod configured;
mod container;
mod image;
mod layers;
mod lookup;
mod place;
mod places;
mod records;
mod root;
mod storage;
mod stored;

use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};

use rustix::io::Errno;

pub use configured::{Configured, Generation, configured, further_stores, graph_root, mount_program, run_root};
pub use container::{Asked, MadeFrom, Stored, container_of_layer, layer_of, stored_container};
pub use image::Candidate;
pub use layers::{ClaimedLayer, Tie};
pub use lookup::{StoredImage, images_above, recorded_lowers, stored_images};
pub use place::Place;
pub use records::{RecordedContainer, RecordedImage, recorded_containers, recorded_images};
pub use root::Root;
pub use stored::{layer_ids, manifest_digests};

use crate::digest::BlobDigest;
use crate::invoke::Call;
use crate::oci::name::UNKNOWN;
use crate::report::{Case, Refusal, Result};
use crate::sys::files;
use layers::{Link, Stores};
use places::Home;
use storage::ContainerRecord;

/// What a call means.
#[derive(Debug)]
pub enum Target {
    /// The root of a container or of an image: its lower directories are one image, in order.
    Image(Box<ClaimedImage>),
    /// Layers that are no image: part of one (`podman diff`), one that is being made, a copy for
    /// other user IDs.
    Layers(Box<ClaimedLayers>),
    /// An overlay volume of buildah (`--volume …:O`, `--rootfs …:O`, image volumes): lower
    /// directories of any kind, and not the root of a container made from an image.
    Volume,
}

/// An image, as the store claims it.
#[derive(Debug)]
pub struct ClaimedImage {
    /// What it may be, one at least, with the same diff_ids all; the container's claim first.
    pub images: Vec<Candidate>,
    /// Its layers, lowest first; each has a diff_id.
    pub layers: Vec<ClaimedLayer>,
    /// What lies over it.
    pub own: Option<OwnLayer>,
    /// The store that it is to be mounted in.
    pub root: Root,
}

/// Layers, as the store claims them.
#[derive(Debug)]
pub struct ClaimedLayers {
    /// Lowest first; none for a container from scratch.
    pub layers: Vec<ClaimedLayer>,
    /// What lies over them.
    pub own: Option<OwnLayer>,
    /// For copies of layers for other user IDs, which lie in several directories: all lower directories of
    /// the call, uppermost first, open. Empty for other layers.
    pub copies: Vec<OwnedFd>,
    /// Why they are not an image, for the log.
    pub why: &'static str,
    /// The names that the policy decides by: of a container those of its image, and the one that was asked for.
    /// None for layers that are nobody's.
    pub names: Vec<String>,
    /// The store that they are to be mounted in.
    pub root: Root,
}

/// A layer over the image, whose content nobody can have sealed.
#[derive(Debug)]
pub struct OwnLayer {
    /// Its ID in the store.
    pub id: String,
    /// `…/overlay/ID/diff`, for messages.
    pub path: PathBuf,
    /// The same directory, open.
    pub diff: OwnedFd,
    /// `…/overlay/ID/work`, open, where the layer is the upper directory. Without it the layer is
    /// the uppermost lower directory, to be seen and not written (`podman diff CONTAINER`).
    pub work: Option<OwnedFd>,
    /// The container that it belongs to, where there is a record of one.
    pub container: Option<Container>,
}

impl OwnLayer {
    /// The same, with descriptors of its own.
    ///
    /// # Errors
    /// [`Case::Io`]: no more descriptors.
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
pub struct Container {
    /// Its ID.
    pub id: String,
    /// Its names.
    pub names: Vec<String>,
    /// The ID of its image; empty for none.
    pub image: String,
    /// What the image was asked for by; `None` where nobody says.
    pub asked: Option<Asked>,
    /// Where it runs.
    pub place: Place,
}

impl From<&Stored> for Container {
    fn from(stored: &Stored) -> Self {
        let image = match &stored.made_from {
            MadeFrom::Image { id, .. } | MadeFrom::Unknown { id } => id.clone(),
            MadeFrom::Nothing => String::new(),
        };
        Self {
            id: stored.id.clone(),
            names: Vec::new(),
            image,
            asked: stored.asked.clone(),
            place: stored.place.clone(),
        }
    }
}

impl Container {
    fn of(store: &storage::Store, record: &ContainerRecord) -> Result<Self> {
        Ok(Self {
            id: record.id.clone(),
            names: record.names.clone(),
            image: record.image.clone(),
            asked: Asked::of(record)?,
            place: Place::of(store, record)?,
        })
    }
}

/// Whether there is a store, or a part of one: a fault is no "no".
fn is_dir(path: &Path) -> Result<bool> {
    files::is_dir(path).map_err(|e| Refusal::io(path.display().to_string(), e))
}

/// The container whose layer this is, by the records in a run root: those of a transient store are there
/// (storage/containers.go, `newContainerStore`).
///
/// # Errors
/// `B01`, `B09`, `B13`.
pub fn transient_container(run_root: &Path, layer: &str) -> Result<Option<Container>> {
    if !is_dir(&run_root.join("overlay-containers"))? {
        return Ok(None);
    }
    let store = storage::Store::open_without_layers(run_root, "overlay")?;
    store.container_of(layer)?.map(|record| Container::of(&store, record)).transpose()
}

/// Opens the target of a call that [`identify`] found in a store: beneath the store's root and through no
/// symlink, as the layers are. What is mounted on it is gone into.
///
/// # Errors
/// [`Case::A08Target`] for what is no directory, [`Case::Usage`] for what is not there.
pub fn open_target(root: &Root, call: &Call) -> Result<OwnedFd> {
    let refuse = |case, why: &dyn std::fmt::Display| Refusal::new(case, call.target.display().to_string(), why);
    let home = places::target(&absolute(&call.target)?)?.ok_or_else(|| refuse(Case::Bug, &"not in a store"))?;
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
/// As there.
pub fn open_target_home(root: &Root, call: &Call) -> Result<OwnedFd> {
    let refuse = |e: &dyn std::fmt::Display| Refusal::new(Case::A08Target, call.target.display().to_string(), e);
    let home = places::target(&absolute(&call.target)?)?.ok_or_else(|| refuse(&"not in a store"))?;
    files::open_dir_at(&*root.targets, format!("overlay/{}", home.id)).map_err(|e| refuse(&e))
}

/// Finds out what a call means. No lock is taken and nothing is written.
///
/// # Errors
/// `A08` for the target, `B01` to `B13` where the store contradicts the call or itself.
pub fn identify(call: &Call) -> Result<Target> {
    identify_with(call, &|_| Ok(None))
}

/// The same for a call of which more is known: where the store has no record of the container to a layer, `known`
/// is asked. That is the hook's caller, or the run root, where a transient store keeps such records.
///
/// # Errors
/// As for [`identify`].
pub fn identify_with(call: &Call, known: &dyn Fn(&str) -> Result<Option<Container>>) -> Result<Target> {
    let Some(home) = places::target(&absolute(&call.target)?)? else { return Ok(Target::Volume) };
    if let Some(data) = call.data_lowers.first() {
        let why = "data-only directories: use_composefs does not go together with a mount_program";
        return Err(Refusal::new(Case::B08Lowers, data.display().to_string(), why));
    }
    let (home, run) = match additional(call, &home) {
        Some(root) => (Home { root, id: home.id }, Some(home.root)),
        None => (home, None),
    };
    let mut stores = Stores::open(&home)?;
    stores.own().check_lowers(&home.id)?;
    let places = call.lowers.iter().map(|l| places::lower(l, &home)).collect::<Result<Vec<_>>>()?;
    let layers::Chain { links: mut chain, own_shifted, directories } =
        layers::chain(places, &home, call.upper.is_some(), &mut stores)?;
    let of = |record| Container::of(stores.own(), record);
    let mut container = stores.own().container_of(&home.id)?.map(of).transpose()?;
    if container.is_none() && call.upper.is_some() && stores.own().layer(&home.id).is_none() {
        container = known(&home.id)?;
    }

    // The target's layer: the upper directory, or the first lower one. A container's is its own; an
    // image's belongs to the chain.
    let mut own = None;
    if let Some(upper) = &call.upper {
        for (path, name) in [(&upper.upper, "diff"), (&upper.work, "work")] {
            let path_is = places_path(path, &home);
            let end = Path::new("overlay").join(&home.id).join(name);
            let elsewhere = || {
                path_is.ancestors().nth(3).is_some_and(|root| root.join(&end) == path_is && stores.own().is_at(root))
            };
            if path_is != home.join(name) && !elsewhere() {
                return Err(Refusal::new(Case::B08Lowers, path.display().to_string(), "not the target's own"));
            }
        }
        let link = Link { store: 0, home: home.clone(), shifted: own_shifted };
        let is_an_images = stores.all().iter().flat_map(|s| s.images()).any(|i| i.has_top(&home.id));
        // Old versions ask for an image's own layer to be writable for `podman diff IMAGE`, which only
        // reads: it is shown as the image that it is.
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

    let why = reason(&stores, own.as_ref(), container.as_ref(), &chain)?;
    let claimed = container.as_ref().map(|c| c.image.as_str());
    let thorough = container.as_ref().is_none_or(|c| c.asked.is_none());
    let mut images = match why {
        None => image::candidates(&stores, &chain, claimed, thorough)?,
        Some(_) => Vec::new(),
    };
    // Where its seals may be too, and what decides with the names that the store gives it.
    if let Some(name) = container.as_ref().and_then(|c| c.asked.as_ref()?.name()) {
        images.iter_mut().filter(|i| !i.names.contains(name)).for_each(|i| i.names.push(name.clone()));
    }
    let diff_ids: Option<Vec<BlobDigest>> = images.first().map(|c| c.image.layers.iter().map(|l| l.diff_id).collect());
    let layers = layers::open(&stores, &chain, diff_ids.as_deref())?;
    let names = names(&stores, own.as_ref(), container.as_ref());
    let own = own.map(|link| open_own(&stores, &link, call.upper.is_some(), container)).transpose()?;
    let root = Root::of_call(stores.own(), run.as_deref())?;
    if images.is_empty() {
        let why = why.unwrap_or("the uppermost layer is no image's");
        let shifted = own_shifted || layers.iter().any(|l| l.shifted);
        let open = |(store, name): &(usize, String)| stores.all()[*store].dir(name);
        let copies = if shifted { directories.iter().map(open).collect::<Result<_>>()? } else { Vec::new() };
        return Ok(Target::Layers(Box::new(ClaimedLayers { layers, own, copies, why, names, root })));
    }
    Ok(Target::Image(Box::new(ClaimedImage { images, layers, own, root })))
}

/// The root of the additional store that a layer to be read is in, where the target is not.
fn additional(call: &Call, target: &Home) -> Option<PathBuf> {
    let first = places::lower(call.lowers.first()?, target).ok()?;
    let same = matches!(&first.name, places::Name::Id(id) if *id == target.id) && first.kind == places::Kind::Diff;
    (call.upper.is_none() && same && first.root != target.root).then_some(first.root)
}

/// Why the chain cannot be taken for an image, where that is known without looking at one.
///
/// # Errors
/// [`Case::B03Layers`] when the container was made from an image whose layers these are not.
fn reason(
    stores: &Stores,
    own: Option<&Link>,
    container: Option<&Container>,
    chain: &[Link],
) -> Result<Option<&'static str>> {
    let images = || stores.all().iter().flat_map(|s| s.images());
    let top = chain.first().map_or("", |l| l.home.id.as_str());
    let own_is_an_images = own.is_some_and(|own| images().any(|i| i.has_top(&own.home.id)));
    if let Some(container) = container {
        if own_is_an_images {
            // Taken for a container's, the layer would pass unchecked.
            let why = format!("container {} and an image have the same layer", container.id);
            return Err(Refusal::new(Case::B03Layers, own.map(layers::shown).unwrap_or_default(), why));
        }
        if !container.image.is_empty() {
            let mut same = images().filter(|i| i.id == container.image).peekable();
            if same.peek().is_none() {
                return Ok(Some("the container's image is not in the store"));
            }
            if !same.any(|i| if chain.is_empty() { i.is_empty() } else { i.has_top(top) }) {
                let why = format!("container {} is made from image {}", container.id, container.image);
                return Err(Refusal::new(Case::B03Layers, own.map(layers::shown).unwrap_or_default(), why));
            }
        }
    } else if let Some(own) = own
        && (own_is_an_images || stores.of(own).layer(&own.home.id).is_some())
    {
        // `podman diff IMAGE` of old versions, and layers that are being made. Not so a layer without
        // any record: that is a container's in a transient store.
        return Ok(Some("the layer to be written is not a container's"));
    }
    if own.into_iter().chain(chain).any(|l| l.shifted) {
        return Ok(Some("the layers are copies for other user IDs"));
    }
    Ok(if chain.is_empty() { Some("there are no layers") } else { None })
}

/// The names of a container whose layers are no image, such as copies for other user IDs. One that was made from an
/// image is nothing without a name: where no name is known, it goes by that.
fn names(stores: &Stores, own: Option<&Link>, container: Option<&Container>) -> Vec<String> {
    let unknown = vec![UNKNOWN.to_owned()];
    let Some(container) = container else {
        // A layer without any record is a container's in a transient store.
        let transient = own.is_some_and(|own| stores.of(own).layer(&own.home.id).is_none());
        return if transient { unknown } else { Vec::new() };
    };
    if container.image.is_empty() {
        return Vec::new();
    }
    let images = stores.all().iter().flat_map(|s| s.images()).filter(|i| i.id == container.image);
    let images: Vec<_> = images.collect();
    let mut names: Vec<String> = images.iter().flat_map(|i| i.names.iter().cloned()).collect();
    names.extend(container.asked.as_ref().and_then(Asked::name).cloned());
    if images.is_empty() {
        names.extend(unknown);
    }
    names
}

fn open_own(stores: &Stores, link: &Link, writable: bool, container: Option<Container>) -> Result<OwnLayer> {
    let dir = |name: &str| stores.of(link).dir(&format!("overlay/{}/{name}", link.home.id));
    Ok(OwnLayer {
        id: link.home.id.clone(),
        path: link.home.join("diff"),
        diff: dir("diff")?,
        work: writable.then(|| dir("work")).transpose()?,
        container,
    })
}

/// A path of the call, relative ones beneath `ROOT/overlay`.
fn places_path(path: &Path, home: &Home) -> PathBuf {
    home.root.join("overlay").join(path)
}

/// Against the working directory, which may be gone.
fn absolute(path: &Path) -> Result<PathBuf> {
    std::path::absolute(path).map_err(|e| Refusal::new(Case::A08Target, path.display().to_string(), e))
}
