//! A user's image, and everything that root's service is handed of it.

use std::fs::File;
use std::os::fd::{AsFd as _, BorrowedFd, OwnedFd};

use super::service_call::{self, No};
use crate::container_store::{Candidate, ClaimedImage, OwnLayer, RequestedBy};
use crate::digest::VerityDigest;
use crate::error::{Case, Refusal, Result};
use crate::image::{Keep, ReadProgress};
use crate::mount;
use crate::oci::Budget;
use crate::policy::Verity;
use crate::prepare::{ImportRules, Measured, can_enforce, import, keep_contents};
use crate::protocol::MountCall;
use crate::seal::{ArtifactSubject, Binding, Bytes, Parsed, Seal, parse_about, parse_inline};
use crate::serve::protocol::{HandedPart, Question, ServiceCall};
use crate::serve::{UserMount, VouchedImage};
use crate::sys::{files, mounts};
use crate::vault::Vault;

/// A user's image, about which the service is asked.
pub(super) struct ServiceRequest<'a> {
    /// The mount program's; `None` where nothing is to be attached.
    pub(super) call: Option<&'a MountCall>,
    /// Whether podman mounts the container by itself, and the hook only puts the verified mount in that one's place.
    pub(super) native: bool,
    /// The namespace under whose IDs the image is shown, where these are not podman's own: see [`Self::show_as`].
    namespace: Option<OwnedFd>,
    claimed: &'a ClaimedImage,
    candidate: &'a Candidate,
    /// How the image was asked for, if that is known.
    pub(super) asked: Option<&'a RequestedBy>,
    /// `None` if there is none, and nothing is to be made.
    vault: Option<&'a Vault>,
    budget: Budget,
}

/// Seals that name the same tree as the image's, and the documents that they are made of.
#[derive(Default)]
struct SealGroup {
    rootfs: Option<VerityDigest>,
    seals: Vec<String>,
    documents: Vec<Vec<u8>>,
}

impl<'a> ServiceRequest<'a> {
    /// Makes a request about a claimed image.
    ///
    /// # Errors
    /// [`Case::Bug`] for one without candidates.
    pub(super) fn new(claimed: &'a ClaimedImage, vault: Option<&'a Vault>) -> Result<Self> {
        // The container's own image, if it says which; all candidates have the same layers.
        let candidate = claimed.images.iter().find(|c| c.claimed_by_container).or(claimed.images.first());
        let candidate = candidate.ok_or_else(|| Refusal::new(Case::Bug, "image", "no candidate"))?;
        let asked = claimed.own.as_ref().and_then(|own| own.container.as_ref()?.asked.as_ref());
        let (call, native, namespace) = (None, false, None);
        Ok(Self { call, native, namespace, claimed, candidate, asked, vault, budget: Budget::STANDARD })
    }

    /// Has the image shown to a container with the IDs that the call names.
    ///
    /// # Errors
    /// A13, [`Case::J03Proc`].
    pub(super) fn show_as(&mut self, call: &MountCall) -> Result<()> {
        self.namespace = mount::namespace(&call.uids, &call.gids)?;
        Ok(())
    }

    /// Asks for a mount, and makes the image's objects if that was not done before.
    ///
    /// # Errors
    /// Why there is none.
    pub(super) fn mount(&self, progress: ReadProgress<'_>) -> std::result::Result<OwnedFd, No> {
        self.mount_with_record(progress).map(|(mount, _)| mount)
    }

    /// Asks for the same, with the record of it that the service keeps for hooks.
    ///
    /// # Errors
    /// Why there is none.
    pub(super) fn mount_with_record(
        &self,
        progress: ReadProgress<'_>,
    ) -> std::result::Result<(OwnedFd, Option<Box<UserMount>>), No> {
        self.first(|group| {
            let descriptors = match &group.rootfs {
                Some(rootfs) => self.descriptors(rootfs, progress)?,
                None => Vec::new(),
            };
            let mut header = self.header(group, Question::Mount);
            header.descriptors = descriptors.iter().map(|(part, _)| *part).collect();
            header.native = self.native && header.descriptors.contains(&HandedPart::Upper);
            let all: Vec<BorrowedFd<'_>> = descriptors.iter().map(|(_, fd)| fd.as_fd()).collect();
            service_call::mount(&header, &all, &self.documents(group))
        })
    }

