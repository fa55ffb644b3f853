//! The removing itself, in an order that a kill cannot turn into half of something.

use std::collections::BTreeSet;
use std::os::fd::OwnedFd;

use rustix::fs::{AtFlags, FileType, renameat, statat, unlinkat};
use rustix::io::Errno;

use super::Vault;
use super::gc::{Collected, Needed};
use super::named::ALGORITHMS;
use crate::digest::{BlobDigest, VerityDigest};
use crate::report::{Refusal, Result};
use crate::sys::files;

/// What a removed image's directory is called until it is empty.
const GONE: &str = ".gone-";

/// What a file is called that is about to replace another, and after a kill for ever.
const REMAINS: &str = ".new-";

pub(super) struct Sweep<'a> {
    pub(super) vault: &'a Vault,
    pub(super) dry_run: bool,
    pub(super) collected: Collected,
}

impl Sweep<'_> {
    /// Removes all that is not `needed`; `images` are the EROFS images of those that go.
    pub(super) fn run(mut self, needed: &Needed, images: &BTreeSet<VerityDigest>) -> Result<Collected> {
        self.images()?;
        self.layers(needed)?;
        let keep = |name: &str| digest(name).is_none_or(|digest| needed.erofs.contains(&digest));
        self.directory("prepared", &keep)?;
        self.directory("tags", &|_| true)?;
        self.objects(needed, images)?;
        let keep = |name: &str| BlobDigest::from_hex(name).map_or(true, |digest| needed.blobs.contains(&digest));
        self.collected.blobs = self.directory("blobs/sha256", &keep)?;
        Ok(self.collected)
    }

    /// The directories of images that go, and of those that were going when somebody was killed. An
    /// image is gone as soon as it has another name.
    fn images(&mut self) -> Result<()> {
        let Some(dir) = self.open("images")? else { return Ok(()) };
        let mut going: Vec<String> = self.collected.images.iter().map(BlobDigest::hex).collect();
        if !self.dry_run {
            for name in &mut going {
                let gone = format!("{GONE}{name}");
                renameat(&dir, &*name, &dir, &gone).map_err(|e| self.failed("images", name, e))?;
                *name = gone;
            }
        }
        going.extend(self.vault.entries("images")?.into_iter().filter(|name| name.starts_with(GONE)));
        going.sort();
        going.dedup();
        for name in going {
            self.directory(&format!("images/{name}/seals"), &|_| false)?;
            self.directory(&format!("images/{name}"), &|name| name == "seals")?;
            for path in [format!("{name}/seals"), name] {
                if !self.dry_run {
                    match unlinkat(&dir, &path, AtFlags::REMOVEDIR) {
                        Ok(()) | Err(Errno::NOENT) => {}
                        Err(e) => return Err(self.failed("images", &path, e)),
                    }
                }
            }
        }
        Ok(())
    }

    /// EROFS images before what they name.
    fn objects(&mut self, needed: &Needed, images: &BTreeSet<VerityDigest>) -> Result<()> {
        let mut going = Vec::new();
        for shard in self.vault.entries("objects")? {
            let Some(dir) = self.open(&format!("objects/{shard}"))? else { continue };
            for name in self.vault.list(&dir, &format!("objects/{shard}"))? {
                match digest(&format!("{shard}{name}")) {
                    Some(digest) if needed.objects.contains(&digest) => {}
                    Some(digest) => going.push((!images.contains(&digest), shard.clone(), name)),
                    None if name.starts_with(REMAINS) => going.push((true, shard.clone(), name)),
                    None => {}
                }
            }
        }
        going.sort();
        for (_, shard, name) in going {
            let place = format!("objects/{shard}");
            let Some(dir) = self.open(&place)? else { continue };
            self.file(&dir, &place, &name)?;
            self.collected.objects += usize::from(!name.starts_with(REMAINS));
        }
        Ok(())
    }

    /// Removes the files of a directory that are not to be kept, and remains; gives the number of the
    /// former.
    fn directory(&mut self, place: &str, keep: &dyn Fn(&str) -> bool) -> Result<usize> {
        let Some(dir) = self.open(place)? else { return Ok(0) };
        let mut count = 0;
        for name in self.vault.list(&dir, place)? {
            let remains = name.starts_with(REMAINS);
            if remains || !keep(&name) {
                self.file(&dir, place, &name)?;
                count += usize::from(!remains);
            }
        }
        Ok(count)
    }

    fn file(&mut self, dir: &OwnedFd, place: &str, name: &str) -> Result<()> {
        let failed = |e: Errno| self.failed(place, name, e);
        let stat = statat(dir, name, AtFlags::SYMLINK_NOFOLLOW).map_err(failed)?;
        if FileType::from_raw_mode(stat.st_mode) == FileType::Directory {
            // None of ours: nothing here makes directories of such names.
            log::warn!("{}/{place}/{name}: a directory, left alone", self.vault.path.display());
            return Ok(());
        }
        if !self.dry_run {
            unlinkat(dir, name, AtFlags::empty()).map_err(failed)?;
        }
        self.collected.files += 1;
        if stat.st_nlink == 1 {
            self.collected.bytes += u64::try_from(stat.st_size).unwrap_or(0);
        }
        Ok(())
    }

    /// The notes on layers that their store no longer has.
    fn layers(&mut self, needed: &Needed) -> Result<()> {
        let Some(dir) = self.open("layers")? else { return Ok(()) };
        for name in self.vault.entries("layers")? {
            if BlobDigest::from_hex(&name).is_ok_and(|layer| needed.layers.contains(&layer)) {
                continue;
            }
            self.directory(&format!("layers/{name}"), &|_| false)?;
            if !self.dry_run {
                unlinkat(&dir, &name, AtFlags::REMOVEDIR).map_err(|e| self.failed("layers", &name, e))?;
            }
        }
        Ok(())
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

/// A file name as an fs-verity digest of either algorithm.
fn digest(hex: &str) -> Option<VerityDigest> {
    ALGORITHMS.iter().find_map(|algorithm| VerityDigest::from_hex(*algorithm, hex))
}
