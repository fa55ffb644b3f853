//! pow(3), of which the C library's own is in a library of its own.

/// Computes what pow(3) does. Nothing else of the C library's `libm` is needed, and this only for the speed that progress
/// bars show and for tokio's statistics: so there is a library less to load at every start.
// SAFETY: the C library's function has the same name, signature and meaning.
#[unsafe(no_mangle)]
extern "C" fn pow(base: f64, exponent: f64) -> f64 {
    libm::pow(base, exponent)
}
