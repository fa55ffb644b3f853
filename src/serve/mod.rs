//! A service of root's that mounts images for users: an EROFS image may be mounted because of a trusted signature over
//! its fs-verity digest, and not because of who asks.
//!
//! ```text
//! caller ─► protocol ─► caller ─► decide ─► directories ─► prepare::handed ─► mount::handed ─► caller
//! bytes,    sizes,      its user  root's    the caller's   the descriptor     one overlay,     by descriptor
//! fds       no paths    namespace policy    own            is measured        attached nowhere
//! ```
//!
//! Each call is a separate process, which ends after a few seconds whatever happens: a caller may never stop sending,
//! and a file that it hands in may never answer. The service remembers nothing except who called how often.

mod caller;
mod decide;
mod directories;
mod limits;
pub mod protocol;
mod record;
mod service;
mod worker;

pub use record::{UpperId, UserMount, VouchedImage, of_all_users, sweep_user_mounts};
pub use service::{ServeOptions, serve};
