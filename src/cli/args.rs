//! What can be typed. Man pages and completions are made from this file.

mod change;
mod examples;
mod host;
mod mount;
mod sign;
mod transfer;
mod upkeep;

use std::path::PathBuf;

use clap::{Args as Group, Parser, Subcommand};

use crate::error::Class;
use crate::oci::{Platform, Reference};
use crate::pki::Dates;
use crate::policy::BindingRule;
pub use change::{
    Audit, Deny, Enforce, FloorsCommand, FloorsList, FloorsReset, Setup, TrustAdd, TrustCommand, TrustList,
};
pub use host::{
    AddCert, Check, Doctor, Explain, HookCommand, KeyringCommand, KeyringList, KeyringRestrict, PolicyCheck,
    PolicyCommand, Report, Runtime,
};
pub use mount::{Mount, Status, Umount};
pub use sign::{Attach, Digest, FormatArg, Seal, Sign, StatementArgs};
pub use transfer::{ExportSignatures, Fetch, Pull, Push, RegistryArgs};
pub use upkeep::{Fsck, Gc, Images, Tag, Untag, VaultCommand, VaultCreate};

/// Seal container images, verify them, and mount them so that the kernel checks every byte.
#[derive(Debug, Parser)]
#[command(name = "layerseal", version, after_help = exit_codes(), max_term_width = 100)]
pub struct Args {
    /// Directory of the vault [default: the policy's, or layerseal/ in the graph root of containers-storage]
    #[arg(long, global = true, value_name = "DIR")]
    pub vault: Option<PathBuf>,

    /// Print more; twice for debugging
    #[arg(short, long, global = true, action = clap::ArgAction::Count)]
    pub verbose: u8,

    /// What to do
    #[command(subcommand)]
    pub command: Command,
}

fn exit_codes() -> String {
    let mut text = "IMAGE is docker://HOST/NAME[:TAG] or docker://HOST/NAME@DIGEST (a registry), oci:DIR[:TAG] or oci:DIR@DIGEST (an OCI layout), a name in the vault, or @sha256:HEX.\n\nExit codes: 0 success".to_owned();
    for class in Class::ALL {
        text.push_str(&format!("; {} {}", class.exit_code(), class.describe()));
    }
    text.push_str(".\nEvery refusal ends with the ID of its case, such as [R-D04].");
    text
}

