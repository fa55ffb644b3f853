//! Keys, outputs, repetition, and what other tools make.

use std::os::unix::fs::PermissionsExt as _;
use std::process::{Command, Stdio};

use openssl::symm::Cipher;
use serde_json::json;

use crate::common::{Bench, Layer, Layout, signer, stranger, two_layers, walk};
use crate::forge::*;

/// An unsigned image and a key that fits.
fn bench() -> (Bench, Layout) {
    let bench = Bench::new();
    bench.signer("signer", signer());
    let layout = Layout::new(&bench.path("image"), &small());
    (bench, layout)
}

/// Names and bytes of everything beneath a directory.
fn snapshot(dir: &std::path::Path) -> Vec<(String, Vec<u8>)> {
    let mut files = Vec::new();
    walk(dir, &mut |path| files.push((path.display().to_string(), std::fs::read(path).unwrap_or_default())));
    files.sort();
    files
}

/// With the format that carries everything: there is most to be lost.
const SIGN: [&str; 8] =
    ["sign", "oci:image", "--cert", "signer.crt", "--key", "signer.key", "--format", "erofs-alongside"];

#[test]
fn n01_keys_that_cannot_be_used_leave_nothing() {
    let (bench, layout) = bench();
    bench.signer("stranger", stranger());
    let pem = signer().key.private_key_to_pem_pkcs8().unwrap();
    bench.write(
        "encrypted.key",
        &signer().key.private_key_to_pem_pkcs8_passphrase(Cipher::aes_256_cbc(), b"right").unwrap(),
    );
    bench.write("right", b"right\n");
    bench.write("wrong", b"wrong\n");
    bench.write("long", &[b'x'; 5000]);
    bench.write("garbage", b"garbage");
    bench.write("empty", b"");
    bench.write("half.key", &pem[..pem.len() / 2]);
    bench.write("uri.key", b"pkcs11:token=x;object=y");
    bench.write("two.crt", &[signer().cert.to_pem().unwrap(), stranger().cert.to_pem().unwrap()].concat());
    std::fs::create_dir(bench.path("dir")).unwrap();
    let before = snapshot(&layout.path);
    let cases: [(&str, &str, &[&str], &str); 14] = [
        ("signer.crt", "stranger.key", &[], "N01"),
        ("stranger.crt", "signer.key", &[], "N01"),
        ("signer.crt", "encrypted.key", &[], "N01"),
        ("signer.crt", "encrypted.key", &["--passphrase-file", "wrong"], "N01"),
        ("signer.crt", "encrypted.key", &["--passphrase-file", "empty"], "N01"),
        ("signer.crt", "encrypted.key", &["--passphrase-file", "long"], "N01"),
        ("signer.crt", "encrypted.key", &["--passphrase-file", "missing"], "N01"),
        ("signer.crt", "encrypted.key", &["--passphrase-file", "dir"], "N01"),
        ("signer.crt", "garbage", &[], "N01"),
        ("signer.crt", "empty", &[], "N01"),
        ("signer.crt", "half.key", &[], "N01"),
        ("signer.crt", "uri.key", &[], "N01"),
        ("signer.crt", "signer.crt", &[], "N01"),
        ("signer.crt", "missing", &[], "N01"),
    ];
    for (cert, key, more, case) in cases {
        let run = bench.run(&[&["sign", "oci:image", "--cert", cert, "--key", key], more].concat()).refused(5, case);
        assert!(!run.stderr.contains("PRIVATE") && run.stdout.is_empty(), "{}", run.stderr);
        assert_eq!(snapshot(&layout.path), before);
    }
    // What is wrong with the certificate is told of its file, and never of the key's.
    for cert in ["garbage", "empty", "signer.key", "missing", "dir"] {
        let run = bench.run(&["sign", "oci:image", "--cert", cert, "--key", "signer.key"]).refused(5, "F02");
        assert!(run.stderr.contains(&format!("Error: {cert}: not a certificate")), "{}", run.stderr);
        assert_eq!(snapshot(&layout.path), before);
    }
    bench.run(&["sign", "oci:image", "--cert", "two.crt", "--key", "encrypted.key", "--passphrase-file", "right"]).ok();
    accepted(&bench);
}

