//! Who calls, according to the kernel.

use std::os::fd::OwnedFd;

use rustix::io::Errno;

use crate::error::{Case, Refusal, Result};
use crate::sys::id_maps::IdMaps;
use crate::sys::peer::{Peer, Ranges, UserNamespace};

/// A user in a user namespace of its own.
#[derive(Debug)]
pub(super) struct CallingUser {
    pub(super) uid: u32,
    pub(super) gid: u32,
    pub(super) namespace: UserNamespace,
    /// The IDs that the namespace has: whoever is root there owns what these own.
    uids: Ranges,
}

impl CallingUser {
    /// Identifies the caller, if it is one that may call.
    ///
    /// A process in this host's own user namespace needs no such mount, and could not attach it. A process in a
    /// namespace that somebody else made is a guest there: its maker would have to agree, and is not asked here.
    ///
    /// # Errors
    /// [`Case::R02Caller`]; [`Case::I09Kernel`] before Linux 6.11.
    pub(super) fn of(peer: &Peer) -> Result<Self> {
        let refuse = |why: &dyn std::fmt::Display| Refusal::new(Case::R02Caller, format!("user {}", peer.uid), why);
        let gone = |e: std::io::Error| match e.raw_os_error().map(Errno::from_raw_os_error) {
            Some(Errno::NOTTY | Errno::INVAL) => Refusal::new(Case::I09Kernel, "user namespace of the caller", e),
            _ => refuse(&e),
        };
        let namespace = peer.user_namespace().map_err(gone)?;
        let own = UserNamespace::own().map_err(|e| Refusal::io("/proc/self/ns/user", e))?;
        let identity = |n: &UserNamespace| n.identity().map_err(|e| refuse(&e));
        if identity(&namespace)? == identity(&own)? {
            return Err(refuse(&"it is in none"));
        }
        // Root has the ordinary way; and nobody may hand in what belongs to root.
        let owner = namespace.owner().map_err(|e| refuse(&e))?;
        if peer.uid == 0 || owner != peer.uid {
            return Err(refuse(&format!("user {owner} made it")));
        }
        let uids = peer.uids().map_err(|e| refuse(&e))?;
        // It may have moved to another namespace meanwhile.
        if identity(&peer.user_namespace().map_err(gone)?)? != identity(&namespace)? {
            return Err(refuse(&"it changed"));
        }
        Ok(Self { uid: peer.uid, gid: peer.gid, namespace, uids })
    }

    /// Returns the IDs of this host's that the caller's namespace has.
    pub(super) fn uids(&self) -> &Ranges {
        &self.uids
    }

    /// Returns whether the caller may do as it likes with what belongs to this user of the host.
    pub(super) fn owns(&self, uid: u32) -> bool {
        uid != 0 && (uid == self.uid || self.uids.iter().any(|(first, count)| uid >= *first && uid - first < *count))
    }

    /// Returns the namespace whose IDs a mount shows: the caller's, or one that was made in it by the same user, of which
    /// the IDs are read too: hooks compare those of a container with them.
    ///
    /// # Errors
    /// [`Case::R02Caller`].
    pub(super) fn shown(&self, asked: Option<OwnedFd>) -> Result<(OwnedFd, Option<IdMaps>)> {
        let refuse = |why: &dyn std::fmt::Display| Refusal::new(Case::R02Caller, "namespace", why);
        let Some(asked) = asked else {
            use std::os::fd::AsFd as _;
            return Ok((self.namespace.as_fd().try_clone_to_owned().map_err(|e| refuse(&e))?, None));
        };
        let asked = UserNamespace::from_descriptor(asked).map_err(|e| refuse(&e))?;
        let asked = asked.ok_or_else(|| refuse(&"the descriptor is of no user namespace"))?;
        if !asked.is_within(&self.namespace).map_err(|e| refuse(&e))? {
            return Err(refuse(&"it was not made in the caller's"));
        }
        let owner = asked.owner().map_err(|e| refuse(&e))?;
        if !self.owns(owner) {
            return Err(refuse(&format!("user {owner} made it")));
        }
        let identity = |n: &UserNamespace| n.identity().map_err(|e| refuse(&e));
        let own = identity(&self.namespace)?;
        if identity(&asked)? == own {
            return Ok((asked.into(), None));
        }
        // Its IDs are those of the namespace that it was made in.
        match asked.parent().map_err(|e| refuse(&e))? {
            Some(parent) if identity(&parent)? == own => {}
            _ => return Err(refuse(&"it was made in another one than the caller's")),
        }
        let ids = IdMaps::of_namespace(&asked).map_err(|e| refuse(&e))?;
        Ok((asked.into(), Some(ids)))
    }
}
