//! What happens on a container runtime's call: all the other modules, in order.
//!
//! ```text
//! invoke ─► identify ─► policy ─┬─► verify ─► prepare ─► mount::mount
//! the call  the image   what is ├─► (audit, off) made of the layers as they are ─► the same
//!                       asked   └─► (off) ─► mount::plain
//! ```

mod added_users;
mod attach;
mod choice;
mod common;
mod content;
mod dry_run;
mod dry_upper;
mod fetch;
mod image;
mod kernel_probe;
mod last_start;
mod layers;
mod overlay_notes;
mod prepared;
pub mod refused;
mod registry_backoff;
mod required_names;
mod rootless;
mod service_call;
mod service_request;
mod swap;
mod upper_check;
mod uppers;
mod user_record;
mod user_swap;
mod verify_and_prepare;

use std::ffi::OsString;
use std::io::Write as _;
use std::os::fd::OwnedFd;
use std::path::Path;
use std::process::ExitCode;

use rustix::fs::{CWD, OFlags};

use crate::container_store::{
    CallTarget, OwnLayer, Root, check_made, check_own_files, further_stores, identify_with, made_links, open_target,
    run_root, transient_container,
};
use crate::error::{Case, Refusal, Result, journal};
use crate::mount::{self, MountKind, UpperDir};
use crate::oci::DenySubjects;
use crate::pki;
use crate::policy::{Directories, Mode, Policy};
use crate::protocol::{self, Invocation, MountCall};
use crate::state::{Event, append_event};
use crate::sys::openssl::{self, Openssl};
use crate::sys::process::{self, User};
use crate::verify::Waiver;

pub use added_users::are_users_of_image;
use attach::{MountReason, MountSource, MountTarget, PendingMount, WritableLayer, unsealed};
pub use choice::prepare_image;
pub use common::vault_of;
pub use dry_run::{Expected, StartVerdict, Vouched, expect_image, expect_layers};
pub use dry_upper::expect_upper;
pub use fetch::{fetch_seals, repositories};
pub use image::Swap;
pub use kernel_probe::{Way, prepare_proven, probe_kernel};
pub use last_start::LastStart;
pub use prepared::JudgedImage;
pub use required_names::asking;
pub use rootless::{UserReadiness, expect_for_user, expect_unknown_for_user, prepare_for_user};
pub use service_call::mounts_of_user;
pub use swap::{asked_of_mounted, swap};
pub use upper_check::{PodmanWrites, Writer};
pub use user_record::{record_of_root, record_of_user};
pub use user_swap::{swap_image_of_user, swap_of_user};

/// Runs as containers-storage's `mount_program`. The only channel back is the standard error, which
/// podman shows to its user: one line, without prefix, the case at its end.
pub fn mount_program(argv: &[OsString]) -> ExitCode {
    process::clear_environment();
    process::keep_descriptors();
    let call = match protocol::parse(argv) {
        Ok(Invocation::Version) => {
            let _ = writeln!(std::io::stdout(), "layerseal {}", env!("CARGO_PKG_VERSION"));
            return ExitCode::SUCCESS;
        }
        Ok(Invocation::Mount(call)) => call,
        Err(refusal) => return refuse(&refusal, ""),
    };
    let user = process::user();
    if user == User::Unknown {
        return refuse(&Refusal::new(Case::Rootless, "", ""), &call.target.display().to_string());
    }
    log::debug!("ignored options: {:?}", call.ignored);
    let done = if user == User::Root { start(&call) } else { rootless::start(argv, &call) };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(refusal) => {
            if let Some(upper) = call.upper.as_ref().filter(|_| !call.restrictions.read_only) {
                // The hooks are not called then, and do not hear about it.
                refused::remember(&upper.upper, refusal.case());
            }
            refuse(&refusal, &call.target.display().to_string())
        }
    }
}

fn refuse(refusal: &Refusal, target: &str) -> ExitCode {
    journal::refused(refusal, target, common::STAGE);
    let subject = refusal.subject();
    // The choice among images names the one that was refused in this form.
    let image = subject.strip_prefix("image ").and_then(|rest| rest.split(": ").next());
    append_event(Event {
        decision: journal::JournalDecision::Refused.word().to_owned(),
        stage: common::STAGE.to_owned(),
        case: refusal.case().id().to_owned(),
        remedy: refusal.case().remedy().to_owned(),
        message: refusal.to_string(),
        image: image.unwrap_or_default().to_owned(),
        subject,
        ..Event::default()
    });
    process::tell(&format!("layerseal: {refusal}"));
    ExitCode::from(refusal.case().class().exit_code())
}

