//! One call, from its first byte to the mount, in its own process.

use std::fs::File;
use std::os::fd::{AsFd as _, OwnedFd};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::{Duration, Instant};

use super::caller::CallingUser;
use super::protocol::{HandedPart, MAX_ANSWER, MAX_HEADER, Question, ServiceAnswer, ServiceCall};
use super::record::{self, UpperId, UserMount, VouchedImage};
use super::{decide, directories};
use crate::error::{Case, Refusal, Result, journal};
use crate::mount::{self, Handed, HandedUpper, MountOptions};
use crate::oci::Budget;
use crate::pki;
use crate::policy::{Decision, Directories, Mode, Policy, Verity};
use crate::prepare;
use crate::state;
use crate::sys::mounts;
use crate::sys::openssl::{self, Openssl};
use crate::sys::peer::Peer;
use crate::sys::process;
use crate::sys::socket::Conversation;
use crate::sys::userns;
use crate::verify::VerifiedImage;

/// How long a caller may take to read the answer, for which the socket has room.
const ANSWER: Duration = Duration::from_secs(1);

/// What a call comes to.
enum Answered {
    Mount(OwnedFd, ServiceAnswer),
    Told(ServiceAnswer),
}

/// Answers the call of `peer`, for which `user` answers; it comes over `socket`, and must have arrived completely by
/// `until`.
pub(super) fn answer(socket: &UnixStream, peer: &Peer, user: u32, until: Instant) {
    let mut talk = Conversation::new(socket.as_fd(), until);
    let mut mode = None;
    let done = work(&mut talk, peer, user, &mut mode);
    // A caller that was too slow is told so.
    let talk = Conversation::new(socket.as_fd(), Instant::now() + ANSWER);
    match done {
        Ok(Answered::Mount(mount, answer)) => {
            let _ = talk.send(&answer.bytes(), &[mount.as_fd()]);
            // Before the socket: the caller waits for that, and may want to unmount it.
            drop(mount);
        }
        Ok(Answered::Told(answer)) => {
            let _ = talk.send(&answer.bytes(), &[]);
        }
        Err((refusal, asks)) => {
            // Of questions nothing is written down: nothing was to be mounted.
            if asks == Question::Mount {
                journal::refused(&refusal, &format!("user {}", peer.uid), "serve");
                process::tell(&format!("user {}: {refusal}", peer.uid));
            }
            let _ = talk.send(&ServiceAnswer::refused(&refusal, mode).bytes(), &[]);
        }
    }
}

fn work(
    talk: &mut Conversation<'_>,
    peer: &Peer,
    user: u32,
    mode: &mut Option<Mode>,
) -> std::result::Result<Answered, (Refusal, Question)> {
    let caller = CallingUser::of(peer);
    let received = receive(talk);
    let asks = received.as_ref().map_or(Question::Mount, |(call, _)| call.asks);
    let done = match (asks, received) {
        // Whoever asks what is theirs may be in any namespace.
        (Question::Verdict, Ok((call, documents))) => verdict(&call, documents, mode),
        (Question::Mounts, Ok((call, _))) => mounts_of(user, call.device),
        (_, received) => caller.and_then(|caller| mount(talk, (&caller, user), received?, mode)),
    };
    done.map_err(|refusal| (refusal, asks))
}

fn verdict(call: &ServiceCall, documents: Vec<Vec<u8>>, mode: &mut Option<Mode>) -> Result<Answered> {
    openssl::start(Openssl::Verify);
    let policy = Policy::load(&Directories::system())?;
    let decision = policy.decide(&call.names);
    *mode = Some(decision.mode);
    let verified = decide::decide(&policy, &decision, call, documents)?;
    Ok(Answered::Told(ServiceAnswer::Verified(Box::new(vouched(&verified, &decision)?))))
}

fn vouched(verified: &VerifiedImage, decision: &Decision) -> Result<VouchedImage> {
    let image = verified.image().ok_or_else(|| Refusal::new(Case::Bug, "image", "none"))?;
    Ok(VouchedImage::new(image.digest, verified, decision.mode, &decision.source))
}

