//! Seals that are still in a registry when a container starts: looked for once, under a deadline, and kept,
//! so that no later start asks anybody.

use std::collections::{BTreeSet, HashSet};
use std::os::fd::OwnedFd;
use std::path::Path;
use std::time::Duration;

use rustix::fs::FlockOperation;

use super::registry_backoff::SilentRegistries;
use crate::container_store::Candidate;
use crate::digest::BlobDigest;
use crate::error::{Case, Refusal, Result};
use crate::fetch::{Options, Session};
use crate::oci::{BlobStore, Budget, Image, Platform, Repository};
use crate::policy::{Decision, FetchRule, Mode};
use crate::seal::annotations;
use crate::state::StateDir;
use crate::sys::{files, new_files, process};
use crate::vault::Vault;

/// How long, in seconds, a registry is not asked again about an image: an image that only `audit` lets start is started
/// as often as any other, and must not wait for a registry each time.
const PAUSE: i64 = 3600;

/// Lists the repositories that the names of an image belong to, each once.
pub fn repositories(names: &[String]) -> Vec<Repository> {
    let mut seen = HashSet::new();
    names.iter().filter_map(|name| Repository::of_name(name)).filter(|place| seen.insert(place.clone())).collect()
}

/// Fetches the seals of `candidate` from `places` into the vault. Each is asked: what one has may be a
/// stranger's, and a seal for another name may be elsewhere.
///
/// # Errors
/// [`Case::C18NoImage`] if nobody has the image; C02, C03, C09 to C11, C16, C17 if no place could give an answer.
pub fn fetch_seals(
    vault: &Vault,
    candidate: &Candidate,
    places: &[Repository],
    session: &Session,
) -> Result<Vec<BlobDigest>> {
    let seals = find_seals(vault.store(), candidate, places, session)?;
    for seal in &seals {
        let raw = vault.store().read(seal, None, Budget::STANDARD.manifest)?;
        vault.add_seal(&candidate.image.digest, &raw)?;
    }
    Ok(seals)
}

/// Brings them into `store`, but accepts none yet.
///
/// # Errors
/// As for [`fetch_seals`].
fn find_seals(
    store: &BlobStore,
    candidate: &Candidate,
    places: &[Repository],
    session: &Session,
) -> Result<Vec<BlobDigest>> {
    let (mut brought, mut first): (Vec<BlobDigest>, Option<Refusal>) = Default::default();
    for repository in places {
        let mut seals = session.seals(repository, &candidate.image, store);
        if !seals.as_ref().is_ok_and(|seals| !seals.is_empty()) {
            let pushed = Pushed::of(candidate, repository, session, store);
            for image in &pushed.same {
                match session.seals(repository, image, store) {
                    Ok(found) if !found.is_empty() => {
                        seals = Ok(found);
                        break;
                    }
                    // The registry has the image, and no seals for it.
                    Ok(none) => seals = seals.or(Ok(none)),
                    Err(refusal) => log::info!("{refusal}"),
                }
            }
            if let Some(name) = pushed.another {
                seals = seals.map_err(|refusal| refusal.and(another(&name)));
            }
        }
        match seals {
            Ok(seals) => brought.extend(seals),
            // A place that the image was never pushed to is less informative than one that could not be asked.
            Err(refusal) if first.as_ref().is_none_or(|f| f.case() == Case::C18NoImage) => first = Some(refusal),
            Err(_) => {}
        }
    }
    brought.sort_unstable();
    brought.dedup();
    match first {
        Some(refusal) if brought.is_empty() => Err(refusal),
        _ => Ok(brought),
    }
}

/// What the registry has under the names of a candidate.
#[derive(Default)]
struct Pushed {
    /// The same image under other manifests: podman compresses layers again when it pushes them, and the seal is for
    /// what was pushed.
    same: Vec<Image>,
    /// A name that is another image's in the registry: the one here was built here, or the name has moved on.
    another: Option<String>,
}

impl Pushed {
    /// Asks for each tag; failing to get one says nothing about the others.
    fn of(candidate: &Candidate, repository: &Repository, session: &Session, store: &BlobStore) -> Self {
        let ours = &candidate.image;
        let mut found = Self::default();
        let tags: BTreeSet<String> =
            candidate.names.iter().filter_map(|name| Repository::parse(name).ok()?.tag).collect();
        for tag in tags {
            // An image may have any number of names, and nobody answers any more.
            if session.is_over() {
                break;
            }
            let document = session.document(repository, Some(&tag), None);
            let image = match document {
                Ok(document) if document.digest == ours.digest => continue,
                Ok(document) => session.image(repository, document, &Platform::host(), store),
                Err(refusal) => Err(refusal),
            };
            match image {
                Ok(image) if image.config_digest == ours.config_digest && annotations(&image) == annotations(ours) => {
                    found.same.push(image);
                }
                Ok(_) => found.another = Some(format!("{repository}:{tag}")),
                Err(refusal) => log::info!("{refusal}"),
            }
        }
        found
    }
}

fn another(name: &str) -> String {
    format!(
        "{name} is another image in the registry: one that was built here is not what was pushed, so pull it from there \
         (`podman pull {name}`)"
    )
}

