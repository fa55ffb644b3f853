//! Group F: policy files and trust stores.
#![allow(missing_docs)]

use std::os::unix::fs::{PermissionsExt as _, symlink};
use std::path::PathBuf;
use support::common;

use common::{Bench, signer, stranger};
use layerseal::container_store::PodNamespace;
use layerseal::digest::{BlobDigest, Fingerprint};
use layerseal::error::{Case, Result};
use layerseal::pki::Dates;
use layerseal::policy::{
    BindingRule, Decision, Directories, Mode, MountSettings, Policy, RootDriver, UpperRule, Verity,
};

/// Three directories as on a host, with a trust store `acme` in the middle one.
struct Host(Bench);

impl Host {
    fn new() -> Option<Self> {
        if !rustix::process::geteuid().is_root() {
            support::skip!("policy: configuration belongs to root");
        }
        let host = Self(Bench::new());
        for dir in ["usr", "run", "etc"] {
            std::fs::create_dir_all(host.0.path(dir).join("policy.d")).unwrap();
        }
        host.certificate("run", "acme", "a.crt", &signer().cert.to_pem().unwrap());
        Some(host)
    }

    fn certificate(&self, dir: &str, store: &str, name: &str, bytes: &[u8]) -> PathBuf {
        let place = self.0.path(dir).join("trust.d").join(store);
        std::fs::create_dir_all(&place).unwrap();
        std::fs::write(place.join(name), bytes).unwrap();
        place.join(name)
    }

    fn deny(&self, dir: &str, name: &str, bytes: &[u8]) -> PathBuf {
        std::fs::create_dir_all(self.0.path(dir).join("deny.d")).unwrap();
        self.0.write(&format!("{dir}/deny.d/{name}"), bytes)
    }

    fn write(&self, name: &str, text: &str) -> PathBuf {
        self.0.write(name, format!("version = 1\n{text}").as_bytes())
    }

    fn load(&self) -> Result<Policy> {
        Policy::load(&Directories::new(["usr", "run", "etc"].map(|d| self.0.path(d)).to_vec()))
    }

    fn decide(&self, names: &[&str]) -> Decision {
        let names: Vec<String> = names.iter().map(|n| (*n).to_owned()).collect();
        self.load().unwrap().decide(&names)
    }

    fn decide_at(&self, place: &PodNamespace, names: &[&str]) -> Decision {
        let names: Vec<String> = names.iter().map(|n| (*n).to_owned()).collect();
        self.load().unwrap().at(place.clone()).decide(&names)
    }

    fn refused(&self) -> Case {
        self.load().unwrap_err().case()
    }
}

#[test]
fn f03_without_a_policy_everything_is_refused() {
    let Some(host) = Host::new() else { return };
    assert_eq!(host.refused(), Case::F03Policy);
    host.0.write("etc/policy.toml", b"not toml");
    assert_eq!(host.refused(), Case::F03Policy);
    host.0.write("etc/policy.toml", b"\xff\xfe");
    assert_eq!(host.refused(), Case::F03Policy);
}

#[test]
fn f03_what_is_not_said_is_the_strict_thing() {
    let Some(host) = Host::new() else { return };
    host.write("etc/policy.toml", "[default]\ntrust = [\"acme\"]");
    let d = host.decide(&["x:latest"]);
    assert_eq!(
        (d.mode, d.binding, d.identity, d.verity, d.upper, d.dates),
        (Mode::Enforce, BindingRule::Required, true, Verity::Require, UpperRule::Any, Dates::Enforce)
    );
    assert_eq!(d.certificates.len(), 1);
    // Enforced and nobody trusted: nothing passes, and that is a policy one can have.
    host.write("etc/policy.toml", "");
    assert_eq!((host.decide(&[]).mode, host.decide(&[]).certificates.len()), (Mode::Enforce, 0));
}

#[test]
fn f03_the_sample_says_every_setting() {
    let Some(host) = Host::new() else { return };
    host.certificate("etc", "example", "a.crt", &signer().cert.to_pem().unwrap());
    let sample = include_str!("../contrib/policy.toml");
    host.0.write("etc/policy.toml", sample.as_bytes());
    assert_eq!(host.decide(&["x:latest"]).mode, Mode::Enforce);
    // Settings that are commented out stand right behind the sign.
    let setting = |line: &&str| {
        let word = |c: char| c.is_ascii_lowercase() || c == '_';
        line.starts_with('[') || line.split_once(" = ").is_some_and(|(key, _)| key.chars().all(word))
    };
    let whole: Vec<&str> = sample.lines().map(|l| l.strip_prefix('#').filter(setting).unwrap_or(l)).collect();
    host.0.write("etc/policy.toml", whole.join("\n").as_bytes());
    assert_eq!(host.decide(&["localhost/x"]).mode, Mode::Off);
    // A word that nobody knows is answered with those that are known.
    for (table, known) in [("[default]", 11), ("[mount]", 3), ("[[rule]]\nimage = \"localhost/x\"", 11)] {
        host.write("etc/policy.toml", &format!("{table}\nunheard = 1"));
        let refusal = host.load().unwrap_err().to_string();
        let words: Vec<&str> = refusal.split('`').skip(3).step_by(2).collect();
        assert!(words.len() >= known, "{refusal}");
        for word in words {
            assert!(whole.iter().any(|line| line.starts_with(&format!("{word} = "))), "{word} is not in the sample");
        }
    }
}

