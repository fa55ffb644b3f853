//! What contrib/kubernetes puts on nodes: the files against the schemas of the Kubernetes API, which
//! `tests/kubernetes/tools.sh` brings, and the installer against the root filesystem of a node that is made for it.
#![allow(missing_docs)]

mod files;
mod image;
mod install;
mod node;
