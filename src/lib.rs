//! layerseal
#![deny(missing_docs)]
pub mod cli;
pub mod digest;
pub mod image;
pub mod mount;
pub mod oci;
pub mod pki;
pub mod prepare;
pub mod report;
pub mod seal;
pub mod sys;
pub mod vault;
pub mod verify;
