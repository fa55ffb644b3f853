//! F06: what `deny.d/` names is refused whoever vouches for it, wherever it stands in the image.

use layerseal::digest::{Algorithm, BlobDigest};
use layerseal::error::{Case, Result};
use layerseal::image::{Contents, ContentsRequest, Keep, ReadOnly};
use layerseal::oci::{Budget, Image, Layout, Platform};
use layerseal::pki::{Certificate, Dates};
use layerseal::policy::BindingRule;
use layerseal::policy::{Denied, Directories};
use layerseal::verify::{JudgeRequest, LayerReader, Requirements, SealCandidate, VerifiedImage, judge, unsigned};

use crate::common::{Bench, Run, Signer, signer, stranger, two_layers};

/// A sealed image, and an `/etc/layerseal` in which to deny things.
struct Host {
    bench: Bench,
    layout: Layout,
    image: Image,
}

impl Host {
    fn new() -> Option<Self> {
        if !rustix::process::geteuid().is_root() {
            support::skip!("F06: configuration belongs to root");
        }
        let bench = Bench::new();
        let digest = bench.sealed(&two_layers()).digest;
        let layout = Layout::open(&bench.path("image")).unwrap();
        let image = Image::read(layout.store(), &digest, &Platform::host(), &Budget::STANDARD).unwrap();
        std::fs::create_dir_all(bench.path("etc/deny.d")).unwrap();
        Some(Self { bench, layout, image })
    }

    fn sign(&self, name: &str, signer: &Signer, more: &[&str]) -> Run {
        self.bench.signer(name, signer);
        let (cert, key) = (format!("{name}.crt"), format!("{name}.key"));
        self.bench.run(&[&["sign", "oci:image", "--cert", &cert, "--key", &key][..], more].concat()).ok()
    }

    /// Denies the lines of `list` and nothing else.
    fn deny(&self, list: &str) -> Denied {
        self.bench.write("etc/deny.d/test.list", list.as_bytes());
        Denied::load(&Directories::new(vec![self.bench.path("etc")])).unwrap()
    }

    fn contents(&self, algorithm: Algorithm) -> Result<Contents> {
        let visitor = ReadOnly { store: self.layout.store(), algorithm };
        Contents::read(
            &self.image,
            ContentsRequest { algorithm, keep: Keep::Entries },
            &visitor,
            &Budget::STANDARD,
            &|_| {},
        )
    }

    /// The verdict, by these certificates; `checked` says that this host has seen the layers before.
    fn judge(&self, denied: Denied, trusted: &[&Signer], checked: bool) -> Result<VerifiedImage> {
        let certificate = |s: &&Signer| Certificate::from_der(&s.cert.to_der().unwrap(), "test").unwrap();
        let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap().as_secs() as i64;
        let rules = Requirements {
            certificates: Some(trusted.iter().map(certificate).collect()),
            dates: Dates::Enforce,
            now,
            binding: BindingRule::Required,
            identities: vec![],
            anchors: vec![],
            denied,
            floors: Default::default(),
        };
        let store = self.layout.store();
        let seals = self.layout.referrers(&self.image.digest, &Budget::STANDARD).unwrap();
        let found: Vec<SealCandidate<'_>> = seals.into_iter().map(|digest| SealCandidate { digest, store }).collect();
        let question = JudgeRequest {
            image: &self.image,
            found: &found,
            home: store,
            requirements: &rules,
            budget: &Budget::STANDARD,
            about: layerseal::seal::ArtifactSubject::Manifest,
        };
        judge(&question, &|_| checked, &mut LayerReader::new(|wanted| self.contents(wanted.algorithm))).into_result()
    }

    #[track_caller]
    fn refused(&self, denied: Denied, what: &str) {
        for checked in [false, true] {
            let refusal = self.judge(denied.clone(), &[signer()], checked).unwrap_err();
            assert_eq!(refusal.case(), Case::F06Denied, "{what}: {refusal}");
            let text = refusal.to_string();
            assert!(text.contains(what) && text.contains("test.list, line 2"), "{what}: {text}");
        }
    }
}

/// Whatever order they come in, the same seal vouches.
#[test]
fn the_seal_of_the_highest_sequence_counts() {
    let Some(host) = Host::new() else { return };
    for (name, sequence) in [("old", "3"), ("new", "7"), ("older", "2")] {
        host.sign(name, stranger(), &["--sequence", sequence, "--identity", "registry.example.com/acme/app"]);
    }
    for trusted in [&[signer(), stranger()][..], &[stranger()]] {
        let image = host.judge(Denied::nothing(), trusted, true).unwrap();
        assert_eq!(image.binding().unwrap().sequence, Some(7));
    }
    // One without a sequence comes last.
    assert_eq!(host.judge(Denied::nothing(), &[signer()], true).unwrap().binding().unwrap().sequence, None);
}

