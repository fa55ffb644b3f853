//! This process: what it inherits from whoever started it.

use std::sync::OnceLock;
use std::time::{Duration, Instant};

/// Takes away the whole environment, so that no variable of the caller reaches a library
/// (`OPENSSL_CONF`), a child process (`PATH`, `LD_PRELOAD`) or us.
///
/// Must be called first of all, while there is one thread.
pub fn clear_environment() {
    // SAFETY: no other thread exists yet that could read the environment at the same time; this is
    // called at the beginning of `main`. (Not variable by variable: a name may be one that cannot be
    // taken away by itself, such as `=x`.)
    unsafe { libc::clearenv() };
    rustix::process::umask(rustix::fs::Mode::from_raw_mode(0o022));
}

/// Has the C library's heap do what this program needs (mallopt(3)):
///
/// - Large buffers are returned to the kernel as soon as they are freed. Otherwise the first one that is freed makes glibc
///   keep all later ones of its size, for every thread by itself: a fifth of what a pull needs. `M_MMAP_THRESHOLD` is
///   set to its default, which keeps it from growing.
/// - The heap grows and shrinks in larger steps, and has no list of small pieces that is put in order whenever a large
///   one is freed: both were a twentieth of what a start costs.
pub fn tune_heap() {
    #[cfg(target_env = "gnu")]
    for (parameter, value) in [
        (libc::M_MMAP_THRESHOLD, 128 << 10),
        (libc::M_TOP_PAD, 512 << 10),
        (libc::M_TRIM_THRESHOLD, 2 << 20),
        (libc::M_MXFAST, 0),
    ] {
        // SAFETY: two numbers; it sets a variable of the allocator. Where it fails memory is what it was.
        unsafe { libc::mallopt(parameter, value) };
    }
}

/// Closes descriptors that the caller left open in every program that is started: a daemon in the background would hold
/// them for as long as it lives. Ours are closed with us.
pub fn keep_descriptors() {
    // SAFETY: three numbers; the call reads and writes no memory. Linux before 5.11 does not know it, and
    // then nothing is changed.
    unsafe { libc::syscall(libc::SYS_close_range, 3, libc::c_uint::MAX, libc::CLOSE_RANGE_CLOEXEC) };
}

/// Makes the program that `command` starts end with this thread, which must be the one that starts it.
pub fn die_with_us(command: &mut std::process::Command) {
    use std::os::unix::process::CommandExt as _;
    let ask = || Ok(rustix::process::set_parent_process_death_signal(Some(rustix::process::Signal::KILL))?);
    // SAFETY: between fork and exec the closure makes one system call, prctl(2), and allocates nothing.
    unsafe { command.pre_exec(ask) };
}

/// How long a slow reader may take.
const PATIENCE: std::time::Duration = std::time::Duration::from_secs(2);

/// How much a pipe with room takes at once (pipe(7)).
const PIPE_BUF: usize = 4096;

/// Returns whether the standard error is a file, which somebody may read later for any purpose.
pub fn tells_a_file() -> bool {
    use rustix::fs::{FileType, fstat};
    fstat(std::io::stderr()).is_ok_and(|s| FileType::from_raw_mode(s.st_mode) == FileType::RegularFile)
}

/// Writes a line to the standard error, unless nobody reads it: a pipe that is full must not keep us from ending. What
/// matters is the exit code.
pub fn tell(line: &str) {
    use std::io::Write as _;
    let mut text = format!("{line}\n");
    if text.len() > PIPE_BUF {
        text = text.chars().map(|c| if c.is_ascii() { c } else { '?' }).collect();
    }
    let stderr = std::io::stderr();
    let timeout = rustix::event::Timespec::try_from(PATIENCE).ok();
    let mut ready = [rustix::event::PollFd::new(&stderr, rustix::event::PollFlags::OUT)];
    if rustix::event::poll(&mut ready, timeout.as_ref()).is_ok_and(|n| n > 0) {
        let _ = stderr.lock().write_all(text.as_bytes());
    }
}

static BEGUN: OnceLock<Instant> = OnceLock::new();

/// Remembers when this program began; only the first call does.
pub fn begin() {
    let _ = BEGUN.set(Instant::now());
}

/// Returns the time since [`begin`] was called.
pub fn since_begun() -> Duration {
    BEGUN.get().map(Instant::elapsed).unwrap_or_default()
}

/// Returns the seconds since 1970; a clock before that is 0, and then no certificate is valid yet.
pub fn now() -> i64 {
    std::time::SystemTime::now()
        .duration_since(std::time::UNIX_EPOCH)
        .map_or(0, |d| i64::try_from(d.as_secs()).unwrap_or(i64::MAX))
}