#[test]
fn f04_the_most_specific_rule_wins_whatever_the_order() {
    let Some(host) = Host::new() else { return };
    let rules = [
        "[[rule]]\nimage = \"*\"\nmode = \"enforce\"\n",
        "[[rule]]\nimage = \"localhost/*\"\nmode = \"off\"\n",
        "[[rule]]\nimage = \"localhost/app\"\nmode = \"audit\"\n",
    ];
    for order in [[0, 1, 2], [2, 1, 0], [1, 2, 0]] {
        host.write("etc/policy.toml", &order.map(|n| rules[n]).concat());
        assert_eq!(host.decide(&["localhost/app:v1"]).mode, Mode::Audit);
        assert_eq!(host.decide(&["localhost/app@sha256:00"]).mode, Mode::Audit);
        assert_eq!(host.decide(&["localhost/other"]).mode, Mode::Off);
        assert_eq!(host.decide(&["localhost:5000/app"]).mode, Mode::Enforce);
        assert_eq!(host.decide(&[]).mode, Mode::Enforce);
    }
    host.write("etc/policy.d/again.toml", rules[1]);
    assert_eq!(host.refused(), Case::F03Policy);
}

#[test]
fn f04_an_alias_never_loosens_what_another_name_asks() {
    let Some(host) = Host::new() else { return };
    host.write("etc/policy.toml", "[default]\nmode = \"audit\"\n[[rule]]\nimage = \"strict.example/*\"\nmode = \"enforce\"\n[[rule]]\nimage = \"loose.example/*\"\nmode = \"off\"\n");
    assert_eq!(host.decide(&["loose.example/x", "strict.example/x"]).mode, Mode::Enforce);
    assert_eq!(
        host.decide(&["strict.example/x", "loose.example/x"]).name.as_ref().map(|n| n.as_str()),
        Some("strict.example/x")
    );
    // One of its names matches nothing: the default counts too.
    assert_eq!(host.decide(&["loose.example/x", "other/x"]).mode, Mode::Audit);
    assert_eq!(host.decide(&["loose.example/x"]).mode, Mode::Off);
}

#[test]
fn f05_higher_directories_hide_lower_ones_by_name() {
    let Some(host) = Host::new() else { return };
    host.write("usr/policy.toml", "[default]\nmode = \"off\"");
    host.write("usr/policy.d/10-a.toml", "[[rule]]\nimage = \"localhost/a\"\nmode = \"audit\"");
    assert_eq!(host.decide(&["b"]).mode, Mode::Off);
    assert_eq!(host.decide(&["localhost/a"]).mode, Mode::Audit);
    host.write("run/policy.d/10-a.toml", "[[rule]]\nimage = \"localhost/a\"\nmode = \"enforce\"");
    assert_eq!(host.decide(&["localhost/a"]).mode, Mode::Enforce);
    symlink("/dev/null", host.0.path("etc/policy.d/10-a.toml")).unwrap();
    assert_eq!(host.decide(&["localhost/a"]).mode, Mode::Off);
    // A link elsewhere is not followed.
    symlink("/etc/passwd", host.0.path("etc/policy.d/20-b.toml")).unwrap();
    assert_eq!(host.refused(), Case::F03Policy);
}

#[test]
fn f05_a_link_that_leads_nowhere_is_not_an_absence() {
    let Some(host) = Host::new() else { return };
    host.write("etc/policy.toml", "[default]\ntrust = [\"acme\"]");
    let nowhere = host.0.path("not-mounted-yet");
    let directories = || Directories::new(["usr", "run", "etc"].map(|d| host.0.path(d)).to_vec());
    for (place, case) in [
        ("etc/deny.d", Case::F03Denied),
        ("usr/deny.d", Case::F03Denied),
        ("etc/policy.d", Case::F03Policy),
        ("etc/trust.d", Case::F03Policy),
        ("etc/trust.d/acme", Case::F03Policy),
        ("run/trust.d/acme/ca", Case::F01Store),
        ("usr", Case::F03Denied),
    ] {
        let path = host.0.path(place);
        let kept = path.is_dir().then(|| std::fs::rename(&path, host.0.path("kept")).unwrap());
        let made = path.parent().filter(|parent| !parent.exists());
        made.inspect(|parent| std::fs::create_dir_all(parent).unwrap());
        // Directly, and by way of another link.
        for target in [nowhere.clone(), host.0.path("link")] {
            symlink(&nowhere, host.0.path("link")).unwrap();
            symlink(&target, &path).unwrap();
            assert_eq!(host.refused(), case, "{place}");
            if place.starts_with("etc/trust.d") {
                assert_eq!(directories().trust_stores().unwrap_err().case(), Case::F03Policy, "{place}");
            }
            std::fs::remove_file(&path).unwrap();
            std::fs::remove_file(host.0.path("link")).unwrap();
        }
        made.inspect(|parent| std::fs::remove_dir(parent).unwrap());
        kept.inspect(|()| std::fs::rename(host.0.path("kept"), &path).unwrap());
        assert_eq!(host.decide(&[]).mode, Mode::Enforce, "{place}");
    }
    // A link to a directory that is there, with nothing in it that is asked for.
    std::fs::create_dir(&nowhere).unwrap();
    symlink(&nowhere, host.0.path("etc/deny.d")).unwrap();
    symlink(&nowhere, host.0.path("etc/trust.d")).unwrap();
    assert_eq!(host.decide(&[]).mode, Mode::Enforce);
    assert_eq!(directories().trust_stores().unwrap(), ["acme"]);
}

#[test]
fn f05_certificates_are_hidden_and_masked_like_files() {
    let Some(host) = Host::new() else { return };
    host.write("etc/policy.toml", "[default]\ntrust = [\"acme\"]");
    host.certificate("etc", "acme", "b.crt", &stranger().cert.to_pem().unwrap());
    assert_eq!(host.decide(&[]).certificates.len(), 2);
    symlink("/dev/null", host.0.path("etc/trust.d/acme/a.crt")).unwrap();
    let left = host.decide(&[]).certificates;
    assert_eq!(left.len(), 1);
    assert!(left[0].subject().contains("stranger"));
    std::fs::remove_file(host.0.path("etc/trust.d/acme/b.crt")).unwrap();
    assert_eq!(host.refused(), Case::F01Store);
}

