//! Housekeeping: what the host denies, what the vault gives up, and what it finds damaged.
#![allow(missing_docs)]

#[path = "../common/mod.rs"]
mod common;

mod deny;
