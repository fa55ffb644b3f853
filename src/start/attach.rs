//! From an image that is ready to a mount that is on record: the last stretch of every start.

use std::ffi::OsString;
use std::os::fd::OwnedFd;

use super::common::tell;
use super::uppers::UpperUse;
use super::{PodmanWrites, uppers};
use crate::container_store::OwnLayer;
use crate::error::{Case, Refusal, Result};
use crate::mount::{self, MountKind, MountOptions, MountSpec, Record, ReplacedMount, UpperDir};
use crate::oci::ContainerId;
use crate::policy::{Decision, Mode, Policy, RootDriver};
use crate::prepare::PreparedImage;
use crate::protocol::MountCall;
use crate::sys::files::open_dir;
use crate::sys::selinux;
use crate::verify::Waiver;

/// Where a mount goes, if that was looked at before: see [`MountSpec::at`] and [`MountSpec::instead`].
#[derive(Clone, Copy, Default)]
pub(super) struct MountTarget<'a> {
    pub(super) at: Option<&'a OwnedFd>,
    pub(super) instead: Option<ReplacedMount>,
}

/// One call that ends in a mount.
#[derive(Clone, Copy)]
pub(super) struct PendingMount<'a> {
    pub(super) call: &'a MountCall,
    pub(super) policy: &'a Policy,
    pub(super) onto: MountTarget<'a>,
    /// What podman wrote into the container's layer for this start.
    pub(super) written: Option<&'a PodmanWrites>,
    /// Whether a hook asks: it reports the outcome itself.
    pub(super) by_hook: bool,
}

/// What can be mounted.
pub(super) enum MountSource<'a> {
    /// An image that was verified, or one of layers that this host made.
    Image(&'a PreparedImage),
    /// Directories as they are on the disk, the uppermost first.
    Directories {
        waiver: &'a Waiver,
        lowers: Vec<OwnedFd>,
        /// Whether their whiteouts are those of AUFS.
        aufs: bool,
    },
}

/// The writable layer of a call.
#[derive(Default)]
pub(super) struct WritableLayer {
    pub(super) upper: Option<UpperDir>,
    /// What is shown above an image, read-only.
    pub(super) above: Option<OwnedFd>,
    pub(super) container: Option<ContainerId>,
}

impl From<Option<OwnLayer>> for WritableLayer {
    fn from(layer: Option<OwnLayer>) -> Self {
        let Some(OwnLayer { diff, work, path, container, .. }) = layer else { return Self::default() };
        let container = container.map(|container| container.id);
        match work {
            Some(work) => Self { upper: Some(UpperDir { upper: diff, work, path }), above: None, container },
            None => Self { upper: None, above: Some(diff), container },
        }
    }
}

/// What is recorded about a mount.
pub(super) struct MountReason<'a> {
    pub(super) kind: MountKind,
    /// What the policy asks of upper directories; `None` for volumes, of which it asks nothing.
    pub(super) decision: Option<&'a Decision>,
    /// What would have been refused.
    pub(super) would_refuse: Option<&'a Refusal>,
}

impl PendingMount<'_> {
    /// Checks the upper directory, mounts, and keeps the record, to which `describe` adds what is known about the
    /// image.
    ///
    /// # Errors
    /// [`Case::M01Upper`], [`Case::O09Tampered`], and errors of the mount.
    pub(super) fn attach(
        &self,
        ready: MountSource<'_>,
        own: WritableLayer,
        said: &MountReason<'_>,
        describe: impl FnOnce(Record) -> Record,
    ) -> Result<Record> {
        let WritableLayer { upper, above, container } = own;
        let mut place = self.place(upper, above)?;
        let image = match &ready {
            MountSource::Image(image) => Some(*image),
            MountSource::Directories { aufs, .. } => {
                place.how.aufs = *aufs;
                None
            }
        };
        let upper = match said.decision {
            Some(decision) => {
                let by = UpperUse { call: self.call, written: self.written };
                uppers::check(&place, decision, image, by)?
            }
            None => None,
        };
        let (mounted, description) = match ready {
            MountSource::Image(image) => (mount::mount(image, &place)?, image.description()),
            MountSource::Directories { waiver, lowers, .. } => (mount::plain(waiver, lowers, &place)?, mount::PLAIN),
        };
        let would_refuse = said.would_refuse.or(upper.as_ref());
        // Nobody vouches for an upper directory that would have been refused.
        let kind = if said.kind == MountKind::Sealed && would_refuse.is_some() { MountKind::Audit } else { said.kind };
        let record = describe(Record::new(&mounted, &place, description, kind));
        let whole = place.above.is_none() && said.decision.is_some();
        let record = Record { container, whole, would_refuse: would_refuse.map(Into::into), ..record };
        mount::keep(&record)?;
        if !self.by_hook {
            tell(&record);
        }
        Ok(record)
    }

    /// Returns the label of the store's own directories: files of an image show it where the call names no other, as
    /// they do on an overlay of containers-storage (`podman image mount`, image volumes).
    fn store_label(&self, upper: Option<&UpperDir>, above: Option<&OwnedFd>) -> Option<OsString> {
        if !selinux::is_enabled() {
            return None;
        }
        match (upper.map(|upper| &upper.upper).or(above).or(self.onto.at), &self.call.target) {
            (Some(dir), _) => selinux::label_of(dir),
            (None, target) => selinux::label_of(open_dir(target).ok()?),
        }
    }

    /// Returns where the call wants its mount, and how.
    fn place(&self, upper: Option<UpperDir>, above: Option<OwnedFd>) -> Result<MountSpec> {
        let (call, onto, settings) = (self.call, self.onto, self.policy.mount());
        // For its own overlays containers-storage does the part for which it otherwise needs fuse-overlayfs.
        let top = if onto.instead.is_some() { RootDriver::Kernel } else { settings.top };
        if call.xattr_permissions.is_some_and(|level| level > 0) && top == RootDriver::Kernel {
            let why = "force_mask (xattr_permissions): overlayfs shows owners and modes as they are on the disk";
            return Err(Refusal::new(Case::Unsupported, "", why));
        }
        let at = onto.at.map(OwnedFd::try_clone).transpose();
        let store_label = self.store_label(upper.as_ref(), above.as_ref());
        Ok(MountSpec {
            target: call.target.clone(),
            at: at.map_err(|e| Refusal::io(call.target.display().to_string(), e))?,
            upper: upper.filter(|_| !call.restrictions.read_only),
            above,
            how: MountOptions {
                uids: call.uids.clone(),
                gids: call.gids.clone(),
                context: call.context.clone(),
                store_label,
                volatile: call.volatile,
                dev: !settings.nodev && !call.restrictions.nodev,
                nosuid: settings.nosuid || call.restrictions.nosuid,
                noexec: call.restrictions.noexec,
                top,
                aufs: false,
            },
            instead: onto.instead,
        })
    }
}

/// Returns the kind of a mount that needs no seal, by the mode that allowed it.
pub(super) fn unsealed(decision: &Decision) -> MountKind {
    if decision.mode == Mode::Audit { MountKind::Audit } else { MountKind::Off }
}
