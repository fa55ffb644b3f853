//! Group F: the policy, and what it denies.

use layerseal::digest::Algorithm;
use serde_json::json;

use crate::common::{signer, stranger};
use crate::host::{APP, AUDIT, Container, ENFORCE, EVIL, Host, OFF, OTHER, TOOL, random_id};

#[test]
fn f03_without_a_policy_that_can_be_used_nothing_starts() {
    let Some(host) = Host::new(ENFORCE) else { return };
    let container = host.container("c", &host.image(APP));
    let path = host.bench.path("etc/layerseal/policy.toml");
    for bad in
        ["", "version = 2", "version = 1\n[default]\nmode = \"of\"", "mode = \"off\"", "version = 1\nx = 1", "\u{0}"]
    {
        host.config("policy.toml", bad);
        host.start_refused(&container, 5, "F03");
    }
    std::fs::remove_file(&path).unwrap();
    host.start_refused(&container, 5, "F03");
    // What somebody else could have written.
    host.config("policy.toml", OFF);
    use std::os::unix::fs::PermissionsExt as _;
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o666)).unwrap();
    host.start_refused(&container, 5, "F03");
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o644)).unwrap();
    std::os::unix::fs::chown(&path, Some(1000), None).unwrap();
    host.start_refused(&container, 5, "F03");
    std::fs::remove_file(&path).unwrap();
    std::os::unix::fs::symlink(host.bench.write("p.toml", OFF.as_bytes()), &path).unwrap();
    host.start_refused(&container, 5, "F03");
    std::fs::remove_file(&path).unwrap();
    host.config("policy.toml", ENFORCE);
    let trust = host.bench.path("etc/layerseal/trust.d/acme");
    std::fs::set_permissions(&trust, std::fs::Permissions::from_mode(0o777)).unwrap();
    host.start_refused(&container, 5, "F03");
    std::fs::set_permissions(&trust, std::fs::Permissions::from_mode(0o755)).unwrap();
    std::fs::rename(trust.join("signer.crt"), trust.join("signer.crt~")).unwrap();
    host.start_refused(&container, 5, "F01");
    std::fs::write(trust.join("signer.crt"), "no certificate").unwrap();
    host.start_refused(&container, 5, "F02");
    std::fs::rename(trust.join("signer.crt~"), trust.join("signer.crt")).unwrap();
    host.start(&container).ok();
}

#[test]
fn f04_the_most_specific_rule_counts_and_an_alias_loosens_nothing() {
    let Some(host) = Host::new(ENFORCE) else { return };
    let container = host.container("c", &host.image(OTHER));
    let rule = |image: &str, mode: &str| format!("[[rule]]\nimage = \"{image}\"\nmode = \"{mode}\"\n");
    host.config(
        "policy.toml",
        &format!("{ENFORCE}{}{}", rule("registry.example.com/*", "off"), rule(OTHER, "enforce")),
    );
    host.start_refused(&container, 3, "C07");
    // One more name, for which nothing is asked.
    host.edit("overlay-images/images.json", |all| {
        let other = all.iter_mut().find(|i| i["names"] == json!([format!("{OTHER}:v1")])).unwrap();
        other["names"] = json!(["registry.example.com/free:v1", format!("{OTHER}:v1")]);
    });
    host.start_refused(&container, 3, "C07");
    host.config(
        "policy.toml",
        &format!("{ENFORCE}{}{}", rule("registry.example.com/*", "enforce"), rule(OTHER, "off")),
    );
    host.start_refused(&container, 3, "C07");
    host.config("policy.toml", &format!("{ENFORCE}{}", rule("registry.example.com/*", "off")));
    host.start(&container).ok();
    assert_eq!(host.read(&container, "usr/bin/tool").unwrap(), EVIL);
}

