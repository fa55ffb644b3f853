use std::collections::BTreeMap;
use std::fmt::Write as _;

use super::annotations::is_inline;
use super::identity::Identity;
use super::keys::{BINDING, BINDING_SIG};
use crate::digest::{Algorithm, BlobDigest, VerityDigest, verity_digest};
use crate::error::{Case, Refusal, Result};
use crate::image::TreeDigests;
use crate::oci::{Budget, Image};

const TITLE: &str = "layerseal binding v2";

/// The statement that binds manifest, config, layers, names and digests to each other.
///
/// A PKCS#7 over one fs-verity digest says nothing about role, position, image or name: whatever the publisher ever
/// signed verifies anywhere. This text, signed like every other file of the seal, says these things. UTF-8, one item
/// per line, every line ends in LF, keys in this order:
///
/// ```text
/// layerseal binding v2
/// algorithm: fsverity-sha512-12
/// subject: sha256:<image manifest>
/// config: sha256:<image config>
/// annotations: sha256:<the manifest's annotations>
/// identity: registry.example.com/acme/app
/// layer: sha256:<layer descriptor digest> sha256:<diff_id> <hex>
/// rootfs: <hex>
/// merged: <hex>
/// sequence: 7
/// ```
///
/// What runs is config, annotations and layers: these bind. `subject` and the layers' descriptors say which manifest
/// was signed; a store that holds the same image under another manifest, compressed differently, holds the same image.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Binding {
    /// The algorithm of all digests in the statement and the seal.
    pub algorithm: Algorithm,
    /// The image manifest; absent in inline mode, in which the manifest holds the statement.
    pub subject: Option<BlobDigest>,
    /// The image config.
    pub config: BlobDigest,
    /// Digest of the manifest's own annotations, which podman copies into containers: see [`annotations`].
    pub annotations: BlobDigest,
    /// Names (without tag) that the image may run under; sorted, each once.
    pub identities: Vec<Identity>,
    /// For each layer, lowest first: descriptor digest, diff_id, digest of its EROFS image.
    pub layers: Vec<(BlobDigest, BlobDigest, VerityDigest)>,
    /// Digest of the EROFS image of the container's tree.
    pub rootfs: VerityDigest,
    /// Digest of the EROFS image of composefs' canonical tree, if it makes one.
    pub merged: Option<VerityDigest>,
    /// Grows with every release, for rollback floors.
    pub sequence: Option<u64>,
}

impl Binding {
    /// Makes the statement for `image`.
    pub fn new(image: &Image, digests: &TreeDigests, identities: &[Identity], sequence: Option<u64>) -> Self {
        let mut identities = identities.to_vec();
        identities.sort_unstable();
        identities.dedup();
        let layers = image
            .layers
            .iter()
            .zip(&digests.layers)
            .map(|(layer, digest)| (layer.digest, layer.diff_id, *digest))
            .collect();
        Self {
            algorithm: digests.rootfs.algorithm(),
            subject: Some(image.digest),
            config: image.config_digest,
            annotations: annotations(image),
            identities,
            layers,
            rootfs: digests.rootfs,
            merged: digests.merged,
            sequence,
        }
    }

    /// Returns the digests of the text, by which it can be denied: of its bytes, and of fs-verity.
    pub fn marks(&self) -> (BlobDigest, VerityDigest) {
        let text = self.text();
        (BlobDigest::of(text.as_bytes()), verity_digest(self.algorithm, text.as_bytes()))
    }

    /// Lists everything that it names, with what it is.
    pub fn blobs(&self) -> Vec<(String, BlobDigest)> {
        let mut blobs = vec![("config".to_owned(), self.config)];
        blobs.extend(self.subject.map(|subject| ("manifest".to_owned(), subject)));
        for (number, (blob, diff_id, _)) in self.layers.iter().enumerate() {
            blobs.push((format!("layer {number}"), *blob));
            blobs.push((format!("diff_id of layer {number}"), *diff_id));
        }
        blobs
    }

    /// Returns whether it names what would run of this image: config, annotations and layers, under any manifest of a
    /// kind that has the same effect.
    pub fn names(&self, image: &Image) -> bool {
        (self.subject == Some(image.digest) || image.differs_by_kind().is_none())
            && self.config == image.config_digest
            && self.annotations == annotations(image)
            && self.layers.len() == image.layers.len()
            && self.layers.iter().zip(&image.layers).all(|((_, diff_id, _), layer)| *diff_id == layer.diff_id)
    }

