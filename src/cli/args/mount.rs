//! The verbs about mounts.

use std::path::PathBuf;

use clap::Args as Group;

use super::{RegistryArgs, TrustArgs};
use crate::digest::Algorithm;
use crate::oci::Reference;
use crate::policy::Verity;

/// `layerseal mount`
#[derive(Debug, Group)]
pub struct Mount {
    /// The image
    pub image: Reference,
    /// An existing directory
    pub target: PathBuf,
    /// Refuse an image without a valid seal; implied by --trust
    #[arg(long, requires = "trust")]
    pub require_signature: bool,
    /// Whom to trust
    #[command(flatten)]
    pub trust: TrustArgs,
    /// Directory for changes; without it the mount is read-only
    #[arg(long, value_name = "DIR", requires = "work")]
    pub upper: Option<PathBuf>,
    /// Empty directory on the same filesystem as --upper
    #[arg(long, value_name = "DIR", requires = "upper")]
    pub work: Option<PathBuf>,
    /// Stack the layers' EROFS images instead of mounting a single one; shows the same files
    #[arg(long)]
    pub stack: bool,
    /// Mount composefs' canonical tree, for hosts that boot from an image: the root has the metadata of /usr, /run is
    /// empty, and capabilities are the only extended attributes
    #[arg(long, conflicts_with = "stack")]
    pub merged: bool,
    /// Digest algorithm for images without a seal
    #[arg(long, default_value = "sha512")]
    pub algorithm: Algorithm,
    /// SELinux label for all files, such as system_u:object_r:container_ro_file_t:s0; without it they are unlabeled,
    /// and confined processes cannot read them. No effect where SELinux is not enabled
    #[arg(long, value_name = "LABEL")]
    pub context: Option<std::ffi::OsString>,
    /// Whether the kernel checks every byte
    #[arg(long, value_enum, default_value_t = Verity::Require)]
    pub verity: Verity,
    /// Print JSON
    #[arg(long)]
    pub json: bool,
    /// Registries
    #[command(flatten)]
    pub registry: RegistryArgs,
}

/// `layerseal umount`
#[derive(Debug, Group)]
pub struct Umount {
    /// Where the image is mounted
    pub target: PathBuf,
    /// Print JSON
    #[arg(long)]
    pub json: bool,
}

/// `layerseal status`
#[derive(Debug, Group)]
pub struct Status {
    /// Print JSON
    #[arg(long)]
    pub json: bool,
}
