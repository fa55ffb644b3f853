//! The verbs that bring images and seals from one place to another, and how registries are reached.

use std::path::PathBuf;

use clap::{ArgAction, Args as Group};

use super::TrustArgs;
use crate::digest::Algorithm;
use crate::fetch::Options;
use crate::oci::{Platform, Reference};

/// For images in registries, docker://HOST/NAME.
#[derive(Clone, Debug, Default, Group)]
#[command(next_help_heading = "Registries")]
pub struct RegistryArgs {
    /// Whether a registry must have TLS, and a certificate that is trusted [default: unless registries.conf calls it insecure]
    #[arg(long, value_name = "true|false", action = ArgAction::Set, num_args = 0..=1, require_equals = true,
          default_missing_value = "true", hide_possible_values = true)]
    pub tls_verify: Option<bool>,
    /// File with credentials [default: as containers-auth.json(5) has it]
    #[arg(long, value_name = "FILE")]
    pub authfile: Option<PathBuf>,
    /// Directory with the registry's CA (*.crt) and our certificates (*.cert, *.key) [default: certs.d]
    #[arg(long, value_name = "DIR")]
    pub cert_dir: Option<PathBuf>,
}

impl RegistryArgs {
    /// The same for the room that asks.
    pub fn options(&self) -> Options {
        Options {
            tls_verify: self.tls_verify.unwrap_or(true),
            authfile: self.authfile.clone(),
            cert_dir: self.cert_dir.clone(),
        }
    }
}

/// `layerseal fetch`
#[derive(Debug, Group)]
#[group(skip)]
pub struct Fetch {
    /// Images of the container store, by name or ID
    #[arg(required_unless_present = "all")]
    pub images: Vec<String>,
    /// Every image of the container store; one without seals is told, and no error
    #[arg(long, conflicts_with = "images")]
    pub all: bool,
    /// Look into this repository [default: those that the image's names are of]
    #[arg(long, value_name = "docker://HOST/NAME")]
    pub from: Vec<Reference>,
    /// Print JSON
    #[arg(long)]
    pub json: bool,
    /// Registries
    #[command(flatten)]
    pub registry: RegistryArgs,
}

/// `layerseal pull`
#[derive(Debug, Group)]
pub struct Pull {
    /// The image
    pub image: Reference,
    /// Its name in the vault [default: HOST/NAME:TAG of a registry; of a layout its tag, or the directory's name for `latest`]
    #[arg(long)]
    pub name: Option<String>,
    /// Import nothing that has no valid seal; what --trust asks for as well, in a word
    #[arg(long, requires = "trust")]
    pub require_signature: bool,
    /// Whom to trust
    #[command(flatten)]
    pub trust: TrustArgs,
    /// Digest algorithm of the objects [default: that of the seals, else sha512]
    #[arg(long)]
    pub algorithm: Option<Algorithm>,
    /// The instance of a multi-platform image [default: this host's]
    #[arg(long, value_name = "OS/ARCH")]
    pub platform: Option<Platform>,
    /// Print JSON
    #[arg(long)]
    pub json: bool,
    /// Registries
    #[command(flatten)]
    pub registry: RegistryArgs,
}

/// `layerseal push`
#[derive(Debug, Group)]
pub struct Push {
    /// The image
    pub image: Reference,
    /// `docker://HOST/NAME[:TAG]`, or a layout, `oci:DIR[:TAG]`, which is made if it is missing
    pub to: Reference,
    /// With its seals
    #[arg(long)]
    pub signatures: bool,
    /// Print JSON
    #[arg(long)]
    pub json: bool,
    /// Registries
    #[command(flatten)]
    pub registry: RegistryArgs,
}

/// `layerseal export-signatures`
#[derive(Debug, Group)]
pub struct ExportSignatures {
    /// The image
    pub image: Reference,
    /// docker://HOST/NAME, or a layout, oci:DIR, which is made if it is missing
    pub to: Reference,
    /// Print JSON
    #[arg(long)]
    pub json: bool,
    /// Registries
    #[command(flatten)]
    pub registry: RegistryArgs,
}
