use super::*;
use crate::oci::named;

fn documents() -> (String, Vec<u8>) {
    let diff_id = BlobDigest::of(b"tar");
    let config = format!(r#"{{"os":"linux","rootfs":{{"type":"layers","diff_ids":["{diff_id}"]}}}}"#).into_bytes();
    let manifest = format!(
        r#"{{"schemaVersion":2,"config":{{"mediaType":"application/vnd.oci.image.config.v1+json","digest":"{}",
        "size":{}}},"layers":[{{"mediaType":"application/vnd.oci.image.layer.v1.tar","digest":"{diff_id}",
        "size":3}}]}}"#,
        BlobDigest::of(&config),
        config.len()
    );
    (manifest, config)
}

fn case(manifest: &str, config: &[u8]) -> Case {
    Image::from_bytes(manifest.into(), config.to_vec(), &Budget::STANDARD).unwrap_err().case()
}

#[test]
fn b05_manifest_and_config_belong_together() {
    let (manifest, config) = documents();
    let image = Image::from_bytes(manifest.clone().into(), config.clone(), &Budget::STANDARD).unwrap();
    assert_eq!(image.digest, BlobDigest::of(manifest.as_bytes()));
    assert_eq!(image.config_digest, BlobDigest::of(&config));
    assert_eq!(image.layers[0].diff_id, BlobDigest::of(b"tar"));

    let edited = String::from_utf8(config.clone()).unwrap().replace("linux", "linus");
    assert_eq!(case(&manifest, edited.as_bytes()), Case::C04Bytes);
    let size = format!("\"size\":{}", config.len());
    assert_eq!(case(&manifest.replace(&size, "\"size\":1"), &config), Case::C04Bytes);
    let (wide, long) = (" ".repeat(5 << 20), vec![b' '; 5 << 20]);
    assert_eq!(case(&wide, &config), Case::C03TooBig);
    assert_eq!(case(&manifest, &long), Case::C03TooBig);
}

#[test]
fn b06_an_index_is_no_manifest() {
    let (manifest, config) = documents();
    assert_eq!(case(r#"{"schemaVersion":2,"manifests":[]}"#, &config), Case::B06Ambiguous);
    assert_eq!(case(&manifest.replacen('{', r#"{"manifests":[],"#, 1), &config), Case::B06Ambiguous);
}

#[test]
fn d14_a_size_that_go_cannot_hold_is_none() {
    let (manifest, config) = documents();
    assert_eq!(named(manifest.as_bytes()).unwrap().layers.len(), 1);
    for size in ["9223372036854775808", "18446744073709551615", "-1", "3.0"] {
        let edited = manifest.replacen("\"size\":3}", &format!("\"size\":{size}}}"), 1);
        assert_ne!(edited, manifest);
        assert_eq!(case(&edited, &config), Case::D14Json, "{size}");
    }
}
