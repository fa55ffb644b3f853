//! The kernel's `.fs-verity` keyring (keyrings(7); fsverity.rst, "Built-in signature verification").
//!
//! It has no special key ID: it is found by name among the keys that the kernel shows, and must be
//! the kernel's own. A guess at an ID ends in the user's keyring, where nothing checks anything.

use std::ffi::CString;
use std::io;

use crate::error::{Case, Refusal, Result};

const NAME: &str = ".fs-verity";
// include/uapi/linux/keyctl.h
const KEYCTL_DESCRIBE: libc::c_int = 6;
const KEYCTL_SEARCH: libc::c_int = 10;
const KEYCTL_READ: libc::c_int = 11;
const KEYCTL_RESTRICT_KEYRING: libc::c_int = 29;

/// The keyring, found and checked.
#[derive(Clone, Copy, Debug)]
pub struct VerityKeyring(i32);

/// A key of the keyring.
#[derive(Clone, Debug)]
pub struct KeyringKey {
    /// The kernel's serial number.
    pub serial: i32,
    /// The description: for certificates subject and key identifier.
    pub description: String,
}

impl VerityKeyring {
    /// Finds the keyring.
    ///
    /// # Errors
    /// [`Case::G09Keyring`] when there is none, or something else has its name.
    pub fn find() -> Result<Self> {
        let keys = std::fs::read_to_string("/proc/keys").map_err(|e| refuse(format!("/proc/keys: {e}")))?;
        Ok(Self(find_in(&keys)?))
    }

    /// Adds a certificate to the keyring.
    ///
    /// # Errors
    /// [`Case::G09Keyring`] with the kernel's reason: restricted keyring, unknown algorithm.
    pub fn add(&self, certificate_der: &[u8]) -> Result<i32> {
        let description = CString::default();
        // SAFETY: three valid NUL-terminated strings or buffers that live through the call, and the
        // buffer's own length.
        let serial = unsafe {
            libc::syscall(
                libc::SYS_add_key,
                c"asymmetric".as_ptr(),
                description.as_ptr(),
                certificate_der.as_ptr(),
                certificate_der.len(),
                self.0,
            )
        };
        if serial < 0 {
            let e = io::Error::last_os_error();
            let why = match e.raw_os_error() {
                Some(libc::EPERM) => {
                    let why = "it is restricted: no more certificates until the next boot";
                    return Err(Refusal::new(Case::G09Restricted, NAME, why));
                }
                Some(libc::EACCES) => "only root may add certificates".to_owned(),
                Some(libc::ENOPKG | libc::EBADMSG) => format!("the kernel cannot use this certificate: {e}"),
                _ => e.to_string(),
            };
            return Err(refuse(why));
        }
        Ok(serial as i32)
    }

    /// Lists the keys of the keyring.
    ///
    /// # Errors
    /// [`Case::G09Keyring`].
    pub fn list(&self) -> Result<Vec<KeyringKey>> {
        let serials = read(self.0, KEYCTL_READ).map_err(|e| refuse(e.to_string()))?;
        serials.chunks_exact(4).map(|b| i32::from_ne_bytes([b[0], b[1], b[2], b[3]])).map(describe).collect()
    }

    /// Returns whether the keyring holds the certificate that a signature names by serial number and issuer: the
    /// content octets of its INTEGER and of its Name, of which the kernel makes an ID (crypto/asymmetric_keys,
    /// `asymmetric_key_generate_id`).
    ///
    /// # Errors
    /// [`Case::G09Keyring`].
    pub fn holds(&self, serial: &[u8], issuer: &[u8]) -> Result<bool> {
        let id = format!("ex:{}{}", hex::encode(serial), hex::encode(issuer));
        let id = CString::new(id).map_err(|e| refuse(e.to_string()))?;
        // SAFETY: KEYCTL_SEARCH takes a serial, two valid NUL-terminated strings, and a keyring to link what is
        // found into, which 0 says there is none of.
        let found =
            unsafe { libc::syscall(libc::SYS_keyctl, KEYCTL_SEARCH, self.0, c"asymmetric".as_ptr(), id.as_ptr(), 0) };
        if found >= 0 {
            return Ok(true);
        }
        let e = io::Error::last_os_error();
        match e.raw_os_error() {
            Some(libc::ENOKEY) => Ok(false),
            // The key is there; only whoever possesses the keyring may have it (security/keys/keyring.c,
            // `keyring_search_iterator`), and nobody does.
            Some(libc::EACCES) => Ok(true),
            _ => Err(refuse(e.to_string())),
        }
    }

