//! OCI documents and where they lie: references, manifests, blob stores, layouts. Bytes against
//! descriptors, nothing more: what is read here is a claim until `verify` says otherwise.

mod budget;
mod image;
mod layout;
mod reference;
mod store;
pub mod strict_json;

pub use budget::Budget;
pub use image::{Compression, Image, Layer, Platform};
pub(crate) use image::{blob_digest, sorted};
pub use layout::Layout;
pub use reference::Reference;
pub use store::BlobStore;