/// The verbs.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Import an image into the vault
    #[command(after_long_help = examples::of("pull"))]
    Pull(Pull),
    /// Write an image's digests into the image, without signing them
    #[command(after_long_help = examples::of("seal"))]
    Seal(Seal),
    /// Seal an image and sign the seal
    #[command(after_long_help = examples::of("sign"))]
    Sign(Sign),
    /// Print the digests that a seal signs, and write the files to sign
    #[command(after_long_help = examples::of("digest"))]
    Digest(Digest),
    /// Make a seal from signatures made elsewhere
    #[command(after_long_help = examples::of("attach"))]
    Attach(Attach),
    /// Check an image against its seals
    #[command(after_long_help = examples::of("verify"))]
    Verify(Verify),
    /// Fetch the seals of podman's images from their registries
    #[command(after_long_help = examples::of("fetch"))]
    Fetch(Fetch),
    /// Prepare podman's images, so that their first start is quick
    #[command(after_long_help = examples::of("prepare"))]
    Prepare(Prepare),
    /// Show which images and containers would start, and why others would not; writes nothing
    #[command(after_long_help = examples::of("check"))]
    Check(Check),
    /// Verify an image and mount it
    #[command(after_long_help = examples::of("mount"))]
    Mount(Mount),
    /// Unmount an image
    Umount(Umount),
    /// List what is mounted, and who signed it
    Status(Status),
    /// Copy an image into a registry or an OCI layout
    #[command(after_long_help = examples::of("push"))]
    Push(Push),
    /// Copy the seals of an image into a registry or an OCI layout
    #[command(after_long_help = examples::of("export-signatures"))]
    ExportSignatures(ExportSignatures),
    /// Show an image and its seals
    Inspect(Inspect),
    /// List the images in the vault
    Images(Images),
    /// Give an image in the vault a name
    Tag(Tag),
    /// Remove a name from the vault
    Untag(Untag),
    /// Remove what no image needs from the vault
    Gc(Gc),
    /// Check everything in the vault, and list what is damaged
    #[command(after_long_help = examples::of("fsck"))]
    Fsck(Fsck),
    /// Create a filesystem for the vault, on hosts whose filesystems have no fs-verity
    #[command(subcommand)]
    Vault(VaultCommand),
    /// Manage the kernel's keyring for fs-verity signatures
    #[command(subcommand)]
    Keyring(KeyringCommand),
    /// Show what this host requires of images
    #[command(subcommand)]
    Policy(PolicyCommand),
    /// OCI hooks: called by podman and OCI runtimes when a container starts
    #[command(subcommand)]
    Hook(HookCommand),
    /// Begin in audit mode: write a policy if there is none, and show what is missing
    #[command(after_long_help = examples::of("setup"))]
    Setup(Setup),
    /// From now on, refuse what is not sealed
    Enforce(Enforce),
    /// Let everything start again, and log what enforce would refuse
    Audit(Audit),
    /// Deny an image, a certificate or a digest, in every mode
    #[command(after_long_help = examples::of("deny"))]
    Deny(Deny),
    /// Manage the lowest sequence accepted for each name
    #[command(subcommand)]
    Floors(FloorsCommand),
    /// Manage whom this host trusts
    #[command(subcommand)]
    Trust(TrustCommand),
    /// Sum up what was refused, and what enforce would refuse
    #[command(after_long_help = examples::of("report"))]
    Report(Report),
    /// OCI runtime: verify a container's root, then run the runtime named in /etc/layerseal/runtime.toml
    Runtime(Runtime),
    /// Service: mount sealed images for rootless containers; started by layerseal.socket
    Serve(Serve),
    /// Show what this host can enforce, and what it lacks
    Doctor(Doctor),
}

impl Command {
    /// Returns whether a script is to read the output.
    pub fn wants_json(&self) -> bool {
        match self {
            Self::Pull(a) => a.json,
            Self::Seal(a) => a.json,
            Self::Sign(a) => a.json,
            Self::Digest(a) => a.json,
            Self::Attach(a) => a.json,
            Self::Verify(a) => a.json,
            Self::Fetch(a) => a.json,
            Self::Prepare(a) => a.json,
            Self::Check(a) => a.json,
            Self::Mount(a) => a.json,
            Self::Umount(a) => a.json,
            Self::Status(a) => a.json,
            Self::Push(a) => a.json,
            Self::ExportSignatures(a) => a.json,
            Self::Inspect(a) => a.json,
            Self::Images(a) => a.json,
            Self::Tag(a) => a.json,
            Self::Untag(a) => a.json,
            Self::Gc(a) => a.json,
            Self::Fsck(a) => a.json,
            Self::Vault(VaultCommand::Create(a)) => a.json,
            Self::Keyring(KeyringCommand::AddCert(a)) => a.json,
            Self::Keyring(KeyringCommand::List(a)) => a.json,
            Self::Keyring(KeyringCommand::Restrict(a)) => a.json,
            Self::Policy(PolicyCommand::Check(a)) => a.json,
            Self::Hook(HookCommand::Explain(a)) => a.json,
            Self::Setup(a) => a.json,
            Self::Enforce(a) => a.json,
            Self::Audit(a) => a.json,
            Self::Deny(a) => a.json,
            Self::Floors(FloorsCommand::List(a)) => a.json,
            Self::Floors(FloorsCommand::Reset(a)) => a.json,
            Self::Trust(TrustCommand::List(a)) => a.json,
            Self::Trust(TrustCommand::Add(a)) => a.json,
            Self::Report(a) => a.json,
            Self::Doctor(a) => a.json,
            // These answer engines and runtimes, in their own formats.
            Self::Hook(_) | Self::Runtime(_) | Self::Serve(_) => false,
        }
    }

