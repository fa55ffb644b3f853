use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::error::{Case, Refusal};
use crate::oci::name::ImageName;

/// A name that an image may run under, as a binding statement has it: a registry's name without tag and digest
/// (distribution-spec, "Pulling manifests"), bounded and printable.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Identity(String);

impl Identity {
    /// Returns whether an image with this name may run under it.
    pub fn allows(&self, name: &ImageName) -> bool {
        ImageName::of(&self.0) == *name
    }

    /// Returns the name.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Lists several of them for people.
    pub fn list(identities: &[Self]) -> String {
        identities.iter().map(Self::as_str).collect::<Vec<_>>().join(", ")
    }
}

impl FromStr for Identity {
    type Err = Refusal;

    /// Parses an identity.
    ///
    /// # Errors
    /// [`Case::D17Statement`] for text that cannot be a name in a registry, and for one with a tag or a digest.
    fn from_str(name: &str) -> Result<Self, Refusal> {
        let last = name.rsplit('/').next().unwrap_or_default();
        let is_name = !name.is_empty()
            && name.len() <= 255
            && name.bytes().all(|b| b.is_ascii_alphanumeric() || b"._-/:".contains(&b))
            && name.split('/').all(|part| !part.is_empty() && part != "." && part != "..")
            // A colon in the first of several parts is a port; in the last part it would be a tag.
            && !last.contains(':');
        match is_name {
            true => Ok(Self(name.to_owned())),
            false => Err(Refusal::new(Case::D17Statement, name, "it is no image name without tag and digest")),
        }
    }
}

impl TryFrom<String> for Identity {
    type Error = Refusal;

    fn try_from(text: String) -> Result<Self, Refusal> {
        text.parse()
    }
}

impl From<Identity> for String {
    fn from(identity: Identity) -> Self {
        identity.0
    }
}

impl fmt::Display for Identity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn d18_an_identity_of_docker_hub_is_for_one_repository_however_it_is_written() {
        let allows = |identity: &str, name: &str| identity.parse::<Identity>().unwrap().allows(&ImageName::of(name));
        let same = ["docker.io/app", "docker.io/library/app", "index.docker.io/app"];
        for (identity, name) in same.iter().flat_map(|identity| same.map(|name| (identity, name))) {
            assert!(allows(identity, name), "{identity}: {name}");
        }
        for identity in same {
            for name in ["app", "library/app", "localhost/app", "docker.io/library/library/app", "docker.io/acme/app"] {
                assert!(!allows(identity, name) && !allows(name, identity), "{identity}: {name}");
            }
        }
        // Without a host it is for no more names than it says.
        assert!(allows("app", "app"));
    }
}
