//! The OCI runtime that engines call: a program of its own, because most calls are none of our business, and loading what
//! verifying needs takes longer than crun does. Everything is in the library.
#![forbid(unsafe_code)]

fn main() -> std::process::ExitCode {
    layerseal::cli::pass()
}
