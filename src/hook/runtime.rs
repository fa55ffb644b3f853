//! As the OCI runtime, in front of crun or runc: `create`, `run` and `restore` come to what `precreate` decides, for every
//! engine and for every kind of container, and the configuration gets the hooks `createRuntime` and `createContainer` where it has none.
//! Whoever calls holds no lock of the store by now.

use std::path::{Path, PathBuf};

use serde_json::{Value, json};

use super::{About, MAX_INPUT, Outcome, Stage, precreate, rootless, settle, unknown};
use crate::invoke::{self, Config, Start};
use crate::oci::strict_json;
use crate::report::{Case, Refusal, Result};
use crate::sys::child::{OWN, in_child};
use crate::sys::files;
use crate::sys::process::{self, Openssl};

/// No container, and why.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Stopped {
    /// The exit code.
    pub code: u8,
    /// One line.
    pub message: String,
}

impl From<&Refusal> for Stopped {
    fn from(refusal: &Refusal) -> Self {
        Self { code: refusal.case().class().exit_code(), message: refusal.to_string() }
    }
}

/// Decides about a container that the runtime is asked to have run. All of it happens in a child: this process is the
/// runtime's to be, with its environment, its descriptors and its place.
///
/// # Errors
/// Why there is to be no container.
pub fn before_start(start: &Start) -> std::result::Result<(), Stopped> {
    let broken = |why: &str| Stopped::from(&Refusal::new(Case::Bug, "verifying the container's root", why));
    let answer = in_child(|| answer(start)).map_err(|e| Stopped::from(&Refusal::io("fork", e)))?;
    match answer.split_first() {
        Some((0, _)) => Ok(()),
        Some((code, message)) => Err(Stopped { code: *code, message: String::from_utf8_lossy(message).into_owned() }),
        None => Err(broken("it ended before it said anything")),
    }
}

/// The exit code, and the message where that is not 0.
fn answer(start: &Start) -> Vec<u8> {
    process::clear_environment();
    process::keep_descriptors();
    process::start_openssl(Openssl::Verify);
    let mut about = About { container: start.id.clone(), ..About::default() };
    let root = process::is_real_root();
    let ended = bundle(start).and_then(|(bundle, file)| {
        if !root {
            return rootless();
        }
        // Nothing is to be found by the caller's working directory.
        std::env::set_current_dir("/").map_err(|e| Refusal::io("/", e))?;
        run(start, &bundle, &file, &mut about)
    });
    if !root && matches!(ended, Ok(Outcome::Off)) {
        // As if nobody had been called.
        return vec![0];
    }
    match settle(Stage::Runtime, &about, ended) {
        Ok(()) => vec![0],
        Err(refusal) => {
            let Stopped { code, message } = Stopped::from(&refusal);
            [vec![code], message.into_bytes()].concat()
        }
    }
}

/// The bundle and the file of its configuration, without symlinks.
fn bundle(start: &Start) -> Result<(PathBuf, PathBuf)> {
    let real = |path: &Path| {
        std::fs::canonicalize(path).map_err(|e| Refusal::new(Case::O05Call, path.display().to_string(), e))
    };
    let bundle = real(start.bundle.as_deref().unwrap_or(Path::new(".")))?;
    let file = match &start.config {
        Some(file) => real(file)?,
        None => bundle.join("config.json"),
    };
    Ok((bundle, file))
}

fn run(start: &Start, bundle: &Path, file: &Path, about: &mut About) -> Result<Outcome> {
    let refuse = |e: &dyn std::fmt::Display| Refusal::new(Case::O05Call, file.display().to_string(), e);
    let name = file.file_name().ok_or_else(|| refuse(&"no file"))?;
    let dir = files::open_dir(file.parent().unwrap_or(Path::new("/"))).map_err(|e| refuse(&e))?;
    let config = files::open_file_at(&dir, name).map_err(|e| refuse(&e))?;
    let stat = rustix::fs::fstat(&config).map_err(|e| refuse(&e))?;
    let input = files::read_all(config, MAX_INPUT).map_err(|e| refuse(&e))?;
    let read = invoke::config(&input)?;
    let read = Config { root: bundle.join(&read.root), ..read };
    let outcome = precreate::look(&read, bundle, None, Some(start), about).or_else(unknown)?;
    // Where nothing is asked nothing is changed.
    if !matches!(outcome, Outcome::Off)
        && let Some(text) = with_hooks(&input).map_err(|e| refuse(&e))?
    {
        let name = name.to_str().ok_or_else(|| refuse(&"its name is no UTF-8"))?;
        let mode = stat.st_mode & 0o777;
        files::write_atomic(&dir, name, mode, &text).map_err(|e| Refusal::io(file.display().to_string(), e))?;
    }
    Ok(outcome)
}

