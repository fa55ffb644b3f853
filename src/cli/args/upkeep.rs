//! The verbs that look after the vault.

use std::path::PathBuf;

use clap::{Args as Group, Subcommand};

use super::{RegistryArgs, examples};
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
/// it cannot find out which these are.
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
    /// Images in the vault, by their names there or podman's [default: all]
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

/// `layerseal vault`
#[derive(Debug, Subcommand)]
pub enum VaultCommand {
    /// Create a file holding an ext4 filesystem with fs-verity, and print the unit that mounts it
    #[command(after_long_help = examples::of("vault create"))]
    Create(VaultCreate),
}

/// `layerseal vault create`
///
/// For graph roots on filesystems without fs-verity, such as XFS. The file takes up its full size at once. This command
/// mounts nothing: use the systemd unit that it prints. Then name DIR in the policy: vault = "DIR" in its store table.
#[derive(Debug, Group)]
pub struct VaultCreate {
    /// Where it will be mounted: an empty directory, created if missing
    #[arg(value_name = "DIR")]
    pub directory: PathBuf,
    /// Its size, in bytes or with K, M, G or T
    #[arg(long)]
    pub size: Size,
    /// The file that holds it [default: DIR.img]
    #[arg(long, value_name = "FILE")]
    pub file: Option<PathBuf>,
    /// Print JSON
    #[arg(long)]
    pub json: bool,
}

/// A number of bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Size(pub u64);

impl std::str::FromStr for Size {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let number = text.trim_end_matches(|c: char| c.is_ascii_alphabetic());
        let shift = match text[number.len()..].to_ascii_uppercase().as_str() {
            "" => 0,
            "K" | "KIB" => 10,
            "M" | "MIB" => 20,
            "G" | "GIB" => 30,
            "T" | "TIB" => 40,
            _ => return Err("a number of bytes, or one with K, M, G or T"),
        };
        let bytes = number.parse::<u64>().ok().and_then(|number| number.checked_mul(1 << shift));
        bytes.map(Self).ok_or("a number of bytes, or one with K, M, G or T")
    }
}

#[cfg(test)]
mod tests {
    use super::Size;

    #[test]
    fn sizes() {
        for (text, bytes) in [("20G", 20 << 30), ("16m", 16 << 20), ("1048576", 1 << 20), ("2TiB", 2 << 40)] {
            assert_eq!(text.parse(), Ok(Size(bytes)), "{text}");
        }
        for bad in ["", "G", "1.5G", "-1", "1 G", "1X", "99999999T"] {
            assert!(bad.parse::<Size>().is_err(), "{bad}");
        }
    }
}
