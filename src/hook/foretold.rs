//! What podman has copied out of layers that nobody had verified, or would copy, as far as it is there to be looked at before
//! a start: in the container's upper directory, in its own directory, in its volumes, and in the layers themselves. A start
//! looks at the same with what podman does for it, which is not known before.

use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};

use super::anonymous_volumes::{self, BeforeStart};
use super::changed::ReadSince;
use super::copied_users::{self, CopiedFor};
use super::filled::check_sources;
use super::given::{GivenContainer, GivenMount};
use super::last_call::CRI_O;
use super::snapshot::Snapshot;
use crate::container_store::{ClaimedImage, ListedContainer, OwnLayer, check_database, graph_root, mount_program};
use crate::error::{Case, Refusal, Result};
use crate::mount::{self, MountOptions, MountSpec, UnverifiedView};
use crate::prepare::PreparedImage;
use crate::protocol::{self, BindMount, ContainerConfig, IdMapping};
use crate::start::refused::{self, RefusedNote};
use crate::start::{LastStart, PodmanWrites, Writer, expect_upper};
use crate::sys::files;
use crate::sys::rooted_dir::RootedDir;

/// Bytes of an image's list of users or groups.
const MAX_LIST: u64 = 16 << 20;

/// Bytes of what containers-storage notes of a mount program: a word.
const MAX_NOTE: u64 = 64;

/// A container whose image passes.
pub(super) struct Foretold<'a> {
    pub(super) container: &'a ListedContainer,
    pub(super) claimed: &'a ClaimedImage,
    pub(super) own: &'a OwnLayer,
    /// What it would be mounted from; `None` where that has to be made first.
    pub(super) image: Option<&'a PreparedImage>,
    pub(super) given: &'a GivenContainer,
    /// Whether layerseal is the mount program: then podman reads and writes through the verified mount.
    pub(super) by_program: bool,
}

/// What a start would be called with.
struct NextCall {
    uids: IdMapping,
    gids: IdMapping,
    user: (u32, u32),
    directory: PathBuf,
    mounts: Vec<BindMount>,
    by: Writer,
}

