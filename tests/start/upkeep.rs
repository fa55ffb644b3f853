//! The verbs that change what a host asks: each is followed by a start.

use serde_json::Value;

use crate::host::{APP, AUDIT, ENFORCE, Host, OTHER, TWIN};

/// What a verb says with `--json`.
#[track_caller]
fn said(host: &Host, args: &[&str]) -> Value {
    serde_json::from_str(&host.layerseal(&[args, &["--json"]].concat()).stdout).unwrap()
}

fn etc(host: &Host, name: &str) -> String {
    std::fs::read_to_string(host.bench.path("etc/layerseal").join(name)).unwrap_or_default()
}

#[test]
fn f06_deny_an_image_a_digest_and_a_certificate() {
    let Some(host) = Host::new(ENFORCE) else { return };
    let [app, twin] = [(APP, "c"), (TWIN, "d")].map(|(name, c)| host.container(c, &host.image(name)));
    let name = format!("{APP}:v1");
    let denied = said(&host, &["deny", &name, "--reason", "CVE\n  sha256:x"]);
    let entries = denied["entries"].as_array().unwrap();
    assert!(entries.len() == 2 && entries.iter().all(|e| e["before"] == false), "{denied}");
    let list = etc(&host, "deny.d/denied.list");
    assert!(list.lines().count() == 2 && list.contains("CVE") && list.contains(&name), "{list}");
    host.start_refused(&app, 4, "F06");
    host.start(&twin).ok();
    host.unmount(&twin);
    // Once more changes nothing, and audit does not let it pass.
    assert_eq!(said(&host, &["deny", &name])["entries"][0]["before"], true);
    assert_eq!(etc(&host, "deny.d/denied.list"), list);
    host.config("policy.toml", AUDIT);
    host.start_refused(&app, 4, "F06");
    host.config("policy.toml", ENFORCE);
    let manifest = entries[0]["digest"].as_str().unwrap();
    host.bench.write("etc/layerseal/deny.d/denied.list", b"");
    host.start(&app).ok();
    host.unmount(&app);
    said(&host, &["deny", manifest]);
    host.start_refused(&app, 4, "F06");
    // The signer of both.
    host.layerseal(&["deny", "signer.crt", "--reason", "the key was lost"]);
    host.start_refused(&twin, 4, "F06");
    assert_eq!(said(&host, &["deny", "signer.crt"])["entries"][0]["before"], true);
    for bad in ["sha256:00", "no/such/image", "", "oci:nowhere"] {
        assert_ne!(host.verb(&["deny", bad]).code, 0, "{bad}");
    }
    // An image that is not here yet.
    let layout = said(&host, &["deny", "oci:other"]);
    let other = host.container("e", &host.image(OTHER));
    assert_eq!(layout["entries"].as_array().unwrap().len(), 2, "{layout}");
    host.start_refused(&other, 4, "F06");
}

#[test]
fn d10_floors_are_listed_and_reset() {
    let Some(host) = Host::bare(&format!("{ENFORCE}rollback = \"refuse\"\n")) else { return };
    assert_eq!(host.layerseal(&["floors", "list"]).stdout, "");
    for (layout, name) in [("app", APP), ("twin", TWIN)] {
        let (seals, layout) = (format!("oci:seals-{layout}"), format!("oci:{layout}"));
        let sign = ["sign", &layout, "--cert", "signer.crt", "--key", "signer.key", "--identity", name];
        host.bench.run(&[&sign[..], &["--sequence", "5", "--output", &seals]].concat()).ok();
        host.layerseal(&["prepare", &format!("{name}:v1"), "--seal", &seals]);
    }
    assert_eq!(said(&host, &["floors", "list"])["floors"][0]["sequence"], 5);
    let app = host.container("c", &host.image(APP));
    let file = |name: &str| layerseal::digest::BlobDigest::of(name.as_bytes()).hex();
    let floors = "/var/lib/layerseal/floors";
    host.sandbox.sh(&format!("mkdir -m 700 -p {floors}; printf '{APP}\\n7\\n' >{floors}/{}", file(APP)));
    host.sandbox.sh(&format!("echo damaged >{floors}/{}", file(TWIN)));
    host.start_refused(&app, 4, "D10");
    let list = said(&host, &["floors", "list"]);
    let of =
        |name: &str| list["floors"].as_array().unwrap().iter().find(|f| f["name"] == name).unwrap()["sequence"].clone();
    assert_eq!((of(APP), of(&file(TWIN))), (7.into(), Value::Null), "{list}");
    assert_eq!(host.verb(&["floors", "reset", "registry.example.com/acme/none"]).code, 2);
    // As podman names it.
    said(&host, &["floors", "reset", &format!("{APP}:v1")]);
    // One that was refused stays so; a new one starts.
    let app = host.container("again", &host.image(APP));
    host.start(&app).ok();
    host.unmount(&app);
    // One that cannot be read: by its name as well as by its file's.
    let twin = host.container("d", &host.image(TWIN));
    assert_ne!(host.start(&twin).code, 0);
    said(&host, &["floors", "reset", TWIN]);
    let twin = host.container("twin again", &host.image(TWIN));
    host.start(&twin).ok();
    host.unmount(&twin);
    // What is accepted is noted again.
    let list = said(&host, &["floors", "list"]);
    assert!(list["floors"].as_array().unwrap().iter().all(|f| f["sequence"] == 5), "{list}");
}

