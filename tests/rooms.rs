//! The house keeps its order: a room imports rooms to its left, and no two files import each other.
#![allow(missing_docs)]

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

/// Left to right.
const ROOMS: [&str; 22] = [
    "sha_lanes",
    "report",
    "digest",
    "sys",
    "state",
    "oci",
    "pki",
    "invoke",
    "identify",
    "image",
    "policy",
    "seal",
    "fetch",
    "verify",
    "vault",
    "prepare",
    "mount",
    "start",
    "hook",
    "ops",
    "cli",
    "bin",
];

fn sources(dir: &Path, out: &mut Vec<PathBuf>) {
    for entry in std::fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            sources(&path, out);
        } else if path.extension().is_some_and(|e| e == "rs") {
            out.push(path);
        }
    }
}

/// The room and the text of every file that is in one.
fn files() -> Vec<(usize, String, String)> {
    let src = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut paths = Vec::new();
    sources(&src, &mut paths);
    let mut files = Vec::new();
    for path in paths {
        let relative = path.strip_prefix(&src).unwrap().display().to_string();
        let Some((room, _)) = relative.split_once('/') else { continue };
        let room = ROOMS
            .iter()
            .position(|r| *r == room)
            .unwrap_or_else(|| panic!("{relative}: a room that is not in the plan"));
        files.push((room, relative.clone(), std::fs::read_to_string(&path).unwrap()));
    }
    assert!(files.len() > 30);
    files
}

#[test]
fn rooms_import_to_their_left() {
    let mut wrong = Vec::new();
    for (room, name, text) in files() {
        for part in text.split("crate::").skip(1) {
            let target: String = part.chars().take_while(|c| c.is_ascii_alphanumeric() || *c == '_').collect();
            let Some(target) = ROOMS.iter().position(|r| *r == target) else { continue };
            if target > room {
                wrong.push(format!("{name} imports {}", ROOMS[target]));
            }
        }
    }
    assert_eq!(wrong, Vec::<String>::new());
}

#[test]
fn one_way_to_a_mount() {
    let mount = std::fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("src/mount/mod.rs")).unwrap();
    let public: Vec<&str> = mount.lines().filter(|l| l.starts_with("pub fn ")).collect();
    let mounting: Vec<&&str> = public.iter().filter(|l| l.contains("Result<Mounted>")).collect();
    let [sealed, plain] = &mounting[..] else { panic!("{public:?}") };
    assert!(sealed.contains("image: &PreparedImage"), "{sealed}");
    assert!(plain.contains("waiver: &Waiver"), "{plain}");
    // The others make no filesystem.
    assert_eq!(public.iter().filter(|l| l.starts_with("pub fn again(") || l.starts_with("pub fn unmount(")).count(), 2);
    // One is attached nowhere, to be looked at, and made of the same.
    assert!(public.iter().any(|l| l.starts_with("pub fn view(image: &PreparedImage,")), "{public:?}");
    assert_eq!(public.len(), 5, "{public:?}");
    // Neither type can be made outside its room: all fields are private.
    for (file, name) in [
        ("src/prepare/mod.rs", "PreparedImage"),
        ("src/prepare/mod.rs", "MeasuredErofs"),
        ("src/verify/mod.rs", "VerifiedImage"),
        ("src/verify/mod.rs", "VerifiedErofs"),
        ("src/verify/waiver.rs", "Waiver"),
    ] {
        let text = std::fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join(file)).unwrap();
        let body = text.split(&format!("pub struct {name} {{")).nth(1).unwrap().split("\n}").next().unwrap();
        assert!(!body.contains("pub "), "{name} has a public field");
    }
}

/// What can reach a network is in one room, and so is the runtime with its threads.
#[test]
fn the_network_is_in_one_room() {
    for (room, name, text) in files() {
        let words = ["tokio::", "ureq::", "containers_image_proxy", "TcpStream", "UdpSocket"];
        if let Some(word) = words.iter().find(|w| text.contains(**w)) {
            assert_eq!(ROOMS[room], "fetch", "{name}: {word}");
        }
    }
}

/// Pairs that import each other still. An entry that is no longer true is an error as well.
const OPEN: [&str; 0] = [];

/// A module: its path, `["image", "layer"]`, and the code of its file without comments and tests.
type Modules = BTreeMap<Vec<String>, String>;

fn modules() -> Modules {
    let src = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut paths = Vec::new();
    sources(&src, &mut paths);
    let mut modules = Modules::new();
    for path in paths {
        let relative = path.strip_prefix(&src).unwrap().with_extension("");
        let mut parts: Vec<String> = relative.iter().map(|part| part.to_str().unwrap().to_owned()).collect();
        if parts.last().is_some_and(|last| last == "mod") {
            parts.pop();
        }
        // What tests of a file use is no matter for who can be read without whom.
        if matches!(parts.last().map(String::as_str), Some("main" | "lib" | "tests")) {
            continue;
        }
        let text = std::fs::read_to_string(&path).unwrap();
        let code = text.split("#[cfg(test)]\nmod tests").next().unwrap_or_default().lines();
        modules
            .insert(parts, code.map(|line| line.split("//").next().unwrap_or_default()).collect::<Vec<_>>().join("\n"));
    }
    modules
}

