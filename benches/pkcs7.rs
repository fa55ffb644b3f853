//! What verifying one signature costs: `cargo bench --bench pkcs7`.

use std::hint::black_box;
use std::time::{Duration, Instant};
use support::pkcs7::forge::Blob;
use support::pkcs7::keys::*;

use layerseal::pki::pkcs7::{Certificate, parse, walk};

/// Shows the shortest and the middle of many runs.
fn time(what: &str, mut run: impl FnMut()) {
    let mut times: Vec<Duration> = (0..2000)
        .map(|_| {
            let start = Instant::now();
            run();
            start.elapsed()
        })
        .collect();
    times.sort();
    println!("{what:24} min {:8.1?}  median {:8.1?}", times[0], times[times.len() / 2]);
}

fn main() {
    // `cargo test` runs benches as well, without this argument: then just show that it starts.
    if !std::env::args().any(|arg| arg == "--bench") {
        return;
    }
    let keys = [
        ("RSA-2048", RSA.clone()),
        ("RSA-4096", rsa(4096)),
        ("P-256", P256.clone()),
        ("P-384", P384.clone()),
        ("P-521", P521.clone()),
    ];
    for (name, key) in &keys {
        let x509 = Recipe::new(key, "signer").build();
        let certificate = x509.to_der().unwrap();
        let trusted = [trusted(&x509)];
        let der = Blob::good(&x509, key, &content(1)).encode();
        time(&format!("{name} verify"), || {
            black_box(verdict(&der, &content(1), &trusted).unwrap());
        });
        time(&format!("{name} certificate"), || {
            black_box(Certificate::from_der(&certificate, "test").unwrap());
        });
        if *name == "RSA-2048" {
            time("walk", || drop(black_box(walk(&der, "test").unwrap())));
            time("parse", || drop(black_box(parse(&der, "test").unwrap())));
        }
    }
}