fn mounts_of(user: u32, device: Option<(u32, u32)>) -> Result<Answered> {
    let mut records = record::of_user(user, device).map_err(|e| Refusal::io("records of users' mounts", e))?;
    if device.is_some() && !records.is_empty() {
        // For a start: what was right when it was mounted may be so no more.
        openssl::start(Openssl::Read);
        let policy = Policy::load(&Directories::system())?;
        records.iter().try_for_each(|record| decide::stands(&policy, record))?;
    }
    records.sort_by_key(|record| std::cmp::Reverse(record.since));
    let mut answer = ServiceAnswer::Mounts(records);
    // The newest, if there is no room for all.
    while answer.bytes().len() > MAX_ANSWER as usize
        && let ServiceAnswer::Mounts(records) = &mut answer
    {
        records.truncate(records.len() / 2);
    }
    Ok(Answered::Told(answer))
}

fn mount(
    talk: &mut Conversation<'_>,
    (caller, user): (&CallingUser, u32),
    (call, documents): (ServiceCall, Vec<Vec<u8>>),
    mode: &mut Option<Mode>,
) -> Result<Answered> {
    let mut parts = Parts::new(&call, talk.descriptors())?;
    record::has_room(user)?;
    openssl::start(Openssl::Verify);
    // Of signatures by whom the host trusts: a user can add none.
    pki::keep_facts();
    let policy = Policy::load(&Directories::system())?;
    let decision = policy.decide(&call.names);
    *mode = Some(decision.mode);
    let verified = decide::decide(&policy, &decision, &call, documents)?;
    let objects = parts.take(HandedPart::Objects)?;
    directories::check_mount(caller, &objects, "objects")?;
    if decision.verity == Verity::Off {
        check_links()?;
        directories::only_callers(caller, &objects)?;
    }
    let above = parts.optional(HandedPart::Above);
    above.iter().try_for_each(|above| directories::check_mount(caller, above, "above"))?;
    let upper = match parts.optional(HandedPart::Layer) {
        None => None,
        Some(mount) => {
            let (upper, work) = (parts.take(HandedPart::Upper)?, parts.take(HandedPart::Work)?);
            directories::check_upper(caller, &mount, &upper, &work)?;
            Some(HandedUpper { mount, upper, work })
        }
    };
    let (namespace, ids) = caller.shown(parts.optional(HandedPart::Namespace))?;
    let erofs = File::from(parts.take(HandedPart::Erofs)?);
    let image = prepare::handed(&verified, erofs, objects, decision.verity, &Budget::STANDARD)?;
    let how = MountOptions {
        volatile: call.volatile && upper.is_some(),
        // Device files would be the host's, whatever the policy says about root's own containers.
        dev: false,
        nosuid: call.nosuid || policy.mount().nosuid,
        noexec: call.noexec || upper.as_ref().is_some_and(|upper| directories::is_noexec(&upper.upper)),
        ..MountOptions::default()
    };
    let owner = (caller.uid, caller.gid);
    let io = |e| Refusal::io("upper", e);
    let upper_id = upper.as_ref().map(|upper| UpperId::of(&upper.upper)).transpose().map_err(io)?;
    let has_above = above.is_some();
    let (mount, shows) = mount::handed(&image, Handed { namespace, upper, above, owner, how, native: call.native })?;
    let message = format!("mounted for user {}: {}", caller.uid, image.description());
    journal::record(journal::JournalDecision::Allowed, &message, &[("SUBJECT", image.description())]);
    state::make_base(state::RUN).map_err(|e| Refusal::io(state::RUN, e))?;
    let vouched = vouched(&verified, &decision)?;
    let kept = mounts::identify(&mount).map_err(std::io::Error::from).and_then(|mount| {
        let record = UserMount {
            user,
            device: mount.device,
            source: image.description().to_owned(),
            vouched,
            verity: image.mode() == Verity::Require,
            since: process::now(),
            names: call.names,
            whole: !has_above,
            shows,
            upper: upper_id,
            ids,
            config: verified.image().map(|image| image.config_digest),
            facts: Some(verified.facts()),
        };
        record.keep().map(|()| record)
    });
    let answer = match kept {
        Ok(record) if call.native => ServiceAnswer::Root(Box::new(record)),
        Ok(_) => ServiceAnswer::Mounted,
        // A hook would refuse it.
        Err(e) if call.native => return Err(Refusal::io("record of the mount", e)),
        Err(e) => {
            log::warn!("user {}: no record of a mount: {e}", caller.uid);
            ServiceAnswer::Mounted
        }
    };
    // The last step: afterwards this process is in the caller's namespaces.
    let mount = userns::hand_over(mount, Path::new(state::RUN), &caller.namespace)
        .map_err(|e| Refusal::new(Case::I05Attach, "the caller's user namespace", e))?;
    Ok(Answered::Mount(mount, answer))
}

