//! OCI documents and where they lie: references, repositories, manifests, blob stores, layouts. Bytes
//! against descriptors, nothing more: what is read here is a claim until `verify` says otherwise.

mod budget;
mod facts;
pub mod go_json;
mod image;
mod layout;
pub mod name;
mod reference;
mod repository;
mod store;
pub mod strict_json;

pub use budget::Budget;
pub use facts::{Facts, WrittenFacts};
pub use image::{Compression, Image, Instance, Layer, Named, Platform, named};
pub(crate) use image::{Document, blob_digest, document, sorted};
pub use layout::Layout;
pub(crate) use layout::{INDEX, fallback_tag, referrers_index};
pub use reference::Reference;
pub use repository::Repository;
pub use store::BlobStore;
