use std::fs::File;
use std::io::{ErrorKind, Read as _, Write as _};

use super::Vault;
use crate::digest::{Algorithm, BlobDigest, VerityDigest, VerityHasher};
use crate::error::{Case, Class, Refusal, Result};
use crate::image::{ContainerImages, ErofsImages, TreeDigests};
use crate::oci::{Budget, Image, Platform, Reference, Repository};
use crate::sys::draft::NewDraft;
use crate::sys::scratch::{Scratch, ScratchWriter};
use crate::sys::{files, new_files, verity};

/// A name in the vault and what it stands for.
#[derive(Clone, Debug)]
pub struct Tag {
    /// The name.
    pub name: String,
    /// Digest of the manifest.
    pub digest: BlobDigest,
}

impl Vault {
    /// Reads the image that a tag or digest names.
    ///
    /// # Errors
    /// [`Case::NotFound`]; those of [`Image::read`].
    pub fn image(&self, reference: &Reference, budget: &Budget) -> Result<Image> {
        let digest = match reference {
            Reference::Tag(name) => self.tag(name)?.ok_or_else(|| Refusal::new(Case::NotFound, name, ""))?,
            Reference::Digest(digest) => *digest,
            Reference::Layout { .. } | Reference::Registry { .. } => {
                return Err(Refusal::new(Case::Bug, reference.to_string(), "it is not in the vault"));
            }
        };
        match files::open_dir_at(&self.root, format!("images/{}", digest.hex())) {
            Ok(_) => {}
            Err(e) if e.kind() == ErrorKind::NotFound => {
                return Err(Refusal::new(Case::NotFound, reference.to_string(), ""));
            }
            Err(e) => return Err(Refusal::io(self.path.join("images").join(digest.hex()).display().to_string(), e)),
        }
        Image::read(&self.store, &digest, &Platform::host(), budget)
    }

    /// Remembers that an image was pulled, so that its layers are here, and the repository that it came from, if it was
    /// one: where to look for what gets lost. It is a hint: coming from there makes nothing credible.
    ///
    /// # Errors
    /// [`Case::Io`].
    pub fn set_source(&self, image: &BlobDigest, repository: Option<&Repository>) -> Result<()> {
        let dir = files::make_dir_at(&self.root, &format!("images/{}", image.hex())).map_err(|e| self.io(e))?;
        let text = repository.map_or_else(|| NOWHERE.to_owned(), ToString::to_string);
        new_files::write_atomic(dir, "source", 0o644, format!("{text}\n").as_bytes()).map_err(|e| self.io(e))
    }

    /// Reads the text of the image's source; `None` where it was not pulled.
    fn source_text(&self, image: &BlobDigest) -> Result<Option<String>> {
        let name = format!("images/{}/source", image.hex());
        match files::open_file_at(&self.root, &name).and_then(|file| files::read_all(file, 1024)) {
            Ok(bytes) => Ok(Some(String::from_utf8_lossy(&bytes).trim_end().to_owned())),
            Err(e) if e.kind() == ErrorKind::NotFound => Ok(None),
            Err(e) => Err(Refusal::io(self.path.join(name).display().to_string(), e)),
        }
    }

    /// Reads the repository that the image came from.
    ///
    /// # Errors
    /// [`Case::Io`].
    pub fn source(&self, image: &BlobDigest) -> Result<Option<Repository>> {
        let text = self.source_text(image)?.filter(|text| text != NOWHERE);
        Ok(text.and_then(|text| Some(Repository::parse(&text).ok()?.repository)))
    }

    /// Returns whether the image was pulled, so that its layers are here.
    ///
    /// # Errors
    /// [`Case::Io`].
    pub fn was_pulled(&self, image: &BlobDigest) -> Result<bool> {
        Ok(self.source_text(image)?.is_some())
    }

    /// Returns whether this host made EROFS images of it: then its documents are here.
    pub(super) fn was_made(&self, image: &BlobDigest) -> Result<bool> {
        let notes = self.entries(&format!("images/{}", image.hex()))?;
        Ok(notes.iter().any(|name| name.starts_with("digests.")))
    }

