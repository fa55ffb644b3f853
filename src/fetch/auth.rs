//! Credentials, as containers tools keep them (containers-auth.json(5)): for the one question that skopeo cannot ask
//! for us.

use std::collections::BTreeMap;
use std::path::PathBuf;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde::Deserialize;

use super::clock::Clock;
use super::{Options, skopeo};
use crate::error::{Case, Refusal, Result};
use crate::oci::{Budget, Repository};
use crate::sys::{files, home};

/// Bytes of an auth.json, or of what a helper prints.
const MAX_FILE: u64 = 1 << 20;

/// Who we are to a registry.
#[derive(Clone, PartialEq, Eq)]
pub(super) enum Credentials {
    /// Name and password.
    Basic(String, String),
    /// A token to get tokens for (`identitytoken`).
    Identity(String),
}

impl std::fmt::Debug for Credentials {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Credentials(..)")
    }
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct AuthFile {
    auths: BTreeMap<String, AuthEntry>,
    #[serde(rename = "credHelpers")]
    helpers: BTreeMap<String, String>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct AuthEntry {
    auth: String,
    identitytoken: String,
}

/// Finds the credentials for `repository`, where there are any: in each file its most specific entry is used.
///
/// # Errors
/// [`Case::C11Auth`] for a file or a helper that cannot be used.
pub(super) async fn credentials(
    repository: &Repository,
    options: &Options,
    clock: &Clock,
    budget: &Budget,
) -> Result<Option<Credentials>> {
    for path in places(options) {
        let shown = path.display().to_string();
        let bytes = match std::fs::File::open(&path).and_then(|f| files::read_all(f, MAX_FILE)) {
            Err(e) if e.kind() == std::io::ErrorKind::NotFound && options.authfile.is_none() => continue,
            other => other.map_err(|e| Refusal::new(Case::C11Auth, &shown, e))?,
        };
        let file: AuthFile =
            serde_json::from_slice(&bytes).map_err(|e| Refusal::new(Case::C11Auth, &shown, place(&e)))?;
        if let Some(found) = of(&file, repository, &shown, clock, budget).await? {
            return Ok(Some(found));
        }
    }
    Ok(None)
}

/// Says where an error is, and not what is written there: it may be a secret.
fn place(error: &serde_json::Error) -> String {
    format!("not what it should be, line {}, column {}", error.line(), error.column())
}

/// Lists the files that may hold credentials, in order.
fn places(options: &Options) -> Vec<PathBuf> {
    let variable = |name: &str| std::env::var_os(name).filter(|v| !v.is_empty()).map(PathBuf::from);
    if let Some(file) = options.authfile.clone().or_else(|| variable("REGISTRY_AUTH_FILE")) {
        return vec![file];
    }
    let runtime = variable("XDG_RUNTIME_DIR").map(|dir| dir.join("containers/auth.json"));
    let user = || PathBuf::from(format!("/run/containers/{}/auth.json", rustix::process::getuid().as_raw()));
    let home = home::own();
    let config = variable("XDG_CONFIG_HOME").or_else(|| home.as_ref().map(|home| home.join(".config")));
    let docker = variable("DOCKER_CONFIG").or_else(|| home.as_ref().map(|home| home.join(".docker")));
    [
        Some(runtime.unwrap_or_else(user)),
        config.map(|dir| dir.join("containers/auth.json")),
        docker.map(|dir| dir.join("config.json")),
    ]
    .into_iter()
    .flatten()
    .collect()
}

async fn of(
    file: &AuthFile,
    repository: &Repository,
    shown: &str,
    clock: &Clock,
    budget: &Budget,
) -> Result<Option<Credentials>> {
    let name = repository.to_string();
    // `q.io/acme/app`, `q.io/acme`, `q.io`.
    let keys: Vec<&str> = name.match_indices('/').map(|(at, _)| &name[..at]).chain([name.as_str()]).collect();
    for key in keys.iter().rev() {
        if let Some(helper) = file.helpers.get(*key) {
            return ask(helper, key, clock, budget).await;
        }
        let entry = file.auths.get(*key).or_else(|| {
            let legacy = |k: &str| hostname(k) == Some(*key) && !key.contains('/');
            file.auths.iter().find(|(k, _)| legacy(k)).map(|(_, entry)| entry)
        });
        match entry {
            None => {}
            Some(entry) if !entry.identitytoken.is_empty() => {
                return Ok(Some(Credentials::Identity(entry.identitytoken.clone())));
            }
            Some(entry) if entry.auth.is_empty() => {}
            Some(entry) => return decode(&entry.auth, shown).map(Some),
        }
    }
    Ok(None)
}

/// Returns the host that an entry is for where it is for a whole registry. Older docker wrote `https://q.io/v1/`;
/// anything else with a slash is for one namespace, and is used for no other.
fn hostname(key: &str) -> Option<&str> {
    let legacy = key.strip_prefix("https://").or_else(|| key.strip_prefix("http://"));
    let host = match legacy {
        Some(rest) => rest.split('/').next().unwrap_or(rest),
        None if key.contains('/') => return None,
        None => key,
    };
    Some(if matches!(host, "index.docker.io" | "registry-1.docker.io") { "docker.io" } else { host })
}

fn decode(auth: &str, shown: &str) -> Result<Credentials> {
    let refuse = || Refusal::new(Case::C11Auth, shown, "an entry is not base64 of NAME:PASSWORD");
    let bytes = STANDARD.decode(auth.trim()).map_err(|_| refuse())?;
    let text = String::from_utf8(bytes).map_err(|_| refuse())?;
    let (name, password) = text.split_once(':').ok_or_else(refuse)?;
    Ok(Credentials::Basic(name.to_owned(), password.trim_end_matches('\0').to_owned()))
}

/// Asks a credential helper (docker-credential-helpers, "Credential helper protocol").
async fn ask(helper: &str, key: &str, clock: &Clock, budget: &Budget) -> Result<Option<Credentials>> {
    #[derive(Deserialize)]
    #[serde(rename_all = "PascalCase")]
    struct Answer {
        username: String,
        secret: String,
    }
    let program = format!("docker-credential-{helper}");
    let refuse = |why: &dyn std::fmt::Display| Refusal::new(Case::C11Auth, &program, why);
    if helper.is_empty() || helper.contains('/') {
        return Err(refuse(&"not the name of a credential helper"));
    }
    let mut command = std::process::Command::new(&program);
    command.arg("get");
    let input = format!("{key}\n");
    let left = clock.left(&program, budget.answer)?;
    let asked = tokio::time::timeout(left, skopeo::program(skopeo::ready(command), input.as_bytes(), MAX_FILE)).await;
    let output =
        asked.map_err(|_| refuse(&format!("no answer within {} s", left.as_secs())))?.map_err(|e| refuse(&e))?;
    if !output.status.is_some_and(|status| status.success()) {
        let text = String::from_utf8_lossy(&output.printed);
        // The protocol's own words for "there are none".
        return if text.contains("credentials not found") { Ok(None) } else { Err(refuse(&text.trim())) };
    }
    let answer: Answer = serde_json::from_slice(&output.printed).map_err(|e| refuse(&place(&e)))?;
    Ok(Some(match answer.username.as_str() {
        "<token>" => Credentials::Identity(answer.secret),
        _ => Credentials::Basic(answer.username, answer.secret),
    }))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn find(json: &str, name: &str) -> Option<Credentials> {
        let file: AuthFile = serde_json::from_str(json).unwrap();
        let repository = Repository::parse(name).unwrap().repository;
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        runtime.block_on(of(&file, &repository, "auth.json", &Clock::open(), &Budget::STANDARD)).unwrap()
    }

    #[test]
    fn c11_the_most_specific_entry_counts() {
        let json = r#"{"auths": {
            "q.io": {"auth": "aG9zdDphOmI="}, "q.io/acme": {"auth": "dGVhbTp4"}, "q.io/empty": {},
            "https://index.docker.io/v1/": {"auth": "aHViOng="}, "t.io": {"auth": "", "identitytoken": "tok"}}}"#;
        let basic = |n: &str, p: &str| Some(Credentials::Basic(n.into(), p.into()));
        assert_eq!(find(json, "q.io/x"), basic("host", "a:b"));
        assert_eq!(find(json, "q.io/acme/app"), basic("team", "x"));
        assert_eq!(find(json, "q.io/acmes/app"), basic("host", "a:b"));
        assert_eq!(find(json, "q.io/empty/app"), basic("host", "a:b"));
        assert_eq!(find(json, "busybox"), basic("hub", "x"));
        assert_eq!(find(json, "t.io/x"), Some(Credentials::Identity("tok".into())));
        assert_eq!(find(json, "other.io/x"), None);
        let namespace = r#"{"auths": {"q.io/acme": {"auth": "dGVhbTp4"}}}"#;
        assert_eq!(find(namespace, "q.io/acme/app"), basic("team", "x"));
        assert_eq!(find(namespace, "q.io/other/app"), None);
        assert_eq!(format!("{:?}", find(json, "q.io/x")), "Some(Credentials(..))");
    }
}