#[test]
fn f06_every_digest_of_an_image_can_be_denied() {
    let Some(host) = Host::new() else { return };
    host.judge(Denied::nothing(), &[signer()], false).unwrap();
    host.judge(host.deny(&format!("{}\n", BlobDigest::of(b"something else"))), &[signer()], false).unwrap();
    let image = host.image.clone();
    let seal = host.layout.referrers(&image.digest, &Budget::STANDARD).unwrap()[0];
    for (digest, what) in [
        (image.digest, "manifest"),
        (image.config_digest, "config"),
        (image.layers[0].digest, "layer 0"),
        (image.layers[1].digest, "layer 1"),
        (image.layers[1].diff_id, "diff_id of layer 1"),
        (seal, "seal"),
    ] {
        host.refused(host.deny(&format!("# first\n{digest}\n")), what);
    }
}

#[test]
fn f06_erofs_images_can_be_denied_in_every_algorithm() {
    let Some(host) = Host::new() else { return };
    let (long, short) = (host.contents(Algorithm::Sha512).unwrap(), host.contents(Algorithm::Sha256).unwrap());
    for (text, what) in [
        (format!("fsverity-sha512-12:{}", long.images.merged_digest().unwrap()), "merged"),
        (format!("sha512:{}", long.images.container().unwrap().layer_digests[1]), "layer-1"),
    ] {
        host.refused(host.deny(&format!("\n{text}\n")), what);
    }
    // The same tree in an algorithm that no seal uses: nobody says that this image is it.
    let denied = host.deny(&format!("\nfsverity-sha256-12:{}\n", short.images.container().unwrap().rootfs_digest));
    host.judge(denied.clone(), &[signer()], false).unwrap();
    // A seal that uses it says so, and then the other seal does not help.
    host.sign("signer", signer(), &["--algorithm", "sha256"]);
    host.refused(denied, "rootfs");
}

#[test]
fn f06_a_denied_certificate_vouches_for_nothing() {
    let Some(host) = Host::new() else { return };
    host.bench.write("etc/deny.d/gone.crt", &signer().cert.to_pem().unwrap());
    let denied = host.deny("");
    for checked in [false, true] {
        let refusal = host.judge(denied.clone(), &[signer(), stranger()], checked).unwrap_err();
        assert_eq!(refusal.case(), Case::F06Denied, "{refusal}");
        assert!(refusal.to_string().contains("gone.crt"), "{refusal}");
    }
    // Another signer's seal counts: that is how a key is replaced.
    host.sign("stranger", stranger(), &[]);
    let verified = host.judge(denied, &[signer(), stranger()], false).unwrap();
    assert!(verified.signer().unwrap().subject.contains("stranger"));
}

#[test]
fn f06_images_that_nobody_vouches_for_are_denied_too() {
    let Some(host) = Host::new() else { return };
    let contents = host.contents(Algorithm::Sha512).unwrap();
    let try_it = |denied| unsigned(&host.image, &contents.images.digests().unwrap(), &denied);
    try_it(Denied::nothing()).unwrap();
    for line in [
        host.image.digest.to_string(),
        host.image.layers[0].diff_id.to_string(),
        format!("fsverity-sha512-12:{}", contents.images.container().unwrap().rootfs_digest),
        format!("fsverity-sha512-12:{}", contents.images.container().unwrap().layer_digests[0]),
    ] {
        assert_eq!(try_it(host.deny(&line)).unwrap_err().case(), Case::F06Denied, "{line}");
    }
}

/// An artifact can be written in other bytes, and what was signed cannot.
#[test]
fn f06_a_seal_is_denied_by_its_statement() {
    let Some(host) = Host::new() else { return };
    let seal = host.layout.referrers(&host.image.digest, &Budget::STANDARD).unwrap()[0];
    let shown = host.bench.run(&["inspect", "oci:image", "--json"]).ok();
    let shown: serde_json::Value = serde_json::from_str(&shown.stdout).unwrap();
    let digests: Vec<String> = serde_json::from_value(shown["seals"][0]["binding"]["digests"].clone()).unwrap();
    let again = |host: &Host| {
        // The same seal with a space in it, as the repository's only one.
        let raw = host.layout.store().read(&seal, None, 1 << 20).unwrap();
        let other = String::from_utf8(raw).unwrap().replacen('{', "{ ", 1);
        let digest = host.layout.store().write(other.as_bytes()).unwrap();
        let index = std::fs::read_to_string(host.bench.path("image/index.json")).unwrap();
        let mut index: serde_json::Value = serde_json::from_str(&index).unwrap();
        let entries = index["manifests"].as_array_mut().unwrap();
        let entry = entries.iter_mut().find(|e| e["digest"] == seal.to_string()).unwrap();
        (entry["digest"], entry["size"]) = (digest.to_string().into(), other.len().into());
        std::fs::write(host.bench.path("image/index.json"), index.to_string()).unwrap();
    };
    for digest in &digests {
        host.refused(host.deny(&format!("\n{digest}\n")), "statement");
    }
    let by_artifact = host.deny(&format!("{seal}\n"));
    assert_eq!(host.judge(by_artifact.clone(), &[signer()], false).unwrap_err().case(), Case::F06Denied);
    again(&host);
    host.judge(by_artifact, &[signer()], false).unwrap();
    for digest in &digests {
        host.refused(host.deny(&format!("\n{digest}\n")), "statement");
    }
    // Another statement is another one.
    host.sign("signer", signer(), &["--identity", "registry.example.com/acme/another"]);
    for checked in [false, true] {
        host.judge(host.deny(&digests[0]), &[signer()], checked).unwrap();
    }
}
