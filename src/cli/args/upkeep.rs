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
/// Kept are images that have a name in the vault, images that containers-storage has, and what is
/// mounted. Where anything that tells so cannot be read, nothing is removed.
#[derive(Debug, Group)]
pub struct Gc {
    /// Remove nothing, and say what would be
    #[arg(long)]
    pub dry_run: bool,
    /// Keep the images of this container store too [default: the one around the vault, and those of storage.conf]
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
    /// Make damaged files again from the layers; fetch layers that are damaged or missing from where the
    /// image came from; remove files that cannot be made again
    #[arg(long)]
    pub repair: bool,
    /// Print JSON
    #[arg(long)]
    pub json: bool,
    /// Registries
    #[command(flatten)]
    pub registry: RegistryArgs,
}
