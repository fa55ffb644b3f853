//! What an administrator does with podman's own images: publishing one that was built here, a pod whose infra container is
//! sealed like any other, and a look at what runs.

use std::path::Path;

use serde_json::Value;

use crate::common;
use crate::guard::text;
use crate::image::{APP, FRESH};
use crate::podman::{Podman, Program, default_policy, sealed};
use crate::ready;
use support::tools::{Site, path};

/// Built here, pushed, sealed where it lies, and started here without a pull.
#[test]
fn sign_push_seals_what_podman_built() {
    if !ready("sign --push") {
        return;
    }
    let Some(site) = Site::plain() else { return };
    let podman = Podman::pulled(Program::Hooked);
    if !podman.has_program("skopeo") && std::env::var_os("LAYERSEAL_TEST_ROOT").is_some() {
        support::skip!("no skopeo in the userland that podman is of");
    }
    podman.host.write("/var/tmp/signer.crt", common::signer().cert.to_pem().unwrap());
    podman.host.write("/var/tmp/signer.key", common::signer().key.private_key_to_pem_pkcs8().unwrap());
    podman.ok(&["tag", FRESH, "localhost/built:1"]);
    podman.ok(&["untag", FRESH, FRESH]);
    let name = format!("{}:7", site.repository("built/here"));
    let to = format!("docker://{name}");
    let binary = common::binary().display().to_string();
    let sign = |args: &[&str]| {
        let key = ["--cert", "/var/tmp/signer.crt", "--key", "/var/tmp/signer.key", "--tls-verify=false"];
        let args = [&["sign"], args, &key].concat();
        podman.host.command(&binary, &args).env("PATH", path(site.skopeo)).output().unwrap()
    };
    let output = sign(&["localhost/built:1", "--push", &to, "--json"]);
    assert!(output.status.success(), "{}", text(&output));
    let signed: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert!(signed["images"][0]["seal"].is_string(), "{signed}");
    // Its old name is not what it was sealed for, and its rule asks for nothing; by the new one it starts.
    let run = ["run", "--rm", "--pull=never", &name, "true"];
    podman.ok(&run);
    assert_eq!(podman.last("precreate"), ("allowed".into(), String::new()));
    let (checked, code) = podman.verb(&["check", &name]);
    assert_eq!((&checked["images"][0]["expected"]["verdict"], code), (&"sealed".into(), 0), "{checked}");
    // What keeps podman from pushing is told in our cases, and a name of podman's leads on.
    let key = ["--cert", "/var/tmp/signer.crt", "--key", "/var/tmp/signer.key"];
    for (args, code, words) in [
        (&["localhost/built:1", "--push", &to][..], 7, ["R-C10", "--tls-verify=false"]),
        (&["localhost/built:1", "--push", "docker://127.0.0.1:1/built/here:1"], 7, ["R-C17", "podman push"]),
        (&["localhost/built:1"], 2, ["R-X04", "--push docker://HOST/NAME:TAG"]),
    ] {
        let args = [&["sign"], args, &key].concat();
        let output = podman.host.command(&binary, &args).env("PATH", path(site.skopeo)).output().unwrap();
        let said = text(&output);
        assert_eq!(output.status.code(), Some(code), "{args:?}: {said}");
        assert!(words.iter().all(|word| said.contains(word)), "{args:?}: {said}");
    }
    for bad in [&["localhost/none:1", "--push", &to][..], &["localhost/built:1", "--push", "oci:x"]] {
        let output = sign(bad);
        assert_eq!(output.status.code(), Some(2), "{bad:?}: {}", text(&output));
    }
}

/// podman makes the infra container of the image that containers.conf names: a sealed one needs no rule that others could
/// borrow.
#[test]
fn a_pod_with_a_sealed_infra_image_needs_no_rule() {
    if !ready("pods") {
        return;
    }
    let podman = Podman::with_both(Program::Hooked);
    let verity = if crate::podman::has_verity() { "require" } else { "off" };
    podman.policy(&format!("version = 1\n[default]\nmode = \"enforce\"\ntrust = [\"acme\"]\nverity = \"{verity}\"\n"));
    let create = ["pod", "create", "--name", "p", "--infra-command", "sleep 1000", "--share", "ipc"];
    let conf = podman.host.sh("cat /etc/containers/containers.conf");
    let infra = |podman: &Podman, image: &str| {
        podman.host.write("/etc/containers/containers.conf", format!("{conf}infra_image = \"{image}\"\n"));
    };
    infra(&podman, FRESH);
    podman.ok(&create);
    let said = podman.run(&["run", "--pod", "p", "--name", "c", APP, "true"]);
    let explained = || podman.verb(&["hook", "explain"]);
    assert!(said.status.success(), "{} {:?}", text(&said), explained());
    assert_eq!(podman.last("precreate"), ("allowed".into(), String::new()));
    let (status, _) = podman.verb(&["status"]);
    let infra_runs = |m: &Value| m["names"][0] == FRESH && m["kind"] == "sealed";
    assert!(status["mounts"].as_array().unwrap().iter().any(infra_runs), "{status}");
    // podman 4.3 hands mounts over in another order each time, some of them of the infra container's files.
    for _ in 0..12 {
        podman.ok(&["run", "--rm", "--pod", "p", APP, "true"]);
    }
    podman.ok(&["pod", "rm", "-f", "-t", "0", "p"]);
    // One that nobody sealed does not start.
    podman.ok(&["tag", FRESH, "localhost/pause:1"]);
    infra(&podman, "localhost/pause:1");
    podman.ok(&create);
    assert!(!podman.run(&["pod", "start", "p"]).status.success());
    assert_eq!(podman.last("precreate"), ("refused".into(), "D18".into()));
    podman.run(&["pod", "rm", "-f", "-t", "0", "p"]);
}

