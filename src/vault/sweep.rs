//! The removal itself, in an order in which a kill never leaves half of something.

use std::collections::VecDeque;
use std::os::fd::OwnedFd;
use std::time::Instant;

use rustix::fs::{AtFlags, FileType, renameat, statat, unlinkat};
use rustix::io::Errno;

use super::Vault;
use super::images::UNPROTECTED;
use super::mark::Marked;
use super::references::ALGORITHMS;
use crate::digest::{BlobDigest, VerityDigest};
use crate::error::{Refusal, Result};
use crate::sys::files;
use crate::sys::new_files::REMAINS;

/// What was removed, or would be.
#[derive(Clone, Debug, Default)]
pub struct GcReport {
    /// Manifests of images that are gone.
    pub images: Vec<BlobDigest>,
    /// Objects: contents of files, and EROFS images.
    pub objects: usize,
    /// Manifests, configs, layers, seals and signatures.
    pub blobs: usize,
    /// Files of all kinds, notes and remains among them.
    pub files: usize,
    /// Bytes that become free; a file that containers-storage holds too frees none.
    pub bytes: u64,
    /// Images that stay.
    pub kept: usize,
    /// Images that only mounts keep.
    pub mounted: Vec<BlobDigest>,
    /// Live mounts of this vault's images.
    pub mounts: usize,
}

/// How the name of a removed image's directory begins until it is empty.
const GONE: &str = ".gone-";

/// What is to be done, first things first, as it was found: each is checked again before it is done.
pub(super) struct Sweep<'a> {
    vault: &'a Vault,
    steps: VecDeque<Removal>,
}

/// One thing to remove.
enum Removal {
    /// The directory of an image.
    Image(BlobDigest),
    /// The directory of an image that was being removed when the process was killed.
    Gone(String),
    /// The notes on a layer that its store no longer has.
    Layer(String),
    /// A file, and why it may go.
    File(FileUse, String, String),
}

/// What a file is, which says what may need it.
enum FileUse {
    /// A note that an EROFS image is prepared.
    Prepared(VerityDigest),
    /// An object.
    Object(VerityDigest),
    /// A blob.
    Blob(BlobDigest),
    /// What a killed process was writing: where nobody else is at work it is never finished.
    Remains,
}

impl FileUse {
    fn is_needed(&self, marked: &Marked) -> bool {
        match self {
            Self::Prepared(erofs) => marked.needed.erofs.contains(erofs),
            Self::Object(object) => marked.needed.objects.contains(object),
            Self::Blob(blob) => marked.needed.blobs.contains(blob),
            Self::Remains => false,
        }
    }
}

impl<'a> Sweep<'a> {
    /// Finds what is not needed.
    pub(super) fn plan(vault: &'a Vault, marked: &Marked) -> Result<Self> {
        let mut sweep = Self { vault, steps: VecDeque::new() };
        sweep.steps.extend(marked.gone.iter().map(|image| Removal::Image(*image)));
        let images = vault.entries("images")?;
        sweep.steps.extend(images.iter().filter(|n| n.starts_with(GONE)).cloned().map(Removal::Gone));
        // The notes on images that stay.
        for image in images.iter().filter(|n| BlobDigest::from_hex(n).is_ok_and(|d| !marked.gone.contains(&d))) {
            sweep.files(&format!("images/{image}"), marked, &|_| None)?;
            sweep.files(&format!("images/{image}/seals"), marked, &|_| None)?;
        }
        let layers = vault.entries("layers")?;
        let is_needed = |name: &String| BlobDigest::from_hex(name).is_ok_and(|id| marked.needed.layers.contains(&id));
        sweep.steps.extend(layers.into_iter().filter(|name| !is_needed(name)).map(Removal::Layer));
        let prepared = |name: &str| digest(name.strip_suffix(UNPROTECTED).unwrap_or(name)).map(FileUse::Prepared);
        sweep.files("prepared", marked, &prepared)?;
        sweep.files("tags", marked, &|_| None)?;
        sweep.files("locks", marked, &|_| Some(FileUse::Remains))?;
        sweep.objects(marked)?;
        sweep.files("blobs/sha256", marked, &|name| BlobDigest::from_hex(name).ok().map(FileUse::Blob))?;
        Ok(sweep)
    }

    /// Adds the files of a directory that are not needed: those of which `why` says what they are, and all remains.
    fn files(&mut self, place: &str, marked: &Marked, why: &dyn Fn(&str) -> Option<FileUse>) -> Result<()> {
        for name in self.vault.entries(place)? {
            let why = if name.starts_with(REMAINS) { Some(FileUse::Remains) } else { why(&name) };
            if let Some(why) = why.filter(|why| !why.is_needed(marked)) {
                self.steps.push_back(Removal::File(why, place.to_owned(), name));
            }
        }
        Ok(())
    }

    /// Adds the objects that are not needed: EROFS images before what they name.
    fn objects(&mut self, marked: &Marked) -> Result<()> {
        self.files("objects", marked, &|_| None)?;
        let mut rest = Self { vault: self.vault, steps: VecDeque::new() };
        for shard in self.vault.shards()? {
            let object = |name: &str| digest(&format!("{shard}{name}")).map(FileUse::Object);
            rest.files(&format!("objects/{shard}"), marked, &object)?;
        }
        let is_erofs =
            |step: &Removal| matches!(step, Removal::File(FileUse::Object(d), ..) if marked.erofs.contains(d));
        let (erofs, others): (Vec<_>, Vec<_>) = rest.steps.into_iter().partition(is_erofs);
        self.steps.extend(erofs.into_iter().chain(others));
        Ok(())
    }

