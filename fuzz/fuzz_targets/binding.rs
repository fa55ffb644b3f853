//! The reader of binding statements on any bytes.
//!
//! Invariants:
//! 1. Nothing panics or hangs; a refusal is one line and of one of two cases.
//! 2. There is one text for one meaning: what is accepted writes itself again byte for byte, and
//!    that text reads as the same statement.
//! 3. It is bounded: no statement or layer count over the budget is accepted, and names are unique,
//!    sorted and at most 255 bytes long.
//! 4. Every digest in it is of the statement's algorithm.
#![no_main]

use layerseal::oci::Budget;
use layerseal::error::{Case, Refusal};
use layerseal::seal::Binding;
use libfuzzer_sys::fuzz_target;

const BUDGET: Budget = Budget::STANDARD;

fn refused(refusal: &Refusal) {
    let text = refusal.to_string();
    assert!(!text.chars().any(char::is_control), "{text:?}");
    assert!(matches!(refusal.case(), Case::D17Statement | Case::D09Algorithm), "{text}");
}

fuzz_target!(|bytes: &[u8]| {
    let binding = match Binding::parse(bytes, &BUDGET) {
        Ok(binding) => binding,
        Err(refusal) => return refused(&refusal),
    };
    let text = binding.text();
    assert_eq!(text.as_bytes(), bytes);
    assert_eq!(Binding::parse(text.as_bytes(), &BUDGET).as_ref(), Ok(&binding));

    assert!(bytes.len() <= BUDGET.statement && binding.layers.len() <= BUDGET.layers);
    assert!(binding.identities.windows(2).all(|pair| pair[0] < pair[1]));
    assert!(binding.identities.iter().all(|name| (1..=255).contains(&name.as_str().len())));
    let shorter = Budget { statement: bytes.len() - 1, ..BUDGET };
    refused(&Binding::parse(bytes, &shorter).expect_err("too long"));
    if let Some(fewer) = binding.layers.len().checked_sub(1) {
        refused(&Binding::parse(bytes, &Budget { layers: fewer, ..BUDGET }).expect_err("too many layers"));
    }

    let digests = binding.digests();
    for digest in digests.all() {
        assert_eq!(digest.algorithm(), binding.algorithm);
    }
});
