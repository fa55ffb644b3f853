//! No test leaves in silence: where one returns early, what it asked has said why, with `skip!`.

use std::collections::BTreeSet;
use std::path::Path;

fn sources(dir: &Path, out: &mut Vec<(String, String)>) {
    for entry in std::fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            sources(&path, out);
        } else if path.extension().is_some_and(|e| e == "rs") {
            out.push((path.display().to_string(), std::fs::read_to_string(&path).unwrap()));
        }
    }
}

/// A function: its file and name, whether it is a test, and its text.
struct Function<'a> {
    place: String,
    name: &'a str,
    test: bool,
    body: &'a str,
}

/// The functions of a file, by the indentation that rustfmt gives them.
fn functions<'a>(file: &str, text: &'a str) -> Vec<Function<'a>> {
    let mut found = Vec::new();
    for (at, _) in text.match_indices("fn ") {
        let begin = text[..at].rfind('\n').map_or(0, |n| n + 1);
        let indent = &text[begin..begin + text[begin..].find(|c| c != ' ').unwrap_or(0)];
        let name = text[at + 3..].split(['(', '<']).next().unwrap_or_default();
        let head = &text[begin..at];
        if name.contains(char::is_whitespace) || !head.trim().split(' ').all(|w| w.is_empty() || w.starts_with("pub")) {
            continue;
        }
        let end = text[at..].find(&format!("\n{indent}}}\n")).map_or(text.len(), |n| at + n);
        let before = text[..begin].trim_end().rsplit("\n\n").next().unwrap_or_default();
        let test = before.lines().any(|line| line.trim() == "#[test]");
        found.push(Function { place: format!("{file}: {name}"), name, test, body: &text[at..end] });
    }
    found
}

fn calls(text: &str, names: &BTreeSet<&str>) -> bool {
    text.match_indices('(').any(|(at, _)| {
        let name = text[..at].rsplit(|c: char| !c.is_alphanumeric() && c != '_').next().unwrap_or_default();
        names.contains(name)
    })
}

/// What decides whether a function returns at once: conditions of blocks with nothing in them but `return;`, and what
/// `let ... else { return }` takes apart.
fn early(body: &str) -> Vec<&str> {
    let mut found = Vec::new();
    for (at, _) in body.match_indices("{\n").filter(|(at, _)| body[at + 2..].trim_start().starts_with("return;")) {
        found.extend(body[..at].rfind("if ").map(|begin| &body[begin..at]));
    }
    for (at, _) in body.match_indices("else { return }") {
        found.extend(body[..at].rfind("let ").map(|begin| &body[begin..at]));
    }
    found
}

#[test]
fn whoever_returns_early_has_said_why() {
    let mut files = Vec::new();
    sources(&support::top().join("tests"), &mut files);
    let all: Vec<Function<'_>> = files.iter().flat_map(|(file, text)| functions(file, text)).collect();
    // Those that say it, and those that hand on what these gave.
    let mut say: BTreeSet<&str> = all.iter().filter(|f| f.body.contains("skip!(")).map(|f| f.name).collect();
    loop {
        let more = all.iter().filter(|f| !f.test && !say.contains(f.name) && calls(f.body, &say));
        let more: Vec<&str> =
            more.filter(|f| f.body.contains("Option<") || f.body.contains("-> bool")).map(|f| f.name).collect();
        if more.is_empty() {
            break;
        }
        say.extend(more);
    }
    let tests: Vec<&Function<'_>> = all.iter().filter(|f| f.test).collect();
    assert!(tests.len() > 400, "{}", tests.len());
    let mut asked = 0;
    let mut silent = Vec::new();
    for test in tests {
        for condition in early(test.body) {
            asked += 1;
            // A process that another test starts.
            if !calls(condition, &say) && !condition.contains("std::env::var(HELD)") {
                silent.push(format!("{}: {condition}", test.place));
            }
        }
    }
    assert!(asked > 200, "{asked}");
    assert!(silent.is_empty(), "return without a word: {silent:#?}");
}

/// One way to say it, or it is not counted.
#[test]
fn skips_are_said_by_the_macro() {
    let mut files = Vec::new();
    sources(&support::top().join("tests"), &mut files);
    let printed = format!("println!(\"{}", "SKIPPED");
    let others: Vec<&String> = files.iter().filter(|(_, text)| text.contains(&printed)).map(|(file, _)| file).collect();
    assert!(others.is_empty(), "{others:?}");
}
