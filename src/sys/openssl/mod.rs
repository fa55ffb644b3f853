//! How OpenSSL is loaded, and started.

#[cfg(all(target_arch = "x86_64", target_env = "gnu"))]
mod later;

use std::sync::atomic::{AtomicU64, Ordering};

/// The options for the call that starts OpenSSL; 0 where nothing was said.
static OPTIONS: AtomicU64 = AtomicU64::new(0);

/// What OpenSSL is needed for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Openssl {
    /// To verify signatures, as the host's openssl.cnf says.
    Verify,
    /// To read certificates: no algorithm is run, and no file says which ones could be.
    Read,
}

/// Starts OpenSSL without what takes longer than everything else at its start: the texts of its errors (errors are then
/// numbers; our own words stand beside them), ciphers, and taking all of that down again when the process ends.
pub fn start(purpose: Openssl) {
    /// `OPENSSL_INIT_NO_LOAD_CRYPTO_STRINGS`, `OPENSSL_INIT_NO_ADD_ALL_CIPHERS`, `OPENSSL_INIT_NO_ATEXIT`
    /// (openssl/crypto.h), and `OPENSSL_INIT_NO_LOAD_SSL_STRINGS` (openssl/ssl.h).
    const ALWAYS: u64 = 0x1 | 0x10 | 0x0008_0000 | 0x0010_0000;
    /// `OPENSSL_INIT_NO_ADD_ALL_DIGESTS` and `OPENSSL_INIT_NO_LOAD_CONFIG`.
    const TO_READ: u64 = 0x20 | 0x80;
    let options = match purpose {
        Openssl::Verify => ALWAYS,
        Openssl::Read => ALWAYS | TO_READ,
    };
    OPTIONS.store(options, Ordering::Relaxed);
    #[cfg(not(all(target_arch = "x86_64", target_env = "gnu")))]
    // SAFETY: both arguments are plain values, and the null pointer asks for the default settings. What
    // it returns says whether OpenSSL can be used; the first use of it would tell as well.
    unsafe {
        openssl_sys::OPENSSL_init_ssl(options, std::ptr::null())
    };
}

#[cfg(all(target_arch = "x86_64", target_env = "gnu"))]
fn options() -> Option<u64> {
    Some(OPTIONS.load(Ordering::Relaxed)).filter(|options| *options != 0)
}

/// Loads OpenSSL now. Must be called before the process enters a mount namespace that is not the host's: what is loaded
/// later would be that namespace's.
pub fn load() {
    #[cfg(all(target_arch = "x86_64", target_env = "gnu"))]
    later::load();
}
