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
    /// The image; with --push, an image of podman's, by name or ID
    pub image: Reference,
    /// Push podman's image there first, and seal it there; podman can then start it here under that name without a
    /// pull. Without --identity, it is sealed for HOST/NAME
    #[arg(long, value_name = "docker://HOST/NAME[:TAG]", conflicts_with_all = ["inline", "platform", "output"])]
    pub push: Option<Reference>,
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
    /// Print JSON
    #[arg(long)]
    pub json: bool,
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
    /// Print JSON
    #[arg(long)]
    pub json: bool,
    /// Registries
    #[command(flatten)]
    pub registry: RegistryArgs,
}
