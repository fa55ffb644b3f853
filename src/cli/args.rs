//! What can be typed. Man pages and completions are made from this file.

mod examples;
mod host;
mod transfer;
mod upkeep;

use std::path::PathBuf;

use clap::{Args as Group, Parser, Subcommand, ValueEnum};

use crate::digest::Algorithm;
use crate::oci::{Platform, Reference};
use crate::report::Class;
pub use host::{
    AddCert, Doctor, Explain, HookCommand, KeyringCommand, KeyringList, PolicyCheck, PolicyCommand, Runtime,
};
pub use transfer::{ExportSignatures, Fetch, Pull, Push, RegistryArgs};
pub use upkeep::{Fsck, Gc, Images, Tag, Untag};

/// Seal container images, verify them, and mount them so that the kernel checks every byte.
#[derive(Debug, Parser)]
#[command(name = "layerseal", version, after_help = exit_codes(), max_term_width = 100)]
pub struct Args {
    /// Directory of the vault [default: layerseal/ in the graph root of containers-storage]
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
    /// Write digests into an image that nobody has signed
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
    /// Manage the kernel's keyring for fs-verity signatures
    #[command(subcommand)]
    Keyring(KeyringCommand),
    /// Show what this host asks of images
    #[command(subcommand)]
    Policy(PolicyCommand),
    /// OCI hooks: called by podman and OCI runtimes when a container starts
    #[command(subcommand)]
    Hook(HookCommand),
    /// OCI runtime: verify a container's root, then run the runtime of /etc/layerseal/runtime.toml
    Runtime(Runtime),
    /// Show what this host can enforce, and what it lacks
    Doctor(Doctor),
}

impl Command {
    /// Whether a script is listening.
    pub fn wants_json(&self) -> bool {
        match self {
            Self::Digest(a) => a.json,
            Self::Verify(a) => a.json,
            Self::Inspect(a) => a.json,
            Self::Images(a) => a.json,
            Self::Status(a) => a.json,
            Self::Prepare(a) => a.json,
            Self::Fetch(a) => a.json,
            Self::Gc(a) => a.json,
            Self::Fsck(a) => a.json,
            Self::Doctor(a) => a.json,
            Self::Keyring(KeyringCommand::List(a)) => a.json,
            Self::Policy(PolicyCommand::Check(a)) => a.json,
            Self::Hook(HookCommand::Explain(a)) => a.json,
            _ => false,
        }
    }

    /// How registries are to be reached, for verbs that can.
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

    /// What to do with seals that have no binding statement, as those of other tools
    #[arg(long, value_enum, default_value_t = BindingArg::Required)]
    pub binding: BindingArg,

    /// The name that the seal must be for
    #[arg(long, value_name = "NAME")]
    pub identity: Option<String>,

    /// What to do with certificates that have expired or are not yet valid
    #[arg(long, value_enum, default_value_t = DatesArg::Enforce)]
    pub dates: DatesArg,

    /// Also look for seals in this layout or repository
    #[arg(long, value_name = "oci:DIR|docker://HOST/NAME")]
    pub seal: Vec<Reference>,
}

/// See [`TrustArgs::binding`].
#[derive(Clone, Copy, Debug, Default, ValueEnum)]
pub enum BindingArg {
    /// Refuse them
    #[default]
    Required,
    /// Accept them, and compare their images with the layers every time
    Local,
}

/// See [`TrustArgs::dates`].
#[derive(Clone, Copy, Debug, Default, ValueEnum)]
pub enum DatesArg {
    /// Refuse them
    #[default]
    Enforce,
    /// Accept them
    Ignore,
}

/// What goes into a binding statement.
#[derive(Clone, Debug, Group)]
pub struct StatementArgs {
    /// Digest algorithm
    #[arg(long, default_value = "sha512")]
    pub algorithm: Algorithm,
    /// A name that the image may run under, without a tag; separate several with commas, or repeat the option
    #[arg(long, value_name = "NAME", value_delimiter = ',')]
    pub identity: Vec<String>,
    /// A number that grows with every release
    #[arg(long, value_name = "N")]
    pub sequence: Option<u64>,
}

/// How a seal is written down
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub enum FormatArg {
    /// metadata.v1: one annotation for each signature; readers make the EROFS images from the layers
    #[default]
    Metadata,
    /// erofs-alongside.v1: with the EROFS images; upstream has dropped it
    ErofsAlongside,
    /// canonical.v1: the same without the EROFS images
    Canonical,
}

/// `layerseal sign`
///
/// Seals every instance of a multi-platform image, unless --platform picks one.
#[derive(Debug, Group)]
pub struct Sign {
    /// The image
    pub image: Reference,
    /// The signer's certificate, PEM or DER
    #[arg(long, value_name = "FILE")]
    pub cert: PathBuf,
    /// The private key: a PEM file, or a URI for an OpenSSL provider, such as pkcs11:token=release;object=key
    #[arg(long, value_name = "FILE|URI")]
    pub key: PathBuf,
    /// File with the passphrase of the key or the PIN of the token [default: ask on the terminal]
    #[arg(long, value_name = "FILE")]
    pub passphrase_file: Option<PathBuf>,
    /// The statement
    #[command(flatten)]
    pub statement: StatementArgs,
    /// Format of the seal
    #[arg(long, value_enum, default_value_t, value_name = "FORMAT")]
    pub format: FormatArg,
    /// Write the seal into the image's own manifest, which makes a new image with the same tag; for layouts only
    #[arg(long, conflicts_with_all = ["format", "output"])]
    pub inline: bool,
    /// Put the certificate into the signatures, for hosts that trust its issuer (trust.d/STORE/ca/); the kernel does
    /// not use it
    #[arg(long)]
    pub embed_cert: bool,
    /// The instance of a multi-platform image [default: all]
    #[arg(long, value_name = "OS/ARCH")]
    pub platform: Option<Platform>,
    /// Where to put the seal: a layout or a repository [default: where the image is]
    #[arg(long, value_name = "oci:DIR|docker://HOST/NAME")]
    pub output: Option<Reference>,
    /// Registries
    #[command(flatten)]
    pub registry: RegistryArgs,
}

