use std::collections::HashSet;
use std::process::ExitCode;

use crate::cli::{args, json, output};
use crate::error::{Case, Class, Refusal, Result, one_line};
use crate::ops::{ByHand, Context, FsckReport, fsck};
use crate::vault::{Blob, BlobDamage, Damage, Fault, ImageFsckReport, ImagePart, Remedy};

/// Runs `layerseal fsck`.
pub(super) fn run(context: &Context, args: &args::Fsck) -> Result<ExitCode> {
    let found = fsck(context, &args.images, args.repair)?;
    if args.json {
        let images = found.images.iter().map(|c| document(&found, c)).collect();
        output::document(json::Checked { whole: found.is_whole(), images });
    } else {
        if found.images.is_empty() {
            output::note("there is nothing in the vault");
        }
        let mut told = HashSet::new();
        for checked in &found.images {
            let names = found.names.of(&checked.image);
            print(checked, &names.first().map_or_else(|| checked.image.to_string(), str::to_owned), &mut told);
            if !checked.is_whole() {
                output::line(format!("  {}", by_hand(&found, checked)));
            }
        }
    }
    Ok(if found.is_whole() { ExitCode::SUCCESS } else { ExitCode::from(Class::Rejected.exit_code()) })
}

/// Returns what a person must do, if nothing here can do it.
fn by_hand(found: &FsckReport, checked: &ImageFsckReport) -> String {
    match found.by_hand(checked) {
        ByHand::Podman(name) => {
            format!(
                "to do: `podman rmi --force {name} && podman pull {name}`, then `layerseal fetch {name}` and \
                 `layerseal prepare {name}`"
            )
        }
        ByHand::Seals(name) => {
            format!("to do: `layerseal fetch {name}`, or `layerseal prepare {name} --seal WHERE`")
        }
        ByHand::Pull(Some(source), name) => format!("to do: `layerseal pull {source} --name {name}`"),
        ByHand::Pull(None, name) => {
            format!("to do: `layerseal pull IMAGE --name {name}`, IMAGE being where it came from")
        }
        ByHand::Gc => "to do: nothing has a name for it; `layerseal gc` removes it".to_owned(),
    }
}

/// Prints what was found about an image. `told` holds the objects that were already named: many images share one.
fn print(checked: &ImageFsckReport, name: &str, told: &mut HashSet<String>) {
    let mut before = 0;
    for refusal in &checked.documents {
        output::line(format!("{name}: {refusal}"));
    }
    for damage in &checked.blobs {
        let (blob, digest, state) = (damage.blob, damage.digest, if damage.missing { "missing" } else { "damaged" });
        output::line(format!("{name}: {blob}: blob {digest} {state}{} [C04]", done(damage.remedy)));
    }
    // If an image has an object in two of its parts, both are printed.
    let mut own = HashSet::new();
    for damage in &checked.damage {
        own.insert(damage.object.to_hex());
        match told.contains(&damage.object.to_hex()) {
            false => output::line(format!("{name}: {}", text(damage))),
            true => before += 1,
        }
    }
    told.extend(own);
    if before > 0 {
        output::line(format!("{name}: {before} of the objects above are its own too"));
    }
    let faults = checked.damage.len() + checked.documents.len() + checked.blobs.len();
    match faults {
        0 => output::line(format!("{name}: {} objects, all good", checked.objects)),
        1 => output::line(format!("{name}: {} objects, 1 fault", checked.objects)),
        _ => output::line(format!("{name}: {} objects, {faults} faults", checked.objects)),
    }
    if checked.blobs.iter().any(|b| b.remedy == Remedy::None) {
        output::line("  `layerseal fsck --repair` fetches blobs from where the image came from");
    }
    if checked.damage.iter().any(|d| d.remedy == Remedy::None) {
        output::line("  `layerseal fsck --repair` makes them again from the layers, where the vault has these");
    }
}

/// Describes damage in a line: `layer 2: usr/bin/bash: object fsverity-sha512-12:… damaged (why) [I02]`
fn text(damage: &Damage) -> String {
    // The image itself chooses these paths.
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

fn document(found: &FsckReport, checked: &ImageFsckReport) -> json::CheckedImage {
    // For scripts that do not know about blobs.
    let unrepaired = checked.blobs.iter().filter(|b| b.remedy == Remedy::None);
    let lost: Vec<Refusal> = unrepaired
        .map(|b| {
            let case = if b.missing { Case::C04Missing } else { Case::C04Bytes };
            Refusal::new(case, format!("{} {}", b.blob, b.digest), "")
        })
        .collect();
    json::CheckedImage {
        image: checked.image.to_string(),
        name: found.names.of(&checked.image).first().map(str::to_owned),
        to_do: (!checked.is_whole()).then(|| by_hand(found, checked).trim_start_matches("to do: ").to_owned()),
        objects: checked.objects,
        whole: checked.is_whole(),
        documents: checked.documents.iter().chain(&lost).map(Into::into).collect(),
        blobs: checked.blobs.iter().filter_map(blob).collect(),
        damage: checked.damage.iter().map(file).collect(),
    }
}

/// Describes a damaged blob; `None` for seals: these are documents, which scripts know.
fn blob(damage: &BlobDamage) -> Option<json::DamagedBlob> {
    let (blob, layer) = match damage.blob {
        Blob::Manifest => (json::BlobKind::Manifest, None),
        Blob::Config => (json::BlobKind::Config, None),
        Blob::Layer(number) => (json::BlobKind::Layer, Some(number)),
        Blob::Seal => return None,
    };
    Some(json::DamagedBlob {
        blob,
        layer,
        digest: damage.digest.to_string(),
        fault: if damage.missing { json::BlobFault::Missing } else { json::BlobFault::Damaged },
        case: "C04".to_owned(),
        remedy: damage.remedy.into(),
    })
}

fn file(damage: &Damage) -> json::DamagedFile {
    json::DamagedFile {
        layer: match damage.part {
            ImagePart::Layer(number) => Some(number),
            ImagePart::Rootfs | ImagePart::Merged => None,
        },
        path: damage.path.clone(),
        algorithm: damage.object.algorithm().name().to_owned(),
        object: damage.object.to_hex(),
        fault: damage.fault.name().to_owned(),
        detail: if let Fault::Damaged(why) = &damage.fault { why.clone() } else { String::new() },
        case: damage.fault.case().id().to_owned(),
        remedy: damage.remedy.into(),
    }
}

impl From<Remedy> for json::Remedy {
    fn from(remedy: Remedy) -> Self {
        match remedy {
            Remedy::None => Self::None,
            Remedy::Repaired => Self::Repaired,
            Remedy::Removed => Self::Removed,
        }
    }
}
