//! Hooks of this program in a container's configuration, if nobody else has put them there.

use std::path::{Path, PathBuf};

use serde_json::{Value, json};

use rustix::fs::StatVfsMountFlags;

use super::{Outcome, Stage};
use crate::error::{Case, Refusal, Result};
use crate::mount;
use crate::oci::strict_json;
use crate::protocol::{ContainerConfig, IdMapping};
use crate::sys::child::OWN;
use crate::sys::mountinfo;
use crate::sys::mounts::Restrict;

/// A hook of ours.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Hook {
    stage: Stage,
    /// What follows the stage.
    words: Vec<String>,
}

impl Hook {
    /// Makes the hook for the stage, which finds out by itself what it needs.
    pub(super) const fn of(stage: Stage) -> Self {
        Self { stage, words: Vec::new() }
    }

    /// Returns the hook that a container needs for the flags of its root, which is mounted by now, with the root and the
    /// flags; `outcome` is what was decided about it. `None` where there are none to restore. (For a container with its
    /// own user IDs, crun would run the hook in a bundle whose directory it cannot enter.)
    pub(super) fn for_flags(config: &ContainerConfig, outcome: &Outcome) -> Option<Self> {
        let of = |flags: Restrict, root: &Path| {
            let flags = [(flags.nodev, "nodev"), (flags.nosuid, "nosuid"), (flags.noexec, "noexec")];
            let flags = flags.iter().filter(|(is_set, _)| *is_set).map(|(_, name)| *name);
            let words = [root.to_str()?].into_iter().chain(flags).map(str::to_owned).collect();
            Some(Self { stage: Stage::CreateContainer, words })
        };
        // What cannot be found out now is left to the hook.
        match flags(config, outcome) {
            Some((flags, _)) if flags == Restrict::default() => None,
            found => {
                found.and_then(|(flags, root)| of(flags, &root)).or_else(|| Some(Self::of(Stage::CreateContainer)))
            }
        }
    }

    fn to_json(&self, program: &Path) -> Value {
        let words: Vec<&str> =
            ["layerseal", "hook", self.stage.name()].into_iter().chain(self.words.iter().map(String::as_str)).collect();
        json!({"path": program, "args": words})
    }
}

/// Returns the flags of the mount at the container's root that crun takes from it, and the root's real path. Only for
/// mounts of layerseal: nobody promised anything about others; and not for a container with its own user IDs, for which
/// the kernel keeps the flags.
pub(super) fn flags(config: &ContainerConfig, outcome: &Outcome) -> Option<(Restrict, PathBuf)> {
    if config.uids != IdMapping::None {
        return Some((Restrict::default(), config.root.clone()));
    }
    let root = std::fs::canonicalize(&config.root).ok()?;
    let set = rustix::fs::statvfs(&root).ok()?.f_flag;
    let flags = Restrict {
        nodev: set.contains(StatVfsMountFlags::NODEV),
        nosuid: set.contains(StatVfsMountFlags::NOSUID),
        noexec: set.contains(StatVfsMountFlags::NOEXEC),
    };
    // What was verified is on a mount of ours.
    let is_ours = flags == Restrict::default()
        || matches!(outcome, Outcome::Allowed)
        || mountinfo::topmost(&mountinfo::own().ok()?, &root).is_some_and(mount::is_ours);
    Some((if is_ours { flags } else { Restrict::default() }, root))
}

/// Returns whether the configuration has a hook of this program for the stage; what cannot be read has one.
pub(super) fn has(input: &[u8], stage: Stage) -> bool {
    let name = stage.name().as_bytes();
    if !input.windows(name.len()).any(|part| part == name) {
        return false;
    }
    let (Ok(config), Ok(own)) = (strict_json::value(input, "config.json"), own_path()) else { return true };
    let list = &config["hooks"][stage.name()];
    list.as_array().map_or(!list.is_null(), |list| list.iter().any(|hook| is_own(hook, stage, &own)))
}

/// Returns the program for the hook: this very one, or the small one beside it for what that can do.
fn program(stage: Stage) -> Result<PathBuf> {
    let own = own_path()?;
    let small = own.with_file_name("layerseal-runtime");
    Ok(if stage == Stage::CreateContainer && small.is_file() { small } else { own })
}

