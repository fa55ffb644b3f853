use crate::cli::args;
use crate::cli::{json, output};
use crate::error::Result;
use crate::mount::{MountKind, Record};
use crate::oci::{ContainerId, DenySubjectsText};
use crate::ops::{Context, HostStatus, MountRequest, Mounting, UnverifiedRoot, mount};
use crate::policy::Mode;
use crate::prepare::RootShape;
use crate::serve::{UserMount, VouchedImage};

/// Runs `layerseal mount`.
pub(super) fn run(context: &Context, args: args::Mount) -> Result<()> {
    let request = MountRequest {
        target: args.target,
        upper: args.upper.zip(args.work),
        shape: match (args.stack, args.merged) {
            (true, _) => RootShape::Stack,
            (_, true) => RootShape::Merged,
            _ => RootShape::Root,
        },
        mode: args.verity,
        context: args.context,
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

/// Runs `layerseal umount`.
pub(super) fn unmount(args: &args::Umount) -> Result<()> {
    crate::mount::unmount(&args.target)?;
    if args.json {
        output::document(json::Unmounted { target: args.target.display().to_string() });
    }
    Ok(())
}

/// How many digits of a digest tell the images of one host apart.
const SHORT: usize = 12;

/// How wide each column of `layerseal status` may get; with two spaces between them that makes a hundred.
const WIDTHS: [usize; 5] = [24, 40, 9, 7, 12];

/// Runs `layerseal status`.
pub(super) fn status(context: &Context, args: &args::Status) -> Result<()> {
    let found = crate::ops::status(context)?;
    if args.json {
        let unverified = |root: UnverifiedRoot| json::UnverifiedRoot {
            target: root.target,
            container: root.container,
            names: root.names,
            mode: root.mode,
        };
        output::document(json::Status {
            mounts: found.records.into_iter().map(Into::into).collect(),
            unverified: found.unverified.into_iter().map(unverified).collect(),
            users: found.users.into_iter().map(Into::into).collect(),
        });
        return Ok(());
    }
    if found.records.is_empty() && found.unverified.is_empty() && found.users.is_empty() {
        output::note("nothing is mounted by layerseal, and no container of podman's runs");
        return Ok(());
    }
    let mut table = vec![["TARGET", "IMAGE", "MODE", "VERITY", "SIGNER"].map(str::to_owned).to_vec()];
    table.extend(found.records.iter().map(|record| row(record, &found)));
    table.extend(found.unverified.iter().map(|root| {
        let container = found.containers.get(&root.container).unwrap_or(&root.container);
        // `layerseal check --containers` tells what its next start would come to.
        let mode = if root.mode == Mode::Off { "off" } else { "unsealed" };
        let image = root.names.first().cloned().unwrap_or_else(|| "-".to_owned());
        vec![container.clone(), image, mode.to_owned(), "off".to_owned(), "-".to_owned()]
    }));
    table.extend(found.users.iter().map(|mount| {
        let image =
            mount.vouched.identities.first().map_or_else(|| mount.vouched.image.to_string(), ToString::to_string);
        let (verity, signer) = (verity(mount.verity), common_name(mount.vouched.signer.as_deref()));
        vec![format!("user {}", mount.user), image, MountKind::Sealed.to_string(), verity, signer]
    }));
    for row in &mut table {
        row.iter_mut().zip(WIDTHS).for_each(|(cell, width)| *cell = fit(cell, width));
    }
    output::table(&table);
    Ok(())
}

/// Shortens a text to its two ends: for an ID, a path and a name both ends tell more than the middle.
fn fit(text: &str, width: usize) -> String {
    let all: Vec<char> = text.chars().collect();
    if all.len() <= width {
        return text.to_owned();
    }
    let front = width.div_ceil(2) - 1;
    let back = width - front - 1;
    all[..front].iter().chain(&['…']).chain(&all[all.len() - back..]).collect()
}

fn row(record: &Record, found: &HostStatus) -> Vec<String> {
    let none = || "-".to_owned();
    let digest = record.image.map(|d| d.hex().chars().take(SHORT).collect());
    let name = |id: &ContainerId| {
        found.containers.get(id.as_str()).cloned().unwrap_or_else(|| id.as_str().chars().take(SHORT).collect())
    };
    let mode = match &record.would_refuse {
        Some(would) => format!("{} {}", record.kind, would.case),
        None => record.kind.to_string(),
    };
    vec![
        record.container.as_ref().map_or_else(|| record.target.display().to_string(), name),
        record.names.first().cloned().or(digest).unwrap_or_else(none),
        mode,
        verity(record.verity),
        common_name(record.signer.as_deref()),
    ]
}

fn verity(checked: bool) -> String {
    if checked { "require" } else { "off" }.to_owned()
}

/// Returns the last name in a subject in OpenSSL's one-line format.
fn common_name(subject: Option<&str>) -> String {
    subject.map_or("-", |subject| subject.rsplit("CN=").next().unwrap_or(subject)).to_owned()
}

impl From<UserMount> for json::UserMount {
    fn from(mount: UserMount) -> Self {
        let VouchedImage { image, identities, seal, signer, .. } = mount.vouched;
        Self {
            user: mount.user,
            device: mount.device,
            source: mount.source,
            image: image.to_string(),
            identities: identities.into_iter().map(Into::into).collect(),
            seal: seal.map(Into::into),
            signer,
            verity: mount.verity,
            since: mount.since,
        }
    }
}

impl From<Record> for json::Mount {
    fn from(record: Record) -> Self {
        Self {
            device: record.device,
            mount_id: record.mount_id,
            target: record.target.display().to_string(),
            source: record.source,
            kind: record.kind,
            image: record.image.map(Into::into),
            image_id: record.image_id.map(Into::into),
            container: record.container.map(Into::into),
            names: record.names,
            identities: record.identities.into_iter().map(Into::into).collect(),
            facts: record.facts.map(|facts| {
                let DenySubjectsText { blobs, erofs, certificates } = facts.into();
                json::Facts { blobs, erofs, certificates }
            }),
            seal: record.seal.map(Into::into),
            signed_manifest: record.signed_manifest.map(Into::into),
            signer: record.signer,
            certificate: record.certificate.map(Into::into),
            anchor: record.anchor.map(Into::into),
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