/// Containers are called by their names, what nobody verified is in the list, and it fits a terminal.
#[test]
fn status_names_containers_and_fits() {
    if !ready("status") {
        return;
    }
    let podman = Podman::new(Program::Hooked);
    podman.policy(&default_policy().replace("\"enforce\"", "\"audit\""));
    podman.ok(&["tag", FRESH, "localhost/built:1"]);
    for (name, image) in [("sealed-one", APP), ("unsealed-one", FRESH)] {
        podman.ok(&["run", "-d", "--name", name, image, "sleep", "1000"]);
    }
    podman.ok(&["untag", FRESH, FRESH]);
    podman.ok(&["run", "-d", "--name", "off-one", "localhost/built:1", "sleep", "1000"]);
    let binary = common::binary().display().to_string();
    let table = podman.host.sh(&format!("{binary} status"));
    assert!(table.lines().all(|line| line.chars().count() <= 100), "{table}");
    let row = |name: &str| -> Vec<String> {
        let line = table.lines().find(|line| line.starts_with(name)).unwrap_or_else(|| panic!("{name}: {table}"));
        line.split_whitespace().map(str::to_owned).collect()
    };
    assert_eq!(row("sealed-one")[1..3], [APP.to_owned(), "sealed".to_owned()]);
    assert_eq!(row("off-one")[1..3], ["localhost/built:1".to_owned(), "off".to_owned()]);
    assert_eq!(row("unsealed-one")[2..4], ["audit".to_owned(), "C07".to_owned()], "{table}");
    let images = podman.host.sh(&format!("{binary} images"));
    assert!(images.contains(APP), "podman's name: {images}");
    let fsck = podman.host.sh(&format!("{binary} fsck"));
    assert!(fsck.contains(&format!("{APP}: ")) && Path::new(&binary).exists(), "{fsck}");
    podman.run(&["rm", "-fa", "-t", "0"]);
}

/// What podman calls an image is what it is called in everything that layerseal says of it, and what it can be asked by.
#[test]
fn podmans_names_are_in_gc_verify_and_inspect() {
    if !ready("names of podman") {
        return;
    }
    let podman = Podman::new(Program::Hooked);
    let id = podman.ok(&["image", "inspect", "--format", "{{.Id}}", APP]).trim().to_owned();
    for name in [APP, APP.trim_start_matches("registry.example.com/"), &id[..12]] {
        let (inspected, code) = podman.verb(&["inspect", name]);
        assert_eq!((&inspected["store_names"][0], code), (&APP.into(), 0), "{name}: {inspected}");
        let (checked, code) = podman.verb(&["fsck", name]);
        assert_eq!((&checked["images"][0]["name"], code), (&APP.into(), 0), "{name}: {checked}");
    }
    let trust = ["--trust", "/etc/layerseal/trust.d/acme/acme.crt"];
    let layout = format!("oci:{}:{APP}", sealed(APP).display());
    let (verified, code) = podman.verb(&[&["verify", &layout], &trust[..]].concat());
    assert_eq!((&verified["store_names"][0], code), (&APP.into(), 0), "{verified}");
    // The layers of podman's images are podman's: that they are not in the vault is no damage.
    let (refused, code) = podman.verb(&[&["verify", APP], &trust[..]].concat());
    let said = refused["error"]["message"].to_string();
    assert!(code == 2 && said.contains(&format!("`layerseal check {APP}`")), "{refused}");
    // Of this one the vault has nothing yet.
    for verb in ["inspect", "fsck"] {
        let (refused, code) = podman.verb(&[verb, FRESH]);
        let said = refused["error"]["message"].to_string();
        assert!(code == 2 && said.contains("layerseal prepare"), "{verb}: {refused}");
    }
    podman.ok(&["rmi", APP]);
    let (collected, _) = podman.verb(&["gc", "--dry-run"]);
    assert_eq!(collected["removed"]["details"][0]["identities"][0], "registry.example.com/acme/app", "{collected}");
    let binary = common::binary().display().to_string();
    let said = podman.host.sh(&format!("{binary} gc"));
    assert!(said.contains("(sealed for registry.example.com/acme/app)"), "{said}");
}
