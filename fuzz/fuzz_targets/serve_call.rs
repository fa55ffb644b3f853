//! The headers of calls to the service for users, and its answers, on any bytes.
//!
//! Invariants:
//! 1. Nothing panics or hangs; a refusal is one line and of one case.
//! 2. It is bounded: what is accepted asks for no more bytes, documents, names or descriptors than the service takes.
//! 3. What is accepted writes itself again, and reads as the same call.
//! 4. No descriptor comes twice, and what is written to comes with the mount that it is on.
//! 5. Whatever an answer says is one line.
#![no_main]

use layerseal::error::Case;
use layerseal::serve::protocol::{HandedPart, MAX_HEADER, Question, ServiceAnswer, ServiceCall};
use layerseal::sys::socket::MAX_DESCRIPTORS;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    match ServiceAnswer::parse(bytes) {
        Err(refusal) => assert_eq!(refusal.case(), Case::R06Service),
        Ok(ServiceAnswer::Mounted | ServiceAnswer::Verified(_) | ServiceAnswer::Mounts(_) | ServiceAnswer::Root(_)) => {
        }
        Ok(ServiceAnswer::Refused(refused)) => assert!(!refused.refusal().to_string().chars().any(char::is_control)),
    }
    let call = match ServiceCall::parse(bytes) {
        Ok(call) => call,
        Err(refusal) => {
            assert_eq!(refusal.case(), Case::R01Call);
            assert!(!refusal.to_string().chars().any(char::is_control));
            return;
        }
    };
    assert!(call.documents.iter().sum::<u64>() <= 12 << 20 && call.documents.len() <= 2048);
    match call.asks {
        Question::Mounts => assert!(call.documents.is_empty() && call.names.is_empty() && call.seals.is_empty()),
        Question::Mount | Question::Verdict => assert!(call.documents.len() >= 2),
    }
    assert!(call.asks == Question::Mount || call.descriptors.is_empty());
    assert!(call.names.len() <= 64 && call.names.iter().all(|name| (1..=1024).contains(&name.len())));
    assert!(call.seals.len() <= call.documents.len() && call.digests().is_ok());
    assert!(call.descriptors.len() <= MAX_DESCRIPTORS);
    let count = |part| call.descriptors.iter().filter(|p| **p == part).count();
    let writable = [HandedPart::Layer, HandedPart::Upper, HandedPart::Work].map(count);
    assert!(writable == [0; 3] || writable == [1; 3]);
    assert!(call.descriptors.is_empty() || [HandedPart::Erofs, HandedPart::Objects].map(count) == [1; 2]);
    assert!(count(HandedPart::Above) + count(HandedPart::Upper) <= 1 && count(HandedPart::Namespace) <= 1);
    // A header as long as it may be can be longer when it is written with escapes.
    if let Ok(header) = call.header() {
        assert!(header.len() <= MAX_HEADER as usize + 4);
        assert_eq!(ServiceCall::parse(&header[4..]).as_ref(), Ok(&call));
    }
});
