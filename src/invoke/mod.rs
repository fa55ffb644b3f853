//! What a container runtime handed us, parsed and nothing else: no file is opened here.
//!
//! That is containers-storage's `mount_program` (containers-storage.conf(5)), which podman, CRI-O and
//! buildah call in the place of mount(2), and OCI hooks, which OCI runtimes and podman call.

mod id_map;
mod mount_program;
mod native;
mod oci_hook;
mod split;
#[cfg(test)]
mod tests;

pub use id_map::{Extent, IdMapping};
pub use mount_program::{Call, Invocation, Requests, Restrictions, Upper, Verity, looks_like_mount_program, parse};
pub use native::Native;
pub use oci_hook::{Bundle, Config, Mount, State, config, state};
