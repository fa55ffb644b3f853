use crate::cli::{args, json, output};
use crate::error::Result;
use crate::ops::{self, ListedStore};

/// Runs `layerseal trust list`.
pub(super) fn list(args: &args::TrustList) -> Result<()> {
    let stores = ops::list_trust()?;
    if args.json {
        let store = |store: ListedStore| json::TrustStore {
            name: store.name,
            used: store.is_used,
            certificates: store
                .certificates
                .iter()
                .map(|(certificate, denied)| json::StoredCertificate {
                    subject: certificate.subject().to_owned(),
                    sha256: certificate.fingerprint().to_string(),
                    not_after: certificate.not_after(),
                    denied: *denied,
                })
                .collect(),
            anchors: store.anchors,
        };
        output::document(json::TrustStores { stores: stores.into_iter().map(store).collect() });
        return Ok(());
    }
    if stores.is_empty() {
        output::note("nobody is trusted yet: `layerseal trust add CERT --store NAME`");
    }
    for ListedStore { name, is_used, certificates, anchors } in stores {
        let unused = if is_used { "" } else { " (no rule of the policy names it)" };
        output::line(format!("{name}{unused}"));
        for (certificate, denied) in certificates {
            let note = if denied { ", denied" } else { "" };
            output::line(format!("  {} (SHA-256 {}){note}", certificate.subject(), certificate.fingerprint()));
        }
        for anchor in anchors {
            output::line(format!("  authority (SHA-256 {anchor})"));
        }
    }
    Ok(())
}

/// Runs `layerseal trust add`.
pub(super) fn add(args: &args::TrustAdd) -> Result<()> {
    let added = ops::trust(&args.certificates, args.store.as_deref())?;
    if args.json {
        let one = |one: &ops::TrustedNow| json::TrustedNow {
            subject: one.certificate.subject().to_owned(),
            sha256: one.certificate.fingerprint().to_string(),
            file: one.file.display().to_string(),
            before: one.before,
        };
        output::document(json::TrustAdded {
            store: added.store,
            used: added.is_used,
            certificates: added.certificates.iter().map(one).collect(),
        });
        return Ok(());
    }
    for one in &added.certificates {
        let (subject, digest) = (one.certificate.subject(), one.certificate.fingerprint());
        match one.before {
            true => output::line(format!("in {} before: {subject} (SHA-256 {digest})", added.store)),
            false => output::line(format!("trusted in {}: {subject} (SHA-256 {digest})", added.store)),
        }
    }
    if !added.is_used {
        output::line(format!(
            "no rule of the policy names it yet: trust = [{:?}] in [default] or in a rule",
            added.store
        ));
    }
    Ok(())
}
