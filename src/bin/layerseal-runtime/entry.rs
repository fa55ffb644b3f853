//! Where the kernel starts this program: at an address of our own in the program that is installed, and behind the C
//! library's start-up in one built for tests, where panics unwind and the standard library must be there for that.

#![allow(unsafe_code, reason = "it is given pointers")]

use core::ffi::c_char;

use crate::kernel::{Arguments, Strings};
use crate::start::{Call, run};

/// Starts with the vectors of arguments and environment, each ended by a null pointer.
///
/// # Safety
/// They are what the kernel or the C library hands over.
unsafe fn begin(arguments: *mut *const c_char, environment: *const *const c_char) -> ! {
    // SAFETY: that is what the caller says.
    run(unsafe { Call { arguments: Arguments::new(arguments), environment: Strings::new(environment) } })
}

#[cfg(not(freestanding))]
#[unsafe(no_mangle)]
extern "C" fn main(_: i32, arguments: *mut *const c_char, environment: *const *const c_char) -> i32 {
    // SAFETY: the C library hands over both.
    unsafe { begin(arguments, environment) }
}

#[cfg(freestanding)]
mod freestanding {
    use super::{begin, c_char};

    /// Starts the program: on the stack are the number of arguments, the arguments, and the environment.
    #[cfg(target_arch = "x86_64")]
    #[unsafe(naked)]
    #[unsafe(no_mangle)]
    extern "C" fn _start() -> ! {
        core::arch::naked_asm!("xor ebp, ebp", "mov rdi, rsp", "and rsp, -16", "call {}", "ud2", sym started)
    }

    /// Starts the program in the same way.
    #[cfg(target_arch = "aarch64")]
    #[unsafe(naked)]
    #[unsafe(no_mangle)]
    extern "C" fn _start() -> ! {
        core::arch::naked_asm!("mov x29, xzr", "mov x30, xzr", "mov x0, sp", "bl {}", "brk #1", sym started)
    }

    unsafe extern "C" fn started(stack: *mut usize) -> ! {
        // SAFETY: the kernel's layout of a new stack (the ABI's process initialization).
        unsafe {
            let arguments = stack.add(1).cast::<*const c_char>();
            begin(arguments, arguments.add(*stack + 1).cast_const())
        }
    }

    #[panic_handler]
    fn panic(_: &core::panic::PanicInfo<'_>) -> ! {
        crate::kernel::tell(b"layerseal: layerseal-runtime is broken\n");
        crate::kernel::exit(127)
    }
}
