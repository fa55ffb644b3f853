//! Images made elsewhere: the digests that other composefs tools compute for them.
use layerseal::digest::{Algorithm, verity_digest};
use layerseal::image::{HashOnly, Writer, read_layer};
use layerseal::oci::{Budget, Image, Layout, Platform};
use std::path::PathBuf;

fn vectors() -> PathBuf {
    std::env::var_os("LAYERSEAL_VECTORS").map(PathBuf::from).unwrap_or_else(|| PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/vectors"))
}

#[test]
fn h02_merged_digests() {
    let table = std::fs::read_to_string(vectors().join("merged-digests.tsv")).unwrap();
    let mut wrong = Vec::new();
    let mut n = 0;
    for line in table.lines() {
        let f: Vec<&str> = line.split('\t').collect();
        let [image, _, alg, version, digest] = f[..] else { panic!("{line}") };
        let alg = if alg == "sha256-12" { Algorithm::Sha256 } else { Algorithm::Sha512 };
        let v: u8 = version[1..].parse().unwrap();
        let r = (|| {
            let layout = Layout::open(&vectors().join("oci").join(image))?;
            let b = Budget::STANDARD;
            let img = Image::read(layout.store(), &layout.resolve(Some("latest"), &b)?, &Platform::host(), &b)?;
            let mut layers = vec![];
            for l in &img.layers {
                let c = read_layer(layout.store().open_blob(&l.digest)?, &b, &mut HashOnly::new(alg), &mut |_| ())?;
                assert_eq!(c.digest, l.digest);
                assert_eq!(c.diff_id, l.diff_id);
                layers.push(c.entries);
            }
            Writer::merged_version(alg, layers.iter().map(|l| l.as_slice()), v).map(|e| verity_digest(alg, &e).to_hex())
        })();
        n += 1;
        match r {
            Ok(d) if d == digest => {}
            Err(e) if digest == "ERROR" => println!("{image}: {e}"),
            other => wrong.push(format!("{image} {alg} {version}: {other:?} != {digest}")),
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    println!("{n} rows");
}
