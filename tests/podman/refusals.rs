//! What layerseal refuses is a container that does not start, and podman tells its user why.

use std::path::{Path, PathBuf};

use serde_json::Value;

use crate::common::{self, walk};
use crate::image::{APP, FRESH};
use crate::podman::{Podman, Program, default_policy, forget_use, has_verity, sealed, signed};
use crate::ready;

impl Podman {
    /// `podman run` fails for one of these cases, and says so in one line of ours; nothing stays
    /// mounted.
    #[track_caller]
    pub fn refused(&self, image: &str, cases: &[&str]) {
        let before = self.container_mounts();
        let output = self.run(&["run", "--rm", image, "true"]);
        let error = String::from_utf8_lossy(&output.stderr);
        assert!(matches!(output.status.code(), Some(125 | 126)), "{:?}: {error}", output.status);
        let ours: Vec<&str> = error.lines().filter(|l| l.contains("[R-")).collect();
        assert_eq!(ours.len(), 1, "{error}");
        let line = ours[0].split("]: exit status").next().unwrap().trim_end_matches(']');
        let case = line.rsplit_once("[R-").map(|(_, case)| case).unwrap();
        assert!(cases.contains(&case), "wanted one of {cases:?}: {error}");
        println!("refused as it must be: {}", ours[0].rsplit("layerseal: ").next().unwrap());
        self.run(&["rm", "-fa", "-t", "0"]);
        assert_eq!(self.container_mounts(), before, "left behind by a refusal");
    }

    /// A container starts, sees what was sealed, and leaves nothing.
    #[track_caller]
    pub fn starts(&self, image: &str) {
        let look = "grep -q replaced /etc/kept && cat /usr/share/big >/dev/null && echo x >/etc/made";
        let output = self.run(&["run", "--rm", image, "sh", "-c", look]);
        let hooks = || self.host.sh("cat /run/layerseal/hooks/* 2>/dev/null || true");
        assert!(output.status.success(), "{} {}", String::from_utf8_lossy(&output.stderr), hooks());
        assert_eq!(self.container_mounts(), [""; 0]);
    }

    fn records(&self, file: &str) -> PathBuf {
        self.graph_root().join(file)
    }
}

/// A file that is put back at the end, whatever happens to it: moved away, so that the inode stays.
pub struct Kept {
    path: PathBuf,
    away: PathBuf,
}

impl Kept {
    fn replace(path: &Path, content: &[u8]) -> Self {
        let away = path.with_extension("kept");
        std::fs::rename(path, &away).unwrap();
        std::fs::write(path, content).unwrap();
        Self { path: path.to_owned(), away }
    }

    fn edit(path: &Path, change: impl FnOnce(&mut Vec<u8>)) -> Self {
        let mut content = std::fs::read(path).unwrap();
        change(&mut content);
        Self::replace(path, &content)
    }
}

impl Kept {
    /// It stays as it is.
    pub fn keep(self) {
        let _ = std::fs::remove_file(&self.away);
    }
}

impl Drop for Kept {
    fn drop(&mut self) {
        let _ = std::fs::rename(&self.away, &self.path);
    }
}

fn prepared() -> Podman {
    let podman = Podman::pulled(Program::Layerseal);
    podman.prepare(APP);
    podman
}

/// A file in the uppermost layer of APP that has one of this name; other images have layers of the same names.
pub fn in_diff(podman: &Podman, name: &str) -> PathBuf {
    let format = "{{.GraphDriver.Data.UpperDir}}:{{.GraphDriver.Data.LowerDir}}";
    let layers = podman.ok(&["image", "inspect", "--format", format, APP]);
    let mut found = layers.trim().split(':').map(|layer| podman.host.inside(layer).join(name)).filter(|p| p.exists());
    found.next().unwrap_or_else(|| panic!("no {name} in {layers}"))
}

/// Nobody need sign again what only this disk has lost.
#[test]
fn h08_a_layer_that_the_disk_damaged_is_said_to_be_that() {
    if !ready("a damaged layer") {
        return;
    }
    for program in [Program::Hooked, Program::Layerseal] {
        let podman = Podman::new(program);
        forget_use(&podman);
        let _kept = Kept::edit(&in_diff(&podman, "usr/share/big"), |content| content[70_000] ^= 1);
        let output = podman.try_prepare(APP, &sealed(APP));
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(said.contains("the layer here is damaged") && !said.contains("sign"), "{program:?}: {said}");
    }
}

#[test]
fn c07_an_image_without_seal_does_not_start() {
    if !ready("c07 through podman") {
        return;
    }
    let podman = Podman::pulled(Program::Layerseal);
    podman.refused(APP, &["C07"]);
    let output = podman.run(&["image", "mount", APP]);
    assert!(!output.status.success() && String::from_utf8_lossy(&output.stderr).contains("[R-C07]"));
    assert_eq!(podman.container_mounts(), [""; 0]);
    podman.prepare(APP);
    podman.starts(APP);
}

#[test]
fn e07_a_seal_of_a_stranger_does_not_count() {
    if !ready("e07 through podman") {
        return;
    }
    let podman = Podman::pulled(Program::Layerseal);
    let trusted = |who: &common::Signer| {
        podman.host.write("/etc/layerseal/trust.d/acme/acme.crt", who.cert.to_pem().unwrap());
    };
    // Somebody trusts the stranger for a while, and no longer.
    trusted(common::stranger());
    let output = podman.try_prepare(APP, &signed(APP, common::stranger()));
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    podman.starts(APP);
    trusted(common::signer());
    podman.refused(APP, &["E07"]);
    podman.prepare(APP);
    podman.starts(APP);
}

