//! Keys that OpenSSL finds by a URI (OSSL_STORE(7)): in a token or a TPM, by a provider.

use std::ffi::{CString, c_char, c_int, c_void};
use std::ptr::null_mut;

use foreign_types::ForeignType as _;
use openssl::error::ErrorStack;
use openssl::pkey::{PKey, Private};

/// `OSSL_STORE_INFO_PKEY` (openssl/store.h).
const IS_KEY: c_int = 4;

/// Objects that one URI may name before the first key: a token may hold certificates beside it.
const MAX_OBJECTS: usize = 1000;

// Missing in openssl-sys.
unsafe extern "C" {
    fn OSSL_STORE_open(
        uri: *const c_char,
        ui_method: *const c_void,
        ui_data: *mut c_void,
        post_process: *const c_void,
        post_process_data: *mut c_void,
    ) -> *mut c_void;
    fn OSSL_STORE_load(store: *mut c_void) -> *mut c_void;
    fn OSSL_STORE_eof(store: *mut c_void) -> c_int;
    fn OSSL_STORE_close(store: *mut c_void) -> c_int;
    fn OSSL_STORE_INFO_get_type(info: *const c_void) -> c_int;
    fn OSSL_STORE_INFO_get1_PKEY(info: *const c_void) -> *mut openssl_sys::EVP_PKEY;
    fn OSSL_STORE_INFO_free(info: *mut c_void);
}

/// Loads the first private key that `uri` names; `None` where it names none. OpenSSL asks on the terminal for a PIN
/// that the URI does not give.
///
/// # Errors
/// OpenSSL's: no provider knows the scheme, no token, a wrong PIN.
pub fn private_key(uri: &str) -> Result<Option<PKey<Private>>, ErrorStack> {
    openssl_sys::init();
    let Ok(uri) = CString::new(uri) else { return Ok(None) };
    // SAFETY: the URI is a C string that lives as long as the call; null asks for the default method to ask for
    // PINs, and for no post-processing.
    let store = unsafe { OSSL_STORE_open(uri.as_ptr(), null_mut(), null_mut(), null_mut(), null_mut()) };
    if store.is_null() {
        return Err(ErrorStack::get());
    }
    let mut key = None;
    for _ in 0..MAX_OBJECTS {
        // SAFETY: the store is open until it is closed below.
        if key.is_some() || unsafe { OSSL_STORE_eof(store) } != 0 {
            break;
        }
        // SAFETY: as above.
        let info = unsafe { OSSL_STORE_load(store) };
        if info.is_null() {
            // An object that could not be read: others may follow.
            continue;
        }
        // SAFETY: the object is not null, and is freed after its last use; what `get1` gives is a reference of
        // our own, which PKey frees.
        unsafe {
            if OSSL_STORE_INFO_get_type(info) == IS_KEY {
                let found = OSSL_STORE_INFO_get1_PKEY(info);
                key = (!found.is_null()).then(|| PKey::from_ptr(found));
            }
            OSSL_STORE_INFO_free(info);
        }
    }
    // SAFETY: opened above, and not used any more.
    unsafe { OSSL_STORE_close(store) };
    let errors = ErrorStack::get();
    if key.is_none() && !errors.errors().is_empty() { Err(errors) } else { Ok(key) }
}
