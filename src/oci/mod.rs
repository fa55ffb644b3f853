//! OCI documents and where they lie: references, repositories, manifests, blob stores, layouts. Bytes
//! against descriptors, nothing more: what is read here is a claim until `verify` says otherwise.

mod budget;
mod document;
mod facts;
pub mod go_json;
mod image;
mod layout;
pub mod name;
mod platform;
mod reference;
mod repository;
mod store;
pub mod strict_json;

pub use budget::Budget;
pub(crate) use document::{Document, document};
pub use document::{Named, named};
pub use facts::{Facts, WrittenFacts};
pub use image::{Compression, Image, Instance, Layer};
pub(crate) use image::{blob_digest, sorted};
pub use layout::Layout;
pub(crate) use layout::{INDEX, fallback_tag, referrers_index};
pub use platform::Platform;
pub use reference::Reference;
pub use repository::Repository;
pub use store::BlobStore;
