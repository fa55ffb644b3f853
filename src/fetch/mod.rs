//! Registries: images, and seals that are kept beside them. The only module that knows the network, and nothing that it
//! brings is believed: every byte is compared with its digest on the way, and `verify` says what a seal is worth.
//!
//! | asked of | through |
//! |---|---|
//! | referrers | a client of our own: skopeo has none |
//! | manifests and indexes, where there is no mirror and policy.json accepts anything | the same client, as starting skopeo takes longer than all of it |
//! | configs and signatures, where there is no mirror | the same |
//! | what that cannot have, manifests by digest, layers | containers-image-proxy (skopeo) |
//! | the same, tags and indexes; what goes into a registry | skopeo |

mod agent;
mod auth;
mod certs_d;
mod challenge;
mod client;
mod clients;
mod clock;
mod environment;
mod error;
mod image_policy;
mod link;
mod proxy;
mod push;
mod referrers;
mod registries;
mod registries_conf;
mod remote;
mod seals;
mod session;
mod skopeo;
mod staging;

use std::path::PathBuf;

use tokio::runtime::Runtime;

use crate::oci::Budget;
use client::SessionCache;
use clock::Clock;

pub use client::Contact;
pub use clients::FetchedDocument;
pub use error::said;
pub use session::Session;
pub use staging::{Staging, sweep_staging};

/// How to reach registries; the rest is in the containers tools' own configuration.
#[derive(Clone, Debug)]
pub struct Options {
    /// Whether TLS is required; if not, registries.conf still applies.
    pub tls_verify: bool,
    /// The one file with credentials, in place of the usual ones (containers-auth.json(5)).
    pub authfile: Option<PathBuf>,
    /// The one directory with certificates, in place of `certs.d/HOST` (containers-certs.d(5)).
    pub cert_dir: Option<PathBuf>,
}

impl Default for Options {
    fn default() -> Self {
        Self { tls_verify: true, authfile: None, cert_dir: None }
    }
}

/// What every question to a registry needs.
struct FetchContext<'a> {
    options: &'a Options,
    budget: &'a Budget,
    clock: &'a Clock,
    runtime: &'a Runtime,
    cache: &'a SessionCache,
}
