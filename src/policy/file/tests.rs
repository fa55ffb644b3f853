use super::*;

#[test]
fn f03_only_what_is_known_is_read() {
    assert!(
        parse("version = 1\n[default]\nmode = \"audit\"\n[[rule]]\nimage = \"a.example/*\"\nfetch = \"on-mount\"", "p")
            .is_ok()
    );
    for bad in [
        "",
        "version = 2",
        "version = 1\nextra = 1",
        "version = 1\n[store]\nvalut = \"/v\"",
        "version = 1\n[store]\nvault = \"v\"",
        "version = 1\n[store]\nvault = \"/\"",
        "version = 1\n[store]\nvault = \"/a/../b\"",
        "version = 1\n[default]\nmodes = \"off\"",
        "version = 1\n[default]\nmode = \"Off\"",
        "version = 1\n[[rule]]\nmode = \"off\"",
        "version = 1\n[[rule]]\nimage = \"a.example/a\"\nmdoe = \"off\"",
        "version = 1\n[[rule]]\nimage = \"a.example/a*b\"",
        "version = 1\n[[rule]]\nimage = \"a.example/a:tag\"",
        "version = 1\n[[rule]]\nimage = \"\"",
        "version = 1\n[[rule]]\nimage = \"a.example/a\"\nnamespace = \"\"",
        "version = 1\n[[rule]]\nimage = \"a.example/a\"\nnamespace = \"Prod\"",
        "version = 1\n[[rule]]\nimage = \"a.example/a\"\nnamespace = \"p*d\"",
        "version = 1\n[[rule]]\nimage = \"a.example/a\"\nnamespace = [\"prod\"]",
        "version = 1\n[[rule]]\nnamespace = \"prod\"",
        "version = 1\n[default]\nnamespace = \"prod\"",
        // The container runtime is not told about it.
        "version = 1\n[[rule]]\nimage = \"a.example/a\"\nservice_account = \"default\"",
        "version = 1\n[default]\ncover = \"/usr\"",
        "version = 1\n[default]\ncover = [\"usr\"]",
        "version = 1\n[default]\ncover = [\"/usr/\"]",
        "version = 1\n[default]\ncover = [\"/usr/share/*\"]",
        "version = 1\n[default]\ncover = [\"/usr/../etc\"]",
        "version = 1\nversion = 1",
        "version = 1\n[mount]\nnoexec = true",
        "version = 1\n[mount]\ntop = \"fuse\"",
        "version = 1\n[[mount]]\nnodev = true",
        "version = 1\n[rootless]\nmode = \"no\"",
        "version = 1\n[rootless]\nidentity = false",
        "version = 1\n[default]\nnodev = true",
        "{",
    ] {
        assert_eq!(parse(bad, "p").err().map(|r| r.case()), Some(crate::error::Case::F03Policy), "{bad}");
    }
}

#[test]
fn o04_a_cover_is_a_place_and_what_is_beneath_it() {
    let cover = |text: &str| Cover::try_from(text.to_owned()).unwrap();
    assert!(cover("/usr/lib").holds("/usr/lib") && cover("/usr/lib").holds("/usr/lib/x"));
    assert!(!cover("/usr/lib").holds("/usr/lib64") && !cover("/usr/lib").holds("/usr"));
    assert!(cover("/").holds("/usr"));
}

#[test]
fn f04_patterns_match_and_rank() {
    let pattern = |text: &str| NamePattern::parse(text).unwrap();
    let matches = |text: &str, name: &str| pattern(text).matches(name).is_some();
    assert!(matches("localhost/*", "localhost/x/y"));
    assert!(!matches("localhost/*", "localhost"));
    assert!(matches("*", "anything"));
    assert!(matches("localhost/b", "localhost/b") && !matches("localhost/b", "localhost/bc"));
    assert!(pattern("localhost/b").specificity() > pattern("localhost/bcdef*").specificity());
    assert!(pattern("localhost/b*").specificity() > pattern("localhost/*").specificity());
}