impl Foretold<'_> {
    /// Checks in the order in which a start does.
    ///
    /// # Errors
    /// [`Case::O09Tampered`], [`Case::O10Filled`], [`Case::O13Refused`] and [`Case::B15Database`], as a start; those of
    /// reading the notes.
    pub(super) fn check(&self) -> Result<()> {
        check_database(Some(self.claimed.root.path.as_path()))?;
        let notes = refused::notes()?;
        let upper = self.own.diff.try_clone().map_err(|e| Refusal::io(self.own.path.display().to_string(), e))?;
        let directory = files::open_dir(&self.container.directory).ok();
        let own: Vec<_> = [Some(upper), directory].into_iter().flatten().collect();
        let paths = [self.own.path.as_path(), self.container.directory.as_path()];
        let note = refused::of_container(&notes, &own, &paths).map(|(_, note)| note);
        let ran = || LastStart::if_noted(&self.own.diff);
        let view = self.image.map(|image| mount::view(image, &MountOptions::default())).transpose()?;
        let root = view.as_ref().map(|view| PathBuf::from(files::proc_path(view)));
        let call = self.next_call(root.as_deref());
        if let (Some(image), Some(call)) = (self.image, &call) {
            self.upper(image, call, note)?;
            // Layers for other user IDs lie elsewhere, or are shown by a mount of podman's.
            if !self.by_program && (&call.uids, &call.gids) == (&IdMapping::None, &IdMapping::None) {
                are_as_sealed(self.claimed, image, Some(&self.own.diff), &call.mounts)?;
            }
        }
        let given = self.given.mounts.iter().filter_map(|mount| mount.source.clone());
        let written = ["etc/passwd", "etc/group"].map(|name| self.own.path.join(name));
        check_sources(&notes, given.chain(written))?;
        refused::check(note, ran(), self.container.names.first().map(String::as_str))?;
        let (Some(root), Some(call)) = (&root, &call) else { return Ok(()) };
        let maps = (&call.uids, &call.gids);
        let of = CopiedFor { user: call.user, directory: &call.directory, maps, is_shown_mapped: false };
        copied_users::check(&call.mounts, &of, root, ran)?;
        let mapped = (&call.uids, &call.gids) != (&IdMapping::None, &IdMapping::None);
        let before = BeforeStart { upper: self.own.diff.try_clone().ok(), since: i128::MAX, mapped };
        anonymous_volumes::check(&call.mounts, root, &before, ran)
    }

    /// Describes the next call: as the container was started last, or was to be; if it never was, as podman describes it.
    /// `None` if its user IDs are mapped and nothing says how.
    fn next_call(&self, root: Option<&Path>) -> Option<NextCall> {
        if let Some(ContainerConfig { uids, gids, user, directory, mounts, manager, .. }) = last_config(self.container)
        {
            let by = if manager == CRI_O { Writer::CriO } else { Writer::Podman };
            return Some(NextCall { uids, gids, user, directory, mounts, by });
        }
        // Copies of users, for a start that podman gave up before it wrote any of this.
        let copies = ["passwd", "group"].into_iter().filter_map(|name| {
            let source = self.container.directory.join(name);
            source.exists().then(|| BindMount {
                destination: Path::new("/etc").join(name),
                sources: vec![source],
                recursive: false,
                is_writable: true,
                upper: None,
            })
        });
        let GivenContainer { mounts, user, directory, mapped, .. } = self.given;
        let mounts = mounts.iter().filter_map(GivenMount::as_bind).chain(copies).collect();
        let user = root.map_or((0, 0), |root| user_of(root, user));
        let none = || IdMapping::None;
        (!mapped).then(|| NextCall {
            uids: none(),
            gids: none(),
            user,
            directory: directory.clone(),
            mounts,
            by: Writer::Podman,
        })
    }

    fn upper(&self, image: &PreparedImage, call: &NextCall, note: Option<&RefusedNote>) -> Result<()> {
        let since = note.and_then(|note| note.began).unwrap_or(i128::MAX);
        let written = PodmanWrites { user: call.user, directory: call.directory.clone(), since, by: call.by };
        expect_upper(self.own, image, (!self.by_program).then_some(&written), (&call.uids, &call.gids))
    }
}

/// Reads the configuration that the container was started with last, or was to be.
pub(super) fn last_config(container: &ListedContainer) -> Option<ContainerConfig> {
    protocol::config(&protocol::read_config(&container.directory).ok()?).ok()
}

/// Checks what podman would read of an image's layers for a new container, before anybody is asked. An image that has to be
/// made first cannot be compared; with layerseal as the mount program podman reads what is verified.
///
/// # Errors
/// [`Case::O09Tampered`], [`Case::B15Database`].
pub fn expect_new_container(claimed: &ClaimedImage, image: Option<&PreparedImage>) -> Result<()> {
    check_database(Some(claimed.root.path.as_path()))?;
    match image.filter(|_| !is_mount_program()) {
        Some(image) => {
            let volumes = claimed.images.iter().flat_map(|candidate| candidate.image.volumes());
            let filled = volumes.map(|path| BindMount {
                destination: Path::new("/").join(path),
                sources: Vec::new(),
                recursive: false,
                is_writable: true,
                upper: None,
            });
            are_as_sealed(claimed, image, None, &filled.collect::<Vec<_>>())
        }
        None => Ok(()),
    }
}

