//! Reading everything that an image needs, and naming what is damaged.

use std::collections::{HashMap, HashSet};
use std::fs::File;
use std::io::{ErrorKind, Read as _};

use rustix::fs::{Advice, fadvise};
use rustix::io::Errno;

use super::Vault;
use super::named::Named;
use crate::digest::{BlobDigest, VerityDigest, VerityHasher, verity_digest};
use crate::image::{TreeDigests, external_files};
use crate::oci::{Budget, Document, blob_digest, document};
use crate::report::{Case, Refusal, Result};
use crate::sys::{files, verity};

/// Where in an image something is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Part {
    /// The layer of this number, the lowest is 0.
    Layer(usize),
    /// The container's tree.
    Rootfs,
    /// composefs' tree of all layers.
    Merged,
}

impl std::fmt::Display for Part {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Layer(number) => write!(f, "layer {number}"),
            Self::Rootfs => f.write_str("rootfs"),
            Self::Merged => f.write_str("merged"),
        }
    }
}

/// What is wrong with an object.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Fault {
    /// It is not there.
    Missing,
    /// Its content is right, and the kernel does not protect it.
    Unprotected,
    /// The filesystem has lost its fs-verity data, and was not asked for it: opening the file is an error of the
    /// filesystem. See docs/assurance.md.
    Lost,
    /// It is not what its name says, or cannot be read; in what way.
    Damaged(String),
}

impl Fault {
    /// The case that a refusal of it has.
    pub fn case(&self) -> Case {
        match self {
            Self::Unprotected => Case::G01Missing,
            Self::Missing | Self::Lost | Self::Damaged(_) => Case::I02Object,
        }
    }

    /// In a word, for people and scripts.
    pub fn name(&self) -> &'static str {
        match self {
            Self::Missing => "missing",
            Self::Unprotected => "without fs-verity",
            Self::Lost => "without its fs-verity data",
            Self::Damaged(_) => "damaged",
        }
    }
}

/// What was done about a fault.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Remedy {
    /// Nothing.
    None,
    /// The object is whole again.
    Repaired,
    /// What was there is gone, and so are the notes that it is good.
    Removed,
}

/// One file that is damaged, by one of its names.
#[derive(Clone, Debug)]
pub struct Damage {
    /// Where it is.
    pub part: Part,
    /// The file; `None` for the EROFS image itself.
    pub path: Option<String>,
    /// Its object.
    pub object: VerityDigest,
    /// What is wrong.
    pub fault: Fault,
    /// What was done about it.
    pub remedy: Remedy,
}

/// Which blob of an image.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Blob {
    /// Its manifest.
    Manifest,
    /// Its config.
    Config,
    /// The layer of this number, as it is transported.
    Layer(usize),
}

impl std::fmt::Display for Blob {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Manifest => f.write_str("manifest"),
            Self::Config => f.write_str("config"),
            Self::Layer(number) => write!(f, "layer {number}"),
        }
    }
}

/// A blob that is not what its name says, or not there.
#[derive(Clone, Debug)]
pub struct BlobDamage {
    /// Which.
    pub blob: Blob,
    /// Its digest.
    pub digest: BlobDigest,
    /// Whether it is missing; else its bytes are wrong.
    pub missing: bool,
    /// What was done about it.
    pub remedy: Remedy,
}

/// What was found in one image.
#[derive(Clone, Debug)]
pub struct Checked {
    /// Its manifest.
    pub image: BlobDigest,
    /// Objects that it needs, EROFS images among them.
    pub objects: usize,
    /// What of its seals and EROFS images cannot be read.
    pub documents: Vec<Refusal>,
    /// Manifest, config and layers.
    pub blobs: Vec<BlobDamage>,
    /// Files and EROFS images.
    pub damage: Vec<Damage>,
}

impl Checked {
    /// Whether everything is there and good, or was made so.
    pub fn is_whole(&self) -> bool {
        let blobs = self.blobs.iter().all(|b| b.remedy == Remedy::Repaired);
        self.documents.is_empty() && blobs && self.damage.iter().all(|d| d.remedy == Remedy::Repaired)
    }
}

/// Told how much there is to read, and how much was read, in bytes, each since the last call.
pub struct Progress<'a> {
    /// More to read was found.
    pub found: &'a (dyn Fn(u64) + Sync),
    /// So much was read.
    pub read: &'a (dyn Fn(u64) + Sync),
}

/// A check of several images, which reads what they share once.
pub struct Fsck<'a> {
    pub(super) vault: &'a Vault,
    pub(super) budget: &'a Budget,
    pub(super) progress: Progress<'a>,
    pub(super) seen: HashMap<VerityDigest, Option<Fault>>,
}