/// A passphrase is asked for on a terminal, and nowhere else; `script` (util-linux) has one.
#[test]
fn n01_a_passphrase_is_asked_for_on_a_terminal() {
    let (bench, layout) = bench();
    let encrypted = signer().key.private_key_to_pem_pkcs8_passphrase(Cipher::aes_256_cbc(), b"right").unwrap();
    bench.write("encrypted.key", &encrypted);
    let command = bench.command(&["sign", "oci:image", "--cert", "signer.crt", "--key", "encrypted.key"]);
    let words: Vec<String> = std::iter::once(command.get_program())
        .chain(command.get_args())
        .map(|word| format!("'{}'", word.to_str().unwrap()))
        .collect();
    let before = snapshot(&layout.path);
    for (typed, code) in [("wrong\n", 5), ("right\n", 0)] {
        use std::io::Write as _;
        let mut child = Command::new("script")
            .args(["-qefc", &words.join(" "), "/dev/null"])
            .current_dir(bench.dir.path())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        child.stdin.as_mut().unwrap().write_all(typed.as_bytes()).unwrap();
        let output = child.wait_with_output().unwrap();
        let shown = String::from_utf8_lossy(&output.stdout).into_owned();
        assert_eq!(output.status.code(), Some(code), "{shown}");
        assert!(shown.contains("Passphrase for encrypted.key: "), "{shown}");
        assert_eq!(snapshot(&layout.path) == before, code != 0);
    }
    accepted(&bench);
}

#[test]
fn n01_a_uri_without_a_key_is_told() {
    let (bench, layout) = bench();
    let before = snapshot(&layout.path);
    for uri in ["pkcs11:token=none;object=none?pin-value=1", "nosuch:thing", "file:missing.key"] {
        bench.run(&["sign", "oci:image", "--cert", "signer.crt", "--key", uri]).refused(5, "N01");
        assert_eq!(snapshot(&layout.path), before, "{uri}");
    }
    // What OpenSSL reads without a provider of its own.
    let uri = format!("file:{}", bench.path("signer.key").display());
    bench.run(&["sign", "oci:image", "--cert", "signer.crt", "--key", &uri]).ok();
    accepted(&bench);
}

#[test]
fn n01_weak_keys_are_refused_where_they_would_sign() {
    let (bench, layout) = bench();
    bench.signer("weak", &crate::common::Signer::new("weak", 1024, -1, 30));
    let before = snapshot(&layout.path);
    let run = bench.run(&["sign", "oci:image", "--cert", "weak.crt", "--key", "weak.key"]);
    assert!(run.code == 4 && run.stderr.contains("[R-E12]"), "{}", run.stderr);
    assert_eq!(snapshot(&layout.path), before);
}

#[test]
fn n01_a_key_that_others_can_read_is_told() {
    let (bench, _layout) = bench();
    let mode =
        |mode| std::fs::set_permissions(bench.path("signer.key"), std::fs::Permissions::from_mode(mode)).unwrap();
    for (loose, warns) in [(0o644, true), (0o640, true), (0o620, true), (0o600, false), (0o400, false)] {
        mode(loose);
        let run = bench.run(&SIGN).ok();
        assert_eq!(run.stderr.contains("chmod 600"), warns, "{loose:o}: {}", run.stderr);
    }
    // Out of its dates: signed, and told.
    bench.signer("old", &crate::common::Signer::new("old", 2048, 1, 30));
    let run = bench.run(&["sign", "oci:image", "--cert", "old.crt", "--key", "old.key"]).ok();
    assert!(run.stderr.contains("outside its dates"), "{}", run.stderr);
}

#[test]
fn a_seal_without_a_name_is_told() {
    let (bench, _layout) = bench();
    assert!(bench.run(&SIGN).ok().stderr.contains("--identity"));
    let named = bench.run(&[&SIGN[..], &["--identity", "registry.example.com/app"]].concat());
    assert!(!named.ok().stderr.contains("--identity"));
}

#[test]
fn n01_a_key_from_a_pipe_signs() {
    let (bench, _layout) = bench();
    let mut child = bench
        .command(&["sign", "oci:image", "--cert", "signer.crt", "--key", "/dev/stdin"])
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .spawn()
        .unwrap();
    std::io::Write::write_all(&mut child.stdin.take().unwrap(), &signer().key.private_key_to_pem_pkcs8().unwrap())
        .unwrap();
    assert!(child.wait().unwrap().success());
    accepted(&bench);
}

#[test]
fn n02_signing_twice_is_signing_once() {
    let (bench, layout) = bench();
    let first = bench.run(&SIGN).ok().stdout;
    let before = snapshot(&layout.path);
    // By digest, whatever the tag says meanwhile.
    for image in ["oci:image", "oci:image:latest", &format!("oci:image@{}", layout.digest)] {
        let again = bench.run(&[&["sign", image], &SIGN[2..]].concat()).ok().stdout;
        assert_eq!(again, first);
        assert_eq!(snapshot(&layout.path), before);
    }
    assert_eq!(layout.seals().len(), 1);
    assert_eq!(layout.seals()[0]["subject"]["digest"], layout.digest.to_string());
    accepted(&bench);
}

