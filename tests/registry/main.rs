//! Seals through registries: Debian's docker-registry, which has no referrers API, and ferro-oci-server,
//! which has it; skopeo of two releases; oras as a client that knows nothing of us; and between them and us
//! a gateway that lies, stalls and refuses where a test wants it. `tests/registry/tools.sh` brings them.
//! Everything is on 127.0.0.1.
#![allow(missing_docs)]

#[path = "../common/mod.rs"]
mod common;

mod faults;
mod gateway;
#[path = "../start/host.rs"]
#[allow(dead_code)]
mod host;
mod on_mount;
mod real;
mod repair;
#[path = "../start/sandbox.rs"]
#[allow(dead_code)]
mod sandbox;
mod tls;
mod tools;
