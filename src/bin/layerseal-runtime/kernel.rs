//! Calls of the kernel, and the strings that it started us with. No crate that others of this package use without its
//! standard library can be linked here: features are the same for all programs of a package.

#![allow(unsafe_code, reason = "it calls the kernel")]

mod child;

use core::arch::asm;
use core::ffi::{CStr, c_char};
use core::mem::MaybeUninit;

pub use child::{Child, Ended, Socket};

use crate::runtime_note::Identity;

/// `include/uapi/asm-generic/unistd.h`, and `arch/x86/entry/syscalls/syscall_64.tbl`.
#[cfg(target_arch = "x86_64")]
mod number {
    pub const READ: usize = 0;
    pub const WRITE: usize = 1;
    pub const CLOSE: usize = 3;
    pub const RT_SIGACTION: usize = 13;
    pub const SENDTO: usize = 44;
    pub const SOCKETPAIR: usize = 53;
    pub const CLONE: usize = 56;
    pub const EXECVE: usize = 59;
    pub const WAIT4: usize = 61;
    pub const GETPPID: usize = 110;
    pub const GETPID: usize = 39;
    pub const PRCTL: usize = 157;
    pub const EXIT_GROUP: usize = 231;
    pub const OPENAT: usize = 257;
    pub const READLINKAT: usize = 267;
    pub const DUP3: usize = 292;
    pub const STATX: usize = 332;
    pub const MOUNT_SETATTR: usize = 442;
}

#[cfg(target_arch = "aarch64")]
mod number {
    pub const DUP3: usize = 24;
    pub const OPENAT: usize = 56;
    pub const CLOSE: usize = 57;
    pub const READ: usize = 63;
    pub const WRITE: usize = 64;
    pub const READLINKAT: usize = 78;
    pub const EXIT_GROUP: usize = 94;
    pub const RT_SIGACTION: usize = 134;
    pub const PRCTL: usize = 167;
    pub const GETPID: usize = 172;
    pub const GETPPID: usize = 173;
    pub const SOCKETPAIR: usize = 199;
    pub const SENDTO: usize = 206;
    pub const CLONE: usize = 220;
    pub const EXECVE: usize = 221;
    pub const WAIT4: usize = 260;
    pub const STATX: usize = 291;
    pub const MOUNT_SETATTR: usize = 442;
}

const AT_FDCWD: usize = -100_isize as usize;
const AT_SYMLINK_NOFOLLOW: usize = 0x100;
const AT_EMPTY_PATH: usize = 0x1000;
const O_CLOEXEC: usize = 0o200_0000;
#[cfg(target_arch = "x86_64")]
const O_NOFOLLOW: usize = 0o40_0000;
#[cfg(target_arch = "aarch64")]
const O_NOFOLLOW: usize = 0o10_0000;
const S_IFMT: u16 = 0o170_000;
const S_IFREG: u16 = 0o100_000;
const STATX_BASIC_STATS: usize = 0x7ff;
const EINTR: isize = -4;

/// Calls the kernel: its answer, or an error as a negative number.
///
/// # Safety
/// As the call demands.
unsafe fn call(number: usize, a: [usize; 5]) -> isize {
    let answer: isize;
    #[cfg(target_arch = "x86_64")]
    // SAFETY: the kernel's calling convention; the caller answers for the call.
    unsafe {
        asm!("syscall", inlateout("rax") number.cast_signed() => answer, in("rdi") a[0], in("rsi") a[1], in("rdx") a[2],
            in("r10") a[3], in("r8") a[4], lateout("rcx") _, lateout("r11") _, options(nostack));
    }
    #[cfg(target_arch = "aarch64")]
    // SAFETY: the same.
    unsafe {
        asm!("svc 0", in("x8") number, inlateout("x0") a[0].cast_signed() => answer, in("x1") a[1], in("x2") a[2],
            in("x3") a[3], in("x4") a[4], options(nostack));
    }
    answer
}

