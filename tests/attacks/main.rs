//! The attack catalogue, case by case, against the real binary. A test begins with a sealed image that
//! verifies, changes one thing, and expects that case's refusal and nothing left behind. Where an attack
//! changes what signatures cover, the trusted key signs again: only the attacked property is wrong.

#[path = "../common/mod.rs"]
mod common;

mod bad_input;
mod c_bytes;
mod c_seals;
mod d_frame;
mod d_seals;
mod d_statement;
mod directory;
mod forge;
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

/// The catalogue and the tests stay together: a case of groups D and H without a test is an error.
#[test]
fn every_case_about_seals_and_layers_has_a_test() {
    let missing: Vec<&str> = layerseal::report::Case::ALL
        .iter()
        .map(|case| case.id())
        .filter(|id| id.starts_with('D') || id.starts_with('H'))
        .filter(|id| {
            !SOURCES.contains(&format!("\"{id}\"")) && !SOURCES.contains(&format!("fn {}_", id.to_lowercase()))
        })
        .collect();
    assert!(missing.is_empty(), "no test for {missing:?}");
}
