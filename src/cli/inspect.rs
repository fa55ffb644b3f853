use serde_json::{Value, json};

use crate::cli::args;
use crate::cli::home::Home;
use crate::cli::output;
use crate::digest::BlobDigest;
use crate::seal::{Binding, Bytes, Parsed, Seal, claims, label, parse, parse_inline};

/// `layerseal inspect`: what is there, none of it verified.
pub(super) fn run(home: &Home, args: &args::Inspect) -> anyhow::Result<()> {
    let located = home.locate(&args.image, args.platform.as_ref())?;
    let image = &located.image;
    let mut seals = Vec::new();
    match parse_inline(image, &home.budget) {
        Ok(None) => {}
        Ok(Some(seal)) => seals.push(describe(&seal, home)),
        Err(refusal) => seals.push(json!({"origin": "inline", "error": output::refusal(&refusal)})),
    }
    for digest in located.seals(&home.budget)? {
        let parsed = located
            .store()
            .read(&digest, None, home.budget.manifest)
            .and_then(|raw| parse(&raw, &digest, image, &home.budget));
        seals.push(match parsed {
            Ok(Parsed::Seal(seal)) => describe(&seal, home),
            Ok(Parsed::Other(kind)) => json!({"origin": digest.to_string(), "artifact_type": kind}),
            Err(refusal) => json!({"origin": digest.to_string(), "error": output::refusal(&refusal)}),
        });
    }
    let claimed = claims(image)?;
    let layers: Vec<Value> = image
        .layers
        .iter()
        .zip(&claimed)
        .map(|(l, c)| {
            json!({
                "digest": l.digest.to_string(),
                "size": l.size,
                "diff_id": l.diff_id.to_string(),
                "claims": c.iter().map(|d| format!("{}:{d}", d.algorithm())).collect::<Vec<_>>(),
            })
        })
        .collect();
    let document = json!({
        "image": image.digest.to_string(),
        "media_type": image.media_type,
        "config": image.config_digest.to_string(),
        "layers": layers,
        "label": label(image).map(|d| format!("{}:{d}", d.algorithm())),
        "seals": seals,
    });
    if args.json {
        output::document(&document);
    } else {
        print(&document);
    }
    Ok(())
}

fn describe(seal: &Seal, home: &Home) -> Value {
    let signatures: Vec<Value> = seal
        .signatures
        .iter()
        .map(|s| {
            let size = match &s.der {
                Some(Bytes::Blob { size, .. }) => Some(*size),
                Some(Bytes::Here(der)) => Some(der.len() as u64),
                None => None,
            };
            json!({"role": s.role.to_string(), "digest": s.digest.to_hex(), "signature_size": size})
        })
        .collect();
    let erofs: Vec<Value> = seal
        .erofs
        .iter()
        .map(|e| json!({"role": e.role.to_string(), "digest": e.digest.to_hex(), "size": e.size}))
        .collect();
    let binding = seal.binding.as_ref().map(|(text, _)| match Binding::parse(text, &home.budget) {
        Ok(b) => json!({"identities": b.identities, "sequence": b.sequence, "subject": b.subject.map(|d: BlobDigest| d.to_string()), "digests": digests(&b)}),
        Err(refusal) => json!({"error": output::refusal(&refusal)}),
    });
    json!({
        "origin": seal.origin,
        "dialect": seal.dialect.to_string(),
        "algorithm": seal.algorithm.name(),
        "erofs": erofs,
        "signatures": signatures,
        "binding": binding,
    })
}

fn print(document: &Value) {
    let text = |value: &Value| value.as_str().unwrap_or("-").to_owned();
    output::line(format!("image   {}", text(&document["image"])));
    output::line(format!("config  {}", text(&document["config"])));
    for (number, layer) in document["layers"].as_array().into_iter().flatten().enumerate() {
        output::line(format!(
            "layer {number} {} {}",
            text(&layer["digest"]),
            output::bytes(layer["size"].as_u64().unwrap_or(0))
        ));
    }
    if let Some(label) = document["label"].as_str() {
        output::line(format!("label   {label} (a claim)"));
    }
    let seals = document["seals"].as_array().cloned().unwrap_or_default();
    if seals.is_empty() {
        output::line("no seal");
    }
    for seal in seals {
        if let Some(message) = seal.pointer("/error/message") {
            output::line(format!("seal    {}: {}", text(&seal["origin"]), text(message)));
            continue;
        }
        output::line(format!(
            "seal    {} {} {} (not verified)",
            text(&seal["origin"]),
            text(&seal["dialect"]),
            text(&seal["algorithm"])
        ));
        let rows: Vec<Vec<String>> = seal["signatures"]
            .as_array()
            .into_iter()
            .flatten()
            .map(|s| {
                let size = s["signature_size"].as_u64().map_or("not signed".to_owned(), |n| format!("signed, {n} B"));
                vec![format!("  {}", text(&s["role"])), text(&s["digest"]), size]
            })
            .collect();
        output::table(&rows);
        if let Some(names) = seal.pointer("/binding/identities").and_then(Value::as_array) {
            let names: Vec<String> = names.iter().map(text).collect();
            let sequence = seal
                .pointer("/binding/sequence")
                .and_then(Value::as_u64)
                .map(|n| format!(", sequence {n}"))
                .unwrap_or_default();
            output::line(format!(
                "  binding: {}{sequence}",
                if names.is_empty() { "any name".to_owned() } else { names.join(", ") }
            ));
            // What deny.d/ wants to know: the seal itself can be written in other bytes.
            output::line(format!("  statement: {}", text(&seal["binding"]["digests"][0])));
        }
    }
}

/// The digests of a statement, as they are written in a list of what is denied.
fn digests(binding: &Binding) -> [String; 2] {
    let (blob, measured) = binding.marks();
    [blob.to_string(), format!("{}:{measured}", measured.algorithm())]
}
