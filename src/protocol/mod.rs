//! What a container runtime handed us, parsed and nothing else: no file is opened here.
//!
//! These are calls of containers-storage's `mount_program` (containers-storage.conf(5)), which podman, CRI-O and
//! buildah use instead of mount(2); of OCI hooks, by OCI runtimes and podman; and of OCI runtimes, by podman and CRI-O.

mod bundle;
mod id_map;
mod mount_program;
mod native;
mod oci_hook;
mod oci_runtime;
mod split;
#[cfg(test)]
mod tests;

pub use bundle::{Bundle, MAX_INPUT, read_config};
pub use id_map::{Extent, IdMapping};
pub use mount_program::{Invocation, MountCall, Requests, Restrictions, UpperPaths, looks_like_mount_program, parse};
pub use native::Native;
pub use oci_hook::{BindMount, ContainerConfig, ContainerState, config, redirection, root_of, state};
pub use oci_runtime::{Log, RuntimeCall, Start, Verb, runtime_call, runtime_log};
pub use split::lowers;
