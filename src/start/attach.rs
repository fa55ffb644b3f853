//! From what is ready to a mount that is on record: the one stretch that every start ends with.

use std::os::fd::OwnedFd;

use super::common::audit;
use super::{Written, uppers};
use crate::identify::OwnLayer;
use crate::invoke::Call;
use crate::mount::{self, How, Instead, Kind, Place, Record, Upper};
use crate::policy::{Decision, Mode, Policy, Top};
use crate::prepare::PreparedImage;
use crate::report::{Case, Refusal, Result};
use crate::verify::Waiver;

/// What a mount goes onto, where that was looked at before: see [`Place::at`] and [`Place::instead`].
#[derive(Clone, Copy, Default)]
pub(super) struct Onto<'a> {
    pub(super) at: Option<&'a OwnedFd>,
    pub(super) instead: Option<Instead>,
}

/// One call that comes to a mount.
#[derive(Clone, Copy)]
pub(super) struct Request<'a> {
    pub(super) call: &'a Call,
    pub(super) policy: &'a Policy,
    pub(super) onto: Onto<'a>,
    /// What podman wrote into the container's layer for this start.
    pub(super) written: Option<&'a Written>,
}

/// What can be mounted.
pub(super) enum Ready<'a> {
    /// An image that was verified, or one of layers that this host made.
    Image(&'a PreparedImage),
    /// Directories as they are on the disk, the uppermost first.
    Directories {
        waiver: &'a Waiver,
        lowers: Vec<OwnedFd>,
        /// Their whiteouts are those of AUFS.
        aufs: bool,
    },
}

/// The writable layer of a call.
#[derive(Default)]
pub(super) struct Own {
    pub(super) upper: Option<Upper>,
    /// What is shown above an image, read-only.
    pub(super) above: Option<OwnedFd>,
    pub(super) container: Option<String>,
}

impl From<Option<OwnLayer>> for Own {
    fn from(layer: Option<OwnLayer>) -> Self {
        let Some(OwnLayer { diff, work, path, container, .. }) = layer else { return Self::default() };
        let container = container.map(|container| container.id);
        match work {
            Some(work) => Self { upper: Some(Upper { upper: diff, work, path }), above: None, container },
            None => Self { upper: None, above: Some(diff), container },
        }
    }
}

/// What is said of a mount.
pub(super) struct Said<'a> {
    pub(super) kind: Kind,
    /// What policy asks of upper directories; `None` where it asks nothing, of volumes.
    pub(super) decision: Option<&'a Decision>,
    /// What would have been refused.
    pub(super) would_refuse: Option<&'a Refusal>,
}

impl Request<'_> {
    /// Checks the upper directory, mounts, and keeps the record, to which `describe` adds what is known of the image.
    ///
    /// # Errors
    /// [`Case::M01Upper`], [`Case::O09Tampered`], and those of the mount.
    pub(super) fn attach(
        &self,
        ready: Ready<'_>,
        own: Own,
        said: &Said<'_>,
        describe: impl FnOnce(Record) -> Record,
    ) -> Result<Record> {
        let Own { upper, above, container } = own;
        let mut place = self.place(upper, above)?;
        let image = match &ready {
            Ready::Image(image) => Some(*image),
            Ready::Directories { aufs, .. } => {
                place.how.aufs = *aufs;
                None
            }
        };
        let upper = match said.decision {
            Some(decision) => uppers::check(&place, decision, image, self.written)?,
            None => None,
        };
        upper.iter().for_each(|refusal| audit(refusal, self.call));
        let (mounted, description) = match ready {
            Ready::Image(image) => (mount::mount(image, &place)?, image.description()),
            Ready::Directories { waiver, lowers, .. } => (mount::plain(waiver, lowers, &place)?, mount::PLAIN),
        };
        let would_refuse = said.would_refuse.or(upper.as_ref());
        // Nobody vouches for an upper directory that would have been refused.
        let kind = if said.kind == Kind::Sealed && would_refuse.is_some() { Kind::Audit } else { said.kind };
        let record = describe(Record::new(&mounted, &place, description, kind));
        let whole = place.above.is_none() && said.decision.is_some();
        let record = Record { container, whole, would_refuse: would_refuse.map(Into::into), ..record };
        mount::keep(&record)?;
        Ok(record)
    }

    /// Where the call wants its mount, and how.
    fn place(&self, upper: Option<Upper>, above: Option<OwnedFd>) -> Result<Place> {
        let (call, onto, settings) = (self.call, self.onto, self.policy.mount());
        // containers-storage does with its own overlays what it needs fuse-overlayfs for otherwise.
        let top = if onto.instead.is_some() { Top::Kernel } else { settings.top };
        if call.xattr_permissions.is_some_and(|level| level > 0) && top == Top::Kernel {
            let why = "force_mask (xattr_permissions): overlayfs shows owners and modes as they are on the disk";
            return Err(Refusal::new(Case::Unsupported, "", why));
        }
        let at = onto.at.map(OwnedFd::try_clone).transpose();
        Ok(Place {
            target: call.target.clone(),
            at: at.map_err(|e| Refusal::io(call.target.display().to_string(), e))?,
            upper: upper.filter(|_| !call.restrictions.read_only),
            above,
            how: How {
                uids: call.uids.clone(),
                gids: call.gids.clone(),
                context: call.context.clone(),
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

/// What somebody's word is not asked for, by the mode that said so.
pub(super) fn unsealed(decision: &Decision) -> Kind {
    if decision.mode == Mode::Audit { Kind::Audit } else { Kind::Off }
}
