use std::ffi::OsString;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::time::Duration;

use oci_spec::image::{Descriptor, ImageIndex};
use rustix::fs::FlockOperation;
use serde_json::{Value, json};

use super::document::{ManifestOrIndex, document};
use super::image::blob_digest;
use super::{BlobStore, Budget, Platform, strict_json};
use crate::digest::BlobDigest;
use crate::error::{Case, Refusal, Result};
use crate::sys::{files, new_files};

/// How long a change of a layout waits for another one; each takes a moment.
const PATIENCE: Duration = Duration::from_secs(10);

pub(super) const TAG: &str = "org.opencontainers.image.ref.name";

/// An OCI image layout on disk (image-spec, image-layout.md).
#[derive(Debug)]
pub struct Layout {
    root: OwnedFd,
    pub(super) path: PathBuf,
    pub(super) store: BlobStore,
}

impl Layout {
    /// Opens an existing layout.
    ///
    /// # Errors
    /// [`Case::NotFound`] if the directory is missing, [`Case::LayoutBroken`] if it is not a layout.
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

    /// Opens a layout, and makes an empty one if there is nothing, or only what somebody left who was killed while
    /// making it.
    ///
    /// # Errors
    /// [`Case::Io`], [`Case::LayoutBroken`], [`Case::VaultBusy`].
    pub fn open_or_create(path: &Path) -> Result<Self> {
        let io = |e: std::io::Error| Refusal::io(path.display().to_string(), e);
        std::fs::create_dir_all(path).map_err(io)?;
        let root = files::open_dir(path).map_err(io)?;
        // If two processes make it at once, the second one opens it.
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

    /// Returns the layout's blobs.
    pub fn store(&self) -> &BlobStore {
        &self.store
    }

    fn index_raw(&self, budget: &Budget) -> Result<Vec<u8>> {
        files::open_file_at(&self.root, "index.json")
            .and_then(|f| files::read_all(f, budget.manifest))
            .map_err(|e| Refusal::new(Case::LayoutBroken, self.path.display().to_string(), format!("index.json: {e}")))
    }

    pub(super) fn index(&self, budget: &Budget) -> Result<ImageIndex> {
        let name = self.path.join("index.json").display().to_string();
        match document(&self.index_raw(budget)?, &name)? {
            ManifestOrIndex::Index(index) => Ok(*index),
            ManifestOrIndex::Manifest(_) => Err(Refusal::new(Case::LayoutBroken, name, "it is no index")),
        }
    }

    /// Resolves `tag` to the manifest that it names; without a tag, returns the only image there is.
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
        // The size is part of the descriptor, but the caller only gets the digest.
        self.store.read(&digest, Some(found.size()), budget.manifest)?;
        Ok(digest)
    }

    /// Lists the tags of this layout with the digests they stand for, except fallback tags.
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

    /// Adds an image under a tag, which moves if it named something else.
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

    /// Puts another manifest in the place of image `old`: wherever `index.json` names it, or only where it does so
    /// under `tag`.
    ///
    /// # Errors
    /// [`Case::NotFound`] if `index.json` itself does not name it, as for an instance of a multi-platform image;
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

    /// Returns where it is.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Gives the tag `latest` to the only image of a layout, if it has none, and returns whether it did. A layout with
    /// one entry needs no tag. With a seal there are more, and tools such as skopeo ask which is meant.
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

    /// Makes `artifact` a referrer of `image`: adds an entry for it, and one in the index of the fallback tag
    /// (distribution-spec, "Referrers Tag Schema"), both merged with what is there.
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

    /// Changes the entries of `index.json` under a lock, and keeps everything else in it.
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

/// Builds the index of a fallback tag with `artifact` in it: the existing one, `old`, and one more entry
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

/// Returns the tag under which registries without the referrers API list the referrers of `image`.
pub(crate) fn fallback_tag(image: &BlobDigest) -> String {
    format!("sha256-{}", image.hex())
}

pub(super) fn is_fallback_tag(tag: &str) -> bool {
    tag.strip_prefix("sha256-").is_some_and(|hex| BlobDigest::from_hex(hex).is_ok())
}

/// Takes the directory's own `flock`: no lock file is left in a layout that others read. The lock ends with the value.
fn lock(root: &OwnedFd, path: &Path) -> Result<OwnedFd> {
    let name = || path.display().to_string();
    let lock = files::lock(root, FlockOperation::NonBlockingLockExclusive, PATIENCE);
    lock.map_err(|e| Refusal::io(name(), e))?
        .ok_or_else(|| Refusal::new(Case::VaultBusy, name(), "its index is being changed"))
}

fn is_remains(name: &OsString) -> bool {
    name.to_str().is_some_and(|name| name.starts_with(new_files::REMAINS))
}
