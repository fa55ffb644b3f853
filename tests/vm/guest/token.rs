//! N01: a key in a token, which OpenSSL reaches by its PKCS#11 provider. SoftHSM is the token.

use std::process::Command;

use crate::common::{Bench, Layout, signer, two_layers};

#[test]
fn n01_a_key_in_a_token_signs() {
    let bench = Bench::new();
    bench.signer("signer", signer());
    Layout::new(&bench.path("image"), &two_layers());
    std::fs::create_dir(bench.path("tokens")).unwrap();
    let conf = format!("directories.tokendir = {}\nobjectstore.backend = file\n", bench.path("tokens").display());
    let conf = bench.write("softhsm2.conf", conf.as_bytes());
    let token = |args: &str| {
        let mut command = Command::new("softhsm2-util");
        let output = command.args(args.split(' ')).current_dir(bench.dir.path()).env("SOFTHSM2_CONF", &conf).output();
        let output = output.unwrap();
        assert!(output.status.success(), "softhsm2-util {args}: {}", String::from_utf8_lossy(&output.stderr));
    };
    token("--init-token --free --label release --pin 1234 --so-pin 5678");
    bench.write("pkcs8.key", &signer().key.private_key_to_pem_pkcs8().unwrap());
    token("--import pkcs8.key --token release --label key --id 01 --pin 1234");
    bench.write("pin", b"1234\n");
    bench.write("wrong", b"0000\n");
    let sign = |uri: &str, more: &[&str]| {
        let args = [&["sign", "oci:image", "--cert", "signer.crt", "--key", uri], more].concat();
        let mut command = bench.command(&args);
        command.env("SOFTHSM2_CONF", &conf).env("PKCS11_PROVIDER_MODULE", "/usr/lib/softhsm/libsofthsm2.so");
        crate::common::Run::of(command.stdin(std::process::Stdio::null()).output().unwrap())
    };
    let uri = "pkcs11:token=release;object=key;type=private";
    sign(uri, &["--passphrase-file", "wrong"]).refused(5, "N01");
    sign("pkcs11:token=release;object=other;type=private?pin-value=1234", &[]).refused(5, "N01");
    sign("pkcs11:token=none;object=key?pin-value=1234", &[]).refused(5, "N01");
    bench.run(&["verify", "oci:image", "--trust", "signer.crt"]).refused(3, "C07");
    sign(uri, &["--passphrase-file", "pin"]).ok();
    bench.run(&["verify", "oci:image", "--trust", "signer.crt"]).ok();
    // The same signature as with the key in a file.
    let seals = std::fs::read(bench.path("image/index.json")).unwrap();
    sign(&format!("{uri}?pin-value=1234"), &[]).ok();
    bench.run(&["sign", "oci:image", "--cert", "signer.crt", "--key", "signer.key"]).ok();
    assert_eq!(std::fs::read(bench.path("image/index.json")).unwrap(), seals);
}