/// A vector of strings, ended by a null pointer.
#[derive(Clone, Copy)]
pub struct Strings(*const *const c_char);

impl Strings {
    /// Takes the kernel's vector.
    ///
    /// # Safety
    /// It lives for as long as this process, and so do its strings.
    pub const unsafe fn new(vector: *const *const c_char) -> Self {
        Self(vector)
    }

    /// Goes through the strings.
    pub fn iter(&self) -> impl Iterator<Item = &'static CStr> + use<> {
        let mut next = self.0;
        core::iter::from_fn(move || {
            // SAFETY: no pointer behind the null pointer is read.
            let string = unsafe { *next };
            if string.is_null() {
                return None;
            }
            // SAFETY: as above; and the kernel ends its strings.
            unsafe {
                next = next.add(1);
                Some(CStr::from_ptr(string))
            }
        })
    }
}

/// The words of the call, with the name of the program as the first.
#[derive(Clone, Copy)]
pub struct Arguments(*mut *const c_char);

impl Arguments {
    /// Takes the kernel's vector, which is ours to write to.
    ///
    /// # Safety
    /// As for [`Strings::new`], and nobody else reads it.
    pub const unsafe fn new(vector: *mut *const c_char) -> Self {
        Self(vector)
    }

    /// Goes through the words.
    pub fn iter(&self) -> impl Iterator<Item = &'static CStr> + use<> {
        Strings(self.0.cast_const()).iter()
    }

    /// Returns the first words: all that calls of ours have.
    pub fn first(&self) -> [Option<&'static CStr>; 7] {
        let mut words = self.iter();
        [(); 7].map(|()| words.next())
    }

    /// Returns the words with another name of the program.
    pub fn named(self, name: &CStr) -> Strings {
        // SAFETY: there is a name; without one Linux passes an empty word (since 5.18), and before that the null
        // pointer that is written over is followed by nothing that is used as words.
        unsafe {
            if !(*self.0).is_null() {
                *self.0 = name.as_ptr();
            }
        }
        Strings(self.0.cast_const())
    }
}

/// Becomes the program; returns if that fails.
pub fn execute(program: &CStr, arguments: Strings, environment: &Strings) {
    // SAFETY: strings and vectors, each ended by null.
    unsafe { call(number::EXECVE, [program.as_ptr().addr(), arguments.0.addr(), environment.0.addr(), 0, 0]) };
}

/// Becomes the program, with `words` before those of the call; returns if that fails, and if there are more words than
/// any engine writes.
pub fn execute_with(program: &CStr, words: &[&CStr], arguments: &Arguments, environment: &Strings) {
    let mut all = [const { MaybeUninit::<*const c_char>::uninit() }; 4096];
    let own = [program].into_iter().chain(words.iter().copied()).map(CStr::as_ptr);
    let rest = arguments.iter().skip(1).map(CStr::as_ptr);
    for (at, pointer) in own.chain(rest).chain([core::ptr::null()]).enumerate() {
        let Some(place) = all.get_mut(at) else { return };
        place.write(pointer);
    }
    execute(program, Strings(all.as_ptr().cast()), environment);
}

/// Finds the program that is beside this one.
pub fn beside_own_program<'a>(path: &'a mut [u8; 4096], name: &CStr) -> Option<&'a CStr> {
    let own = c"/proc/self/exe".as_ptr().addr();
    // SAFETY: a string, and room of the length that is told.
    let length = unsafe { call(number::READLINKAT, [AT_FDCWD, own, path.as_mut_ptr().addr(), path.len(), 0]) };
    let length = usize::try_from(length).ok()?;
    let directory = path.get(..length)?.iter().rposition(|byte| *byte == b'/')? + 1;
    let name = name.to_bytes_with_nul();
    path.get_mut(directory..directory + name.len())?.copy_from_slice(name);
    CStr::from_bytes_until_nul(path).ok()
}

