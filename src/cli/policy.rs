use serde_json::json;

use crate::cli::args;
use crate::cli::output;
use crate::pki::{Certificate, Dates};
use crate::policy::{Directories, Fetch, Policy, Top};
use crate::report::Result;

/// `layerseal policy check`
pub(super) fn check(args: &args::PolicyCheck) -> Result<()> {
    let policy = Policy::load(&Directories::system())?;
    let decision = policy.decide(&args.names);
    let (mount, (denied_certificates, denied_digests)) = (policy.mount(), policy.denied().count());
    let top = if mount.top == Top::Kernel { "kernel" } else { "fuse-overlayfs" };
    let fetch = if decision.fetch == Fetch::Never { "never" } else { "on-mount" };
    // A denied certificate can stay in a store: it is shown as what it is.
    let is_denied = |c: &Certificate| policy.denied().signer(c.marks()).is_err();
    let word = |value: &dyn std::fmt::Debug| format!("{value:?}").to_lowercase();
    let certificates: Vec<_> = decision
        .certificates
        .iter()
        .map(|c| json!({"subject": c.subject(), "sha256": c.fingerprint(), "denied": is_denied(c)}))
        .collect();
    if args.json {
        output::document(&json!({
            "rule": decision.source,
            "name": decision.name,
            "mode": word(&decision.mode),
            "trust": decision.stores,
            "certificates": certificates,
            "anchors": decision.anchors.iter().map(|a| json!({"sha256": a.fingerprint()})).collect::<Vec<_>>(),
            "binding": word(&decision.binding),
            "identity": decision.identity,
            "verity": word(&decision.verity),
            "upper": word(&decision.upper),
            "dates": if decision.dates == Dates::Enforce { "enforce" } else { "ignore" },
            "rollback": word(&decision.rollback),
            "fetch": fetch,
            "cover": decision.cover.iter().map(ToString::to_string).collect::<Vec<_>>(),
            "mount": {"nodev": mount.nodev, "nosuid": mount.nosuid, "top": top},
            "denied": {"certificates": denied_certificates, "digests": denied_digests},
        }));
        return Ok(());
    }
    output::line(format!("rule: {}", decision.source));
    let mut rows = vec![vec!["mode".to_owned(), word(&decision.mode)]];
    rows.push(vec!["trust".into(), decision.stores.join(", ")]);
    for certificate in &decision.certificates {
        let note = if is_denied(certificate) { ", denied" } else { "" };
        rows.push(vec![
            String::new(),
            format!("{} (SHA-256 {}){}", certificate.subject(), certificate.fingerprint(), note),
        ]);
    }
    for anchor in &decision.anchors {
        rows.push(vec![String::new(), format!("anchor (SHA-256 {})", anchor.fingerprint())]);
    }
    rows.push(vec!["binding".into(), word(&decision.binding)]);
    rows.push(vec!["identity".into(), if decision.identity { "must be in the seal" } else { "any" }.into()]);
    rows.push(vec!["verity".into(), word(&decision.verity)]);
    rows.push(vec!["upper".into(), word(&decision.upper)]);
    rows.push(vec!["dates".into(), if decision.dates == Dates::Enforce { "enforce" } else { "ignore" }.into()]);
    rows.push(vec!["rollback".into(), word(&decision.rollback)]);
    rows.push(vec!["fetch".into(), fetch.into()]);
    let cover: Vec<String> = decision.cover.iter().map(ToString::to_string).collect();
    let none = "no system path (for hooks)".to_owned();
    rows.push(vec!["cover".into(), if cover.is_empty() { none } else { cover.join(", ") }]);
    let flags = [(mount.nodev, "nodev"), (mount.nosuid, "nosuid")].into_iter().filter(|(set, _)| *set);
    let flags: Vec<&str> = flags.map(|(_, name)| name).chain([top]).collect();
    rows.push(vec!["mount".into(), flags.join(", ")]);
    rows.push(vec!["denied".into(), format!("{denied_certificates} certificates, {denied_digests} digests")]);
    output::table(&rows);
    Ok(())
}
