//! What verbs print with `--json`: as the types say, which is what docs/json.md is made of, and as it was when its version
//! was last raised (`golden.txt`).
#![allow(missing_docs)]

use std::collections::BTreeSet;
use std::path::Path;

use clap::CommandFactory as _;
use layerseal::cli::json;
use layerseal::cli::schema::{Shape, VERSION};
use serde_json::Value;
use support::common::{self, Bench, Layout, signer, two_layers};
use support::host::{self, AUDIT, Host};

fn here(name: &str) -> String {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(name);
    std::fs::read_to_string(&path).unwrap_or_else(|e| panic!("{}: {e}", path.display()))
}

fn shape(verb: &str) -> Shape {
    let page = json::pages().into_iter().find(|page| page.verb == verb);
    page.unwrap_or_else(|| panic!("{verb}: not in docs/json.md")).shape
}

/// A document of a verb, or that of a failure.
#[track_caller]
fn document(verb: &str, failed: bool, text: &str) -> Value {
    let mut value: Value = serde_json::from_str(text).unwrap_or_else(|e| panic!("{verb}: {e}: {text}"));
    let version = value.as_object_mut().and_then(|object| object.remove("version"));
    assert_eq!(version, Some(VERSION.into()), "{verb}: {text}");
    let shape = if failed { json::failure() } else { shape(verb) };
    assert_eq!(shape.differences(&value, ""), Vec::<String>::new(), "{verb}: {text}");
    value
}

#[test]
fn the_page_is_made_of_the_types() {
    assert!(here("docs/json.md") == json::page(), "run `make docs`");
}

/// Who changes this file changes what scripts read: see `VERSION`.
#[test]
fn documents_are_those_of_their_version() {
    let mut lines = vec![format!("version {VERSION}")];
    json::failure().flat("failure", &mut lines);
    json::pages().iter().for_each(|page| page.shape.flat(page.verb, &mut lines));
    let golden = here("tests/json/golden.txt");
    let (now, then): (BTreeSet<&str>, BTreeSet<&str>) =
        (lines.iter().map(String::as_str).collect(), golden.lines().collect());
    let (new, gone): (Vec<_>, Vec<_>) = (now.difference(&then).collect(), then.difference(&now).collect());
    let made = Path::new(env!("CARGO_TARGET_TMPDIR")).join("golden.txt");
    std::fs::write(&made, lines.join("\n") + "\n").unwrap();
    let copy = format!("if that is meant, copy {} to tests/json/golden.txt", made.display());
    assert!(new.is_empty() && gone.is_empty(), "new: {new:#?}\ngone, which is a new version: {gone:#?}\n{copy}");
}

/// Engines and runtimes call the others, in whose words they answer.
#[test]
fn every_verb_has_it() {
    fn look(command: &clap::Command, name: &str, without: &mut Vec<String>) {
        let verbs: Vec<_> = command.get_subcommands().filter(|verb| verb.get_name() != "help").collect();
        if verbs.is_empty() && !command.get_arguments().any(|a| a.get_long() == Some("json")) {
            without.push(name.to_owned());
        } else if verbs.is_empty() {
            let found = json::pages().iter().any(|page| page.verb == name);
            assert!(found, "{name}: not in docs/json.md");
        }
        for verb in verbs {
            look(verb, format!("{name} {}", verb.get_name()).trim(), without);
        }
    }
    let mut without = Vec::new();
    look(&layerseal::cli::args::Args::command(), "", &mut without);
    assert_eq!(without, ["hook createRuntime", "hook createContainer", "hook precreate", "runtime", "serve"]);
}

/// Runs a verb and looks at what it prints.
#[track_caller]
fn good(bench: &Bench, verb: &str, args: &[&str]) -> Value {
    let run = bench.run(&[args, &["--json"]].concat()).ok();
    document(verb, false, &run.stdout)
}

const SIGN: [&str; 6] = ["--cert", "signer.crt", "--key", "signer.key", "--identity", "example.com/app"];

