//! Seals that are still in a registry when a container starts: looked for once, under a deadline, and kept,
//! so that no later start asks anybody.

use std::os::fd::OwnedFd;
use std::path::Path;
use std::time::Duration;

use rustix::fs::FlockOperation;

use super::registry_backoff::Silent;
use crate::digest::BlobDigest;
use crate::fetch::{Options, Session};
use crate::identify::Candidate;
use crate::oci::{Budget, Image, Platform, Repository};
use crate::policy::{Decision, Fetch, Mode};
use crate::report::{Case, Refusal, Result};
use crate::seal::annotations;
use crate::state::StateDir;
use crate::sys::{files, new_files, process};
use crate::vault::Vault;

/// For how long it is not asked again: what audit would refuse starts as often as anything, and must not
/// wait for a registry each time.
const PAUSE: i64 = 3600;

/// The repositories that the names of an image are of, each once.
pub fn repositories(names: &[String]) -> Vec<Repository> {
    let mut all: Vec<Repository> = Vec::new();
    for repository in names.iter().filter_map(|name| Repository::of_name(name)) {
        if !all.contains(&repository) {
            all.push(repository);
        }
    }
    all
}

/// Brings the seals of `candidate` from `places` into the vault, from the first one that has any.
///
/// # Errors
/// [`Case::C18NoImage`] where nobody has the image; C02, C03, C09 to C11, C16, C17 where no place could give
/// an answer.
pub fn fetch_seals(
    vault: &Vault,
    candidate: &Candidate,
    places: &[Repository],
    session: &Session,
) -> Result<Vec<BlobDigest>> {
    let mut first: Option<Refusal> = None;
    for repository in places {
        let mut seals = session.seals(repository, &candidate.image, vault.store());
        if !seals.as_ref().is_ok_and(|seals| !seals.is_empty())
            && let Ok(Some(pushed)) = pushed(candidate, repository, session, vault)
        {
            seals = session.seals(repository, &pushed, vault.store());
        }
        match seals {
            Ok(seals) if !seals.is_empty() => {
                for seal in &seals {
                    let raw = vault.store().read(seal, None, Budget::STANDARD.manifest)?;
                    vault.add_seal(&candidate.image.digest, &raw)?;
                }
                return Ok(seals);
            }
            Ok(_) => {}
            // Somewhere it was never pushed to says less than a place that could not be asked.
            Err(refusal) if first.as_ref().is_none_or(|f| f.case() == Case::C18NoImage) => first = Some(refusal),
            Err(_) => {}
        }
    }
    first.map_or(Ok(Vec::new()), Err)
}

/// The image that a name of the candidate stands for in the registry, where that is the same one under another
/// manifest: podman compresses layers anew when it pushes them, and what is signed is what was pushed.
fn pushed(candidate: &Candidate, repository: &Repository, session: &Session, vault: &Vault) -> Result<Option<Image>> {
    let ours = &candidate.image;
    let tags = candidate.names.iter().filter_map(|name| Repository::parse(name).ok()?.1);
    for tag in tags {
        let document = session.document(repository, Some(&tag), None)?;
        if document.0 == ours.digest {
            continue;
        }
        let image = session.image(repository, document, &Platform::host(), vault.store())?;
        if image.config_digest == ours.config_digest && annotations(&image) == annotations(ours) {
            return Ok(Some(image));
        }
    }
    Ok(None)
}

/// What a start may do about an image whose seals in the vault do not pass: true where others may have come
/// meanwhile.
///
/// # Errors
/// As [`fetch_seals`].
pub(super) fn on_mount(vault: &Vault, store: &Path, candidates: &[&Candidate], decision: &Decision) -> Result<bool> {
    if decision.fetch != Fetch::OnMount {
        return Ok(false);
    }
    let wanted: Vec<(&Candidate, Vec<Repository>)> =
        candidates.iter().map(|c| (*c, repositories(&c.names))).filter(|(_, places)| !places.is_empty()).collect();
    let Some((first, _)) = wanted.first() else { return Ok(false) };
    let asked = Asked::about(&first.image.digest).map_err(|e| Refusal::io(StateDir::Asked.to_string(), e))?;
    let Some(_alone) = asked.lock(Duration::ZERO)? else {
        // Many containers of one image at once: one asks for all of them.
        return asked.lock(decision.fetch_timeout).map(|_| true);
    };
    if decision.mode == Mode::Audit && asked.lately() {
        return Ok(false);
    }
    // One deadline for all that is asked.
    let session = Session::hurried(Options::default(), Budget::STANDARD, decision.fetch_timeout)?;
    let mut found = false;
    let mut refused: Option<Refusal> = None;
    let silent = Silent::of(store, decision.fetch_retry);
    for (candidate, places) in wanted {
        for place in places {
            let host = place.host();
            let asked = match silent.check(host) {
                Some(refusal) => Err(refusal),
                None => fetch_seals(vault, candidate, std::slice::from_ref(&place), &session).inspect_err(|refusal| {
                    // Those that come when the time is over are not to blame.
                    if refused.is_none() {
                        silent.note(host, refusal);
                    }
                }),
            };
            match asked {
                Ok(seals) => {
                    silent.forget(host);
                    found |= !seals.is_empty();
                    if !seals.is_empty() {
                        break;
                    }
                }
                // Somewhere it was never pushed to says less than a place that could not be asked.
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

/// What is known of earlier questions about an image: a directory of its own.
struct Asked(OwnedFd);

impl Asked {
    fn about(image: &BlobDigest) -> std::io::Result<Self> {
        files::make_dir_at(StateDir::Asked.make()?, &image.hex()).map(Self)
    }

    fn lock(&self, wait: Duration) -> Result<Option<OwnedFd>> {
        let lock = files::lock(&self.0, FlockOperation::NonBlockingLockExclusive, wait);
        lock.map_err(|e| Refusal::io(StateDir::Asked.to_string(), e))
    }

    /// Whether it was asked about within the last hour of this boot; from now on it was.
    fn lately(&self) -> bool {
        let noted = files::open_file_at(&self.0, "last").ok().and_then(|file| rustix::fs::fstat(file).ok());
        let lately = noted.is_some_and(|stat| (0..PAUSE).contains(&(process::now() - stat.st_mtime)));
        if !lately && let Err(e) = new_files::write_atomic(&self.0, "last", 0o600, b"") {
            log::debug!("{}: {e}", StateDir::Asked);
        }
        lately
    }
}
