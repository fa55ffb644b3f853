//! The cases of docs/attacks.md, one by one, against the real binary. A test begins with a sealed image that
//! verifies, changes one thing, and expects that case's refusal and nothing left behind. Where an attack
//! changes what signatures cover, the trusted key signs again: only the attacked property is wrong.

mod bad_input;
mod c_bytes;
mod c_seals;
mod d_frame;
mod d_seals;
mod d_statement;
mod directory;
mod h_images;
mod h_layers;
mod h_streams;
mod n_signing;

/// What the tests of this target say, to be searched.
const SOURCES: &str = concat!(
    include_str!("c_bytes.rs"),
    include_str!("c_seals.rs"),
    include_str!("d_frame.rs"),
    include_str!("d_seals.rs"),
    include_str!("d_statement.rs"),
    include_str!("h_images.rs"),
    include_str!("h_layers.rs"),
    include_str!("h_streams.rs"),
    include_str!("n_signing.rs"),
    include_str!("bad_input.rs"),
);

/// The cases that `letters` begin and that `sources` do not name.
fn untested(sources: &str, letters: &[char]) -> Vec<&'static str> {
    let ids = layerseal::error::Case::ALL.iter().map(|case| case.id());
    let named =
        |id: &str| sources.contains(&format!("\"{id}\"")) || sources.contains(&format!("fn {}_", id.to_lowercase()));
    ids.filter(|id| letters.is_empty() || id.starts_with(letters)).filter(|id| !named(id)).collect()
}

/// The catalogue and the tests stay together: a case of groups D and H without an attack is an error.
#[test]
fn every_case_about_seals_and_layers_has_a_test() {
    let missing = untested(SOURCES, &['D', 'H']);
    assert!(missing.is_empty(), "no test for {missing:?}");
}

/// All text of tests beneath `dir`: files of `tests/`, and the modules of tests in `src/`.
fn tests_beneath(dir: &std::path::Path, out: &mut String) {
    for entry in std::fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            tests_beneath(&path, out);
        } else if path.extension().is_some_and(|e| e == "rs") {
            let text = std::fs::read_to_string(&path).unwrap();
            let whole = path.components().any(|part| part.as_os_str() == "tests" || part.as_os_str() == "tests.rs");
            let begin = if whole { Some(0) } else { text.find("#[cfg(test)]") };
            out.push_str(begin.map_or("", |at| &text[at..]));
        }
    }
}

/// So is a case of any group that no test of any target names.
#[test]
fn every_case_of_the_table_has_a_test() {
    let root = std::path::Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut sources = String::new();
    for dir in ["tests", "src"] {
        tests_beneath(&root.join(dir), &mut sources);
    }
    let missing = untested(&sources, &[]);
    assert!(missing.is_empty(), "no test for {missing:?}");
}

use support::{common, forge};
