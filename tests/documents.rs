//! What the documents say is there: cases and their tests, files, links, formats, the picture.
#![allow(missing_docs)]

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use layerseal::error::Case;

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn read(name: &str) -> String {
    std::fs::read_to_string(root().join(name)).unwrap_or_else(|e| panic!("{name}: {e}"))
}

/// The files beneath these places of which `is` says so by their extension.
fn files(places: &[&str], is: &[&str]) -> Vec<PathBuf> {
    fn look(path: &Path, is: &[&str], out: &mut Vec<PathBuf>) {
        if path.is_dir() {
            std::fs::read_dir(path).unwrap().for_each(|entry| look(&entry.unwrap().path(), is, out));
        } else if is.is_empty() || path.extension().is_some_and(|e| is.iter().any(|is| e == *is)) {
            out.push(path.to_owned());
        }
    }
    let mut out = Vec::new();
    places.iter().for_each(|place| look(&root().join(place), is, &mut out));
    out
}

fn documents() -> Vec<PathBuf> {
    let mut all = files(&["docs", "hooks"], &["md"]);
    all.extend(["README.md", "CONTRIBUTING.md", "SECURITY.md", "CHANGELOG.md"].map(|name| root().join(name)));
    all
}

/// The rows of the tables of a document whose first cell is the ID of a case.
fn rows(text: &str) -> Vec<(&str, Vec<&str>)> {
    let id = |cell: &str| {
        cell.len() == 3 && cell[..1].chars().all(|c| c.is_ascii_uppercase()) && cell[1..].parse::<u8>().is_ok()
    };
    text.lines()
        .filter_map(|line| line.strip_prefix("| ")?.strip_suffix(" |"))
        .map(|line| line.split(" | ").map(str::trim).collect::<Vec<_>>())
        .filter(|cells| id(cells[0]))
        .map(|cells| (cells[0], cells[1..].to_vec()))
        .collect()
}

/// docs/attacks.md has every case once, with its exit code, and the tests that it names are there.
#[test]
fn every_case_is_in_the_catalogue_with_its_tests() {
    let text = read("docs/attacks.md");
    let rows = rows(&text);
    let ids: BTreeSet<&str> = rows.iter().map(|(id, _)| *id).collect();
    assert_eq!(ids.len(), rows.len(), "a case has one row");
    for case in Case::ALL {
        let row = rows.iter().find(|(id, _)| *id == case.id());
        let (_, cells) = row.unwrap_or_else(|| panic!("{} is not in docs/attacks.md", case.id()));
        let code = case.class().exit_code().to_string();
        assert!(cells[1].contains(&code), "{}: exit {code} is not in {:?}", case.id(), cells[1]);
    }
    let mut sources = String::new();
    for file in files(&["src", "tests"], &["rs"]) {
        sources += &std::fs::read_to_string(file).unwrap();
    }
    let mut named = 0;
    for (id, cells) in rows {
        let [_, _, tests] = cells[..] else { panic!("{id}: {cells:?}") };
        for test in tests.split('`').skip(1).step_by(2) {
            let there = sources.contains(&format!("fn {test}(")) || root().join(test).is_file();
            assert!(there, "{id}: there is no test {test}");
            named += 1;
        }
        assert!(tests.contains('`') || tests.contains("not"), "{id} says neither a test nor why there is none");
    }
    assert!(named > 300, "{named}");
}

/// The words of a document that are names of other documents.
fn cited(text: &str) -> BTreeSet<&str> {
    text.split(|c: char| !(c.is_ascii_alphanumeric() || "._/-".contains(c)))
        .map(|word| word.trim_end_matches('.'))
        .filter(|word| word.ends_with(".md") && word.len() > 3)
        .collect()
}

/// No comment and no document cites one that is not in the repository.
#[test]
fn documents_that_are_cited_are_there() {
    let places =
        ["src", "tests", "benches", "fuzz/fuzz_targets", "fuzz/run.sh", "hooks", "contrib", "docs", "Makefile"];
    let mut all =
        files(&places, &["rs", "sh", "toml", "md", "conf", "json", "1", "5", "7", "in", "service", "path", "timer"]);
    all.extend(documents());
    let mut missing = Vec::new();
    let mut found = 0;
    for file in all {
        let Ok(text) = std::fs::read_to_string(&file) else { continue };
        // As manual pages write a hyphen.
        let text = text.replace("\\-", "-");
        for word in cited(&text) {
            // Documents of the specifications, which are called by their file names; what is installed; addresses.
            let specification = text.contains("-spec,")
                && ["config.md", "runtime.md", "descriptor.md", "image-index.md", "image-layout.md", "layer.md"]
                    .contains(&word);
            let known = specification
                || word.trim_start_matches("/usr/").trim_start_matches("usr/").starts_with("share/doc/")
                || word.starts_with("//");
            let word = word.trim_start_matches('/');
            let beside = file.parent().unwrap().join(word);
            if known || root().join(word).is_file() || beside.is_file() || root().join("docs").join(word).is_file() {
                found += 1;
            } else {
                missing.push(format!("{}: {word}", file.strip_prefix(root()).unwrap().display()));
            }
        }
    }
    assert!(missing.is_empty(), "{missing:#?}");
    assert!(found > 30, "{found}");
}