    /// Makes the image known. Its blobs and objects are there already: this comes last.
    ///
    /// # Errors
    /// [`Case::Io`].
    pub fn add_image(&self, image: &Image) -> Result<()> {
        let path = format!("images/{}/seals", image.digest.hex());
        files::make_dir_at(&self.root, &path).map(drop).map_err(|e| self.io(e))
    }

    /// Lists all images, tagged or not.
    ///
    /// # Errors
    /// [`Case::Io`].
    pub fn images(&self) -> Result<Vec<BlobDigest>> {
        Ok(self.entries("images")?.iter().filter_map(|name| BlobDigest::from_hex(name).ok()).collect())
    }

    /// Keeps the digests of the EROFS images that this host made of the layers, and the images.
    ///
    /// # Errors
    /// [`Case::Io`], G02.
    pub fn keep_images(&self, image: &BlobDigest, images: &ErofsImages) -> Result<()> {
        self.keep_digests(&format!("images/{}", image.hex()), images)
    }

    pub(super) fn keep_digests(&self, place: &str, images: &ErofsImages) -> Result<()> {
        // What cannot be shown is not noted as what this host shows.
        let Ok(made) = &images.container else { return Ok(()) };
        for (digest, bytes) in images.all() {
            if !self.holds(digest, bytes.len() as u64) {
                self.put_pieces(digest, bytes.pieces(), None)?;
                bytes.forget();
            }
        }
        let mut text = format!("rootfs {}\n", made.rootfs_digest);
        images.merged_digest().iter().for_each(|digest| text.push_str(&format!("merged {digest}\n")));
        made.layer_digests.iter().for_each(|digest| text.push_str(&format!("layer {digest}\n")));
        let dir = files::make_dir_at(&self.root, place).map_err(|e| self.io(e))?;
        new_files::write_atomic(dir, &format!("digests.{}", images.algorithm), 0o644, text.as_bytes())
            .map_err(|e| self.io(e))
    }

    /// Returns the digests that were kept of the image.
    pub fn contents(&self, image: &BlobDigest, algorithm: Algorithm) -> Option<TreeDigests> {
        self.kept_contents(image, algorithm).ok().flatten()
    }

    /// Returns the EROFS images that were kept, all of them: `None` where one is missing or has another digest.
    pub fn kept_images(&self, image: &BlobDigest, algorithm: Algorithm, budget: &Budget) -> Option<ErofsImages> {
        let digests = self.contents(image, algorithm)?;
        let read = |digest: &VerityDigest| {
            let (found, bytes) = read_and_hash(self.open_erofs(digest).ok()?, budget.erofs, algorithm).ok()?;
            (found == *digest).then_some(bytes)
        };
        Some(ErofsImages {
            algorithm,
            container: Ok(ContainerImages {
                layers: digests.layers.iter().map(read).collect::<Option<_>>()?,
                layer_digests: digests.layers,
                rootfs: read(&digests.rootfs)?,
                rootfs_digest: digests.rootfs,
            }),
            merged: match digests.merged {
                Some(digest) => Ok((read(&digest)?, digest)),
                None => Err(Refusal::new(Case::H15NoMerged, image.to_string(), "")),
            },
        })
    }

    /// Reads the digests that were kept: `None` where there is no such note, an error where it cannot be read.
    pub(super) fn kept_contents(&self, image: &BlobDigest, algorithm: Algorithm) -> Result<Option<TreeDigests>> {
        self.digests(&format!("images/{}", image.hex()), algorithm)
    }