/// Receives the header and the documents of a call.
fn receive(talk: &mut Conversation<'_>) -> Result<(ServiceCall, Vec<Vec<u8>>)> {
    let refuse = |e: std::io::Error| Refusal::new(Case::R01Call, "", e);
    let mut length = [0; 4];
    talk.receive(&mut length).map_err(refuse)?;
    let length = u32::from_le_bytes(length);
    if length > MAX_HEADER {
        return Err(Refusal::new(Case::R01Call, "", format!("a header of {length} bytes")));
    }
    let mut header = vec![0; length as usize];
    talk.receive(&mut header).map_err(refuse)?;
    let call = ServiceCall::parse(&header)?;
    let mut documents = Vec::new();
    for size in &call.documents {
        // Their total size is limited.
        let mut document = vec![0; usize::try_from(*size).unwrap_or(0)];
        talk.receive(&mut document).map_err(refuse)?;
        documents.push(document);
    }
    Ok((call, documents))
}

/// The descriptors of a call, each with what it is.
struct Parts(Vec<(HandedPart, OwnedFd)>);

impl Parts {
    fn new(call: &ServiceCall, descriptors: Vec<OwnedFd>) -> Result<Self> {
        if descriptors.len() != call.descriptors.len() {
            let why = format!("{} descriptors, the header names {}", descriptors.len(), call.descriptors.len());
            return Err(Refusal::new(Case::R01Call, "", why));
        }
        Ok(Self(call.descriptors.iter().copied().zip(descriptors).collect()))
    }

    fn optional(&mut self, part: HandedPart) -> Option<OwnedFd> {
        let at = self.0.iter().position(|(p, _)| *p == part)?;
        Some(self.0.swap_remove(at).1)
    }

    fn take(&mut self, part: HandedPart) -> Result<OwnedFd> {
        self.optional(part).ok_or_else(|| Refusal::new(Case::R01Call, "", format!("no {part:?}")))
    }
}

/// Checks the sysctl that protects links (proc_sys_fs(5)): if objects are not measured, anything that has a name among
/// them is one, and with this setting a user can only give names to its own files.
fn check_links() -> Result<()> {
    const SETTING: &str = "/proc/sys/fs/protected_hardlinks";
    crate::sys::files::check_proc()?;
    let set = std::fs::read_to_string(SETTING).map_err(|e| Refusal::io(SETTING, e))?;
    links(&set)
}

fn links(setting: &str) -> Result<()> {
    match setting.trim() {
        "1" => Ok(()),
        other => Err(Refusal::new(Case::R07Links, "fs.protected_hardlinks", other)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn r07_names_for_files_of_others_are_none_to_rely_on() {
        assert!(links("1\n").is_ok());
        for setting in ["0\n", "", "2\n", "01\n"] {
            assert_eq!(links(setting).unwrap_err().case(), Case::R07Links, "{setting:?}");
        }
    }
}
