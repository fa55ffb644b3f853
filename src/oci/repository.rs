use std::fmt;

use oci_spec::distribution::Reference as Spec;

use crate::digest::BlobDigest;
use crate::report::{Case, Refusal, Result};

/// A repository of a registry: `registry.example.com/acme/app`.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Repository {
    host: String,
    path: String,
}

impl Repository {
    /// Reads `[HOST[:PORT]/]NAME[:TAG][@DIGEST]` as docker and podman do (distribution-spec, "Pulling
    /// manifests"; without a host it is docker.io): the repository, tag and digest.
    ///
    /// # Errors
    /// [`Case::Reference`].
    pub fn parse(text: &str) -> Result<(Self, Option<String>, Option<BlobDigest>)> {
        let refuse = |why: &dyn fmt::Display| Refusal::new(Case::Reference, format!("docker://{text}"), why);
        // A host may be in capitals, a name may not; the parser takes such a host for a name of docker.io.
        let name = text.split('@').next().unwrap_or_default();
        let name =
            name.split_once('/').map_or(name, |(host, rest)| if host.contains(['.', ':']) { rest } else { name });
        if name.split(':').next().unwrap_or_default().chars().any(char::is_uppercase) {
            return Err(refuse(&"names of repositories are lower-case"));
        }
        let spec: Spec = text.parse().map_err(|e: oci_spec::distribution::ParseError| refuse(&e))?;
        let digest = spec.digest().map(str::parse).transpose().map_err(|r: Refusal| refuse(&r))?;
        // The parser adds `latest` where nothing is said.
        let tag = spec.tag().filter(|_| digest.is_none() || text.contains(&format!(":{}@", spec.tag().unwrap_or(""))));
        let repository = Self { host: spec.registry().to_owned(), path: spec.repository().to_owned() };
        Ok((repository, tag.map(str::to_owned), digest))
    }

    /// The repository that an image of containers-storage was pulled from, going by its name; `None` for
    /// `localhost/…`, which is how podman calls what was built here.
    pub fn of_name(name: &str) -> Option<Self> {
        let (repository, ..) = Self::parse(name).ok()?;
        let named = name.starts_with(&format!("{}/", repository.host));
        (named && repository.host != "localhost").then_some(repository)
    }

    /// Host and port.
    pub fn host(&self) -> &str {
        &self.host
    }

    /// The name within the registry, `acme/app`.
    pub fn path(&self) -> &str {
        &self.path
    }

    /// The manifest of `digest`, as skopeo names it.
    pub fn at(&self, digest: &BlobDigest) -> String {
        format!("docker://{self}@{digest}")
    }

    /// The manifest that has `tag`, as skopeo names it.
    pub fn tagged(&self, tag: &str) -> String {
        format!("docker://{self}:{tag}")
    }
}

impl fmt::Display for Repository {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.host, self.path)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn repositories_are_read_as_podman_reads_them() {
        let digest = format!("sha256:{}", "0a".repeat(32));
        let read = |text: &str| {
            let (repository, tag, digest) = Repository::parse(text).unwrap();
            (repository.to_string(), tag, digest.map(|d| d.to_string()))
        };
        let tag = |t: &str| Some(t.to_owned());
        assert_eq!(read("busybox"), ("docker.io/library/busybox".into(), tag("latest"), None));
        assert_eq!(read("127.0.0.1:5000/a/b:v1"), ("127.0.0.1:5000/a/b".into(), tag("v1"), None));
        assert_eq!(read(&format!("q.io/a@{digest}")), ("q.io/a".into(), None, Some(digest.clone())));
        assert_eq!(read(&format!("q.io/a:v@{digest}")), ("q.io/a".into(), tag("v"), Some(digest)));
        for bad in ["", "A/b", "q.io/a:b:c", "q.io/a@sha256:zz", "q.io/../a", "q.io/a b", "q.io/a@md5:00"] {
            assert_eq!(Repository::parse(bad).unwrap_err().case(), Case::Reference, "{bad}");
        }
    }

    #[test]
    fn images_built_here_come_from_nowhere() {
        for name in ["localhost/app:1", "app:1", "library/app", "sha256:x"] {
            assert_eq!(Repository::of_name(name), None, "{name}");
        }
        for name in ["localhost:5000/app:1", "q.io/a/b:1", "127.0.0.1:5000/x"] {
            assert!(Repository::of_name(name).is_some(), "{name}");
        }
    }
}
