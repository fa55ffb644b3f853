//! `layerseal check` says what a start then does, and writes nothing.

use serde_json::Value;

use crate::common;
use crate::guard::text;
use crate::image::{APP, FRESH};
use crate::podman::{Podman, Program, default_policy, forget_use, signed};
use crate::ready;
use crate::refusals::in_diff;

const OTHER: &str = "registry.example.com/acme/other:1";

impl Podman {
    /// What a verb of layerseal says with `--json`, and its exit code.
    pub fn verb(&self, args: &[&str]) -> (Value, i32) {
        let binary = common::binary().display().to_string();
        let output = self.host.command(&binary, &[args, &["--json"]].concat()).output().unwrap();
        let document =
            serde_json::from_slice(&output.stdout).unwrap_or_else(|e| panic!("{args:?}: {e}: {}", text(&output)));
        (document, output.status.code().unwrap())
    }

    /// Everything that check could have changed, with the time of its last change.
    fn state(&self) -> String {
        let places = "/var/lib/containers/storage /run/layerseal /var/lib/layerseal /etc/layerseal";
        // Access times aside, what podman locks when it is asked for mounts, and what is remembered of its configuration.
        let not = "-name '*.lock' -o -path '/run/layerseal/podman*' -o -path /run/layerseal -o -name 'db.sql*' -o -name .has-mount-program -o -path /var/lib/containers/storage/overlay";
        self.host.sh(&format!("find {places} ! \\( {not} \\) -printf '%p %i %s %T@ %C@\\n' 2>/dev/null | sort || true"))
    }

    /// What check says of one thing; nothing has changed by it.
    #[track_caller]
    fn checked(&self, args: &[&str]) -> (Value, i32) {
        let before = self.state();
        let checked = self.verb(&[&["check"], args].concat());
        let after = self.state();
        let changed: Vec<(&str, &str)> = before.lines().zip(after.lines()).filter(|(a, b)| a != b).take(3).collect();
        assert!(before == after, "check {args:?} has written: {changed:?}");
        checked
    }

    /// Verdict and case of the only thing that was checked.
    #[track_caller]
    fn verdict(&self, kind: &str, args: &[&str]) -> (String, String) {
        let (found, code) = self.checked(args);
        let one = &found[kind][0]["expected"];
        let red = one["error"]["exit_code"].as_i64().unwrap_or_default();
        assert_eq!(i64::from(code), red, "{found}");
        let word = |value: &Value| value.as_str().unwrap_or_default().to_owned();
        (word(&one["verdict"]), word(&one["error"]["case"]))
    }

    /// Verdict and case of a container; of a host that nothing can be said of, why. podman may still be cleaning up.
    #[track_caller]
    pub fn foretold(&self, name: &str) -> (String, String) {
        let (found, _) = self.verb(&["check", "--containers"]);
        let word = |value: &Value| value.as_str().unwrap_or_default().to_owned();
        if found["error"].is_object() {
            return ("refused".to_owned(), word(&found["error"]["case"]));
        }
        let mut containers = found["containers"].as_array().unwrap().iter();
        let container = containers.find(|c| c["names"][0] == name).unwrap_or_else(|| panic!("{name}: {found}"));
        let expected = &container["expected"];
        (word(&expected["verdict"]), word(&expected["error"]["case"]))
    }

    /// podman starts the image, and does what check said.
    #[track_caller]
    fn as_expected(&self, image: &str) -> (String, String) {
        let (verdict, case) = self.verdict("images", &[image]);
        self.host.sh("rm -rf /run/layerseal/hooks");
        let output = self.run(&["run", "--rm", "--pull=never", image, "true"]);
        let (decision, why) = self.last("precreate");
        self.run(&["rm", "-fa", "-t", "0"]);
        let said = (verdict.as_str(), case.as_str());
        let happened = match decision.as_str() {
            "allowed" => ("sealed", ""),
            "off" => ("unasked", ""),
            "audit" => ("audit", why.as_str()),
            "refused" => ("refused", why.as_str()),
            other => panic!("{image}: {other}: {}", text(&output)),
        };
        assert_eq!(said, happened, "{image}: {}", text(&output));
        assert_eq!(output.status.success(), verdict != "refused", "{image}: {}", text(&output));
        (verdict, case)
    }
}