    pub(super) fn digests(&self, place: &str, algorithm: Algorithm) -> Result<Option<TreeDigests>> {
        let name = format!("{place}/digests.{algorithm}");
        let bad = |e: std::io::Error| Refusal::io(self.path.join(&name).display().to_string(), e);
        let bytes = match files::open_file_at(&self.root, &name) {
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Ok(None),
            file => file.and_then(|f| files::read_all(f, 1 << 20)).map_err(bad)?,
        };
        let digest = |line: &str, key: &str| VerityDigest::from_hex(algorithm, line.strip_prefix(key)?);
        let read = || {
            let mut lines = std::str::from_utf8(&bytes).ok()?.lines().peekable();
            let rootfs = digest(lines.next()?, "rootfs ")?;
            let merged = lines.peek().and_then(|line| digest(line, "merged "));
            let layers = lines.skip(usize::from(merged.is_some()));
            let layers = layers.map(|line| digest(line, "layer ")).collect::<Option<Vec<_>>>()?;
            Some(TreeDigests { rootfs, merged, layers })
        };
        // From a version that made composefs' tree only: none of it is needed.
        let old = || std::str::from_utf8(&bytes).ok()?.lines().next().and_then(|line| digest(line, "merged "));
        if old().is_some() {
            return Ok(None);
        }
        read().map(Some).ok_or_else(|| bad(std::io::Error::other("it is damaged")))
    }

    /// Returns whether every object of this EROFS image was seen here, with fs-verity enabled where it is `enforced`.
    /// The kernel checks each again when it is opened: this only tells early and by name.
    ///
    /// The note has fs-verity itself, and is worthless without: copying or restoring a graph root brings files and no
    /// fs-verity, neither the note's nor the objects'.
    pub fn was_prepared(&self, erofs: &VerityDigest, enforced: bool) -> bool {
        let name = prepared_name(erofs, enforced);
        let note = files::open_dir_at(&self.root, "prepared").and_then(|dir| files::open_file_at(dir, &name));
        let Ok(note) = note else { return false };
        if enforced && let Err(refusal) = verity::measure(&note, erofs.algorithm(), &name) {
            log::info!(
                "prepared/{name}: {refusal}: what it says of the objects is another disk's, and is found out again"
            );
            return false;
        }
        true
    }

    /// Remembers that every object of this EROFS image was seen here.
    ///
    /// # Errors
    /// [`Case::Io`].
    pub fn mark_prepared(&self, erofs: &VerityDigest, enforced: bool) -> Result<()> {
        let dir = files::make_dir_at(&self.root, "prepared").map_err(|e| self.io(e))?;
        let name = prepared_name(erofs, enforced);
        if !enforced {
            return new_files::write_atomic(dir, &name, 0o644, b"").map_err(|e| self.io(e));
        }
        let mut draft = NewDraft::create(&dir, 0o644).map_err(|e| self.io(e))?;
        draft.write_all(format!("{erofs}\n").as_bytes()).map_err(|e| self.io(e))?;
        let draft = draft.finish().map_err(|e| self.io(e))?;
        match verity::enable(&draft, erofs.algorithm(), None, &name) {
            Ok(_) => draft.rename(&dir, &name).map_err(|e| self.io(e)),
            // The objects have fs-verity already, and are looked at each time: slower, and no less safe.
            Err(refusal) if refusal.case().class() == Class::CannotEnforce => {
                log::debug!("prepared/{name}: {refusal}");
                Ok(())
            }
            Err(refusal) => Err(refusal),
        }
    }

    /// Checks that a name can be given in a vault, before anything is written for it.
    ///
    /// # Errors
    /// [`Case::Reference`].
    pub fn check_name(name: &str) -> Result<()> {
        tag_file(name).map(drop)
    }

    /// Gives an image a name, taking it from whatever had it.
    ///
    /// # Errors
    /// [`Case::Io`], [`Case::Reference`].
    pub fn set_tag(&self, name: &str, digest: &BlobDigest) -> Result<()> {
        let file = tag_file(name)?;
        let dir = files::make_dir_at(&self.root, "tags").map_err(|e| self.io(e))?;
        new_files::write_atomic(dir, &file, 0o644, format!("{digest}\n").as_bytes()).map_err(|e| self.io(e))
    }

    /// Returns the digest that a name stands for.
    ///
    /// # Errors
    /// [`Case::Reference`], [`Case::B07Digest`].
    pub fn tag(&self, name: &str) -> Result<Option<BlobDigest>> {
        let file = tag_file(name)?;
        let read = files::open_dir_at(&self.root, "tags")
            .and_then(|dir| files::open_file_at(dir, &file))
            .and_then(|f| files::read_all(f, 200));
        match read {
            Ok(bytes) => String::from_utf8_lossy(&bytes)
                .trim_end()
                .parse()
                .map(Some)
                .map_err(|r: Refusal| r.within(format!("tag {name}"))),
            Err(e) if e.kind() == ErrorKind::NotFound => Ok(None),
            Err(e) => Err(Refusal::io(self.path.join("tags").join(&file).display().to_string(), e)),
        }
    }

