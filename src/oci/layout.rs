use std::collections::HashSet;
use std::ffi::OsString;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::time::Duration;

use oci_spec::image::{Descriptor, ImageIndex, MediaType};
use rustix::fs::FlockOperation;
use serde_json::{Value, json};

use super::document::{Document, document};
use super::image::blob_digest;
use super::{BlobStore, Budget, Platform, strict_json};
use crate::digest::BlobDigest;
use crate::report::{Case, Class, Refusal, Result};
use crate::sys::{files, new_files};

/// How long a change of a layout waits for another one; each takes moments.
const PATIENCE: Duration = Duration::from_secs(10);

const TAG: &str = "org.opencontainers.image.ref.name";

/// An OCI image layout on disk (image-spec, image-layout.md).
#[derive(Debug)]
pub struct Layout {
    root: OwnedFd,
    path: PathBuf,
    store: BlobStore,
}

impl Layout {
    /// Opens an existing layout.
    ///
    /// # Errors
    /// [`Case::NotFound`] when the directory is missing, [`Case::LayoutBroken`] when it is no layout.
    pub fn open(path: &Path) -> Result<Self> {
        let name = path.display().to_string();
        let root = files::open_dir(path).map_err(|e| match files::no_file(&e) {
            Some(_) => Refusal::new(Case::NotFound, &name, e),
            None => Refusal::io(&name, e),
        })?;
        let marker = files::open_file_at(&root, "oci-layout").and_then(|f| files::read_all(f, 4096));
        let marker = marker.map_err(|e| Refusal::new(Case::LayoutBroken, &name, format!("oci-layout: {e}")))?;
        let version = strict_json::value(&marker, &format!("{name}/oci-layout"))?;
        if version.get("imageLayoutVersion").and_then(Value::as_str) != Some("1.0.0") {
            return Err(Refusal::new(Case::LayoutBroken, name, "imageLayoutVersion is not 1.0.0"));
        }
        let store = BlobStore::open(&root, path)?;
        Ok(Self { root, path: path.to_owned(), store })
    }