#[test]
fn check_says_what_a_start_does() {
    if !ready("check") {
        return;
    }
    let podman = Podman::pulled(Program::Hooked);
    let refused = |case: &str| ("refused".to_owned(), case.to_owned());
    let sealed = ("sealed".to_owned(), String::new());
    // No vault at all, and then one with a seal and nothing else: the layers are read, and nothing of them is kept.
    assert_eq!(podman.as_expected(APP), refused("C07"));
    podman.prepare(APP);
    forget_use(&podman);
    assert_eq!(podman.as_expected(APP), sealed, "the first use");
    assert_eq!(podman.as_expected(APP), sealed);
    assert_eq!(podman.verb(&["check", APP]).0["images"][0]["expected"]["ready"], true);
    // The vault is gone, and what was accepted was kept.
    podman.host.sh("rm -rf /var/lib/containers/storage/layerseal");
    assert_eq!(podman.as_expected(APP), sealed, "by the seal that was kept");
    let short = &APP.trim_start_matches("registry.example.com/");
    assert_eq!(podman.as_expected(short), sealed);
    let id = podman.ok(&["image", "inspect", "--format", "{{.Id}}", APP]).trim().to_owned();
    assert_eq!(podman.as_expected(&id[..12]), sealed);
    assert_eq!(podman.as_expected(FRESH), refused("C07"));
    podman.ok(&["tag", APP, OTHER]);
    assert_eq!(podman.as_expected(OTHER), refused("D18"));
    assert_eq!(podman.as_expected(APP), sealed, "its other name is another's");
    podman.ok(&["tag", FRESH, "localhost/built:1"]);
    assert_eq!(podman.as_expected("localhost/built:1"), refused("C07"), "it has another name that asks");
    podman.ok(&["untag", FRESH, FRESH]);
    assert_eq!(podman.as_expected("localhost/built:1").0, "unasked");
    podman.ok(&["tag", "localhost/built:1", FRESH]);

    // What podman reads of the layers before anybody is asked.
    let passwd = in_diff(&podman, "etc/passwd");
    let users = std::fs::read(&passwd).unwrap();
    std::fs::write(&passwd, [&users[..], b"evil::0:0::/:/bin/sh\n"].concat()).unwrap();
    assert_eq!(podman.as_expected(APP), refused("O09"));
    std::fs::write(&passwd, &users).unwrap();
    assert_eq!(podman.as_expected(APP), sealed);

    let deny = |text: String| podman.host.write("/etc/layerseal/deny.d/a.list", text);
    let manifest = podman.ok(&["image", "inspect", "--format", "{{.Digest}}", APP]);
    deny(manifest);
    assert_eq!(podman.as_expected(APP), refused("F06"));
    let layer = podman.ok(&["image", "inspect", "--format", "{{index .RootFS.Layers 0}}", APP]);
    deny(layer);
    assert_eq!(podman.as_expected(APP), refused("F06"));
    let audit = default_policy().replace("\"enforce\"", "\"audit\"");
    podman.policy(&audit);
    assert_eq!(podman.as_expected(APP), refused("F06"), "in every mode");
    podman.host.sh("rm /etc/layerseal/deny.d/a.list");
    assert_eq!(podman.as_expected(FRESH), ("audit".to_owned(), "C07".to_owned()));
    assert_eq!(podman.as_expected(OTHER), ("audit".to_owned(), "D18".to_owned()));
    assert_eq!(podman.as_expected(APP), sealed);
    podman.policy(&default_policy());

    // A signer that nobody trusts, and one whose certificate has ended.
    let stranger = common::stranger().cert.to_pem().unwrap();
    podman.host.write("/etc/layerseal/trust.d/acme/acme.crt", &stranger);
    assert_eq!(podman.as_expected(APP), refused("E07"));
    let expired = common::Signer::new("expired", 2048, -10, 0);
    let made = std::time::Instant::now();
    podman.host.write("/etc/layerseal/trust.d/acme/acme.crt", expired.cert.to_pem().unwrap());
    podman.host.sh("rm -rf /var/lib/containers/storage/layerseal /var/lib/layerseal");
    let seal = signed(APP, &expired);
    support::eventually("the end of the certificate", || made.elapsed().as_secs() >= 2);
    assert!(!podman.try_prepare(APP, &seal).status.success());
    assert_eq!(podman.as_expected(APP), refused("E11"));
    podman.policy("version = 1\n[default]\nmode = \"sometimes\"\n");
    let (said, code) = podman.verb(&["check", APP]);
    assert_eq!((&said["error"]["case"], code), (&"F03".into(), 5), "{said}");
}

