//! The kernel: files by descriptor, mounts, fs-verity, keyrings. The only room with `unsafe` code,
//! and the only one that hands paths to the kernel.

// Each block says why it holds.
#![allow(unsafe_code)]

pub mod child;
pub mod draft;
pub mod files;
pub mod key_store;
pub mod keyring;
pub mod mounts;
pub mod new_files;
pub mod overlays;
pub mod process;
pub mod statmount;
pub mod userns;
pub mod verity;
