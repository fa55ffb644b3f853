//! A conversation with root's service for users: what is sent, and what comes back.

use std::os::fd::{AsFd as _, BorrowedFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::time::{Duration, Instant};

use crate::error::{Case, Refusal, Result};
use crate::policy::Mode;
use crate::serve::protocol::{MAX_ANSWER, Question, SOCKET, ServiceAnswer, ServiceCall};
use crate::serve::{UserMount, VouchedImage};
use crate::sys::socket::Conversation;

/// Longer than the service lets a call take.
const PATIENCE: Duration = Duration::from_secs(25);

/// Why the service mounted nothing, or would not.
pub(super) struct No {
    pub(super) refusal: Refusal,
    /// What root's policy asks of the image; `None` if that is not known.
    pub(super) mode: Option<Mode>,
}

impl From<Refusal> for No {
    fn from(refusal: Refusal) -> Self {
        Self { refusal, mode: None }
    }
}

/// What the service gave.
enum Given {
    Mount(OwnedFd, Option<Box<UserMount>>),
    Vouched(VouchedImage),
    Mounts(Vec<UserMount>),
}

/// Returns an error if there is no service.
///
/// # Errors
/// [`Case::Rootless`].
pub(super) fn is_there() -> Result<()> {
    std::fs::metadata(SOCKET).map(drop).map_err(|e| Refusal::new(Case::Rootless, SOCKET, e))
}

/// Asks for a mount, which comes with its record if a hook asks.
///
/// # Errors
/// Why there is none.
pub(super) fn mount(
    header: &ServiceCall,
    descriptors: &[BorrowedFd<'_>],
    documents: &[&Vec<u8>],
) -> std::result::Result<(OwnedFd, Option<Box<UserMount>>), No> {
    match call(header, descriptors, documents)? {
        Given::Mount(mount, record) => Ok((mount, record)),
        Given::Vouched(_) | Given::Mounts(_) => Err(other()),
    }
}

/// Asks whether an image would be mounted.
///
/// # Errors
/// Why it would not.
pub(super) fn verdict(header: &ServiceCall, documents: &[&Vec<u8>]) -> std::result::Result<VouchedImage, No> {
    match call(header, &[], documents)? {
        Given::Vouched(vouched) => Ok(vouched),
        Given::Mount(..) | Given::Mounts(_) => Err(other()),
    }
}

/// Asks what the service has mounted for this user. Some of these mounts may be gone.
///
/// # Errors
/// [`Case::Rootless`], [`Case::R06Service`], and what the service refuses.
pub fn mounts_of_user() -> Result<Vec<UserMount>> {
    mounts_of(None)
}

/// Asks what the service has mounted for this user, as this filesystem: one mount at most, with everything that is on
/// record of it.
///
/// # Errors
/// As for [`mounts_of_user`].
pub(super) fn mount_of_user(device: (u32, u32)) -> Result<Option<UserMount>> {
    Ok(mounts_of(Some(device))?.into_iter().find(|mount| mount.device == device))
}

fn mounts_of(device: Option<(u32, u32)>) -> Result<Vec<UserMount>> {
    let mut header = ServiceCall::new();
    header.asks = Question::Mounts;
    header.device = device;
    match call(&header, &[], &[]).map_err(|no| no.refusal)? {
        Given::Mounts(mounts) => Ok(mounts),
        Given::Mount(..) | Given::Vouched(_) => Err(other().refusal),
    }
}

fn other() -> No {
    Refusal::new(Case::R06Service, SOCKET, "an answer to another question").into()
}

fn call(
    header: &ServiceCall,
    descriptors: &[BorrowedFd<'_>],
    documents: &[&Vec<u8>],
) -> std::result::Result<Given, No> {
    let service = UnixStream::connect(SOCKET).map_err(|e| Refusal::new(Case::Rootless, SOCKET, e))?;
    let mut talk = Conversation::new(service.as_fd(), Instant::now() + PATIENCE);
    let mut sent = talk.send(&header.header()?, descriptors);
    for document in documents {
        sent = sent.and_then(|()| talk.send(document, &[]));
    }
    // A service that refuses early does not read everything, but has answered.
    answer(&mut talk).map_err(|no| match (sent, &no.mode) {
        (Err(e), None) if no.refusal.case() == Case::R06Service => Refusal::new(Case::R06Service, SOCKET, e).into(),
        _ => no,
    })
}

fn answer(talk: &mut Conversation<'_>) -> std::result::Result<Given, No> {
    let refuse = |e: std::io::Error| Refusal::new(Case::R06Service, SOCKET, e);
    let mut length = [0; 4];
    talk.receive(&mut length).map_err(refuse)?;
    let length = u32::from_le_bytes(length);
    if length > MAX_ANSWER {
        return Err(Refusal::new(Case::R06Service, SOCKET, format!("an answer of {length} bytes")).into());
    }
    let mut bytes = vec![0; length as usize];
    talk.receive(&mut bytes).map_err(refuse)?;
    match (ServiceAnswer::parse(&bytes)?, talk.descriptors().pop()) {
        (ServiceAnswer::Refused(refused), _) => Err(No { refusal: refused.refusal(), mode: refused.mode }),
        (ServiceAnswer::Mounted, Some(mount)) => Ok(Given::Mount(mount, None)),
        (ServiceAnswer::Root(record), Some(mount)) => Ok(Given::Mount(mount, Some(record))),
        (ServiceAnswer::Mounted | ServiceAnswer::Root(_), None) => {
            Err(Refusal::new(Case::R06Service, SOCKET, "no mount came with it").into())
        }
        (ServiceAnswer::Verified(vouched), _) => Ok(Given::Vouched(*vouched)),
        (ServiceAnswer::Mounts(mounts), _) => Ok(Given::Mounts(mounts)),
    }
}
