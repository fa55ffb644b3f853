//! What a container runtime handed us, parsed and nothing else: no file is opened here.
//!
//! That is containers-storage's `mount_program` (containers-storage.conf(5)), which podman, CRI-O and
//! buildah call in the place of mount(2), OCI hooks, which OCI runtimes and podman call, and OCI runtimes, which
//! podman and CRI-O call.

mod id_map;
mod mount_program;
mod native;
mod oci_hook;
mod oci_runtime;
mod split;
#[cfg(test)]
mod tests;

pub use id_map::{Extent, IdMapping};
pub use mount_program::{Call, Invocation, Requests, Restrictions, Upper, looks_like_mount_program, parse};
pub use native::Native;
pub use oci_hook::{Bundle, Config, Mount, State, config, root_of, state};
pub use oci_runtime::{Log, RuntimeCall, Start, Verb, runtime_call, runtime_log};
