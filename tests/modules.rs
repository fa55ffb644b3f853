//! The order of the modules: one imports those to its left, and no two files import each other.
#![allow(missing_docs)]

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

/// Left to right.
const MODULES: [&str; 22] = [
    "error",
    "digest",
    "sys",
    "state",
    "oci",
    "pki",
    "protocol",
    "container_store",
    "image",
    "policy",
    "seal",
    "fetch",
    "verify",
    "vault",
    "prepare",
    "mount",
    "serve",
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

/// The top module and the text of every file that is in one.
fn files() -> Vec<(usize, String, String)> {
    let src = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut paths = Vec::new();
    sources(&src, &mut paths);
    let mut files = Vec::new();
    for path in paths {
        let relative = path.strip_prefix(&src).unwrap().display().to_string();
        let Some((folder, _)) = relative.split_once('/') else { continue };
        let folder = MODULES
            .iter()
            .position(|r| *r == folder)
            .unwrap_or_else(|| panic!("{relative}: a module that is not in the list"));
        files.push((folder, relative.clone(), std::fs::read_to_string(&path).unwrap()));
    }
    assert!(files.len() > 30);
    files
}

#[test]
fn modules_import_to_their_left() {
    let mut wrong = Vec::new();
    for (folder, name, text) in files() {
        for part in text.split("crate::").skip(1) {
            let target: String = part.chars().take_while(|c| c.is_ascii_alphanumeric() || *c == '_').collect();
            let Some(target) = MODULES.iter().position(|r| *r == target) else { continue };
            if target > folder {
                wrong.push(format!("{name} imports {}", MODULES[target]));
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
    // Two are attached nowhere, to be looked at, and made of the same.
    for looked_at in ["pub fn view(image: &PreparedImage,", "pub fn detached(image: &PreparedImage,"] {
        assert!(public.iter().any(|l| l.starts_with(looked_at)), "{public:?}");
    }
    assert_eq!(public.len(), 6, "{public:?}");
    // What nobody vouches for can be read, and is no descriptor for others to attach.
    let view = mount.split("impl UnverifiedView {").nth(1).unwrap().split("\n}").next().unwrap();
    let methods: Vec<&str> = view.lines().filter(|l| l.contains("fn ")).map(str::trim).collect();
    assert!(methods.len() == 2 && methods[1] == "pub fn path(&self) -> PathBuf {", "{methods:?}");
    assert!(mount.contains("pub struct UnverifiedView(OwnedFd);") && !mount.contains(" for UnverifiedView"));
    // And one is attached nowhere, for the service to hand on: of a verified image too.
    let handed = std::fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("src/mount/handed.rs")).unwrap();
    assert!(handed.contains("pub fn handed(image: &PreparedImage,"), "{handed}");
    // Neither type can be made outside its module: all fields are private.
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

/// A longer file does more than one thing.
#[test]
fn no_file_is_long() {
    let long = |text: &str| text.lines().count() > 400;
    let found: Vec<String> = files().into_iter().filter(|(.., text)| long(text)).map(|(_, name, _)| name).collect();
    assert_eq!(found, Vec::<String>::new());
}

/// Words that begin a description of a thing, and not of what a function does.
const NO_VERBS: &[&str] = &[
    "Always",
    "Annotations",
    "As",
    "Attributes",
    "Bytes",
    "Digests",
    "Directories",
    "Documents",
    "Entries",
    "Errors",
    "Files",
    "Fingerprints",
    "IDs",
    "Images",
    "Inodes",
    "Is",
    "Its",
    "Layers",
    "Lines",
    "Manifests",
    "Objects",
    "Others",
    "Paths",
    "Perhaps",
    "Rules",
    "Seconds",
    "Settings",
    "This",
    "Those",
    "Thus",
    "Users",
    "Values",
    "Whose",
];

/// Returns whether `line` begins a function, after its attributes.
fn is_function(line: &str) -> bool {
    let mut rest = line.trim_start();
    if let Some(after) = rest.strip_prefix("pub(") {
        rest = after.split_once(") ").map_or("", |(_, rest)| rest);
    }
    loop {
        let words = ["pub ", "const ", "async ", "unsafe ", "extern \"C\" "];
        match words.iter().find_map(|word| rest.strip_prefix(word)) {
            Some(after) => rest = after,
            None => return rest.starts_with("fn "),
        }
    }
}

/// Checks that the first word of every function's doc comment is a verb in the third person, as in the standard library.
#[test]
fn functions_are_described_by_what_they_do() {
    let src = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut paths = Vec::new();
    sources(&src, &mut paths);
    let (mut seen, mut wrong) = (0, Vec::new());
    for path in paths {
        let text = std::fs::read_to_string(&path).unwrap();
        let lines: Vec<&str> = text.lines().map(str::trim_start).collect();
        let is_doc = |at: usize| lines.get(at).is_some_and(|line| line.starts_with("///"));
        for at in (0..lines.len()).filter(|at| is_doc(*at) && !(*at > 0 && is_doc(*at - 1))) {
            let end = (at..).find(|at| !is_doc(*at)).unwrap();
            let item = lines[end..].iter().find(|line| !line.starts_with("#["));
            if !item.is_some_and(|line| is_function(line)) {
                continue;
            }
            seen += 1;
            let word = lines[at].trim_start_matches('/').split_whitespace().next().unwrap_or_default();
            let word = word.trim_end_matches([',', '.', ';']);
            let is_word = word.starts_with(|c: char| c.is_ascii_uppercase()) && word.ends_with('s');
            if !is_word || NO_VERBS.contains(&word) {
                wrong.push(format!("src/{}:{}: {word}", path.strip_prefix(&src).unwrap().display(), at + 1));
            }
        }
    }
    assert!(seen > 1000, "{seen}");
    assert!(wrong.is_empty(), "{} of {seen}:\n{}", wrong.len(), wrong.join("\n"));
}

/// What can reach a network is in one module, and so is the runtime with its threads.
#[test]
fn the_network_is_in_one_module() {
    for (folder, name, text) in files() {
        let words = ["tokio::", "ureq::", "containers_image_proxy", "TcpStream", "UdpSocket"];
        if let Some(word) = words.iter().find(|w| text.contains(**w)) {
            assert_eq!(MODULES[folder], "fetch", "{name}: {word}");
        }
    }
}

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
    // The module itself, of which something is named by `module::name` then.
    let Some(name) = path.get(found.len()) else { return Some(found) };
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

/// From each module to those whose names it has. A directory's `mod.rs` and its files are one: it declares them, and what
/// it has for all of them is theirs too.
fn imports() -> BTreeMap<Vec<String>, BTreeSet<Vec<String>>> {
    let modules = modules();
    let of = |(module, code): (&Vec<String>, &String)| {
        let targets = named(module, code, &modules).into_iter().filter_map(|path| home(&path, &modules, 0));
        (module.clone(), targets.filter(|target| !module.starts_with(target)).collect())
    };
    modules.iter().map(of).collect()
}

/// What can be read only together should be one file, or what all of them need another one.
#[test]
fn no_files_import_each_other_in_a_circle() {
    let imports = imports();
    assert!(imports.values().map(BTreeSet::len).sum::<usize>() > 200, "{imports:#?}");
    let mut circles = Vec::new();
    for module in imports.keys() {
        // The shortest way back.
        let mut ways: Vec<Vec<&Vec<String>>> = vec![vec![module]];
        let mut seen = BTreeSet::new();
        while let Some(way) = (!ways.is_empty()).then(|| ways.remove(0)) {
            for next in way.last().and_then(|last| imports.get(*last)).into_iter().flatten() {
                if next == module && way.iter().all(|on| *on >= module) {
                    circles.push(way.iter().map(|m| m.join("/")).collect::<Vec<_>>().join(" -> "));
                } else if seen.insert(next) {
                    ways.push(way.iter().copied().chain([next]).collect());
                }
            }
        }
    }
    assert!(circles.is_empty(), "import each other: {circles:#?}");
}

/// The loader is not to bring OpenSSL for what does without it (`src/sys/openssl/later.rs`): a function of it that is
/// missing in the list there brings its library back.
#[test]
#[cfg(all(target_arch = "x86_64", target_env = "gnu"))]
fn openssl_is_not_loaded_before_it_is_called() {
    // ld.so(8): tells what it would load, and runs nothing.
    let binary = env!("CARGO_BIN_EXE_layerseal");
    let output = std::process::Command::new(binary).env("LD_TRACE_LOADED_OBJECTS", "1").output().unwrap();
    let loaded = String::from_utf8_lossy(&output.stdout);
    assert!(loaded.contains("libc.so"), "{loaded}");
    assert!(!loaded.contains("libssl") && !loaded.contains("libcrypto"), "{loaded}");
    // A library takes a twentieth of a millisecond at every start.
    assert!(!loaded.contains("libgcc_s") && !loaded.contains("libm.so"), "{loaded}");
}
