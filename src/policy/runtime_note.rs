//! A note beneath `/run/layerseal` of the runtime that `runtime.toml` names. `layerseal` writes it, and the program
//! `layerseal-runtime`, of which this file is a part too and which has neither a heap nor a TOML parser, reads it: the
//! runtime is the noted one while everything that was looked at is what it was.

use core::ffi::CStr;

/// Where the note is.
pub const NOTE: &CStr = c"/run/layerseal/runtime";

/// Where `runtime.toml` may be.
pub const FILES: [&CStr; 3] =
    [c"/usr/lib/layerseal/runtime.toml", c"/run/layerseal/runtime.toml", c"/etc/layerseal/runtime.toml"];

/// What `layerseal-runtime` asks of `layerseal` about a call that may start a container: the arguments of the runtime
/// follow, and the standard input is a socket. Either it ends, with the exit code 0 if the container may start and
/// nothing is left to do; or it writes [`GO_ON`], reads one byte when the runtime has made the container, looks at that,
/// and writes [`GO_ON`] once more if it is as it must be. It reads nothing if there is no container.
pub const SUPERVISE: &CStr = c"runtime-supervise";

/// What `layerseal-runtime` asks of `layerseal` about a container that is not as it must be: that the runtime removes it.
/// The arguments of the runtime follow.
pub const REMOVE: &CStr = c"runtime-remove";

/// The byte that stands for "have the container made", in answer for "it is made", and then for "let it be started".
pub const GO_ON: u8 = b'g';

/// What a file or directory is known by, as statx(2) has it: owner and mode, inode, size, seconds and nanoseconds of the
/// last change and the last modification, device. All zero for none.
pub type Identity = [u64; 8];

/// Whose identities are in the note: the files, the runtime, and the directory in which the runtime is.
const WHOSE: usize = FILES.len() + 2;
const HEAD: usize = WHOSE * size_of::<Identity>();

/// The length of the longest note that is read, in bytes.
pub const LONGEST: usize = HEAD + 1024;

/// Returns the path in the note, if the identities in it are those of now. `identity` returns that of a path; a symlink
/// is followed if the second argument says so.
pub fn path(note: &[u8], identity: impl Fn(&CStr, bool) -> Identity) -> Option<&CStr> {
    let (head, paths) = note.split_at_checked(HEAD)?;
    let program = CStr::from_bytes_until_nul(paths).ok()?;
    let directory = CStr::from_bytes_until_nul(paths.get(program.count_bytes() + 1..)?).ok()?;
    // No other is ever written.
    if !program.to_bytes().starts_with(b"/") {
        return None;
    }
    identities(program, directory, identity)
        .as_flattened()
        .iter()
        .zip(head.chunks_exact(8))
        .all(|(word, noted)| word.to_ne_bytes() == noted)
        .then_some(program)
}

/// Returns the identities that are in the note, of now.
pub fn identities(program: &CStr, directory: &CStr, identity: impl Fn(&CStr, bool) -> Identity) -> [Identity; WHOSE] {
    let [first, second, third] = FILES.map(|file| identity(file, false));
    [first, second, third, identity(program, true), identity(directory, true)]
}
