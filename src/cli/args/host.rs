//! The verbs that are about this host: its keyring, its policy, its hooks, and what it lacks.

use std::path::PathBuf;

use clap::{Args as Group, Subcommand};

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

/// `layerseal doctor`
#[derive(Debug, Group)]
pub struct Doctor {
    /// Print JSON
    #[arg(long)]
    pub json: bool,
}

/// `layerseal runtime`, and `layerseal-runtime` for engines that name a runtime by its path alone
///
/// Verifies create, run and restore first, and adds the hooks createRuntime and createContainer; passes everything else
/// on to the runtime.
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
    /// Name of the image; all of them if it has several
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
    /// Restore the mount flags of a container's root that the runtime dropped; runs in the container's namespaces
    #[command(name = "createContainer")]
    CreateContainer,
    /// Replace podman's own mount with a verified one; copies the configuration from standard input to standard
    /// output
    #[command(name = "precreate")]
    Precreate,
    /// Explain the last refusal, an exit code of a hook, or the ID of a case
    Explain(Explain),
}

/// `layerseal hook explain`
#[derive(Debug, Group)]
pub struct Explain {
    /// The exit code that the runtime shows (`exit code: 4`), or the ID of a case (`O03`) [default: what was refused
    /// last, and what `audit` let pass last]
    #[arg(value_name = "CODE|CASE")]
    pub code: Option<String>,
    /// List every case with that exit code
    #[arg(long, requires = "code")]
    pub all: bool,
    /// Print JSON
    #[arg(long)]
    pub json: bool,
}
