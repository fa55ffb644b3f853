use std::path::{Path, PathBuf};

use rustix::io::Errno;

use crate::cli::args::{self, VerityArg};
use crate::cli::home::{Extra, Home, Located, Place, demands, denied};
use crate::cli::{output, pull};
use crate::digest::{Algorithm, BlobDigest};
use crate::image::Keep;
use crate::mount::{Kind, Mounted, Record, Upper, keep};
use crate::oci::{Budget, Reference};
use crate::prepare::{PreparedImage, Shape, VerityMode, can_enforce, prepare};
use crate::report::{Case, Class, Refusal, Result};
use crate::seal::About;
use crate::sys::mounts::open_target;
use crate::vault::Vault;
use crate::verify::{Found, Layers, Question, Rules, VerifiedImage, Wanted, judge, unsigned};

/// `layerseal mount`
pub(super) fn run(home: &Home, args: &args::Mount) -> anyhow::Result<()> {
    let shape = match (args.stack, args.merged) {
        (true, _) => Shape::Stack,
        (_, true) => Shape::Merged,
        _ => Shape::Root,
    };
    let mode = match args.verity {
        VerityArg::Require => VerityMode::Require,
        VerityArg::Off => VerityMode::Off,
    };
    let place = place(args)?;
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
        return Ok(());
    }
    Ok(keep(&record(args, &verified, &prepared, &place, &mounted))?)
}

fn record(
    args: &args::Mount,
    verified: &VerifiedImage,
    prepared: &PreparedImage,
    place: &crate::mount::Place,
    mounted: &Mounted,
) -> Record {
    let kind = if args.trust.trust.is_empty() { Kind::Off } else { Kind::Sealed };
    Record {
        image: verified.image().map(|i| i.digest.to_string()),
        names: match &args.image {
            Reference::Digest(_) => vec![],
            named => vec![named.to_string()],
        },
        seal: verified.seal().map(ToString::to_string),
        signer: verified.signer().map(|s| s.subject.clone()),
        certificate: verified.signer().map(|s| s.fingerprint.clone()),
        anchor: verified.signer().and_then(|s| s.anchor.clone()),
        identities: verified.binding().map(|b| b.identities.clone()).unwrap_or_default(),
        facts: verified.facts().ok(),
        whole: true,
        verity: prepared.mode() == VerityMode::Require,
        ..Record::new(mounted, place, prepared.description(), kind)
    }
}

/// Where it is to go, before anything is read or imported.
fn place(args: &args::Mount) -> Result<crate::mount::Place> {
    let open = |path: &Path| {
        open_target(path).map_err(|e| {
            let case = if matches!(e, Errno::LOOP | Errno::NOTDIR) { Case::A08Target } else { Case::Usage };
            Refusal::new(case, path.display().to_string(), "it must be an existing directory, and no symlink")
        })
    };
    drop(open(&args.target)?);
    let upper = match args.upper.as_ref().zip(args.work.as_ref()) {
        Some((upper, work)) => Some(Upper { upper: open(upper)?, work: open(work)?, path: absolute(upper)? }),
        None => None,
    };
    Ok(crate::mount::Place { upper, ..crate::mount::Place::read_only(absolute(&args.target)?) })
}

/// The record of a mount is read elsewhere.
fn absolute(path: &Path) -> Result<PathBuf> {
    std::path::absolute(path).map_err(|e| Refusal::io(path.display().to_string(), e))
}

/// The image, by its seals or, where no signature is asked for, as the vault knows it.
fn verified(home: &Home, args: &args::Mount, rules: Option<&Rules>) -> Result<VerifiedImage> {
    let located = match &args.image {
        Reference::Layout { .. } | Reference::Registry { .. } => into_vault(home, args, rules)?,
        _ => home.locate(&args.image, None)?,
    };
    let Place::Vault(vault) = &located.place else {
        return Err(Refusal::new(Case::Bug, args.image.to_string(), "not in the vault"));
    };
    match rules {
        Some(rules) => {
            let extra = Extra::open(home, &args.trust.seal)?;
            let found = extra.found(&located, &home.budget)?;
            by_seals(vault, &located, &found, rules, &home.budget)
        }
        None => by_layers(vault, &located, args.algorithm, &home.budget),
    }
}

/// An image of a layout or a registry goes into the vault first, without a name.
fn into_vault(home: &Home, args: &args::Mount, rules: Option<&Rules>) -> Result<Located> {
    let source = home.locate(&args.image, None)?;
    let vault = home.create_vault()?;
    if args.verity == VerityArg::Require {
        // Asked before gigabytes are imported; an image that is there already is measured anyway.
        can_enforce(&vault)?;
    }
    let reference = Reference::Digest(source.image.digest);
    let here = match vault.image(&reference, &home.budget) {
        Err(refusal) if refusal.case().class() == Class::Internal => return Err(refusal),
        image => image.is_ok(),
    };
    if rules.is_some() || !here {
        let extra = Extra::open(home, &args.trust.seal)?;
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
    let mut layers = Layers::new(|Wanted { algorithm, keep, .. }| located.keep_contents((algorithm, keep), budget));
    let checked = |seal: &BlobDigest| vault.was_checked(digest, seal);
    let question = Question {
        image: &located.image,
        found,
        home: located.store(),
        rules,
        budget,
        about: About::Manifest,
        checked: &checked,
    };
    let verified = judge(&question, &mut layers).into_result()?;
    // The images of a statement that were compared before are in the vault; if they were lost since,
    // the layers make them again.
    let here = verified.all().all(|e| e.bytes().is_some() || vault.open_erofs(e.digest()).is_ok());
    let verified = match here {
        true => verified,
        false => judge(&Question { checked: &|_| false, ..question }, &mut layers).into_result()?,
    };
    // One whose layer images cannot be stacked is looked at again: the marker would not say so.
    // Written once: a warm start writes nothing.
    if let Some(seal) = verified.seal_name().filter(|seal| verified.stackable() && !checked(seal)) {
        vault.mark_checked(digest, &seal)?;
    }
    Ok(verified)
}

fn by_layers(vault: &Vault, located: &Located, algorithm: Algorithm, budget: &Budget) -> Result<VerifiedImage> {
    let digest = &located.image.digest;
    let known = [algorithm, Algorithm::Sha512, Algorithm::Sha256].into_iter().find_map(|a| vault.contents(digest, a));
    match known {
        Some(digests) => unsigned(&located.image, &digests, &denied()?),
        None => {
            let contents = located.keep_contents((algorithm, Keep::Images), budget)?;
            unsigned(&located.image, &contents.images.digests()?, &denied()?)
        }
    }
}
