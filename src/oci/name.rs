//! The grammar of image names, and the one form in which they are compared.

/// The name of a root that is no image's: `podman run --rootfs`, and what no record says anything about.
pub const ROOTFS: &str = "<rootfs>";

/// The name of a container of a store whose image is not on record there, or of an image with a name that none
/// can have.
pub const UNKNOWN: &str = "<unknown>";

/// An image name without tag and digest.
pub fn repository(name: &str) -> &str {
    let name = name.split('@').next().unwrap_or(name);
    match name.rsplit_once(':') {
        // A colon before a slash is a port.
        Some((front, tag)) if !tag.contains('/') => front,
        _ => name,
    }
}

/// The same in the one form in which names are compared, see [`one_host`].
pub fn canonical(name: &str) -> String {
    one_host(repository(name))
}

/// A name with its host in lower case, without a final dot and without the port that is meant anyway. For a registry
/// these are one, and so they are for whoever chose a rule or a seal's name.
pub fn one_host(name: &str) -> String {
    match name.split_once('/') {
        Some((first, rest)) if is_host(first) => format!("{}/{rest}", host(first)),
        _ => name.to_owned(),
    }
}

/// Whether the first part of a name is a host (distribution/reference, "Grammar", and `splitDockerDomain`).
fn is_host(first: &str) -> bool {
    first.contains(['.', ':']) || first == "localhost" || first.bytes().any(|b| b.is_ascii_uppercase())
}

/// A host in its one form.
pub fn host(text: &str) -> String {
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

/// What a name can be meant by where no host is given: podman looks for a short name in its store as it is, and then
/// beneath `localhost/`. So whoever adds `acme/app` or `localhost/acme/app` answers to `acme/app`.
pub fn short(name: &str) -> Option<&str> {
    match name.split_once('/') {
        Some(("localhost", rest)) => Some(rest),
        Some((first, _)) if is_host(first) => None,
        // No image's: `<none>`.
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
            // No hosts.
            ("acme/app:1", "acme/app"),
            ("app.example.com.", "app.example.com."),
            ("<none>", "<none>"),
        ] {
            assert_eq!(canonical(name), same, "{name}");
        }
    }
}
