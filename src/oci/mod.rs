//! OCI documents and where they are: references, repositories, manifests, blob stores, layouts. Bytes are compared with
//! descriptors, nothing more: what is read here is a claim until `verify` says otherwise.

mod budget;
mod deny_subjects;
mod document;
pub mod go_json;
mod id;
mod image;
mod layout;
mod layout_search;
pub mod name;
mod platform;
mod reference;
mod repository;
mod store;
pub mod strict_json;

pub use budget::Budget;
pub use deny_subjects::{DenySubjects, DenySubjectsText};
pub(crate) use document::{ManifestOrIndex, document};
pub use document::{NamedDigests, named};
pub use id::{ContainerId, ImageId, LayerId, is_id, is_image_id};
pub use image::{Compression, Image, Instance, Layer};
pub(crate) use image::{blob_digest, sorted};
pub use layout::Layout;
pub(crate) use layout::{INDEX, fallback_tag, referrers_index};
pub use platform::Platform;
pub use reference::Reference;
pub use repository::{RegistryName, Repository};
pub use store::BlobStore;
