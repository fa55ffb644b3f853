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
            "rules": decision.sources,
            "name": decision.name,
            "names": decision.names,
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
            "checkpoint": word(&decision.checkpoint),
            "fetch": fetch,
            "cover": decision.cover.iter().map(ToString::to_string).collect::<Vec<_>>(),
            "mount": {"nodev": mount.nodev, "nosuid": mount.nosuid, "top": top},
            "denied": {"certificates": denied_certificates, "digests": denied_digests},
        }));
        return Ok(());
    }
    // All rules for all names have a say, each setting in its strictest form.
    let by = |setting: &str| decision.sources.get(setting).map(|rules| rules.join("; ")).unwrap_or_default();
    let mut rows = Vec::new();
    let mut row = |setting: &str, value: String| rows.push(vec![setting.to_owned(), value, by(setting)]);
    row("mode", word(&decision.mode));
    row("trust", if decision.stores.is_empty() { "no store".into() } else { decision.stores.join(", ") });
    for certificate in &decision.certificates {
        let note = if is_denied(certificate) { ", denied" } else { "" };
        row("", format!("{} (SHA-256 {}){}", certificate.subject(), certificate.fingerprint(), note));
    }
    for anchor in &decision.anchors {
        row("", format!("anchor (SHA-256 {})", anchor.fingerprint()));
    }
    row("binding", word(&decision.binding));
    row("identity", if decision.identity { "must be in the seal" } else { "any" }.into());
    row("verity", word(&decision.verity));
    row("upper", word(&decision.upper));
    row("dates", if decision.dates == Dates::Enforce { "enforce" } else { "ignore" }.into());
    row("rollback", word(&decision.rollback));
    row("checkpoint", word(&decision.checkpoint));
    row("fetch", fetch.into());
    let cover: Vec<String> = decision.cover.iter().map(ToString::to_string).collect();
    let none = "no system path (for hooks)".to_owned();
    row("cover", if cover.is_empty() { none } else { cover.join(", ") });
    let flags = [(mount.nodev, "nodev"), (mount.nosuid, "nosuid")].into_iter().filter(|(set, _)| *set);
    let flags: Vec<&str> = flags.map(|(_, name)| name).chain([top]).collect();
    row("mount", flags.join(", "));
    row("denied", format!("{denied_certificates} certificates, {denied_digests} digests"));
    output::table(&rows);
    Ok(())
}
