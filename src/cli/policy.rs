use serde_json::json;

use crate::cli::args;
use crate::cli::output;
use crate::pki::Dates;
use crate::policy::{Directories, Policy};
use crate::report::Result;

/// `layerseal policy check`
pub(super) fn check(args: &args::PolicyCheck) -> Result<()> {
    let decision = Policy::load(&Directories::system())?.decide(&args.names);
    let word = |value: &dyn std::fmt::Debug| format!("{value:?}").to_lowercase();
    let certificates: Vec<_> =
        decision.certificates.iter().map(|c| json!({"subject": c.subject(), "sha256": c.fingerprint()})).collect();
    if args.json {
        output::document(&json!({
            "rule": decision.source,
            "name": decision.name,
            "mode": word(&decision.mode),
            "trust": decision.stores,
            "certificates": certificates,
            "binding": word(&decision.binding),
            "identity": decision.identity,
            "verity": word(&decision.verity),
            "upper": word(&decision.upper),
            "dates": if decision.dates == Dates::Enforce { "enforce" } else { "ignore" },
        }));
        return Ok(());
    }
    output::line(format!("rule: {}", decision.source));
    let mut rows = vec![vec!["mode".to_owned(), word(&decision.mode)]];
    rows.push(vec!["trust".into(), decision.stores.join(", ")]);
    for certificate in &decision.certificates {
        rows.push(vec![String::new(), format!("{} (SHA-256 {})", certificate.subject(), certificate.fingerprint())]);
    }
    rows.push(vec!["binding".into(), word(&decision.binding)]);
    rows.push(vec!["identity".into(), if decision.identity { "must be in the seal" } else { "any" }.into()]);
    rows.push(vec!["verity".into(), word(&decision.verity)]);
    rows.push(vec!["upper".into(), word(&decision.upper)]);
    output::table(&rows);
    Ok(())
}
