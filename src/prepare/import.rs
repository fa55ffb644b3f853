//! Layers of a container store, as the store unpacked them: their files get one more name, as objects, and the kernel
//! computes their digests. Whoever asked compares the result with the seal; until then it is content that nobody
//! vouched for, under its own digest.

use std::fs::File;
use std::io::Read;
use std::os::fd::OwnedFd;

use composefs::INLINE_CONTENT_MAX_V0;

use crate::container_store::{ClaimedLayer, LayerBlob, Tie};
use crate::digest::{Algorithm, VerityDigest};
use crate::error::{Case, Refusal, Result};
use crate::image::{Contents, ContentsRequest, FileContent, Keep, ReadProgress, Skeleton, TarEntry, diff_id};
use crate::oci::Budget;
use crate::policy::Verity;
use crate::sys::{files, filesystems, verity, workers};
use crate::vault::Vault;

/// How many files are worked on side by side: two for each processor if fs-verity is enabled, since that waits for the
/// disk. More threads than this make an ext4 journal no faster.
const MAX_THREADS: usize = 8;

/// How layers are to be read.
#[derive(Clone, Copy, Debug)]
pub struct ImportRules<'a> {
    /// The algorithm of the digests.
    pub algorithm: Algorithm,
    /// Whether every file must get fs-verity.
    pub mode: Verity,
    /// Whether the tars are reassembled and hashed. Needed if only the config's diff_ids say which layers an image has.
    pub diff_ids: bool,
    /// What is needed afterwards.
    pub keep: Keep,
    /// The limits on what may be spent.
    pub budget: &'a Budget,
}

/// Reads the layers of an image, lowest first, into the vault.
///
/// # Errors
/// H03–H12 for content that cannot be sealed, [`Case::B09Replaced`] and [`Case::B11Gone`] for files
/// that are not what the store wrote, [`Case::C04Bytes`] for another diff_id, G02 and G06.
pub fn import(
    vault: &Vault,
    layers: &[ClaimedLayer],
    rules: &ImportRules<'_>,
    progress: ReadProgress<'_>,
) -> Result<Contents> {
    let contents = Contents::from_layers(
        ContentsRequest { algorithm: rules.algorithm, keep: rules.keep },
        layers.len(),
        |take| {
            for (number, layer) in layers.iter().enumerate() {
                let read = LayerImport::open(Some(vault), layer, rules).and_then(|l| l.read(progress));
                take(number, read.map_err(|r| r.within(format!("layer {number}")))?);
            }
            Ok(())
        },
    )?;
    // Names of objects are on the disk before anything says that they are complete.
    vault.sync()?;
    Ok(contents)
}

/// Reads them as [`import`] does, and keeps nothing: files stay as they are, and those without fs-verity are hashed
/// here.
///
/// # Errors
/// As for [`import`], except for what only writing can find out.
pub fn read(layers: &[ClaimedLayer], rules: &ImportRules<'_>, progress: ReadProgress<'_>) -> Result<Contents> {
    Contents::from_layers(ContentsRequest { algorithm: rules.algorithm, keep: rules.keep }, layers.len(), |take| {
        for (number, layer) in layers.iter().enumerate() {
            let read = LayerImport::open(None, layer, rules).and_then(|l| l.read(progress));
            take(number, read.map_err(|r| r.within(format!("layer {number}")))?);
        }
        Ok(())
    })
}

/// Checks that the content of a layer is what its diff_id says: its tar is reassembled and hashed, and nothing is kept.
///
/// # Errors
/// [`Case::C04Bytes`] if it is not, and errors of reading it, as for [`import`].
pub fn check_content(vault: Option<&Vault>, layer: &ClaimedLayer, budget: &Budget) -> Result<()> {
    let (algorithm, mode) = (Algorithm::Sha256, Verity::Off);
    let rules = ImportRules { algorithm, mode, diff_ids: true, keep: Keep::Images, budget };
    let import = LayerImport::open(vault, layer, &rules)?;
    import.check_diff_id(&import.skeleton()?)
}

/// How many times its blob's size a layer usually has, at most: beyond that, holes are looked for.
const USUAL_EXPANSION: u64 = 32;

struct LayerImport<'a> {
    /// Where what is read is kept; `None` to keep nothing.
    vault: Option<&'a Vault>,
    layer: &'a ClaimedLayer,
    rules: &'a ImportRules<'a>,
    dir: OwnedFd,
}

impl<'a> LayerImport<'a> {
    fn open(vault: Option<&'a Vault>, layer: &'a ClaimedLayer, rules: &'a ImportRules<'a>) -> Result<Self> {
        Ok(Self { vault, layer, rules, dir: content_dir(vault, layer)? })
    }

    fn read(&self, progress: ReadProgress<'_>) -> Result<Vec<TarEntry>> {
        let skeleton = self.skeleton()?;
        let contents = self.files(&skeleton, progress)?;
        if self.rules.diff_ids {
            self.check_diff_id(&skeleton)?;
        }
        skeleton.fill(contents)
    }