impl<'a> Fsck<'a> {
    /// Begins. The caller holds [`Vault::shared`].
    pub fn new(vault: &'a Vault, budget: &'a Budget, progress: Progress<'a>) -> Self {
        Self { vault, budget, progress, seen: HashMap::new() }
    }

    /// Reads every EROFS image and object of an image. What the kernel protects it also checks, block
    /// by block; what it does not is hashed here.
    ///
    /// # Errors
    /// [`Case::Io`] where nothing can be said at all.
    pub fn check(&mut self, image: &BlobDigest) -> Result<Checked> {
        let (documents, blobs, damage) = (Vec::new(), Vec::new(), Vec::new());
        let mut checked = Checked { image: *image, objects: 0, documents, blobs, damage };
        if self.vault.was_made(image)? {
            self.blobs(image, &mut checked)?;
            if checked.blobs.iter().any(|b| b.blob == Blob::Manifest) {
                // What it names cannot be told.
                return Ok(checked);
            }
        }
        let named = match self.vault.named(image, self.budget) {
            Ok(named) => named,
            Err(refusal) => {
                checked.documents.push(refusal);
                return Ok(checked);
            }
        };
        let mut met: HashSet<VerityDigest> = HashSet::new();
        for (part, erofs) in self.parts(&named)? {
            let listed = self.erofs(part, &erofs, &mut checked);
            let mut objects = vec![(None, erofs, None)];
            objects.extend(listed.into_iter().map(|f| (Some(f.path), f.object, Some(f.size))));
            for (path, object, size) in objects {
                // A name of a layer, once; the trees only add what no layer has.
                if met.insert(object) {
                    checked.objects += 1;
                } else if !matches!(part, Part::Layer(_)) {
                    continue;
                }
                let fault = self.object(&object, size)?;
                if let Some(fault) = fault {
                    let path = path.map(|p| String::from_utf8_lossy(&p).into_owned());
                    checked.damage.push(Damage { part, path, object, fault, remedy: Remedy::None });
                }
            }
        }
        Ok(checked)
    }

    /// Manifest, config and layers. The layers of podman's images are not in the vault.
    fn blobs(&self, image: &BlobDigest, checked: &mut Checked) -> Result<()> {
        let pulled = self.vault.was_pulled(image)?;
        let mut look = |blob: Blob, digest: BlobDigest| -> Result<bool> {
            let missing = self.vault.store().open_blob(&digest).is_err_and(|r| r.case() == Case::C04Missing);
            let good = (missing && matches!(blob, Blob::Layer(_)) && !pulled) || self.vault.store().holds(&digest)?;
            if !good {
                checked.blobs.push(BlobDamage { blob, digest, missing, remedy: Remedy::None });
            }
            Ok(good)
        };
        if !look(Blob::Manifest, *image)? {
            return Ok(());
        }
        let raw = self.vault.store().read(image, None, self.budget.manifest)?;
        let Document::Manifest(manifest) = document(&raw, &image.to_string())? else { return Ok(()) };
        look(Blob::Config, blob_digest(manifest.config())?)?;
        for (number, layer) in manifest.layers().iter().enumerate() {
            (self.progress.found)(layer.size());
            look(Blob::Layer(number), blob_digest(layer)?)?;
            (self.progress.read)(layer.size());
        }
        Ok(())
    }

    /// The EROFS images that the image has here, layers first: they tell more than the trees.
    fn parts(&self, named: &Named) -> Result<Vec<(Part, VerityDigest)>> {
        let mut parts: Vec<(Part, VerityDigest)> = Vec::new();
        for tree in &named.trees {
            let TreeDigests { rootfs, merged, layers } = &tree.digests;
            let layers = layers.iter().enumerate().map(|(number, digest)| (Part::Layer(number), *digest));
            let merged = merged.map(|digest| (Part::Merged, digest));
            for (part, digest) in layers.chain(Some((Part::Rootfs, *rootfs))).chain(merged) {
                if tree.made || self.is_expected(&digest)? {
                    parts.push((part, digest));
                }
            }
        }
        // Images of seals without a statement, as far as they are here.
        let others = named.erofs.iter().filter(|digest| parts.iter().all(|(_, known)| known != *digest));
        let others = others.map(|d| Ok((self.is_expected(d)?, (Part::Merged, *d)))).collect::<Result<Vec<_>>>()?;
        parts.extend(others.into_iter().filter_map(|(expected, part)| expected.then_some(part)));
        Ok(parts)
    }

