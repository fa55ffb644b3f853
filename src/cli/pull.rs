use std::cell::Cell;

use crate::cli::args;
use crate::cli::home::{Extra, Home, Located, Place, demands, denied};
use crate::cli::{output, progress};
use crate::digest::Algorithm;
use crate::image::{Contents, Keep};
use crate::oci::{BlobStore, Budget, Reference};
use crate::prepare::enroll;
use crate::report::{Case, Class, Refusal, Result};
use crate::seal::{About, Parsed, parse, parse_about};
use crate::vault::{Import, Vault};
use crate::verify::{Found, Layers, Question, Rules, Wanted, judge};

/// `layerseal pull`
pub(super) fn run(home: &Home, args: &args::Pull) -> anyhow::Result<()> {
    let located = home.locate(&args.image, args.platform.as_ref())?;
    if matches!(located.place, Place::Vault(_)) {
        return Err(Refusal::new(Case::Usage, args.image.to_string(), "it is in the vault already").into());
    }
    let name = match &args.name {
        Some(name) => name.clone(),
        None => default_name(&args.image),
    };
    // A name that cannot be given is refused before anything is written.
    Vault::check_name(&name)?;
    denied()?.image(&located.image)?;
    let extra = Extra::open(home, &args.trust.seal)?;
    let found = extra.found(&located, &home.budget)?;
    let vault = home.create_vault()?;
    let rules = demands(&args.trust)?;
    let pulled = import(&vault, &located, &found, rules.as_ref(), args.algorithm, &home.budget)?;
    vault.set_tag(&name, &located.image.digest)?;
    if pulled.without_verity {
        log::warn!(
            "the filesystem of {} has no fs-verity: nothing protects the files yet, and mounting needs --verity off; see `layerseal doctor`",
            vault.path().display()
        );
    }
    output::line(format!("{name} {}", located.image.digest));
    Ok(())
}

/// The tag, or the directory's name where the tag says nothing.
fn default_name(reference: &Reference) -> String {
    match reference {
        // As podman calls it.
        Reference::Registry { repository, tag, .. } => match tag {
            Some(tag) => format!("{repository}:{tag}"),
            None => repository.to_string(),
        },
        Reference::Layout { tag: Some(tag), .. } if tag != "latest" => tag.clone(),
        Reference::Layout { dir, .. } => {
            let dir = std::fs::canonicalize(dir).unwrap_or_else(|_| dir.clone());
            dir.file_name().map(|n| n.to_string_lossy().into_owned()).unwrap_or_default()
        }
        other => other.to_string(),
    }
}

pub(super) struct Pulled {
    pub(super) without_verity: bool,
}

