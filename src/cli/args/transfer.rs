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
    /// Require TLS and a trusted certificate [default: true, unless registries.conf says insecure]
    #[arg(long, value_name = "true|false", action = ArgAction::Set, num_args = 0..=1, require_equals = true,
          default_missing_value = "true", hide_possible_values = true)]
    pub tls_verify: Option<bool>,
    /// File with credentials [default: see containers-auth.json(5)]
    #[arg(long, value_name = "FILE")]
    pub authfile: Option<PathBuf>,
    /// Directory with the registry's CA (*.crt) and client certificates (*.cert, *.key) [default: certs.d]
    #[arg(long, value_name = "DIR")]
    pub cert_dir: Option<PathBuf>,
}

impl RegistryArgs {
    /// Converts them to the form that `fetch` takes.
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
    /// Images in the container store, by name or ID
    #[arg(required_unless_present = "all")]
    pub images: Vec<String>,
    /// All images in the container store; fails if any lacks a seal that the policy asks for, once the others are done
    #[arg(long, conflicts_with = "images")]
    pub all: bool,
    /// Look in this repository [default: those of the image's names]
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
    /// Name in the vault [default: HOST/NAME:TAG for a registry; for a layout the tag, or the directory's name if that is `latest`]
    #[arg(long)]
    pub name: Option<String>,
    /// Refuse an image without a valid seal; implied by --trust
    #[arg(long, requires = "trust")]
    pub require_signature: bool,
    /// Whom to trust
    #[command(flatten)]
    pub trust: TrustArgs,
    /// Digest algorithm of the objects [default: that of its seals, or sha512]
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
    /// `docker://HOST/NAME[:TAG]`, or a layout, `oci:DIR[:TAG]`, which is created if missing
    pub to: Reference,
    /// Push its seals too
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
    /// docker://HOST/NAME, or a layout, oci:DIR, which is created if missing
    pub to: Reference,
    /// Print JSON
    #[arg(long)]
    pub json: bool,
    /// Registries
    #[command(flatten)]
    pub registry: RegistryArgs,
}