/// Returns the current time in nanoseconds, as files have it.
pub fn now_nanoseconds() -> i128 {
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
    now.map_or(0, |d| i128::try_from(d.as_nanos()).unwrap_or(i128::MAX))
}

/// Returns when the process that started this one was itself started, in nanoseconds since 1970: no later than that,
/// and at most a tick earlier.
pub fn parent_started() -> Option<i128> {
    use rustix::time::{ClockId, clock_gettime};
    const SECOND: i128 = 1_000_000_000;
    let parent = rustix::process::getppid()?.as_raw_nonzero();
    // proc_pid_stat(5): the start in ticks since the boot, the 22nd field; the name stands in parentheses.
    let stat = std::fs::read_to_string(format!("/proc/{parent}/stat")).ok()?;
    let ticks: i128 = stat.rsplit_once(") ")?.1.split(' ').nth(19)?.parse().ok()?;
    let clock = |id| {
        let time = clock_gettime(id);
        i128::from(time.tv_sec) * SECOND + i128::from(time.tv_nsec)
    };
    let since_boot = ticks * SECOND / i128::from(rustix::param::clock_ticks_per_second());
    Some(clock(ClockId::Realtime) - (clock(ClockId::Boottime) - since_boot))
}

/// Whose process this is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum User {
    /// Root's, in the first user namespace.
    Root,
    /// Another user's, or root's in another user namespace, which can mount no EROFS.
    Rootless,
    /// Root's, in a user namespace that cannot be determined: it is not taken for a rootless user, of whom less is
    /// asked.
    Unknown,
}

/// Returns whose process this is, as far as the kernel's own `/proc` says.
pub fn user() -> User {
    if !rustix::process::geteuid().is_root() {
        return User::Rootless;
    }
    match std::fs::read_to_string("/proc/self/uid_map") {
        Ok(map) if map.split_whitespace().eq(["0", "0", "4294967295"]) => User::Root,
        Ok(_) if super::files::check_proc().is_ok() => User::Rootless,
        _ => User::Unknown,
    }
}

/// Returns whether no process has this number. Asked by a signal that is none: from a process that SELinux confines, others
/// may be hidden in `/proc`.
pub fn has_ended(number: u32) -> bool {
    let process = i32::try_from(number).ok().and_then(rustix::process::Pid::from_raw);
    process.is_none_or(|process| rustix::process::test_kill_process(process) == Err(rustix::io::Errno::SRCH))
}

/// Returns whether this process is root's, in the first user namespace.
pub fn is_real_root() -> bool {
    user() == User::Root
}

/// Returns when root's newest process was started whose name is `name` and among whose arguments `argument` occurs, in
/// seconds since 1970.
pub fn started(name: &str, argument: &str) -> Option<i64> {
    use std::os::unix::fs::MetadataExt as _;
    // proc_stat(5) and proc_pid_stat(5): the boot in seconds since 1970, the start in ticks since then.
    let stat = std::fs::read_to_string("/proc/stat").ok()?;
    let boot: i64 = stat.lines().find_map(|l| l.strip_prefix("btime "))?.trim().parse().ok()?;
    let ticks = i64::try_from(rustix::param::clock_ticks_per_second()).ok()?;
    let start = |process: &std::path::Path| -> Option<i64> {
        let named = std::fs::read_to_string(process.join("comm")).ok()?.trim() == name;
        if !named || std::fs::metadata(process).ok()?.uid() != 0 {
            return None;
        }
        let arguments = String::from_utf8_lossy(&std::fs::read(process.join("cmdline")).ok()?).into_owned();
        let stat = std::fs::read_to_string(process.join("stat")).ok()?;
        // The name stands in parentheses, and the start is the 22nd field.
        let field: i64 = stat.rsplit_once(") ")?.1.split(' ').nth(19)?.parse().ok()?;
        arguments.contains(argument).then_some(boot + field / ticks)
    };
    std::fs::read_dir("/proc").ok()?.flatten().filter_map(|e| start(&e.path())).max()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn processes_that_have_ended() {
        let mut child = std::process::Command::new("sleep").arg("1000").spawn().unwrap();
        let number = child.id();
        assert!(!has_ended(number) && !has_ended(std::process::id()) && !has_ended(1));
        child.kill().unwrap();
        // Until somebody asks how it ended it is there.
        assert!(!has_ended(number));
        child.wait().unwrap();
        assert!(has_ended(number) && has_ended(0) && has_ended(u32::MAX));
    }
}