/// The ends of a path or of a tree of paths at the beginning of `text`: `a::{b, c::d}` are `a::b` and `a::c::d`.
fn ends(text: &str, before: &[String], out: &mut Vec<Vec<String>>) -> usize {
    let name: String = text.chars().take_while(|c| c.is_alphanumeric() || *c == '_').collect();
    let rest = &text[name.len()..];
    let path = if name.is_empty() { before.to_vec() } else { [before, std::slice::from_ref(&name)].concat() };
    if let Some(rest) = rest.strip_prefix("::{") {
        let mut at = name.len() + 3;
        let mut rest = rest;
        loop {
            let white = rest.len() - rest.trim_start_matches([' ', '\n', ',']).len();
            at += white;
            rest = &rest[white..];
            if rest.is_empty() || rest.starts_with('}') {
                return at + 1;
            }
            // At least a letter: `*` and `as` are words like others.
            let used = ends(rest, &path, out).max(1);
            at += used;
            rest = &text[at.min(text.len())..];
        }
    }
    let more = rest.strip_prefix("::").filter(|rest| rest.starts_with(|c: char| c.is_alphanumeric() || c == '_'));
    if let Some(rest) = more {
        return name.len() + 2 + ends(rest, &path, out);
    }
    out.push(path);
    name.len()
}

/// Every path in the code of a module, from the root.
fn named(module: &[String], code: &str, modules: &Modules) -> Vec<Vec<String>> {
    let mut out = Vec::new();
    let begins = |at: usize| !code[..at].ends_with(|c: char| c.is_alphanumeric() || c == '_' || c == ':' || c == '.');
    for (at, word) in code.match_indices("crate::").filter(|(at, _)| begins(*at)) {
        ends(&code[at + word.len() - 2..], &[], &mut out);
    }
    for (at, _) in code.match_indices("super::").filter(|(at, _)| begins(*at)) {
        let ups = code[at..].split("super::").take_while(|part| part.is_empty()).count();
        let base = &module[..module.len().saturating_sub(ups)];
        ends(&code[at + 7 * ups - 2..], base, &mut out);
    }
    // A directory's own files, by their names alone.
    for child in modules.keys().filter(|m| m.len() == module.len() + 1 && m.starts_with(module)) {
        let word = format!("{}::", child.last().unwrap());
        for (at, _) in code.match_indices(&word).filter(|(at, _)| begins(*at)) {
            ends(&code[at..], module, &mut out);
        }
    }
    out
}

/// The file that has what a path names: a directory's `mod.rs` may only hand it on.
fn home(path: &[String], modules: &Modules, depth: usize) -> Option<Vec<String>> {
    let found = (1..=path.len()).rev().map(|n| &path[..n]).find(|m| modules.contains_key(*m))?.to_vec();
    let name = path.get(found.len())?;
    let handed = named(&found, &modules[&found], modules).into_iter().find(|p| {
        p.len() > found.len() + 1 && p.starts_with(&found) && p.last() == Some(name) && is_used(&modules[&found], name)
    });
    match handed {
        Some(there) if depth < 8 => home(&there, modules, depth + 1),
        _ => Some(found),
    }
}

/// Whether a name comes into a file by a `use`.
fn is_used(code: &str, name: &str) -> bool {
    let words = |text: &str| text.split(|c: char| !c.is_alphanumeric() && c != '_').any(|word| word == name);
    code.split("use ").skip(1).any(|part| part.split(';').next().is_some_and(words))
}

/// What can be read only together should be one file, or what both need a third. A directory's `mod.rs` and its files
/// are one: it declares them, and what it has for all of them is theirs too.
#[test]
fn no_two_files_import_each_other() {
    let modules = modules();
    let imports: BTreeSet<(Vec<String>, Vec<String>)> = modules
        .iter()
        .flat_map(|(module, code)| {
            let targets = named(module, code, &modules).into_iter().filter_map(|path| home(&path, &modules, 0));
            targets.filter(|target| target != module).map(|target| (module.clone(), target)).collect::<Vec<_>>()
        })
        .collect();
    assert!(imports.len() > 200, "{}", imports.len());
    let beneath = |a: &[String], b: &[String]| b.starts_with(a);
    let both = imports.iter().filter(|(a, b)| a < b && !beneath(a, b) && imports.contains(&(b.clone(), a.clone())));
    let both: BTreeSet<String> = both.map(|(a, b)| format!("{} and {}", a.join("/"), b.join("/"))).collect();
    let open: BTreeSet<String> = OPEN.iter().map(|pair| (*pair).to_owned()).collect();
    let new: Vec<_> = both.difference(&open).collect();
    assert!(new.is_empty(), "import each other: {new:#?}");
    let gone: Vec<_> = open.difference(&both).collect();
    assert!(gone.is_empty(), "no longer so, take it off the list: {gone:#?}");
}
