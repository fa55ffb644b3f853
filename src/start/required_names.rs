//! The names that the seals of an image must be for, by how it was asked for.

use crate::container_store::{Candidate, RequestedBy};
use crate::digest::BlobDigest;
use crate::error::{Case, Refusal, Result};
use crate::oci::name::ImageName;
use crate::policy::{Mode, Policy};

/// What counts for the names of one candidate.
pub(super) struct RequiredNames<'a> {
    pub(super) policy: &'a Policy,
    /// Whether a seal must be for a name at all.
    pub(super) identity: bool,
    /// The candidate's names.
    pub(super) names: &'a [String],
    /// How the image was asked for.
    pub(super) asked: Option<&'a RequestedBy>,
    /// Whether a seal for any one name is enough, because nobody says which name was asked for.
    pub(super) any_name: bool,
}

/// Lists those of the names that require a seal for them. One that requires nothing, as a build's, cannot be misused.
pub fn asking(policy: &Policy, names: &[String]) -> Vec<ImageName> {
    let asks = |name: &ImageName| {
        let alone = policy.decide(&[name.as_str().to_owned()]);
        alone.identity && alone.mode != Mode::Off
    };
    ImageName::all(names).into_iter().filter(asks).collect()
}

impl RequiredNames<'_> {
    /// Lists the names that a seal must be for: one of each inner list; an empty inner list asks for none. The name
    /// that the user asked for is the one; if nobody says which that was, any name will do, and whoever asked is taken
    /// to mean it. For a pod any of the names may be the one that it gives, so there is a seal for each.
    pub(super) fn identities(&self) -> Vec<Vec<ImageName>> {
        let names = ImageName::all(self.names);
        match self.asked {
            _ if !self.identity => vec![Vec::new()],
            Some(RequestedBy::Name(name)) => vec![vec![ImageName::of(name)]],
            // Whoever gives podman the ID names the config. The image's names still tell old seals from new ones.
            Some(RequestedBy::Id) => vec![names],
            // An image that lost its name to a newer one has no name to compare.
            None | Some(RequestedBy::SomeName) if self.any_name || names.is_empty() => vec![names],
            None | Some(RequestedBy::SomeName) => {
                let asking = asking(self.policy, self.names);
                if asking.is_empty() { vec![names] } else { asking.into_iter().map(|name| vec![name]).collect() }
            }
        }
    }

    /// Checks the names with a digest: such a name is for the manifest with that digest, or for one listed by the index
    /// with that digest.
    ///
    /// # Errors
    /// [`Case::B14Reference`].
    pub(super) fn check_digests(&self, candidate: &Candidate) -> Result<()> {
        let names: &[String] = match self.asked {
            Some(RequestedBy::Name(name)) => std::slice::from_ref(name),
            Some(RequestedBy::Id) => &[],
            None | Some(RequestedBy::SomeName) if self.any_name => &[],
            None | Some(RequestedBy::SomeName) => {
                let other = candidate.also_found_by.as_ref().filter(|_| self.asked.is_some());
                // A pod that pins a digest is given what its record says has it.
                if let Some(digest) = other.filter(|_| !self.names.is_empty()) {
                    let why = format!("on record as {digest}, which is another image");
                    let refusal = Refusal::new(Case::B14Reference, self.names[0].as_str(), why);
                    return Err(refusal.and("remove it from the node before that (crictl rmi ID)"));
                }
                self.names
            }
        };
        for name in names {
            let Some((_, digest)) = name.split_once('@') else { continue };
            let digest: BlobDigest = digest.parse()?;
            if digest != candidate.image.digest && !candidate.indexes.contains(&digest) {
                let why = format!("its manifest is {}", candidate.image.digest);
                return Err(self.explained(Refusal::new(Case::B14Reference, name.as_str(), why)));
            }
        }
        Ok(())
    }

    /// Returns a refusal for one of the names, which need not be the one that a pod gives, with why that one counts.
    pub(super) fn explained(&self, refusal: Refusal) -> Refusal {
        if self.asked != Some(&RequestedBy::SomeName) || self.names.len() < 2 {
            return refusal;
        }
        match refusal.case() {
            Case::D18Identity => refusal.and(
                "of an image for a pod each name counts: sign it with an --identity for each, or take the name from the \
                 node (crictl rmi NAME)",
            ),
            Case::B14Reference => refusal.and(
                "of an image for a pod each name counts: take the name from the node (crictl rmi NAME) before it is pulled",
            ),
            _ => refusal,
        }
    }
}