/// Whatever opens a lock makes an empty file where a link leads: it takes nothing away.
#[test]
fn f05_an_empty_file_hides_nothing() {
    let Some(host) = Host::new() else { return };
    host.write("etc/policy.toml", "[default]\ntrust = [\"acme\"]");
    let list = host.deny("usr", "a.list", format!("sha256:{}\n", "0".repeat(64)).as_bytes());
    assert_eq!(host.load().unwrap().denied().count(), (0, 1));
    for text in ["", "\n"] {
        let path = host.deny("etc", "a.list", text.as_bytes());
        assert_eq!(host.refused(), Case::F03Denied);
        std::fs::remove_file(path).unwrap();
    }
    // Controls: a list that says why, a mask, and an empty list that hides none.
    let path = host.deny("etc", "a.list", b"# none of these any more\n");
    assert_eq!(host.load().unwrap().denied().count(), (0, 0));
    std::fs::remove_file(&path).unwrap();
    symlink("/dev/null", &path).unwrap();
    assert_eq!(host.load().unwrap().denied().count(), (0, 0));
    std::fs::remove_file(&path).unwrap();
    std::fs::remove_file(list).unwrap();
    host.deny("etc", "a.list", b"");
    assert_eq!(host.load().unwrap().denied().count(), (0, 0));
    // The other files are refused when they are empty.
    host.write("usr/policy.d/a.toml", "[[rule]]\nimage = \"registry.example.com/a\"\nmode = \"enforce\"");
    let path = host.0.write("etc/policy.d/a.toml", b"");
    assert_eq!(host.refused(), Case::F03Policy);
    std::fs::remove_file(path).unwrap();
    let path = host.certificate("etc", "acme", "a.crt", b"");
    assert_eq!(host.refused(), Case::F02Certificate);
    std::fs::remove_file(path).unwrap();
    host.deny("etc", "a.crt", b"");
    assert_eq!(host.refused(), Case::F02Certificate);
}

#[test]
fn f01_files_that_others_can_write_are_refused() {
    let Some(host) = Host::new() else { return };
    let policy = host.write("etc/policy.toml", "[default]\ntrust = [\"acme\"]");
    let mode = |path: &PathBuf, mode| std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode)).unwrap();
    for (path, case, good) in [
        (policy.clone(), Case::F03Policy, 0o644),
        (host.0.path("etc"), Case::F03Policy, 0o755),
        (host.0.path("run/trust.d/acme"), Case::F01Store, 0o755),
        (host.0.path("run/trust.d/acme/a.crt"), Case::F01Store, 0o644),
    ] {
        for bad in [good | 0o002, good | 0o020] {
            mode(&path, bad);
            let found = host.refused();
            assert!(found == case || found == Case::F03Policy, "{}: {found:?}", path.display());
        }
        mode(&path, good);
        std::os::unix::fs::chown(&path, Some(1000), None).unwrap();
        let found = host.refused();
        assert!(found == case || found == Case::F03Policy, "{}: {found:?}", path.display());
        std::os::unix::fs::chown(&path, Some(0), None).unwrap();
        host.load().unwrap();
    }
}

#[test]
fn f02_bundles_count_whole_and_garbage_is_not_passed_over() {
    let Some(host) = Host::new() else { return };
    host.write("etc/policy.toml", "[default]\ntrust = [\"both\"]");
    let bundle = [signer().cert.to_pem().unwrap(), stranger().cert.to_pem().unwrap()].concat();
    host.certificate("etc", "both", "bundle.pem", &bundle);
    assert_eq!(host.decide(&[]).certificates.len(), 2);
    host.certificate("etc", "both", "same.der", &signer().cert.to_der().unwrap());
    host.load().unwrap();
    let notes = host.certificate("etc", "both", "notes.txt", b"nobody knows what for");
    assert_eq!(host.refused(), Case::F01Store);
    std::fs::remove_file(notes).unwrap();
    host.certificate("etc", "both", "garbage.crt", b"garbage");
    assert_eq!(host.refused(), Case::F02Certificate);
    let refusal = host.load().unwrap_err();
    assert!(refusal.subject().ends_with("/trust.d/both/garbage.crt"), "one of many, and it is named: {refusal}");
    host.write("etc/policy.toml", "[default]\ntrust = [\"../acme\"]");
    assert_eq!(host.refused(), Case::F01Store);
}

#[test]
fn f04_images_without_a_name_have_a_rule_of_their_own() {
    let Some(host) = Host::new() else { return };
    host.write("etc/policy.toml", "[[rule]]\nimage = \"<none>\"\nmode = \"audit\"");
    let nameless = host.decide(&[]);
    assert_eq!((nameless.mode, nameless.name), (Mode::Audit, None));
    assert_eq!(host.decide(&["localhost/x"]).mode, Mode::Enforce);
    // A star is for anything, the default for what is left.
    host.write("etc/policy.toml", "[[rule]]\nimage = \"*\"\nmode = \"off\"");
    assert_eq!(host.decide(&[]).mode, Mode::Off);
    host.write("etc/policy.toml", "[default]\nmode = \"audit\"\n[[rule]]\nimage = \"localhost/x\"\nmode = \"off\"");
    assert_eq!((host.decide(&[]).mode, host.decide(&[]).name), (Mode::Audit, None));
}

