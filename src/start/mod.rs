//! What a container runtime's call comes to: every other room, in order.
//!
//! ```text
//! invoke ─► identify ─► policy ─┬─► verify ─► prepare ─► mount::mount
//! the call  the image   what is ├─► (audit, off) made of the layers as they are ─► the same
//!                       asked   └─► (off) ─► mount::plain
//! ```

mod attach;
mod choice;
mod common;
mod content;
mod fetch;
mod image;
mod kernel_probe;
mod layers;
mod prepared;
mod ran;
mod registry_backoff;
mod swap;
mod upper_check;
mod uppers;
mod verify_and_prepare;

use std::ffi::OsString;
use std::io::Write as _;
use std::os::fd::OwnedFd;
use std::path::Path;
use std::process::ExitCode;

use rustix::fs::{CWD, OFlags};

use crate::identify::{Target, identify_with, open_target, run_root, transient_container};
use crate::invoke::{self, Call, Invocation};
use crate::mount::{self, Kind, Upper};
use crate::oci::Facts;
use crate::policy::{Directories, Mode, Policy};
use crate::report::{Case, Refusal, Result, journal};
use crate::sys::process::{self, Openssl, User};
use crate::verify::Waiver;

use attach::{Onto, Own, Ready, Request, Said, unsealed};
pub use choice::prepare_image;
pub use common::vault_of;
pub use fetch::{fetch_seals, repositories};
pub use image::Swap;
pub use kernel_probe::probe_kernel;
pub use prepared::Prepared;
pub use ran::Ran;
pub use swap::{asked_of_mounted, swap};
pub use upper_check::Written;

/// Runs as containers-storage's `mount_program`. The only channel back is the standard error, which
/// podman shows to its user: one line, without prefix, the case at its end.
pub fn mount_program(argv: &[OsString]) -> ExitCode {
    process::clear_environment();
    process::keep_descriptors();
    let call = match invoke::parse(argv) {
        Ok(Invocation::Version) => {
            let _ = writeln!(std::io::stdout(), "layerseal {}", env!("CARGO_PKG_VERSION"));
            return ExitCode::SUCCESS;
        }
        Ok(Invocation::Mount(call)) => call,
        Err(refusal) => return refuse(&refusal, ""),
    };
    let user = process::user();
    if user != User::Root {
        let refusal = if user == User::Rootless { rootless(argv) } else { Refusal::new(Case::Rootless, "", "") };
        return refuse(&refusal, &call.target.display().to_string());
    }
    log::debug!("ignored options: {:?}", call.ignored);
    match start(&call) {
        Ok(()) => ExitCode::SUCCESS,
        Err(refusal) => refuse(&refusal, &call.target.display().to_string()),
    }
}

fn refuse(refusal: &Refusal, target: &str) -> ExitCode {
    journal::refused(refusal, target);
    process::tell(&format!("layerseal: {refusal}"));
    ExitCode::from(refusal.case().class().exit_code())
}

/// Hands the call of a user other than root on to fuse-overlayfs, as if it had been made to that; returns where it
/// cannot, or the policy asks for more.
fn rootless(argv: &[OsString]) -> Refusal {
    match Policy::rootless(&Directories::system()) {
        Ok(Mode::Enforce) => Refusal::new(Case::Rootless, "", ""),
        Ok(mode) => {
            if mode == Mode::Audit {
                let refusal = Refusal::new(Case::Rootless, "", "");
                journal::record(journal::Decision::Audit, &format!("audit: would refuse: {refusal}"), &[]);
            }
            mount::hand_on(argv)
        }
        Err(refusal) => refusal,
    }
}

fn start(call: &Call) -> Result<()> {
    process::start_openssl(Openssl::Verify);
    let policy = Policy::load(&Directories::system())?;
    let target = match identify_with(call, &|layer| transient_container(&run_root()?, layer)) {
        Ok(target) => target,
        Err(refusal) => return unknown(call, &policy, refusal),
    };
    // Its namespace is on record before CRI-O has anything mounted.
    let place = match &target {
        Target::Image(claimed) => claimed.own.as_ref(),
        Target::Layers(claimed) => claimed.own.as_ref(),
        Target::Volume => None,
    };
    let place = place.and_then(|own| own.container.as_ref()).map(|container| container.place.clone());
    let policy = policy.at(place.unwrap_or_default());
    // Until the mount stands and is on record: whoever comes second finds it.
    let (own, root) = match &target {
        Target::Image(claimed) => (claimed.own.as_ref(), Some(&claimed.root)),
        Target::Layers(claimed) => (claimed.own.as_ref(), Some(&claimed.root)),
        Target::Volume => (None, None),
    };
    let _alone = own.filter(|o| o.work.is_some()).map(|o| uppers::alone(&o.diff, &o.path)).transpose()?;
    // After it is known that the target is a container's: see docs/architecture.md, "Reference counts".
    let at = root.map(|root| open_target(root, call)).transpose()?;
    if mount::again(&call.target, at.as_ref())? {
        return Ok(());
    }
    let onto = Onto { at: at.as_ref(), instead: None };
    let request = Request { call, policy: &policy, onto, written: None };
    match target {
        Target::Image(claimed) => image::start(&request, *claimed),
        Target::Layers(claimed) => layers::start(&request, *claimed),
        Target::Volume => volume(&request),
    }
}

/// What the store's records say nothing of that we could use: shown as the call names it, where no image must be
/// sealed.
fn unknown(call: &Call, policy: &Policy, refusal: Refusal) -> Result<()> {
    let Some(decision) = policy.for_unknown() else { return Err(refusal) };
    let waiver = Waiver::by_policy(&decision, policy.denied(), &Facts::default())?;
    if mount::again(&call.target, None)? {
        return Ok(());
    }
    let audit = decision.mode == Mode::Audit;
    let request = Request { call, policy, onto: Onto::default(), written: None };
    let said = Said { kind: unsealed(&decision), decision: None, would_refuse: audit.then_some(&refusal) };
    if as_called(&request, &waiver, &said).is_err() {
        return Err(refusal);
    }
    if audit {
        common::audit(&refusal, call);
    }
    Ok(())
}

/// An overlay volume of buildah: directories of any kind, which are nobody's sealed image.
fn volume(request: &Request<'_>) -> Result<()> {
    // Whatever is at its target was made for it by the caller.
    let request = Request { onto: Onto::default(), ..*request };
    as_called(&request, &Waiver::for_volume(), &Said { kind: Kind::Volume, decision: None, would_refuse: None })
}

/// Mounts the directories that the call names.
fn as_called(request: &Request<'_>, waiver: &Waiver, said: &Said<'_>) -> Result<()> {
    let call = request.call;
    let upper = match &call.upper {
        None => None,
        Some(upper) => Some(Upper { upper: open(&upper.upper)?, work: open(&upper.work)?, path: upper.upper.clone() }),
    };
    let lowers = call.lowers.iter().map(|path| open(path)).collect::<Result<Vec<_>>>()?;
    let own = Own { upper, ..Own::default() };
    request.attach(Ready::Directories { waiver, lowers, aufs: false }, own, said, |record| record).map(|_| ())
}

/// Opens a directory that a caller names: it is shown, and nothing is concluded from it.
fn open(path: &Path) -> Result<OwnedFd> {
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
    rustix::fs::openat(CWD, path, flags, rustix::fs::Mode::empty())
        .map_err(|e| Refusal::io(path.display().to_string(), e))
}
