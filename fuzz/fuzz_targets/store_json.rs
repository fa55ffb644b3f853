//! The documents of a container store on any bytes: records, the metadata of containers, manifests, indexes.
//!
//! podman reads the same bytes, in Go. Invariants:
//! 1. Nothing panics or hangs; a refusal is one line.
//! 2. What is accepted Go reads as the same: every field that we take has the value that Go's rules give it. A key
//!    counts by its name or by one that folds to it, the last one wins, `null` changes nothing. The rules are
//!    written down here a second time, on an ordered list of keys, and share nothing with the reader.
//! 3. A document in which only the case of one known key was changed is refused: with one reading there is no other.
//!
//! 4. Of a list of images, which is read as Go reads it whatever it is, everything is found that Go finds.
//!
//! With `STORE_JSON_ORACLE=PROGRAM` (`cd fuzz/go && go build`) what Go itself makes of each accepted document is
//! compared too, and of each list. That is for a run by hand.
#![no_main]

use std::io::{BufRead, BufReader, Write};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::sync::{Mutex, OnceLock};

use layerseal::container_store::{recorded_containers, recorded_images, recorded_instances, recorded_layers};
use layerseal::error::{Case, Refusal};
use layerseal::oci::named;
use libfuzzer_sys::fuzz_target;
use serde::Deserialize;
use serde::de::{MapAccess, SeqAccess, Visitor};

/// JSON with its keys in order, none of them lost.
#[derive(Clone, Debug)]
enum Tree {
    Null,
    Text(String),
    Other,
    List(Vec<Tree>),
    Map(Vec<(String, Tree)>),
}

impl<'de> Deserialize<'de> for Tree {
    fn deserialize<D: serde::Deserializer<'de>>(reader: D) -> Result<Self, D::Error> {
        struct Any;
        impl<'de> Visitor<'de> for Any {
            type Value = Tree;
            fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str("JSON")
            }
            fn visit_unit<E>(self) -> Result<Tree, E> {
                Ok(Tree::Null)
            }
            fn visit_bool<E>(self, _: bool) -> Result<Tree, E> {
                Ok(Tree::Other)
            }
            fn visit_i64<E>(self, _: i64) -> Result<Tree, E> {
                Ok(Tree::Other)
            }
            fn visit_u64<E>(self, _: u64) -> Result<Tree, E> {
                Ok(Tree::Other)
            }
            fn visit_f64<E>(self, _: f64) -> Result<Tree, E> {
                Ok(Tree::Other)
            }
            fn visit_str<E>(self, text: &str) -> Result<Tree, E> {
                Ok(Tree::Text(text.to_owned()))
            }
            fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Tree, A::Error> {
                let mut all = Vec::new();
                while let Some(one) = seq.next_element()? {
                    all.push(one);
                }
                Ok(Tree::List(all))
            }
            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Tree, A::Error> {
                let mut all = Vec::new();
                while let Some(one) = map.next_entry()? {
                    all.push(one);
                }
                Ok(Tree::Map(all))
            }
        }
        reader.deserialize_any(Any)
    }
}

/// Folds the name of a field as Go does to compare it, in either of its readers.
fn fold(key: &str) -> String {
    key.chars()
        .map(|c| match c {
            'İ' => 'i',
            'ſ' => 's',
            'A'..='Z' | '\u{212a}' => c.to_lowercase().next().unwrap(),
            _ => c,
        })
        .collect()
}

impl Tree {
    /// Returns the value of a field of a struct; only a map can be one.
    fn field(&self, name: &str) -> Option<&Self> {
        let Self::Map(all) = self else { panic!("{self:?} was taken for a struct") };
        all.iter().filter(|(key, value)| fold(key) == fold(name) && !matches!(value, Self::Null)).map(|(_, v)| v).last()
    }

    fn text(&self, name: &str) -> String {
        match self.field(name) {
            None => String::new(),
            Some(Self::Text(text)) => text.clone(),
            Some(other) => panic!("{name}: {other:?} was taken for a text"),
        }
    }

    fn list(&self, name: &str) -> Vec<Self> {
        match self.field(name) {
            None => Vec::new(),
            Some(Self::List(all)) => all.clone(),
            Some(other) => panic!("{name}: {other:?} was taken for a list"),
        }
    }

    fn texts(&self, name: &str) -> Vec<String> {
        let text = |one| match one {
            Self::Text(text) => text,
            other => panic!("{name}: {other:?} was taken for a text"),
        };
        self.list(name).into_iter().map(text).collect()
    }

    fn records(&self) -> Vec<Self> {
        match self {
            Self::Null => Vec::new(),
            Self::List(all) => all.clone(),
            other => panic!("{other:?} was taken for records"),
        }
    }
}

/// Reads JSON in full; `None` for half a surrogate pair where nobody looks: Go takes it too.
fn tree(bytes: &[u8]) -> Option<Tree> {
    match serde_json::from_slice(bytes) {
        Ok(tree) => Some(tree),
        Err(e) => {
            let half = ["unexpected end of hex escape", "lone leading surrogate in hex escape"];
            assert!(half.iter().any(|half| e.to_string().contains(half)), "what was accepted is JSON: {e}");
            None
        }
    }
}

fn refused(refusal: &Refusal) {
    let text = refusal.to_string();
    assert!(!text.chars().any(char::is_control), "{text:?}");
}