#[test]
fn f04_an_alias_chooses_no_trust_store() {
    let Some(host) = Host::new() else { return };
    host.certificate("etc", "one", "a.crt", &signer().cert.to_pem().unwrap());
    host.certificate("etc", "two", "b.crt", &stranger().cert.to_pem().unwrap());
    host.certificate("etc", "both", "a.crt", &signer().cert.to_pem().unwrap());
    host.certificate("etc", "both", "b.crt", &stranger().cert.to_pem().unwrap());
    host.write(
        "etc/policy.toml",
        "[[rule]]\nimage = \"a.example/*\"\ntrust = [\"one\"]\n[[rule]]\nimage = \"b.example/*\"\ntrust = [\"two\"]\n\
         [[rule]]\nimage = \"b.example/x\"\ntrust = [\"two\"]\n[[rule]]\nimage = \"localhost/c\"\ntrust = [\"both\"]\n\
         [[rule]]\nimage = \"localhost/d\"\nmode = \"off\"\n[[rule]]\nimage = \"localhost/e\"\nmode = \"off\"\ntrust = [\"two\"]",
    );
    let trusted = |names: &[&str]| -> Vec<String> {
        host.decide(names).certificates.iter().map(|c| c.subject().to_owned()).collect()
    };
    let (one, two) = (trusted(&["a.example/x"]), trusted(&["b.example/x"]));
    assert!(one.len() == 1 && two.len() == 1 && one != two);
    // A longer pattern, a smaller name: nobody is trusted who is not for each of them.
    for names in [
        ["a.example/x", "b.example/y"],
        ["b.example/y", "a.example/x"],
        ["b.example/x", "a.example/x"],
        ["a.example/x", "b.example/x"],
        ["a.example/x", "unheard"],
    ] {
        assert!(trusted(&names).is_empty(), "{names:?}");
        assert!(host.decide(&names).stores.is_empty(), "{names:?}");
    }
    assert_eq!(trusted(&["a.example/x", "localhost/c"]), one);
    assert_eq!(trusted(&["localhost/c", "b.example/x", "b.example/y"]), two);
    // A rule that asks for nothing trusts nobody less, unless it says so.
    assert_eq!(trusted(&["a.example/x", "localhost/d"]), one);
    assert!(trusted(&["a.example/x", "localhost/e"]).is_empty());
}

/// Each setting, in a form that asks less and in one that asks more.
const SETTINGS: [(&str, &str, &str); 12] = [
    ("mode", "\"audit\"", "\"enforce\""),
    ("binding", "\"local\"", "\"required\""),
    ("identity", "false", "true"),
    ("verity", "\"off\"", "\"require\""),
    ("upper", "\"any\"", "\"empty\""),
    ("dates", "\"ignore\"", "\"enforce\""),
    ("rollback", "\"allow\"", "\"refuse\""),
    ("fetch", "\"on-mount\"", "\"never\""),
    ("fetch_timeout", "20", "10"),
    ("fetch_retry", "30", "90"),
    ("checkpoint", "\"allow\"", "\"refuse\""),
    ("cover", "[\"/usr\", \"/srv\"]", "[\"/usr/share\", \"/opt\"]"),
];

/// All of them.
fn all(strict: bool) -> String {
    SETTINGS.iter().map(|(key, lax, hard)| format!("{key} = {}\n", if strict { hard } else { lax })).collect()
}

fn shown(d: &Decision) -> String {
    let cover: Vec<String> = d.cover.iter().map(ToString::to_string).collect();
    let timeout = d.fetch_timeout.as_secs();
    format!(
        "{:?} {:?} {} {:?} {:?} {:?} {:?} {:?} {timeout} {:?} {:?} {cover:?}",
        d.mode, d.binding, d.identity, d.verity, d.upper, d.dates, d.rollback, d.fetch, d.fetch_retry, d.checkpoint
    )
}

#[test]
fn f04_every_setting_counts_in_its_strictest_form() {
    let Some(host) = Host::new() else { return };
    let write = |first: &str, second: &str| {
        let text = format!(
            "[default]\ntrust = [\"acme\"]\n[[rule]]\nimage = \"host.example/aaa/whole\"\n{first}\
             [[rule]]\nimage = \"z.example/*\"\n{second}"
        );
        host.write("etc/policy.toml", &text);
    };
    let (whole, short) = ("host.example/aaa/whole:1", "z.example/x:1");
    // By one name, by the other, and by both in any order; the longer pattern is the lenient one, and the other way.
    for strict_first in [true, false] {
        write(&all(strict_first), &all(!strict_first));
        let strict = host.decide(&[if strict_first { whole } else { short }]);
        for names in [[whole, short], [short, whole]] {
            let both = host.decide(&names);
            let mut wanted = strict.clone();
            wanted.cover = vec!["/usr/share".to_owned().try_into().unwrap()];
            assert_eq!(shown(&both), shown(&wanted), "{names:?}");
            let of = if strict_first { "host.example/aaa/whole in " } else { "z.example/* in " };
            for (key, ..) in SETTINGS.iter().filter(|(key, ..)| *key != "cover") {
                assert!(
                    both.sources[key].len() == 1 && both.sources[key][0].starts_with(of),
                    "{key}: {:?}",
                    both.sources
                );
            }
            assert_eq!(both.sources["cover"].len(), 2);
        }
    }
    // One setting of each.
    for (key, lax, hard) in SETTINGS.iter().filter(|(key, ..)| *key != "cover") {
        write(&format!("{key} = {lax}\n"), &format!("{key} = {hard}\n"));
        assert_eq!(shown(&host.decide(&[whole, short])), shown(&host.decide(&[short])), "{key}");
        assert_ne!(shown(&host.decide(&[whole])), shown(&host.decide(&[short])), "{key}");
        // A name that no rule is for has the default's.
        assert_eq!(host.decide(&[short, "x"]).sources["mode"].len(), 2, "{key}");
    }
    // What a rule with "off" has from the default alone is not asked where another name asks.
    write("binding = \"local\"\nidentity = false\n", "mode = \"off\"\n");
    assert_eq!(shown(&host.decide(&[whole, short])), shown(&host.decide(&[whole])));
    write("rollback = \"allow\"\n", "mode = \"off\"\nrollback = \"refuse\"\n");
    assert_eq!(host.decide(&[whole, short]).rollback, layerseal::policy::Rollback::Refuse);
}

