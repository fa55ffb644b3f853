//! Man pages and completions in contrib/ are what the command line is.
#![allow(missing_docs)]

mod common;

use clap::CommandFactory as _;

#[test]
fn every_verb_has_its_man_page() {
    let contrib = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("contrib");
    for verb in layerseal::cli::args::Args::command().get_subcommands() {
        let page = std::fs::read_to_string(contrib.join(format!("man/layerseal-{}.1", verb.get_name())))
            .unwrap_or_else(|e| panic!("{}: {e}; run `make docs`", verb.get_name()));
        for option in verb.get_arguments().filter_map(clap::Arg::get_long) {
            let shown = format!("\\-\\-{}", option.replace('-', "\\-"));
            assert!(page.contains(&shown), "{} --{option}: run `make docs`", verb.get_name());
        }
    }
    let bash = std::fs::read_to_string(contrib.join("completions/layerseal.bash")).unwrap();
    assert!(bash.contains("export-signatures"));
}

#[test]
fn the_policy_page_is_the_sample() {
    let contrib = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("contrib");
    let page = std::fs::read_to_string(contrib.join("man/layerseal-policy.toml.5")).unwrap();
    for line in std::fs::read_to_string(contrib.join("policy.toml")).unwrap().lines() {
        // As roff wants them.
        let shown = line.replace('-', "\\-").replace('\'', "\\*(Aq");
        assert!(page.contains(&shown), "{line}: run `make docs`");
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
                assert!(line.contains("_UID=0"), "{}: {line}", path.display());
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
    for class in layerseal::report::Class::ALL {
        assert!(help.replace("\n", " ").contains(&format!("{} {}", class.exit_code(), class.describe())), "{class:?}");
    }
}

/// `make install`, all of it: the hooks are where podman and CRI-O look for them, and uninstalling leaves nothing.
#[test]
fn what_is_installed_is_found_and_goes_again() {
    if !rustix::process::geteuid().is_root() {
        println!("SKIPPED make install: what is installed must be root's");
        return;
    }
    // The second for hosts whose /usr cannot be written to.
    for prefix in ["/usr", "/usr/local"] {
        install_and_go(prefix);
    }
}

fn install_and_go(prefix: &str) {
    use layerseal::hook::{Caller, Found, Stage, installed};
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
        assert!(matches!(found, Found::Ready(_)), "{caller:?} {stage:?}: {found:?}");
    }
    for file in [
        "bin/layerseal",
        "share/doc/layerseal/hooks/README.md",
        "share/doc/layerseal/docs/podman.md",
        "share/doc/layerseal/README.md",
        "share/doc/layerseal/storage.conf",
        "share/doc/layerseal/policy.toml",
        "share/man/man1/layerseal.1",
        "share/man/man5/layerseal-policy.toml.5",
        "lib/systemd/system/layerseal-gc.timer",
        "lib/systemd/system/layerseal-prepare.service",
        "share/doc/layerseal/crio-runtime.conf",
        "bin/layerseal-runtime",
    ] {
        assert!(dir.path().join(&prefix[1..]).join(file).is_file(), "{file}");
    }
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
