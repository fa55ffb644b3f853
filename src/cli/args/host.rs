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
    /// Let no further certificate in until the next boot
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
/// create, run and restore are verified first, and get the hooks createRuntime and createContainer; everything else is the
/// runtime's at once.
#[derive(Debug, Group)]
#[command(disable_help_flag = true)]
pub struct Runtime {
    /// The runtime's own: options, a verb, a container
    #[arg(trailing_var_arg = true, allow_hyphen_values = true, value_name = "ARGUMENT")]
    pub arguments: Vec<std::ffi::OsString>,
}

/// `layerseal policy`
#[derive(Debug, Subcommand)]
pub enum PolicyCommand {
    /// Say what counts for an image, and which rule says so
    Check(PolicyCheck),
}

/// `layerseal policy check`
#[derive(Debug, Group)]
pub struct PolicyCheck {
    /// The image's name; several if it has several
    #[arg(required = true, value_name = "NAME")]
    pub names: Vec<String>,
    /// Print JSON
    #[arg(long)]
    pub json: bool,
}

/// `layerseal hook`
#[derive(Debug, Subcommand)]
pub enum HookCommand {
    /// Check the root of a container that an OCI runtime is creating; its state is on the standard input
    #[command(name = "createRuntime")]
    CreateRuntime,
    /// Give the root of a container the flags back that the runtime took away; in the container's namespaces
    #[command(name = "createContainer")]
    CreateContainer,
    /// Put a verified mount in the place of podman's own; the configuration goes from the standard input to
    /// the standard output
    #[command(name = "precreate")]
    Precreate,
    /// Say what an exit code of a hook means, or the ID of a case
    Explain(Explain),
}

/// `layerseal hook explain`
#[derive(Debug, Group)]
pub struct Explain {
    /// The exit code that the runtime shows (`exit code: 4`), or the ID of a case (`O03`); without it the last that
    /// was refused, and the last that `audit` let pass
    #[arg(value_name = "CODE|CASE")]
    pub code: Option<String>,
    /// List every case with that exit code
    #[arg(long, requires = "code")]
    pub all: bool,
    /// Print JSON
    #[arg(long)]
    pub json: bool,
}
