use std::rc::Rc;

use crate::cli::args::{self, VerityArg};
use crate::cli::home::{Extra, Home, Located, Place, demands, denied};
use crate::cli::{output, pull};
use crate::digest::{Algorithm, BlobDigest};
use crate::image::Contents;
use crate::oci::{Budget, Reference};
use crate::prepare::{Shape, VerityMode, can_enforce, prepare};
use crate::report::{Case, Refusal, Result};
use crate::vault::Vault;
use crate::verify::{Found, Question, Rules, VerifiedImage, Wanted, judge, unsigned};

/// `layerseal mount`
pub(super) fn run(home: &Home, args: &args::Mount) -> anyhow::Result<()> {
    let shape = if args.stack { Shape::Stack } else { Shape::Merged };
    let mode = match args.verity {
        VerityArg::Require => VerityMode::Require,
        VerityArg::Off => VerityMode::Off,
    };
    let place = crate::mount::Place { target: args.target.clone(), upper: args.upper.clone().zip(args.work.clone()) };
    check_directories(&place)?;
    let rules = demands(&args.trust)?;
    if mode == VerityMode::Off {
        // Loud, and not only where somebody watches.
        log::warn!(
            "--verity off: the kernel checks nothing of {} while it is mounted; whoever can write to {} changes it unseen",
            args.image,
            home.vault.display()
        );
    }
    if rules.is_none() {
        log::warn!("nobody vouches for {}: without --trust no seal is looked at", args.image);
    }
    let verified = verified(home, args, rules.as_ref())?;
    let vault = home.open_vault()?;
    let prepared = prepare(&vault, &verified, shape, mode, &home.budget)?;
    let mounted = crate::mount::mount(&prepared, &place)?;
    if !mounted.fresh {
        output::note(format!("{} was mounted there already", args.image));
    }
    Ok(())
}

fn check_directories(place: &crate::mount::Place) -> Result<()> {
    let (upper, work) = place.upper.as_ref().map_or((None, None), |(u, w)| (Some(u), Some(w)));
    for dir in [Some(&place.target), upper, work].into_iter().flatten() {
        if !std::fs::symlink_metadata(dir).is_ok_and(|m| m.is_dir()) {
            return Err(Refusal::new(Case::Usage, dir.display().to_string(), "it must be an existing directory"));
        }
    }
    Ok(())
}

/// The image, by its seals or, where no signature is asked for, as the vault knows it.
fn verified(home: &Home, args: &args::Mount, rules: Option<&Rules>) -> Result<VerifiedImage> {
    let located = match &args.image {
        Reference::Layout { .. } => into_vault(home, args, rules)?,
        _ => home.locate(&args.image, None)?,
    };
    let Place::Vault(vault) = &located.place else {
        return Err(Refusal::new(Case::Bug, args.image.to_string(), "not in the vault"));
    };
    match rules {
        Some(rules) => {
            let extra = Extra::open(&args.trust, &home.budget)?;
            let found = extra.found(&located, &home.budget)?;
            by_seals(vault, &located, &found, rules, &home.budget)
        }
        None => by_layers(vault, &located, args.algorithm, &home.budget),
    }
}

/// An image of a layout goes into the vault first, without a name.
fn into_vault(home: &Home, args: &args::Mount, rules: Option<&Rules>) -> Result<Located> {
    let source = home.locate(&args.image, None)?;
    let vault = home.create_vault()?;
    if args.verity == VerityArg::Require {
        // Asked before gigabytes are imported; an image that is there already is measured anyway.
        can_enforce(&vault)?;
    }
    let reference = Reference::Digest(source.image.digest);
    if rules.is_some() || vault.image(&reference, &home.budget).is_err() {
        let extra = Extra::open(&args.trust, &home.budget)?;
        let found = extra.found(&source, &home.budget)?;
        let algorithm = rules.is_none().then_some(args.algorithm);
        pull::import(&vault, &source, &found, rules, algorithm, &home.budget)?;
    }
    home.locate(&reference, None)
}

fn by_seals(
    vault: &Vault,
    located: &Located,
    found: &[Found<'_>],
    rules: &Rules,
    budget: &Budget,
) -> Result<VerifiedImage> {
    let digest = &located.image.digest;
    let mut read =
        |Wanted { algorithm, .. }: Wanted| -> Result<Rc<Contents>> { located.keep_contents(algorithm, budget) };
    let checked = |seal: &BlobDigest| vault.was_checked(digest, seal);
    let question = Question { image: &located.image, found, home: located.store(), rules, budget, checked: &checked };
    let verified = judge(&question, &mut read).into_result()?;
    // The images of a statement that were compared before are in the vault; if they were lost since,
    // the layers make them again.
    let mut images = verified.layers().iter().chain(Some(verified.merged()));
    let verified = match images.all(|e| e.bytes().is_some() || vault.open_object(e.digest()).is_ok()) {
        true => verified,
        false => judge(&Question { checked: &|_| false, ..question }, &mut read).into_result()?,
    };
    // One whose layer images cannot be stacked is looked at again: the marker would not say so.
    // Written once: a warm start writes nothing.
    if let Some(seal) = verified.seal().filter(|seal| verified.stackable() && !checked(seal)) {
        vault.mark_checked(digest, seal)?;
    }
    Ok(verified)
}

fn by_layers(vault: &Vault, located: &Located, algorithm: Algorithm, budget: &Budget) -> Result<VerifiedImage> {
    let digest = &located.image.digest;
    let known = [algorithm, Algorithm::Sha512, Algorithm::Sha256].into_iter().find_map(|a| vault.contents(digest, a));
    match known {
        Some((merged, layers)) => unsigned(&located.image, merged, &layers, &denied()?),
        None => {
            let contents = located.keep_contents(algorithm, budget)?;
            unsigned(&located.image, contents.merged_digest, &contents.layer_digests, &denied()?)
        }
    }
}
