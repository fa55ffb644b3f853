//! What the verbs do: the floor that decides, between the words of the command line and the rooms that know how.
//!
//! A verb makes a request of the words it was given, hands it to a function here, and prints what
//! comes back. Nothing here prints or asks on a terminal: how far work has come goes to a [`Progress`], a warning to
//! the log.

mod context;
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
mod plan;
mod prepare;
mod progress;
mod pull;
mod push;
mod seals;
mod sign;
mod stored;
mod trust;
mod verify;

pub use context::Context;
pub use digest::{DigestRequest, digest, directory_digest};
pub use fetch::{FetchRequest, fetch_seals};
pub use fsck::{Fscked, fsck};
pub use gc::{GcRequest, gc};
pub use images::{ListedImage, images, tag, untag};
pub use inline::{SealRequest, seal};
pub use inspect::{Inspected, InspectedSeal, SealKind, inspect};
pub use key::{Key, signer};
pub use locate::{Located, Place, Remote};
pub use mount::{MountRequest, Mounting, mount};
pub use plan::{Item, Plan, Statement};
pub use prepare::{PrepareRequest, Readiness, prepare};
pub use progress::{Progress, Step, Task};
pub use pull::{PullRequest, Pulled, pull};
pub use push::{PushRequest, Pushed, push};
pub use seals::SealSources;
pub use sign::{AttachRequest, Attached, SignRequest, SignedInstance, attach, sign};
pub use stored::{Choice, Outcome};
pub use trust::Trust;
pub use verify::{Verified, VerifyRequest, verify};