    /// Takes a name away; the image stays until it is collected.
    ///
    /// # Errors
    /// [`Case::NotFound`].
    pub fn remove_tag(&self, name: &str) -> Result<()> {
        let file = tag_file(name)?;
        let removed = files::open_dir_at(&self.root, "tags")
            .and_then(|dir| Ok(rustix::fs::unlinkat(dir, &file, rustix::fs::AtFlags::empty())?));
        removed.map_err(|e| match e.kind() {
            ErrorKind::NotFound => Refusal::new(Case::NotFound, name, ""),
            _ => Refusal::io(self.path.join("tags").join(&file).display().to_string(), e),
        })
    }

    /// Lists what all names stand for; a name that cannot be read is an error.
    pub(super) fn tag_targets(&self) -> Result<Vec<BlobDigest>> {
        let mut targets = Vec::new();
        for file in self.entries("tags")?.iter().filter(|f| !f.starts_with('.')) {
            let name = format!("tags/{file}");
            let text = files::open_file_at(&self.root, &name).and_then(|f| files::read_all(f, 200));
            let text = text.map_err(|e| Refusal::io(self.path.join(&name).display().to_string(), e))?;
            targets.push(String::from_utf8_lossy(&text).trim_end().parse().map_err(|r: Refusal| r.within(&name))?);
        }
        Ok(targets)
    }

    /// Lists all names, sorted.
    ///
    /// # Errors
    /// [`Case::B07Digest`] for a damaged one.
    pub fn tags(&self) -> Result<Vec<Tag>> {
        let mut tags = Vec::new();
        for file in self.entries("tags")?.iter().filter(|f| !f.starts_with('.')) {
            let name = file.replace('%', "/");
            match self.tag(&name) {
                Ok(Some(digest)) => tags.push(Tag { name, digest }),
                Ok(None) => {}
                // One damaged name is no reason to hide the others.
                Err(r) => log::warn!("tag {name}: {r}"),
            }
        }
        Ok(tags)
    }
}

/// What stands in place of the repository for an image from a layout.
const NOWHERE: &str = "-";

/// Returns the name of the mark that an EROFS image was prepared.
fn prepared_name(erofs: &VerityDigest, enforced: bool) -> String {
    format!("{}{}", erofs.to_hex(), if enforced { "" } else { UNPROTECTED })
}

/// The end of a mark's name where fs-verity was not asked for.
pub(super) const UNPROTECTED: &str = ".unprotected";

/// Returns a tag's file name: the tag's characters are checked, and `%` is not among them.
fn tag_file(name: &str) -> Result<String> {
    match name.parse::<Reference>()? {
        Reference::Tag(name) if !name.starts_with('.') => Ok(name.replace('/', "%")),
        _ => Err(Refusal::new(Case::Reference, name, "not a name for the vault")),
    }
}

/// Reads a file, at most `max` bytes, and returns what they hash to as well.
fn read_and_hash(mut file: File, max: u64, algorithm: Algorithm) -> std::io::Result<(VerityDigest, Scratch)> {
    let size = file.metadata()?.len();
    if size > max {
        return Err(ErrorKind::FileTooLarge.into());
    }
    let mut hasher = VerityHasher::new(algorithm);
    let mut bytes = ScratchWriter::new(usize::try_from(size).map_err(|_| ErrorKind::FileTooLarge)?);
    let mut piece = vec![0; 1 << 20];
    loop {
        match file.read(&mut piece)? {
            0 => return Ok((hasher.finish(), bytes.finish()?)),
            n if (bytes.size() + n) as u64 > max => return Err(ErrorKind::FileTooLarge.into()),
            n => {
                hasher.update(&piece[..n]);
                bytes.extend_from_slice(&piece[..n]);
            }
        }
    }
}