    /// Returns how registries are to be reached, for verbs that use them.
    pub fn registry(&self) -> RegistryArgs {
        let args = match self {
            Self::Pull(a) => &a.registry,
            Self::Seal(a) => &a.registry,
            Self::Sign(a) => &a.registry,
            Self::Digest(a) => &a.registry,
            Self::Attach(a) => &a.registry,
            Self::Verify(a) => &a.registry,
            Self::Prepare(a) => &a.registry,
            Self::Fetch(a) => &a.registry,
            Self::Mount(a) => &a.registry,
            Self::Push(a) => &a.registry,
            Self::ExportSignatures(a) => &a.registry,
            Self::Inspect(a) => &a.registry,
            Self::Fsck(a) => &a.registry,
            _ => return RegistryArgs::default(),
        };
        args.clone()
    }
}

/// Whom to trust.
#[derive(Clone, Debug, Default, Group)]
pub struct TrustArgs {
    /// Certificates to trust: PEM or DER files, or directories of them
    #[arg(long, value_name = "FILE|DIR")]
    pub trust: Vec<PathBuf>,

    /// What to do with seals that have no binding statement, such as those of other tools
    #[arg(long, value_enum, default_value_t = BindingRule::Required)]
    pub binding: BindingRule,

    /// The name that the seal must be for
    #[arg(long, value_name = "NAME")]
    pub identity: Option<String>,

    /// What to do with certificates that have expired or are not yet valid
    #[arg(long, value_enum, default_value_t = Dates::Enforce)]
    pub dates: Dates,

    /// Also look for seals in this layout or repository
    #[arg(long, value_name = "oci:DIR|docker://HOST/NAME")]
    pub seal: Vec<Reference>,
}

/// `layerseal verify`
#[derive(Debug, Group)]
pub struct Verify {
    /// The image
    pub image: Reference,
    /// Whom to trust; without --trust only digests are compared
    #[command(flatten)]
    pub trust: TrustArgs,
    /// The instance of a multi-platform image [default: this host's]
    #[arg(long, value_name = "OS/ARCH")]
    pub platform: Option<Platform>,
    /// Read the layers of an image in a registry too: otherwise a signed statement that names them is enough
    #[arg(long)]
    pub layers: bool,
    /// Print JSON
    #[arg(long)]
    pub json: bool,
    /// Registries
    #[command(flatten)]
    pub registry: RegistryArgs,
}

/// `layerseal prepare`
#[derive(Debug, Group)]
#[group(skip)]
pub struct Prepare {
    /// Images in the container store, by name or ID
    #[arg(required_unless_present = "all")]
    pub images: Vec<String>,
    /// All images in the container store; fails if any is refused, once the others are done
    #[arg(long, conflicts_with = "images")]
    pub all: bool,
    /// Get seals from this OCI layout or repository first
    #[arg(long, value_name = "oci:DIR|docker://HOST/NAME")]
    pub seal: Vec<Reference>,
    /// Only get the seals; the first start does the rest
    #[arg(long, requires = "seal")]
    pub seals_only: bool,
    /// Print JSON
    #[arg(long)]
    pub json: bool,
    /// Registries
    #[command(flatten)]
    pub registry: RegistryArgs,
}

/// `layerseal inspect`
#[derive(Debug, Group)]
pub struct Inspect {
    /// The image
    pub image: Reference,
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

/// `layerseal serve`
#[derive(Debug, Group)]
#[group(skip)]
pub struct Serve {
    /// Listen on a new socket instead of the one passed by systemd
    #[arg(long, value_name = "PATH")]
    pub socket: Option<PathBuf>,
    /// Exit after this many seconds without a call
    #[arg(long, value_name = "SECONDS", default_value_t = 60)]
    pub idle: u64,
}