/// `struct statx` (include/uapi/linux/stat.h).
#[repr(C)]
#[derive(Default)]
struct Statx {
    mask: u32,
    block_size: u32,
    attributes: u64,
    links: u32,
    user: u32,
    group: u32,
    mode: u16,
    spare: u16,
    inode: u64,
    size: u64,
    blocks: u64,
    attributes_mask: u64,
    accessed: [u64; 2],
    born: [u64; 2],
    changed: [u64; 2],
    modified: [u64; 2],
    special: [u32; 2],
    device: [u32; 2],
    rest: [u64; 14],
}

fn statx(directory: usize, path: &CStr, flags: usize) -> Option<Statx> {
    let mut stat = Statx::default();
    // SAFETY: a string, and room for what the kernel writes: 256 bytes.
    let answer = unsafe {
        call(number::STATX, [directory, path.as_ptr().addr(), flags, STATX_BASIC_STATS, (&raw mut stat).addr()])
    };
    (answer == 0).then_some(stat)
}

/// Returns the identity of what is at the path; of a symlink itself, unless it is to be followed.
pub fn identity(path: &CStr, follow: bool) -> Identity {
    let Some(stat) = statx(AT_FDCWD, path, if follow { 0 } else { AT_SYMLINK_NOFOLLOW }) else { return [0; 8] };
    [
        u64::from(stat.user) << 32 | u64::from(stat.mode),
        stat.inode,
        stat.size,
        stat.changed[0],
        stat.changed[1],
        stat.modified[0],
        stat.modified[1],
        u64::from(stat.device[0]) << 32 | u64::from(stat.device[1]),
    ]
}

/// Reads a file that only root can have written, and returns its length.
pub fn read_roots_file(path: &CStr, into: &mut [u8]) -> Option<usize> {
    let open = [AT_FDCWD, path.as_ptr().addr(), O_CLOEXEC | O_NOFOLLOW, 0, 0];
    // SAFETY: a string.
    let file = usize::try_from(unsafe { call(number::OPENAT, open) }).ok()?;
    let stat = statx(file, c"", AT_EMPTY_PATH)?;
    if stat.user != 0 || stat.mode & 0o022 != 0 || stat.mode & S_IFMT != S_IFREG {
        return None;
    }
    // SAFETY: room of the length that is told.
    usize::try_from(unsafe { call(number::READ, [file, into.as_mut_ptr().addr(), into.len(), 0, 0]) }).ok()
}

/// Reads the standard input to its end.
pub fn read_to_end() {
    let mut room = [const { MaybeUninit::<u8>::uninit() }; 4096];
    // SAFETY: room of the length that is told.
    while let 1.. | EINTR = unsafe { call(number::READ, [0, room.as_mut_ptr().addr(), room.len(), 0, 0]) } {}
}

/// Sets these flags of the mount at the path; whether that was done.
pub fn restrict<'a>(path: &CStr, flags: impl Iterator<Item = &'a CStr>) -> bool {
    let mut set = 0_u64;
    for flag in flags {
        // MOUNT_ATTR_NOSUID and the others.
        set |= match flag.to_bytes() {
            b"nosuid" => 2,
            b"nodev" => 4,
            b"noexec" => 8,
            _ => return false,
        };
    }
    if set == 0 {
        return false;
    }
    let attributes = [set, 0, 0, 0];
    let arguments =
        [AT_FDCWD, path.as_ptr().addr(), AT_SYMLINK_NOFOLLOW, attributes.as_ptr().addr(), size_of_val(&attributes)];
    // SAFETY: a string, and `struct mount_attr` of the length that is told.
    unsafe { call(number::MOUNT_SETATTR, arguments) == 0 }
}

/// Writes to the standard error.
pub fn tell(line: &[u8]) {
    // SAFETY: bytes of the length that is told.
    unsafe { call(number::WRITE, [2, line.as_ptr().addr(), line.len(), 0, 0]) };
}

/// Ends this process.
pub fn exit(code: u8) -> ! {
    loop {
        // SAFETY: a number.
        unsafe { call(number::EXIT_GROUP, [code.into(), 0, 0, 0, 0]) };
    }
}
