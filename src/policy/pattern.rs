//! What a rule of the policy is for.

use crate::oci::name;

/// Which images a rule is for: a name without tag, or one that ends in a star.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct NamePattern {
    text: String,
    prefix: bool,
}

impl NamePattern {
    pub(super) fn parse(text: &str) -> std::result::Result<Self, &'static str> {
        let (text, prefix) = text.strip_suffix('*').map_or((text, false), |text| (text, true));
        if text.contains('*') {
            return Err("a star can only stand at the end");
        }
        if text.is_empty() && !prefix {
            return Err("the pattern is empty");
        }
        if !prefix && name::repository(text) != text {
            return Err("the pattern has a tag or digest: rules are for names without");
        }
        let text = match text.split_once('/') {
            Some(_) if !prefix => name::ImageName::of(text).into(),
            Some((first, rest)) => format!("{}{rest}", name::ImageName::of(&format!("{first}/"))),
            // The text is only a host.
            None if prefix => text.to_ascii_lowercase(),
            None => text.to_owned(),
        };
        Ok(Self { text, prefix })
    }

    /// Returns whether `name` is a short name that podman completes to one of this pattern's: for patterns that say
    /// more than the host.
    pub(super) fn matches_short(&self, name: &str) -> bool {
        let Some((_, path)) = self.text.split_once('/') else { return false };
        let matches = |path: &str| match self.prefix {
            true => path.contains('/') && name.starts_with(path),
            false => name == path,
        };
        // docker.io/library/app has the short name app.
        matches(path) || self.text.strip_prefix("docker.io/library/").is_some_and(|app| !app.is_empty() && matches(app))
    }

    /// Returns whether it is a single name, and says nothing about others.
    pub(super) fn is_whole(&self) -> bool {
        !self.prefix
    }

    /// Returns whether it matches every name, which makes the default apply to none.
    pub(super) fn is_all(&self) -> bool {
        self.prefix && self.text.is_empty()
    }

    pub(super) fn matches(&self, name: &str) -> bool {
        if self.prefix { name.starts_with(&self.text) } else { name == self.text }
    }

    /// Returns how specific it is: a whole name is more specific than any prefix, and a longer prefix more than a
    /// shorter one.
    pub(super) fn specificity(&self) -> (bool, usize) {
        (!self.prefix, self.text.len())
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