    /// Asks whether the image would be mounted.
    ///
    /// # Errors
    /// Why it would not.
    pub(super) fn verdict(&self) -> std::result::Result<VouchedImage, No> {
        self.first(|group| service_call::verdict(&self.header(group, Question::Verdict), &self.documents(group)))
    }

    /// Asks about each tree that seals are for, until the answer is good.
    fn first<T>(&self, ask: impl Fn(&SealGroup) -> std::result::Result<T, No>) -> std::result::Result<T, No> {
        let mut last = None;
        for group in self.groups()? {
            match ask(&group) {
                Ok(given) => return Ok(given),
                // "Wrong" is more informative than "not signed", and the first such answer more than others.
                Err(no) => last = last.or(Some(no)),
            }
        }
        Err(last.unwrap_or_else(|| Refusal::new(Case::Bug, "image", "no call").into()))
    }

    /// Returns whether the objects of a tree that a seal is for are there.
    pub(super) fn is_prepared(&self, vault: &Vault) -> bool {
        let groups = self.groups().unwrap_or_default();
        let mut trees = groups.iter().filter_map(|group| group.rootfs.as_ref());
        trees.any(|rootfs| is_ready(vault, rootfs))
    }

    /// Groups the seals in the vault by the tree that they are for; one group without any tree if there are none.
    fn groups(&self) -> Result<Vec<SealGroup>> {
        let image = &self.candidate.image;
        let mut groups: Vec<SealGroup> = Vec::new();
        let mut add = |seal: &Seal, documents: Vec<Vec<u8>>| {
            let Some((statement, _)) = &seal.binding else { return };
            let Ok(binding) = Binding::parse(statement, &self.budget) else { return };
            let rootfs = Some(binding.rootfs);
            let at = groups.iter().position(|group| group.rootfs == rootfs).unwrap_or_else(|| {
                groups.push(SealGroup { rootfs, ..SealGroup::default() });
                groups.len() - 1
            });
            if seal.subject.is_some() {
                groups[at].seals.push(seal.origin.clone());
            }
            groups[at].documents.extend(documents);
        };
        if let Ok(Some(seal)) = parse_inline(image, &self.budget) {
            add(&seal, Vec::new());
        }
        let seals =
            self.vault.map(|vault| Ok::<_, Refusal>((vault.store(), vault.seals(&image.digest, &self.budget)?)));
        for (store, digest) in
            seals.transpose()?.iter().flat_map(|(store, all)| all.iter().map(move |seal| (store, seal)))
        {
            let raw = store.read(digest, None, self.budget.manifest)?;
            let Ok(Parsed::Seal(seal)) = parse_about(ArtifactSubject::Image, &raw, digest, image, &self.budget) else {
                continue;
            };
            let blobs = seal.signatures.iter().filter_map(|signature| match &signature.der {
                Some(Bytes::Blob { digest, size }) => Some((digest, *size)),
                _ => None,
            });
            let read = |(digest, size)| store.read(digest, Some(size), self.budget.signature);
            let mut documents = blobs.map(read).collect::<Result<Vec<_>>>()?;
            documents.push(raw);
            add(&seal, documents);
        }
        if groups.is_empty() {
            groups.push(SealGroup::default());
        }
        Ok(groups)
    }

