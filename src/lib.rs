//! layerseal makes a container start only from a filesystem that somebody you trust has sealed, and
//! keeps the kernel checking every byte while it runs.
//!
//! **The library is not a stable API.** It is for the binary and the tests: anything in it may change with any version.
//! What is stable is in `docs/releasing.md`.
//!
//! Data goes one way; a module imports those before it, and never one behind it (`docs/architecture.md`):
//!
//! ```text
//! cli ─► oci ─────► seal ─────► verify ───► prepare ───► mount
//! what   image and  its seals   decide:     objects and  composefs
//! was    layers     (claims)    PKCS#7,     EROFS with   overlay at
//! asked  (claims)               layers      fs-verity    the target
//! ```
//!
//! The order cannot be got wrong: [`mount::mount`] takes a [`prepare::PreparedImage`], which only
//! [`prepare::prepare`] makes, from a [`verify::VerifiedImage`], which only [`mod@verify`] makes.
//!
//! | module | holds |
//! |---|---|
//! | [`error`] | refusals: one enum, with exit codes and remedies |
//! | [`digest`] | digests of blobs and of files (fs-verity) |
//! | [`sys`] | the kernel; `unsafe` for its calls |
//! | [`state`] | what this host keeps in `/run` and `/var/lib` |
//! | [`oci`] | references, manifests, layouts, budgets |
//! | [`pki`] | PKCS#7 and certificates |
//! | [`protocol`] | what a container runtime asked for |
//! | [`container_store`] | which image of containers-storage that is (claims) |
//! | [`image`] | layers → trees → EROFS images |
//! | [`policy`] | what this host asks of images |
//! | [`seal`] | the formats of seals, read and written |
//! | [`fetch`] | registries: images, and seals beside them |
//! | [`mod@verify`] | the only module that can say yes |
//! | [`vault`] | what this host holds |
//! | [`mod@prepare`] | files in the vault, with fs-verity, measured |
//! | [`mod@mount`] | the mount |
//! | [`mod@serve`] | the service that mounts for users |
//! | [`start`] | a runtime's call, from its first word to the mount |
//! | [`hook`] | OCI hooks: a container's root, before it is started |
//! | [`ops`] | what the verbs do: requests in, results out |
//! | [`cli`] | the command line: words in, lines out |
#![deny(missing_docs)]

pub mod cli;
pub mod container_store;
pub mod digest;
pub mod error;
pub mod fetch;
pub mod hook;
pub mod image;
pub mod mount;
pub mod oci;
pub mod ops;
pub mod pki;
pub mod policy;
pub mod prepare;
pub mod protocol;
pub mod seal;
pub mod serve;
pub mod start;
pub mod state;
pub mod sys;
pub mod vault;
pub mod verify;