#[test]
fn images_and_seals() {
    let bench = Bench::new();
    bench.signer("signer", signer());
    Layout::new(&bench.path("image"), &two_layers());
    Layout::new(&bench.path("label"), &two_layers());
    Layout::new(&bench.path("inline"), &two_layers());
    good(&bench, "seal", &["seal", "oci:label"]);
    let signed = good(&bench, "sign", &[&["sign", "oci:inline", "--inline"][..], &SIGN].concat());
    assert!(signed["images"][0]["sealed_image"].is_string() && signed["images"][0]["seal"].is_null(), "{signed}");
    let signed = good(&bench, "sign", &[&["sign", "oci:image", "--sequence", "7"][..], &SIGN].concat());
    let image = &signed["images"][0];
    assert!(image["seal"].is_string() && image["platform"].is_null(), "{signed}");

    let digests = good(&bench, "digest", &["digest", "oci:image", "--identity", "example.com/app", "--write", "parts"]);
    assert_eq!(digests["image"], image["image"]);
    let key = layerseal::pki::Signer::new(
        &signer().cert.to_pem().unwrap(),
        &signer().key.private_key_to_pem_pkcs8().unwrap(),
        None,
        "key",
    )
    .unwrap();
    for role in digests["roles"].as_array().unwrap() {
        let name = role["role"].as_str().unwrap();
        let to_sign = std::fs::read(bench.path("parts").join(format!("{name}.tosign"))).unwrap();
        assert_eq!(hex::encode(&to_sign), role["to_sign"].as_str().unwrap());
        bench.write(&format!("parts/{name}.sig"), &key.sign(&to_sign).unwrap());
    }
    let attached = good(&bench, "attach", &["attach", "oci:image", "--signatures", "parts", "--trust", "signer.crt"]);
    assert_eq!(attached["image"], image["image"]);
    std::fs::create_dir_all(bench.path("tree/usr")).unwrap();
    good(&bench, "digest --directory", &["digest", "--directory", "tree"]);

    let verified = good(&bench, "verify", &["verify", "oci:image", "--trust", "signer.crt"]);
    assert!(verified["seals"][0]["roles"][0]["signer"]["subject"].is_string(), "{verified}");
    let refused = bench.run(&["verify", "oci:label", "--trust", "signer.crt", "--json"]);
    assert_eq!((refused.code, &document("verify", false, &refused.stdout)["error"]["case"]), (3, &"C07".into()));
    for image in ["oci:image", "oci:inline", "oci:label"] {
        good(&bench, "inspect", &["inspect", image]);
    }

    let pulled = good(&bench, "pull", &["pull", "oci:image", "--name", "app", "--trust", "signer.crt"]);
    assert_eq!((&pulled["name"], &pulled["image"]), (&"app".into(), &image["image"]));
    let images = good(&bench, "images", &["images"]);
    assert_eq!(images["images"][0]["seals"], 2, "{images}");
    assert_eq!(good(&bench, "tag", &["tag", "app", "other"])["image"], image["image"]);
    good(&bench, "untag", &["untag", "other"]);
    let pushed = good(&bench, "push", &["push", "app", "oci:copy", "--signatures"]);
    assert_eq!(pushed["seals"].as_array().unwrap().len(), 2);
    good(&bench, "export-signatures", &["export-signatures", "app", "oci:seals"]);

    assert_eq!(good(&bench, "fsck", &["fsck"])["whole"], true);
    for layer in verified["layers"].as_array().unwrap() {
        let blob = bench.vault().join("blobs/sha256").join(&layer["digest"].as_str().unwrap()[7..]);
        std::fs::write(blob, b"damaged").unwrap();
    }
    common::walk(&bench.vault().join("objects"), &mut |object| std::fs::remove_file(object).unwrap());
    let run = bench.run(&["fsck", "--json"]);
    let found = document("fsck", false, &run.stdout);
    let one = &found["images"][0];
    assert_eq!(
        (run.code, &found["whole"], &one["blobs"][0]["fault"]),
        (4, &false.into(), &"damaged".into()),
        "{found}"
    );
    assert!(!one["damage"].as_array().unwrap().is_empty() && !one["documents"].as_array().unwrap().is_empty());

    good(&bench, "gc", &["gc", "--dry-run"]);
    good(&bench, "untag", &["untag", "app"]);
    let gone = good(&bench, "gc", &["gc"]);
    assert_eq!(gone["removed"]["images"].as_array().unwrap().len(), 1, "{gone}");
}