/// Where no name is asked for, a statement's names are only as good as the trust in who signed it.
#[test]
fn d10_only_a_signer_who_is_trusted_for_a_name_raises_its_floor() {
    let strict = format!("{ENFORCE}rollback = \"refuse\"\n");
    let Some(host) = Host::bare(&strict) else { return };
    let stranger = crate::common::stranger();
    host.bench.write("stranger.crt", &stranger.cert.to_pem().unwrap());
    host.bench.write("stranger.key", &stranger.key.private_key_to_pem_pkcs8().unwrap());
    host.config("trust.d/others/x.crt", std::str::from_utf8(&stranger.cert.to_pem().unwrap()).unwrap());
    let rule = |image: &str, more: &str| format!("[[rule]]\nimage = \"{image}\"\ntrust = [\"others\"]\n{more}");
    let sealed = |layout: &str, signer: &str, sequence: &str| {
        let [cert, key] = ["crt", "key"].map(|end| format!("{signer}.{end}"));
        let sign = ["sign", &format!("oci:{layout}"), "--cert", &cert, "--key", &key, "--sequence", sequence];
        let names = ["--identity", APP, "--identity", OTHER];
        host.bench.run(&[&sign[..], &names, &["--output", &format!("oci:seals-{layout}")]].concat()).ok();
        format!("oci:seals-{layout}")
    };
    let floors = || {
        let list = said(&host, &["floors", "list"]);
        let row = |f: &Value| (f["name"].as_str().unwrap().to_owned(), f["sequence"].as_u64().unwrap());
        list["floors"].as_array().unwrap().iter().map(row).collect::<Vec<_>>()
    };
    let other = format!("{OTHER}:v1");
    let seals = sealed("other", "stranger", "900");
    host.config("policy.toml", &format!("{strict}{}", rule(OTHER, "identity = false\n")));
    host.layerseal(&["prepare", &other, "--seal", &seals]);
    assert_eq!(floors(), [(OTHER.to_owned(), 900)]);
    // An image without a name is asked for none either.
    host.sandbox.sh("rm -r /var/lib/layerseal/floors");
    let image = host.image(OTHER);
    host.config("policy.toml", &format!("{strict}{}", rule("<none>", "")));
    crate::names::rename(&host, &image, &[]);
    host.start(&host.container("c", &image)).ok();
    assert_eq!(floors(), []);
    // Who is trusted with both names raises both.
    host.config("policy.toml", &format!("{strict}{}{}{}", rule("<none>", ""), rule(APP, ""), rule(OTHER, "")));
    host.start(&host.container("d", &image)).ok();
    assert_eq!(floors(), [(APP.to_owned(), 900), (OTHER.to_owned(), 900)]);
}

/// It is no image that is missing, and what is said leads to the list of floors.
#[test]
fn x15_a_floor_that_is_none_is_told() {
    let Some(host) = Host::new(ENFORCE) else { return };
    let none = host.verb(&["floors", "reset", "registry.example.com/acme/none"]);
    assert!(none.code == 2 && none.stderr.contains("floors list") && none.stderr.contains("[R-X15]"), "{none:?}");
    assert!(!none.stderr.contains("image"), "{none:?}");
}