/// As CRI-O's records say, which its mount program finds in the store: a rule for a namespace is for pods of it.
#[test]
fn f04_a_rule_of_a_namespace_is_for_its_pods() {
    let Some(host) = Host::new(ENFORCE) else { return };
    const CONTAINERS: &str = "overlay-containers/containers.json";
    let image = host.image(OTHER);
    let make = |name: &str, namespace: &str| {
        let (container, pod) = (host.container(name, &image), random_id(&format!("pod {name}")));
        host.container(&format!("{name}-pod"), &image);
        host.edit(CONTAINERS, |all| {
            let of = |value: serde_json::Value| json!(value.to_string());
            let [.., own, sandbox] = all.as_mut_slice() else { panic!() };
            own["metadata"] = of(json!({"pod-name": "p", "pod-id": pod, "image-name": OTHER, "name": "c"}));
            sandbox["id"] = json!(pod);
            sandbox["metadata"] =
                of(json!({"pod-name": "p", "pod-id": pod, "name": "c", "namespace": namespace, "pod": true}));
        });
        container
    };
    let (dev, prod, alone) = (make("dev", "dev"), make("prod", "prod"), host.container("alone", &image));
    let rule = |namespace: &str, mode: &str| {
        format!("[[rule]]\nimage = \"*\"\nnamespace = \"{namespace}\"\nmode = \"{mode}\"\n")
    };
    host.config("policy.toml", &[ENFORCE, &rule("dev", "off")].concat());
    host.start_refused(&prod, 3, "C07");
    host.start_refused(&alone, 3, "C07");
    host.start(&dev).ok();
    assert_eq!(host.read(&dev, "usr/bin/tool").unwrap(), EVIL);
    host.unmount(&dev);
    host.config("policy.toml", &[OFF, &rule("prod", "enforce")].concat());
    host.start_refused(&prod, 3, "C07");
    for container in [&dev, &alone] {
        host.start(container).ok();
        host.unmount(container);
    }
    // A pod whose sandbox is on no record may be any namespace's.
    host.edit(CONTAINERS, |all| all.retain(|c| c["id"] != random_id("pod dev")));
    host.start_refused(&dev, 3, "C07");
    host.start(&alone).ok();
}

/// A file of `/etc` hides one of the same name in `/run`, and a link to `/dev/null` takes it away.
#[test]
fn f05_files_that_hide_others() {
    let Some(host) = Host::new(ENFORCE) else { return };
    let container = host.container("c", &host.image(OTHER));
    let rule = format!("version = 1\n[[rule]]\nimage = \"{OTHER}\"\nmode = \"off\"\n");
    let rule = host.bench.write("rule.toml", rule.as_bytes()).display().to_string();
    let dropin = "/run/layerseal/policy.d/other.toml";
    host.sandbox.sh(&format!("mkdir -m 755 /run/layerseal/policy.d && install -m 644 '{rule}' {dropin}"));
    host.start(&container).ok();
    host.unmount(&container);
    host.config("policy.d/other.toml", "version = 1\n");
    host.start_refused(&container, 3, "C07");
    let mask = host.bench.path("etc/layerseal/policy.d/other.toml");
    std::fs::remove_file(&mask).unwrap();
    std::os::unix::fs::symlink("/dev/null", &mask).unwrap();
    host.start_refused(&container, 3, "C07");
    std::fs::remove_file(&mask).unwrap();
    std::os::unix::fs::symlink("/dev/zero", &mask).unwrap();
    host.start_refused(&container, 5, "F03");
}

/// A link that leads nowhere is not "there is none": what it led to was meant.
#[test]
fn f05_a_directory_of_the_configuration_that_leads_nowhere_is_not_passed_over() {
    let Some(host) = Host::new(ENFORCE) else { return };
    let (image, managed) = (host.image(APP), host.bench.path("managed"));
    let container = host.container("c", &image);
    host.config("trust.d/other/other.crt", std::str::from_utf8(&stranger().cert.to_pem().unwrap()).unwrap());
    for (name, file, text, code, case) in [
        ("deny.d", "x.list", format!("sha256:{}\n", image.id), 4, "F06"),
        ("policy.d", "x.toml", format!("version = 1\n[[rule]]\nimage = \"{APP}\"\ntrust = [\"other\"]\n"), 4, "E07"),
    ] {
        std::fs::create_dir(&managed).unwrap();
        std::fs::write(managed.join(file), text).unwrap();
        let link = host.bench.path("etc/layerseal").join(name);
        std::os::unix::fs::symlink(&managed, &link).unwrap();
        host.start_refused(&container, code, case);
        std::fs::rename(&managed, host.bench.path("elsewhere")).unwrap();
        host.start_refused(&container, 5, "F03");
        // There is none.
        std::fs::remove_file(&link).unwrap();
        host.start(&container).ok();
        host.unmount(&container);
        std::fs::remove_dir_all(host.bench.path("elsewhere")).unwrap();
    }
    // A store, which is in this directory and in no other.
    let store = host.bench.path("etc/layerseal/trust.d/acme");
    std::fs::rename(&store, &managed).unwrap();
    std::os::unix::fs::symlink(&managed, &store).unwrap();
    host.start(&container).ok();
    host.unmount(&container);
    std::fs::rename(&managed, host.bench.path("elsewhere")).unwrap();
    host.start_refused(&container, 5, "F03");
}

