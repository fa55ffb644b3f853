//! Man pages and completions in contrib/ are what they are made from; what is installed; what documents say.
#![allow(missing_docs)]

use support::common;

/// What `make docs` would write is what is there: pages and completions, none more and none less.
#[test]
fn man_pages_and_completions_are_current() {
    let (contrib, made) = (xtask::top().join("contrib"), tempfile::tempdir().unwrap());
    xtask::docs(made.path()).unwrap();
    for dir in ["man", "completions"] {
        let names = |top: &std::path::Path| {
            let files = std::fs::read_dir(top.join(dir)).unwrap().map(|entry| entry.unwrap().file_name());
            files.collect::<std::collections::BTreeSet<_>>()
        };
        assert_eq!(names(&contrib), names(made.path()), "run `make docs`");
        for name in names(made.path()) {
            let read = |top: &std::path::Path| std::fs::read_to_string(top.join(dir).join(&name)).unwrap();
            let same = read(&contrib) == read(made.path());
            assert!(same, "contrib/{dir}/{} is not what it is made from: run `make docs`", name.display());
        }
    }
}

/// A page has what people look for, in the words that they type.
#[test]
fn man_pages_have_the_sections_that_people_look_for() {
    let man = xtask::top().join("contrib/man");
    let page = |name: &str| std::fs::read_to_string(man.join(name)).unwrap();
    let mut all = 0;
    for entry in std::fs::read_dir(&man).unwrap() {
        let name = entry.unwrap().file_name().into_string().unwrap();
        let text = page(&name);
        let section = |heading: &str| text.contains(&format!("\n.SH {heading}\n"));
        for heading in ["NAME", "DESCRIPTION", "\"SEE ALSO\""] {
            assert!(section(heading), "{name}: {heading}");
        }
        assert!(!name.ends_with(".1") || section("SYNOPSIS") && section("\"EXIT STATUS\""), "{name}");
        all += 1;
    }
    assert!(all > 30, "{all}");
    assert!(page("layerseal-hook-explain.1").contains("\\fBlayerseal hook explain\\fR [OPTIONS]"));
    assert!(page("layerseal-prepare.1").contains("\n.SH FILES\n"));
    assert!(page("layerseal-pull.1").contains("\n.SH ENVIRONMENT\n"));
}

/// The variables of the pages are read by somebody.
#[test]
fn variables_of_the_man_pages_are_read() {
    fn texts(dir: &std::path::Path, out: &mut String) {
        for entry in std::fs::read_dir(dir).unwrap() {
            let path = entry.unwrap().path();
            match path.is_dir() {
                true => texts(&path, out),
                false => out.push_str(&std::fs::read_to_string(path).unwrap()),
            }
        }
    }
    let mut source = String::new();
    texts(&xtask::top().join("src"), &mut source);
    for name in xtask::variables() {
        assert!(source.contains(&format!("\"{name}\"")), "{name}");
    }
}

/// Anybody can write into the journal under layerseal's name: what we tell people to run leaves that out.
#[test]
fn words_for_the_journal_are_roots_alone() {
    fn look(path: &std::path::Path, found: &mut usize) {
        if path.is_dir() {
            std::fs::read_dir(path).unwrap().for_each(|entry| look(&entry.unwrap().path(), found));
        } else if let Ok(text) = std::fs::read_to_string(path) {
            for line in text.lines().filter(|line| line.contains("journalctl ") && line.contains("MESSAGE_ID")) {
                // A user is shown that user's own.
                let own = line.contains("_UID={}");
                assert!(own || line.contains("_UID=0"), "{}: {line}", path.display());
                *found += 1;
            }
        }
    }
    let root = std::path::Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut found = 0;
    ["README.md", "docs", "hooks", "contrib", "src"].iter().for_each(|place| look(&root.join(place), &mut found));
    assert!(found >= 3, "{found}");
    let said = common::Bench::new().run(&["hook", "explain", "O09"]).ok().stdout;
    assert!(said.contains("_UID=0 MESSAGE_ID="), "{said}");
}