#[test]
fn trust_is_added_to_the_store_that_the_policy_names() {
    let Some(host) = Host::new(ENFORCE) else { return };
    let app = host.container("c", &host.image(APP));
    let stranger = crate::common::stranger().cert.to_pem().unwrap();
    host.bench.write("stranger.crt", &stranger);
    host.config("trust.d/acme/signer.crt", std::str::from_utf8(&stranger).unwrap());
    host.start_refused(&app, 4, "E07");
    // One that was refused stays so; a new one starts.
    let app = host.container("again", &host.image(APP));
    let added = said(&host, &["trust", "add", "signer.crt"]);
    assert_eq!(
        (&added["store"], &added["used"], &added["certificates"][0]["before"]),
        (&"acme".into(), &true.into(), &false.into())
    );
    host.start(&app).ok();
    host.unmount(&app);
    assert_eq!(said(&host, &["trust", "add", "signer.crt"])["certificates"][0]["before"], true);
    let other = said(&host, &["trust", "add", "stranger.crt", "--store", "other"]);
    assert_eq!(other["used"], false, "{other}");
    let list = said(&host, &["trust", "list"]);
    let stores = list["stores"].as_array().unwrap();
    assert_eq!(
        stores.iter().map(|s| s["certificates"].as_array().unwrap().len()).collect::<Vec<_>>(),
        [2, 1],
        "{list}"
    );
    assert_eq!(stores[1]["used"], false);
    for bad in [
        &["trust", "add", "oci"][..],
        &["trust", "add", "signer.crt", "--store", "../x"],
        &["trust", "add", "signer.key"],
    ] {
        assert_ne!(host.verb(bad).code, 0, "{bad:?}");
    }
    // A policy whose only store is still empty is no reason not to fill it.
    host.sandbox.sh("rm -r /etc/layerseal/trust.d");
    assert_eq!(host.verb(&["trust", "add", "signer.crt"]).code, 2, "it does not say which");
    said(&host, &["trust", "add", "signer.crt", "--store", "acme"]);
    host.start(&app).ok();
    host.unmount(&app);
}

/// From nothing to audit, from there to enforce, which waits until nothing would be refused, and back.
#[test]
fn setup_enforce_and_back() {
    let Some(host) = Host::new(ENFORCE) else { return };
    let (app, other) = (host.container("c", &host.image(APP)), host.container("d", &host.image(OTHER)));
    let mode = |host: &Host| said(host, &["policy", "check", OTHER])["mode"].clone();
    host.sandbox.sh("rm /etc/layerseal/policy.toml");
    // There is no hook here, which is told, and no reason not to begin.
    let ran = host.verb(&["setup", "--json"]);
    let done: Value = serde_json::from_str(&ran.stdout).unwrap();
    let found = (&done["policy"], &done["mode"], &done["stores"][0]);
    assert_eq!(found, (&"/etc/layerseal/policy.toml".into(), &"audit".into(), &"acme".into()), "{ran:?}");
    assert!(done["checks"].as_array().unwrap().iter().any(|c| c["check"] == "podman's hook precreate"), "{done}");
    host.config("policy.toml", &(etc(&host, "policy.toml") + "verity = \"off\"\n"));
    let written = etc(&host, "policy.toml");
    let again: Value = serde_json::from_str(&host.verb(&["setup", "--json"]).stdout).unwrap();
    assert_eq!((&again["policy"], etc(&host, "policy.toml")), (&Value::Null, written.clone()));
    assert_eq!(host.start(&other).code, 0, "what ran before starts");
    host.unmount(&other);

    let ran = host.verb(&["enforce"]);
    assert_eq!((ran.code, etc(&host, "policy.toml")), (3, written.clone()), "{ran:?}");
    assert!(ran.stdout.contains(&format!("{OTHER}:v1")) && ran.stdout.contains("--force"), "{ran:?}");
    assert!(!ran.stdout.contains(&format!("{APP}:v1,")), "only what would be refused: {ran:?}");
    assert_eq!(mode(&host), "audit");
    assert_eq!(said(&host, &["enforce", "--force"])["changed"], true);
    assert_eq!(
        (mode(&host), etc(&host, "policy.toml")),
        ("enforce".into(), written.replace("mode = \"audit\"", "mode = \"enforce\""))
    );
    host.start_refused(&other, 3, "C07");
    host.start(&app).ok();
    host.unmount(&app);
    assert_eq!(said(&host, &["enforce"])["changed"], false, "it is so already");
    assert_eq!(said(&host, &["audit"])["changed"], true);
    assert_eq!(etc(&host, "policy.toml"), written);
    // A rule for what is not sealed, and there is nothing to refuse.
    host.config("policy.toml", &format!("{written}[[rule]]\nimage = \"{OTHER}\"\nmode = \"off\"\n"));
    let done = said(&host, &["enforce"]);
    assert_eq!((&done["changed"], &done["checks"]["sum"]["refused"]), (&true.into(), &0.into()), "{done}");
    host.start(&app).ok();
    host.start(&other).ok();
    host.unmount(&app);
    host.unmount(&other);
    // What a package brought is hidden, and not changed.
    host.sandbox.sh("mkdir -p /run/layerseal; mv /etc/layerseal/policy.toml /run/layerseal/policy.toml");
    said(&host, &["audit"]);
    assert_eq!(mode(&host), "off");
    assert!(etc(&host, "policy.toml").contains("mode = \"audit\""));
    // A policy that cannot be used is nobody's to change.
    host.config("policy.toml", "version = 1\n[default]\nmode = \"sometimes\"\n");
    for verb in ["setup", "enforce", "audit"] {
        assert_eq!(host.verb(&[verb]).code, 5, "{verb}");
    }
}
