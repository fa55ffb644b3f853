use std::process::ExitCode;

use serde_json::{Value, json};

use crate::cli::args;
use crate::cli::home::Home;
use crate::cli::{output, progress};
use crate::digest::BlobDigest;
use crate::fetch::Staging;
use crate::identify::{Candidate, StoredImage, stored_images};
use crate::oci::{BlobStore, Image, Platform, Reference, Repository};
use crate::report::{Case, Class, Refusal, Result, one_line};
use crate::start::repositories;
use crate::vault::{Blob, BlobDamage, Checked, Damage, Elsewhere, Fault, Fsck, Layers, Part, Progress, Remedy, Vault};

/// `layerseal fsck`
pub(super) fn run(home: &Home, args: &args::Fsck) -> anyhow::Result<ExitCode> {
    let mut checked = Vec::new();
    let mut names = Vec::new();
    if home.has_vault()? || !args.images.is_empty() {
        let vault = home.open_vault()?;
        names = vault.tags()?;
        let bar = progress::files(if args.repair { "checking and repairing" } else { "checking" });
        let progress = Progress { found: &|n| bar.inc_length(n), read: &|n| bar.inc(n) };
        let registries = Registries { home, vault: &vault };
        let mut fsck = Fsck::new(&vault, &home.budget, progress);
        for image in images(&vault, &args.images)? {
            let mut found = fsck.check(&image)?;
            if args.repair {
                fsck.repair(&mut found, &registries)?;
            }
            checked.push(found);
        }
        bar.finish_and_clear();
    }
    let name = |image: &BlobDigest| names.iter().find(|t| t.digest == *image).map(|t| t.name.clone());
    if args.json {
        let images: Vec<Value> = checked.iter().map(|c| report(c, name(&c.image))).collect();
        output::document(&json!({"whole": checked.iter().all(Checked::is_whole), "images": images}));
    } else {
        checked.iter().for_each(|c| print(c, &name(&c.image).unwrap_or_else(|| c.image.to_string())));
    }
    let whole = checked.iter().all(Checked::is_whole);
    Ok(if whole { ExitCode::SUCCESS } else { ExitCode::from(Class::Rejected.exit_code()) })
}

fn images(vault: &Vault, references: &[Reference]) -> Result<Vec<BlobDigest>> {
    if references.is_empty() {
        return vault.images();
    }
    let known = vault.images()?;
    let digest = |reference: &Reference| {
        let digest = match reference {
            Reference::Tag(name) => vault.tag(name)?,
            Reference::Digest(digest) => Some(*digest),
            Reference::Layout { .. } | Reference::Registry { .. } => {
                return Err(Refusal::new(Case::Usage, reference.to_string(), "fsck looks at images in the vault"));
            }
        };
        // Not by reading it: what is damaged is to be found.
        digest.filter(|d| known.contains(d)).ok_or_else(|| Refusal::new(Case::NotFound, reference.to_string(), ""))
    };
    references.iter().map(digest).collect()
}

/// The repositories that images came from: as the vault noted, or by their names in the container store.
struct Registries<'a> {
    home: &'a Home,
    vault: &'a Vault,
}

impl Registries<'_> {
    fn stored(&self) -> Vec<StoredImage> {
        self.home.stores().and_then(|roots| stored_images(&roots, None)).unwrap_or_default()
    }

    fn of_store(&self, image: &BlobDigest) -> Vec<Repository> {
        let stored = self.stored();
        let names = candidates(&stored).filter(|c| c.image.digest == *image).flat_map(|c| c.names.clone());
        repositories(&names.collect::<Vec<_>>())
    }
}

impl Elsewhere for Registries<'_> {
    fn documents(&self, image: &BlobDigest, into: &BlobStore) -> Result<()> {
        let stored = self.stored();
        if let Some(candidate) = candidates(&stored).find(|c| c.image.digest == *image) {
            into.write(&candidate.image.manifest)?;
            return into.write(&candidate.image.config).map(drop);
        }
        let nobody = || Refusal::new(Case::C04Missing, image.to_string(), "nothing is known to have its documents");
        let repository = self.vault.source(image)?.ok_or_else(nobody)?;
        let session = self.home.session()?;
        let document = session.document(&repository, None, Some(image))?;
        session.image(&repository, document, &Platform::host(), into).map(drop)
    }

    fn layers(&self, image: &Image, numbers: &[usize]) -> Result<Box<dyn Layers>> {
        let noted = self.vault.source(&image.digest)?;
        // The vault has the layers of images that were pulled into it, and not those of podman's.
        let (places, keep) = match noted {
            Some(repository) => (vec![repository], true),
            None => (self.of_store(&image.digest), false),
        };
        let nobody =
            || Refusal::new(Case::C04Missing, image.digest.to_string(), "no registry is known to have its layers");
        let mut failed = None;
        for repository in places {
            let (session, staging) = (self.home.session()?, Staging::new()?);
            let total = numbers.iter().filter_map(|n| image.layers.get(*n)).map(|l| l.size).sum();
            let bar = progress::transfer("fetching", total);
            let done = session.layers(&repository, image, Some(numbers), staging.store(), &|n| bar.inc(n));
            bar.finish_and_clear();
            match done {
                Ok(()) => return Ok(Box::new(Fetched { staging, keep })),
                Err(refusal) => failed = Some(refusal),
            }
        }
        Err(failed.unwrap_or_else(nobody))
    }
}