/// A container is told by its record, what is mounted in it, and what this host noted of it, be it that it never ran.
#[test]
fn check_says_which_containers_start() {
    if !ready("check --containers") {
        return;
    }
    let podman = Podman::new(Program::Hooked);
    let all = |podman: &Podman| {
        let (found, code) = podman.checked(&["--containers"]);
        let of = |c: &Value| {
            let word = |v: &Value| v.as_str().unwrap_or_default().to_owned();
            (word(&c["names"][0]), word(&c["expected"]["verdict"]), word(&c["expected"]["error"]["case"]))
        };
        let mut found: Vec<_> = found["containers"].as_array().unwrap().iter().map(of).collect();
        found.sort();
        (found, code)
    };
    podman.ok(&["create", "--name", "good", "-v", "/var/tmp:/data", APP, "true"]);
    podman.ok(&["create", "--name", "covers", "-v", "/var/tmp:/usr/share/v", APP, "true"]);
    podman.ok(&["create", "--name", "hides", "--tmpfs", "/usr/lib", APP, "true"]);
    podman.ok(&["create", "--name", "unsealed", FRESH, "true"]);
    podman.ok(&["create", "--name", "writes", "--annotation", "run.oci.hooks.stderr=/var/tmp/x", APP, "true"]);
    let expected = [
        ("covers", "refused", "O04"),
        ("good", "sealed", ""),
        ("hides", "refused", "O04"),
        ("unsealed", "refused", "C07"),
        ("writes", "refused", "O08"),
    ]
    .map(|(a, b, c)| (a.to_owned(), b.to_owned(), c.to_owned()));
    assert_eq!(all(&podman), (expected.to_vec(), 4));
    for (name, verdict, case) in &expected {
        let output = podman.run(&["start", "-a", name]);
        assert_eq!(output.status.success(), verdict == "sealed", "{name}: {}", text(&output));
        let last = [podman.last("precreate"), podman.last("createRuntime")];
        assert!(verdict == "sealed" || last.contains(&("refused".into(), case.clone())), "{name}: {last:?}");
    }
    // The same of those that ran, or were refused: of the unsealed one that its image is sealed does not help now.
    let (found, code) = all(&podman);
    assert_eq!((found.as_slice(), code), (&expected[..], 4));
    podman.prepare(FRESH);
    podman.policy(&default_policy().replace("[default]\n", "[default]\ncover = [\"/usr/share/v\", \"/usr/lib\"]\n"));
    let (found, _) = all(&podman);
    let of = |name: &str| found.iter().find(|(n, ..)| n == name).map(|(_, v, c)| (v.as_str(), c.as_str())).unwrap();
    assert_eq!([of("covers"), of("good"), of("hides")], [("sealed", ""); 3], "{found:?}");
    assert_eq!(of("unsealed"), ("refused", "O13"));
    assert!(!podman.run(&["start", "-a", "unsealed"]).status.success());
    assert_eq!(podman.last("precreate").1, "O13");
    for name in ["covers", "good", "hides"] {
        podman.ok(&["start", "-a", name]);
    }
    podman.run(&["rm", "-fa", "-t", "0"]);
}

/// With other user IDs the layers are copies or mapped mounts, and what podman copied has the host's: check is right about
/// these too, before the first start, after it, and after `podman cp`.
#[test]
fn check_says_which_containers_of_mapped_users_start() {
    if !ready("check --containers with mapped users") {
        return;
    }
    for program in [Program::Hooked, Program::Runtime, Program::Guarded] {
        let podman = Podman::new(program);
        podman.host.write("/var/tmp/settings", "set\n");
        let map = ["--uidmap", "0:300000:65536", "--gidmap", "0:300000:65536"];
        for (name, user) in [("root", &[][..]), ("user", &["--user", "1234:77"][..])] {
            podman.ok(&[&["create", "--name", name], &map[..], user, &[APP, "true"]].concat());
            for (n, what) in ["made", "ran", "brought"].iter().enumerate() {
                if n == 2 {
                    podman.ok(&["cp", "/var/tmp/settings", &format!("{name}:/etc/settings")]);
                }
                let foretold = podman.foretold(name);
                let output = podman.run(&["start", "-a", name]);
                let sealed = foretold == ("sealed".to_owned(), String::new());
                assert_eq!(
                    sealed,
                    output.status.success(),
                    "{program:?} {name} {what}: {foretold:?} {}",
                    text(&output)
                );
            }
        }
        podman.run(&["rm", "-fa", "-t", "0"]);
    }
}

