//! `deny.d/`: what this host refuses, whatever a seal or a rule says about it.

use std::collections::BTreeMap;

use super::{config_dirs, refuse};
use crate::digest::{Algorithm, BlobDigest, Fingerprint, VerityDigest, verity_digest};
use crate::error::{Case, Refusal, Result};
use crate::oci::{DenySubjects, Image};
use crate::pki::marks_from_bytes;

/// Certificates and digests that are refused, each with the file that says so.
///
/// A certificate is denied itself, however it is encoded, and so is every other one with its key. A list has one digest
/// per line, and comments after `#`:
///
/// ```text
/// sha256:HEX               # a manifest, an index, a config, a layer blob or its diff_id, a seal, or its statement
/// fsverity-sha512-12:HEX   # the EROFS image of a layer or of a tree, or a statement; fsverity-sha256-12 too
/// ```
///
/// A seal's own digest is the digest of bytes around what was signed, and anybody can write those differently: its
/// statement has only one form.
///
/// An empty list that hides one of a lower directory is refused.
///
/// `sha256:` stands for fs-verity digests of that algorithm as well, and `sha512:` for those only.
#[derive(Clone, Debug)]
pub struct Denied {
    /// By each mark of every certificate.
    certificates: BTreeMap<Fingerprint, String>,
    certificate_count: usize,
    blobs: BTreeMap<BlobDigest, String>,
    images: BTreeMap<VerityDigest, String>,
    /// Whether some of them can only be fs-verity digests.
    only_erofs: bool,
}

impl Denied {
    /// Denies nothing. For tests, and for tools that do not judge for a host.
    pub fn nothing() -> Self {
        let (blobs, images) = (BTreeMap::new(), BTreeMap::new());
        Self { certificates: BTreeMap::new(), certificate_count: 0, blobs, images, only_erofs: false }
    }

    /// Reads `deny.d/` of the configuration.
    ///
    /// # Errors
    /// [`Case::F03Denied`] for what cannot be read or understood, or is not root's;
    /// [`Case::F02Certificate`].
    pub fn load(directories: &super::Directories) -> Result<Self> {
        // The policy's file is not mentioned: it is not at fault.
        Self::read(directories).map_err(|refusal| match refusal.case() {
            Case::F03Policy => Refusal::new(Case::F03Denied, refusal.subject(), refusal.detail()),
            _ => refusal,
        })
    }

    fn read(directories: &super::Directories) -> Result<Self> {
        let mut denied = Self::nothing();
        for path in directories.denied()? {
            let name = path.display().to_string();
            if config_dirs::is_certificate(&path) {
                for marks in marks_from_bytes(&config_dirs::read_bytes(&path)?, &name)? {
                    denied.certificate_count += 1;
                    denied.certificates.extend(marks.into_iter().map(|mark| (mark, name.clone())));
                }
            } else {
                let text = config_dirs::read(&path)?;
                // Whoever means it says so by a link, and an empty file is easily made: by whatever opens a lock there.
                if text.trim().is_empty() && directories.hides("deny.d", &path) {
                    return Err(refuse(
                        &name,
                        "empty, and it hides a list of the same name: only a link to /dev/null may",
                    ));
                }
                denied.list(&text, &name)?;
            }
        }
        Ok(denied)
    }

    fn list(&mut self, text: &str, name: &str) -> Result<()> {
        for (number, line) in (1..).zip(text.lines()) {
            let entry = line.split('#').next().unwrap_or_default().trim();
            if entry.is_empty() {
                continue;
            }
            let place = format!("{name}, line {number}");
            let (blob, image) = digest(entry).ok_or_else(|| {
                refuse(&place, "not sha256:, sha512:, fsverity-sha256-12: or fsverity-sha512-12: and lower-case hex")
            })?;
            self.only_erofs |= blob.is_none();
            blob.map(|blob| self.blobs.insert(blob, place.clone()));
            self.images.insert(image, place);
        }
        Ok(())
    }

    /// Checks that the image is not denied: its manifest, its config, a layer's blob or diff_id.
    ///
    /// # Errors
    /// [`Case::F06Denied`].
    pub fn image(&self, image: &Image) -> Result<()> {
        self.anything(&DenySubjects::of(image))
    }

    /// Checks that nothing about this is denied. Every way to a container asks here.
    ///
    /// # Errors
    /// [`Case::F06Denied`].
    pub fn anything(&self, facts: &DenySubjects) -> Result<()> {
        facts.blobs().iter().try_for_each(|(what, digest)| self.blob(digest, what))?;
        facts.erofs_images().iter().try_for_each(|(what, digest)| self.erofs(digest, what))?;
        facts.certificates().iter().try_for_each(|fingerprint| self.certificate(*fingerprint))
    }

    /// Checks that a blob is not denied; `what` names it in the refusal.
    ///
    /// # Errors
    /// [`Case::F06Denied`].
    pub fn blob(&self, digest: &BlobDigest, what: &str) -> Result<()> {
        said(self.blobs.get(digest), || format!("{what} {digest}"))
    }

