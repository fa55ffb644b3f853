//! What people type: every mistake is one line with what to do, the exit code of its class, and nothing
//! left behind.

use crate::common::{Bench, Layout, signer, two_layers};
use crate::forge::{sealed, small};

/// A bench with an unsigned image in `oci:image` and a key.
fn bench() -> Bench {
    let bench = Bench::new();
    bench.signer("signer", signer());
    Layout::new(&bench.path("image"), &small());
    bench
}

/// The refusal's line has a remedy between the reason and the case.
#[track_caller]
fn with_remedy(run: crate::common::Run, code: i32, case: &str) -> String {
    let run = run.refused(code, case);
    let line = run.stderr.lines().find(|l| l.starts_with("Error: ")).unwrap().to_owned();
    assert!(line.contains("; "), "no remedy: {line}");
    assert!(run.stdout.is_empty(), "{}", run.stdout);
    line
}

#[test]
fn layouts_that_are_none_are_told() {
    let bench = bench();
    std::fs::create_dir(bench.path("empty")).unwrap();
    bench.write("file", b"x");
    for (name, version) in [("old", r#"{"imageLayoutVersion":"0.9"}"#), ("odd", "{"), ("none", "")] {
        std::fs::create_dir_all(bench.path(name).join("blobs/sha256")).unwrap();
        std::fs::write(bench.path(name).join("oci-layout"), version).unwrap();
    }
    std::fs::create_dir(bench.path("no-blobs")).unwrap();
    std::fs::copy(bench.path("image/oci-layout"), bench.path("no-blobs/oci-layout")).unwrap();
    std::fs::create_dir_all(bench.path("no-index/blobs/sha256")).unwrap();
    std::fs::copy(bench.path("image/oci-layout"), bench.path("no-index/oci-layout")).unwrap();
    let cases = [
        ("oci:missing", 2, "X04"),
        ("oci:file", 2, "X04"),
        ("oci:/dev/null", 2, "X04"),
        ("oci:empty", 4, "X05"),
        ("oci:old", 4, "X05"),
        ("oci:odd", 4, "D14"),
        ("oci:none", 4, "D14"),
        ("oci:no-blobs", 4, "X05"),
        ("oci:no-index", 4, "X05"),
    ];
    std::fs::create_dir(bench.path("mnt")).unwrap();
    for (image, code, case) in cases {
        let verbs: [&[&str]; 6] = [
            &["verify", image],
            &["pull", image],
            &["inspect", image],
            &["digest", image],
            &["mount", image, "mnt"],
            &["sign", image, "--cert", "signer.crt", "--key", "signer.key"],
        ];
        for verb in verbs {
            with_remedy(bench.run(verb), code, case);
        }
        assert!(!bench.vault().exists(), "{image} made a vault");
    }
}

#[test]
fn images_that_are_not_there_are_told_with_those_that_are() {
    let bench = bench();
    let run = with_remedy(bench.run(&["verify", "oci:image:v9"]), 2, "X04");
    assert!(run.contains("v9") && run.contains("latest"), "{run}");
    let layout = Layout::new(&bench.path("empty-index"), &small());
    layout.set_index(serde_json::json!([]));
    with_remedy(bench.run(&["verify", "oci:empty-index"]), 2, "X04");
    // Several, and none of them `latest`.
    let image = layout.descriptor(crate::forge::MANIFEST, layout.manifest.to_string().as_bytes());
    let named = ["v1", "v2"].map(|tag| {
        let mut entry = image.clone();
        entry["annotations"] = serde_json::json!({"org.opencontainers.image.ref.name": tag});
        entry
    });
    layout.set_index(serde_json::json!(named));
    let run = with_remedy(bench.run(&["verify", "oci:empty-index"]), 2, "X04");
    assert!(run.contains("v1") && run.contains("v2"), "{run}");
    // In a vault that is not there, and in one that is.
    with_remedy(bench.run(&["verify", "nothing"]), 2, "X04");
    bench.run(&["pull", "oci:image"]).ok();
    for name in ["nothing", &format!("@sha256:{}", "a".repeat(64))] {
        for verb in ["verify", "inspect", "untag"] {
            let run = bench.run(&[verb, name]);
            assert_eq!(run.code, 2, "{verb} {name}: {}", run.stderr);
        }
    }
    with_remedy(bench.run(&["untag", "nothing"]), 2, "X04");
}

#[test]
fn references_that_cannot_be_read_are_usage() {
    let bench = bench();
    let before = bench.vault_files();
    let bad = [
        "docker://",
        "docker:quay.io/x",
        "docker://quay.io/X",
        "docker://quay.io/x:a b",
        "docker://quay.io/x:v1@sha256:0000000000000000000000000000000000000000000000000000000000000000",
        "containers-storage:x",
        "dir:x",
        "docker-archive:x.tar",
        "oci-archive:x",
        "",
        "oci:",
        "oci::tag",
        "../x",
        "a//b",
        "a b",
        "a\nb",
        "oci:image:",
        "oci:image:a b",
        "--",
        "@",
        "@sha256:xx",
    ];
    for reference in bad {
        let run = bench.run(&["verify", "--", reference]);
        assert!(run.code == 2 && !run.stderr.is_empty(), "{reference:?}: {} {}", run.code, run.stderr);
    }
    for args in [
        &["verify"][..],
        &["verify", "a", "b"],
        &["nonsense"],
        &["sign", "oci:image"],
        &["sign", "oci:image", "--cert"],
        &["pull", "oci:image", "--require-signature"],
        &["mount", "oci:image"],
    ] {
        assert_eq!(bench.run(args).code, 2, "{args:?}");
    }
    for name in ["../x", ".hidden", "a/../b", "oci:x", "@sha256:aa", "a b", ""] {
        let run = bench.run(&["pull", "oci:image", "--name", name]);
        let case = if name.starts_with('@') { (4, "B07") } else { (2, "X03") };
        run.refused(case.0, case.1);
        assert_eq!(bench.vault_files(), before, "{name:?} left something");
    }
    with_remedy(bench.run(&["verify", "oci:image", "--trust", "signer.crt", "--seal", "name"]), 2, "A01");
    with_remedy(
        bench.run(&["sign", "oci:image", "--cert", "signer.crt", "--key", "signer.key", "--identity", "bad name"]),
        2,
        "A01",
    );
    with_remedy(bench.run(&["push", "oci:image", "name"]), 2, "A01");
    with_remedy(bench.run(&["tag", "oci:image", "name"]), 2, "A01");
}

#[test]
fn f01_trust_that_names_nobody_is_refused() {
    let (bench, _forge) = sealed(&small());
    std::fs::create_dir(bench.path("empty")).unwrap();
    std::fs::create_dir(bench.path("mixed")).unwrap();
    std::fs::copy(bench.path("signer.crt"), bench.path("mixed/a.crt")).unwrap();
    bench.write("mixed/b.crt", b"garbage");
    bench.write("garbage", b"garbage");
    for (trust, case) in [
        ("missing", "F01"),
        ("empty", "F01"),
        ("/dev/null", "F01"),
        ("garbage", "F02"),
        ("signer.key", "F02"),
        ("mixed", "F02"),
    ] {
        for verb in [&["verify", "oci:image"][..], &["pull", "oci:image"]] {
            bench.run(&[verb, &["--trust", trust]].concat()).refused(5, case);
        }
        // Even before the image is known to be good or bad, nothing was made but empty directories.
        assert_eq!(bench.vault_files(), [""; 0]);
    }
    // A directory with certificates is a trust store.
    std::fs::remove_file(bench.path("mixed/b.crt")).unwrap();
    bench.run(&["verify", "oci:image", "--trust", "mixed"]).ok();
}

#[test]
fn mount_targets_are_directories_that_are_there() {
    let (bench, _forge) = sealed(&two_layers());
    bench.write("file", b"x");
    std::fs::create_dir(bench.path("dir")).unwrap();
    std::os::unix::fs::symlink("dir", bench.path("link")).unwrap();
    std::os::unix::fs::symlink("nowhere", bench.path("dangling")).unwrap();
    for target in ["missing", "file", "link", "dangling", "missing/below"] {
        let case = if target.starts_with("missing") { "A01" } else { "A08" };
        with_remedy(bench.run(&["mount", "--verity", "off", "oci:image", target]), 2, case);
        assert!(!bench.vault().exists(), "{target}");
    }
    for (upper, work) in [("missing", "dir"), ("dir", "missing"), ("link", "dir"), ("file", "dir")] {
        with_remedy(
            bench.run(&["mount", "--verity", "off", "oci:image", "dir", "--upper", upper, "--work", work]),
            2,
            if [upper, work].contains(&"missing") { "A01" } else { "A08" },
        );
    }
    for half in [["--upper", "dir"], ["--work", "dir"]] {
        let run = bench.run(&[&["mount", "oci:image", "dir"][..], &half].concat());
        assert!(run.code == 2 && run.stderr.contains("required"), "{}", run.stderr);
    }
    assert!(!bench.vault().exists());
}

#[test]
fn only_our_own_mounts_are_unmounted() {
    let bench = bench();
    std::fs::create_dir(bench.path("dir")).unwrap();
    bench.write("file", b"x");
    with_remedy(bench.run(&["umount", "dir"]), 2, "I06");
    with_remedy(bench.run(&["umount", "missing"]), 2, "A01");
    with_remedy(bench.run(&["umount", "file"]), 2, "A08");
    for theirs in ["/proc", "/sys"] {
        if std::fs::read_to_string("/proc/self/mountinfo").unwrap().contains(&format!(" {theirs} ")) {
            with_remedy(bench.run(&["umount", theirs]), 2, "I06");
        }
    }
}

#[test]
fn errors_are_one_line_and_json_says_the_same() {
    let bench = bench();
    for args in [
        &["verify", "--json", "oci:missing"][..],
        &["inspect", "--json", "oci:missing"],
        &["digest", "--json", "oci:missing"],
    ] {
        let run = bench.run(args).refused(2, "X04");
        assert_eq!(run.stderr.lines().count(), 1, "{}", run.stderr);
        let error = &run.json()["error"];
        assert!(error["case"] == "X04" && error["exit_code"] == 2, "{error}");
        assert_eq!(format!("Error: {}", error["message"].as_str().unwrap()), run.stderr.trim_end());
    }
    let run = bench.run(&["verify", "--json", "--trust", "signer.crt", "oci:image"]);
    assert!(run.code == 3 && run.json()["error"]["case"] == "C07" && run.json()["accepted"] == false, "{}", run.stdout);
    // Nobody listens: no panic, and still the right code.
    let shell =
        format!("'{}' verify oci:missing 2>&- >&-; echo $?", bench.command(&[]).get_program().to_str().unwrap());
    let output = std::process::Command::new("sh").arg("-c").arg(shell).current_dir(bench.dir.path()).output().unwrap();
    assert_eq!(String::from_utf8_lossy(&output.stdout).trim(), "2");
}

#[test]
fn results_that_cannot_be_written_never_turn_no_into_yes() {
    use std::fs::File;
    let bench = Bench::new();
    bench.sealed(&two_layers());
    bench.signer("stranger", crate::common::stranger());
    let full = || std::process::Stdio::from(File::options().write(true).open("/dev/full").unwrap());
    let closed = || {
        let (reader, writer) = std::io::pipe().unwrap();
        drop(reader);
        std::process::Stdio::from(writer)
    };
    let code = |args: &[&str], out: std::process::Stdio| {
        bench.command(args).stdout(out).stderr(std::process::Stdio::null()).status().unwrap().code()
    };
    for json in [&[][..], &["--json"]] {
        let no = [&["verify", "oci:image", "--trust", "stranger.crt"][..], json].concat();
        assert_eq!(code(&no, full()), Some(4));
        assert_eq!(code(&no, closed()), Some(4));
        let yes = [&["verify", "oci:image", "--trust", "signer.crt"][..], json].concat();
        // Nobody could read the yes: a script must not go on as if it had.
        assert_eq!(code(&yes, full()), Some(1));
        assert_eq!(code(&yes, closed()), Some(0));
    }
    let doctor = bench.run(&["doctor"]).code;
    assert_eq!(code(&["doctor"], full()), Some(if doctor == 0 { 1 } else { doctor }));
    assert_eq!(code(&["inspect", "oci:image"], full()), Some(1));
}

#[test]
fn demands_without_trust_are_refused_and_not_passed_over() {
    let bench = Bench::new();
    bench.sealed(&two_layers());
    std::fs::create_dir(bench.path("root")).unwrap();
    for demand in [&["--identity", "x"][..], &["--seal", "oci:image"], &["--binding", "local"], &["--dates", "ignore"]]
    {
        bench.run(&[&["mount", "oci:image", "root", "--verity", "off"][..], demand].concat()).refused(2, "A01");
        bench.run(&[&["pull", "oci:image"][..], demand].concat()).refused(2, "A01");
    }
    assert_eq!(bench.vault_files(), Vec::<String>::new());
}
