//! OpenSSL, loaded when one of its functions is called first. Loading it takes longer than most of what we are called
//! for (its own relocations are 150 pages), and its libssl is needed for talking to registries only. So the program
//! does not name the libraries to the loader: each of their functions is a jump through a place here, which is empty
//! until the function is called.
//!
//! Only the listed functions are loaded this way: any other that comes into use makes the loader load its library at
//! the start again, and `tests/modules.rs` says so. On other processors, and with another libc, they are linked as
//! usual.

use std::ffi::{CStr, c_char, c_int, c_void};
use std::sync::OnceLock;

use super::options;

macro_rules! libraries {
    ($name:literal) => {
        concat!($name, ".so.", env!("LAYERSEAL_OPENSSL"), "\0")
    };
}

const SSL: &str = libraries!("libssl");
const CRYPTO: &str = libraries!("libcrypto");

/// A library and its handle, once it is loaded.
struct Library {
    file: &'static str,
    loaded: OnceLock<usize>,
}

static LIBSSL: Library = Library { file: SSL, loaded: OnceLock::new() };
static LIBCRYPTO: Library = Library { file: CRYPTO, loaded: OnceLock::new() };

/// Loads both libraries: for a process that is about to see files that are not the host's.
pub(super) fn load() {
    LIBCRYPTO.load();
    LIBSSL.load();
}

/// Finds a function of OpenSSL.
extern "C" fn find(name: *const c_char) -> *const c_void {
    // SAFETY: the names are those of the list below, each with its NUL.
    let name = unsafe { CStr::from_ptr(name) };
    let tls = [&b"SSL_"[..], b"TLS_"].iter().any(|start| name.to_bytes().starts_with(start));
    let library = if tls { &LIBSSL } else { &LIBCRYPTO };
    library.function(library.load(), name)
}

impl Library {
    fn load(&self) -> usize {
        *self.loaded.get_or_init(|| {
            // SAFETY: the library's name has its NUL; what it does when it is loaded it did before when the program
            // was.
            let handle = unsafe { libc::dlopen(self.file.as_ptr().cast(), FLAGS) } as usize;
            if handle == 0 {
                missing();
            }
            if let Some(options) = options().filter(|_| self.file == CRYPTO) {
                let start = self.function(handle, c"OPENSSL_init_crypto");
                // SAFETY: it is a function of these arguments (openssl/crypto.h); the null pointer asks for the default
                // settings. What it returns says whether OpenSSL can be used; the first use of it would tell as well.
                unsafe { std::mem::transmute::<*const c_void, Start>(start)(options, std::ptr::null()) };
            }
            handle
        })
    }

    /// Finds a function of the library. Without it nothing can go on: the program ends, and nothing that was asked for
    /// is done.
    fn function(&self, handle: usize, name: &CStr) -> *const c_void {
        // SAFETY: a handle of the library, which is never closed, and a name.
        let found = unsafe { libc::dlsym(handle as *mut c_void, name.as_ptr()) };
        if found.is_null() {
            missing();
        }
        found
    }
}

type Start = extern "C" fn(u64, *const c_void) -> c_int;

/// The flags as for a library that the program names: resolved at once, and not visible to others.
const FLAGS: c_int = libc::RTLD_NOW | libc::RTLD_LOCAL;

#[cold]
fn missing() -> ! {
    // SAFETY: it is called behind a call that failed, and gives a text or nothing.
    let why = unsafe { libc::dlerror() };
    // SAFETY: where it is a text it ends, and stays until the next call.
    let why = if why.is_null() { c"not found" } else { unsafe { CStr::from_ptr(why) } };
    crate::sys::process::tell(&format!(
        "layerseal: OpenSSL cannot be loaded: {}; install OpenSSL 3 (libssl3, openssl-libs)",
        why.to_string_lossy()
    ));
    std::process::abort();
}