/// A namespace of Kubernetes.
fn of(name: &str) -> PodNamespace {
    PodNamespace::Namespace(name.to_owned())
}

#[test]
fn f04_rules_of_a_namespace_are_for_its_containers_alone() {
    let Some(host) = Host::new() else { return };
    let rule = |image: &str, namespace: &str, mode: &str| {
        format!("[[rule]]\nimage = \"{image}\"\nnamespace = \"{namespace}\"\nmode = \"{mode}\"\n")
    };
    let acme = "[[rule]]\nimage = \"quay.io/acme/*\"\nmode = \"enforce\"\n";
    let audit = "[default]\nmode = \"audit\"\n";
    host.write("etc/policy.toml", &[audit, &rule("*", "prod", "enforce"), &rule("*", "dev", "off"), acme].concat());
    for (place, name, mode) in [
        (PodNamespace::NotInPod, "other/x", Mode::Audit),
        (of("stage"), "other/x", Mode::Audit),
        (of("prod"), "other/x", Mode::Enforce),
        // It loosens what the default asks, and there only.
        (of("dev"), "other/x", Mode::Off),
        (of("dev"), "quay.io/acme/x", Mode::Enforce),
        (of("dev-2"), "other/x", Mode::Audit),
        (of("*"), "other/x", Mode::Audit),
        (of(""), "other/x", Mode::Audit),
        // All of them, and what counts without: the rule with "off" takes nothing away.
        (PodNamespace::Unknown, "other/x", Mode::Enforce),
    ] {
        assert_eq!(host.decide_at(&place, &[name]).mode, mode, "{place:?} {name}");
    }
    let dev = host.decide_at(&of("dev"), &["quay.io/acme/x", "other/y"]);
    assert_eq!((dev.mode, dev.name.as_ref().map(|n| n.as_str())), (Mode::Enforce, Some("quay.io/acme/x")));
    assert!(host.decide_at(&of("prod"), &["x"]).source.starts_with("* (namespace prod) in "));
    // Without any name, and where nothing but a rule that loosens is for the place.
    assert_eq!(host.decide_at(&of("dev"), &[]).mode, Mode::Off);
    host.write("etc/policy.toml", &[audit, &rule("*", "dev", "off")].concat());
    assert_eq!(host.decide_at(&PodNamespace::Unknown, &["x"]).mode, Mode::Audit);
    assert!(!host.load().unwrap().enforces());
    // Rules of one place are a list: the most specific one. Those of several combine.
    let rules = [rule("*", "team-*", "enforce"), rule("a.example/*", "team-*", "off"), rule("*", "team-b", "audit")];
    host.write("etc/policy.toml", &(audit.to_owned() + &rules.concat()));
    for (place, name, mode) in [
        ("team-a", "a.example/x", Mode::Off),
        ("team-a", "b.example/x", Mode::Enforce),
        ("team-b", "a.example/x", Mode::Audit),
    ] {
        assert_eq!(host.decide_at(&of(place), &[name]).mode, mode, "{place} {name}");
    }
    // A short name stands for what podman would complete it to, in a place as well.
    host.write("etc/policy.toml", &[audit, &rule("quay.io/acme/*", "prod", "enforce")].concat());
    assert_eq!(host.decide_at(&of("prod"), &["localhost/acme/x"]).mode, Mode::Enforce);
    assert_eq!(host.decide_at(&of("dev"), &["localhost/acme/x"]).mode, Mode::Audit);
    assert!(host.load().unwrap().enforces(), "what cannot be found out may be of that place");
    assert!(host.load().unwrap().for_unknown().is_none());
    // Which lenient defaults somebody can reach by a name: none, where the rule is for every name.
    assert_eq!(host.load().unwrap().weaker_defaults().len(), 1);
    host.write("etc/policy.toml", &[audit, &rule("*", "prod", "enforce")].concat());
    assert_eq!(host.load().unwrap().weaker_defaults(), [""; 0]);
    // One rule for an image in a place, wherever it stands.
    host.write("etc/policy.d/again.toml", &rule("*", "prod-*", "off"));
    assert!(host.load().is_ok());
    host.write("etc/policy.d/again.toml", &rule("*", "prod", "off"));
    assert_eq!(host.refused(), Case::F03Policy);
}

