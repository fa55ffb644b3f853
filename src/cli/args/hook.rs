//! What OCI runtimes call, and what explains their refusals.

use clap::{Args as Group, Subcommand};

/// `layerseal hook`
#[derive(Debug, Subcommand)]
pub enum HookCommand {
    /// Check the root of a container that an OCI runtime is creating; its state is on the standard input
    #[command(name = "createRuntime")]
    CreateRuntime,
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
    /// The exit code that the runtime shows (`exit code: 4`), or the ID of a case (`O03`)
    #[arg(value_name = "CODE|CASE")]
    pub code: String,
    /// Print JSON
    #[arg(long)]
    pub json: bool,
}
