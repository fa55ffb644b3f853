//! Skopeo's messages, sorted into our cases. It has no error codes (protocol 0.2.8 tells transient ones apart, no
//! more), so its words are read; where none of them fits, the registry could not be asked.

use containers_image_proxy::Error;

use crate::error::{Case, Refusal};

/// Words of containers/image and of Go's network libraries, in the order of what they tell most.
const WORDS: [(Case, &[&str]); 5] = [
    (Case::C19Policy, &["rejected by policy"]),
    (
        Case::C18NoImage,
        &[
            "manifest unknown",
            "name unknown",
            "repository name not known",
            "NAME_UNKNOWN",
            "MANIFEST_UNKNOWN",
            "status 404",
            "StatusCode: 404",
        ],
    ),
    (
        Case::C11Auth,
        &[
            "unauthorized",
            "authentication required",
            "access to the resource is denied",
            "invalid username",
            "denied:",
            "status 401",
            "status 403",
            "StatusCode: 401",
            "StatusCode: 403",
            "error getting credentials",
            "getting username and password",
        ],
    ),
    (
        Case::C10Tls,
        &[
            "x509:",
            "tls:",
            "certificate",
            "HTTP response to HTTPS client",
            "client sent an HTTP request to an HTTPS server",
        ],
    ),
    (Case::C04Bytes, &["Digest did not match", "does not match provided manifest digest", "corrupted"]),
];

/// Makes the refusal for a message of skopeo or podman about `subject`.
pub fn said(subject: &str, text: &str) -> Refusal {
    // Names and addresses can be anything: an image called `acme/nginx-tls` has no trouble with TLS.
    let words: Vec<&str> = text.split_whitespace().filter(|word| !word.contains(['/', '@'])).collect();
    let words = words.join(" ");
    let case = WORDS.iter().find(|(_, all)| all.iter().any(|w| words.contains(w))).map(|(case, _)| *case);
    Refusal::new(case.unwrap_or(Case::C17Network), subject, plain(text))
}

/// Makes the refusal for an error of the proxy.
pub(super) fn proxy(subject: &str, error: &Error) -> Refusal {
    match error {
        Error::SkopeoSpawnError(e) => Refusal::new(Case::C16Skopeo, "skopeo", e),
        Error::ProxyTooOld { found_version, .. } => too_old(found_version),
        other => said(subject, &other.to_string()),
    }
}

pub(super) fn too_old(version: &str) -> Refusal {
    Refusal::new(Case::C16Skopeo, "skopeo", format!("its proxy protocol is {version}, at least 0.2.6 is needed"))
}

/// Takes the message out of `time="…" level=fatal msg="…"`. Of several lines it is the last: what came before are
/// warnings.
fn plain(text: &str) -> String {
    let line = text.lines().map(str::trim).rfind(|line| !line.is_empty()).unwrap_or_default();
    let message = match line.split_once("msg=\"").and_then(|(_, rest)| rest.rsplit_once('"')) {
        Some((message, _)) => message.replace("\\\"", "\""),
        None => line.strip_prefix("Error: ").unwrap_or(line).to_owned(),
    };
    let message = match message.split_once(": ") {
        Some((front, rest)) if front.starts_with("failed to invoke method ") => rest.to_owned(),
        _ => message,
    };
    // What was asked for is said already.
    let rest = message.strip_prefix("Error parsing image name ").and_then(|m| m.split_once("\": "));
    rest.map_or(message.clone(), |(_, rest)| rest.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_words_of_skopeo_become_cases() {
        let cases = [
            ("reading manifest x in q.io/a: manifest unknown", Case::C18NoImage),
            (
                "pinging container registry q: Get \"https://q/v2/\": http: server gave HTTP response to HTTPS client",
                Case::C10Tls,
            ),
            ("Get \"https://q/v2/\": x509: certificate signed by unknown authority", Case::C10Tls),
            ("dial tcp 127.0.0.1:1: connect: connection refused", Case::C17Network),
            ("reading manifest: unauthorized: authentication required", Case::C11Auth),
            ("reading manifest v1 in 127.0.0.1:1/web/nginx-tls: manifest unknown", Case::C18NoImage),
            ("reading manifest v1 in 127.0.0.1:1/denied:v1 certificate: connection refused", Case::C10Tls),
            ("pinging 127.0.0.1:1/a/credential-certificate: connection refused", Case::C17Network),
        ];
        for (text, case) in cases {
            assert_eq!(said("x", text).case(), case, "{text}");
        }
        let refusal =
            said("x", "warn\ntime=\"2026\" level=fatal msg=\"Error parsing image name \\\"q\\\": manifest unknown\"\n");
        assert_eq!(refusal.detail(), "manifest unknown");
    }

    #[test]
    fn c19_what_policy_json_forbids_is_said_to_be_that() {
        let text = "Source image rejected: Running image docker://x is rejected by policy.";
        assert_eq!(said("x", text).case(), Case::C19Policy);
        assert_ne!(said("x", "requested access to the resource is denied").case(), Case::C19Policy);
    }
}