    /// Collects the descriptors of everything that the mount is made of.
    fn descriptors(&self, rootfs: &VerityDigest, progress: ReadProgress<'_>) -> Result<Vec<(HandedPart, OwnedFd)>> {
        let vault = self.vault.ok_or_else(|| Refusal::new(Case::Bug, "vault", "none"))?;
        let mut all = vec![(HandedPart::Erofs, OwnedFd::from(self.prepared(vault, rootfs, progress)?))];
        let clone = |dir: BorrowedFd<'_>, what: &str| {
            mounts::clone_mount(dir).map_err(|e| Refusal::new(Case::I05Attach, what.to_owned(), e))
        };
        all.push((HandedPart::Objects, clone(vault.data_dir().as_fd(), "objects")?));
        if let Some(namespace) = &self.namespace {
            let namespace = namespace.try_clone().map_err(|e| Refusal::io("user namespace", e))?;
            all.push((HandedPart::Namespace, namespace));
        }
        let Some(call) = self.call else { return Ok(all) };
        match &self.claimed.own {
            None => {}
            Some(OwnLayer { diff, work: None, path, .. }) => {
                all.push((HandedPart::Above, clone(diff.as_fd(), &path.display().to_string())?));
            }
            Some(OwnLayer { diff, work: Some(work), path, .. }) => {
                let shown = path.display().to_string();
                if call.volatile {
                    mount::clear_volatile(work)?;
                }
                // Both lie in the layer's directory: overlayfs needs them on one mount.
                let flags = rustix::fs::OFlags::PATH | rustix::fs::OFlags::DIRECTORY | rustix::fs::OFlags::CLOEXEC;
                let parent = rustix::fs::openat(diff, "..", flags, rustix::fs::Mode::empty());
                let layer = clone(parent.map_err(|e| Refusal::io(&shown, e))?.as_fd(), &shown)?;
                for (part, name, wanted) in [(HandedPart::Upper, "diff", diff), (HandedPart::Work, "work", work)] {
                    let dir = files::open_path_at(&layer, name).map_err(|e| Refusal::io(&shown, e))?;
                    if !is_same(&dir, wanted).map_err(|e| Refusal::io(&shown, e))? {
                        return Err(Refusal::new(Case::B09Replaced, shown, name));
                    }
                    all.push((part, dir));
                }
                all.push((HandedPart::Layer, layer));
            }
        }
        Ok(all)
    }

    /// Opens the EROFS image with its objects in the vault, and makes it from the layers if that was not done before.
    fn prepared(&self, vault: &Vault, rootfs: &VerityDigest, progress: ReadProgress<'_>) -> Result<File> {
        let ready = || is_ready(vault, rootfs).then(|| vault.open_erofs(rootfs).ok()).flatten();
        if let Some(file) = ready() {
            return Ok(file);
        }
        let image = &self.candidate.image;
        // Of many first starts at once one does the work, and the others wait.
        let _turn = vault.turn(&image.digest)?;
        if let Some(file) = ready() {
            return Ok(file);
        }
        let (mode, measured) = match can_enforce(vault) {
            Ok(()) => (Verity::Require, Measured::Enforced),
            Err(_) => (Verity::Off, Measured::Unprotected),
        };
        let rules = ImportRules {
            algorithm: rootfs.algorithm(),
            mode,
            diff_ids: false,
            keep: Keep::Images,
            budget: &self.budget,
        };
        let contents = import(vault, &self.claimed.layers, &rules, progress)?;
        keep_contents(vault, image, &contents, Some(measured))?;
        let made = contents.images.digests()?.rootfs;
        if made != *rootfs {
            let why = format!("its layers make {made}, the seal is for {rootfs}");
            return Err(Refusal::new(Case::D07Digest, image.digest.to_string(), why));
        }
        vault.open_erofs(rootfs)
    }

    /// Returns the names that the service is asked about: the one that the user asked for, if it is known.
    fn names(&self) -> Vec<String> {
        match self.asked {
            Some(RequestedBy::Name(name)) => vec![name.clone()],
            _ => self.candidate.names.clone(),
        }
    }

    fn documents<'g>(&'g self, group: &'g SealGroup) -> Vec<&'g Vec<u8>> {
        let image = &self.candidate.image;
        [&image.manifest, &image.config].into_iter().chain(&group.documents).collect()
    }

    fn header(&self, group: &SealGroup, asks: Question) -> ServiceCall {
        let mut header = ServiceCall::new();
        header.asks = asks;
        header.names = self.names();
        header.documents = self.documents(group).iter().map(|document| document.len() as u64).collect();
        header.seals.clone_from(&group.seals);
        if let Some(call) = self.call {
            header.volatile = call.volatile;
            header.nosuid = call.restrictions.nosuid;
            header.noexec = call.restrictions.noexec;
        }
        header
    }
}

/// Returns whether the objects of a tree were made. A filesystem without fs-verity is for the service to judge, not for
/// us.
fn is_ready(vault: &Vault, rootfs: &VerityDigest) -> bool {
    vault.was_prepared(rootfs, true) || vault.was_prepared(rootfs, false)
}

fn is_same(a: &OwnedFd, b: &OwnedFd) -> std::io::Result<bool> {
    let (a, b) = (rustix::fs::fstat(a)?, rustix::fs::fstat(b)?);
    Ok((a.st_dev, a.st_ino) == (b.st_dev, b.st_ino))
}
