use std::process::ExitCode;

use serde_json::{Value, json};

use crate::cli::args;
use crate::cli::home::{Extra, Home, rules};
use crate::cli::output;
use crate::seal::About;
use crate::verify::{Layers, Question, SealReport, Verdict, Wanted, judge};

/// `layerseal verify`
pub(super) fn run(home: &Home, args: &args::Verify) -> anyhow::Result<ExitCode> {
    let located = home.locate(&args.image, args.platform.as_ref())?;
    let extra = Extra::open(home, &args.trust.seal)?;
    let found = extra.found(&located, &home.budget)?;
    let rules = rules(&args.trust)?;
    let mut layers = Layers::new(|Wanted { algorithm, keep, .. }| located.contents((algorithm, keep), &home.budget));
    // Here everything is looked at, whatever this host has seen before.
    let question = Question {
        image: &located.image,
        found: &found,
        home: located.store(),
        rules: &rules,
        budget: &home.budget,
        about: About::Manifest,
        checked: &|_| false,
    };
    let judgement = judge(&question, &mut layers);
    let signed = rules.certificates.is_some();
    if args.json {
        let seals: Vec<Value> = judgement.reports.iter().map(report).collect();
        let image = &located.image;
        let layers: Vec<Value> = image
            .layers
            .iter()
            .map(|l| json!({"digest": l.digest.to_string(), "diff_id": l.diff_id.to_string()}))
            .collect();
        let accepted = judgement.accepted.is_some();
        let (image_digest, config) = (image.digest.to_string(), image.config_digest.to_string());
        let refusal = judgement.into_result().err();
        output::document(&json!({
            "image": image_digest,
            "config": config,
            "layers": layers,
            "accepted": accepted,
            "signatures_checked": signed,
            "seals": seals,
            "error": refusal.as_ref().map(output::refusal),
        }));
        return Ok(refusal.map_or(ExitCode::SUCCESS, |r| ExitCode::from(r.case().class().exit_code())));
    }
    output::line(format!("image {}", located.image.digest));
    judgement.reports.iter().for_each(|r| print(r, signed));
    let image = judgement.into_result()?;
    match image.signer() {
        Some(signer) => {
            output::line(format!("verified: signed by {} (SHA-256 {})", signer.subject, signer.fingerprint))
        }
        None => output::line("digests match; no signature was checked: name the signer's certificate with --trust"),
    }
    Ok(ExitCode::SUCCESS)
}

fn print(report: &SealReport, signed: bool) {
    let dialect = report.dialect.map(|d| format!(" {d}")).unwrap_or_default();
    let algorithm = report.algorithm.map(|a| format!(" {a}")).unwrap_or_default();
    output::line(format!("seal {}{dialect}{algorithm}", report.origin));
    let rows: Vec<Vec<String>> = report
        .rows
        .iter()
        .map(|row| {
            let signer = row.signer.as_ref().map(|s| s.subject.clone());
            let verdict = match (&row.signer, row.signed, signed) {
                (Some(_), ..) => "ok",
                (None, true, false) => "digest ok, signature not checked",
                _ => "digest ok",
            };
            vec![format!("  {}", row.role), row.digest.to_hex(), signer.unwrap_or_else(|| "-".into()), verdict.into()]
        })
        .collect();
    output::table(&rows);
    match &report.verdict {
        Verdict::Accepted if signed => output::line("  accepted"),
        Verdict::Accepted => output::line("  digests match, signatures not checked"),
        Verdict::Rejected(refusal) => output::line(format!("  rejected: {refusal}")),
        Verdict::Ignored(kind) => output::line(format!("  ignored: {kind} is no seal")),
    }
}

fn report(report: &SealReport) -> Value {
    let roles: Vec<Value> = report
        .rows
        .iter()
        .map(|row| {
            json!({
                "role": row.role.to_string(),
                "digest": row.digest.to_hex(),
                "signed": row.signed,
                "signer": row.signer.as_ref().map(|s| json!({"subject": s.subject, "sha256": s.fingerprint})),
            })
        })
        .collect();
    let (verdict, error) = match &report.verdict {
        Verdict::Accepted => ("accepted", Value::Null),
        Verdict::Rejected(refusal) => ("rejected", output::refusal(refusal)),
        Verdict::Ignored(_) => ("ignored", Value::Null),
    };
    json!({
        "origin": report.origin,
        "dialect": report.dialect.map(|d| d.to_string()),
        "algorithm": report.algorithm.map(|a| a.name()),
        "roles": roles,
        "verdict": verdict,
        "error": error,
    })
}