#[test]
fn f04_rules_of_a_place_and_of_a_name_combine_each_setting_to_its_strictest() {
    let Some(host) = Host::new() else { return };
    let other = host.certificate("etc", "other", "b.crt", &stranger().cert.to_pem().unwrap());
    let write = |name: &str, place: &str| {
        let text = format!(
            "[default]\ntrust = [\"acme\"]\n[[rule]]\nimage = \"quay.io/acme/app\"\n{name}\
             [[rule]]\nimage = \"*\"\nnamespace = \"prod\"\n{place}"
        );
        host.write("etc/policy.toml", &text);
    };
    let (app, prod) = (&["quay.io/acme/app:1"], of("prod"));
    for strict_name in [true, false] {
        write(&all(strict_name), &all(!strict_name));
        let strict = if strict_name { host.decide(app) } else { host.decide_at(&prod, &["x"]) };
        let mut wanted = strict.clone();
        wanted.cover = vec!["/usr/share".to_owned().try_into().unwrap()];
        assert_eq!(shown(&host.decide_at(&prod, app)), shown(&wanted));
        assert_eq!(shown(&host.decide_at(&PodNamespace::Unknown, app)), shown(&wanted));
        let name_alone = host.decide(app);
        assert_eq!(shown(&host.decide_at(&of("dev"), app)), shown(&name_alone));
        assert_eq!(shown(&host.decide_at(&PodNamespace::NotInPod, app)), shown(&name_alone));
    }
    for (key, lax, hard) in SETTINGS.iter().filter(|(key, ..)| *key != "cover") {
        for (name, place) in [(lax, hard), (hard, lax)] {
            write(&format!("{key} = {name}\n"), &format!("{key} = {place}\n"));
            let both = host.decide_at(&prod, app);
            write(&format!("{key} = {hard}\n"), &format!("{key} = {hard}\n"));
            assert_eq!(shown(&both), shown(&host.decide_at(&prod, app)), "{key}");
            assert_eq!(both.sources[key].len(), 1, "{key}");
        }
    }
    // Trusted is who both trust.
    write("trust = [\"acme\"]\n", "trust = [\"other\"]\n");
    assert_eq!(host.decide_at(&prod, app).certificates.len(), 0, "{}", other.display());
    assert_eq!(host.decide_at(&prod, &["x"]).stores, ["other"]);
    assert_eq!(host.decide_at(&of("dev"), app).stores, ["acme"]);
}

#[test]
fn f04_a_short_name_is_decided_by_the_name_that_it_stands_for() {
    let Some(host) = Host::new() else { return };
    let rule = |image: &str, mode: &str| format!("[[rule]]\nimage = \"{image}\"\nmode = \"{mode}\"\n");
    let acme = rule("registry.example.com/acme/*", "enforce") + &rule("docker.io/library/web", "enforce");
    host.write("etc/policy.toml", &(rule("localhost/*", "off") + &acme));
    for (name, mode) in [
        ("localhost/acme/app:1", Mode::Enforce),
        ("localhost/acme/app@sha256:00", Mode::Enforce),
        ("LocalHost/acme/app:1", Mode::Enforce),
        ("localhost/web", Mode::Enforce),
        ("localhost/library/web", Mode::Enforce),
        // podman takes a name that is there as it is before it looks for any other.
        ("acme/app:1", Mode::Enforce),
        ("web", Mode::Enforce),
        ("acme/app@sha256:00", Mode::Enforce),
        ("localhost/acmes/app", Mode::Off),
        ("localhost/other", Mode::Off),
        ("localhost/webs", Mode::Off),
    ] {
        assert_eq!(host.decide(&[name]).mode, mode, "{name}");
    }
    // A rule for all of a host is for no short name: builds have those too. Who means the local one says so.
    host.write("etc/policy.toml", &(rule("localhost/*", "off") + &rule("registry.example.com/*", "enforce")));
    assert_eq!(host.decide(&["localhost/acme/app"]).mode, Mode::Off);
    host.write("etc/policy.toml", &(rule("localhost/acme/app", "off") + &acme));
    assert_eq!(host.decide(&["localhost/acme/app"]).mode, Mode::Off);
    assert_eq!(host.decide(&["localhost/acme/other"]).mode, Mode::Enforce);
}

#[test]
fn f04_hosts_are_compared_in_one_form() {
    let Some(host) = Host::new() else { return };
    let rule = |image: &str, mode: &str| format!("[[rule]]\nimage = \"{image}\"\nmode = \"{mode}\"\n");
    for pattern in [
        "registry.example.com/acme/*",
        "Registry.Example.Com/acme/app",
        "registry.example.com.:443/acme/app",
        "REGISTRY*",
    ] {
        host.write("etc/policy.toml", &format!("[default]\nmode = \"off\"\n{}", rule(pattern, "audit")));
        for name in [
            "registry.example.com/acme/app:1",
            "REGISTRY.example.com/acme/app",
            "registry.example.com./acme/app:1",
            "registry.example.com:443/acme/app@sha256:00",
        ] {
            assert_eq!(host.decide(&[name]).mode, Mode::Audit, "{pattern}: {name}");
        }
        for name in ["registry.example.com:5000/acme/app", "registry.example.org/acme/app"] {
            let mode = if pattern == "REGISTRY*" { Mode::Audit } else { Mode::Off };
            assert_eq!(host.decide(&[name]).mode, mode, "{pattern}: {name}");
        }
    }
    // Two rules for one place are two, however they are written.
    host.write("etc/policy.toml", &(rule("a.example/x", "off") + &rule("A.example:443/x", "audit")));
    assert_eq!(host.refused(), Case::F03Policy);
}

#[test]
fn f04_names_of_docker_hub_are_compared_as_podman_records_them() {
    let Some(host) = Host::new() else { return };
    let rule = |image: &str, mode: &str| format!("[[rule]]\nimage = \"{image}\"\nmode = \"{mode}\"\n");
    for pattern in ["docker.io/web", "index.docker.io/web", "docker.io/library/web", "docker.io/we*"] {
        host.write("etc/policy.toml", &format!("[default]\nmode = \"off\"\n{}", rule(pattern, "audit")));
        for name in ["docker.io/web:1", "index.docker.io/web", "docker.io/library/web@sha256:00"] {
            assert_eq!(host.decide(&[name]).mode, Mode::Audit, "{pattern}: {name}");
        }
        for name in ["docker.io/acme/web", "docker.io/library/acme/web", "quay.io/web", "localhost/other"] {
            assert_eq!(host.decide(&[name]).mode, Mode::Off, "{pattern}: {name}");
        }
    }
    // What is short for them counts for these rules too.
    host.write("etc/policy.toml", &(rule("localhost/*", "off") + &rule("docker.io/web", "enforce")));
    assert_eq!(host.decide(&["localhost/web"]).mode, Mode::Enforce);
    assert_eq!(host.decide(&["localhost/webs"]).mode, Mode::Off);
    // One rule for a name, however it is written.
    host.write("etc/policy.toml", &(rule("docker.io/web", "off") + &rule("index.docker.io/library/web", "audit")));
    assert_eq!(host.refused(), Case::F03Policy);
    // A rule that would never apply.
    host.write("etc/policy.toml", &("[default]\nmode = \"off\"\n".to_owned() + &rule("web", "enforce")));
    assert_eq!(host.refused(), Case::F03Policy);
}