/// Does what a start may do about an image whose seals in the vault do not pass: true if others may have arrived
/// meanwhile.
///
/// # Errors
/// As for [`fetch_seals`].
pub(super) fn on_mount(vault: &Vault, store: &Path, candidates: &[&Candidate], decision: &Decision) -> Result<bool> {
    if decision.fetch != FetchRule::OnMount {
        return Ok(false);
    }
    let wanted: Vec<(&Candidate, Vec<Repository>)> =
        candidates.iter().map(|c| (*c, repositories(&c.names))).filter(|(_, places)| !places.is_empty()).collect();
    let Some((first, _)) = wanted.first() else { return Ok(false) };
    let asked = FetchNotes::about(&first.image.digest).map_err(|e| Refusal::io(StateDir::Asked.to_string(), e))?;
    let Some(_alone) = asked.lock(Duration::ZERO)? else {
        // Many containers of one image may start at once: one asks for all of them.
        return asked.lock(decision.fetch_timeout).map(|_| true);
    };
    if decision.mode == Mode::Audit && asked.lately() {
        return Ok(false);
    }
    // One deadline for all that is asked.
    let session = Session::hurried(Options::default(), Budget::STANDARD, decision.fetch_timeout)?;
    let mut found = false;
    let mut refused: Option<Refusal> = None;
    let silent = SilentRegistries::of(store, decision.fetch_retry);
    for (candidate, places) in wanted {
        for place in places {
            if session.is_over() && refused.is_some() {
                break;
            }
            let asked = match silent.check(&place) {
                Some(refusal) => Err(refusal),
                None => fetch_seals(vault, candidate, std::slice::from_ref(&place), &session).inspect_err(|refusal| {
                    // The deadline is over for those that come later, which is not their fault.
                    if refused.is_none() {
                        silent.note(&place, session.contact(&place), refusal);
                    }
                }),
            };
            match asked {
                Ok(seals) => {
                    silent.forget(&place);
                    found |= !seals.is_empty();
                }
                // A place that the image was never pushed to is less informative than one that could not be asked.
                Err(refusal) if refused.as_ref().is_none_or(|r| r.case() == Case::C18NoImage) => {
                    refused = Some(refusal)
                }
                Err(_) => {}
            }
        }
    }
    match refused {
        Some(refusal) if !found => Err(refusal),
        _ => Ok(found),
    }
}

/// Finds what [`on_mount`] would bring, and puts it into `store` and nowhere else: pairs of an image and a seal.
/// Registries that did not answer lately are not asked, and nothing is noted.
///
/// # Errors
/// As for [`fetch_seals`].
pub(super) fn would_bring(
    store: &BlobStore,
    root: &Path,
    candidates: &[&Candidate],
    decision: &Decision,
) -> Result<Vec<(BlobDigest, BlobDigest)>> {
    let session = Session::hurried(Options::default(), Budget::STANDARD, decision.fetch_timeout)?;
    let silent = SilentRegistries::looked_at(root, decision.fetch_retry);
    let (mut found, mut refused) = (Vec::new(), None);
    for candidate in candidates {
        for place in repositories(&candidate.names) {
            if session.is_over() && refused.is_some() {
                break;
            }
            let asked = match silent.check(&place) {
                Some(refusal) => Err(refusal),
                None => find_seals(store, candidate, std::slice::from_ref(&place), &session),
            };
            match asked {
                Ok(seals) => found.extend(seals.into_iter().map(|seal| (candidate.image.digest, seal))),
                Err(refusal) if refused.as_ref().is_none_or(|r: &Refusal| r.case() == Case::C18NoImage) => {
                    refused = Some(refusal)
                }
                Err(_) => {}
            }
        }
    }
    match refused {
        Some(refusal) if found.is_empty() => Err(refusal),
        _ => Ok(found),
    }
}

/// What is known of earlier questions about an image: a directory of its own.
struct FetchNotes(OwnedFd);

impl FetchNotes {
    fn about(image: &BlobDigest) -> std::io::Result<Self> {
        files::make_dir_at(StateDir::Asked.make()?, &image.hex()).map(Self)
    }

    fn lock(&self, wait: Duration) -> Result<Option<OwnedFd>> {
        let lock = files::lock(&self.0, FlockOperation::NonBlockingLockExclusive, wait);
        lock.map_err(|e| Refusal::io(StateDir::Asked.to_string(), e))
    }

    /// Returns whether the image was asked about within the last hour of this boot, and notes that it is now.
    fn lately(&self) -> bool {
        let noted = files::open_file_at(&self.0, "last").ok().and_then(|file| rustix::fs::fstat(file).ok());
        let lately = noted.is_some_and(|stat| (0..PAUSE).contains(&(process::now() - stat.st_mtime)));
        if !lately && let Err(e) = new_files::write_atomic(&self.0, "last", 0o600, b"") {
            log::debug!("{}: {e}", StateDir::Asked);
        }
        lately
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn c03_nobody_is_asked_after_the_deadline() {
        let within = |whole| Session::hurried(Options::default(), Budget::STANDARD, whole).unwrap();
        assert!(within(Duration::ZERO).is_over());
        assert!(!within(Duration::from_secs(3600)).is_over());
        assert!(!Session::new(Options::default(), Budget::STANDARD).unwrap().is_over());
    }

    #[test]
    fn repositories_of_an_image_are_each_listed_once() {
        let names: Vec<String> = (0..50_000).map(|n| format!("r{}.example.com/x:{n}", n % 25_000)).collect();
        let all = repositories(&names);
        assert_eq!((all.len(), all[7].to_string().as_str()), (25_000, "r7.example.com/x"));
    }
}
