use std::process::ExitCode;

use crate::cli::{args, json, output};
use crate::ops::{Context, fsck};
use crate::report::{Case, Class, Refusal, Result, one_line};
use crate::vault::{Blob, BlobDamage, Checked, Damage, Fault, Part, Remedy};

/// `layerseal fsck`
pub(super) fn run(context: &Context, args: &args::Fsck) -> Result<ExitCode> {
    let found = fsck(context, &args.images, args.repair)?;
    if args.json {
        let images = found.images.iter().map(|c| document(c, found.name(&c.image))).collect();
        output::document(json::Checked { whole: found.is_whole(), images });
    } else {
        for checked in &found.images {
            print(checked, &found.name(&checked.image).map_or_else(|| checked.image.to_string(), str::to_owned));
        }
    }
    Ok(if found.is_whole() { ExitCode::SUCCESS } else { ExitCode::from(Class::Rejected.exit_code()) })
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

fn document(checked: &Checked, name: Option<&str>) -> json::CheckedImage {
    // What a script that knows no blobs goes by.
    let unrepaired = checked.blobs.iter().filter(|b| b.remedy == Remedy::None);
    let lost: Vec<Refusal> = unrepaired
        .map(|b| {
            let case = if b.missing { Case::C04Missing } else { Case::C04Bytes };
            Refusal::new(case, format!("{} {}", b.blob, b.digest), "")
        })
        .collect();
    json::CheckedImage {
        image: checked.image.to_string(),
        name: name.map(str::to_owned),
        objects: checked.objects,
        whole: checked.is_whole(),
        documents: checked.documents.iter().chain(&lost).map(Into::into).collect(),
        blobs: checked.blobs.iter().map(blob).collect(),
        damage: checked.damage.iter().map(file).collect(),
    }
}

fn blob(damage: &BlobDamage) -> json::DamagedBlob {
    let (blob, layer) = match damage.blob {
        Blob::Manifest => (json::BlobKind::Manifest, None),
        Blob::Config => (json::BlobKind::Config, None),
        Blob::Layer(number) => (json::BlobKind::Layer, Some(number)),
    };
    json::DamagedBlob {
        blob,
        layer,
        digest: damage.digest.to_string(),
        fault: if damage.missing { json::BlobFault::Missing } else { json::BlobFault::Damaged },
        case: "C04".to_owned(),
        remedy: damage.remedy.into(),
    }
}

fn file(damage: &Damage) -> json::DamagedFile {
    json::DamagedFile {
        layer: match damage.part {
            Part::Layer(number) => Some(number),
            Part::Rootfs | Part::Merged => None,
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