fn candidates(stored: &[StoredImage]) -> impl Iterator<Item = &Candidate> {
    stored.iter().filter_map(|s| s.image.as_ref().ok()).flat_map(|claimed| &claimed.images)
}

struct Fetched {
    staging: Staging,
    keep: bool,
}

impl Layers for Fetched {
    fn store(&self) -> &BlobStore {
        self.staging.store()
    }

    fn keep(&self) -> bool {
        self.keep
    }
}

fn print(checked: &Checked, name: &str) {
    for refusal in &checked.documents {
        output::line(format!("{name}: {refusal}"));
    }
    for damage in &checked.blobs {
        let (blob, digest, state) = (damage.blob, damage.digest, if damage.missing { "missing" } else { "damaged" });
        output::line(format!("{name}: {blob}: blob {digest} {state}{} [C04]", done(damage.remedy)));
    }
    for damage in &checked.damage {
        output::line(format!("{name}: {}", text(damage)));
    }
    let faults = checked.damage.len() + checked.documents.len() + checked.blobs.len();
    match faults {
        0 => output::line(format!("{name}: {} objects, all good", checked.objects)),
        _ => output::line(format!("{name}: {} objects, {faults} faults", checked.objects)),
    }
    if checked.blobs.iter().any(|b| b.remedy == Remedy::None) {
        output::line(
            "  `layerseal fsck --repair` fetches blobs from where the image came from; `layerseal pull` brings all of it again",
        );
    }
    if checked.damage.iter().any(|d| d.remedy == Remedy::None) {
        output::line("  `layerseal fsck --repair` makes them again from the layers, where the vault has these");
    }
    if checked.damage.iter().any(|d| d.remedy == Remedy::Removed) {
        output::line(
            "  removed: the next start makes them again from the container store's files. If these are damaged too, \
             remove the image there and pull it again (`podman rmi`, `podman pull`); an image without a store comes \
             with `layerseal pull`",
        );
    }
}

/// `layer 2: usr/bin/bash: object fsverity-sha512-12:… damaged (why) [I02]`
fn text(damage: &Damage) -> String {
    // Paths are the image's own choice.
    let path = damage.path.as_deref().map_or_else(|| "EROFS image".into(), one_line);
    let (algorithm, object) = (damage.object.algorithm(), &damage.object);
    let why = match &damage.fault {
        Fault::Damaged(why) => format!(" ({why})"),
        _ => String::new(),
    };
    let remedy = done(damage.remedy);
    let (fault, id) = (damage.fault.name(), damage.fault.case().id());
    format!("{}: {path}: object {algorithm}:{object} {fault}{why}{remedy} [{id}]", damage.part)
}

fn done(remedy: Remedy) -> &'static str {
    match remedy {
        Remedy::None => "",
        Remedy::Repaired => ", repaired",
        Remedy::Removed => ", removed",
    }
}

fn remedy_name(remedy: Remedy) -> &'static str {
    match remedy {
        Remedy::None => "none",
        Remedy::Repaired => "repaired",
        Remedy::Removed => "removed",
    }
}

fn report(checked: &Checked, name: Option<String>) -> Value {
    let damage = |d: &Damage| {
        json!({
            "layer": match d.part { Part::Layer(number) => Some(number), Part::Rootfs | Part::Merged => None },
            "path": d.path,
            "algorithm": d.object.algorithm().name(),
            "object": d.object.to_hex(),
            "fault": d.fault.name(),
            "detail": match &d.fault { Fault::Damaged(why) => why.as_str(), _ => "" },
            "case": d.fault.case().id(),
            "remedy": remedy_name(d.remedy),
        })
    };
    // What a script that knows no blobs goes by.
    let unrepaired = checked.blobs.iter().filter(|b| b.remedy == Remedy::None);
    let lost: Vec<Refusal> = unrepaired
        .map(|b| {
            let case = if b.missing { Case::C04Missing } else { Case::C04Bytes };
            Refusal::new(case, format!("{} {}", b.blob, b.digest), "")
        })
        .collect();
    let blob = |b: &BlobDamage| {
        json!({
            "blob": match b.blob { Blob::Manifest => "manifest", Blob::Config => "config", Blob::Layer(_) => "layer" },
            "layer": if let Blob::Layer(number) = b.blob { Some(number) } else { None },
            "digest": b.digest.to_string(),
            "fault": if b.missing { "missing" } else { "damaged" },
            "case": "C04",
            "remedy": remedy_name(b.remedy),
        })
    };
    json!({
        "image": checked.image.to_string(),
        "name": name,
        "objects": checked.objects,
        "whole": checked.is_whole(),
        "documents": checked.documents.iter().chain(&lost).map(output::refusal).collect::<Vec<_>>(),
        "blobs": checked.blobs.iter().map(blob).collect::<Vec<_>>(),
        "damage": checked.damage.iter().map(damage).collect::<Vec<_>>(),
    })
}
