//! From layers to EROFS images: tar streams become entries, entries become trees, trees become the bytes that are
//! sealed. Pure, except for the reader that it is given.

mod acl;
mod compare;
mod contents;
mod erofs;
mod file_tree;
mod layer;
mod listing;
mod ordered;
mod read_ahead;
mod stack;
mod stream;
mod tar;
mod tar_split;
mod tree;
mod unpack;
mod unpacked_attributes;

pub use compare::same_meaning;
pub use contents::{
    ContainerImages, Contents, ContentsRequest, ErofsImages, Keep, LayerBlob, LayerVisitor, ReadOnly, ReadProgress,
    TakeEntries, TreeDigests,
};
pub use erofs::{Writer, WrittenImages, objects};
pub use layer::{ContentSink, HashOnly, LayerContent, read_layer};
pub use listing::{External, external_files};
pub use stack::{LayerTree, Stack};
pub use tar::{EntryKind, TarEntry};
pub use tar_split::{FileContent, Skeleton, diff_id};
pub use tree::{Images, dumpfile};