    /// Locks the keyring: no further key is let in until the next boot.
    ///
    /// # Errors
    /// [`Case::G09Keyring`].
    pub fn restrict(&self) -> Result<()> {
        let null = std::ptr::null::<libc::c_char>();
        // SAFETY: KEYCTL_RESTRICT_KEYRING takes a serial and two strings that may be NULL: no links at
        // all.
        let r = unsafe { libc::syscall(libc::SYS_keyctl, KEYCTL_RESTRICT_KEYRING, self.0, null, null) };
        if r < 0 { Err(refuse(io::Error::last_os_error().to_string())) } else { Ok(()) }
    }
}

fn refuse(why: String) -> Refusal {
    Refusal::new(Case::G09Keyring, NAME, why)
}

fn describe(serial: i32) -> Result<KeyringKey> {
    let text = read(serial, KEYCTL_DESCRIBE).map_err(|e| refuse(e.to_string()))?;
    // type;uid;gid;permissions;description
    let text = String::from_utf8_lossy(&text).trim_end_matches('\0').to_owned();
    let description = text.splitn(5, ';').nth(4).unwrap_or(&text).to_owned();
    Ok(KeyringKey { serial, description })
}

/// Calls a keyctl(2) that fills a buffer and says how large it should have been.
fn read(serial: i32, operation: libc::c_int) -> io::Result<Vec<u8>> {
    let mut buffer = vec![0_u8; 4096];
    loop {
        // SAFETY: the buffer is writable for the length that is passed with it.
        let n = unsafe { libc::syscall(libc::SYS_keyctl, operation, serial, buffer.as_mut_ptr(), buffer.len()) };
        let n = usize::try_from(n).map_err(|_| io::Error::last_os_error())?;
        if n <= buffer.len() {
            buffer.truncate(n);
            return Ok(buffer);
        }
        buffer.resize(n, 0);
    }
}

/// Finds the serial of the one keyring of that name that belongs to root. Lines are
/// `serial flags usage expiry permissions uid gid type description: summary`.
fn find_in(keys: &str) -> Result<i32> {
    let mut found = Vec::new();
    for line in keys.lines() {
        let fields: Vec<&str> = line.split_whitespace().collect();
        let [serial, _, _, _, _, uid, _, kind, description, ..] = fields[..] else { continue };
        if kind == "keyring" && description.trim_end_matches(':') == NAME {
            if uid != "0" {
                return Err(refuse(format!("a keyring of this name belongs to user {uid}")));
            }
            found.push(u32::from_str_radix(serial, 16).map_err(|e| refuse(e.to_string()))? as i32);
        }
    }
    match found[..] {
        [one] => Ok(one),
        [] => Err(refuse("there is none".into())),
        _ => Err(refuse("there are several".into())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const KEYS: &str = "\
0d4a2c0e I--Q---     1 perm 3f030000     0 65534 keyring   _uid.0: empty
1b1e27ff I------     1 perm 1f0b0000     0     0 keyring   .fs-verity: 1
2a1e27ff I------     1 perm 1f0b0000     0     0 keyring   .fs-verity-other: 1
3a1e27ff I------     1 perm 1f0b0000     0     0 user      .fs-verity: 1
";

    #[test]
    fn g09_the_keyring_is_found_by_name_and_owner() {
        assert_eq!(find_in(KEYS).unwrap(), 0x1b1e_27ff);
        let none = KEYS.replace(".fs-verity: 1\n2", "x: 1\n2");
        assert_eq!(find_in(&none).unwrap_err().case(), Case::G09Keyring);
        let users =
            KEYS.replace("1f0b0000     0     0 keyring   .fs-verity: ", "1f0b0000  1000  1000 keyring   .fs-verity: ");
        assert_eq!(find_in(&users).unwrap_err().case(), Case::G09Keyring);
        let twice = format!("{KEYS}{}", KEYS.lines().nth(1).unwrap());
        assert_eq!(find_in(&twice).unwrap_err().case(), Case::G09Keyring);
        assert_eq!(find_in("").unwrap_err().case(), Case::G09Keyring);
    }
}