/// Of a multi-platform image every instance has a row, and one that cannot be signed does not keep the others from it.
#[test]
fn instances() {
    let bench = Bench::new();
    bench.signer("signer", signer());
    let layout = Layout::new(&bench.path("image"), &two_layers());
    let manifest = layout.manifest.to_string();
    // A layer of the second is not there.
    let layer = layout.manifest["layers"][0]["digest"].as_str().unwrap();
    let second = manifest.replace(layer, &format!("sha256:{}", "0".repeat(64)));
    let mut entries: Vec<Value> = [manifest, second]
        .iter()
        .map(|manifest| layout.descriptor("application/vnd.oci.image.manifest.v1+json", manifest.as_bytes()))
        .collect();
    for (entry, architecture) in entries.iter_mut().zip(["amd64", "s390x"]) {
        entry["platform"] = serde_json::json!({"os": "linux", "architecture": architecture});
    }
    let index = serde_json::json!({"schemaVersion": 2, "manifests": entries,
        "mediaType": "application/vnd.oci.image.index.v1+json"});
    let mut entry = layout.descriptor("application/vnd.oci.image.index.v1+json", index.to_string().as_bytes());
    entry["annotations"] = serde_json::json!({"org.opencontainers.image.ref.name": "latest"});
    layout.set_index(serde_json::json!([entry]));
    let run = bench.run(&[&["sign", "oci:image", "--json"][..], &SIGN].concat());
    let signed = document("sign", false, &run.stdout);
    let [first, second] = &signed["images"].as_array().unwrap()[..] else { panic!("{signed}") };
    assert!(first["platform"] == "linux/amd64" && first["seal"].is_string() && first["error"].is_null(), "{signed}");
    assert_eq!(
        (&second["platform"], &second["error"]["exit_code"]),
        (&"linux/s390x".into(), &run.code.into()),
        "{signed}"
    );
}

#[test]
fn what_is_refused() {
    let bench = Bench::new();
    let mut number = 0;
    for args in [
        &["pull", "oci:nowhere"][..],
        &["seal", "oci:nowhere"],
        &[&["sign", "oci:nowhere"][..], &SIGN].concat(),
        &["digest", "oci:nowhere"],
        &["attach", "oci:nowhere", "--signatures", "."],
        &["verify", "oci:nowhere"],
        &["fetch", "nothing"],
        &["prepare", "nothing"],
        &["check", "nothing"],
        &["deny", "oci:nowhere"],
        &["floors", "reset", "nothing"],
        &["trust", "add", "nowhere", "--store", "x"],
        &["mount", "nothing", "nowhere"],
        &["umount", "nowhere"],
        &["push", "nothing", "oci:to"],
        &["export-signatures", "nothing", "oci:to"],
        &["inspect", "nothing"],
        &["tag", "nothing", "name"],
        &["untag", "nothing"],
        &["fsck", "nothing"],
        &["vault", "create", "there is a blank", "--size", "20M"],
        &["keyring", "add-cert", "nowhere"],
        &["hook", "explain", "Z99"],
    ] {
        let run = bench.run(&[args, &["--json"]].concat());
        let error = document("", true, &run.stdout)["error"].clone();
        assert_eq!(error["exit_code"], run.code, "{args:?}");
        assert!(run.code != 0 && run.stderr.contains(error["message"].as_str().unwrap()), "{args:?}: {}", run.stderr);
        number += 1;
    }
    assert_eq!(number, 23);
}

#[test]
fn a_vault_in_a_file() {
    let bench = Bench::new();
    let run = bench.run(&["vault", "create", "place", "--size", "16M", "--json"]);
    // Nothing could remove it with the rest.
    let _ = std::process::Command::new("chattr").arg("-i").arg(bench.path("place")).status();
    let made = document("vault create", run.code != 0, &run.stdout);
    if run.code == 0 {
        assert!(made["unit"].as_str().unwrap().contains(made["file"].as_str().unwrap()), "{made}");
    } else {
        support::skip!(part: "no mkfs.ext4, or no fallocate: {made}");
    }
}

/// Of the kernel's keyring nothing is said where the kernel has none.
#[test]
fn this_host() {
    let bench = Bench::new();
    let doctor = bench.run(&["doctor", "--json"]);
    let doctor = document("doctor", false, &doctor.stdout);
    assert!(doctor["checks"].as_array().unwrap().len() > 10);
    let keyring = bench.run(&["keyring", "list", "--json"]);
    document("keyring list", keyring.code != 0, &keyring.stdout);
    let all = good(&bench, "hook explain CODE", &["hook", "explain", "4"]);
    assert!(all["cases"].as_array().unwrap().len() > 10);
    good(&bench, "hook explain CODE", &["hook", "explain", "O03"]);
}