    /// Checks that an EROFS image is not denied, by its fs-verity digest.
    ///
    /// # Errors
    /// [`Case::F06Denied`].
    pub fn erofs(&self, digest: &VerityDigest, what: &str) -> Result<()> {
        said(self.images.get(digest), || format!("{what} {}:{digest}", digest.algorithm()))
    }

    /// Checks that a signer is not denied, by any mark of the certificate; see [`crate::pki::Certificate::marks`].
    ///
    /// # Errors
    /// [`Case::F06Denied`].
    pub fn signer(&self, marks: &[Fingerprint]) -> Result<()> {
        marks.iter().try_for_each(|mark| self.certificate(*mark))
    }

    /// Checks that a seal's statement is not denied.
    ///
    /// # Errors
    /// [`Case::F06Denied`].
    pub fn statement(&self, text: &[u8], algorithm: Algorithm) -> Result<()> {
        self.blob(&BlobDigest::of(text), "statement")?;
        self.erofs(&verity_digest(algorithm, text), "statement")
    }

    /// Checks that a digest, written as in a list, is not denied; `what` names it in the refusal.
    ///
    /// # Errors
    /// [`Case::F06Denied`], also for text that is not a digest.
    pub fn named(&self, entry: &str, what: &str) -> Result<()> {
        let not_one = || Refusal::new(Case::F06Denied, format!("{what} {entry}"), "not a digest");
        let (blob, image) = digest(entry).ok_or_else(not_one)?;
        blob.map_or(Ok(()), |blob| self.blob(&blob, what))?;
        self.erofs(&image, what)
    }

    /// Checks that a certificate is not denied, by one of its marks: the SHA-256 of its DER, and others.
    ///
    /// # Errors
    /// [`Case::F06Denied`].
    pub fn certificate(&self, fingerprint: Fingerprint) -> Result<()> {
        said(self.certificates.get(&fingerprint), || format!("certificate, SHA-256 {fingerprint}"))
    }

    /// Returns whether EROFS images are denied by digests that only they have: then the EROFS image is needed to tell.
    pub fn names_erofs(&self) -> bool {
        self.only_erofs
    }

    /// Returns whether blobs are denied: then the documents of an image, and its layers, are needed to tell.
    pub fn names_blobs(&self) -> bool {
        !self.blobs.is_empty()
    }

    /// Returns whether nothing at all is denied.
    pub fn is_empty(&self) -> bool {
        self.certificates.is_empty() && self.images.is_empty()
    }

    /// Returns how many certificates and how many digests are denied.
    pub fn count(&self) -> (usize, usize) {
        (self.certificate_count, self.images.len())
    }
}

fn said(place: Option<&String>, what: impl FnOnce() -> String) -> Result<()> {
    place.map_or(Ok(()), |place| Err(Refusal::new(Case::F06Denied, what(), format!("in {place}"))))
}

/// Parses a digest of a list: as a blob's if it may be one, and as an fs-verity digest.
fn digest(entry: &str) -> Option<(Option<BlobDigest>, VerityDigest)> {
    let (algorithm, hex) = entry.split_once(':')?;
    let image = VerityDigest::from_hex(algorithm.parse::<Algorithm>().ok()?, hex)?;
    Some((entry.parse().ok(), image))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn f06_every_form_of_a_digest_is_read_and_no_other() {
        let (short, long) = ("0a".repeat(32), "0b".repeat(64));
        let text =
            format!("# a comment\n\nsha256:{short}\t# why\n sha512:{long}\nfsverity-sha256-12:{}\n", "0c".repeat(32));
        let mut denied = Denied::nothing();
        denied.list(&text, "x.list").unwrap();
        assert_eq!((denied.blobs.len(), denied.count()), (1, (0, 3)));
        let refusal = denied.blob(&format!("sha256:{short}").parse().unwrap(), "manifest").unwrap_err();
        assert_eq!(refusal.case(), Case::F06Denied);
        assert!(refusal.to_string().contains("in x.list, line 3"), "{refusal}");
        for (algorithm, hex) in [(Algorithm::Sha256, &short), (Algorithm::Sha512, &long)] {
            assert!(denied.erofs(&VerityDigest::from_hex(algorithm, hex).unwrap(), "merged").is_err());
        }
        // One hex in both forms: the one that only fs-verity can mean is still there.
        let mut denied = Denied::nothing();
        denied.list(&format!("sha256:{short}\n"), "x.list").unwrap();
        assert!(denied.names_blobs() && !denied.names_erofs());
        denied.list(&format!("fsverity-sha256-12:{short}\n"), "x.list").unwrap();
        assert!(denied.names_blobs() && denied.names_erofs());
        for bad in [
            short.clone(),
            format!("sha256:{}", short.to_uppercase()),
            format!("sha256:{long}"),
            format!("sha512:{short}"),
            format!("md5:{short}"),
            format!("sha256:{short} sha256:{short}"),
            format!("deny sha256:{short}"),
            format!("sha256: {short}"),
        ] {
            let refusal = Denied::nothing().list(&bad, "x.list").unwrap_err();
            assert_eq!(refusal.case(), Case::F03Policy, "{bad}");
        }
    }
}