    /// Returns the digests of the EROFS images.
    pub fn digests(&self) -> TreeDigests {
        let layers = self.layers.iter().map(|(_, _, digest)| *digest).collect();
        TreeDigests { rootfs: self.rootfs, merged: self.merged, layers }
    }

    /// Returns the text that is signed.
    pub fn text(&self) -> String {
        let mut out = format!("{TITLE}\nalgorithm: {}\n", self.algorithm);
        if let Some(subject) = self.subject {
            let _ = writeln!(out, "subject: {subject}");
        }
        let _ = writeln!(out, "config: {}\nannotations: {}", self.config, self.annotations);
        for identity in &self.identities {
            let _ = writeln!(out, "identity: {identity}");
        }
        for (blob, diff_id, digest) in &self.layers {
            let _ = writeln!(out, "layer: {blob} {diff_id} {digest}");
        }
        let _ = writeln!(out, "rootfs: {}", self.rootfs);
        if let Some(merged) = self.merged {
            let _ = writeln!(out, "merged: {merged}");
        }
        if let Some(sequence) = self.sequence {
            let _ = writeln!(out, "sequence: {sequence}");
        }
        out
    }

    /// Parses a statement. There is one text for one meaning: what is parsed must yield the same text again, byte for
    /// byte.
    ///
    /// # Errors
    /// [`Case::D17Statement`]; [`Case::D09Algorithm`] for an algorithm we do not know.
    pub fn parse(bytes: &[u8], budget: &Budget) -> Result<Self> {
        let refuse = |why: &str| Refusal::new(Case::D17Statement, "binding", why);
        if bytes.len() > budget.statement {
            return Err(refuse("it is too long"));
        }
        let text = std::str::from_utf8(bytes).map_err(|_| refuse("it is not UTF-8"))?;
        let mut lines = text.lines();
        if lines.next() != Some(TITLE) {
            return Err(refuse("it does not begin with \"layerseal binding v2\""));
        }
        let mut draft = BindingDraft::default();
        for line in lines {
            let (key, value) = line.split_once(": ").ok_or_else(|| refuse("a line without a key"))?;
            draft.take(key, value).map_err(|r| r.within("binding"))?;
        }
        let binding = draft.finish().ok_or_else(|| refuse("a line is missing"))?;
        let sorted = binding.identities.windows(2).all(|pair| pair[0] < pair[1]);
        if !sorted || binding.text() != text || binding.layers.len() > budget.layers {
            return Err(refuse("it is not in canonical form"));
        }
        Ok(binding)
    }
}

/// Computes the digest of the annotations of an image's manifest: as JSON, sorted by key, without white space, `{}` if
/// there are none.
pub fn annotations(image: &Image) -> BlobDigest {
    BlobDigest::of(serde_json::json!(image.annotations).to_string().as_bytes())
}

/// Computes the same for a seal that is itself in these annotations: its own parts are left out.
pub fn other_annotations(image: &Image) -> BlobDigest {
    let others: BTreeMap<&String, &String> = image.annotations.iter().filter(|(key, _)| !is_ours(key)).collect();
    BlobDigest::of(serde_json::json!(others).to_string().as_bytes())
}

fn is_ours(key: &str) -> bool {
    key == BINDING || key == BINDING_SIG || is_inline(key)
}

fn blob(text: &str) -> Result<BlobDigest> {
    text.parse().map_err(|r: Refusal| Refusal::new(Case::D17Statement, r.subject(), r.case().what()))
}

#[derive(Default)]
struct BindingDraft {
    algorithm: Option<Algorithm>,
    subject: Option<BlobDigest>,
    config: Option<BlobDigest>,
    annotations: Option<BlobDigest>,
    identities: Vec<Identity>,
    layers: Vec<(BlobDigest, BlobDigest, VerityDigest)>,
    rootfs: Option<VerityDigest>,
    merged: Option<VerityDigest>,
    sequence: Option<u64>,
}

