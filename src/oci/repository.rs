use std::fmt;

use crate::digest::BlobDigest;
use crate::error::{Case, Refusal, Result};

/// A repository of a registry: `registry.example.com/acme/app`.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Repository {
    host: String,
    path: String,
}

/// What is named in a registry: a repository, and which image of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RegistryName {
    /// The repository.
    pub repository: Repository,
    /// The tag; `latest` if neither a tag nor a digest is given.
    pub tag: Option<String>,
    /// The digest of the manifest, if it is given.
    pub digest: Option<BlobDigest>,
}

impl Repository {
    /// Parses `[HOST[:PORT]/]NAME[:TAG][@DIGEST]` as docker and podman do (distribution-spec, "Pulling manifests";
    /// without a host it is docker.io) into repository, tag and digest.
    ///
    /// # Errors
    /// [`Case::Reference`].
    pub fn parse(text: &str) -> Result<RegistryName> {
        let refuse = |why: &dyn fmt::Display| Refusal::new(Case::Reference, format!("docker://{text}"), why);
        let (text, digest) = match text.split_once('@') {
            Some((text, digest)) => (text, Some(digest.parse().map_err(|r: Refusal| refuse(&r))?)),
            None => (text, None),
        };
        let name = text.rfind('/').map_or(0, |slash| slash + 1);
        let (name, tag) = match text[name..].split_once(':') {
            Some((last, tag)) => (&text[..name + last.len()], Some(tag)),
            None => (text, None),
        };
        if tag.is_some_and(|tag| !is_tag(tag)) {
            return Err(refuse(&"not a tag"));
        }
        let (host, path) = match name.split_once('/') {
            Some((host, path)) if host.contains(['.', ':']) || host == "localhost" => (host, path),
            _ => (HUB, name),
        };
        // A host may be in capitals, a name may not.
        if path.chars().any(char::is_uppercase) {
            return Err(refuse(&"names of repositories are lower-case"));
        }
        let host = if host == OLD_HUB { HUB } else { host };
        if !is_host(host) || !path.split('/').all(is_part) {
            return Err(refuse(&"not the name of a repository"));
        }
        let path = if host == HUB && !path.contains('/') { format!("library/{path}") } else { path.to_owned() };
        if path.len() > MAX_NAME {
            return Err(refuse(&format!("a name of more than {MAX_NAME} bytes")));
        }
        let tag = tag.or((digest.is_none()).then_some("latest")).map(str::to_owned);
        Ok(RegistryName { repository: Self { host: host.to_owned(), path }, tag, digest })
    }

    /// Returns the repository from which an image of containers-storage was pulled, going by its name; `None` for
    /// `localhost/…`, which is what podman calls images that were built here.
    pub fn of_name(name: &str) -> Option<Self> {
        let RegistryName { repository, .. } = Self::parse(name).ok()?;
        let named = name.starts_with(&format!("{}/", repository.host));
        (named && repository.host != "localhost").then_some(repository)
    }

    /// Returns host and port.
    pub fn host(&self) -> &str {
        &self.host
    }

    /// Returns the name within the registry, `acme/app`.
    pub fn path(&self) -> &str {
        &self.path
    }

    /// Returns skopeo's name for the manifest with `digest`.
    pub fn at(&self, digest: &BlobDigest) -> String {
        format!("docker://{self}@{digest}")
    }

    /// Returns skopeo's name for the manifest with `tag`.
    pub fn tagged(&self, tag: &str) -> String {
        format!("docker://{self}:{tag}")
    }
}

/// The host of a name without one, and what docker used to call it.
const HUB: &str = "docker.io";
const OLD_HUB: &str = "index.docker.io";

/// How many bytes a name may have (distribution/reference, `NameTotalLengthMax`).
const MAX_NAME: usize = 255;

/// Checks `domain` of distribution/reference: labels with dots between them, and a port.
fn is_host(host: &str) -> bool {
    let (labels, port) = host.split_once(':').map_or((host, None), |(labels, port)| (labels, Some(port)));
    let is_label = |label: &str| {
        let ends = [label.bytes().next(), label.bytes().next_back()];
        ends.iter().all(|end| end.is_some_and(|b| b.is_ascii_alphanumeric()))
            && label.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-')
    };
    let is_port = |port: &str| !port.is_empty() && port.bytes().all(|b| b.is_ascii_digit());
    labels.split('.').all(is_label) && port.is_none_or(is_port)
}

/// Checks `path-component`: small letters and digits, between them one dot, one or two underscores, or any number of
/// hyphens.
fn is_part(part: &str) -> bool {
    let is_word = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit();
    let between = part.split(|c: char| c.is_ascii() && is_word(c as u8)).filter(|gap| !gap.is_empty());
    let ends = [part.bytes().next(), part.bytes().next_back()];
    ends.iter().all(|end| end.is_some_and(is_word))
        && between.into_iter().all(|gap| matches!(gap, "." | "_" | "__") || gap.bytes().all(|b| b == b'-'))
}

/// Checks `tag`: at most 128 bytes.
fn is_tag(tag: &str) -> bool {
    let is_word = |b: u8| b.is_ascii_alphanumeric() || b == b'_';
    tag.len() <= 128
        && tag.bytes().next().is_some_and(is_word)
        && tag.bytes().all(|b| is_word(b) || b == b'.' || b == b'-')
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
            let RegistryName { repository, tag, digest } = Repository::parse(text).unwrap();
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

    /// Tries the names with which docker's own parser is tested (distribution/reference, `reference_test.go` and
    /// `normalize_test.go`).
    #[test]
    fn names_are_what_docker_takes_for_names() {
        for good in [
            "test_com",
            "test.com:tag",
            "test.com:5000",
            "test.com/repo:tag",
            "test:5000/repo",
            "lowercase:Uppercase",
            "test:5000/repo:tag",
            "a/a/a/a/a/a",
            "a-a/a-a",
            "docker/docker",
            "thisisthesongthatneverendsitgoesonandonandon/a",
            "foo_bar.com:8080",
            "foo/foo_bar.com:8080",
            "docker.io/1a3f5e7d9c1b3a5f7e9d1c3b5a7f9e1d3c5b7a9f",
            "a__b/c---d",
            "DOCKER.example.com/x",
            "localhost/x",
            "xn--n3h.com/myimage:xn--n3h.com",
            "index.docker.io/x",
        ] {
            assert!(Repository::parse(good).is_ok(), "{good}");
        }
        let long = format!("a/{}", "a".repeat(255));
        for bad in [
            ":justtag",
            "repo@sha256:ffffffffffffffffffffffffffffffffff",
            "Uppercase:tag",
            "a///b",
            "/a",
            "a/",
            "-a/b",
            "a.-b/c",
            "a..b",
            "a_-b",
            "a___b",
            "-a",
            "a-",
            "aa/asdf$$^/aa",
            "a.b:/c",
            "a.b:x/c",
            "[2001:db8::1]:5000/x",
            "a:",
            "a:.b",
            "b/gcr.io/x:y:z",
            "docker.io/DOCKER",
            "\u{e9}/x",
            "x:\u{e9}",
            &long,
        ] {
            assert!(Repository::parse(bad).is_err(), "{bad}");
        }
        assert_eq!(Repository::parse("index.docker.io/x").unwrap().repository.to_string(), "docker.io/library/x");
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
