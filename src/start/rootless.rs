//! Containers of users: the image is prepared as that user, in the user's own store, and mounted by root's service,
//! which decides by root's policy and trusts nothing that is found out here.

use std::ffi::OsString;

use super::common::{audit, vault_if_any, vault_of};
use super::dry_run::{Expected, StartVerdict, Vouched};
use super::service_call::{self, No};
use super::service_request::ServiceRequest;
use crate::container_store::{CallTarget, ClaimedImage, RequestedBy, identify, open_target};
use crate::digest::BlobDigest;
use crate::error::{Case, Refusal, Result, journal};
use crate::image::ReadProgress;
use crate::mount;
use crate::policy::{Decision, Directories, Mode, Policy};
use crate::protocol::MountCall;
use crate::serve::VouchedImage;
use crate::sys::mounts;
use crate::vault::Vault;
use crate::verify::SignedBy;

/// Handles a user's call. If `[rootless]` asks nothing, or lets pass what the image lacks, the call is handed to
/// fuse-overlayfs as if that had been called; then this returns only if it cannot be run.
///
/// # Errors
/// Why there is no mount.
pub(super) fn start(argv: &[OsString], call: &MountCall) -> Result<()> {
    let asked = Policy::rootless(&Directories::system())?;
    if asked == Mode::Off {
        return Err(mount::hand_on(argv));
    }
    let No { refusal, mode } = match by_service(call) {
        Ok(()) => return Ok(()),
        Err(no) => no,
    };
    // A rule can ask for less than `[rootless]` does, and not for more.
    let asked = asked.max(mode.unwrap_or(Mode::Enforce));
    if asked == Mode::Enforce || refusal.case() == Case::F06Denied {
        return Err(refusal);
    }
    if asked == Mode::Audit {
        audit(&refusal, call);
    }
    Err(mount::hand_on(argv))
}

fn by_service(call: &MountCall) -> std::result::Result<(), No> {
    // Without a service nothing is read or written. It is called only when all is ready: a call may not take long.
    service_call::is_there()?;
    let claimed = match identify(call)? {
        CallTarget::Image(claimed) => claimed,
        CallTarget::Layers(claimed) => return Err(Refusal::new(Case::B12Layers, "", claimed.why).into()),
        // A volume is nobody's image, in every mode.
        CallTarget::Volume => {
            let refusal = Refusal::new(Case::B12Layers, call.target.display().to_string(), "a volume");
            return Err(No { refusal, mode: Some(Mode::Off) });
        }
    };
    let at = open_target(&claimed.root, call)?;
    if mount::again(&call.target, Some(&at))? {
        return Ok(());
    }
    // The vault that the policy names is root's.
    let vault = vault_of(None, &claimed.root)?;
    let _lock = vault.shared()?;
    let mut request = ServiceRequest::new(&claimed, Some(&vault))?;
    request.call = Some(call);
    request.show_as(call)?;
    let mount = request.mount(&|_| ())?;
    let shown = || call.target.display().to_string();
    mounts::attach(&mount, &at).map_err(|e| Refusal::new(Case::I05Attach, shown(), e))?;
    journal::record(journal::JournalDecision::Allowed, &format!("{}: mounted by the service", shown()), &[]);
    Ok(())
}

