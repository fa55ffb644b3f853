//! The binary: everything is in the library.
#![deny(unsafe_code)]

fn main() -> std::process::ExitCode {
    layerseal::cli::main()
}

/// Computes what pow(3) does. It is the only function of the C library's `libm` that is needed, for the speed that
/// progress bars show and for tokio's statistics: without it there is a library less to load at every start.
#[allow(unsafe_code)]
// SAFETY: the C library's function has the same name, signature and meaning.
#[unsafe(no_mangle)]
extern "C" fn pow(base: f64, exponent: f64) -> f64 {
    libm::pow(base, exponent)
}
