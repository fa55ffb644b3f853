use super::*;

/// Returns a record as version 0.1.0 wrote it, which kept no names of seals, no digests for `deny.d` and, for some
/// images, no certificate.
fn before() -> serde_json::Value {
    serde_json::json!({
        "device": [0, 52], "mount_id": 2_147_483_700_u64,
        "target": "/var/lib/containers/storage/overlay/x/merged",
        "source": format!("composefs:{}", "ab".repeat(32)), "kind": "sealed",
        "image": format!("sha256:{}", "01".repeat(32)),
        "container": "03".repeat(32), "names": ["registry.example.com/acme/app:1"],
        "seal": format!("sha256:{}", "04".repeat(32)), "signer": "CN = one", "certificate": "05".repeat(32),
        "upper": null, "verity": true, "whole": true, "since": 1_700_000_000,
    })
}

#[test]
fn a_record_of_an_earlier_version_is_read_and_one_with_other_words_is_not() {
    let record: Record = serde_json::from_value(before()).unwrap();
    assert_eq!(record.certificate.unwrap().to_string(), "05".repeat(32));
    assert_eq!((record.facts.as_ref(), record.anchor), (None, None));
    // What is written is what was read.
    let again = serde_json::to_value(&record).unwrap();
    for (key, value) in before().as_object().unwrap() {
        assert_eq!(again[key], *value, "{key}");
    }
    let digest = format!("sha256:{}", "0G".repeat(32));
    for (key, bad) in [
        ("image", "01".repeat(32)),
        ("image_id", format!("sha256:{}", "02".repeat(32))),
        ("container", "c0ffee".to_owned()),
        ("seal", digest.clone()),
        ("signed_manifest", digest),
        ("certificate", "0A".repeat(32)),
        ("anchor", String::new()),
        ("kind", "Sealed".to_owned()),
    ] {
        let mut record = before();
        record[key] = bad.into();
        assert!(serde_json::from_value::<Record>(record).is_err(), "{key}");
    }
}
