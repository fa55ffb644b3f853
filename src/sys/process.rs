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

/// Whether this is root, and of the first user namespace: root of any other can mount no EROFS.
pub fn is_real_root() -> bool {
    let whole = |map: String| map.split_whitespace().eq(["0", "0", "4294967295"]);
    rustix::process::geteuid().is_root() && std::fs::read_to_string("/proc/self/uid_map").is_ok_and(whole)
}