    /// Returns whether nothing is left to do.
    pub(super) fn is_done(&self) -> bool {
        self.steps.is_empty()
    }

    /// Counts what would be removed.
    pub(super) fn count(&mut self, mut report: GcReport) -> Result<GcReport> {
        let mut remover = Remover { vault: self.vault, dry_run: true, report: &mut report };
        self.steps.drain(..).try_for_each(|step| remover.step(&step))?;
        Ok(report)
    }

    /// Removes what is still not needed, until there is nothing left or the time is `until`. Nobody else is at work.
    pub(super) fn remove(&mut self, marked: &Marked, until: Instant, report: &mut GcReport) -> Result<()> {
        let mut remover = Remover { vault: self.vault, dry_run: false, report };
        while let Some(step) = self.steps.pop_front() {
            let goes = match &step {
                Removal::Image(image) => marked.gone.contains(image),
                Removal::Gone(_) => true,
                Removal::Layer(name) => {
                    !BlobDigest::from_hex(name).is_ok_and(|layer| marked.needed.layers.contains(&layer))
                }
                Removal::File(why, ..) => !why.is_needed(marked),
            };
            if goes {
                remover.step(&step)?;
            } else if let Removal::Image(image) = &step {
                remover.report.images.retain(|gone| gone != image);
                remover.report.kept += 1;
            }
            if Instant::now() >= until {
                break;
            }
        }
        Ok(())
    }
}

struct Remover<'a> {
    vault: &'a Vault,
    dry_run: bool,
    report: &'a mut GcReport,
}

impl Remover<'_> {
    fn step(&mut self, step: &Removal) -> Result<()> {
        match step {
            Removal::Image(image) => self.image(&image.hex()),
            Removal::Gone(name) => self.directories("images", &[&format!("{name}/seals"), name]),
            Removal::Layer(name) => self.directories("layers", &[name]),
            Removal::File(why, place, name) => {
                let Some(dir) = self.open(place)? else { return Ok(()) };
                if self.file(&dir, place, name)? {
                    self.report.objects += usize::from(matches!(why, FileUse::Object(_)));
                    self.report.blobs += usize::from(matches!(why, FileUse::Blob(_)));
                }
                Ok(())
            }
        }
    }

    /// Removes an image, which is gone as soon as its directory has another name.
    fn image(&mut self, name: &str) -> Result<()> {
        let mut name = name.to_owned();
        if !self.dry_run {
            let Some(dir) = self.open("images")? else { return Ok(()) };
            let gone = format!("{GONE}{name}");
            renameat(&dir, &*name, &dir, &gone).map_err(|e| self.failed("images", &name, e))?;
            name = gone;
        }
        self.directories("images", &[&format!("{name}/seals"), &name])
    }

    /// Removes directories of `place` with all files in them.
    fn directories(&mut self, place: &str, names: &[&str]) -> Result<()> {
        let Some(dir) = self.open(place)? else { return Ok(()) };
        for name in names {
            let within = format!("{place}/{name}");
            let Some(own) = self.open(&within)? else { continue };
            for entry in self.vault.list(&own, &within)? {
                // A directory, and the first of those named where something is really removed.
                if !(self.dry_run && entry == "seals") {
                    self.file(&own, &within, &entry)?;
                }
            }
            if !self.dry_run {
                match unlinkat(&dir, *name, AtFlags::REMOVEDIR) {
                    Ok(()) | Err(Errno::NOENT) => {}
                    Err(e) => return Err(self.failed(place, name, e)),
                }
            }
        }
        Ok(())
    }

    /// Removes a file; returns whether there was one.
    fn file(&mut self, dir: &OwnedFd, place: &str, name: &str) -> Result<bool> {
        let failed = |e: Errno| self.failed(place, name, e);
        let stat = match statat(dir, name, AtFlags::SYMLINK_NOFOLLOW) {
            // A writer has finished since the file was found.
            Err(Errno::NOENT) => return Ok(false),
            other => other.map_err(failed)?,
        };
        if FileType::from_raw_mode(stat.st_mode) == FileType::Directory {
            // Not ours: nothing here makes directories of such names.
            log::warn!("{}/{place}/{name}: a directory, left alone", self.vault.path.display());
            return Ok(false);
        }
        if !self.dry_run {
            unlinkat(dir, name, AtFlags::empty()).map_err(failed)?;
        }
        self.report.files += 1;
        if stat.st_nlink == 1 {
            self.report.bytes += u64::try_from(stat.st_size).unwrap_or(0);
        }
        Ok(true)
    }

    fn open(&self, place: &str) -> Result<Option<OwnedFd>> {
        match files::open_dir_at(&self.vault.root, place) {
            Ok(dir) => Ok(Some(dir)),
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => Ok(None),
            Err(e) => Err(Refusal::io(self.vault.path.join(place).display().to_string(), e)),
        }
    }

    fn failed(&self, place: &str, name: &str, e: Errno) -> Refusal {
        Refusal::io(self.vault.path.join(place).join(name).display().to_string(), std::io::Error::from(e))
    }
}

/// Parses a file name as an fs-verity digest of either algorithm.
fn digest(hex: &str) -> Option<VerityDigest> {
    ALGORITHMS.iter().find_map(|algorithm| VerityDigest::from_hex(*algorithm, hex))
}
