//! `policy.json`, as far as it says nothing about registries: then nobody needs to be asked about an image.
//! (containers-policy.json(5))

use std::collections::BTreeMap;
use std::io::ErrorKind;
use std::path::PathBuf;

use serde::Deserialize;

use crate::oci::strict_json;
use crate::sys::{files, home};

/// Bytes of a policy.json.
const MAX_FILE: u64 = 1 << 20;

/// Where all users have it: newer versions of the containers tools also look at the second.
const SYSTEM: [&str; 2] = ["/etc/containers/policy.json", "/usr/share/containers/policy.json"];

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct ImagePolicy {
    default: Vec<Requirement>,
    #[serde(default)]
    transports: BTreeMap<String, BTreeMap<String, serde_json::Value>>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Requirement {
    #[serde(rename = "type")]
    kind: Kind,
}

#[derive(Debug, Deserialize)]
enum Kind {
    #[serde(rename = "insecureAcceptAnything")]
    Anything,
}

/// Returns whether policy.json accepts whatever a registry has, whichever of the files the containers tools read: each one
/// that exists must. In any doubt it is not said to, and skopeo judges.
pub(super) fn accepts_anything() -> bool {
    let Some(home) = home::own() else { return false };
    let user = std::env::var_os("XDG_CONFIG_HOME").map(PathBuf::from).into_iter().chain([home.join(".config")]);
    let paths: Vec<PathBuf> =
        user.map(|dir| dir.join("containers/policy.json")).chain(SYSTEM.map(PathBuf::from)).collect();
    let mut any = false;
    for path in paths {
        match std::fs::File::open(&path).and_then(|file| files::read_all(file, MAX_FILE)) {
            Ok(text) if accepts(&text) => any = true,
            Err(e) if e.kind() == ErrorKind::NotFound => {}
            Ok(_) | Err(_) => return false,
        }
    }
    any
}

fn accepts(text: &[u8]) -> bool {
    let accept = |value: serde_json::Value| {
        let requirements: Result<Vec<Requirement>, _> = serde_json::from_value(value);
        requirements.is_ok_and(|all| matches!(all.as_slice(), [Requirement { kind: Kind::Anything }]))
    };
    let Ok(mut policy) = strict_json::parse::<ImagePolicy>(text, "policy.json") else { return false };
    matches!(policy.default.as_slice(), [Requirement { kind: Kind::Anything }])
        && policy.transports.remove("docker").is_none_or(|scopes| scopes.into_values().all(accept))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn c19_a_policy_that_says_anything_about_registries_is_left_to_skopeo() {
        let any = r#"[{"type": "insecureAcceptAnything"}]"#;
        let signed = r#"[{"type": "signedBy", "keyType": "GPGKeys", "keyPath": "/k"}]"#;
        for text in [
            format!(r#"{{"default": {any}}}"#),
            format!(r#"{{"default": {any}, "transports": {{"docker-daemon": {{"": {signed}}}}}}}"#),
            format!(r#"{{"default": {any}, "transports": {{"docker": {{"q.example.com": {any}}}}}}}"#),
        ] {
            assert!(accepts(text.as_bytes()), "{text}");
        }
        for text in [
            String::new(),
            "{}".into(),
            r#"{"default": []}"#.into(),
            format!(r#"{{"default": {signed}}}"#),
            r#"{"default": [{"type": "reject"}]}"#.into(),
            r#"{"default": [{"type": "insecureAcceptAnything"}, {"type": "reject"}]}"#.into(),
            format!(r#"{{"default": {any}, "Default": {signed}}}"#),
            format!(r#"{{"default": {any}, "default": {signed}}}"#),
            format!(r#"{{"default": {any}, "transports": {{"docker": {{"q.example.com": {signed}}}}}}}"#),
            format!(r#"{{"default": {any}, "transports": {{"docker": {{"": [{{"type": "reject"}}]}}}}}}"#),
            format!(r#"{{"default": {any}, "transports": {{"docker": {{"": []}}}}}}"#),
            format!(r#"{{"default": {any}, "other": 1}}"#),
        ] {
            assert!(!accepts(text.as_bytes()), "{text}");
        }
    }
}