/// Finds out what a start of a user's image would come to, if it is asked for as `asked` says; a container's record
/// says that itself. The service decides, by the image's documents. `policy` is for what else is told of a rule.
///
/// # Errors
/// [`Case::F03Policy`] for a policy that cannot be read.
pub fn expect_for_user(
    policy: &Policy,
    claimed: &ClaimedImage,
    asked: Option<&RequestedBy>,
    names: &[String],
) -> Result<Expected> {
    let judged = || {
        service_call::is_there()?;
        let vault = vault_if_any(None, &claimed.root)?;
        let _lock = vault.as_ref().map(Vault::shared).transpose()?;
        let mut request = ServiceRequest::new(claimed, vault.as_ref())?;
        request.asked = asked.or(request.asked);
        let vouched = request.verdict()?;
        let ready = vault.as_ref().is_some_and(|vault| request.is_prepared(vault));
        Ok((vouched, ready))
    };
    let of_user = Policy::rootless(&Directories::system())?;
    let judged = if of_user == Mode::Off { Err(Refusal::new(Case::Rootless, "", "").into()) } else { judged() };
    // The rule for the name that was asked for, as at a start.
    let decision = match asked {
        Some(RequestedBy::Name(name)) => policy.decide(std::slice::from_ref(name)),
        _ => policy.decide(names),
    };
    let manifest = claimed.images.first().map(|candidate| candidate.image.digest);
    Ok(match judged {
        Ok((vouched, ready)) => {
            let VouchedImage { image, seal, mode, rule, .. } = vouched.clone();
            let verdict = StartVerdict::Sealed(Box::new(Vouched { seal, signer: signer(vouched) }));
            let decision = Decision { mode, source: rule, ..decision };
            Expected { decision, manifest: Some(image), verdict, image: None, ready }
        }
        Err(No { refusal, mode }) => unexpected(of_user, mode, decision, refusal, manifest),
    })
}

/// Describes what becomes of something that the service does not vouch for. A rule can ask for less than `[rootless]`
/// does, and not for more.
fn unexpected(
    of_user: Mode,
    mode: Option<Mode>,
    decision: Decision,
    refusal: Refusal,
    manifest: Option<BlobDigest>,
) -> Expected {
    let asked = of_user.max(mode.unwrap_or(Mode::Enforce));
    let source = if mode == Some(asked) { decision.source.clone() } else { "[rootless]".to_owned() };
    let decision = Decision { mode: asked, source, ..decision };
    Expected { verdict: StartVerdict::of(refusal, asked), decision, manifest, image: None, ready: false }
}

/// Describes what becomes of something of a user's that nobody can identify, or that is no image.
///
/// # Errors
/// [`Case::F03Policy`] for a policy that cannot be read.
pub fn expect_unknown_for_user(policy: &Policy, names: &[String], refusal: Refusal) -> Result<Expected> {
    let of_user = Policy::rootless(&Directories::system())?;
    Ok(unexpected(of_user, None, policy.decide(names), refusal, None))
}

fn signer(vouched: VouchedImage) -> Option<SignedBy> {
    let fingerprint = vouched.certificate?;
    Some(SignedBy { subject: vouched.signer?, fingerprint, marks: Vec::new(), anchor: vouched.anchor })
}

/// What has become of a user's image that was made ready.
#[derive(Debug)]
pub enum UserReadiness {
    /// The service has mounted it once, which is now undone.
    Sealed(Box<VouchedImage>),
    /// Containers are started from it by fuse-overlayfs: `audit` lets it pass.
    Audit(Refusal),
    /// Nothing is asked of it.
    Unasked,
}

/// Makes an image of a user's ready: its objects are made, and the service is asked for a mount of it, as a start would
/// ask. This must run in a user namespace of the user's, such as that of `podman unshare`.
///
/// # Errors
/// Why it would not start.
pub fn prepare_for_user(claimed: &ClaimedImage, progress: ReadProgress<'_>) -> Result<UserReadiness> {
    let of_user = Policy::rootless(&Directories::system())?;
    if of_user == Mode::Off {
        return Ok(UserReadiness::Unasked);
    }
    let judged = || {
        service_call::is_there()?;
        let vault = vault_of(None, &claimed.root)?;
        let _lock = vault.shared()?;
        let request = ServiceRequest::new(claimed, Some(&vault))?;
        let vouched = request.verdict()?;
        request.mount(progress)?;
        Ok(vouched)
    };
    let No { refusal, mode } = match judged() {
        Ok(vouched) => return Ok(UserReadiness::Sealed(Box::new(vouched))),
        Err(no) => no,
    };
    match of_user.max(mode.unwrap_or(Mode::Enforce)) {
        _ if refusal.case() == Case::F06Denied => Err(refusal),
        Mode::Enforce => Err(refusal),
        Mode::Audit => Ok(UserReadiness::Audit(refusal)),
        Mode::Off => Ok(UserReadiness::Unasked),
    }
}
