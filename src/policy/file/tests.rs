use super::*;

#[test]
fn f03_only_what_is_known_is_read() {
    assert!(
        parse("version = 1\n[default]\nmode = \"audit\"\n[[rule]]\nimage = \"a/*\"\nfetch = \"on-mount\"", "p").is_ok()
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
        "version = 1\n[[rule]]\nimage = \"a\"\nmdoe = \"off\"",
        "version = 1\n[[rule]]\nimage = \"a*b\"",
        "version = 1\n[[rule]]\nimage = \"a:tag\"",
        "version = 1\n[[rule]]\nimage = \"\"",
        "version = 1\n[[rule]]\nimage = \"a\"\nnamespace = \"\"",
        "version = 1\n[[rule]]\nimage = \"a\"\nnamespace = \"Prod\"",
        "version = 1\n[[rule]]\nimage = \"a\"\nnamespace = \"p*d\"",
        "version = 1\n[[rule]]\nimage = \"a\"\nnamespace = [\"prod\"]",
        "version = 1\n[[rule]]\nnamespace = \"prod\"",
        "version = 1\n[default]\nnamespace = \"prod\"",
        // The container runtime is not told about it.
        "version = 1\n[[rule]]\nimage = \"a\"\nservice_account = \"default\"",
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
    assert!(pattern("localhost/*").matches("localhost/x/y"));
    assert!(!pattern("localhost/*").matches("localhost"));
    assert!(pattern("*").matches("anything"));
    assert!(pattern("a/b").matches("a/b") && !pattern("a/b").matches("a/bc"));
    assert!(pattern("a/b").specificity() > pattern("a/bcdef*").specificity());
    assert!(pattern("a/b*").specificity() > pattern("a/*").specificity());
}