#[test]
fn n03_an_output_that_cannot_be_written_is_left_as_it_was() {
    let (bench, layout) = bench();
    bench.write("file", b"a file");
    std::fs::create_dir(bench.path("other")).unwrap();
    bench.write("other/thing", b"something else");
    let before = snapshot(bench.dir.path());
    for (output, code, case) in [
        ("oci:file", 1, "X01"),
        ("oci:file/below", 1, "X01"),
        ("oci:other", 4, "X05"),
        ("oci:/proc/none", 1, "X01"),
        ("name", 2, "A01"),
        ("@sha256:aa", 4, "B07"),
    ] {
        let run = bench.run(&[&SIGN[..], &["--output", output]].concat());
        assert_ne!(run.code, 0);
        if output != "@sha256:aa" {
            run.refused(code, case);
        }
        assert_eq!(snapshot(bench.dir.path()), before, "{output}");
    }
    // One that can is made, and holds the seal alone.
    bench.run(&[&SIGN[..], &["--output", "oci:seals"]].concat()).ok();
    assert!(layout.seals().is_empty());
    bench.run(&["verify", "oci:image", "--trust", "signer.crt", "--seal", "oci:seals"]).ok();
}

/// The limit on the size of files ends the process in the middle of a write, at ever later points.
#[test]
fn n03_a_sign_that_is_killed_leaves_the_image_as_it_was() {
    let (bench, layout) = bench();
    let index = std::fs::read(layout.path.join("index.json")).unwrap();
    let mut killed = 0;
    for blocks in 0..16 {
        let inner = bench.command(&SIGN);
        let mut shell = Command::new("bash");
        shell
            .arg("-c")
            .arg(format!("ulimit -c 0; ulimit -f {blocks}; exec \"$@\""))
            .arg("bash")
            .arg(inner.get_program())
            .args(inner.get_args());
        let status = shell.current_dir(bench.dir.path()).stdout(Stdio::null()).stderr(Stdio::null()).status().unwrap();
        if status.success() {
            break;
        }
        killed += 1;
        assert_eq!(std::fs::read(layout.path.join("index.json")).unwrap(), index);
        for blob in std::fs::read_dir(layout.path.join("blobs/sha256")).unwrap().flatten() {
            let bytes = std::fs::read(blob.path()).unwrap();
            assert_eq!(
                layerseal::digest::BlobDigest::of(&bytes).hex(),
                blob.file_name().to_str().unwrap(),
                "half a blob"
            );
        }
        bench.run(&["verify", "oci:image", "--trust", "signer.crt"]).refused(3, "C07");
    }
    assert!(killed > 2, "killed {killed} times");
    bench.run(&SIGN).ok();
    accepted(&bench);
}

#[test]
fn n03_blobs_without_an_entry_in_the_index_are_no_seal() {
    let (bench, layout) = bench();
    let index = std::fs::read(layout.path.join("index.json")).unwrap();
    bench.run(&SIGN).ok();
    std::fs::write(layout.path.join("index.json"), index).unwrap();
    refused_outright(&bench, 3, "C07", &[]);
    bench.run(&SIGN).ok();
    accepted(&bench);
    // A blob of a right name and wrong bytes is written again.
    let forge = Forge::of(layout);
    let path = forge
        .layout
        .blob_path(&forge.artifact["layers"][forge.at("merged")]["digest"].as_str().unwrap().parse().unwrap());
    std::fs::write(&path, b"half").unwrap();
    bench.run(&SIGN).ok();
    accepted(&bench);
}

#[test]
fn n04_a_seal_made_again_is_the_same_bytes() {
    let seals = [0, 1].map(|_| {
        let bench = Bench::new();
        let layout = bench.sealed(&two_layers());
        let mut blobs = snapshot(&layout.path);
        blobs.iter_mut().for_each(|(name, _)| *name = name.rsplit('/').next().unwrap().to_owned());
        blobs
    });
    assert_eq!(seals[0], seals[1]);
    // Another compression is another manifest; the trees are the same.
    let (plain, gzip) = (Bench::new(), Bench::new());
    let all = |bench: &Bench, f: fn(Layer) -> Layer| {
        Forge::of(bench.sealed(&two_layers().into_iter().map(f).collect::<Vec<_>>()))
    };
    let (a, b) = (all(&plain, |l| Layer { compression: "", ..l }), all(&gzip, Layer::gzip));
    for role in ["layer-0", "layer-1", "merged", "rootfs"] {
        assert_eq!((a.digest(role), a.erofs(role)), (b.digest(role), b.erofs(role)));
    }
    assert_ne!(a.digest("manifest"), b.digest("manifest"));
}