#[test]
fn exit_codes_are_documented_from_the_enum() {
    let help = common::Bench::new().run(&["--help"]).ok().stdout;
    for class in layerseal::error::Class::ALL {
        assert!(help.replace("\n", " ").contains(&format!("{} {}", class.exit_code(), class.describe())), "{class:?}");
    }
}

/// `make install`, all of it: the hooks are where podman and CRI-O look for them, and uninstalling leaves nothing.
#[test]
fn what_is_installed_is_found_and_goes_again() {
    if !rustix::process::geteuid().is_root() {
        support::skip!("make install: what is installed must be root's");
    }
    // The second for hosts whose /usr cannot be written to.
    for prefix in ["/usr", "/usr/local"] {
        install_and_go(prefix);
    }
}

fn install_and_go(prefix: &str) {
    use layerseal::hook::{Caller, Installation, Stage, installed};
    let dir = tempfile::tempdir().unwrap();
    let make = |target: &str| {
        let output = std::process::Command::new("make")
            .args(["--no-print-directory", "-o", "release", target, &format!("PREFIX={prefix}")])
            .arg(format!("DESTDIR={}", dir.path().display()))
            .arg(format!("BINARY={}", env!("CARGO_BIN_EXE_layerseal")))
            .current_dir(env!("CARGO_MANIFEST_DIR"))
            .output()
            .unwrap();
        assert!(output.status.success(), "make {target}: {}", String::from_utf8_lossy(&output.stderr));
    };
    make("install");
    for (caller, stage) in [
        (Caller::Podman, Stage::Precreate),
        (Caller::Podman, Stage::CreateRuntime),
        (Caller::CriO, Stage::CreateRuntime),
    ] {
        let found = installed(dir.path(), caller, stage);
        assert!(matches!(found, Installation::Ready(_)), "{caller:?} {stage:?}: {found:?}");
    }
    for file in [
        "bin/layerseal",
        "share/doc/layerseal/hooks/README.md",
        "share/doc/layerseal/docs/podman.md",
        "share/doc/layerseal/README.md",
        "share/doc/layerseal/storage.conf",
        "share/doc/layerseal/policy.toml",
        "share/doc/layerseal/layerseal.cil",
        "share/man/man1/layerseal.1",
        "share/man/man1/layerseal-hook-explain.1",
        "share/man/man5/layerseal-policy.toml.5",
        "share/man/man5/layerseal-seal.5",
        "share/man/man7/layerseal-hooks.7",
        "share/bash-completion/completions/layerseal",
        "share/fish/vendor_completions.d/layerseal.fish",
        "lib/systemd/system/layerseal-gc.timer",
        "lib/systemd/system/layerseal-prepare.service",
        "share/doc/layerseal/crio-runtime.conf",
        "bin/layerseal-runtime",
    ] {
        assert!(dir.path().join(&prefix[1..]).join(file).is_file(), "{file}");
    }
    // Where zsh looks depends on the distribution.
    let zsh = ["site-functions", "vendor-completions"].map(|place| format!("share/zsh/{place}/_layerseal"));
    assert!(zsh.iter().any(|file| dir.path().join(&prefix[1..]).join(file).is_file()));
    // Nothing of it names another place than that.
    let mut files = Vec::new();
    files_of(dir.path(), &mut files);
    let mut named = 0;
    for file in files.iter().filter(|file| !file.starts_with(dir.path().join(&prefix[1..]).join("bin"))) {
        let text = std::fs::read_to_string(file).unwrap();
        for place in ["/bin/layerseal", "/share/layerseal"] {
            for (at, _) in text.match_indices(place) {
                assert!(text[..at].ends_with(prefix), "{}: {}", file.display(), &text[at.saturating_sub(30)..at + 20]);
                named += 1;
            }
        }
    }
    assert!(named > 8, "{named}");
    make("uninstall");
    let mut left = Vec::new();
    files_of(dir.path(), &mut left);
    assert!(left.is_empty(), "{left:?}");
}

fn files_of(dir: &std::path::Path, out: &mut Vec<std::path::PathBuf>) {
    for entry in std::fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            files_of(&path, out);
        } else {
            out.push(path);
        }
    }
}
