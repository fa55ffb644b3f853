use std::fmt;
use std::path::PathBuf;
use std::str::FromStr;

use super::{RegistryName, Repository};
use crate::digest::BlobDigest;
use crate::error::{Case, Refusal};

/// How a person names an image, the same in every verb.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Reference {
    /// `oci:DIR[:TAG]` or `oci:DIR@sha256:HEX`: an OCI image layout.
    Layout {
        /// The directory that holds `index.json`.
        dir: PathBuf,
        /// The tag, if one was given.
        tag: Option<String>,
        /// The manifest's digest, if one was given.
        digest: Option<BlobDigest>,
    },
    /// `docker://HOST/NAME[:TAG|@sha256:HEX]`: an image in a registry.
    Registry {
        /// The repository.
        repository: Repository,
        /// The tag; `latest` if neither a tag nor a digest was given.
        tag: Option<String>,
        /// The digest of its manifest or index, instead of the tag.
        digest: Option<BlobDigest>,
    },
    /// A tag in the vault.
    Tag(String),
    /// `@sha256:HEX`: a manifest in the vault.
    Digest(BlobDigest),
}

impl FromStr for Reference {
    type Err = Refusal;

    fn from_str(text: &str) -> Result<Self, Refusal> {
        let refuse = |why: &str| Err(Refusal::new(Case::Reference, text, why));
        if let Some(rest) = text.strip_prefix("oci:") {
            return layout(rest).map_err(|why| Refusal::new(Case::Reference, text, why));
        }
        if let Some(digest) = text.strip_prefix('@') {
            return Ok(Self::Digest(digest.parse()?));
        }
        if let Some(rest) = text.strip_prefix("docker://") {
            let RegistryName { repository, tag, digest } = Repository::parse(rest)?;
            if tag.is_some() && digest.is_some() {
                return refuse("name a tag or a digest, not both");
            }
            return Ok(Self::Registry { repository, tag, digest });
        }
        if text.starts_with("docker:") {
            return refuse("an image in a registry is docker://HOST/NAME[:TAG]");
        }
        for transport in ["containers-storage:", "dir:", "oci-archive:", "docker-archive:"] {
            if text.starts_with(transport) {
                return refuse("this transport is not supported; copy it with skopeo into an oci: layout");
            }
        }
        if let Some((transport, _)) = text.split_once("://") {
            return refuse(&format!("there is no transport {transport}"));
        }
        if text.starts_with("./") || text.starts_with('/') || text.starts_with("../") {
            return refuse("a layout in a directory is oci:DIR");
        }
        check_tag(text)
            .map_or_else(|why| Err(Refusal::new(Case::Reference, text, why)), |()| Ok(Self::Tag(text.to_owned())))
    }
}

fn layout(rest: &str) -> Result<Reference, &'static str> {
    if let Some((dir, digest)) = rest.split_once('@') {
        let digest = digest.parse().map_err(|_| "the digest is not sha256: and 64 lower-case hex digits")?;
        return Ok(Reference::Layout { dir: path(dir)?, tag: None, digest: Some(digest) });
    }
    // As skopeo does: the directory ends at the first colon, and the tag may contain more.
    let (dir, tag) = match rest.split_once(':') {
        Some((dir, tag)) => (dir, Some(tag)),
        None => (rest, None),
    };
    if let Some(tag) = tag {
        check_tag(tag)?;
    }
    Ok(Reference::Layout { dir: path(dir)?, tag: tag.map(str::to_owned), digest: None })
}

fn path(dir: &str) -> Result<PathBuf, &'static str> {
    if dir.is_empty() { Err("the directory is missing") } else { Ok(PathBuf::from(dir)) }
}

/// Checks a tag. Tags are names of files in the vault and are shown in messages: short, printable, and never a path.
fn check_tag(tag: &str) -> Result<(), &'static str> {
    if tag.is_empty() {
        return Err("it is empty");
    }
    if tag.len() > 240 {
        return Err("it is longer than 240 bytes");
    }
    if !tag.bytes().all(|b| b.is_ascii_alphanumeric() || b"._-/:@+".contains(&b)) {
        return Err("it holds characters other than letters, digits and ._-/:@+");
    }
    if tag.split('/').any(|part| part.is_empty() || part == "." || part == "..") {
        return Err("it holds an empty part, . or ..");
    }
    Ok(())
}

impl fmt::Display for Reference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Layout { dir, tag, digest } => {
                write!(f, "oci:{}", dir.display())?;
                if let Some(tag) = tag {
                    write!(f, ":{tag}")?;
                }
                digest.iter().try_for_each(|d| write!(f, "@{d}"))
            }
            Self::Registry { repository, tag, digest } => {
                write!(f, "docker://{repository}")?;
                tag.iter().try_for_each(|tag| write!(f, ":{tag}"))?;
                digest.iter().try_for_each(|d| write!(f, "@{d}"))
            }
            Self::Tag(tag) => f.write_str(tag),
            Self::Digest(digest) => write!(f, "@{digest}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn references_read_as_they_are_written() {
        for text in ["oci:/a/b", "oci:/a/b:v1", "oci:rel", "quay.io/x/y:1", "demo", "docker://q.io/x:v"] {
            assert_eq!(text.parse::<Reference>().unwrap().to_string(), text);
        }
        let digest = format!("@sha256:{}", "0".repeat(64));
        assert_eq!(digest.parse::<Reference>().unwrap().to_string(), digest);
        for bad in ["", "oci:", "oci::tag", "../x", "a//b", "a b", "docker:x/y", "@sha256:zz", "oci:/a@md5:1", "a\nb"] {
            assert!(bad.parse::<Reference>().is_err(), "{bad}");
        }
    }
}