    /// Opens a layout, and makes an empty one where there is nothing, or what was left when somebody was killed over
    /// making it.
    ///
    /// # Errors
    /// [`Case::Io`], [`Case::LayoutBroken`], [`Case::VaultBusy`].
    pub fn open_or_create(path: &Path) -> Result<Self> {
        let io = |e: std::io::Error| Refusal::io(path.display().to_string(), e);
        std::fs::create_dir_all(path).map_err(io)?;
        let root = files::open_dir(path).map_err(io)?;
        // Of two that make it the second opens it.
        let lock = lock(&root, path)?;
        let names = files::names(&root).map_err(io)?;
        let has = |name: &str| names.iter().any(|n| n == name);
        if has("oci-layout") {
            drop(lock);
            return Self::open(path);
        }
        let of_one = |name: &OsString| name == "blobs" || name == "index.json" || is_remains(name);
        if !names.iter().all(of_one) {
            return Err(Refusal::new(
                Case::LayoutBroken,
                path.display().to_string(),
                "the directory holds something else",
            ));
        }
        let store = BlobStore::create(&root, path)?;
        if !has("index.json") {
            new_files::write_atomic(
                &root,
                "index.json",
                0o644,
                br#"{"schemaVersion":2,"mediaType":"application/vnd.oci.image.index.v1+json","manifests":[]}"#,
            )
            .map_err(io)?;
        }
        new_files::write_atomic(&root, "oci-layout", 0o644, br#"{"imageLayoutVersion":"1.0.0"}"#).map_err(io)?;
        Ok(Self { root, path: path.to_owned(), store })
    }

    /// The layout's blobs.
    pub fn store(&self) -> &BlobStore {
        &self.store
    }

    fn index_raw(&self, budget: &Budget) -> Result<Vec<u8>> {
        files::open_file_at(&self.root, "index.json")
            .and_then(|f| files::read_all(f, budget.manifest))
            .map_err(|e| Refusal::new(Case::LayoutBroken, self.path.display().to_string(), format!("index.json: {e}")))
    }

    fn index(&self, budget: &Budget) -> Result<ImageIndex> {
        let name = self.path.join("index.json").display().to_string();
        match document(&self.index_raw(budget)?, &name)? {
            Document::Index(index) => Ok(*index),
            Document::Manifest(_) => Err(Refusal::new(Case::LayoutBroken, name, "it is no index")),
        }
    }

    /// The manifest that `tag` names; without a tag, the only image there is.
    ///
    /// # Errors
    /// [`Case::NotFound`], naming the tags that exist; C03, C04 when the manifest does not fit its
    /// descriptor.
    pub fn resolve(&self, tag: Option<&str>, budget: &Budget) -> Result<BlobDigest> {
        let index = self.index(budget)?;
        let tag_of = |d: &Descriptor| d.annotations().as_ref().and_then(|a| a.get(TAG)).cloned();
        let images: Vec<&Descriptor> = index
            .manifests()
            .iter()
            .filter(|d| d.artifact_type().is_none() && !tag_of(d).is_some_and(|t| is_fallback_tag(&t)))
            .collect();
        let tags: Vec<String> = images.iter().filter_map(|d| tag_of(d)).collect();
        let refuse = |why: String| Refusal::new(Case::NotFound, format!("oci:{}", self.path.display()), why);
        let found = match tag {
            Some(tag) => index
                .manifests()
                .iter()
                .find(|d| tag_of(d).as_deref() == Some(tag))
                .ok_or_else(|| refuse(format!("no tag {tag}; there are: {}", tags.join(", ")))),
            None => match images.as_slice() {
                [one] => Ok(*one),
                [] => Err(refuse("the layout holds no image".into())),
                _ => images
                    .iter()
                    .find(|d| tag_of(d).as_deref() == Some("latest"))
                    .copied()
                    .ok_or_else(|| refuse(format!("several images, name a tag: {}", tags.join(", ")))),
            },
        }?;
        let digest = blob_digest(found)?;
        // The size is part of the descriptor; the caller gets the digest alone.
        self.store.read(&digest, Some(found.size()), budget.manifest)?;
        Ok(digest)
    }

    /// The tags of this layout with the digests they stand for, fallback tags excluded.
    ///
    /// # Errors
    /// [`Case::LayoutBroken`].
    pub fn tags(&self, budget: &Budget) -> Result<Vec<(String, BlobDigest)>> {
        let mut tags = Vec::new();
        for d in self.index(budget)?.manifests() {
            if let Some(tag) = d.annotations().as_ref().and_then(|a| a.get(TAG)).filter(|t| !is_fallback_tag(t)) {
                tags.push((tag.clone(), blob_digest(d)?));
            }
        }
        Ok(tags)
    }

    /// Digests of the artifacts whose `subject` is `image`, and of those in the fallback tag's index; in
    /// the order of `index.json`, each once, seals before all others. Their bytes are not judged here.
    ///
    /// # Errors
    /// [`Case::C02TooMany`] for more seals than the budget allows.
    pub fn referrers(&self, image: &BlobDigest, budget: &Budget) -> Result<Vec<BlobDigest>> {
        self.search(budget, Some(image))
    }

    /// Every artifact of the layout, whatever it says it is about, and all entries of fallback
    /// indexes: for `--seal oci:DIR`, where the person says "this is the seal".
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
        let mut found = Candidates::default();
        for descriptor in index.manifests() {
            let Ok(digest) = blob_digest(descriptor) else { continue };
            let tag = descriptor.annotations().as_ref().and_then(|a| a.get(TAG));
            let fallback = tag.is_some_and(|t| is_fallback_tag(t) && image.is_none_or(|i| *t == fallback_tag(i)));
            if fallback {
                for digest in self.index_entries(&digest, budget)? {
                    found.add(digest, || Ok(Some(self.peek(&digest, budget)?.unwrap_or_default())))?;
                }
            } else if image != Some(&digest) && *descriptor.media_type() == MediaType::ImageManifest {
                // A seal whose bytes are gone is to be named too, where the index calls it one.
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
            Ok(Document::Index(index)) => index.manifests().iter().filter_map(|d| blob_digest(d).ok()).collect(),
            _ => Vec::new(),
        })
    }

    /// A blob, where it is here and what its name says. That one cannot be read is no answer: a seal that the disk does
    /// not give back is not one that nobody made.
    fn readable(&self, digest: &BlobDigest, budget: &Budget) -> Result<Option<Vec<u8>>> {
        match self.store.read(digest, None, budget.manifest) {
            Ok(raw) => Ok(Some(raw)),
            Err(refusal) if refusal.case().class() == Class::Rejected => Ok(None),
            Err(refusal) => Err(refusal),
        }
    }