/// `digest --write`, signatures made by somebody else, `attach`.
fn signed_elsewhere(command: impl Fn(&std::path::Path, &str) -> Command) {
    let (bench, _layout) = bench();
    bench.run(&["digest", "oci:image", "--write", "roles", "--identity", "registry.example.com/acme/app"]).ok();
    let roles = ["manifest", "config", "layer-0", "merged", "rootfs", "binding"];
    for role in roles {
        let output = command(bench.dir.path(), role).current_dir(bench.path("roles")).output().unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    }
    let attach = ["attach", "oci:image", "--signatures", "roles", "--trust", "signer.crt"];
    // Each one missing, or another's.
    for role in roles {
        let (path, kept) = (bench.path(&format!("roles/{role}.sig")), bench.path("kept"));
        std::fs::rename(&path, &kept).unwrap();
        bench.run(&attach).refused(4, "D03");
        let other = if role == "merged" { "config" } else { "merged" };
        std::fs::copy(bench.path(&format!("roles/{other}.sig")), &path).unwrap();
        bench.run(&attach).refused(4, "E01");
        std::fs::write(&path, b"garbage").unwrap();
        bench.run(&attach).refused(4, "E02");
        std::fs::rename(&kept, &path).unwrap();
    }
    bench.run(&["verify", "oci:image", "--trust", "signer.crt"]).refused(3, "C07");
    bench.run(&attach).ok();
    bench.run(&["verify", "oci:image", "--trust", "signer.crt", "--identity", "registry.example.com/acme/app"]).ok();
    // The statement is about this image, and no other.
    Layout::new(&bench.path("two"), &two_layers());
    bench.run(&["attach", "oci:two", "--signatures", "roles"]).refused(4, "D04");
    std::fs::remove_file(bench.path("roles/binding")).unwrap();
    bench.run(&attach).refused(4, "D16");
}

#[test]
fn n05_signatures_made_by_openssl_are_attached() {
    signed_elsewhere(|dir, role| {
        let mut openssl = Command::new("openssl");
        openssl.args(["smime", "-sign", "-binary", "-noattr", "-nocerts", "-md", "sha256", "-outform", "der"]);
        openssl.arg("-signer").arg(dir.join("signer.crt")).arg("-inkey").arg(dir.join("signer.key"));
        openssl.args(["-in", &format!("{role}.tosign"), "-out", &format!("{role}.sig")]);
        openssl
    });
}

#[test]
fn n05_signatures_made_by_fsverity_are_attached() {
    if Command::new("fsverity").arg("--version").output().is_err() {
        support::skip!("n05: no fsverity on this machine");
    }
    signed_elsewhere(|dir, role| {
        let mut fsverity = Command::new("fsverity");
        fsverity.args(["sign", role, &format!("{role}.sig"), "--hash-alg=sha512"]);
        fsverity
            .arg(format!("--key={}", dir.join("signer.key").display()))
            .arg(format!("--cert={}", dir.join("signer.crt").display()));
        fsverity
    });
}

#[test]
fn n05_seals_of_other_tools_are_read_ignored_or_named() {
    let (bench, mut forge) = sealed(&small());
    // notation for containerd: named, and it hides no good seal.
    let good = forge.artifact.clone();
    let mut notation = good.clone();
    notation["artifactType"] = "application/vnd.cncf.notary.signature".into();
    notation["layers"][0]["annotations"] = json!({"io.containerd.dm-verity.root-hash": "aa"});
    forge.layout.set_seals(&[notation.clone(), good.clone()]);
    accepted(&bench);
    forge.layout.set_seals(std::slice::from_ref(&notation));
    refused(&bench, "D19");
    let shown = bench.run(&["inspect", "--json", "oci:image"]).ok().json();
    assert_eq!(shown["seals"][0]["error"]["case"], "D19");
    // Of no type that we know.
    notation["layers"] = json!([]);
    forge.layout.set_seals(std::slice::from_ref(&notation));
    refused_outright(&bench, 3, "C07", &[]);
    let shown = bench.run(&["inspect", "--json", "oci:image"]).ok().json();
    assert_eq!(shown["seals"][0]["artifact_type"], "application/vnd.cncf.notary.signature");
    // podman's annotations are claims: shown, and no seal.
    let digest = forge.digest("layer-0").to_hex();
    let mut manifest = forge.layout.manifest.clone();
    manifest["layers"][0]["annotations"] = json!({"io.containers.composefs.digest": format!("sha512:{digest}")});
    forge.layout.set_manifest(&manifest);
    let shown = bench.run(&["inspect", "--json", "oci:image"]).ok().json();
    assert!(shown["layers"][0]["claims"][0].as_str().unwrap().ends_with(&digest), "{shown}");
    refused_outright(&bench, 3, "C07", &[]);
}