/// How GitHub calls a heading.
fn anchor(heading: &str) -> String {
    let kept = heading.trim().to_lowercase();
    kept.chars().filter(|c| c.is_alphanumeric() || "-_ ".contains(*c)).map(|c| if c == ' ' { '-' } else { c }).collect()
}

#[test]
fn links_lead_somewhere() {
    let mut found = 0;
    for file in documents() {
        let text = std::fs::read_to_string(&file).unwrap_or_else(|e| panic!("{}: {e}", file.display()));
        for link in text.split("](").skip(1).filter_map(|rest| rest.split(')').next()) {
            if link.contains("://") || link.contains(char::is_whitespace) {
                continue;
            }
            let (path, wanted) = link.split_once('#').map_or((link, None), |(path, at)| (path, Some(at)));
            let target = if path.is_empty() { file.clone() } else { file.parent().unwrap().join(path) };
            assert!(target.exists(), "{}: {link}", file.display());
            if let Some(wanted) = wanted {
                let text = std::fs::read_to_string(&target).unwrap();
                let mut headings =
                    text.lines().filter(|line| line.starts_with('#')).map(|line| line.trim_start_matches('#'));
                assert!(headings.any(|heading| anchor(heading) == wanted), "{}: {link}", file.display());
            }
            found += 1;
        }
    }
    assert!(found > 20, "{found}");
}

/// Every document of docs/ can be reached from README.
#[test]
fn readme_is_short_and_lists_the_documents() {
    let readme = read("README.md");
    let lines = readme.lines().count();
    assert!(lines <= 150, "README.md has {lines} lines");
    for file in files(&["docs"], &["md"]) {
        let name = file.strip_prefix(root()).unwrap().display().to_string();
        assert!(readme.contains(&format!("({name})")), "README.md has no link to {name}");
    }
}

/// What README says of starts is what was measured last, on the host: each of our ways beside podman's own overlay.
#[test]
fn the_cost_of_starts_in_readme_is_what_was_measured() {
    let page = read("docs/benchmarks.md");
    let host = page.split("benchmarks/host-starts.svg").next().unwrap();
    let more = |line: &str| {
        let cells: Vec<&str> = line.split('|').map(str::trim).collect();
        let ours = cells.get(1) == Some(&"podman run --rm")
            && cells.get(2).is_some_and(|way| ["runtime", "hooks", "mount program", "layerseal"].contains(way));
        let ratio: f64 = cells.get(6).filter(|_| ours)?.parse().unwrap();
        Some(((ratio - 1.0) * 100.0).round().max(0.0) as u32)
    };
    let all: Vec<u32> = host.lines().filter_map(more).collect();
    let (least, most) = (all.iter().min().unwrap(), all.iter().max().unwrap());
    let said = format!("A start costs {least} to {most} % more");
    assert!(read("README.md").contains(&said), "README.md does not say: {said}");
}

/// The picture is made of its text: `LAYERSEAL_BLESS=1` makes it anew.
#[test]
fn the_picture_is_that_of_its_text() {
    let output = std::process::Command::new("sh")
        .arg("docs/picture.sh")
        .arg("docs/picture.txt")
        .current_dir(root())
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let made = String::from_utf8(output.stdout).unwrap();
    if std::env::var_os("LAYERSEAL_BLESS").is_some() {
        std::fs::write(root().join("docs/picture.svg"), &made).unwrap();
    }
    assert_eq!(made, read("docs/picture.svg"), "LAYERSEAL_BLESS=1 makes it anew");
}

/// docs/seal-format.md names what the code writes, and its statement can be read.
#[test]
fn the_seal_format_is_what_is_written() {
    let text = read("docs/seal-format.md");
    let keys = read("src/seal/keys.rs");
    let constants: Vec<&str> = keys
        .lines()
        .filter(|line| line.contains("const ") && line.contains(": &str"))
        .filter_map(|line| line.split('"').nth(1))
        .collect();
    assert!(constants.len() >= 12, "{constants:?}");
    for constant in constants {
        assert!(text.contains(constant), "{constant} is not in docs/seal-format.md");
    }
    for role in ["merged.erofs.v1", "merged.bootable.erofs.v1", "rootfs.erofs.v1", "layer.erofs.v1"] {
        assert!(keys.contains(role) && text.contains(&format!("composefs.{role}.")), "{role}");
    }
    let statement = text.split("```\n").find(|part| part.starts_with("layerseal binding")).unwrap();
    let budget = layerseal::oci::Budget::STANDARD;
    let binding = layerseal::seal::Binding::parse(statement.as_bytes(), &budget).unwrap();
    assert_eq!((binding.layers.len(), binding.sequence), (2, Some(7)));
    assert_eq!(binding.text(), statement);
    for block in text.split("```json\n").skip(1) {
        let json = block.split("```").next().unwrap();
        let _: serde_json::Value = serde_json::from_str(json).unwrap_or_else(|e| panic!("{e}: {json}"));
    }
}

