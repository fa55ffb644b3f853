//! The verbs about this host: its keyring, its policy, its hooks, and what it lacks.

use std::path::PathBuf;

use clap::{Args as Group, Subcommand};

use crate::ops::Period;

/// `layerseal keyring`
#[derive(Debug, Subcommand)]
pub enum KeyringCommand {
    /// Add certificates
    AddCert(AddCert),
    /// List the certificates
    List(KeyringList),
    /// Accept no more certificates until the next boot
    Restrict(KeyringRestrict),
}

/// `layerseal keyring add-cert`
#[derive(Debug, Group)]
pub struct AddCert {
    /// PEM or DER files, or directories of them
    #[arg(required = true, value_name = "FILE|DIR")]
    pub certificates: Vec<PathBuf>,
    /// Print JSON
    #[arg(long)]
    pub json: bool,
}

/// `layerseal keyring list`
#[derive(Debug, Group)]
pub struct KeyringList {
    /// Print JSON
    #[arg(long)]
    pub json: bool,
}

/// `layerseal keyring restrict`
#[derive(Debug, Group)]
pub struct KeyringRestrict {
    /// Print JSON
    #[arg(long)]
    pub json: bool,
}

/// `layerseal check`
///
/// Decides as a start would, by the same policy, seals and layers, but writes nothing: it enables fs-verity on no file,
/// and adds nothing to the vault. Without arguments, it checks all images and containers. Of containers it also compares
/// what podman has copied from unverified layers and what it would copy (O09); what podman writes only for the start
/// itself, such as lines for users, cannot be checked before. Exits with the exit code of the first that would be
/// refused, or that audit would let pass.
#[derive(Debug, Group)]
pub struct Check {
    /// Images in the container store, by name or ID
    pub images: Vec<String>,
    /// All images in the container store, under each of their names
    #[arg(long, conflicts_with = "images")]
    pub all: bool,
    /// All containers, with what is mounted in them
    #[arg(long)]
    pub containers: bool,
    /// Check images as if in this Kubernetes namespace; containers are always checked in their own
    #[arg(long, value_name = "NAMESPACE")]
    pub namespace: Option<String>,
    /// Print JSON
    #[arg(long)]
    pub json: bool,
}

/// `layerseal report`
///
/// Counts by image and case, from the journal; without a journal, from layerseal's own log in /run, which holds the
/// last few thousand starts since boot.
#[derive(Debug, Group)]
pub struct Report {
    /// Only what was decided since then: 30m, 12h, 7d or 2w ago, a date (2026-11-28), or a date and time in UTC
    /// (2026-11-28T06:00)
    #[arg(long, value_name = "DURATION|DATE")]
    pub since: Option<Period>,
    /// Print counters since boot in the Prometheus text format, for the node exporter's textfile collector
    #[arg(long, conflicts_with_all = ["json", "since"])]
    pub prometheus: bool,
    /// Print JSON
    #[arg(long)]
    pub json: bool,
}

/// `layerseal doctor`
#[derive(Debug, Group)]
pub struct Doctor {
    /// Print JSON
    #[arg(long)]
    pub json: bool,
}

/// `layerseal runtime`, and `layerseal-runtime` for engines that name a runtime by its path alone
///
/// Verifies create, run and restore first, and looks at what the runtime makes, by hooks or when it is made; passes
/// everything else on to the runtime.
#[derive(Debug, Group)]
#[command(disable_help_flag = true)]
pub struct Runtime {
    /// Arguments of the runtime: options, a command, a container
    #[arg(trailing_var_arg = true, allow_hyphen_values = true, value_name = "ARGUMENT")]
    pub arguments: Vec<std::ffi::OsString>,
}

/// `layerseal policy`
#[derive(Debug, Subcommand)]
pub enum PolicyCommand {
    /// Show which settings apply to an image, and where they come from
    Check(PolicyCheck),
}

/// `layerseal policy check`
#[derive(Debug, Group)]
pub struct PolicyCheck {
    /// Name of the image, or all of its names if it has several
    #[arg(required = true, value_name = "NAME")]
    pub names: Vec<String>,
    /// For a container in this Kubernetes namespace
    #[arg(long, value_name = "NAMESPACE")]
    pub namespace: Option<String>,
    /// Print JSON
    #[arg(long)]
    pub json: bool,
}

/// `layerseal hook`
#[derive(Debug, Subcommand)]
pub enum HookCommand {
    /// Check the root of a container that an OCI runtime is creating; reads its state from standard input
    #[command(name = "createRuntime")]
    CreateRuntime,
    /// Restore the mount flags that the runtime dropped from a container's root; runs in the container's namespaces
    #[command(name = "createContainer")]
    CreateContainer,
    /// Replace podman's own mount with a verified one; copies the configuration from standard input to standard
    /// output
    #[command(name = "precreate")]
    Precreate,
    /// Explain the last refusal, those of a container, a hook's exit code, or the ID of a case
    Explain(Explain),
}

/// `layerseal hook explain`
#[derive(Debug, Group)]
pub struct Explain {
    /// The exit code that the runtime shows (`exit code: 4`), the ID of a case (`O03`), or a container by its name or
    /// ID [default: the last refusal, and the last call that `audit` let pass]
    #[arg(value_name = "CODE|CASE|CONTAINER")]
    pub code: Option<String>,
    /// Show the last N calls that were refused or that `audit` let pass, for this container or for all; newest first
    #[arg(long, value_name = "N", conflicts_with = "all", value_parser = clap::value_parser!(u8).range(1..))]
    pub last: Option<u8>,
    /// List every case with that exit code
    #[arg(long, requires = "code")]
    pub all: bool,
    /// Print JSON
    #[arg(long)]
    pub json: bool,
}