// `later NAME` makes the function NAME; `later NAME, OTHER` one that is called OTHER by the library. A function's place
// is in r11 and its name in r10 when it is looked for: no caller expects these two to be kept (System V ABI, AMD64,
// 3.2.1).
std::arch::global_asm!(
    ".macro later name, real",
    ".pushsection .bss.later_\\name, \"aw\", @nobits",
    ".balign 8",
    ".Llater_place_\\name: .zero 8",
    ".popsection",
    ".pushsection .rodata.later_\\name, \"a\", @progbits",
    ".Llater_name_\\name:",
    ".ifb \\real",
    ".asciz \"\\name\"",
    ".else",
    ".asciz \"\\real\"",
    ".endif",
    ".popsection",
    ".pushsection .text.later_\\name, \"ax\", @progbits",
    ".globl \\name",
    ".hidden \\name",
    ".type \\name, @function",
    "\\name:",
    "endbr64",
    "mov r11, qword ptr [rip + .Llater_place_\\name]",
    "test r11, r11",
    "jz 2f",
    "jmp r11",
    "2:",
    "lea r11, [rip + .Llater_place_\\name]",
    "lea r10, [rip + .Llater_name_\\name]",
    "jmp .Llater_find",
    ".size \\name, . - \\name",
    ".popsection",
    ".endm",
    ".pushsection .text.later_find, \"ax\", @progbits",
    ".Llater_find:",
    // The function's arguments; rax counts those of a variadic one.
    "push rdi",
    "push rsi",
    "push rdx",
    "push rcx",
    "push r8",
    "push r9",
    "push rax",
    "push r11",
    // This aligns the stack to 16 bytes: eight of these and the return address are on it.
    "sub rsp, 8",
    "mov rdi, r10",
    "call {find}",
    "add rsp, 8",
    "pop r11",
    "mov qword ptr [r11], rax",
    "mov r11, rax",
    "pop rax",
    "pop r9",
    "pop r8",
    "pop rcx",
    "pop rdx",
    "pop rsi",
    "pop rdi",
    "jmp r11",
    ".popsection",
    // The libssl of whoever speaks TLS starts itself; others need the other half alone.
    "later OPENSSL_init_ssl, OPENSSL_init_crypto",
    "later ASN1_STRING_get0_data",
    "later ASN1_STRING_length",
    "later ASN1_TIME_diff",
    "later ASN1_TIME_free",
    "later ASN1_TIME_print",
    "later ASN1_TIME_set",
    "later BIO_clear_flags",
    "later BIO_ctrl",
    "later BIO_free_all",
    "later BIO_get_data",
    "later BIO_meth_free",
    "later BIO_meth_new",
    "later BIO_meth_set_create",
    "later BIO_meth_set_ctrl",
    "later BIO_meth_set_destroy",
    "later BIO_meth_set_puts",
    "later BIO_meth_set_read",
    "later BIO_meth_set_write",
    "later BIO_new",
    "later BIO_new_mem_buf",
    "later BIO_s_mem",
    "later BIO_set_data",
    "later BIO_set_flags",
    "later BIO_set_init",
    "later BN_CTX_free",
    "later BN_CTX_new",
    "later BN_cmp",
    "later BN_dup",
    "later BN_free",
    "later BN_is_bit_set",
    "later BN_is_negative",
    "later BN_new",
    "later BN_num_bits",
    "later BN_rshift1",
    "later BN_sub",
    "later CRYPTO_get_ex_new_index",
    "later ECDSA_SIG_free",
    "later ECDSA_SIG_get0",
    "later ECDSA_SIG_new",
    "later ECDSA_SIG_set0",
    "later EC_GROUP_free",
    "later EC_GROUP_get_order",
    "later EC_GROUP_new_by_curve_name",
    "later EC_KEY_free",
    "later EC_KEY_get0_group",
    "later ERR_get_error_all",
    "later ERR_lib_error_string",
    "later ERR_reason_error_string",
    "later EVP_DecodeBlock",
    "later EVP_EncodeBlock",
    "later EVP_PKEY_cmp",
    "later EVP_PKEY_free",
    "later EVP_PKEY_get1_EC_KEY",
    "later EVP_PKEY_get1_RSA",
    "later OBJ_obj2nid",
    "later OPENSSL_sk_free",
    "later OPENSSL_sk_new_null",
    "later OPENSSL_sk_pop",
    "later OPENSSL_sk_push",
    "later OSSL_PROVIDER_load",
    "later OSSL_STORE_INFO_free",
    "later OSSL_STORE_INFO_get1_PKEY",
    "later OSSL_STORE_INFO_get_type",
    "later OSSL_STORE_close",
    "later OSSL_STORE_eof",
    "later OSSL_STORE_load",
    "later OSSL_STORE_open",
    "later OpenSSL_version_num",
    "later PEM_read_bio_PrivateKey",
    "later PEM_read_bio_X509",
    "later PEM_write_bio_PKCS8PrivateKey",
    "later PKCS7_free",
    "later PKCS7_sign",
    "later PKCS7_verify",
    "later RSA_free",
    "later RSA_get0_key",
    "later SHA256_Final",
    "later SHA256_Init",
    "later SHA256_Update",
    "later SSL_CTX_ctrl",
    "later SSL_CTX_free",
    "later SSL_CTX_get_cert_store",
    "later SSL_CTX_load_verify_locations",
    "later SSL_CTX_new",
    "later SSL_CTX_set_cert_store",
    "later SSL_CTX_set_cipher_list",
    "later SSL_CTX_set_default_verify_paths",
    "later SSL_CTX_set_options",
    "later SSL_CTX_set_verify",
    "later SSL_CTX_up_ref",
    "later SSL_CTX_use_PrivateKey",
    "later SSL_CTX_use_certificate",
    "later SSL_connect",
    "later SSL_ctrl",
    "later SSL_free",
    "later SSL_get0_param",
    "later SSL_get_error",
    "later SSL_get_ex_data",
    "later SSL_get_rbio",
    "later SSL_get_verify_result",
    "later SSL_new",
    "later SSL_read_ex",
    "later SSL_set_bio",
    "later SSL_set_ex_data",
    "later SSL_set_verify",
    "later SSL_write_ex",
    "later TLS_method",
    "later X509_ALGOR_get0",
    "later X509_STORE_add_cert",
    "later X509_STORE_free",
    "later X509_STORE_new",
    "later X509_VERIFY_PARAM_set1_host",
    "later X509_VERIFY_PARAM_set1_ip",
    "later X509_VERIFY_PARAM_set_hostflags",
    "later X509_free",
    "later X509_get0_signature",
    "later X509_get_key_usage",
    "later X509_get_pubkey",
    "later X509_getm_notAfter",
    "later X509_getm_notBefore",
    "later X509_up_ref",
    "later X509_verify",
    "later X509_verify_cert_error_string",
    "later d2i_ECDSA_SIG",
    "later d2i_PKCS7",
    "later d2i_X509",
    "later i2d_ECDSA_SIG",
    "later i2d_PKCS7",
    "later i2d_X509",
    find = sym find,
);
