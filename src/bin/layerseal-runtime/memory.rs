//! What compiled code expects of a C library: it may call these wherever it moves or compares memory.

#![allow(unsafe_code, reason = "it is given pointers")]

use core::ffi::{c_char, c_int};

/// Copies, as in C.
///
/// # Safety
/// As in C; also for all below.
#[unsafe(no_mangle)]
unsafe extern "C" fn memcpy(to: *mut u8, from: *const u8, length: usize) -> *mut u8 {
    for at in 0..length {
        // SAFETY: within what the caller says.
        unsafe { *to.add(at) = *from.add(at) };
    }
    to
}

#[unsafe(no_mangle)]
unsafe extern "C" fn memmove(to: *mut u8, from: *const u8, length: usize) -> *mut u8 {
    if to.cast_const() <= from {
        // SAFETY: what is written was read before.
        return unsafe { memcpy(to, from, length) };
    }
    for at in (0..length).rev() {
        // SAFETY: within what the caller says.
        unsafe { *to.add(at) = *from.add(at) };
    }
    to
}

#[unsafe(no_mangle)]
unsafe extern "C" fn memset(to: *mut u8, value: c_int, length: usize) -> *mut u8 {
    for at in 0..length {
        // SAFETY: within what the caller says.
        unsafe { *to.add(at) = value as u8 };
    }
    to
}

#[unsafe(no_mangle)]
unsafe extern "C" fn memcmp(one: *const u8, other: *const u8, length: usize) -> c_int {
    for at in 0..length {
        // SAFETY: within what the caller says.
        let (one, other) = unsafe { (*one.add(at), *other.add(at)) };
        if one != other {
            return c_int::from(one) - c_int::from(other);
        }
    }
    0
}

#[unsafe(no_mangle)]
unsafe extern "C" fn bcmp(one: *const u8, other: *const u8, length: usize) -> c_int {
    // SAFETY: what the caller says.
    unsafe { memcmp(one, other, length) }
}

#[unsafe(no_mangle)]
unsafe extern "C" fn strlen(string: *const c_char) -> usize {
    let mut length = 0;
    // SAFETY: up to the end of the string.
    while unsafe { *string.add(length) } != 0 {
        length += 1;
    }
    length
}

/// Does nothing: it is named by the core library, which is compiled for panics that unwind; here they do not.
#[unsafe(no_mangle)]
extern "C" fn rust_eh_personality() {}
