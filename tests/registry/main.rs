//! Seals through registries: Debian's docker-registry, which has no referrers API, and ferro-oci-server,
//! which has it; skopeo of two releases; oras as a client that knows nothing of us; and between them and us
//! a gateway that lies, stalls and refuses where a test wants it. `tests/registry/tools.sh` brings them.
//! Everything is on 127.0.0.1.
#![allow(missing_docs)]

mod ci;
mod clients;
mod configuration;
mod faults;
mod gateway;
mod on_mount;
mod real;
mod repair;
mod scene;
mod tls;

use support::{common, host, sandbox, tools};