#[test]
fn containers_and_mounts() {
    let Some(host) = Host::new(AUDIT) else { return };
    let run = |verb: &str, args: &[&str]| document(verb, false, &host.layerseal(&[args, &["--json"]].concat()).stdout);
    let prepared = run("prepare", &["prepare", "--all"]);
    let images = prepared["images"].as_array().unwrap();
    assert!(images.iter().any(|i| i["signer"].is_string()), "{prepared}");
    assert!(images.iter().any(|i| i["would_refuse"]["case"].is_string()), "{prepared}");
    assert_eq!(run("prepare", &["prepare", "--all", "--seal", "oci:app", "--seals-only"])["images"][0]["ready"], false);
    run("trust list", &["trust", "list"]);
    assert_eq!(run("trust add", &["trust", "add", "signer.crt"])["certificates"][0]["before"], true);
    run("floors list", &["floors", "list"]);
    host.sandbox.sh("mkdir -m 700 -p /var/lib/layerseal/floors");
    let floor = layerseal::digest::BlobDigest::of(b"example.com/x").hex();
    host.sandbox.sh(&format!("printf 'example.com/x\\n7\\n' >/var/lib/layerseal/floors/{floor}"));
    assert_eq!(run("floors list", &["floors", "list"])["floors"][0]["sequence"], 7);
    run("floors reset", &["floors", "reset", "example.com/x:1"]);
    document("setup", false, &host.verb(&["setup", "--json"]).stdout);
    assert_eq!(run("audit", &["audit"])["changed"], false);
    let enforced = host.verb(&["enforce", "--json"]);
    let found = document("enforce", false, &enforced.stdout);
    assert_eq!((enforced.code, &found["changed"]), (3, &false.into()), "{found}");
    let denied = run("deny", &["deny", &format!("sha256:{}", "0".repeat(64)), "--reason", "a test"]);
    assert_eq!(denied["entries"][0]["before"], false);
    let checked = host.verb(&["check", "--json"]);
    assert_eq!(checked.code, 3, "audit lets one pass: {checked:?}");
    let checked = document("check", false, &checked.stdout);
    let of = |name: &str| {
        checked["images"].as_array().unwrap().iter().find(|i| i["name"].as_str().unwrap().starts_with(name))
    };
    assert_eq!(of(host::APP).unwrap()["expected"]["verdict"], "sealed", "{checked}");
    assert_eq!(of(host::OTHER).unwrap()["expected"]["error"]["case"], "C07", "{checked}");
    // Nobody answers for these names.
    let fetched = host.verb(&["fetch", "--all", "--json"]);
    let fetched = document("fetch", false, &fetched.stdout);
    assert!(fetched["images"].as_array().unwrap().iter().all(|i| i["error"]["case"].is_string()), "{fetched}");
    run("policy check", &["policy", "check", host::APP]);
    assert_eq!(run("policy check", &["policy", "check", host::APP, "--namespace", "prod"])["namespace"], "prod");
    host.verb(&["hook", "createRuntime"]);
    let last = run("hook explain", &["hook", "explain"]);
    assert!(last["refused"]["case"].is_string() || last["audit"]["case"].is_string(), "{last}");

    let (container, other) =
        (host.container("c", &host.image(host::APP)), host.container("d", &host.image(host::OTHER)));
    host.start(&container);
    host.start(&other);
    let report = run("report", &["report", "--since", "1h"]);
    assert_eq!((&report["source"], &report["since"].is_i64()), (&"log".into(), &true), "{report}");
    let group = &report["groups"].as_array().unwrap().iter().find(|g| g["case"] == "C07").unwrap();
    assert_eq!((&group["decision"], &group["calls"]), (&"audit".into(), &1.into()), "{report}");
    let status = run("status", &["status"]);
    let mounts = status["mounts"].as_array().unwrap();
    assert!(mounts.iter().any(|m| m["kind"] == "sealed" && m["facts"]["blobs"][0][0] == "manifest"), "{status}");
    assert!(mounts.iter().any(|m| m["kind"] == "audit" && m["would_refuse"]["case"] == "C07"), "{status}");
    std::fs::create_dir(host.bench.path("root")).unwrap();
    let root = host.bench.path("root").display().to_string();
    let mount = ["mount", "oci:app", &root, "--trust", "signer.crt", "--verity", "off"];
    let mounted = run("mount", &mount);
    assert_eq!((&mounted["fresh"], &mounted["mount"]["target"]), (&true.into(), &root.as_str().into()), "{mounted}");
    let again = run("mount", &mount);
    assert_eq!((&again["fresh"], &again["mount"]), (&false.into(), &Value::Null));
    assert_eq!(run("umount", &["umount", &root])["target"], root.as_str());
    host.unmount(&container);
    host.unmount(&other);
}
