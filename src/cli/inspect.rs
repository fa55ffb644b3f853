use crate::cli::{args, json, output};
use crate::error::{Refusal, Result};
use crate::ops::{Context, Inspected, InspectedSeal, SealKind, inspect};
use crate::seal::{Binding, Bytes, Seal};

/// Runs `layerseal inspect`: shows what is there, none of it verified.
pub(super) fn run(context: &Context, args: &args::Inspect) -> Result<()> {
    let inspected = inspect(context, &args.image, args.platform.as_ref())?;
    let document = document(&inspected);
    match args.json {
        true => output::document(document),
        false => print(&document),
    }
    Ok(())
}

fn document(inspected: &Inspected) -> json::Inspected {
    let image = &inspected.image;
    let layer = |(layer, claims): (&crate::oci::Layer, &Vec<_>)| json::InspectedLayer {
        digest: layer.digest.to_string(),
        size: layer.size,
        diff_id: layer.diff_id.to_string(),
        claims: claims.iter().map(with_algorithm).collect(),
    };
    json::Inspected {
        image: image.digest.to_string(),
        names: inspected.names.names.clone(),
        store_names: inspected.names.store_names.clone(),
        media_type: image.media_type.clone(),
        config: image.config_digest.to_string(),
        layers: image.layers.iter().zip(&inspected.claims).map(layer).collect(),
        label: inspected.label.as_ref().map(with_algorithm),
        seals: inspected.seals.iter().map(seal).collect(),
    }
}

fn with_algorithm(digest: &crate::digest::VerityDigest) -> String {
    format!("{}:{digest}", digest.algorithm())
}

fn seal(found: &InspectedSeal) -> json::InspectedSeal {
    let none = json::InspectedSeal {
        origin: found.origin.clone(),
        artifact_type: None,
        dialect: None,
        algorithm: None,
        erofs: Vec::new(),
        signatures: Vec::new(),
        binding: None,
        error: None,
    };
    match &found.what {
        Err(refusal) => json::InspectedSeal { error: Some(refusal.into()), ..none },
        Ok(SealKind::Other(kind)) => json::InspectedSeal { artifact_type: Some(kind.clone()), ..none },
        Ok(SealKind::Seal(seal, binding)) => json::InspectedSeal {
            dialect: Some(seal.dialect.to_string()),
            algorithm: Some(seal.algorithm.name().to_owned()),
            erofs: carried(seal),
            signatures: signatures(seal),
            binding: binding.as_ref().map(|binding| statement(binding.as_deref())),
            ..none
        },
    }
}

fn carried(seal: &Seal) -> Vec<json::CarriedErofs> {
    let one = |e: &crate::seal::Erofs| json::CarriedErofs {
        role: e.role.to_string(),
        digest: e.digest.to_hex(),
        size: e.size,
    };
    seal.erofs.iter().map(one).collect()
}

fn signatures(seal: &Seal) -> Vec<json::Signature> {
    let one = |s: &crate::seal::Signature| json::Signature {
        role: s.role.to_string(),
        digest: s.digest.to_hex(),
        signature_size: s.der.as_ref().map(|der| match der {
            Bytes::Blob { size, .. } => *size,
            Bytes::Here(der) => der.len() as u64,
        }),
    };
    seal.signatures.iter().map(one).collect()
}

fn statement(binding: std::result::Result<&Binding, &Refusal>) -> json::Statement {
    match binding {
        Ok(binding) => {
            // As they are written in a deny list.
            let (blob, measured) = binding.marks();
            json::Statement {
                identities: binding.identities.iter().map(ToString::to_string).collect(),
                sequence: binding.sequence,
                subject: binding.subject.map(|digest| digest.to_string()),
                digests: vec![blob.to_string(), with_algorithm(&measured)],
                error: None,
            }
        }
        Err(refusal) => json::Statement {
            identities: Vec::new(),
            sequence: None,
            subject: None,
            digests: Vec::new(),
            error: Some(refusal.into()),
        },
    }
}

fn print(inspected: &json::Inspected) {
    output::line(format!("image   {}", inspected.image));
    let others = inspected.store_names.iter().filter(|name| !inspected.names.contains(name));
    for name in inspected.names.iter().chain(others) {
        output::line(format!("name    {name}"));
    }
    output::line(format!("config  {}", inspected.config));
    for (number, layer) in inspected.layers.iter().enumerate() {
        output::line(format!("layer {number} {} {}", layer.digest, output::bytes(layer.size)));
    }
    if let Some(label) = &inspected.label {
        output::line(format!("label   {label} (a claim)"));
    }
    if inspected.seals.is_empty() {
        output::line("no seal");
    }
    for seal in &inspected.seals {
        if let Some(error) = &seal.error {
            output::line(format!("seal    {}: {}", seal.origin, error.message));
            continue;
        }
        let or_none = |text: &Option<String>| text.clone().unwrap_or_else(|| "-".to_owned());
        let (dialect, algorithm) = (or_none(&seal.dialect), or_none(&seal.algorithm));
        output::line(format!("seal    {} {dialect} {algorithm} (not verified)", seal.origin));
        let row = |s: &json::Signature| {
            let size = s.signature_size.map_or("not signed".to_owned(), |n| format!("signed, {n} B"));
            vec![format!("  {}", s.role), s.digest.clone(), size]
        };
        output::table(&seal.signatures.iter().map(row).collect::<Vec<_>>());
        if let Some(statement) = seal.binding.as_ref().filter(|statement| statement.error.is_none()) {
            let names =
                if statement.identities.is_empty() { "any name".into() } else { statement.identities.join(", ") };
            let sequence = statement.sequence.map(|n| format!(", sequence {n}")).unwrap_or_default();
            output::line(format!("  binding: {names}{sequence}"));
            // What deny.d/ needs: the seal itself can be written in other bytes.
            output::line(format!("  statement: {}", statement.digests[0]));
        }
    }
}
