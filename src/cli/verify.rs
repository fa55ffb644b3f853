use std::process::ExitCode;

use crate::cli::{args, json, output};
use crate::error::Result;
use crate::ops::{Context, Trust, Verified, VerifyRequest, verify};
use crate::verify::{CheckedRole, SealReport, Verdict};

/// Runs `layerseal verify`.
pub(super) fn run(context: &Context, args: args::Verify) -> Result<ExitCode> {
    let request =
        VerifyRequest { image: args.image, trust: args.trust.into(), platform: args.platform, layers: args.layers };
    let Verified { image, names, reports, signer, signatures: signed } = verify(context, &request)?;
    if args.json {
        let layer =
            |l: &crate::oci::Layer| json::Layer { digest: l.digest.to_string(), diff_id: l.diff_id.to_string() };
        let seals = reports.iter().map(document).collect();
        let accepted = signer.is_ok();
        let refusal = signer.err();
        output::document(json::Verified {
            image: image.digest.to_string(),
            names: names.names,
            store_names: names.store_names,
            config: image.config_digest.to_string(),
            layers: image.layers.iter().map(layer).collect(),
            accepted,
            signatures_checked: signed,
            seals,
            error: refusal.as_ref().map(Into::into),
        });
        return Ok(refusal.map_or(ExitCode::SUCCESS, |r| ExitCode::from(r.case().class().exit_code())));
    }
    output::line(format!("image {}", image.digest));
    for name in names.all() {
        output::line(format!("  {name}"));
    }
    reports.iter().for_each(|r| print(r, signed));
    match signer? {
        Some(signer) => {
            output::line(format!("verified: signed by {} (SHA-256 {})", signer.subject, signer.fingerprint))
        }
        None => output::line("digests match; no signature was checked: name the signer's certificate with --trust"),
    }
    if reports.iter().any(|r| matches!(r.verdict, Verdict::Accepted) && !r.compared) {
        output::line(
            "the layers were not read: a pull or the first start compares them with the seal, and `--layers` does it now",
        );
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

fn document(report: &SealReport) -> json::JudgedSeal {
    let role = |row: &CheckedRole| json::CheckedRole {
        role: row.role.to_string(),
        digest: row.digest.to_hex(),
        signed: row.signed,
        signer: row
            .signer
            .as_ref()
            .map(|s| json::Certificate { subject: s.subject.clone(), sha256: s.fingerprint.to_string() }),
    };
    let (verdict, error) = match &report.verdict {
        Verdict::Accepted => (json::SealVerdict::Accepted, None),
        Verdict::Rejected(refusal) => (json::SealVerdict::Rejected, Some(refusal.into())),
        Verdict::Ignored(_) => (json::SealVerdict::Ignored, None),
    };
    json::JudgedSeal {
        origin: report.origin.clone(),
        dialect: report.dialect.map(|d| d.to_string()),
        algorithm: report.algorithm.map(|a| a.name().to_owned()),
        roles: report.rows.iter().map(role).collect(),
        layers_compared: report.compared,
        verdict,
        error,
    }
}

impl From<args::TrustArgs> for Trust {
    fn from(args: args::TrustArgs) -> Self {
        Self {
            certificates: args.trust,
            binding: args.binding,
            identity: args.identity,
            dates: args.dates,
            seals: args.seal,
        }
    }
}