    /// Not strict: a bad artifact is to be found and named by the verifier, not lost here.
    fn peek(&self, digest: &BlobDigest, budget: &Budget) -> Result<Option<Peek>> {
        let Some(raw) = self.readable(digest, budget)? else { return Ok(None) };
        let Ok(value) = serde_json::from_slice::<Value>(&raw) else { return Ok(None) };
        let text = |pointer: &str| value.pointer(pointer).and_then(Value::as_str);
        Ok(Some(Peek {
            subject: text("/subject/digest").and_then(|d| d.parse().ok()),
            artifact_type: text("/artifactType").unwrap_or_default().to_owned(),
        }))
    }

    /// Adds an image under a tag, in the place of what had the tag.
    ///
    /// # Errors
    /// [`Case::Io`], [`Case::LayoutBroken`].
    pub fn add_image(
        &self,
        digest: &BlobDigest,
        size: u64,
        media_type: &str,
        tag: Option<&str>,
        platform: Option<&Platform>,
    ) -> Result<()> {
        let mut entry = json!({"mediaType": media_type, "digest": digest.to_string(), "size": size});
        if let Some(tag) = tag {
            entry["annotations"] = json!({TAG: tag});
        }
        if let Some(platform) = platform {
            entry["platform"] = json!({"os": platform.os(), "architecture": platform.architecture()});
        }
        self.edit(|entries| {
            entries.retain(|e| {
                let same_tag =
                    tag.is_some() && e.pointer("/annotations").and_then(|a| a.get(TAG)).and_then(Value::as_str) == tag;
                let same_untagged = tag.is_none() && e.get("digest") == entry.get("digest");
                !same_tag && !same_untagged
            });
            entries.push(entry.clone());
            Ok(())
        })
    }

