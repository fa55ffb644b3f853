use std::process::ExitCode;

use serde_json::{Value, json};

use crate::cli::args;
use crate::cli::home::Home;
use crate::cli::{output, progress};
use crate::digest::BlobDigest;
use crate::oci::Reference;
use crate::report::{Case, Class, Refusal, Result, one_line};
use crate::vault::{Checked, Damage, Fault, Fsck, Part, Progress, Remedy, Vault};

/// `layerseal fsck`
pub(super) fn run(home: &Home, args: &args::Fsck) -> anyhow::Result<ExitCode> {
    let mut checked = Vec::new();
    let mut names = Vec::new();
    if home.vault.exists() || !args.images.is_empty() {
        let vault = home.open_vault()?;
        names = vault.tags()?;
        let bar = progress::files(if args.repair { "checking and repairing" } else { "checking" });
        let progress = Progress { found: &|n| bar.inc_length(n), read: &|n| bar.inc(n) };
        let mut fsck = Fsck::new(&vault, &home.budget, progress);
        for image in images(&vault, &args.images)? {
            let mut found = fsck.check(&image)?;
            if args.repair {
                fsck.repair(&mut found)?;
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
        return Ok(vault.images());
    }
    let known = vault.images();
    let digest = |reference: &Reference| {
        let digest = match reference {
            Reference::Tag(name) => vault.tag(name)?,
            Reference::Digest(digest) => Some(*digest),
            Reference::Layout { .. } => {
                return Err(Refusal::new(Case::Usage, reference.to_string(), "fsck looks at images in the vault"));
            }
        };
        // Not by reading it: what is damaged is to be found.
        digest.filter(|d| known.contains(d)).ok_or_else(|| Refusal::new(Case::NotFound, reference.to_string(), ""))
    };
    references.iter().map(digest).collect()
}

fn print(checked: &Checked, name: &str) {
    for refusal in &checked.documents {
        output::line(format!("{name}: {refusal}"));
    }
    for damage in &checked.damage {
        output::line(format!("{name}: {}", text(damage)));
    }
    let faults = checked.damage.len() + checked.documents.len();
    match faults {
        0 => output::line(format!("{name}: {} objects, all good", checked.objects)),
        _ => output::line(format!("{name}: {} objects, {faults} faults", checked.objects)),
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
    let remedy = match damage.remedy {
        Remedy::None => "",
        Remedy::Repaired => ", repaired",
        Remedy::Removed => ", removed",
    };
    let (fault, id) = (damage.fault.name(), damage.fault.case().id());
    format!("{}: {path}: object {algorithm}:{object} {fault}{why}{remedy} [{id}]", damage.part)
}

fn report(checked: &Checked, name: Option<String>) -> Value {
    let damage = |d: &Damage| {
        json!({
            "layer": match d.part { Part::Layer(number) => Some(number), Part::Merged => None },
            "path": d.path,
            "algorithm": d.object.algorithm().name(),
            "object": d.object.to_hex(),
            "fault": d.fault.name(),
            "detail": match &d.fault { Fault::Damaged(why) => why.as_str(), _ => "" },
            "case": d.fault.case().id(),
            "remedy": match d.remedy { Remedy::None => "none", Remedy::Repaired => "repaired", Remedy::Removed => "removed" },
        })
    };
    json!({
        "image": checked.image.to_string(),
        "name": name,
        "objects": checked.objects,
        "whole": checked.is_whole(),
        "documents": checked.documents.iter().map(output::refusal).collect::<Vec<_>>(),
        "damage": checked.damage.iter().map(damage).collect::<Vec<_>>(),
    })
}