fn start(call: &MountCall) -> Result<()> {
    openssl::start(Openssl::Verify);
    pki::keep_facts();
    refused::check_configuration()?;
    let policy = Policy::load(&Directories::system())?;
    let target = match identify_with(call, &|layer| transient_container(&run_root()?, layer)) {
        Ok(target) => target,
        Err(refusal) => return unknown(call, &policy, refusal),
    };
    // Its namespace is on record before CRI-O has anything mounted.
    let place = match &target {
        CallTarget::Image(claimed) => claimed.own.as_ref(),
        CallTarget::Layers(claimed) => claimed.own.as_ref(),
        CallTarget::Volume => None,
    };
    let place = place.and_then(|own| own.container.as_ref()).map(|container| container.place.clone());
    let policy = policy.at(place.unwrap_or_default());
    // Held until the mount stands and is on record: whoever comes second finds it.
    let (own, root) = match &target {
        CallTarget::Image(claimed) => (claimed.own.as_ref(), Some(&claimed.root)),
        CallTarget::Layers(claimed) => (claimed.own.as_ref(), Some(&claimed.root)),
        CallTarget::Volume => (None, None),
    };
    own.zip(root).map_or(Ok(()), |(own, root)| own_files(own, root))?;
    let _alone = own.filter(|o| o.work.is_some()).map(|o| uppers::lock_upper(&o.diff, &o.path)).transpose()?;
    // Only once the target is known to be a container's: see docs/architecture.md, "Reference counts".
    let at = root.map(|root| open_target(root, call)).transpose()?;
    if mount::again(&call.target, at.as_ref())? {
        return Ok(());
    }
    let onto = MountTarget { at: at.as_ref(), instead: None };
    let request = PendingMount { call, policy: &policy, onto, written: None, by_hook: false };
    match target {
        CallTarget::Image(claimed) => image::start(&request, *claimed),
        CallTarget::Layers(claimed) => layers::start(&request, *claimed),
        CallTarget::Volume => volume(&request),
    }
}

/// Checks that nothing in the directories of the container leads podman elsewhere, whatever the policy says of it.
fn own_files(own: &OwnLayer, root: &Root) -> Result<()> {
    let Some(container) = &own.container else { return Ok(()) };
    let directory = |store: &Path| store.join("overlay-containers").join(container.id.as_str()).join("userdata");
    let id = container.id.as_str();
    let made = |store: &Path| {
        check_made(store).inspect_err(|refusal| {
            made_links(store).unwrap_or_default().iter().for_each(|link| refused::note_link(link, refusal.case(), id));
        })
    };
    let stores = [root.store.clone(), root.path.clone(), run_root()?];
    stores.iter().chain(&further_stores()?).try_for_each(|store| made(store))?;
    stores.iter().try_for_each(|store| check_own_files(&directory(store)))
}

/// Shows what the store's records do not describe in a way that we could use: as the call names it, if the policy lets
/// it start without a seal.
fn unknown(call: &MountCall, policy: &Policy, refusal: Refusal) -> Result<()> {
    let Some(decision) = policy.for_unknown() else { return Err(refusal) };
    let waiver = Waiver::by_policy(&decision, policy.denied(), &DenySubjects::default())?;
    if mount::again(&call.target, None)? {
        return Ok(());
    }
    let audit = decision.mode == Mode::Audit;
    let request = PendingMount { call, policy, onto: MountTarget::default(), written: None, by_hook: false };
    let said = MountReason { kind: unsealed(&decision), decision: None, would_refuse: audit.then_some(&refusal) };
    if as_called(&request, &waiver, &said).is_err() {
        return Err(refusal);
    }
    Ok(())
}

/// Mounts an overlay volume of buildah: directories of any kind, which are nobody's sealed image.
fn volume(request: &PendingMount<'_>) -> Result<()> {
    // The caller made whatever is at the target for this mount.
    let request = PendingMount { onto: MountTarget::default(), ..*request };
    as_called(
        &request,
        &Waiver::for_volume(),
        &MountReason { kind: MountKind::Volume, decision: None, would_refuse: None },
    )
}

/// Mounts the directories that the call names.
fn as_called(request: &PendingMount<'_>, waiver: &Waiver, said: &MountReason<'_>) -> Result<()> {
    let call = request.call;
    let upper = match &call.upper {
        None => None,
        Some(upper) => {
            Some(UpperDir { upper: open(&upper.upper)?, work: open(&upper.work)?, path: upper.upper.clone() })
        }
    };
    let lowers = call.lowers.iter().map(|path| open(path)).collect::<Result<Vec<_>>>()?;
    let own = WritableLayer { upper, ..WritableLayer::default() };
    request.attach(MountSource::Directories { waiver, lowers, aufs: false }, own, said, |record| record).map(|_| ())
}

/// Opens a directory that a caller names: it is shown, but nothing is concluded from it.
fn open(path: &Path) -> Result<OwnedFd> {
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
    rustix::fs::openat(CWD, path, flags, rustix::fs::Mode::empty())
        .map_err(|e| Refusal::io(path.display().to_string(), e))
}
