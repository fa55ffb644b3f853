//! Layers of a container store, as the store unpacked them: their files become objects by one more
//! name, and the kernel computes their digests. What came out is compared with the seal by whoever
//! asked; until then it is content that nobody vouched for, under its own digest.

use std::fs::File;
use std::io::Read;
use std::os::fd::OwnedFd;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};

use composefs::INLINE_CONTENT_MAX_V0;

use crate::digest::{Algorithm, VerityDigest};
use crate::identify::ClaimedLayer;
use crate::image::{Contents, Entry, FileContent, Keep, Progress, Skeleton, diff_id};
use crate::oci::Budget;
use crate::policy::Verity;
use crate::report::{Case, Refusal, Result};
use crate::sys::{files, verity};
use crate::vault::Vault;

/// Files are worked on side by side, two for each processor where fs-verity is enabled: that waits for the
/// disk. More threads than this make an ext4 journal no faster.
const MAX_THREADS: usize = 8;

/// How layers are to be read.
#[derive(Clone, Copy, Debug)]
pub struct ImportRules<'a> {
    /// Of the digests.
    pub algorithm: Algorithm,
    /// Whether every file must get fs-verity.
    pub mode: Verity,
    /// Whether the tars are put together and hashed. Needed where nothing but the config's diff_ids
    /// says which layers an image has.
    pub diff_ids: bool,
    /// What is needed of them afterwards.
    pub keep: Keep,
    /// What may be spent.
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
    progress: Progress<'_>,
) -> Result<Contents> {
    let contents = Contents::from_layers((rules.algorithm, rules.keep), layers.len(), |take| {
        for (number, layer) in layers.iter().enumerate() {
            let read = Layer::open(vault, layer, rules).and_then(|l| l.read(progress));
            take(number, read.map_err(|r| r.within(format!("layer {number}")))?);
        }
        Ok(())
    })?;
    // Names of objects are on the disk before anything says that they are complete.
    vault.sync()?;
    Ok(contents)
}

/// Whether the content of a layer is what its diff_id says: its tar is put together and hashed, and nothing is kept.
///
/// # Errors
/// [`Case::C04Bytes`] where it is not, and those of reading it, as for [`import`].
pub fn check_content(vault: &Vault, layer: &ClaimedLayer, budget: &Budget) -> Result<()> {
    let (algorithm, mode) = (Algorithm::Sha256, Verity::Off);
    let rules = ImportRules { algorithm, mode, diff_ids: true, keep: Keep::Images, budget };
    let skeleton = Skeleton::read(layer.tar_split()?, budget)?;
    Layer::open(vault, layer, &rules)?.check_diff_id(&skeleton)
}

struct Layer<'a> {
    vault: &'a Vault,
    layer: &'a ClaimedLayer,
    rules: &'a ImportRules<'a>,
    dir: OwnedFd,
}

impl<'a> Layer<'a> {
    fn open(vault: &'a Vault, layer: &'a ClaimedLayer, rules: &'a ImportRules<'a>) -> Result<Self> {
        Ok(Self { vault, layer, rules, dir: content_dir(vault, layer)? })
    }

    fn read(&self, progress: Progress<'_>) -> Result<Vec<Entry>> {
        let skeleton = Skeleton::read(self.layer.tar_split()?, self.rules.budget)?;
        let contents = self.files(&skeleton, progress)?;
        if self.rules.diff_ids {
            self.check_diff_id(&skeleton)?;
        }
        skeleton.fill(contents)
    }

    /// The content of every file, worked on side by side.
    fn files(&self, skeleton: &Skeleton, progress: Progress<'_>) -> Result<Vec<FileContent>> {
        let sizes = skeleton.files().map(|(_, size)| size);
        let files: Vec<(Option<Box<[u8]>>, u64)> = skeleton.places().into_iter().zip(sizes).collect();
        if self.rules.mode == Verity::Require {
            self.check_room(&files)?;
        }
        let each = if self.rules.mode == Verity::Require { 2 } else { 1 };
        let threads = (each * std::thread::available_parallelism().map_or(1, usize::from)).min(MAX_THREADS);
        let next = AtomicUsize::new(0);
        let failed: Mutex<Option<(usize, Refusal)>> = Mutex::new(None);
        let work = || {
            let mut done = Vec::new();
            while let Some((number, (path, size))) = Some(next.fetch_add(1, Ordering::Relaxed))
                .and_then(|number| files.get(number).map(|(path, size)| (number, (path, *size))))
            {
                let content = match path {
                    Some(path) => self.file(path, size),
                    // A later entry of the layer took it away.
                    None => Ok(FileContent::Inline(Box::default())),
                };
                match content {
                    Ok(content) => done.push((number, content)),
                    Err(refusal) => {
                        next.store(files.len(), Ordering::Relaxed);
                        let mut first = failed.lock().unwrap_or_else(PoisonError::into_inner);
                        if first.as_ref().is_none_or(|(n, _)| *n > number) {
                            *first = Some((number, refusal));
                        }
                    }
                }
                progress(size);
            }
            done
        };
        let mut all: Vec<(usize, FileContent)> = std::thread::scope(|scope| {
            let workers: Vec<_> = (1..threads).map(|_| scope.spawn(work)).collect();
            let mut all = work();
            for worker in workers {
                all.extend(worker.join().unwrap_or_default());
            }
            all
        });
        if let Some((_, refusal)) = failed.into_inner().unwrap_or_else(PoisonError::into_inner) {
            return Err(refusal);
        }
        all.sort_unstable_by_key(|(number, _)| *number);
        Ok(all.into_iter().map(|(_, content)| content).collect())
    }