#[test]
fn f04_a_default_that_asks_less_than_a_rule_is_found() {
    let Some(host) = Host::new() else { return };
    host.write(
        "etc/policy.toml",
        "[default]\nmode = \"audit\"\ntrust = [\"acme\"]\nidentity = false\n[[rule]]\nimage = \"a.example/*\"\n\
         mode = \"enforce\"\nrollback = \"refuse\"\n[[rule]]\nimage = \"b.example/*\"\nmode = \"off\"\nupper = \"empty\"",
    );
    let found = host.load().unwrap().weaker_defaults();
    let settings: Vec<&str> = found.iter().filter_map(|f| f.split(' ').next()).collect();
    assert_eq!(settings, ["mode", "rollback"]);
    assert!(found.iter().all(|f| f.contains("stricter for a.example/* in ")), "{found:?}");
    host.write("etc/policy.toml", "[default]\ntrust = [\"acme\"]\n[[rule]]\nimage = \"a.example/*\"\nmode = \"audit\"");
    assert_eq!(host.load().unwrap().weaker_defaults(), [""; 0]);
}

#[test]
fn f03_how_images_are_mounted_is_said_once() {
    let Some(host) = Host::new() else { return };
    host.write("etc/policy.toml", "");
    let settings = |nodev, nosuid, top| MountSettings { nodev, nosuid, top };
    assert_eq!(*host.load().unwrap().mount(), settings(true, false, RootDriver::Kernel));
    host.write("etc/policy.d/mount.toml", "[mount]\nnodev = false\nnosuid = true\ntop = \"fuse-overlayfs\"");
    assert_eq!(*host.load().unwrap().mount(), settings(false, true, RootDriver::FuseOverlayfs));
    host.write("etc/policy.toml", "[mount]\nnosuid = true");
    assert_eq!(host.refused(), Case::F03Policy);
}

#[test]
fn f01_anchors_are_authorities_and_no_signers() {
    let Some(host) = Host::new() else { return };
    host.write("etc/policy.toml", "[default]\ntrust = [\"acme\"]");
    std::fs::create_dir_all(host.0.path("etc/trust.d/acme/ca")).unwrap();
    host.load().unwrap();
    // A signer's certificate is no authority.
    host.certificate("etc", "acme/ca", "root.crt", &stranger().cert.to_pem().unwrap());
    let refusal = host.load().unwrap_err();
    assert_eq!(refusal.case(), Case::E10Usage);
    assert!(refusal.to_string().contains("root.crt"), "{refusal}");
    let pem = std::process::Command::new("openssl")
        .args("req -x509 -newkey rsa:2048 -nodes -days 2 -subj /CN=authority -keyout /dev/null".split(' '))
        .output()
        .unwrap()
        .stdout;
    host.certificate("etc", "acme/ca", "root.crt", &pem);
    let decision = host.load().unwrap().decide(&[]);
    assert_eq!((decision.anchors.len(), decision.certificates.len()), (1, 1));
    // Alone it is a trust store too.
    for file in std::fs::read_dir(host.0.path("etc/trust.d/acme")).unwrap() {
        let path = file.unwrap().path();
        if path.is_file() {
            std::fs::remove_file(path).unwrap();
        }
    }
    let _ = std::fs::remove_dir_all(host.0.path("usr/trust.d"));
    let _ = std::fs::remove_dir_all(host.0.path("run/trust.d"));
    let decision = host.load().unwrap().decide(&[]);
    assert_eq!((decision.anchors.len(), decision.certificates.len()), (1, 0));
    std::fs::remove_file(host.0.path("etc/trust.d/acme/ca/root.crt")).unwrap();
    assert_eq!(host.refused(), Case::F01Store);
}

#[test]
fn f06_lists_and_certificates_of_all_directories_are_denied() {
    let Some(host) = Host::new() else { return };
    host.write("etc/policy.toml", "");
    let digest = |name: &str| BlobDigest::of(name.as_bytes());
    host.deny("usr", "10-a.list", format!("# first\n{}\n", digest("usr")).as_bytes());
    host.deny("run", "20-b.list", format!("{} # why\n", digest("run")).as_bytes());
    host.deny("etc", "bad.pem", &[signer().cert.to_pem().unwrap(), stranger().cert.to_pem().unwrap()].concat());
    let policy = host.load().unwrap();
    let denied = policy.denied();
    assert_eq!(denied.count(), (2, 2));
    assert!(denied.blob(&digest("usr"), "x").is_err() && denied.blob(&digest("run"), "x").is_err());
    assert!(denied.blob(&digest("other"), "x").is_ok());
    for cert in [&signer().cert, &stranger().cert] {
        let fingerprint = Fingerprint::of(&cert.to_der().unwrap());
        let refusal = denied.certificate(fingerprint).unwrap_err();
        assert_eq!(refusal.case(), Case::F06Denied);
        assert!(refusal.to_string().contains("etc/deny.d/bad.pem"), "{refusal}");
    }
    // Hidden by name and masked, as everything else.
    host.deny("etc", "10-a.list", b"# nothing any more\n");
    symlink("/dev/null", host.0.path("etc/deny.d/20-b.list")).unwrap();
    std::fs::remove_file(host.0.path("etc/deny.d/bad.pem")).unwrap();
    assert_eq!(host.load().unwrap().denied().count(), (0, 0));
}