/// docs/troubleshooting.md has what every case says; `LAYERSEAL_BLESS=1` writes it anew.
#[test]
fn every_remedy_is_documented() {
    const MARKS: [&str; 2] = ["<!-- refusals: made by tests/documents.rs -->\n", "<!-- end -->\n"];
    let text = read("docs/troubleshooting.md");
    let (before, rest) = text.split_once(MARKS[0]).unwrap();
    let (written, after) = rest.split_once(MARKS[1]).unwrap();
    let mut table = String::from("| case | exit code | what is wrong | what to do |\n|---|---|---|---|\n");
    for case in Case::ALL {
        let remedy = if case.remedy().is_empty() { "the message says what the system answered" } else { case.remedy() };
        table += &format!("| {} | {} | {} | {remedy} |\n", case.id(), case.class().exit_code(), case.what());
    }
    if std::env::var_os("LAYERSEAL_BLESS").is_some() {
        std::fs::write(root().join("docs/troubleshooting.md"), [before, MARKS[0], &table, MARKS[1], after].concat())
            .unwrap();
    } else {
        assert_eq!(written, table, "LAYERSEAL_BLESS=1 writes it anew");
    }
}

/// docs/commands.md has every verb and every exit code.
#[test]
fn every_verb_and_exit_code_is_documented() {
    use clap::CommandFactory as _;
    let text = read("docs/commands.md");
    for verb in layerseal::cli::args::Args::command().get_subcommands() {
        let name = verb.get_name();
        let listed = [format!("`{name}`"), format!("`{name} ")].iter().any(|form| text.contains(form));
        assert!(listed, "docs/commands.md does not have {name}");
    }
    for class in layerseal::error::Class::ALL {
        let row = format!("| {} | {} |", class.exit_code(), class.describe());
        assert!(text.contains(&row), "docs/commands.md does not have {row:?}");
    }
}

/// Words of a shell's line, with simple quotes, up to a comment or to where its output goes.
fn words(line: &str) -> Vec<String> {
    let (mut words, mut word, mut quote) = (Vec::new(), String::new(), false);
    for c in line.chars() {
        match c {
            '\'' => quote = !quote,
            '#' | '>' if !quote && word.is_empty() => break,
            ' ' if !quote => words.extend((!word.is_empty()).then(|| std::mem::take(&mut word))),
            c => word.push(c),
        }
    }
    words.extend((!word.is_empty()).then_some(word));
    words
}

/// What the documents tell people to type can be typed.
#[test]
fn command_lines_can_be_typed() {
    use clap::Parser as _;
    let mut found = 0;
    for file in documents() {
        let text = std::fs::read_to_string(&file).unwrap().replace("\\\n", " ");
        for block in text.split("```").skip(1).step_by(2) {
            for line in block.lines().map(|line| line.trim().trim_start_matches("$ ")) {
                if !line.starts_with("layerseal ") || line.starts_with("layerseal binding ") {
                    continue;
                }
                let parsed = layerseal::cli::args::Args::try_parse_from(words(line));
                assert!(parsed.is_ok(), "{}: {line}: {}", file.display(), parsed.unwrap_err());
                found += 1;
            }
        }
    }
    assert!(found > 25, "{found}");
}

/// docs/vault.md has every directory in which the host keeps notes.
#[test]
fn every_note_of_the_host_is_documented() {
    let text = read("docs/vault.md");
    let state = read("src/state/mod.rs");
    let mut found = 0;
    for (base, place) in [("(RUN, \"", "/run/layerseal"), ("(LIB, \"", "/var/lib/layerseal")] {
        for name in state.split(base).skip(1).filter_map(|rest| rest.split('"').next()) {
            assert!(text.contains(&format!("`{place}/{name}`")), "docs/vault.md does not have {place}/{name}");
            found += 1;
        }
    }
    assert!(found >= 9, "{found}");
}

/// CONTRIBUTING.md says what every directory beneath src/ and tests/ is.
#[test]
fn every_directory_is_in_the_plan() {
    let text = read("CONTRIBUTING.md");
    for (place, shown) in [("src", ""), ("tests", "tests/")] {
        let mut directories = 0;
        for entry in std::fs::read_dir(root().join(place)).unwrap() {
            let entry = entry.unwrap();
            let name = entry.file_name().into_string().unwrap();
            if entry.path().is_dir() {
                let listed = [format!("| `{shown}{name}` |"), format!("| `{shown}{name}/` |")];
                assert!(
                    listed.iter().any(|row| text.contains(row)),
                    "CONTRIBUTING.md does not say what {place}/{name} is"
                );
                directories += 1;
            }
        }
        assert!(directories > 10, "{place}: {directories}");
    }
}
