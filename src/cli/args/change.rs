//! The verbs that change what this host asks of images.

use std::path::PathBuf;

use clap::{Args as Group, Subcommand};

/// `layerseal setup`
///
/// Writes a policy with mode = "audit" if there is none, so that everything that ran before still starts, and checks
/// what calls layerseal: hooks, runtime, mount program. Does not change existing files.
#[derive(Debug, Group)]
pub struct Setup {
    /// Print JSON
    #[arg(long)]
    pub json: bool,
}

/// `layerseal enforce`
///
/// Sets the default mode of the policy to "enforce". If this would refuse an image or a container of this host, it
/// changes nothing and lists them, as `layerseal check` does. Rules that set a mode keep it.
#[derive(Debug, Group)]
pub struct Enforce {
    /// Change it even if something would be refused
    #[arg(long)]
    pub force: bool,
    /// Print JSON
    #[arg(long)]
    pub json: bool,
}

/// `layerseal audit`
///
/// Sets the default mode of the policy to "audit": everything starts again, except what is denied.
#[derive(Debug, Group)]
pub struct Audit {
    /// Print JSON
    #[arg(long)]
    pub json: bool,
}

/// `layerseal deny`
///
/// Adds to /etc/layerseal/deny.d. What is denied does not start in any mode, whatever a seal or a rule says. For an
/// image, its manifest and config are denied; for a certificate, every certificate with its key. Running containers are
/// not stopped.
#[derive(Debug, Group)]
pub struct Deny {
    /// A file of certificates, a digest (sha256:, sha512:, fsverity-sha256-12:, fsverity-sha512-12:), or an image: one of
    /// podman's by name or ID, docker://HOST/NAME, oci:DIR, or a name in the vault
    #[arg(value_name = "CERT|DIGEST|IMAGE")]
    pub what: String,
    /// Why, for whoever reads the list
    #[arg(long, value_name = "TEXT")]
    pub reason: Option<String>,
    /// Print JSON
    #[arg(long)]
    pub json: bool,
}

/// `layerseal floors`
#[derive(Debug, Subcommand)]
pub enum FloorsCommand {
    /// List the lowest sequence accepted for each name
    List(FloorsList),
    /// Accept older builds under a name again; the next start records the sequence that it accepts
    Reset(FloorsReset),
}

/// `layerseal floors list`
#[derive(Debug, Group)]
pub struct FloorsList {
    /// Print JSON
    #[arg(long)]
    pub json: bool,
}

/// `layerseal floors reset`
#[derive(Debug, Group)]
pub struct FloorsReset {
    /// The name, without a tag; for a damaged note, its file name as `list` shows it
    pub name: String,
    /// Print JSON
    #[arg(long)]
    pub json: bool,
}

/// `layerseal trust`
#[derive(Debug, Subcommand)]
pub enum TrustCommand {
    /// List the trust stores, and the certificates in them
    List(TrustList),
    /// Put certificates into a trust store
    Add(TrustAdd),
}

/// `layerseal trust list`
#[derive(Debug, Group)]
pub struct TrustList {
    /// Print JSON
    #[arg(long)]
    pub json: bool,
}

/// `layerseal trust add`
#[derive(Debug, Group)]
pub struct TrustAdd {
    /// PEM or DER files, or directories of them
    #[arg(required = true, value_name = "FILE|DIR")]
    pub certificates: Vec<PathBuf>,
    /// The trust store, a directory of /etc/layerseal/trust.d [default: the one that the policy names]
    #[arg(long, value_name = "NAME")]
    pub store: Option<String>,
    /// Print JSON
    #[arg(long)]
    pub json: bool,
}
