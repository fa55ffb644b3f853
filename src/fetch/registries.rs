//! Where our own client may ask about a repository, by what `registries.conf` says: whom skopeo does not ask, it does not
//! ask either. (containers/image, `pkg/sysregistriesv2`)

use super::Options;
use super::registries_conf::{Registry, configured};
use crate::error::{Case, Refusal, Result};
use crate::oci::Repository;

/// A place where a repository can be asked about: its own registry, or a mirror.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Endpoint {
    /// Its name in containers tools: credentials are kept by this name, a mirror's by its own.
    pub(super) name: String,
    /// Host and port that answer.
    pub(super) host: String,
    /// The repository's name there.
    pub(super) path: String,
    /// Whether it may be asked without TLS, or with a certificate that is not trusted.
    pub(super) insecure: bool,
}

/// Where a repository can be asked about.
#[derive(Debug)]
pub(super) struct Endpoints {
    /// Those that a pull by digest asks, mirrors first.
    pub(super) list: Vec<Endpoint>,
    /// Whether there are mirrors, be it for tags alone: skopeo knows when to ask which.
    pub(super) mirrored: bool,
}

/// Finds where to ask about `repository`, as containers/image does.
///
/// # Errors
/// [`Case::C17Network`] for a blocked registry; [`Case::Usage`] for a place that is no repository.
pub(super) fn endpoints(registries: &[Registry], repository: &Repository, options: &Options) -> Result<Endpoints> {
    let name = repository.to_string();
    let Some((length, registry)) = best(registries, &name) else {
        return Ok(Endpoints { list: vec![endpoint(&name, !options.tls_verify)?], mirrored: false });
    };
    let blocked = || Refusal::new(Case::C17Network, &name, "registries.conf blocks this registry");
    if registry.blocked {
        return Err(blocked());
    }
    let mirrors = registry.mirror.iter().filter(|mirror| mirror.pull_from_mirror != "tag-only");
    let places = mirrors.map(|mirror| (&mirror.location, mirror.insecure));
    let mut list = Vec::new();
    for (location, insecure) in places.chain([(&registry.location, registry.insecure)]) {
        let place = if location.is_empty() { name.clone() } else { format!("{location}{}", &name[length..]) };
        let endpoint = endpoint(&place, insecure || !options.tls_verify)?;
        // What is said about the place itself counts too, and of it this alone.
        if !best(registries, &place).is_some_and(|(_, there)| there.blocked) {
            list.push(endpoint);
        }
    }
    if list.is_empty() { Err(blocked()) } else { Ok(Endpoints { list, mirrored: !registry.mirror.is_empty() }) }
}

/// Returns where `repository` is written: its own registry. A destination has no mirrors, and no other location.
///
/// # Errors
/// As [`endpoints`]; [`Case::Usage`] for a configuration that is not understood.
pub(super) fn origin(repository: &Repository, options: &Options) -> Result<Endpoint> {
    let name = repository.to_string();
    let registries = configured()?;
    let known = best(&registries, &name).map(|(_, registry)| registry);
    if known.is_some_and(|registry| registry.blocked) {
        return Err(Refusal::new(Case::C17Network, name, "registries.conf blocks this registry"));
    }
    endpoint(&name, !options.tls_verify || known.is_some_and(|registry| registry.insecure))
}

/// Finds the entry that applies to a name, and how much of the name its location takes the place of. The longest prefix
/// counts, by how it is written and not by what it matches; of several the first (`findRegistryWithParsedConfig`).
fn best<'a>(registries: &'a [Registry], name: &str) -> Option<(usize, &'a Registry)> {
    let mut best: Option<(usize, &Registry)> = None;
    for registry in registries {
        let longer = best.is_none_or(|(_, known)| registry.prefix.len() > known.prefix.len());
        if let Some(length) = matched(&registry.prefix, name).filter(|_| longer) {
            best = Some((length, registry));
        }
    }
    best
}

/// Returns how much of `name` a prefix stands for, if it matches: whole components, or `*.example.com`; one without a
/// port matches every port (`refMatchingPrefix`, `refMatchingSubdomainPrefix`).
fn matched(prefix: &str, name: &str) -> Option<usize> {
    let length = match prefix.strip_prefix('*').filter(|domain| domain.starts_with('.')) {
        Some(domain) => name.find(domain).filter(|at| !name[..*at].contains('/'))? + domain.len(),
        None => name.starts_with(prefix).then_some(prefix.len())?,
    };
    let rest = &name[length..];
    (rest.is_empty() || rest.starts_with([':', '/', '@'])).then_some(length)
}

