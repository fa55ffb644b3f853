//! Artifacts of a layout: those that say they are about an image. All of this is claims.

use std::collections::HashSet;
use std::path::Path;

use oci_spec::image::MediaType;
use serde_json::Value;

use super::Budget;
use super::document::{ManifestOrIndex, document};
use super::image::blob_digest;
use super::layout::{Layout, TAG, fallback_tag, is_fallback_tag};
use crate::digest::BlobDigest;
use crate::error::{Case, Class, Refusal, Result};

impl Layout {
    /// Finds the digests of the artifacts whose `subject` is `image`, and of those in the fallback tag's index; in the
    /// order of `index.json`, each once, seals before all others. Their bytes are not judged here.
    ///
    /// # Errors
    /// [`Case::C02TooMany`] for more seals than the budget allows.
    pub fn referrers(&self, image: &BlobDigest, budget: &Budget) -> Result<Vec<BlobDigest>> {
        self.search(budget, Some(image))
    }

    /// Lists every artifact of the layout, whatever it says it is about, and all entries of fallback indexes: for
    /// `--seal oci:DIR`, where the person says "this is the seal".
    ///
    /// # Errors
    /// [`Case::C02TooMany`] for more seals than the budget allows.
    pub fn artifacts(&self, budget: &Budget) -> Result<Vec<BlobDigest>> {
        self.search(budget, None)
    }

    fn search(&self, budget: &Budget, image: Option<&BlobDigest>) -> Result<Vec<BlobDigest>> {
        let index = self.index(budget)?;
        if index.manifests().len() > budget.index_entries {
            let why =
                format!("index.json has {} entries, allowed are {}", index.manifests().len(), budget.index_entries);
            return Err(Refusal::new(Case::C02TooMany, self.path.display().to_string(), why));
        }
        let mut found = LayoutCandidates::default();
        for descriptor in index.manifests() {
            let Ok(digest) = blob_digest(descriptor) else { continue };
            let tag = descriptor.annotations().as_ref().and_then(|a| a.get(TAG));
            let fallback = tag.is_some_and(|t| is_fallback_tag(t) && image.is_none_or(|i| *t == fallback_tag(i)));
            if fallback {
                for digest in self.index_entries(&digest, budget)? {
                    found.add(digest, || Ok(Some(self.peek(&digest, budget)?.unwrap_or_default())))?;
                }
            } else if image != Some(&digest) && *descriptor.media_type() == MediaType::ImageManifest {
                // A seal whose bytes are gone must be named too, if the index calls it one.
                let claimed =
                    descriptor.artifact_type().as_ref().map(ToString::to_string).filter(|t| t.contains("composefs"));
                found.add(digest, || {
                    Ok(match (self.peek(&digest, budget)?, claimed) {
                        (Some(peek), _) => {
                            image.map_or(peek.is_artifact(), |image| peek.subject == Some(*image)).then_some(peek)
                        }
                        (None, claimed) => claimed.map(|artifact_type| Peek { subject: None, artifact_type }),
                    })
                })?;
            }
        }
        found.limited(budget, &self.path)
    }

    fn index_entries(&self, digest: &BlobDigest, budget: &Budget) -> Result<Vec<BlobDigest>> {
        let Some(raw) = self.readable(digest, budget)? else { return Ok(Vec::new()) };
        Ok(match document(&raw, &digest.to_string()) {
            Ok(ManifestOrIndex::Index(index)) => index.manifests().iter().filter_map(|d| blob_digest(d).ok()).collect(),
            _ => Vec::new(),
        })
    }

    /// Reads a blob, if it is here and its bytes match its name. An error of reading is not an answer: a seal that the
    /// disk does not give back still exists.
    fn readable(&self, digest: &BlobDigest, budget: &Budget) -> Result<Option<Vec<u8>>> {
        match self.store.read(digest, None, budget.manifest) {
            Ok(raw) => Ok(Some(raw)),
            Err(refusal) if refusal.case().class() == Class::Rejected => Ok(None),
            Err(refusal) => Err(refusal),
        }
    }

    /// Looks into a manifest, not strictly: a bad artifact is for the verifier to find and name, and must not get lost
    /// here.
    fn peek(&self, digest: &BlobDigest, budget: &Budget) -> Result<Option<Peek>> {
        let Some(raw) = self.readable(digest, budget)? else { return Ok(None) };
        let Ok(value) = serde_json::from_slice::<Value>(&raw) else { return Ok(None) };
        let text = |pointer: &str| value.pointer(pointer).and_then(Value::as_str);
        Ok(Some(Peek {
            subject: text("/subject/digest").and_then(|d| d.parse().ok()),
            artifact_type: text("/artifactType").unwrap_or_default().to_owned(),
        }))
    }
}

/// What a look at a manifest tells, before any of it is believed.
#[derive(Default)]
struct Peek {
    subject: Option<BlobDigest>,
    artifact_type: String,
}

impl Peek {
    fn is_artifact(&self) -> bool {
        self.subject.is_some() || !self.artifact_type.is_empty()
    }

    /// Returns whether it may be a seal, which includes anything unreadable: the verifier is to name that.
    fn may_be_seal(&self) -> bool {
        self.artifact_type.is_empty() || self.artifact_type.contains("composefs")
    }
}

/// What a search has found: each digest once, so that a repetitive index costs no more.
#[derive(Default)]
struct LayoutCandidates {
    seen: HashSet<BlobDigest>,
    seals: Vec<BlobDigest>,
    others: Vec<BlobDigest>,
}

impl LayoutCandidates {
    fn add(&mut self, digest: BlobDigest, peek: impl FnOnce() -> Result<Option<Peek>>) -> Result<()> {
        if !self.seen.insert(digest) {
            return Ok(());
        }
        match peek()? {
            Some(peek) if peek.may_be_seal() => self.seals.push(digest),
            Some(_) => self.others.push(digest),
            None => {}
        }
        Ok(())
    }

    /// Limits the result. Other artifacts are kept for the report, as far as there is room: they never displace a seal.
    fn limited(mut self, budget: &Budget, path: &Path) -> Result<Vec<BlobDigest>> {
        if self.seals.len() > budget.seals {
            let why = format!("{}, allowed are {}", self.seals.len(), budget.seals);
            return Err(Refusal::new(Case::C02TooMany, path.display().to_string(), why));
        }
        self.others.truncate(budget.seals - self.seals.len());
        self.seals.append(&mut self.others);
        Ok(self.seals)
    }
}
