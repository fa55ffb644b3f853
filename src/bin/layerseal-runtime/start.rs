//! What is done with a call.

use core::ffi::CStr;

use crate::kernel::{self, Arguments, Child, Ended, Socket, Strings};
use crate::runtime_note::{self, GO_ON, REMOVE, SUPERVISE};

/// The words that start a container, in all runtimes. `layerseal` reads the call as they do; here it is enough that none
/// of these words is in it.
const STARTS: [&CStr; 3] = [c"create", c"run", c"restore"];

/// Why there is nothing left to do.
const BROKEN: &[u8] =
    b"layerseal: the program layerseal, which verifies, cannot be run: it belongs beside layerseal-runtime\n";

const NOT_MADE: &[u8] =
    b"layerseal: the runtime was killed or could not be started, and there is no container: start it again\n";
const GONE: &[u8] = b"layerseal: the runtime that runtime.toml names cannot be run (see: layerseal doctor)\n";
const KILLED: &[u8] =
    b"layerseal: nobody looked at the container that the runtime made, since what looks was killed: start it again\n";

/// What the kernel started us with.
pub struct Call {
    /// The words.
    pub arguments: Arguments,
    /// The environment.
    pub environment: Strings,
}

/// Does what the engine asks for.
pub fn run(call: Call) -> ! {
    let [_, verb, stage, root, flags @ ..] = call.arguments.first();
    if verb == Some(c"hook") {
        // Without flags, or with one that is not known, `layerseal` looks at the mounts itself.
        if let Some(root) = root
            && stage == Some(c"createContainer")
            && kernel::restrict(root, flags.into_iter().flatten())
        {
            // The runtime fails if nobody reads the state that it writes.
            kernel::read_to_end();
            kernel::exit(0);
        }
        become_layerseal(&call, &[]);
    }
    let mut note = [0; runtime_note::LONGEST];
    let Some(runtime) = noted(&mut note) else { become_layerseal(&call, &[c"runtime"]) };
    if call.arguments.iter().skip(1).any(|word| STARTS.contains(&word)) {
        let Some((layerseal, socket)) = supervisor(&call) else { become_layerseal(&call, &[c"runtime"]) };
        if socket.read() == Some(GO_ON) {
            make(&call, runtime, layerseal, socket);
        }
        match layerseal.wait() {
            Ended::Exited(0) => {}
            Ended::Exited(code) => kernel::exit(code),
            // It has told nobody why: once more, as a child of a process that does.
            Ended::Otherwise => become_layerseal(&call, &[c"runtime"]),
        }
    }
    kernel::execute(runtime, call.arguments.named(runtime), &call.environment);
    become_layerseal(&call, &[c"runtime"])
}

/// Returns the runtime's path, if it is known for certain.
fn noted(note: &mut [u8; runtime_note::LONGEST]) -> Option<&CStr> {
    let length = kernel::read_roots_file(runtime_note::NOTE, note)?;
    runtime_note::path(note.get(..length)?, kernel::identity)
}

/// Has the container's root verified, in a child: descriptors, environment and working directory here stay as they are.
fn supervisor(call: &Call) -> Option<(Child, Socket)> {
    let (own, other) = Socket::pair()?;
    let child = Child::start(|| {
        if other.becomes_input() {
            become_layerseal(call, &[SUPERVISE]);
        }
    })?;
    other.close();
    Some((child, own))
}

/// Has the runtime make the container, and `layerseal` look at it.
fn make(call: &Call, runtime: &CStr, layerseal: Child, socket: Socket) -> ! {
    let made = Child::start(|| {
        kernel::execute(runtime, call.arguments.named(runtime), &call.environment);
        kernel::tell(GONE);
    });
    match made.map_or(Ended::Otherwise, Child::wait) {
        Ended::Exited(0) => socket.write(GO_ON),
        ended => {
            // There is nothing to look at; but what it writes down is to be whole.
            socket.close();
            layerseal.wait();
            if let Ended::Exited(code) = ended {
                kernel::exit(code);
            }
            kernel::tell(NOT_MADE);
            kernel::exit(1);
        }
    }
    if socket.read() == Some(GO_ON) {
        kernel::exit(0);
    }
    let looked = layerseal.wait();
    if let Some(remover) = Child::start(|| become_layerseal(call, &[REMOVE])) {
        remover.wait();
    }
    match looked {
        Ended::Exited(code @ 1..) => kernel::exit(code),
        _ => kernel::tell(KILLED),
    }
    kernel::exit(1)
}

/// Becomes `layerseal`, with these words before those of the call.
fn become_layerseal(call: &Call, words: &[&CStr]) -> ! {
    let mut own = [0; 4096];
    if let Some(program) = kernel::beside_own_program(&mut own, c"layerseal") {
        kernel::execute_with(program, words, &call.arguments, &call.environment);
    }
    kernel::tell(BROKEN);
    kernel::exit(127)
}
