//! The kernel: files by descriptor, mounts, fs-verity, keyrings. The only module with `unsafe` code,
//! and the only one that hands paths to the kernel.

// Each block says why it holds.
#![allow(unsafe_code)]

pub mod authorities;
pub mod child;
pub mod draft;
pub mod files;
pub mod filesystems;
pub mod home;
pub mod id_maps;
pub mod key_store;
pub mod keyring;
pub mod mount_namespaces;
pub mod mountinfo;
pub mod mounts;
pub mod new_files;
pub mod openssl;
pub mod overlays;
pub mod peer;
mod pow;
pub mod process;
pub mod rooted_dir;
pub mod same_paths;
pub mod scratch;
pub mod selinux;
pub mod socket;
pub mod statmount;
pub mod times;
pub mod userns;
pub mod verity;
pub mod workers;
