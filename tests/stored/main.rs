//! Images of a real container store: what their directories and tar-split tables make is what their
//! blobs make.
#![allow(missing_docs)]

#[path = "../common/mod.rs"]
mod common;

mod import;
