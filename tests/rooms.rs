//! The house keeps its order: a room imports rooms to its left, and unsafe code has one room.
#![allow(missing_docs)]

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
fn unsafe_code_is_in_sys_and_explained() {
    for (room, name, text) in files() {
        let lines: Vec<&str> = text.lines().collect();
        for (number, line) in lines.iter().enumerate() {
            let code = line.split("//").next().unwrap_or_default();
            if !code.contains("unsafe {") && !code.contains("unsafe fn") && !code.contains("unsafe impl") {
                continue;
            }
            assert!(["sys", "state", "sha_lanes"].contains(&ROOMS[room]), "{name}:{}", number + 1);
            let before = &lines[number.saturating_sub(6)..number];
            assert!(
                before.iter().any(|l| l.contains("SAFETY") || l.contains("# Safety")),
                "{name}:{} has no SAFETY line",
                number + 1
            );
        }
    }
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