    /// Reads the table of the layer's tar, and checks that a blob like the layer's can have become so much. Whoever
    /// writes the store writes the table too, and a file with a hole of any size costs nothing; it is not read.
    fn skeleton(&self) -> Result<Skeleton> {
        let skeleton = Skeleton::read(self.layer.tar_split()?, self.rules.budget)?;
        let Some(LayerBlob { size, compressed }) = self.layer.blob else { return Ok(skeleton) };
        let budget = self.rules.budget;
        let total = skeleton.files().fold(0_u64, |total, (_, size)| total.saturating_add(size));
        let at_most = |factor: u64| budget.expansion_floor.max(size.saturating_mul(factor));
        let refuse = |why: String| {
            let why = format!("its files have {total} bytes, and its blob {size}{why}");
            Err(Refusal::new(Case::B09Replaced, self.layer.path.display().to_string(), why))
        };
        match compressed {
            false if total > at_most(1) => refuse(", which is no compressed one".to_owned()),
            true if total > at_most(budget.expansion) => refuse(String::new()),
            true if total > at_most(USUAL_EXPANSION) && self.is_without_holes()? => {
                let kept = self.allocated(&skeleton, total)?;
                if kept < total / 2 { refuse(format!("; {kept} bytes of them are on the disk")) } else { Ok(skeleton) }
            }
            _ => Ok(skeleton),
        }
    }

    /// Returns whether podman has written the layer's files without holes, and the filesystem has made none: others than
    /// these may keep zeros as holes (ZFS). Of layers that podman pulls in parts it leaves out what is zeros itself
    /// (storage/pkg/chunked, `appendHole`).
    fn is_without_holes(&self) -> Result<bool> {
        let io = |e| Refusal::io(self.layer.path.display().to_string(), e);
        Ok(self.layer.tie != Tie::Toc && filesystems::is_own(&self.dir).map_err(io)?)
    }

    /// Counts the bytes that the layer's files take on the disk, or some of them if that is `enough`.
    fn allocated(&self, skeleton: &Skeleton, enough: u64) -> Result<u64> {
        use std::os::unix::fs::MetadataExt as _;
        let mut kept = 0;
        let sizes = skeleton.files().map(|(_, size)| size);
        for (path, size) in skeleton.places().into_iter().zip(sizes) {
            // One that a later entry removed is not read.
            kept += match path {
                Some(path) => {
                    let file = self.open_file(&path, size)?;
                    file.metadata().map_err(|e| Refusal::io(self.name(&path), e))?.blocks() * 512
                }
                None => size,
            };
            if kept >= enough {
                break;
            }
        }
        Ok(kept)
    }

    /// Reads the content of every file, several at a time.
    fn files(&self, skeleton: &Skeleton, progress: ReadProgress<'_>) -> Result<Vec<FileContent>> {
        let sizes = skeleton.files().map(|(_, size)| size);
        let files: Vec<(Option<Box<[u8]>>, u64)> = skeleton.places().into_iter().zip(sizes).collect();
        if let Some(vault) = self.vault.filter(|_| self.rules.mode == Verity::Require) {
            self.check_room(vault, &files)?;
        }
        let each = if self.rules.mode == Verity::Require { 2 } else { 1 };
        let threads = (each * workers::processors()).min(MAX_THREADS);
        let read = |(): &mut (), number: usize| {
            let (path, size): &(Option<Box<[u8]>>, u64) = &files[number];
            let content = match path {
                Some(path) => self.file(path, *size),
                // A later entry of the layer removed it.
                None => Ok(FileContent::Inline(Box::default())),
            };
            progress(*size);
            content
        };
        workers::each(threads, files.len(), || (), read)
    }

    /// Checks that there is room for what the kernel keeps with each file that gets fs-verity. Files that already have
    /// it need none: they are told apart only if it matters.
    fn check_room(&self, vault: &Vault, files: &[(Option<Box<[u8]>>, u64)]) -> Result<()> {
        let large = |(path, size): &(Option<Box<[u8]>>, u64)| path.is_some() && *size > INLINE_CONTENT_MAX_V0 as u64;
        let tree = |size: &u64| self.rules.algorithm.tree_size(*size);
        let all = files.iter().filter(|file| large(file)).map(|(_, size)| tree(size)).sum();
        if vault.check_room(all, 0).is_ok() {
            return Ok(());
        }
        let mut needed = 0;
        for (path, size) in files.iter().filter(|file| large(file)) {
            let file = self.open_file(path.as_deref().unwrap_or_default(), *size)?;
            if verity::measure(&file, self.rules.algorithm, "").is_err_and(|r| r.case() == Case::G01Missing) {
                needed += tree(size);
            }
        }
        vault.check_room(needed, 0)
    }