/// Returns what Go makes of a document, where it is asked: a line of JSON.
fn oracle(kind: &str, bytes: &[u8]) -> Option<serde_json::Value> {
    type Open = Mutex<(Child, ChildStdin, BufReader<ChildStdout>)>;
    static ORACLE: OnceLock<Option<Open>> = OnceLock::new();
    let open = ORACLE.get_or_init(|| {
        let program = std::env::var_os("STORE_JSON_ORACLE")?;
        let mut child = Command::new(program).stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
        let (stdin, stdout) = (child.stdin.take().unwrap(), BufReader::new(child.stdout.take().unwrap()));
        Some(Mutex::new((child, stdin, stdout)))
    });
    let mut open = open.as_ref()?.lock().unwrap();
    let hex: String = bytes.iter().map(|b| format!("{b:02x}")).collect();
    writeln!(open.1, "{kind} {hex}").unwrap();
    let mut line = String::new();
    open.2.read_line(&mut line).unwrap();
    Some(serde_json::from_str(&line).unwrap())
}

/// Checks that Go says what we say. Records hold more than we look at, and where Go does not take that podman starts
/// nothing at all.
fn asked(kind: &str, bytes: &[u8], ours: serde_json::Value) {
    let readers: &[&str] = if kind == "manifest" { &[""] } else { &["", "-std"] };
    for reader in readers {
        let kind = format!("{kind}{reader}");
        if let Some(go) = oracle(&kind, bytes).filter(|go| kind == "manifest" || go.is_array()) {
            assert_eq!(go, ours, "{kind}: {}", String::from_utf8_lossy(bytes));
        }
    }
}

fn images(bytes: &[u8]) {
    let read = match recorded_images(bytes) {
        Ok(read) => read,
        Err(refusal) => return refused(&refusal),
    };
    let records = if bytes.is_empty() { Some(Vec::new()) } else { tree(bytes).map(|tree| tree.records()) };
    let records = records.unwrap_or_default();
    assert!(records.is_empty() || read.len() == records.len());
    for (image, record) in read.iter().zip(&records) {
        assert_eq!((&image.id, &image.layer), (&record.text("id"), &record.text("layer")));
        assert_eq!((&image.names, &image.keys), (&record.texts("names"), &record.texts("big-data-names")));
    }
    if !bytes.is_empty() {
        let ours = read
            .iter()
            .map(|i| serde_json::json!([i.id, i.layer, i.mapped, i.names, i.keys, i.digest, i.digests]))
            .collect();
        asked("images", bytes, ours);
    }
}

fn containers(bytes: &[u8]) {
    let read = match recorded_containers(bytes) {
        Ok(read) => read,
        Err(refusal) => return refused(&refusal),
    };
    let records = if bytes.is_empty() { Some(Vec::new()) } else { tree(bytes).map(|tree| tree.records()) };
    let records = records.unwrap_or_default();
    assert!(records.is_empty() || read.len() == records.len());
    for ((id, image, layer, asked), record) in read.iter().zip(&records) {
        assert_eq!((id, image, layer), (&record.text("id"), &record.text("image"), &record.text("layer")));
        let metadata = record.text("metadata");
        let name = if metadata.is_empty() { Some(Tree::Map(Vec::new())) } else { tree(metadata.as_bytes()) };
        if let Some(name) = name {
            assert_eq!(asked.clone().unwrap_or_default(), name.text("image-name"));
        }
    }
    if !bytes.is_empty() {
        let ours =
            read.iter().map(|(id, i, l, a)| serde_json::json!([id, i, l, a.clone().unwrap_or_default()])).collect();
        asked("containers", bytes, ours);
    }
}

fn manifest(bytes: &[u8]) {
    let read = match named(bytes) {
        Ok(read) => read,
        Err(refusal) => return refused(&refusal),
    };
    let config = read.config.clone();
    asked("manifest", bytes, serde_json::json!([config.unwrap_or_default(), read.layers, read.manifests]));
    let Some(tree) = tree(bytes) else { return };
    let digests = |name: &str| tree.list(name).iter().map(|d| d.text("digest")).collect::<Vec<_>>();
    let config = tree.field("config").map(|c| c.text("digest"));
    assert_eq!(read.config, config);
    assert_eq!((&read.layers, &read.manifests), (&digests("layers"), &digests("manifests")));
    // The one that differs in nothing but the case of a key.
    for key in ["config", "layers", "manifests", "digest"] {
        let (exact, other) = (format!("\"{key}\":"), format!("\"{}\":", key.to_uppercase()));
        let text = String::from_utf8_lossy(bytes);
        if tree.field(key).is_some() && text.matches(&exact).count() == 1 && text.matches(key).count() == 1 {
            let refusal = named(text.replace(&exact, &other).as_bytes()).expect_err("a key in capitals");
            assert_eq!(refusal.case(), Case::B13Folded, "{refusal}");
        }
    }
}

fn layers(bytes: &[u8]) {
    let read = match recorded_layers(bytes) {
        Ok(read) => read,
        Err(refusal) => return refused(&refusal),
    };
    if !bytes.is_empty() {
        asked("layers", bytes, read.iter().map(|layer| serde_json::json!(layer)).collect());
    }
}

fn list(bytes: &[u8]) {
    let ours = recorded_instances(bytes);
    let Some(go) = oracle("index", bytes) else { return };
    let shown = String::from_utf8_lossy(bytes);
    match go.as_array() {
        // What it reads over another list may be less; and what was no UTF-8 is no digest of any image.
        Some(found) => found
            .iter()
            .map(|digest| digest.as_str().unwrap())
            .filter(|digest| !digest.is_empty() && !digest.contains('\u{fffd}'))
            .for_each(|digest| assert!(ours.contains(digest), "{digest:?} is listed for Go: {ours:?} {shown}")),
        None => assert!(ours.is_empty() || go.to_string().contains("max depth"), "{go}: {ours:?} {shown}"),
    }
}

fuzz_target!(|bytes: &[u8]| {
    images(bytes);
    containers(bytes);
    layers(bytes);
    list(bytes);
    manifest(bytes);
});