impl BindingDraft {
    /// Takes one line. Order and repetition are left to the comparison with the canonical text.
    fn take(&mut self, key: &str, value: &str) -> Result<()> {
        let refuse = |why: &str| Refusal::new(Case::D17Statement, key, why);
        match key {
            "algorithm" => self.algorithm = Some(super::keys::algorithm(value, "algorithm")?),
            "subject" => self.subject = Some(blob(value)?),
            "config" => self.config = Some(blob(value)?),
            "annotations" => self.annotations = Some(blob(value)?),
            "identity" if let Ok(identity) = value.parse() => self.identities.push(identity),
            "layer" => {
                let parts: Vec<&str> = value.split(' ').collect();
                let [descriptor, diff_id, digest] = parts[..] else {
                    return Err(refuse("it does not have three parts"));
                };
                self.layers.push((blob(descriptor)?, blob(diff_id)?, self.digest(digest)?));
            }
            "rootfs" => self.rootfs = Some(self.digest(value)?),
            "merged" => self.merged = Some(self.digest(value)?),
            "sequence" => self.sequence = Some(value.parse().map_err(|_| refuse("it is no number"))?),
            _ => return Err(refuse("this line is not known")),
        }
        Ok(())
    }

    fn digest(&self, hex: &str) -> Result<VerityDigest> {
        self.algorithm.and_then(|a| VerityDigest::from_hex(a, hex)).ok_or_else(|| {
            Refusal::new(
                Case::D17Statement,
                hex.chars().take(140).collect::<String>(),
                "not a digest of the statement's algorithm",
            )
        })
    }

    fn finish(self) -> Option<Binding> {
        Some(Binding {
            algorithm: self.algorithm?,
            subject: self.subject,
            config: self.config?,
            annotations: self.annotations?,
            identities: self.identities,
            layers: self.layers,
            rootfs: self.rootfs?,
            merged: self.merged,
            sequence: self.sequence,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sample() -> Binding {
        let blob = BlobDigest::of(b"blob");
        let digest = crate::digest::verity_digest(Algorithm::Sha256, b"image");
        Binding {
            algorithm: Algorithm::Sha256,
            subject: Some(blob),
            config: blob,
            annotations: blob,
            identities: vec!["a.example/x".parse().unwrap(), "b.example:5000/y/z".parse().unwrap()],
            layers: vec![(blob, blob, digest), (blob, blob, digest)],
            rootfs: digest,
            merged: Some(digest),
            sequence: Some(7),
        }
    }

    #[test]
    fn a_statement_reads_as_it_is_written() {
        let statement = sample();
        assert_eq!(Binding::parse(statement.text().as_bytes(), &Budget::STANDARD).unwrap(), statement);
        let bare =
            Binding { subject: None, identities: vec![], layers: vec![], merged: None, sequence: None, ..statement };
        assert_eq!(Binding::parse(bare.text().as_bytes(), &Budget::STANDARD).unwrap(), bare);
    }

    #[test]
    fn d17_only_the_canonical_form_is_read() {
        let text = sample().text();
        let swapped = text.replace(
            "identity: a.example/x\nidentity: b.example:5000/y/z\n",
            "identity: b.example:5000/y/z\nidentity: a.example/x\n",
        );
        for bad in [
            text.trim_end().to_owned(),
            text.replace('\n', "\r\n"),
            format!("{text}\n"),
            format!("{text}sequence: 8\n"),
            text.replace("sequence: 7", "sequence: 07"),
            text.replace("sequence: 7", "sequence: +7"),
            text.replace("sequence: 7", "sequence: 18446744073709551616"),
            text.replace("config: ", "config:  "),
            text.replace("a.example/x", "a.example/x:tag"),
            text.replace("merged:", "Merged:"),
            text.replace("v2\n", "v1\n"),
            text.replace("annotations: ", "annotation: "),
            text.replace("rootfs: ", "root: "),
            format!("\u{feff}{text}"),
            swapped,
            String::new(),
        ] {
            let refusal = Binding::parse(bad.as_bytes(), &Budget::STANDARD).unwrap_err();
            assert!(matches!(refusal.case(), Case::D17Statement), "{bad}: {refusal}");
        }
    }

    #[test]
    fn d17_every_changed_byte_is_seen_or_changes_the_meaning() {
        let text = sample().text().into_bytes();
        for at in 0..text.len() {
            for flip in [0x01, 0x20, 0x80] {
                let mut changed = text.clone();
                changed[at] ^= flip;
                if let Ok(read) = Binding::parse(&changed, &Budget::STANDARD) {
                    assert_ne!(read, sample(), "byte {at}");
                }
            }
        }
    }
}
