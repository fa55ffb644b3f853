//! From layers to EROFS images: tar streams become entries, entries become trees, trees become the
//! bytes that are sealed. Pure but for the reader that it is given.

mod acl;
mod ahead;
mod compare;
mod contents;
mod erofs;
mod in_order;
mod layer;
mod listing;
mod stack;
mod stream;
mod tar;
mod tar_split;
mod tree;
mod unpack;

pub use compare::same_meaning;
pub use contents::{
    ContainerImages, Contents, ErofsImages, Keep, LayerBlob, LayerVisitor, Progress, ReadOnly, Take, TreeDigests,
};
pub use erofs::{Writer, Written, objects};
pub use layer::{ContentSink, HashOnly, LayerContent, read_layer};
pub use listing::{External, external_files};
pub use stack::{LayerTree, Stack};
pub use tar::{Entry, Kind};
pub use tar_split::{FileContent, Skeleton, diff_id};
pub use tree::{Images, dumpfile};