/// An image that is mounted in a container besides its root is asked about too, before and after the first start.
/// podman fills the volumes of an image for each new container, from the layers as they lie there.
#[test]
fn check_looks_at_what_podman_would_copy_into_the_volumes_of_an_image() {
    const VOLUMES: &str = "registry.example.com/acme/volumes:1";
    if !ready("check of an image with volumes") {
        return;
    }
    let podman = Podman::new(Program::Hooked);
    podman.ok(&["create", "--name", "c", APP]);
    podman.ok(&["commit", "-q", "--change", "VOLUME /opt", "c", VOLUMES]);
    podman.ok(&["rm", "c"]);
    podman.ok(&["push", "-q", VOLUMES, &format!("oci:/var/tmp/volumes:{VOLUMES}")]);
    let layout = podman.host.inside("/var/tmp/volumes");
    crate::image::sign(&layout, VOLUMES, common::signer());
    let output = podman.try_prepare(VOLUMES, std::path::Path::new("/var/tmp/volumes"));
    assert!(output.status.success(), "{}", text(&output));
    let sealed = ("sealed".to_owned(), String::new());
    assert_eq!(podman.as_expected(VOLUMES), sealed);
    let app = in_diff(&podman, "opt/app");
    let away = app.with_file_name("../../away");
    std::fs::rename(&app, &away).unwrap();
    std::fs::write(&app, "evil\n").unwrap();
    assert_eq!(podman.as_expected(VOLUMES), ("refused".to_owned(), "O09".to_owned()));
    // It is copied into no volume of the image that has none.
    assert_eq!(podman.as_expected(APP), sealed);
    std::fs::rename(&away, &app).unwrap();
    assert_eq!(podman.as_expected(VOLUMES), sealed);
}

#[test]
fn check_knows_images_that_are_mounted_in_containers() {
    if !ready("check --containers with images") {
        return;
    }
    for program in [Program::Hooked, Program::Guarded] {
        let podman = Podman::new(program);
        let of = |name: &str| podman.foretold(name);
        for (name, more) in [("ro", ""), ("rw", ",rw=true")] {
            let mount = format!("type=image,src={FRESH},dst=/data{more}");
            podman.ok(&["create", "--name", name, "--mount", &mount, APP, "true"]);
        }
        // With the mount program it is verified as any other.
        let case = if program == Program::Guarded { "C07" } else { "O11" };
        for _ in 0..2 {
            for name in ["ro", "rw"] {
                assert_eq!(of(name), ("refused".to_owned(), case.to_owned()), "{program:?} {name}");
                let output = podman.run(&["start", "-a", name]);
                assert!(
                    !output.status.success() && text(&output).contains(case) || program == Program::Hooked,
                    "{name}: {}",
                    text(&output)
                );
                assert!(program == Program::Guarded || podman.last("precreate").1 == case, "{name}: {}", text(&output));
            }
        }
        let policy = default_policy();
        podman.policy(&policy.replace("[default]\n", "[default]\ncover = [\"/data\"]\n"));
        if program == Program::Hooked {
            assert_eq!(of("ro"), ("sealed".to_owned(), String::new()));
            podman.ok(&["start", "-a", "ro"]);
            assert_eq!(of("ro"), ("sealed".to_owned(), String::new()), "after it ran");
        }
        podman.policy(&format!("{policy}[[rule]]\nimage = \"{}\"\nmode = \"off\"\n", FRESH.trim_end_matches(":1")));
        for name in ["ro", "rw"] {
            assert_eq!(of(name), ("sealed".to_owned(), String::new()), "{program:?} {name}: a rule for the image");
            podman.ok(&["start", "-a", name]);
        }
        podman.policy(&policy);
        assert_eq!(of("ro"), ("refused".to_owned(), case.to_owned()), "{program:?}: after it ran");
        podman.run(&["rm", "-fa", "-t", "0"]);
    }
}

/// A name in the store that no podman gave: whoever opens it waits for somebody who writes.
#[test]
fn b09_a_pipe_in_the_place_of_a_configuration_keeps_check_from_nothing() {
    if !ready("pipes in the store") {
        return;
    }
    let podman = Podman::new(Program::Hooked);
    podman.ok(&["create", "--name", "c", "--pull=never", APP, "true"]);
    let directory = "/var/lib/containers/storage/overlay-containers/*/userdata";
    podman.host.sh(&format!("mkfifo $(echo {directory})/config.json"));
    let binary = common::binary().display().to_string();
    // It ends by itself; nothing is asked of how long it takes.
    let output = podman.host.command("timeout", &["300", &binary, "check", "--containers", "--json"]).output().unwrap();
    let found: Value = serde_json::from_slice(&output.stdout).unwrap_or_else(|e| panic!("{e}: {}", text(&output)));
    assert_eq!(found["containers"][0]["expected"]["verdict"], "sealed", "{found}");
    // podman takes it away.
    podman.ok(&["start", "-a", "c"]);
}
