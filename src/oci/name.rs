//! The grammar of image names, and the form in which they are compared.

/// The name of a root that is no image's: `podman run --rootfs`, and what no record mentions.
pub const ROOTFS: &str = "<rootfs>";

/// The name of a container of a store whose image is not on record there, or of an image whose recorded name is not a
/// possible one.
pub const UNKNOWN: &str = "<unknown>";

/// The name of an image that has none.
pub const NAMELESS: &str = "<none>";

/// Returns an image name without tag and digest.
pub fn repository(name: &str) -> &str {
    let name = name.split('@').next().unwrap_or(name);
    match name.rsplit_once(':') {
        // A colon before a slash is a port.
        Some((front, tag)) if !tag.contains('/') => front,
        _ => name,
    }
}

/// The name of an image without tag and digest, in the form in which names are compared (`one_host`).
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ImageName(String);

impl ImageName {
    /// Makes the name from one as people write it, with or without a tag and a digest.
    pub fn of(name: &str) -> Self {
        Self(one_host(repository(name)))
    }

    /// Makes the name from what somebody says is the whole name: with a tag it matches no image.
    pub fn whole(name: &str) -> Self {
        Self(one_host(name))
    }

    /// Makes the names from several, sorted, each once.
    pub fn all<T: AsRef<str>>(names: impl IntoIterator<Item = T>) -> Vec<Self> {
        let mut all: Vec<Self> = names.into_iter().map(|name| Self::of(name.as_ref())).collect();
        all.sort_unstable();
        all.dedup();
        all
    }

    /// Returns its text.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Lists several of them for people.
    pub fn list(names: &[Self]) -> String {
        names.iter().map(Self::as_str).collect::<Vec<_>>().join(", ")
    }
}

impl std::fmt::Display for ImageName {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.0)
    }
}

impl From<ImageName> for String {
    fn from(name: ImageName) -> Self {
        name.0
    }
}

/// Docker Hub.
pub const DOCKER_HUB: &str = "docker.io";

/// How the whole names of Docker Hub's images begin whose names have one part (distribution/reference,
/// `splitDockerDomain`, of which containers/image has a copy).
pub const OFFICIAL: &str = "docker.io/library/";

/// Returns a name with its host in lower case, without a final dot and without the default port. A registry treats
/// these as the same, and so did whoever chose a rule or a seal's name. `index.docker.io/app` and `docker.io/app` are
/// `docker.io/library/app`, as podman records them.
fn one_host(name: &str) -> String {
    match split_host(name) {
        Some((host, app)) if host == DOCKER_HUB && !app.is_empty() && !app.contains('/') => format!("{OFFICIAL}{app}"),
        Some((host, path)) => format!("{host}/{path}"),
        None => name.to_owned(),
    }
}

/// Splits a name, or the beginning of one, into its host, in the form in which hosts are compared, and its path.
pub fn split_host(name: &str) -> Option<(String, &str)> {
    let (first, path) = name.split_once('/').filter(|(first, _)| is_host(first))?;
    let host = host(first);
    let host = if host == "index.docker.io" { DOCKER_HUB.to_owned() } else { host };
    Some((host, path))
}

/// Returns whether a name can have this path, or one that begins with it if it is `open` (distribution/reference,
/// "Grammar").
pub fn is_path(path: &str, open: bool) -> bool {
    let separates = |gap: &str| matches!(gap, "/" | "." | "_" | "__") || gap.bytes().all(|b| b == b'-');
    !path.bytes().any(|b| b.is_ascii_uppercase()) && is_joined(path, open, separates)
}

/// Returns whether a name can have this host, without a port, or one that begins with it if it is `open`.
pub fn is_domain(domain: &str, open: bool) -> bool {
    is_joined(domain, open, |gap| gap == "." || gap.bytes().all(|b| b == b'-'))
}

/// Returns whether a text begins and ends with a letter or digit, with nothing else than separators between them; an
/// `open` one may end with a separator, or be empty.
fn is_joined(text: &str, open: bool, separates: impl Fn(&str) -> bool) -> bool {
    let mut gaps = text.split(|c: char| c.is_ascii_alphanumeric());
    let begins = gaps.next() == Some("");
    let gaps: Vec<&str> = gaps.collect();
    let ends = gaps.last().map_or(open, |last| open || last.is_empty());
    begins && ends && gaps.into_iter().all(separates)
}