/// The ways to deny the sealed image: name, and a file of `deny.d` that does.
fn denials(host: &Host) -> Vec<(&'static str, String, Vec<u8>)> {
    let image = host.image(APP);
    let dir = host.root.join("overlay-images").join(&image.id);
    let manifest = std::fs::read(dir.join("manifest")).unwrap();
    let digest = layerseal::digest::BlobDigest::of(&manifest);
    let value: serde_json::Value = serde_json::from_slice(&manifest).unwrap();
    let layers = host.json("overlay-layers/layers.json");
    let lowest = layers.iter().find(|l| l["id"] == image.layers[1].as_str()).unwrap();
    let vault = layerseal::vault::Vault::open(&host.root.join("layerseal")).unwrap();
    let made = vault.contents(&digest, Algorithm::Sha512).unwrap();
    let seals = std::fs::read_dir(host.root.join("layerseal/images").join(digest.hex()).join("seals")).unwrap();
    let seal = seals.flatten().next().unwrap().file_name().into_string().unwrap();
    let list = |digest: String| format!("# why\n{digest}\n").into_bytes();
    vec![
        ("manifest", "x.list".into(), list(digest.to_string())),
        ("config", "x.list".into(), list(format!("sha256:{}", image.id))),
        ("layer", "x.list".into(), list(value["layers"][1]["digest"].as_str().unwrap().into())),
        ("diff_id", "x.list".into(), list(lowest["diff-digest"].as_str().unwrap().into())),
        ("seal", "x.list".into(), list(format!("sha256:{seal}"))),
        ("rootfs", "x.list".into(), list(format!("fsverity-sha512-12:{}", made.rootfs))),
        ("merged", "x.list".into(), list(format!("fsverity-sha512-12:{}", made.merged.unwrap()))),
        ("layer image", "x.list".into(), list(format!("fsverity-sha512-12:{}", made.layers[0]))),
        ("certificate", "x.crt".into(), signer().cert.to_pem().unwrap()),
    ]
}

/// In every mode, and before anything is mounted.
#[test]
fn f06_what_is_denied_is_denied_in_every_mode() {
    let Some(host) = Host::new(ENFORCE) else { return };
    let container = host.container("c", &host.image(APP));
    for (what, file, bytes) in denials(&host) {
        for policy in [ENFORCE, AUDIT, OFF] {
            host.config("policy.toml", policy);
            host.config(&format!("deny.d/{file}"), std::str::from_utf8(&bytes).unwrap());
            // Nobody looks at seals where nothing is asked.
            if policy == OFF && matches!(what, "seal" | "certificate") {
                continue;
            }
            let ran = host.start_refused(&container, 4, "F06");
            assert!(ran.stderr.contains("deny.d") || what == "certificate", "{what}: {ran:?}");
            std::fs::remove_file(host.bench.path("etc/layerseal/deny.d").join(&file)).unwrap();
            // Whoever asks for all of it to be ready is told the same.
            host.config(&format!("deny.d/{file}"), std::str::from_utf8(&bytes).unwrap());
            let prepared = host.verb(&["prepare", &format!("{APP}:v1")]);
            assert_eq!(prepared.code, 4, "{what}: {prepared:?}");
            std::fs::remove_file(host.bench.path("etc/layerseal/deny.d").join(&file)).unwrap();
        }
    }
    // A file that nobody understands denies everything: somebody meant something by it.
    host.config("deny.d/list.txt", "sha256:00");
    host.start_refused(&container, 5, "F03");
}

