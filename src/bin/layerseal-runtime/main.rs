//! The OCI runtime that engines call: a program of its own, because most calls do not concern us. podman calls it four
//! times for a container, and what a dynamic linker, the C library and Rust's own start-up do before `main` takes
//! several times longer than the one `execve` that is left to do. So it has none of them: it does what is certain, and
//! becomes `layerseal`, which can do everything and says what is wrong, for all else:
//!
//! - A call that starts a container is verified by `layerseal` in a child; then this process becomes crun or runc.
//! - Any other call becomes crun or runc at once.
//! - The hook `createContainer` restores the flags that it is told.
//!
//! Which runtime that is, `layerseal` has noted beneath `/run/layerseal` ([`runtime_note`]); the note counts while
//! `runtime.toml` and the runtime are what they were.
// In `memory`, a loop must not become a call of itself.
#![cfg_attr(freestanding, no_std, no_builtins)]
#![cfg_attr(all(known_kernel, not(test)), no_main)]
// Its tests call the program.
#![cfg_attr(test, allow(dead_code))]

#[cfg(all(known_kernel, not(test)))]
mod entry;
#[cfg(known_kernel)]
mod kernel;
#[cfg(freestanding)]
mod memory;
#[cfg(known_kernel)]
#[path = "../../policy/runtime_note.rs"]
mod runtime_note;
#[cfg(known_kernel)]
mod start;

/// Becomes `layerseal`, which does everything, where the kernel's calls are not known.
#[cfg(not(known_kernel))]
fn main() {
    use std::os::unix::process::CommandExt as _;
    let words: Vec<_> = std::env::args_os().skip(1).collect();
    let verb = (words.first().is_none_or(|word| word != "hook")).then_some("runtime");
    let program = std::fs::read_link("/proc/self/exe").unwrap_or_default().with_file_name("layerseal");
    let error = std::process::Command::new(&program).args(verb).args(words).exec();
    eprintln!("layerseal: {}, which verifies, cannot be run: {error}", program.display());
    std::process::exit(127);
}