/// Adds the hooks to the configuration, behind all others of their stages, so that what those mount is looked at too.
/// `None` if they are there already.
pub(super) fn with_hooks(input: &[u8], hooks: &[Hook]) -> Result<Option<Vec<u8>>> {
    let mut config = strict_json::value(input, "config.json")?;
    let shape = || Refusal::new(Case::O05Call, "config.json", "hooks are not what they must be");
    let there = config.as_object_mut().ok_or_else(shape)?.entry("hooks").or_insert(Value::Null);
    if there.is_null() {
        *there = json!({});
    }
    let there = there.as_object_mut().ok_or_else(shape)?;
    let mut changed = false;
    for hook in hooks {
        let own = program(hook.stage)?;
        let new = hook.to_json(&own);
        let list = there.entry(hook.stage.name()).or_insert(Value::Null);
        if list.is_null() {
            *list = json!([]);
        }
        let list = list.as_array_mut().ok_or_else(shape)?;
        if list.last().is_some_and(|last| is_own(last, hook.stage, &own) && last["args"] == new["args"]) {
            continue;
        }
        // A hook of ours before others does not see everything.
        list.retain(|other| !is_own(other, hook.stage, &own));
        list.push(new);
        changed = true;
    }
    if !changed {
        return Ok(None);
    }
    serde_json::to_vec(&config).map(Some).map_err(|e| Refusal::io("config.json", e))
}

fn is_own(hook: &Value, stage: Stage, own: &Path) -> bool {
    let words = hook["args"].as_array().map(|args| args.iter().skip(1).filter_map(Value::as_str).collect::<Vec<_>>());
    words.is_some_and(|words| words.starts_with(&["hook", stage.name()]))
        && hook["path"].as_str().is_some_and(|path| std::fs::canonicalize(path).is_ok_and(|path| path == own))
}

/// Returns where this program is; if it was replaced while it ran, where the new one is.
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

    const BOTH: [Hook; 2] = [Hook::of(Stage::CreateRuntime), Hook::of(Stage::CreateContainer)];

    fn hooks(text: &str) -> Option<Value> {
        with_hooks(text.as_bytes(), &BOTH)
            .unwrap()
            .map(|text| serde_json::from_slice::<Value>(&text).unwrap()["hooks"].clone())
    }

    #[test]
    fn the_hooks_are_the_last_of_their_stages() {
        let ours = |stage: Stage| json!({"path": program(stage).unwrap(), "args": ["layerseal", "hook", stage.name()]});
        let (first, second) = (ours(Stage::CreateRuntime), ours(Stage::CreateContainer));
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
        let has = |text: &str| has(text.as_bytes(), Stage::CreateRuntime);
        assert!(
            has(&with(json!([first, other]))) && has("{\"hooks\":{\"createRuntime\":{}}}") && has("{createRuntime")
        );
        assert!(!has(&with(json!([other]))) && !has("{}") && !has("{\"annotations\":{\"a\":\"createRuntime\"}}"));
        let list = hooks(&with(json!([gone]))).unwrap();
        assert_eq!(list["createRuntime"], json!([gone, first]));
    }

    #[test]
    fn o05_a_configuration_of_another_shape_is_refused() {
        for bad in ["[]", "{\"hooks\":[]}", "{\"hooks\":{\"createRuntime\":{}}}", "{", "{\"a\":1,\"a\":2}"] {
            assert!(with_hooks(bad.as_bytes(), &BOTH).is_err(), "{bad}");
        }
    }

    #[test]
    fn numbers_stay_as_they_are() {
        let text = format!("{{\"a\":{},\"b\":{},\"c\":-1,\"d\":\"\\u0000é\"}}", u64::MAX, i64::MIN);
        let text = String::from_utf8(with_hooks(text.as_bytes(), &BOTH).unwrap().unwrap()).unwrap();
        for part in [u64::MAX.to_string(), i64::MIN.to_string(), "\"c\":-1".into(), "\\u0000é".into()] {
            assert!(text.contains(&part), "{text}");
        }
    }
}