/// The same layers without a record of the image, and one by one.
#[test]
fn f06_layers_that_are_no_image_are_denied_too() {
    let Some(host) = Host::new(ENFORCE) else { return };
    let app = host.image(APP);
    let making = Container { layer: random_id("new"), lowers: app.layers.clone() };
    host.layer(&making.layer, Some(&app.layers[0]));
    let lowest = host.of(&app.layers[1], "merged");
    std::fs::create_dir_all(&lowest).unwrap();
    let part = format!("lowerdir={}", host.of(&app.layers[1], "diff"));
    let container = host.container("c", &app);
    let images = host.json("overlay-images/images.json");
    for (what, file, bytes) in denials(&host) {
        for policy in [AUDIT, OFF] {
            host.config("policy.toml", policy);
            host.config(&format!("deny.d/{file}"), std::str::from_utf8(&bytes).unwrap());
            if matches!(what, "diff_id" | "layer image") {
                host.start_refused(&making, 4, "F06");
                host.refused(&part, &lowest, 4, "F06");
            }
            if what == "merged" && policy == AUDIT {
                host.start_refused(&making, 4, "F06");
            }
            if what == "config" {
                // Its record is gone, and the container says still what it was made from.
                host.edit("overlay-images/images.json", |all| all.retain(|i| i["layer"] != app.layers[0].as_str()));
                host.start_refused(&container, 4, "F06");
                host.set_json("overlay-images/images.json", &images);
            }
            std::fs::remove_file(host.bench.path("etc/layerseal/deny.d").join(&file)).unwrap();
        }
    }
    // Of images that are denied no part is shown, unless it is another's too.
    host.config("policy.toml", AUDIT);
    let manifest = denials(&host).remove(0);
    host.config("deny.d/x.list", std::str::from_utf8(&manifest.2).unwrap());
    host.call(&part, &lowest).ok();
    host.sandbox.sh(&format!("umount '{lowest}'"));
    host.edit("overlay-images/images.json", |all| all.retain(|i| i["id"] == app.id.as_str()));
    host.refused(&part, &lowest, 4, "F06");
    std::fs::remove_file(host.bench.path("etc/layerseal/deny.d/x.list")).unwrap();
    host.start(&making).ok();
    host.call(&part, &lowest).ok();
}

#[test]
fn f07_audit_mounts_and_says_what_it_would_have_refused() {
    let Some(host) = Host::new(AUDIT) else { return };
    let (good, bad) = (host.container("c", &host.image(APP)), host.container("d", &host.image(OTHER)));
    assert_eq!(host.start(&good).ok().records, Vec::<String>::new());
    let ran = host.start(&bad).ok();
    let [record] = &ran.records[..] else { panic!("{ran:?}") };
    assert!(record.starts_with("PRIORITY=4\n") && record.contains("MESSAGE=audit: would refuse: "), "{record}");
    assert!(record.contains("\nLAYERSEAL_CASE=C07\n") && record.contains(&host.of(&bad.layer, "merged")), "{record}");
    assert_eq!(host.read(&bad, "usr/bin/tool").unwrap(), EVIL);
    // An unsealed image is made of its layers, and checked like any other.
    assert!(host.mounts_of(&bad)[0].contains("composefs:"));
    let status: serde_json::Value = serde_json::from_str(&host.layerseal(&["status", "--json"]).stdout).unwrap();
    let kinds: Vec<_> = status["mounts"].as_array().unwrap().iter().map(|s| s["kind"].as_str().unwrap()).collect();
    assert!(kinds.contains(&"sealed") && kinds.contains(&"audit"), "{status}");
    // Signed by somebody else.
    host.config("trust.d/acme/signer.crt", std::str::from_utf8(&stranger().cert.to_pem().unwrap()).unwrap());
    host.unmount(&good);
    let ran = host.start(&good).ok();
    assert!(ran.records.len() == 1 && ran.records[0].contains("\nLAYERSEAL_CASE=E07\n"), "{ran:?}");
    assert_eq!(host.read(&good, "usr/bin/tool").unwrap(), TOOL);
}

/// Whatever the moment, one policy counts: never the mode of the one with the stores of the other.
#[test]
fn f08_a_policy_that_is_swapped_all_the_time() {
    let Some(host) = Host::new(ENFORCE) else { return };
    let (sealed, unsealed) = (host.container("c", &host.image(APP)), host.container("d", &host.image(OTHER)));
    let free = format!(
        "version = 1\n[default]\nmode = \"enforce\"\ntrust = [\"acme\"]\nverity = \"off\"\n[[rule]]\nimage = \"{APP}\"\nmode = \"off\"\n"
    );
    let path = host.bench.path("etc/layerseal/policy.toml");
    let (one, two) = (host.bench.write("one", ENFORCE.as_bytes()), host.bench.write("two", free.as_bytes()));
    let stop = std::sync::atomic::AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            while !stop.load(std::sync::atomic::Ordering::Relaxed) {
                for next in [&two, &one] {
                    let new = path.with_extension("new");
                    std::fs::copy(next, &new).unwrap();
                    std::fs::rename(&new, &path).unwrap();
                }
            }
        });
        for _ in 0..12 {
            host.start(&sealed).ok();
            assert_eq!(host.read(&sealed, "usr/bin/tool").unwrap(), TOOL);
            assert!(!host.merged(&sealed).join("etc/gone").exists());
            host.unmount(&sealed);
            host.start(&unsealed).refused(3, "C07");
        }
        stop.store(true, std::sync::atomic::Ordering::Relaxed);
    });
}
