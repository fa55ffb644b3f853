use crate::cli::{args, json, output};
use crate::container_store::PodNamespace;
use crate::error::Result;
use crate::pki::Certificate;
use crate::policy::{Directories, Policy};

/// Runs `layerseal policy check`.
pub(super) fn check(args: &args::PolicyCheck) -> Result<()> {
    // Installers use this to check a policy and its certificates, and the program with the libraries of the host.
    crate::sys::openssl::load();
    let place = args.namespace.clone().map_or(PodNamespace::NotInPod, PodNamespace::Namespace);
    let policy = Policy::load(&Directories::system())?.at(place);
    let decision = policy.decide(&args.names);
    let (mount, (denied_certificates, denied_digests)) = (policy.mount(), policy.denied().count());
    // A denied certificate can stay in a store: it is shown as denied.
    let is_denied = |c: &Certificate| policy.denied().signer(c.marks()).is_err();
    if args.json {
        let certificate = |c: &Certificate| json::TrustedCertificate {
            subject: c.subject().to_owned(),
            sha256: c.fingerprint().to_string(),
            denied: is_denied(c),
        };
        let anchors = decision.anchors.iter().map(|a| json::Anchor { sha256: a.fingerprint().to_string() });
        output::document(json::PolicyDecision {
            rule: decision.source,
            rules: decision.sources,
            name: decision.name.map(Into::into),
            names: decision.names.into_iter().map(Into::into).collect(),
            namespace: args.namespace.clone(),
            mode: decision.mode,
            trust: decision.stores,
            certificates: decision.certificates.iter().map(certificate).collect(),
            anchors: anchors.collect(),
            binding: decision.binding,
            identity: decision.identity,
            verity: decision.verity,
            upper: decision.upper,
            dates: decision.dates,
            rollback: decision.rollback,
            checkpoint: decision.checkpoint,
            fetch: decision.fetch,
            cover: decision.cover.iter().map(ToString::to_string).collect(),
            mount: json::MountSettings { nodev: mount.nodev, nosuid: mount.nosuid, top: mount.top },
            denied: json::Denied { certificates: denied_certificates, digests: denied_digests },
        });
        return Ok(());
    }
    // All rules for all names count, each setting in its strictest form.
    let by = |setting: &str| decision.sources.get(setting).map(|rules| rules.join("; ")).unwrap_or_default();
    let mut rows = Vec::new();
    let mut row = |setting: &str, value: String| rows.push(vec![setting.to_owned(), value, by(setting)]);
    row("mode", decision.mode.to_string());
    row("trust", if decision.stores.is_empty() { "no store".into() } else { decision.stores.join(", ") });
    for certificate in &decision.certificates {
        let note = if is_denied(certificate) { ", denied" } else { "" };
        row("", format!("{} (SHA-256 {}){}", certificate.subject(), certificate.fingerprint(), note));
    }
    for anchor in &decision.anchors {
        row("", format!("anchor (SHA-256 {})", anchor.fingerprint()));
    }
    row("binding", decision.binding.to_string());
    row("identity", if decision.identity { "must be in the seal" } else { "any" }.into());
    row("verity", decision.verity.to_string());
    row("upper", decision.upper.to_string());
    row("dates", decision.dates.to_string());
    row("rollback", decision.rollback.to_string());
    row("checkpoint", decision.checkpoint.to_string());
    row("fetch", decision.fetch.to_string());
    let cover: Vec<String> = decision.cover.iter().map(ToString::to_string).collect();
    let none = "no system path (for hooks)".to_owned();
    row("cover", if cover.is_empty() { none } else { cover.join(", ") });
    let flags = [(mount.nodev, "nodev"), (mount.nosuid, "nosuid")].into_iter().filter(|(set, _)| *set);
    let flags: Vec<String> = flags.map(|(_, name)| name.to_owned()).chain([mount.top.to_string()]).collect();
    row("mount", flags.join(", "));
    row("denied", format!("{denied_certificates} certificates, {denied_digests} digests"));
    output::table(&rows);
    Ok(())
}