#[test]
fn f03_without_a_policy_nothing_starts() {
    if !ready("f03 through podman") {
        return;
    }
    let podman = prepared();
    std::fs::remove_file(podman.host.inside("/etc/layerseal/policy.toml")).unwrap();
    podman.refused(APP, &["F03"]);
    podman.policy("version = 1\n[default]\nmode = \"of\"\n");
    podman.refused(APP, &["F03"]);
    podman.policy(&default_policy().replace("\"acme\"", "\"nobody\""));
    podman.refused(APP, &["F01", "F03"]);
    podman.policy(&default_policy());
    podman.starts(APP);
}

#[test]
fn h08_a_file_changed_before_the_first_use_is_found() {
    if !ready("a file changed before the first use") {
        return;
    }
    let podman = prepared();
    forget_use(&podman);
    let damaged = ["G03", "H08", "D07", "H11", "I02", "B02", "B09"];
    {
        let _kept = Kept::edit(&in_diff(&podman, "usr/share/big"), |content| content[70_000] ^= 1);
        podman.refused(APP, &damaged);
    }
    {
        let _kept = Kept::edit(&in_diff(&podman, "usr/share/big"), |content| content.truncate(70_000));
        podman.refused(APP, &damaged);
    }
    podman.starts(APP);
    // What is added to a layer is not part of what was sealed.
    std::fs::write(in_diff(&podman, "opt").join("added"), "#!/bin/sh\n").unwrap();
    let listed = podman.ok(&["run", "--rm", APP, "sh", "-c", "ls /opt; sleep 0.3"]);
    assert_eq!(listed.trim(), "app");
}

#[test]
fn g03_a_file_of_the_vault_changed_after_preparation_is_found() {
    if !ready("a file of the vault changed") {
        return;
    }
    let podman = prepared();
    let mut images = Vec::new();
    let mut big = None;
    walk(&podman.graph_root().join("layerseal/objects"), &mut |file| {
        let content = std::fs::read(file).unwrap();
        if content.get(1024..1028) == Some(&0xE0F5_E1E2_u32.to_le_bytes()) {
            images.push(file.to_owned());
        } else if content.len() == crate::image::BIG {
            big = Some(file.to_owned());
        }
    });
    assert!(!images.is_empty());
    {
        // The name of a file in the image's metadata.
        let _kept: Vec<Kept> =
            images.iter().map(|i| Kept::edit(i, |content| *content.last_mut().unwrap() ^= 1)).collect();
        podman.refused(APP, &["G01", "G03", "H09", "I02", "G05"]);
    }
    podman.starts(APP);
    // Without fs-verity nobody checks objects; docs/threat-model.md says so.
    if has_verity() {
        let _kept = Kept::edit(&big.unwrap(), |content| content[70_000] ^= 1);
        let output = podman.run(&["run", "--rm", APP, "sh", "-c", "cat /usr/share/big >/dev/null && echo altered"]);
        let text = String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr);
        assert!(!output.status.success() && !text.contains("altered"), "{text}");
        assert!(text.contains("[R-") || text.contains("I/O error") || text.contains("Input/output error"), "{text}");
    } else {
        support::skip!(part: "an object of the vault changed: it takes fs-verity to notice");
    }
    podman.starts(APP);
}

/// Changes the records of the store as somebody with the disk can.
pub fn edit_json(podman: &Podman, file: &str, change: impl FnOnce(&mut Vec<Value>)) -> Kept {
    Kept::edit(&podman.records(file), |content| {
        let mut records: Vec<Value> = serde_json::from_slice(content).unwrap();
        change(&mut records);
        *content = serde_json::to_vec(&records).unwrap();
    })
}

fn named<'a>(images: &'a mut [Value], name: &str) -> &'a mut Value {
    images.iter_mut().find(|i| i["names"][0] == name).unwrap()
}

#[test]
fn b03_edited_records_of_the_store_are_found() {
    if !ready("edited records of the store") {
        return;
    }
    let podman = prepared();
    let images = "overlay-images/images.json";
    {
        // The name of one image on another.
        let _kept = edit_json(&podman, images, |records| {
            named(records, APP)["names"] = serde_json::json!(["registry.example.com/acme/old:1"]);
            named(records, FRESH)["names"] = serde_json::json!([APP]);
        });
        podman.refused(APP, &["C07", "D18"]);
    }
    {
        // The layers of one image for another.
        let _kept = edit_json(&podman, images, |records| {
            let layer = named(records, FRESH)["layer"].clone();
            named(records, APP)["layer"] = layer;
        });
        podman.refused(APP, &["B03", "B02", "B05"]);
    }
    {
        let _kept = edit_json(&podman, "overlay-layers/layers.json", |records| {
            let other = records[0]["diff-digest"].clone();
            records[1]["diff-digest"] = other;
        });
        podman.refused(APP, &["B02", "B03"]);
    }
    let manifest = manifest_of(&podman);
    {
        let _kept = Kept::edit(&manifest, |content| content.push(b' '));
        podman.refused(APP, &["B05", "C07", "C04", "B03", "D04"]);
    }
    podman.starts(APP);
}

/// The manifest that the store keeps of the image.
fn manifest_of(podman: &Podman) -> PathBuf {
    let bytes = std::fs::read(podman.records("overlay-images/images.json")).unwrap();
    let mut images: Vec<Value> = serde_json::from_slice(&bytes).unwrap();
    let id = named(&mut images, APP)["id"].as_str().unwrap().to_owned();
    podman.records("overlay-images").join(id).join("manifest")
}