/// The configuration with the hooks of this very program behind all others of their stages: what those mounted is looked at
/// too. `None` where they are there.
fn with_hooks(input: &[u8]) -> Result<Option<Vec<u8>>> {
    let own = own_path()?;
    let mut config = strict_json::value(input, "config.json")?;
    let shape = || Refusal::new(Case::O05Call, "config.json", "hooks are not what they must be");
    let hooks = config.as_object_mut().ok_or_else(shape)?.entry("hooks").or_insert(Value::Null);
    if hooks.is_null() {
        *hooks = json!({});
    }
    let hooks = hooks.as_object_mut().ok_or_else(shape)?;
    let mut changed = false;
    for stage in [Stage::CreateRuntime, Stage::CreateContainer] {
        let list = hooks.entry(stage.name()).or_insert(Value::Null);
        if list.is_null() {
            *list = json!([]);
        }
        let list = list.as_array_mut().ok_or_else(shape)?;
        if list.last().is_some_and(|hook| is_own(hook, stage, &own)) {
            continue;
        }
        // One of ours before others is none that sees everything.
        list.retain(|hook| !is_own(hook, stage, &own));
        list.push(json!({"path": own, "args": ["layerseal", "hook", stage.name()]}));
        changed = true;
    }
    if !changed {
        return Ok(None);
    }
    serde_json::to_vec(&config).map(Some).map_err(|e| Refusal::io("config.json", e))
}

fn is_own(hook: &Value, stage: Stage, own: &Path) -> bool {
    let words = hook["args"].as_array().map(|args| args.iter().skip(1).filter_map(Value::as_str).collect::<Vec<_>>());
    words.is_some_and(|words| words == ["hook", stage.name()])
        && hook["path"].as_str().is_some_and(|path| std::fs::canonicalize(path).is_ok_and(|path| path == own))
}

/// Where this program is. Where it was replaced while it ran: the new one.
fn own_path() -> Result<PathBuf> {
    let path = std::fs::read_link(OWN).map_err(|e| Refusal::io(OWN, e))?;
    let shown = path.display().to_string();
    let path = PathBuf::from(shown.strip_suffix(" (deleted)").unwrap_or(&shown));
    match path.is_file() {
        true => Ok(path),
        false => Err(Refusal::new(Case::Bug, shown, "this program is gone, and no hook can be named")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hooks(text: &str) -> Option<Value> {
        with_hooks(text.as_bytes())
            .unwrap()
            .map(|text| serde_json::from_slice::<Value>(&text).unwrap()["hooks"].clone())
    }

    #[test]
    fn the_hooks_are_the_last_of_their_stages() {
        let own = own_path().unwrap();
        let ours = |stage: &str| json!({"path": own, "args": ["layerseal", "hook", stage]});
        let (first, second) = (ours("createRuntime"), ours("createContainer"));
        for none in ["{}", "{\"hooks\":null}", "{\"hooks\":{}}", "{\"hooks\":{\"createRuntime\":null}}"] {
            assert_eq!(hooks(none), Some(json!({"createRuntime": [first], "createContainer": [second]})), "{none}");
        }
        let other = json!({"path": "/usr/bin/other", "args": ["other"]});
        let gone = json!({"path": "/nowhere/layerseal", "args": ["layerseal", "hook", "createRuntime"]});
        let with = |list: Value| {
            json!({"hooks": {"createRuntime": list, "createContainer": [second], "poststop": [other]}}).to_string()
        };
        assert_eq!(hooks(&with(json!([other, first]))), None);
        for list in [json!([other]), json!([first, other])] {
            let both = json!({"createRuntime": [other, first], "createContainer": [second], "poststop": [other]});
            assert_eq!(hooks(&with(list)), Some(both));
        }
        let list = hooks(&with(json!([gone]))).unwrap();
        assert_eq!(list["createRuntime"], json!([gone, first]));
    }

    #[test]
    fn o05_a_configuration_of_another_shape_is_refused() {
        for bad in ["[]", "{\"hooks\":[]}", "{\"hooks\":{\"createRuntime\":{}}}", "{", "{\"a\":1,\"a\":2}"] {
            assert!(with_hooks(bad.as_bytes()).is_err(), "{bad}");
        }
    }

    #[test]
    fn numbers_stay_as_they_are() {
        let text = format!("{{\"a\":{},\"b\":{},\"c\":-1,\"d\":\"\\u0000é\"}}", u64::MAX, i64::MIN);
        let text = String::from_utf8(with_hooks(text.as_bytes()).unwrap().unwrap()).unwrap();
        for part in [u64::MAX.to_string(), i64::MIN.to_string(), "\"c\":-1".into(), "\\u0000é".into()] {
            assert!(text.contains(&part), "{text}");
        }
    }
}