    /// Puts another manifest in the place of image `old`: wherever `index.json` names that, or only where it
    /// does so under `tag`.
    ///
    /// # Errors
    /// [`Case::NotFound`] where it is not named there itself: the instance of a multi-platform image is not;
    /// [`Case::Io`], [`Case::LayoutBroken`].
    pub fn replace_image(&self, old: &BlobDigest, tag: Option<&str>, new: &[u8]) -> Result<BlobDigest> {
        let digest = self.store.write(new)?;
        self.edit(|entries| {
            let mut found = false;
            for entry in
                entries.iter_mut().filter(|e| e.get("digest").and_then(Value::as_str) == Some(&old.to_string()))
            {
                let named = entry.pointer("/annotations").and_then(|a| a.get(TAG)).and_then(Value::as_str);
                if tag.is_none() || named == tag {
                    entry["digest"] = digest.to_string().into();
                    entry["size"] = new.len().into();
                    found = true;
                }
            }
            let why = "index.json does not name it; an instance of a multi-platform image must be copied out first";
            if found { Ok(()) } else { Err(Refusal::new(Case::NotFound, old.to_string(), why)) }
        })?;
        Ok(digest)
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Gives the tag `latest` to the only image of a layout, if it has none; says whether it did. A layout with one
    /// entry needs no tag. With a seal there are more, and tools such as skopeo ask which is meant.
    ///
    /// # Errors
    /// [`Case::Io`], [`Case::LayoutBroken`].
    pub fn name_only_image(&self) -> Result<bool> {
        let mut named = false;
        self.edit(|entries| {
            if let [only] = &mut entries[..]
                && only.get("artifactType").is_none()
                && only.pointer("/annotations").and_then(|a| a.get(TAG)).is_none()
            {
                if !only.get("annotations").is_some_and(Value::is_object) {
                    only["annotations"] = json!({});
                }
                only["annotations"][TAG] = "latest".into();
                named = true;
            }
            Ok(())
        })?;
        Ok(named)
    }

    /// Makes `artifact` a referrer of `image`: an entry of its own and one in the index of the
    /// fallback tag (distribution-spec, "Referrers Tag Schema"), both merged with what is there.
    ///
    /// # Errors
    /// [`Case::Io`], [`Case::LayoutBroken`].
    pub fn add_referrer(&self, image: &BlobDigest, artifact: &Value) -> Result<()> {
        let same = |e: &Value| e.get("digest") == artifact.get("digest");
        self.edit(|entries| {
            if !entries.iter().any(same) {
                entries.push(artifact.clone());
            }
            let tag = fallback_tag(image);
            let tagged = |e: &Value| e.pointer("/annotations").and_then(|a| a.get(TAG)).and_then(Value::as_str) == Some(&tag);
            let old = match entries.iter().find(|e| tagged(e)) {
                None => None,
                Some(old) => {
                    let digest: BlobDigest = old.get("digest").and_then(Value::as_str).unwrap_or_default().parse()?;
                    Some(self.store.read(&digest, None, Budget::STANDARD.manifest)?)
                }
            };
            let index = referrers_index(old.as_deref(), artifact, &tag)?;
            let digest = self.store.write(&index)?;
            entries.retain(|e| !tagged(e));
            entries.push(json!({"mediaType": INDEX, "digest": digest.to_string(), "size": index.len(), "annotations": {TAG: tag}}));
            Ok(())
        })
    }

    /// Changes the entries of `index.json`, keeping everything else in it, under a lock.
    fn edit(&self, change: impl FnOnce(&mut Vec<Value>) -> Result<()>) -> Result<()> {
        let name = self.path.join("index.json").display().to_string();
        let io = |e: std::io::Error| Refusal::io(&name, e);
        let _lock = lock(&self.root, &self.path)?;
        let mut index = strict_json::value(&self.index_raw(&Budget::STANDARD)?, &name)?;
        let entries = index
            .get_mut("manifests")
            .and_then(Value::as_array_mut)
            .ok_or_else(|| Refusal::new(Case::LayoutBroken, &name, "no manifests"))?;
        let before = entries.clone();
        change(entries)?;
        if *entries != before {
            new_files::write_atomic(&self.root, "index.json", 0o644, index.to_string().as_bytes()).map_err(io)?;
        }
        Ok(())
    }
}

/// The index of a fallback tag with `artifact` in it: the one that is there, `old`, and one entry more
/// (distribution-spec, "Referrers Tag Schema"). The same entries give the same bytes.
///
/// # Errors
/// [`Case::D14Json`].
pub(crate) fn referrers_index(old: Option<&[u8]>, artifact: &Value, name: &str) -> Result<Vec<u8>> {
    let index = old.map(|raw| strict_json::value(raw, name)).transpose()?.unwrap_or_default();
    let mut listed = index.get("manifests").and_then(Value::as_array).cloned().unwrap_or_default();
    if !listed.iter().any(|e| e.get("digest") == artifact.get("digest")) {
        listed.push(artifact.clone());
    }
    Ok(json!({"schemaVersion": 2, "mediaType": INDEX, "manifests": listed}).to_string().into_bytes())
}

pub(crate) const INDEX: &str = "application/vnd.oci.image.index.v1+json";

/// The tag under which registries without the referrers API list the referrers of `image`.
pub(crate) fn fallback_tag(image: &BlobDigest) -> String {
    format!("sha256-{}", image.hex())
}

fn is_fallback_tag(tag: &str) -> bool {
    tag.strip_prefix("sha256-").is_some_and(|hex| BlobDigest::from_hex(hex).is_ok())
}

/// What a look at a manifest tells, before anything about it is believed.
#[derive(Default)]
struct Peek {
    subject: Option<BlobDigest>,
    artifact_type: String,
}

impl Peek {
    fn is_artifact(&self) -> bool {
        self.subject.is_some() || !self.artifact_type.is_empty()
    }

    /// Seals, and what cannot be read as anything: the verifier is to name it.
    fn may_be_seal(&self) -> bool {
        self.artifact_type.is_empty() || self.artifact_type.contains("composefs")
    }
}

/// What a search has met: each digest once, so that an index that repeats itself costs no more.
#[derive(Default)]
struct Candidates {
    seen: HashSet<BlobDigest>,
    seals: Vec<BlobDigest>,
    others: Vec<BlobDigest>,
}

impl Candidates {
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

    /// Others are kept for the report, as far as there is room: they never push a seal out.
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

/// The directory's own `flock`: no lock file is left in a layout that others read. It ends with the value.
fn lock(root: &OwnedFd, path: &Path) -> Result<OwnedFd> {
    let name = || path.display().to_string();
    let lock = files::lock(root, FlockOperation::NonBlockingLockExclusive, PATIENCE);
    lock.map_err(|e| Refusal::io(name(), e))?
        .ok_or_else(|| Refusal::new(Case::VaultBusy, name(), "its index is being changed"))
}

fn is_remains(name: &OsString) -> bool {
    name.to_str().is_some_and(|name| name.starts_with(new_files::REMAINS))
}
