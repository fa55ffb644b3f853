//! What a rule of the policy is for.

use crate::oci::name::{self, DOCKER_HUB, NAMELESS, OFFICIAL, ROOTFS, UNKNOWN};

/// Which images a rule is for: a name without tag, or one that ends in a star.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct NamePattern {
    text: String,
    prefix: bool,
}

/// How specific a pattern is; the greater counts. A whole name is more specific than any prefix, a longer prefix more
/// than a shorter one, and of two that are as long the one that is for fewer names.
pub(super) type Specificity = (bool, usize, bool);

impl NamePattern {
    /// Reads a pattern.
    ///
    /// # Errors
    /// Why no name of an image can match, with what to write instead: a rule that can never apply is a mistake.
    pub(super) fn parse(text: &str) -> std::result::Result<Self, String> {
        let (text, prefix) = text.strip_suffix('*').map_or((text, false), |text| (text, true));
        let star = if prefix { "*" } else { "" };
        if text.contains('*') {
            return Err("a star can only stand at the end".to_owned());
        }
        if text.is_empty() && !prefix {
            return Err("the pattern is empty".to_owned());
        }
        if text.starts_with('<') {
            let is_known = |word: &str| if prefix { word.starts_with(text) } else { word == text };
            return match [NAMELESS, ROOTFS, UNKNOWN].into_iter().any(is_known) {
                true => Ok(Self { text: text.to_owned(), prefix }),
                false => Err(format!("the words for what has no name are {NAMELESS}, {ROOTFS} and {UNKNOWN}")),
            };
        }
        if text.contains(char::is_whitespace) {
            let whole = text.split_whitespace().collect::<String>();
            return Err(format!("names have no blanks: write {whole}{star}"));
        }
        if let Some((_, name)) = text.split_once("://") {
            return Err(format!("names have no transport: write {name}{star}"));
        }
        let in_path = text.split_once('/').is_some_and(|(_, path)| path.contains([':', '@']));
        if in_path || (!prefix && name::repository(text) != text) {
            return Err("the pattern has a tag or digest: rules are for names without".to_owned());
        }
        if text.ends_with('/') && !prefix {
            return Err(format!("no name ends in a slash: write {text}*"));
        }
        let text = match (name::split_host(text), text.split_once('/')) {
            (Some((host, path)), _) => with_path(text, &host, path, prefix)?,
            (None, None) if prefix => beginning_of_host(text)?,
            (None, None) if text.contains('.') || text == "localhost" => {
                return Err(format!("it is only a host: write {text}/*"));
            }
            (None, _) => {
                return Err(format!(
                    "the names of images begin with a host: write {DOCKER_HUB}/{text}{star} or localhost/{text}{star}"
                ));
            }
        };
        Ok(Self { text, prefix })
    }

    /// Returns whether `name` is a short name that podman completes to one of this pattern's: for patterns that say
    /// more than the host.
    pub(super) fn matches_short(&self, name: &str) -> Option<Specificity> {
        let (_, path) = self.text.split_once('/')?;
        let matches = |path: &str| match self.prefix {
            true => path.contains('/') && name.starts_with(path),
            false => name == path,
        };
        // docker.io/library/app has the short name app.
        let official = || self.text.strip_prefix(OFFICIAL).is_some_and(|app| !app.is_empty() && matches(app));
        (matches(path) || official()).then(|| self.specificity())
    }

    /// Returns whether it is a single name, and says nothing about others.
    pub(super) fn is_whole(&self) -> bool {
        !self.prefix
    }

    /// Returns whether it matches every name, which makes the default apply to none.
    pub(super) fn is_all(&self) -> bool {
        self.prefix && self.text.is_empty()
    }

    /// Returns how specific it is for this name, if it matches. `docker.io/f*` is for every name that can be written
    /// with this beginning, so for `docker.io/library/fresh` too, which is `docker.io/fresh`.
    pub(super) fn matches(&self, name: &str) -> Option<Specificity> {
        let own = if self.prefix { name.starts_with(&self.text) } else { name == self.text };
        let official = self
            .beginning_of_official()
            .filter(|app| name.strip_prefix(OFFICIAL).is_some_and(|name| name.starts_with(app) && !name.contains('/')));
        let official = official.map(|app| (false, OFFICIAL.len() + app.len(), false));
        own.then(|| self.specificity()).max(official)
    }