#[test]
fn f06_what_is_not_understood_is_refused() {
    let Some(host) = Host::new() else { return };
    host.write("etc/policy.toml", "");
    for (name, bytes, case) in [
        ("x.list", &b"sha256:00"[..], Case::F03Denied),
        ("x.list", b"manifest sha256:00", Case::F03Denied),
        ("x.list", b"\xff", Case::F03Denied),
        ("x.txt", b"", Case::F03Denied),
        ("digests", b"", Case::F03Denied),
        ("x.crt", b"garbage", Case::F02Certificate),
        ("x.der", b"\x30\x03\x02\x01\x01", Case::F02Certificate),
    ] {
        let path = host.deny("etc", name, bytes);
        assert_eq!(host.refused(), case, "{name}: {bytes:?}");
        std::fs::remove_file(path).unwrap();
    }
    // What a package manager leaves is not configuration.
    for name in ["x.list.dpkg-new", "x.list.rpmsave", ".x.list.swp", "x.list~"] {
        host.deny("etc", name, b"garbage");
    }
    host.load().unwrap();
    // That is how a name ends, and not what stands in it.
    for name in ["acme.rpm.list", "acme.dpkg-dist.list", "x.rpm", "x.list.rpmsave.bak", "x.list.dpkg-"] {
        let path = host.deny("etc", name, b"garbage");
        assert_eq!(host.refused(), Case::F03Denied, "{name}");
        std::fs::remove_file(path).unwrap();
    }
    let digest = BlobDigest::of(b"x");
    for name in ["kernel.rpms.list", "a.dpkg-new.list"] {
        let path = host.deny("etc", name, format!("{digest}\n").as_bytes());
        assert!(host.load().unwrap().denied().blob(&digest, "x").is_err(), "{name}");
        std::fs::remove_file(path).unwrap();
    }
    // A certificate that is too weak to be trusted can be denied.
    let weak = common::Signer::new("weak", 1024, -1, 30);
    let path = host.deny("etc", "weak.crt", &weak.cert.to_pem().unwrap());
    assert_eq!(host.load().unwrap().denied().count(), (1, 0));
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o666)).unwrap();
    assert_eq!(host.refused(), Case::F03Denied);
}

/// A name that is no UTF-8, in a directory that is read.
fn odd_name(ending: &str) -> std::ffi::OsString {
    std::os::unix::ffi::OsStringExt::from_vec([b"\xff", ending.as_bytes()].concat())
}

#[test]
fn f03_names_that_are_no_text_are_not_passed_over() {
    let Some(host) = Host::new() else { return };
    host.write("etc/policy.toml", "[default]\ntrust = [\"acme\"]");
    host.certificate("run", "acme/ca", "a.crt.dpkg-new", b"garbage");
    std::fs::create_dir_all(host.0.path("etc/deny.d")).unwrap();
    host.load().unwrap();
    for (place, ending) in [
        ("etc/deny.d", ".list"),
        ("etc/deny.d", ".crt"),
        ("etc/deny.d", "~"),
        ("etc/policy.d", ".toml"),
        ("usr/policy.d", ""),
        ("run/trust.d/acme", ".crt"),
        ("run/trust.d/acme/ca", ".pem"),
    ] {
        let path = host.0.path(place).join(odd_name(ending));
        std::fs::write(&path, "garbage").unwrap();
        let case = if place == "etc/deny.d" { Case::F03Denied } else { Case::F03Policy };
        assert_eq!(host.refused(), case, "{place} {ending}");
        std::fs::remove_file(path).unwrap();
    }
    host.load().unwrap();
}

/// A drop-in or a certificate of which the name says nothing is not one that is not there.
#[test]
fn f03_other_names_in_the_configuration_are_refused() {
    let Some(host) = Host::new() else { return };
    host.write("etc/policy.toml", "[default]\nmode = \"audit\"\ntrust = [\"acme\"]");
    for (place, name, case) in [
        ("etc/policy.d", "10-strict.tml", Case::F03Policy),
        ("etc/policy.d", "10-strict.TOML", Case::F03Policy),
        ("etc/policy.d", "10.rpm.conf", Case::F03Policy),
        ("run/trust.d/acme", "new.CRT", Case::F01Store),
        ("run/trust.d/acme", "new.rpm.cert", Case::F01Store),
        ("run/trust.d/acme/ca", "README", Case::F01Store),
    ] {
        let path = host.0.path(place).join(name);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(&path, "version = 1\n[[rule]]\nimage = \"localhost/x\"\nmode = \"enforce\"\n").unwrap();
        assert_eq!(host.refused(), case, "{place} {name}");
        std::fs::remove_file(path).unwrap();
    }
    // What editors and package managers leave.
    for name in ["10.toml.rpmnew", "10.toml.dpkg-old", "10.toml~", ".10.toml.swp", "10.toml.ucf-dist"] {
        host.0.write(&format!("etc/policy.d/{name}"), b"garbage");
        host.certificate("run", "acme", name, b"garbage");
    }
    symlink("/dev/null", host.0.path("etc/policy.d/anything")).unwrap();
    assert_eq!(host.decide(&["localhost/x"]).mode, Mode::Audit);
    host.write("etc/policy.d/10.rpm.toml", "[[rule]]\nimage = \"localhost/x\"\nmode = \"enforce\"");
    assert_eq!(host.decide(&["localhost/x"]).mode, Mode::Enforce);
}