    /// Whether an EROFS image that a seal names was used here.
    fn is_expected(&self, digest: &VerityDigest) -> Result<bool> {
        Ok(self.vault.was_prepared(digest, true)
            || self.vault.was_prepared(digest, false)
            || self.vault.has_object(digest)?)
    }

    /// The files of an EROFS image, none where it is damaged: the caller says so of its object.
    fn erofs(&mut self, part: Part, digest: &VerityDigest, checked: &mut Checked) -> Vec<crate::image::External> {
        let Ok(file) = self.vault.open_erofs(digest) else { return Vec::new() };
        let Ok(bytes) = files::read_all(file, self.budget.erofs) else { return Vec::new() };
        if verity_digest(digest.algorithm(), &bytes) != *digest {
            return Vec::new();
        }
        match external_files(&bytes, digest.algorithm()) {
            Ok(files) => {
                (self.progress.found)(files.iter().map(|f| f.size).sum());
                files
            }
            Err(refusal) => {
                checked.documents.push(refusal.within(part));
                Vec::new()
            }
        }
    }

    /// What is wrong with an object; each is read once.
    fn object(&mut self, digest: &VerityDigest, size: Option<u64>) -> Result<Option<Fault>> {
        let fault = match self.seen.get(digest) {
            Some(fault) => {
                (self.progress.read)(size.unwrap_or(0));
                fault.clone()
            }
            None => {
                let fault = self.read(digest)?;
                self.seen.insert(*digest, fault.clone());
                fault
            }
        };
        let Some(size) = size.filter(|_| fault.is_none()) else { return Ok(fault) };
        let length = self.vault.open_object(digest)?.metadata().map_err(|e| self.vault.io(e))?.len();
        // The digest covers the size: then it is the EROFS image that lies.
        Ok((length != size).then(|| Fault::Damaged(format!("{length} bytes instead of {size}"))))
    }

    pub(super) fn read(&self, digest: &VerityDigest) -> Result<Option<Fault>> {
        let name = self.vault.object_name(digest);
        let path = files::open_file_path_at(&self.vault.objects, digest.object_path());
        let file = match path.and_then(|path| Ok((verity::is_lost(&path)?, path))) {
            Err(e) if e.kind() == ErrorKind::NotFound => return Ok(Some(Fault::Missing)),
            Err(e) => return Ok(Some(Fault::Damaged(e.to_string()))),
            Ok((true, _)) => return Ok(Some(Fault::Lost)),
            Ok((false, path)) => match files::reopen_file(&path) {
                Err(e) => return Ok(Some(Fault::Damaged(e.to_string()))),
                Ok(file) => file,
            },
        };
        // From the disk and not from memory, where it may be good still.
        fadvise(&file, 0, None, Advice::DontNeed).map_err(|e| Refusal::io(&name, e))?;
        let hash = match verity::check(&file, digest, &name) {
            Ok(()) => None,
            Err(r) if matches!(r.case(), Case::G01Missing | Case::G06Unsupported) => Some(r.case()),
            Err(r) if r.case() == Case::G01Other => return Ok(Some(Fault::Damaged(r.detail().to_owned()))),
            Err(r) => return Ok(Some(Fault::Damaged(r.to_string()))),
        };
        let found = match self.content(file, digest, hash.is_some()) {
            Ok(found) => found,
            Err(e) if e.raw_os_error() == Some(Errno::IO.raw_os_error()) => {
                let why = if hash.is_none() { "fs-verity refuses to read it" } else { "it cannot be read" };
                return Ok(Some(Fault::Damaged(why.into())));
            }
            Err(e) => return Ok(Some(Fault::Damaged(e.to_string()))),
        };
        Ok(match (found, hash) {
            (Some(found), _) if found != *digest => Some(Fault::Damaged(format!("its content is that of {found}"))),
            (_, Some(Case::G01Missing)) => Some(Fault::Unprotected),
            _ => None,
        })
    }

    /// Reads all of a file, and hashes it where nobody else does.
    fn content(&self, mut file: File, digest: &VerityDigest, hash: bool) -> std::io::Result<Option<VerityDigest>> {
        let mut hasher = hash.then(|| VerityHasher::new(digest.algorithm()));
        let mut buffer = vec![0; 1 << 20];
        loop {
            let n = file.read(&mut buffer)?;
            if n == 0 {
                return Ok(hasher.map(VerityHasher::finish));
            }
            if let Some(hasher) = &mut hasher {
                hasher.update(&buffer[..n]);
            }
            (self.progress.read)(n as u64);
        }
    }
}