/// Makes the endpoint of a place. A location may be joined with anything, and not all of it is the name of a repository.
fn endpoint(name: &str, insecure: bool) -> Result<Endpoint> {
    let refuse = || Refusal::new(Case::Usage, "registries.conf", format!("{name} is not the name of a repository"));
    let parsed = Repository::parse(name).map_err(|_| refuse())?.repository;
    if parsed.to_string() != name {
        return Err(refuse());
    }
    // What is called docker.io answers under another name (containers/image, docker_client.go).
    let host = if parsed.host() == "docker.io" { "registry-1.docker.io" } else { parsed.host() };
    Ok(Endpoint { name: name.to_owned(), host: host.to_owned(), path: parsed.path().to_owned(), insecure })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fetch::registries_conf::parse;

    fn find(text: &str, name: &str) -> Result<Vec<String>> {
        let registries = parse(text).unwrap();
        let options = Options::default();
        let found = endpoints(&registries, &Repository::parse(name).unwrap().repository, &options)?;
        let shown = |e: &Endpoint| format!("{}/{}{}", e.host, e.path, if e.insecure { "!" } else { "" });
        Ok(found.list.iter().map(shown).collect())
    }

    fn hosts(text: &str, name: &str) -> Vec<String> {
        find(text, name).unwrap()
    }

    fn case(text: &str, name: &str) -> Case {
        find(text, name).unwrap_err().case()
    }

    #[test]
    fn c12_mirrors_come_first_and_the_longest_prefix_counts() {
        let text = r#"
            unqualified-search-registries = ["docker.io"]
            [[registry]]
            location = "q.io"
            [[registry.mirror]]
            location = "m.io/q/"
            insecure = true
            [[registry.mirror]]
            location = "tags.io"
            pull-from-mirror = "tag-only"
            [[registry]]
            prefix = "q.io/acme"
            location = "own.io:5000/team"
            [[registry]]
            prefix = "*.wild.io"
            location = "w.io"
            insecure = true
        "#;
        assert_eq!(hosts(text, "q.io/x/y:1"), ["m.io/q/x/y!", "q.io/x/y"]);
        assert_eq!(hosts(text, "q.io/acme/app"), ["own.io:5000/team/app"]);
        assert_eq!(hosts(text, "q.io/acmes/app"), ["m.io/q/acmes/app!", "q.io/acmes/app"]);
        assert_eq!(hosts(text, "a.wild.io/app"), ["w.io/app!"]);
        assert_eq!(hosts(text, "a.wild.io:5000/app"), ["w.io:5000/app!"]);
        assert_eq!(hosts(text, "wild.io/app"), ["wild.io/app"]);
        assert_eq!(hosts(text, "x.io/a.wild.io/app"), ["x.io/a.wild.io/app"]);
        assert_eq!(hosts(text, "busybox"), ["registry-1.docker.io/library/busybox"]);
    }

    #[test]
    fn c17_blocked_registries_are_not_asked() {
        let block = |entry: &str| format!("[[registry]]\n{entry}\nblocked = true\n");
        for entry in [
            "location = \"q.io:5000\"",
            "location = \"q.io:5000/\"",
            "location = \"q.io:5000//\"",
            "location = \"q.io\"",
            "location = \"q.io:5000/x\"",
            "prefix = \"*.io\"",
            "prefix = \"q.io/\"\nlocation = \"elsewhere.io\"",
        ] {
            assert_eq!(case(&block(entry), "q.io:5000/x"), Case::C17Network, "{entry}");
        }
        for entry in ["location = \"q.io:500\"", "location = \"q.io:5000/y\"", "prefix = \"*.q.io\""] {
            assert_eq!(hosts(&block(entry), "q.io:5000/x"), ["q.io:5000/x"], "{entry}");
        }
        // By its own name, by which it is asked in another's place.
        let place = "[[registry]]\nprefix = \"a.io\"\nlocation = \"q.io/a\"\n";
        let mirror = "[[registry.mirror]]\nlocation = \"m.io\"\n";
        let own = block("location = \"q.io\"");
        assert_eq!(case(&format!("{place}{own}"), "a.io/x"), Case::C17Network);
        assert_eq!(hosts(&format!("{place}{mirror}{own}"), "a.io/x"), ["m.io/x"]);
        let both = format!("{place}{mirror}{own}{}", block("location = \"m.io\""));
        assert_eq!(case(&both, "a.io/x"), Case::C17Network);
        // A literal prefix counts before a wildcard that matches as much of the name, or more.
        let wild = "[[registry]]\nprefix = \"*.example.com\"\nlocation = \"w.io\"\n";
        let literal = block("prefix = \"qq.example.com\"\nlocation = \"x.io\"");
        for text in [format!("{wild}{literal}"), format!("{literal}{wild}")] {
            assert_eq!(case(&text, "qq.example.com/x"), Case::C17Network);
            assert_eq!(hosts(&text, "q.example.com/x"), ["w.io/x"]);
        }
    }

    #[test]
    fn c17_what_is_no_repository_is_not_asked() {
        let text = "[[registry]]\nprefix = \"q.io\"\nlocation = \"m.io/sub\"\n\
            [[registry]]\nprefix = \"a.io/x\"\nlocation = \"m.io\"\n\
            [[registry]]\nprefix = \"h.io\"\nlocation = \"docker.io\"\n";
        // A tag, nothing, a name that stands for another.
        for name in ["q.io:5000/x", "a.io/x", "h.io/busybox"] {
            assert_eq!(case(text, name), Case::Usage, "{name}");
        }
        assert_eq!(hosts(text, "h.io/library/busybox"), ["registry-1.docker.io/library/busybox"]);
    }
}