#[test]
fn f04_patterns_for_docker_hub_are_for_what_podman_records() {
    for (text, shown, matching, others) in [
        ("docker.io/fresh", "docker.io/library/fresh", &["docker.io/library/fresh"][..], &["docker.io/fresh/x"][..]),
        ("index.docker.io/library/fresh", "docker.io/library/fresh", &["docker.io/library/fresh"], &[]),
        ("Docker.io:443/fresh", "docker.io/library/fresh", &["docker.io/library/fresh"], &["docker.io/library/freshs"]),
        ("index.docker.io/acme/*", "docker.io/acme/*", &["docker.io/acme/app"], &["docker.io/library/acme"]),
        // Whatever can be written with this beginning.
        (
            "docker.io/fresh*",
            "docker.io/fresh*",
            &["docker.io/library/fresh", "docker.io/library/freshest", "docker.io/fresher/app"],
            &["docker.io/library/fres", "docker.io/library/fresh/x", "docker.io/acme/fresh", "localhost/fresh"],
        ),
        ("index.docker.io/fresh*", "docker.io/fresh*", &["docker.io/library/fresh"], &["docker.io/library/x"]),
        (
            "docker.io/*",
            "docker.io/*",
            &["docker.io/library/fresh", "docker.io/acme/app"],
            &["docker.io.example.com/x"],
        ),
        ("docker.io/f/x*", "docker.io/f/x*", &["docker.io/f/x1"], &["docker.io/library/f/x1", "docker.io/library/x1"]),
        ("docker.io/library/f*", "docker.io/library/f*", &["docker.io/library/fresh"], &["docker.io/f/x"]),
    ] {
        let pattern = NamePattern::parse(text).unwrap();
        assert_eq!(pattern.to_string(), shown);
        for (names, wanted) in [(matching, true), (others, false)] {
            for name in names {
                assert_eq!(pattern.matches(name).is_some(), wanted, "{text}: {name}");
            }
        }
    }
    // The most specific one, by what each is for; never one by the order of the files.
    let ranked = ["docker.io/*", "docker.io/library/*", "docker.io/f*", "docker.io/library/f*", "docker.io/fresh"];
    let ranks = ranked.map(|text| NamePattern::parse(text).unwrap().matches("docker.io/library/fresh").unwrap());
    assert!(ranks.is_sorted_by(|a, b| a < b), "{ranks:?}");
}

#[test]
fn f03_a_pattern_that_no_name_can_match_is_refused() {
    for (text, instead) in [
        ("nginx", "docker.io/nginx or localhost/nginx"),
        ("acme/app", "docker.io/acme/app or localhost/acme/app"),
        ("acme/*", "docker.io/acme/* or localhost/acme/*"),
        ("registry.example.com", "registry.example.com/*"),
        ("localhost", "localhost/*"),
        ("docker://docker.io/fresh", "write docker.io/fresh"),
        ("containers-storage://localhost/*", "write localhost/*"),
        ("https://registry.example.com/*", "write registry.example.com/*"),
        ("registry.example.com/acme/", "registry.example.com/acme/*"),
        ("registry.example.com/", "registry.example.com/*"),
        ("registry.example.com/acme/app ", "write registry.example.com/acme/app"),
        (" localhost/*", "write localhost/*"),
        ("registry.example.com/acme/*  ", "star"),
        ("registry.example.com/Acme/App", "registry.example.com/acme/app"),
        ("registry.example.com/Acme*", "registry.example.com/acme*"),
        ("registry.example.com:443*", "registry.example.com/*"),
        ("Registry.example.com:*", "registry.example.com/*"),
        ("registry.example.com:0*", "registry.example.com/*"),
        ("registry.example.com:5x*", "registry.example.com/*"),
        ("index.docker.io*", "docker.io/*"),
        ("registry.example.com/acme/app:1", "tag or digest"),
        ("registry.example.com/acme/app:*", "tag or digest"),
        ("registry.example.com/acme/app@sha256:*", "tag or digest"),
        ("registry.example.com/acme//app", "no name has such a path"),
        ("registry.example.com/acme/../app*", "no name has such a path"),
        ("registry.example.com//*", "no name has such a path"),
        ("registry.example.com:port/*", "HOST:PORT/PATH"),
        ("_registry.example.com/*", "HOST:PORT/PATH"),
        ("/acme*", "begin with a host"),
        (".example*", "HOST/*"),
        ("<nothing>", "<rootfs>"),
        ("<root>*", "<rootfs>"),
        ("", "empty"),
        ("a*b", "star"),
    ] {
        let why = NamePattern::parse(text).expect_err(text);
        assert!(why.contains(instead), "{text:?}: {why}");
    }
    for text in [
        "*",
        "<none>",
        "<rootfs>",
        "<unknown>",
        "<*",
        "localhost/*",
        "localhost*",
        "localhost/podman-pause*",
        "registry.example*",
        "REGISTRY/app",
        "registry.example.com:5000/*",
        "registry.example.com:50*",
        "registry.example.com:0443/a_b/c__d/e--f.g-*",
        "127.0.0.1:5000/x",
    ] {
        assert!(NamePattern::parse(text).is_ok(), "{text}: {:?}", NamePattern::parse(text));
    }
}