/// Brings an image of a layout into the vault, untagged. With `rules` nothing is imported before the
/// signatures of a seal have passed. When its content then turns out wrong, objects that were read so
/// far stay, as after an import that was cut off: no image and no tag names them.
pub(super) fn import(
    vault: &Vault,
    located: &Located,
    found: &[Found<'_>],
    rules: Option<&Rules>,
    algorithm: Option<Algorithm>,
    budget: &Budget,
) -> Result<Pulled> {
    let image = &located.image;
    let without_verity = Cell::new(false);
    let mut layers = Layers::new(|Wanted { algorithm, keep, .. }| {
        // From a registry they go where they are to stay.
        let from = if matches!(located.place, Place::Registry(_)) { vault.store() } else { located.store() };
        let (bytes, files) = needed(vault, image, from)?;
        vault.check_room(bytes, files)?;
        located.fetch_layers(from)?;
        let import = Import::new(vault, from, algorithm);
        let bar = progress::layers(image, "pulling");
        let contents = vault.syncing(|| Contents::read(image, (algorithm, keep), &import, budget, &|n| bar.inc(n)));
        bar.finish_and_clear();
        without_verity.set(without_verity.get() || import.without_verity());
        contents
    });
    let mut accepted = None;
    let contents = match rules {
        Some(rules) => {
            let verified = {
                let home = located.store();
                let question =
                    Question { image, found, home, rules, budget, about: About::Manifest, checked: &|_| false };
                judge(&question, &mut layers).into_result()?
            };
            accepted = verified.seal_name().filter(|_| verified.stackable());
            verified.all().try_for_each(|erofs| enroll(vault, erofs))?;
            layers.get(Wanted {
                algorithm: algorithm.unwrap_or(verified.algorithm()),
                bound: true,
                keep: Keep::Images,
            })?
        }
        None => {
            let algorithm = algorithm.unwrap_or_else(|| sealed_algorithm(image, found, budget));
            let contents = layers.get(Wanted { algorithm, bound: true, keep: Keep::Images })?;
            // Nobody has sealed another tree that could be shown.
            contents.images.container()?;
            contents
        }
    };
    vault.store().write(&image.manifest)?;
    vault.store().write(&image.config)?;
    vault.keep_images(&image.digest, &contents.images)?;
    if !without_verity.get() {
        // Every object was measured on its way in, and so were those that were there.
        contents.images.all().try_for_each(|(digest, _)| vault.mark_prepared(digest, true))?;
    }
    vault.sync()?;
    vault.add_image(image)?;
    let repository = match &located.place {
        Place::Registry(remote) => Some(&remote.repository),
        _ => None,
    };
    vault.set_source(&image.digest, repository)?;
    for seal in found {
        copy_seal(vault, image, seal, About::Manifest, budget)?;
    }
    if let (Some(seal), Some(_)) = (accepted, rules) {
        vault.mark_checked(&image.digest, &seal)?;
    }
    Ok(Pulled { without_verity: without_verity.get() })
}

/// How many bytes and files the vault needs for the layers themselves, at least: what they unpack to is not known yet.
fn needed(vault: &Vault, image: &crate::oci::Image, from: &BlobStore) -> Result<(u64, u64)> {
    let (mut bytes, mut files) = (0, 0);
    for layer in &image.layers {
        let linked = || from.open_blob(&layer.digest).is_ok_and(|blob| vault.store().can_link(&blob).unwrap_or(false));
        if !vault.store().has_blob(&layer.digest)? && !linked() {
            bytes += layer.size;
            files += 1;
        }
    }
    Ok((bytes, files))
}

/// The algorithm of the first seal that can be read: its objects will be needed.
fn sealed_algorithm(image: &crate::oci::Image, found: &[Found<'_>], budget: &Budget) -> Algorithm {
    found
        .iter()
        .find_map(|f| {
            match parse(&f.store.read(&f.digest, None, budget.manifest).ok()?, &f.digest, image, budget).ok()? {
                Parsed::Seal(seal) => Some(seal.algorithm),
                Parsed::Other(_) => None,
            }
        })
        .unwrap_or(Algorithm::Sha512)
}

/// Brings a seal along, whether it is any good or not: verifying says so, each time. What cannot
/// even be read stays behind.
pub(super) fn copy_seal(
    vault: &Vault,
    image: &crate::oci::Image,
    found: &Found<'_>,
    about: About,
    budget: &Budget,
) -> Result<()> {
    let raw = match found.store.read(&found.digest, None, budget.manifest) {
        Ok(raw) => raw,
        Err(r) => return left_behind(r),
    };
    let blobs = match parse_about(about, &raw, &found.digest, image, budget) {
        Ok(Parsed::Seal(seal)) => seal.blobs(),
        Ok(Parsed::Other(_)) => return Ok(()),
        Err(r) => return left_behind(r),
    };
    let sizes = blobs.iter().filter_map(|(blob, _)| Some((*blob, found.store.size(blob)?)));
    vault.store().check_room(sizes.filter(|(_, size)| *size <= budget.erofs))?;
    for (blob, _) in blobs {
        match found.store.read(&blob, None, budget.erofs) {
            Ok(bytes) => vault.store().write(&bytes)?,
            Err(r) => return left_behind(r),
        };
    }
    vault.add_seal(&image.digest, &raw).map(drop)
}

/// A seal that is wrong stays where it is; that one cannot be read for a fault of the disk ends the work.
pub(super) fn left_behind(refusal: Refusal) -> Result<()> {
    if refusal.case().class() == Class::Internal {
        return Err(refusal);
    }
    log::warn!("seal left behind: {refusal}");
    Ok(())
}