    fn file(&self, path: &[u8], size: u64) -> Result<FileContent> {
        let file = self.open_file(path, size)?;
        if size <= INLINE_CONTENT_MAX_V0 as u64 {
            let bytes = files::read_all(file, size).map_err(|e| verity::read_refusal(e, &self.name(path)))?;
            return Ok(FileContent::Inline(bytes.into()));
        }
        // A name that is only needed for messages costs as much as a system call.
        let named = |r: Refusal| r.within(self.name(path));
        self.object(&file, size).map(FileContent::Object).map_err(named)
    }

    /// Makes the file an object, under the digest that the kernel enforces from now on, or, if the kernel need not,
    /// under the digest of its content.
    fn object(&self, file: &File, size: u64) -> Result<VerityDigest> {
        let (algorithm, name) = (self.rules.algorithm, "");
        let hash = || {
            let copy = file.try_clone().map_err(|e| Refusal::io(name, e))?;
            crate::vault::hash(copy, algorithm).map_err(|e| Refusal::io(name, e))
        };
        let measured = verity::measure(file, algorithm, name);
        let Some(vault) = self.vault else {
            return match measured {
                Err(r) if matches!(r.case(), Case::G01Missing | Case::G01Other) => hash(),
                Err(r) if r.case() == Case::G06Unsupported && self.rules.mode == Verity::Off => hash(),
                other => other,
            };
        };
        let digest = match measured {
            Ok(digest) => digest,
            Err(r) if r.case() == Case::G01Missing && vault.is_beside(file) => {
                return vault.protect_and_adopt(file, algorithm, self.rules.mode);
            }
            // Another seal or another tool chose first, and for a file that is final.
            Err(r) if r.case() == Case::G01Other => return vault.copy_as(file, algorithm, self.rules.mode),
            // Layers can be on a filesystem without fs-verity while the vault is on one with it: what is already there
            // is not copied again.
            Err(r)
                if matches!(r.case(), Case::G01Missing | Case::G06Unsupported)
                    && (self.rules.mode == Verity::Off || !vault.is_beside(file)) =>
            {
                hash()?
            }
            Err(r) => return Err(r),
        };
        vault.adopt(file, &digest, size, self.rules.mode)?;
        Ok(digest)
    }

    fn open_file(&self, path: &[u8], size: u64) -> Result<File> {
        use std::os::unix::ffi::OsStrExt as _;
        let file = files::open_file_at(&self.dir, std::ffi::OsStr::from_bytes(path))
            .map_err(|e| Refusal::new(Case::B09Replaced, self.name(path), e))?;
        let found = file.metadata().map_err(|e| Refusal::io(self.name(path), e))?.len();
        if found != size {
            let why = format!("{found} bytes, the layer's tar has {size}");
            return Err(Refusal::new(Case::B09Replaced, self.name(path), why));
        }
        Ok(file)
    }

    fn check_diff_id(&self, skeleton: &Skeleton) -> Result<()> {
        let mut places = skeleton.places().into_iter();
        let mut open = |size: u64| -> Result<Box<dyn Read>> {
            let refuse = |why| Refusal::new(Case::H11Layer, "tar-split", why);
            let place = places.next().ok_or_else(|| refuse("it has changed"))?;
            let path = place.ok_or_else(|| refuse("a file of the tar is in the layer's directory no more"))?;
            Ok(Box::new(self.open_file(&path, size)?))
        };
        let found = diff_id(self.layer.tar_split()?, self.rules.budget, &mut open)?;
        match self.layer.diff_id {
            Some(wanted) if wanted == found => Ok(()),
            Some(wanted) => {
                let why = format!("its tar (diff_id) is {found}, the image's {wanted}");
                Err(Refusal::new(Case::C04Bytes, self.layer.path.display().to_string(), why))
            }
            None => Err(Refusal::new(Case::B03Layers, self.layer.path.display().to_string(), "it has no diff_id")),
        }
    }

    fn name(&self, path: &[u8]) -> String {
        self.layer.path.join(String::from_utf8_lossy(path).as_ref()).display().to_string()
    }
}

/// Opens the layer's directory, in the same mount as the vault if they belong to one store, so that files can be
/// linked; otherwise they are copied.
fn content_dir(vault: Option<&Vault>, layer: &ClaimedLayer) -> Result<OwnedFd> {
    let io = |e| Refusal::io(layer.path.display().to_string(), e);
    let wanted = identity(&layer.diff).map_err(io)?;
    let name = format!("overlay/{}/diff", layer.id);
    match vault.and_then(Vault::tree).map(|tree| files::open_dir_at(tree, name)) {
        Some(Ok(dir)) if identity(&dir).map_err(io)? == wanted => Ok(dir),
        _ => layer.diff.try_clone().map_err(io),
    }
}

/// Returns device and inode.
fn identity(dir: &OwnedFd) -> std::io::Result<(u64, u64)> {
    let stat = rustix::fs::fstat(dir)?;
    Ok((stat.st_dev, stat.st_ino))
}
