//! This process: what it inherits from whoever started it.

/// Takes away the whole environment, so that no variable of the caller reaches a library
/// (`OPENSSL_CONF`), a child process (`PATH`, `LD_PRELOAD`) or us.
///
/// To be called first thing, while there is one thread.
pub fn clear_environment() {
    // SAFETY: no other thread exists yet that could read the environment at the same time; this is
    // called at the beginning of `main`. (Not variable by variable: a name may be one that cannot be
    // taken away by itself, such as `=x`.)
    unsafe { libc::clearenv() };
    rustix::process::umask(rustix::fs::Mode::from_raw_mode(0o022));
}

/// Starts OpenSSL without the texts of its errors, which take longer than everything else that a start
/// does with it. Errors are then numbers; who reads them has our own words beside them.
pub fn start_openssl() {
    /// `OPENSSL_INIT_NO_LOAD_CRYPTO_STRINGS` and `OPENSSL_INIT_NO_LOAD_SSL_STRINGS` (openssl/crypto.h,
    /// openssl/ssl.h).
    const WITHOUT_TEXTS: u64 = 0x1 | 0x0010_0000;
    // SAFETY: both arguments are plain values, and the null pointer asks for the default settings. What
    // it returns says whether OpenSSL can be used; the first use of it would tell as well.
    unsafe { openssl_sys::OPENSSL_init_ssl(WITHOUT_TEXTS, std::ptr::null()) };
}

/// Whether this is root, and of the first user namespace: root of any other can mount no EROFS.
pub fn is_real_root() -> bool {
    let whole = |map: String| map.split_whitespace().eq(["0", "0", "4294967295"]);
    rustix::process::geteuid().is_root() && std::fs::read_to_string("/proc/self/uid_map").is_ok_and(whole)
}