/// Returns whether the first part of a name is a host (distribution/reference, "Grammar", and `splitDockerDomain`).
fn is_host(first: &str) -> bool {
    first.contains(['.', ':']) || first == "localhost" || first.bytes().any(|b| b.is_ascii_uppercase())
}

/// Returns a host in its normal form.
fn host(text: &str) -> String {
    let lower = text.to_ascii_lowercase();
    let (name, port) = match lower.rsplit_once(':') {
        Some((name, port)) if port.bytes().all(|b| b.is_ascii_digit()) => (name, Some(port)),
        _ => (lower.as_str(), None),
    };
    let name = name.strip_suffix('.').unwrap_or(name);
    match port.map(|port| port.trim_start_matches('0')) {
        None | Some("443") => name.to_owned(),
        Some(port) => format!("{name}:{port}"),
    }
}

/// Returns the short name by which this name can be meant: podman looks for a short name in its store as it is, and
/// then beneath `localhost/`. So whoever adds `acme/app` or `localhost/acme/app` answers to `acme/app`.
pub fn short(name: &str) -> Option<&str> {
    match name.split_once('/') {
        Some(("localhost", rest)) => Some(rest),
        Some((first, _)) if is_host(first) => None,
        // Not an image's name: `<none>`.
        _ if name.starts_with('<') => None,
        _ => Some(name),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn f04_one_registry_has_one_name() {
        for (name, same) in [
            ("registry.example.com/acme/app:1", "registry.example.com/acme/app"),
            ("Registry.Example.COM/acme/app@sha256:00", "registry.example.com/acme/app"),
            ("registry.example.com./acme/app", "registry.example.com/acme/app"),
            ("registry.example.com:443/acme/app:1", "registry.example.com/acme/app"),
            ("REGISTRY.example.com.:443/acme/app", "registry.example.com/acme/app"),
            ("registry.example.com:0443/acme/app", "registry.example.com/acme/app"),
            ("registry.example.com:5000/acme/app", "registry.example.com:5000/acme/app"),
            ("registry.example.com:4430/acme/app", "registry.example.com:4430/acme/app"),
            ("LocalHost/app", "localhost/app"),
            ("[::1]:443/app", "[::1]/app"),
            ("[::1]/app", "[::1]/app"),
            // As podman records them.
            ("docker.io/app:1", "docker.io/library/app"),
            ("index.docker.io/app@sha256:00", "docker.io/library/app"),
            ("Docker.IO.:443/app", "docker.io/library/app"),
            ("index.docker.io/library/app", "docker.io/library/app"),
            ("index.docker.io/acme/app", "docker.io/acme/app"),
            ("docker.io/library/app", "docker.io/library/app"),
            ("docker.io/library/acme/app", "docker.io/library/acme/app"),
            ("docker.io/library", "docker.io/library/library"),
            ("docker.io/acme/app", "docker.io/acme/app"),
            ("registry-1.docker.io/app", "registry-1.docker.io/app"),
            ("docker.io:5000/app", "docker.io:5000/app"),
            ("docker.io.example.com/app", "docker.io.example.com/app"),
            ("localhost/docker.io/app", "localhost/docker.io/app"),
            // Without a host.
            ("acme/app:1", "acme/app"),
            ("app.example.com.", "app.example.com."),
            ("<none>", "<none>"),
        ] {
            assert_eq!(ImageName::of(name).as_str(), same, "{name}");
        }
    }

    #[test]
    fn f04_only_some_texts_can_be_hosts_and_paths() {
        for path in ["a", "a/b", "a.b_c__d-e---f/0", "library/app"] {
            assert!(is_path(path, false) && is_path(path, true), "{path}");
        }
        for path in ["", "a/", "a-", "a__"] {
            assert!(!is_path(path, false) && is_path(path, true), "{path}");
        }
        for path in ["/", "/a", "a//b", "-a", "a..b", "a/../b", "a___b", "a_.b", "A", "a b", " ", "a:1", "a@b", "ä"] {
            assert!(!is_path(path, false) && !is_path(path, true), "{path}");
        }
        for host in ["a", "localhost", "a-b.example.com", "127.0.0.1"] {
            assert!(is_domain(host, false) && is_domain(host, true), "{host}");
        }
        for host in ["", "a.", "a-"] {
            assert!(!is_domain(host, false) && is_domain(host, true), "{host}");
        }
        for host in [".", ".a", "a..b", "a_b", "a b", "[::1]", "a:1", "a/b"] {
            assert!(!is_domain(host, false) && !is_domain(host, true), "{host}");
        }
    }
}