    /// Returns what official images of Docker Hub must begin with to be written like this.
    fn beginning_of_official(&self) -> Option<&str> {
        let path = self.text.strip_prefix(DOCKER_HUB)?.strip_prefix('/')?;
        (self.prefix && !path.is_empty() && !path.contains('/')).then_some(path)
    }

    /// Returns how specific it is.
    pub(super) fn specificity(&self) -> Specificity {
        (!self.prefix, self.text.len(), true)
    }
}

/// Returns the text of a pattern with a path, as names are compared.
fn with_path(text: &str, host: &str, path: &str, prefix: bool) -> std::result::Result<String, String> {
    let star = if prefix { "*" } else { "" };
    if path.bytes().any(|b| b.is_ascii_uppercase()) {
        return Err(format!("names have no capital letters: write {host}/{}{star}", path.to_ascii_lowercase()));
    }
    let (domain, port) = host.split_once(':').map_or((host, None), |(domain, port)| (domain, Some(port)));
    let is_port = |port: &str| !port.is_empty() && port.bytes().all(|b| b.is_ascii_digit());
    if !name::is_domain(domain, false) || !port.is_none_or(is_port) {
        return Err(format!("{host} cannot be the host of an image: write HOST/PATH or HOST:PORT/PATH"));
    }
    if !name::is_path(path, prefix) {
        return Err(
            "no name has such a path: small letters and digits, with / or one of . _ __ - between them".to_owned()
        );
    }
    Ok(if prefix { format!("{host}/{path}") } else { name::ImageName::of(text).into() })
}

/// Returns the beginning of a host, which stands before a star, as hosts are compared.
fn beginning_of_host(text: &str) -> std::result::Result<String, String> {
    let text = text.to_ascii_lowercase();
    let (domain, port) = text.split_once(':').map_or((text.as_str(), None), |(domain, port)| (domain, Some(port)));
    if !text.is_empty() && !name::is_domain(domain, port.is_none()) {
        return Err(format!("no host of an image begins with {domain}: write HOST/*"));
    }
    if domain == "index.docker.io" {
        return Err(format!("podman calls it {DOCKER_HUB}: write {DOCKER_HUB}/*"));
    }
    // Names are compared without the default port, and without zeros before another.
    let is_beginning = |port: &str| port.bytes().all(|b| b.is_ascii_digit()) && !port.starts_with('0');
    match port {
        Some(port) if "443".starts_with(port) || !is_beginning(port) => {
            Err(format!("names are compared without the port 443: write {domain}/*, or {domain}:PORT/* for another"))
        }
        _ => Ok(text),
    }
}

impl std::fmt::Display for NamePattern {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}{}", self.text, if self.prefix { "*" } else { "" })
    }
}

/// Which Kubernetes namespaces a rule is for: one, or all that begin with a text.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct NamespacePattern {
    text: String,
    prefix: bool,
}

impl NamespacePattern {
    pub(super) fn parse(text: &str) -> std::result::Result<Self, &'static str> {
        let (text, prefix) = text.strip_suffix('*').map_or((text, false), |text| (text, true));
        if text.is_empty() && !prefix {
            return Err("namespace: it is empty");
        }
        // Kubernetes has no other characters (RFC 1123): a rule that can never apply is a mistake.
        let known = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-';
        match text.len() <= 63 && text.bytes().all(known) {
            true => Ok(Self { text: text.to_owned(), prefix }),
            false => Err("namespace: lower-case letters, digits and -, 63 at most, and a star at the end"),
        }
    }

    pub(super) fn matches(&self, namespace: &str) -> bool {
        if self.prefix { namespace.starts_with(&self.text) } else { namespace == self.text }
    }
}

impl std::fmt::Display for NamespacePattern {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}{}", self.text, if self.prefix { "*" } else { "" })
    }
}

/// What a rule is for: everything that it names must match.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Subject {
    pub(super) image: NamePattern,
    /// `None` for containers in all namespaces, and in none.
    pub(super) namespace: Option<NamespacePattern>,
}

impl std::fmt::Display for Subject {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match &self.namespace {
            Some(namespace) => write!(f, "{} (namespace {namespace})", self.image),
            None => self.image.fmt(f),
        }
    }
}