/// `layerseal seal`
///
/// Writes the digest of composefs' merged EROFS image into the image's config, as the label
/// containers.composefs.fsverity that composefs-rs reads. This makes a new image with the same tag. It is not signed:
/// use `layerseal sign` for that.
#[derive(Debug, Group)]
pub struct Seal {
    /// The image, in a layout
    pub image: Reference,
    /// Digest algorithm
    #[arg(long, default_value = "sha512")]
    pub algorithm: Algorithm,
    /// Write the digests of config, layers and trees into annotations of the manifest instead
    #[arg(long)]
    pub inline: bool,
    /// The instance of a multi-platform image [default: this host's]
    #[arg(long, value_name = "OS/ARCH")]
    pub platform: Option<Platform>,
    /// Registries
    #[command(flatten)]
    pub registry: RegistryArgs,
}

/// `layerseal digest`
#[derive(Debug, Group)]
pub struct Digest {
    /// The image
    #[arg(required_unless_present = "directory")]
    pub image: Option<Reference>,
    /// Print the merged digest of the files in this directory, instead of an image's
    #[arg(long, value_name = "DIR", conflicts_with_all = ["image", "identity", "sequence", "platform", "write"])]
    pub directory: Option<PathBuf>,
    /// The statement
    #[command(flatten)]
    pub statement: StatementArgs,
    /// The instance of a multi-platform image [default: this host's]
    #[arg(long, value_name = "OS/ARCH")]
    pub platform: Option<Platform>,
    /// Write the files to sign into this directory: ROLE for `fsverity sign`, ROLE.tosign for `openssl smime -sign`
    #[arg(long, value_name = "DIR")]
    pub write: Option<PathBuf>,
    /// Print JSON
    #[arg(long)]
    pub json: bool,
    /// Registries
    #[command(flatten)]
    pub registry: RegistryArgs,
}

/// `layerseal attach`
#[derive(Debug, Group)]
pub struct Attach {
    /// The image
    pub image: Reference,
    /// Directory with the signatures (ROLE.sig, DER) and the file `binding` that `digest --write` wrote
    #[arg(long, value_name = "DIR")]
    pub signatures: PathBuf,
    /// Format of the seal
    #[arg(long, value_enum, default_value_t, value_name = "FORMAT")]
    pub format: FormatArg,
    /// Verify the signatures with these certificates first
    #[arg(long, value_name = "FILE|DIR")]
    pub trust: Vec<PathBuf>,
    /// Where to put the seal: a layout or a repository [default: where the image is]
    #[arg(long, value_name = "oci:DIR|docker://HOST/NAME")]
    pub output: Option<Reference>,
    /// The instance of a multi-platform image [default: this host's]
    #[arg(long, value_name = "OS/ARCH")]
    pub platform: Option<Platform>,
    /// Registries
    #[command(flatten)]
    pub registry: RegistryArgs,
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
    /// Print JSON
    #[arg(long)]
    pub json: bool,
    /// Registries
    #[command(flatten)]
    pub registry: RegistryArgs,
}

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
    /// Stack the layers' EROFS images instead of mounting one for all; shows the same files
    #[arg(long)]
    pub stack: bool,
    /// Mount composefs' canonical tree, for hosts that boot from an image: the root has the metadata of /usr, /run is
    /// empty, and capabilities are the only extended attributes
    #[arg(long, conflicts_with = "stack")]
    pub merged: bool,
    /// Digest algorithm for images without a seal
    #[arg(long, default_value = "sha512")]
    pub algorithm: Algorithm,
    /// Whether the kernel checks every byte
    #[arg(long, value_enum, default_value_t = VerityArg::Require)]
    pub verity: VerityArg,
    /// Registries
    #[command(flatten)]
    pub registry: RegistryArgs,
}

/// See [`Mount::verity`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub enum VerityArg {
    /// It must
    #[default]
    Require,
    /// It does not: for hosts without fs-verity, and for tests
    Off,
}

/// `layerseal prepare`
#[derive(Debug, Group)]
#[group(skip)]
pub struct Prepare {
    /// Images of the container store, by name or ID
    #[arg(required_unless_present = "all")]
    pub images: Vec<String>,
    /// All images of the container store; one that would be refused is reported, and not an error
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

/// `layerseal umount`
#[derive(Debug, Group)]
pub struct Umount {
    /// Where the image is mounted
    pub target: PathBuf,
}

/// `layerseal status`
#[derive(Debug, Group)]
pub struct Status {
    /// Print JSON
    #[arg(long)]
    pub json: bool,
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
