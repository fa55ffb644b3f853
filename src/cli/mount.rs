use crate::cli::args;
use crate::cli::{json, output};
use crate::mount::Record;
use crate::oci::WrittenFacts;
use crate::ops::{Context, MountRequest, Mounting, mount};
use crate::prepare::Shape;
use crate::report::Result;

/// `layerseal mount`
pub(super) fn run(context: &Context, args: args::Mount) -> Result<()> {
    let request = MountRequest {
        target: args.target,
        upper: args.upper.zip(args.work),
        shape: match (args.stack, args.merged) {
            (true, _) => Shape::Stack,
            (_, true) => Shape::Merged,
            _ => Shape::Root,
        },
        mode: args.verity,
        algorithm: args.algorithm,
        trust: args.trust.into(),
        image: args.image,
    };
    let mounting = mount(context, &request)?;
    if args.json {
        let mount = match mounting {
            Mounting::Fresh(record) => Some((*record).into()),
            Mounting::Standing => None,
        };
        output::document(json::Mounted { fresh: mount.is_some(), mount });
    } else if let Mounting::Standing = mounting {
        output::note(format!("{} was mounted there already", request.image));
    }
    Ok(())
}

/// `layerseal umount`
pub(super) fn unmount(args: &args::Umount) -> Result<()> {
    crate::mount::unmount(&args.target)?;
    if args.json {
        output::document(json::Unmounted { target: args.target.display().to_string() });
    }
    Ok(())
}

/// Digits of a digest that tell images of one host apart.
const SHORT: usize = 12;

/// `layerseal status`
pub(super) fn status(args: &args::Status) -> Result<()> {
    let records = crate::mount::live()?;
    if args.json {
        output::document(json::Status { mounts: records.into_iter().map(Into::into).collect() });
        return Ok(());
    }
    if records.is_empty() {
        return Ok(());
    }
    let mut table = vec![["TARGET", "IMAGE", "MODE", "VERITY", "UPPER", "SIGNER"].map(str::to_owned).to_vec()];
    table.extend(records.iter().map(row));
    output::table(&table);
    Ok(())
}

fn row(record: &Record) -> Vec<String> {
    let none = || "-".to_owned();
    let digest = record.image.as_ref().map(|d| d.trim_start_matches("sha256:").chars().take(SHORT).collect());
    vec![
        record.target.display().to_string(),
        record.names.first().cloned().or(digest).unwrap_or_else(none),
        record.kind.to_string(),
        if record.verity { "require" } else { "off" }.to_owned(),
        record.upper.as_ref().map_or_else(none, |u| u.display().to_string()),
        match (&record.signer, &record.signed_manifest) {
            // The same image, which was signed under another manifest.
            (Some(signer), Some(manifest)) => {
                let short: String = manifest.trim_start_matches("sha256:").chars().take(SHORT).collect();
                format!("{signer} (manifest {short})")
            }
            (signer, _) => signer.clone().unwrap_or_else(none),
        },
    ]
}

impl From<Record> for json::Mount {
    fn from(record: Record) -> Self {
        Self {
            device: record.device,
            mount_id: record.mount_id,
            target: record.target.display().to_string(),
            source: record.source,
            kind: record.kind,
            image: record.image,
            image_id: record.image_id,
            container: record.container,
            names: record.names,
            identities: record.identities,
            facts: record.facts.map(|facts| {
                let WrittenFacts { blobs, erofs, certificates } = facts.into();
                json::Facts { blobs, erofs, certificates }
            }),
            seal: record.seal,
            signed_manifest: record.signed_manifest,
            signer: record.signer,
            certificate: record.certificate,
            anchor: record.anchor,
            upper: record.upper.map(|upper| upper.display().to_string()),
            verity: record.verity,
            whole: record.whole,
            would_refuse: record.would_refuse.map(|r| json::WouldRefuse {
                case: r.case,
                subject: r.subject,
                message: r.message,
                remedy: r.remedy,
            }),
            shows: json::Shows {
                lowers: record.shows.lowers,
                data: record.shows.data,
                verity: record.shows.verity,
                fuse: record.shows.fuse,
            },
            since: record.since,
        }
    }
}