    /// Whether there is room for what the kernel keeps with each file that gets fs-verity. Those that have it already need
    /// none: they are told apart only where it matters.
    fn check_room(&self, files: &[(Option<Box<[u8]>>, u64)]) -> Result<()> {
        let large = |(path, size): &(Option<Box<[u8]>>, u64)| path.is_some() && *size > INLINE_CONTENT_MAX_V0 as u64;
        let tree = |size: &u64| self.rules.algorithm.tree_size(*size);
        let all = files.iter().filter(|file| large(file)).map(|(_, size)| tree(size)).sum();
        if self.vault.check_room(all, 0).is_ok() {
            return Ok(());
        }
        let mut needed = 0;
        for (path, size) in files.iter().filter(|file| large(file)) {
            let file = self.open_file(path.as_deref().unwrap_or_default(), *size)?;
            if verity::measure(&file, self.rules.algorithm, "").is_err_and(|r| r.case() == Case::G01Missing) {
                needed += tree(size);
            }
        }
        self.vault.check_room(needed, 0)
    }

    fn file(&self, path: &[u8], size: u64) -> Result<FileContent> {
        let file = self.open_file(path, size)?;
        if size <= INLINE_CONTENT_MAX_V0 as u64 {
            let bytes = files::read_all(file, size).map_err(|e| verity::read_refusal(e, &self.name(path)))?;
            return Ok(FileContent::Inline(bytes.into()));
        }
        // A name that is needed for messages alone costs as much as a system call.
        let named = |r: Refusal| r.within(self.name(path));
        self.object(&file, size).map(FileContent::Object).map_err(named)
    }

    /// Makes the file an object, under the digest that the kernel enforces from now on, or, where it
    /// need not, under the one that the content has.
    fn object(&self, file: &File, size: u64) -> Result<VerityDigest> {
        let (algorithm, name) = (self.rules.algorithm, "");
        let digest = match verity::measure(file, algorithm, name) {
            Ok(digest) => digest,
            Err(r) if r.case() == Case::G01Missing => return self.vault.protect_and_adopt(file, algorithm),
            // Another seal or another tool chose before, and for a file that is for good.
            Err(r) if r.case() == Case::G01Other => return self.vault.copy_as(file, algorithm),
            Err(r) if r.case() == Case::G06Unsupported && self.rules.mode == Verity::Off => {
                let copy = file.try_clone().map_err(|e| Refusal::io(name, e))?;
                crate::vault::hash(copy, algorithm).map_err(|e| Refusal::io(name, e))?
            }
            Err(r) => return Err(r),
        };
        self.vault.adopt(file, &digest, size)?;
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

/// The layer's directory, in the same mount as the vault where they are of one store, so that files can
/// be linked; else they are copied.
fn content_dir(vault: &Vault, layer: &ClaimedLayer) -> Result<OwnedFd> {
    let io = |e| Refusal::io(layer.path.display().to_string(), e);
    let wanted = identity(&layer.diff).map_err(io)?;
    let name = format!("overlay/{}/diff", layer.id);
    match vault.tree().map(|tree| files::open_dir_at(tree, name)) {
        Some(Ok(dir)) if identity(&dir).map_err(io)? == wanted => Ok(dir),
        _ => layer.diff.try_clone().map_err(io),
    }
}

/// Device and inode.
fn identity(dir: &OwnedFd) -> std::io::Result<(u64, u64)> {
    let stat = rustix::fs::fstat(dir)?;
    Ok((stat.st_dev, stat.st_ino))
}