/// Compares what podman reads of layers as they are on the disk with the image, both beneath the changes of a container.
fn are_as_sealed(
    claimed: &ClaimedImage,
    image: &PreparedImage,
    above: Option<&OwnedFd>,
    mounts: &[BindMount],
) -> Result<()> {
    let copy = |file: &OwnedFd| file.try_clone().map_err(|e| Refusal::io("layers", e));
    let lowers = claimed.layers.iter().rev().map(|layer| copy(&layer.diff)).collect::<Result<_>>()?;
    let native = match UnverifiedView::of(lowers, above.map(copy).transpose()?) {
        Ok(native) => native,
        // It says nothing of how podman would mount them.
        Err(refusal) => {
            log::debug!("{}: its layers are not compared: {refusal}", image.description());
            return Ok(());
        }
    };
    let place = MountSpec { above: above.map(copy).transpose()?, ..MountSpec::read_only(image.description()) };
    let sealed = mount::detached(image, &place)?;
    let sealed_path = PathBuf::from(files::proc_path(&sealed));
    // Where podman will mount empty filesystems it says nowhere.
    let snapshot = |root: &Path| Snapshot::of(root, mounts, &[], &ReadSince::ANY);
    snapshot(&native.path())?.same_as(&snapshot(&sealed_path)?)
}

/// Looks up the numbers of a user, given by name or number, in the image at `root`; root's if the image has no such user,
/// since the start fails then.
fn user_of(root: &Path, asked: &str) -> (u32, u32) {
    let read = |path: &str| {
        let file = RootedDir::open(root).and_then(|root| root.read(Path::new(path)));
        let bytes = file.and_then(|file| files::read_all(file, MAX_LIST)).unwrap_or_default();
        String::from_utf8_lossy(&bytes).into_owned()
    };
    // Whose name or number it is, and the numbers of that line.
    let find = |text: &str, word: &str| -> Option<(Option<u32>, Option<u32>)> {
        let mut lines = text.lines().map(|line| line.split(':').collect::<Vec<_>>());
        let line = lines.find(|line| line.first() == Some(&word) || line.get(2) == Some(&word))?;
        let number = |at: usize| line.get(at).and_then(|text| text.parse().ok());
        Some((number(2), number(3)))
    };
    let (user, group) = asked.split_once(':').map_or((asked, None), |(user, group)| (user, Some(group)));
    let (uid, primary) = find(&read("/etc/passwd"), user).unwrap_or((user.parse().ok(), None));
    let named = group.map(|group| find(&read("/etc/group"), group).map_or(group.parse().ok(), |(gid, _)| gid));
    (uid.unwrap_or(0), named.unwrap_or(primary).unwrap_or(0))
}

/// Checks that podman does not mount by fuse-overlayfs, which hooks and runtime refuse. podman goes on to do so once there
/// was a mount program.
///
/// # Errors
/// [`Case::O14FuseOverlay`].
pub fn not_by_fuse_overlayfs() -> Result<()> {
    let by = match mount_program() {
        Some(program) => program.ends_with("fuse-overlayfs").then_some(program),
        None => (had_mount_program() && mount::has_fuse_overlayfs()).then(|| "fuse-overlayfs".to_owned()),
    };
    by.map_or(Ok(()), |program| Err(Refusal::new(Case::O14FuseOverlay, program, "podman mounts by it")))
}

/// Returns whether layerseal is the mount program.
pub(super) fn is_mount_program() -> bool {
    mount_program().is_some_and(|program| program.ends_with("/layerseal"))
}

/// Returns whether containers-storage has noted a mount program, which it does not forget (overlay.go,
/// `SupportsNativeOverlay`), and notes again while a layer has whiteouts that were written for one: without one it takes
/// fuse-overlayfs if that is installed.
pub fn had_mount_program() -> bool {
    let file = |root: &Path| files::open_file_at(files::open_dir(&root.join("overlay"))?, ".has-mount-program");
    let note = graph_root().map(|root| file(&root).and_then(|file| files::read_all(file, MAX_NOTE)));
    note.is_ok_and(|text| text.is_ok_and(|text| text.trim_ascii() == b"true"))
}
