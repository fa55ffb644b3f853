//! The verbs that look after the vault.

use std::path::PathBuf;

use clap::Args as Group;

use super::RegistryArgs;
use crate::oci::Reference;

/// `layerseal images`
#[derive(Debug, Group)]
pub struct Images {
    /// Print JSON
    #[arg(long)]
    pub json: bool,
}

/// `layerseal tag`
#[derive(Debug, Group)]
pub struct Tag {
    /// An image in the vault
    pub image: Reference,
    /// Its new name
    pub name: String,
    /// Print JSON
    #[arg(long)]
    pub json: bool,
}

/// `layerseal untag`
#[derive(Debug, Group)]
pub struct Untag {
    /// The name
    pub name: String,
    /// Print JSON
    #[arg(long)]
    pub json: bool,
}

/// `layerseal gc`
///
/// Keeps images that have a name in the vault, images in containers-storage, and what is mounted. Removes nothing if
/// it cannot read which these are.
#[derive(Debug, Group)]
pub struct Gc {
    /// Print what would be removed, and remove nothing
    #[arg(long)]
    pub dry_run: bool,
    /// Also keep the images of this container store [default: the one that contains the vault, and those of storage.conf]
    #[arg(long, value_name = "DIR")]
    pub store: Vec<PathBuf>,
    /// Print JSON
    #[arg(long)]
    pub json: bool,
}

/// `layerseal fsck`
#[derive(Debug, Group)]
pub struct Fsck {
    /// Images in the vault [default: all]
    pub images: Vec<Reference>,
    /// Recreate damaged files from the layers; fetch damaged or missing layers from where the image came from; remove
    /// files that cannot be recreated
    #[arg(long)]
    pub repair: bool,
    /// Print JSON
    #[arg(long)]
    pub json: bool,
    /// Registries
    #[command(flatten)]
    pub registry: RegistryArgs,
}
