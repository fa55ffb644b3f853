//! What the verbs do. Decisions are made here: `cli` parses words and prints, the modules below know how.
//!
//! A verb makes a request from the words it was given, hands it to a function here, and prints the result. Nothing here
//! prints or asks on a terminal: progress goes to a [`Progress`], a warning to the log.

mod check;
mod context;
mod deny;
mod digest;
pub mod doctor;
mod fetch;
mod fsck;
mod gc;
mod images;
mod inline;
mod inspect;
mod key;
mod locate;
mod mount;
mod names;
mod plan;
mod prepare;
mod progress;
mod pull;
mod push;
mod report;
mod seals;
mod setup;
mod sign;
mod sign_push;
mod status;
mod stored;
mod trust;
mod trusted;
mod vault;
mod verify;

pub use check::{CheckRequest, CheckedContainer, CheckedImage, Checks, check};
pub use context::Context;
pub use deny::{DeniedEntry, deny};
pub use digest::{DigestRequest, digest, directory_digest};
pub use fetch::{FetchRequest, fetch_seals};
pub use fsck::{ByHand, FsckReport, fsck};
pub use gc::{Collected, GcRequest, KeptByMount, RemovedImage, gc};
pub use images::{ListedImage, images, tag, untag};
pub use inline::{SealRequest, seal};
pub use inspect::{Inspected, InspectedSeal, SealKind, inspect};
pub use key::{KeyFiles, signer};
pub use locate::{ImageLocation, Located, RemoteImage};
pub use mount::{MountRequest, Mounting, mount};
pub use names::{HostNames, ImageNames};
pub use plan::{Plan, PlanItem, Statement};
pub use prepare::{PrepareRequest, Readiness, prepare};
pub use progress::{Progress, Step, Task};
pub use pull::{PullRequest, Pulled, pull};
pub use push::{PushRequest, Pushed, push};
pub use report::{Period, Report, ReportSource, ReportedGroup, report};
pub use seals::SealSources;
pub use setup::{ModeRequest, ModeResult, Setup, set_mode, setup};
pub use sign::{AttachRequest, Attached, SignRequest, SignedInstance, attach, sign};
pub use sign_push::{SignPushRequest, sign_and_push};
pub use status::{HostStatus, UnverifiedRoot, status};
pub use stored::{ImageSelection, StoredOutcome};
pub use trust::Trust;
pub use trusted::{ListedStore, TrustAdded, TrustedNow, list_trust, trust};
pub use vault::{MadeVault, VaultRequest, create as create_vault};
pub use verify::{Verified, VerifyRequest, verify};
