//! The verbs that make seals.

use std::path::PathBuf;

use clap::{Args as Group, ValueEnum};

use super::RegistryArgs;
use crate::digest::Algorithm;
use crate::oci::{Platform, Reference};

/// What goes into a binding statement.
#[derive(Clone, Debug, Group)]
pub struct StatementArgs {
    /// Digest algorithm
    #[arg(long, default_value = "sha512")]
    pub algorithm: Algorithm,
    /// A name that the image may run under, without tag; several with commas, or repeated
    #[arg(long, value_name = "NAME", value_delimiter = ',')]
    pub identity: Vec<String>,
    /// A number that grows with every release
    #[arg(long, value_name = "N")]
    pub sequence: Option<u64>,
}

/// How a seal is written down
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub enum FormatArg {
    /// One annotation for each role: who reads it makes the EROFS images from the layers (metadata.v1)
    #[default]
    Metadata,
    /// An artifact that carries the EROFS images too (erofs-alongside.v1, which upstream has dropped)
    ErofsAlongside,
    /// The same without them (canonical.v1)
    Canonical,
}

/// `layerseal sign`
///
/// Of a multi-platform image every instance is sealed, unless --platform picks one.
#[derive(Debug, Group)]
pub struct Sign {
    /// The image
    pub image: Reference,
    /// The signer's certificate, PEM or DER
    #[arg(long, value_name = "FILE")]
    pub cert: PathBuf,
    /// Its private key: a PEM file, or a URI that OpenSSL has a provider for, such as pkcs11:token=release;object=key
    #[arg(long, value_name = "FILE|URI")]
    pub key: PathBuf,
    /// A file that holds the passphrase of the key, or the PIN of the token [default: asked for on the terminal]
    #[arg(long, value_name = "FILE")]
    pub passphrase_file: Option<PathBuf>,
    /// The statement
    #[command(flatten)]
    pub statement: StatementArgs,
    /// How the seal is written down
    #[arg(long, value_enum, default_value_t, value_name = "FORMAT")]
    pub format: FormatArg,
    /// Write the seal into the image's own manifest, which makes it a new image under the same tag; for layouts
    #[arg(long, conflicts_with_all = ["format", "output"])]
    pub inline: bool,
    /// Put the certificate into the signatures, for hosts that trust who issued it (trust.d/STORE/ca/); the kernel
    /// does not follow there
    #[arg(long)]
    pub embed_cert: bool,
    /// The instance of a multi-platform image [default: every one]
    #[arg(long, value_name = "OS/ARCH")]
    pub platform: Option<Platform>,
    /// Where to put the seal: a layout or a repository [default: beside the image]
    #[arg(long, value_name = "oci:DIR|docker://HOST/NAME")]
    pub output: Option<Reference>,
    /// Print JSON
    #[arg(long)]
    pub json: bool,
    /// Registries
    #[command(flatten)]
    pub registry: RegistryArgs,
}

/// `layerseal seal`
///
/// The digest of composefs' merged EROFS image goes into the image's config, as the label
/// containers.composefs.fsverity that composefs-rs reads. It is a new image under the same tag, and nobody vouches
/// for it: `layerseal sign` does.
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
    /// Print JSON
    #[arg(long)]
    pub json: bool,
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
    /// Instead of an image, a directory that one was unpacked or mounted to: prints what its merged digest would be
    #[arg(long, value_name = "DIR", conflicts_with_all = ["image", "identity", "sequence", "platform", "write"])]
    pub directory: Option<PathBuf>,
    /// The statement
    #[command(flatten)]
    pub statement: StatementArgs,
    /// The instance of a multi-platform image [default: this host's]
    #[arg(long, value_name = "OS/ARCH")]
    pub platform: Option<Platform>,
    /// Write the files to be signed into this directory: ROLE for `fsverity sign`, ROLE.tosign for `openssl smime -sign`
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
    /// Directory of signatures, ROLE.sig in DER, with the file `binding` that `digest --write` made
    #[arg(long, value_name = "DIR")]
    pub signatures: PathBuf,
    /// How the seal is written down
    #[arg(long, value_enum, default_value_t, value_name = "FORMAT")]
    pub format: FormatArg,
    /// Check the signatures against these certificates first
    #[arg(long, value_name = "FILE|DIR")]
    pub trust: Vec<PathBuf>,
    /// Where to put the seal: a layout or a repository [default: beside the image]
    #[arg(long, value_name = "oci:DIR|docker://HOST/NAME")]
    pub output: Option<Reference>,
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
