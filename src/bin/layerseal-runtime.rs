//! The OCI runtime that engines call: a separate program, because most calls do not concern us, and loading what
//! verifying needs takes longer than crun does. Everything is in the library.
#![forbid(unsafe_code)]

fn main() -> std::process::ExitCode {
    layerseal::cli::pass()
}
