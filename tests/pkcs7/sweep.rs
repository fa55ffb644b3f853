//! E01, E02: whole sweeps over real signatures.

use layerseal::error::Case;
use layerseal::pki::pkcs7::{Certificate, parse, walk};
use openssl::pkcs7::{Pkcs7, Pkcs7Flags};
use openssl::pkey::{PKeyRef, Private};
use openssl::stack::Stack;
use openssl::x509::{X509, X509Ref};

use crate::forge::Blob;
use crate::keys::*;

/// A signature as OpenSSL makes it.
fn openssl_sign(x509: &X509Ref, key: &PKeyRef<Private>, content: &[u8], more: Pkcs7Flags) -> Vec<u8> {
    let flags = Pkcs7Flags::DETACHED | Pkcs7Flags::BINARY | Pkcs7Flags::NOATTR | more;
    let none = Stack::<X509>::new().unwrap();
    let pkcs7 = Pkcs7::sign(x509, key, &none, content, flags).unwrap();
    pkcs7.to_der().unwrap()
}

/// Real signatures of every kind, with who signs and the content.
fn signatures() -> Vec<(&'static str, Vec<u8>, Certificate, Vec<u8>)> {
    let mut all = Vec::new();
    for (name, key) in [("rsa", &*RSA), ("p256", &*P256), ("p384", &*P384), ("p521", &*P521)] {
        let x509 = Recipe::new(key, name).build();
        let content = content(1);
        let der = openssl_sign(&x509, key, &content, Pkcs7Flags::NOCERTS);
        all.push((name, der, trusted(&x509), content));
    }
    all
}

fn flip(der: &[u8], bit: usize) -> Vec<u8> {
    let mut flipped = der.to_vec();
    flipped[bit / 8] ^= 1 << (bit % 8);
    flipped
}

#[test]
fn e01_bit_flip_sweep() {
    for (name, der, certificate, content) in signatures() {
        let trusted = [certificate];
        assert_eq!(verdict(&der, &content, &trusted), Ok(0), "{name}");
        for bit in 0..der.len() * 8 {
            let result = verdict(&flip(&der, bit), &content, &trusted);
            assert!(result.is_err(), "{name}: bit {bit} of {} does not count", der.len() * 8);
        }
    }
}

#[test]
fn e01_bit_flip_sweep_with_the_signer_embedded() {
    let x509 = Recipe::new(&P256, "embedded").build();
    let (trusted, content) = ([trusted(&x509)], content(2));
    let der = openssl_sign(&x509, &P256, &content, Pkcs7Flags::empty());
    assert_eq!(verdict(&der, &content, &trusted), Ok(0));
    for bit in 0..der.len() * 8 {
        assert!(verdict(&flip(&der, bit), &content, &trusted).is_err(), "bit {bit}");
    }
}

/// Every other value of every byte outside of the signature value itself.
#[test]
fn e01_byte_sweep() {
    let (_, der, certificate, content) = signatures().remove(0);
    let trusted = [certificate];
    for at in 0..der.len() - 256 {
        for value in 0..=u8::MAX {
            let mut changed = der.clone();
            changed[at] = value;
            let accepted = verdict(&changed, &content, &trusted).is_ok();
            assert_eq!(accepted, value == der[at], "byte {at} as {value:#04x}");
        }
    }
}

#[test]
fn e01_other_content() {
    for (name, der, certificate, content) in signatures() {
        let trusted = [certificate];
        for bit in 12 * 8..content.len() * 8 {
            let result = verdict(&der, &flip(&content, bit), &trusted);
            assert_refused(result, Case::E01Signature);
        }
        assert_eq!(verdict(&der, &content, &trusted), Ok(0), "{name}");
    }
}

#[test]
fn e02_truncation_and_trailing_sweep() {
    for (name, der, certificate, content) in signatures() {
        let trusted = [certificate];
        for end in 0..der.len() {
            assert_refused(verdict(&der[..end], &content, &trusted), Case::E02Der);
        }
        for start in 1..der.len() {
            assert!(verdict(&der[start..], &content, &trusted).is_err(), "{name}");
        }
        for more in [&b"\0"[..], b"\0\0", b"\x30\x00", b"\n", &der] {
            let longer = [&der, more].concat();
            assert_refused(verdict(&longer, &content, &trusted), Case::E02Der);
        }
    }
}

/// One byte more or less at every place.
#[test]
fn e02_insertion_and_deletion_sweep() {
    let (_, der, certificate, content) = signatures().remove(1);
    let trusted = [certificate];
    for at in 0..der.len() {
        let mut shorter = der.clone();
        shorter.remove(at);
        assert!(verdict(&shorter, &content, &trusted).is_err(), "without byte {at}");
        for value in [0, 1, 0x30, 0x7f, 0x80, 0xff, der[at]] {
            let mut longer = der.clone();
            longer.insert(at, value);
            assert!(verdict(&longer, &content, &trusted).is_err(), "{value:#04x} at {at}");
        }
    }
}

/// What the fuzzer asserts, on a fixed number of mutations: nothing panics, and what we read
/// OpenSSL reads and writes back.
#[test]
fn e02_mutants_that_parse_are_openssls_too() {
    let mut seeds: Vec<_> = signatures().into_iter().map(|(_, der, ..)| der).collect();
    let x509 = Recipe::new(&P256, "embedded").build();
    seeds.push(Blob::good(&x509, &P256, &content(1)).embed(&[&x509]).encode());
    let mut random = Random(0x9e37_79b9_7f4a_7c15);
    let mut accepted = 0;
    for round in 0..200_000 {
        let mut mutant = seeds[round % seeds.len()].clone();
        for _ in 0..=random.below(3) {
            random.mutate(&mut mutant);
        }
        if parse(&mutant, "mutant").is_ok() {
            accepted += 1;
        }
        let Ok(profile) = walk(&mutant, "mutant") else {
            continue;
        };
        if profile.certificates.is_empty() {
            let again = Pkcs7::from_der(&mutant).and_then(|pkcs7| pkcs7.to_der());
            assert_eq!(again.ok(), Some(mutant), "round {round}");
        }
    }
    assert!(accepted > 100, "only {accepted} mutants parsed: they test nothing");
}

/// xorshift64*, so that a failure can be repeated.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_f491_4f6c_dd1d)
    }

    fn below(&mut self, end: usize) -> usize {
        (self.next() % end as u64) as usize
    }

    fn mutate(&mut self, bytes: &mut Vec<u8>) {
        let at = self.below(bytes.len().max(1));
        let interesting = [0, 1, 2, 3, 4, 5, 6, 0x0c, 0x1e, 0x30, 0x31, 0x7f, 0x80, 0x81, 0xa0, 0xff];
        match self.below(5) {
            0 if !bytes.is_empty() => bytes[at] = self.next() as u8,
            1 if !bytes.is_empty() => bytes[at] = interesting[self.below(interesting.len())],
            2 if !bytes.is_empty() => bytes[at] ^= 1 << self.below(8),
            3 if !bytes.is_empty() => drop(bytes.remove(at)),
            _ => bytes.insert(at, self.next() as u8),
        }
    }
}
