//! POSIX access control lists as they lie in extended attributes (`linux/posix_acl_xattr.h`), and what the kernel makes
//! of them where a file is unpacked: its mode and its list are two views of one thing, and a list that is lost leaves
//! the mask in the group's bits.

/// `POSIX_ACL_XATTR_VERSION`.
const VERSION: u32 = 2;

const USER_OBJ: u16 = 0x01;
const USER: u16 = 0x02;
const GROUP_OBJ: u16 = 0x04;
const GROUP: u16 = 0x08;
const MASK: u16 = 0x10;
const OTHER: u16 = 0x20;

/// `ACL_UNDEFINED_ID`: the ID of entries that name no user and no group.
const NOBODY: u32 = u32::MAX;

/// The attribute that says who may do what.
pub(super) const ACCESS: &[u8] = b"system.posix_acl_access";
/// The attribute of a directory that says what files in it begin with.
pub(super) const DEFAULT: &[u8] = b"system.posix_acl_default";

#[derive(Clone, Debug, PartialEq, Eq)]
struct AclEntry {
    tag: u16,
    permissions: u16,
    id: u32,
}

/// A list that the kernel takes: entries in its order, and a mask where a user or group is named.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Acl(Vec<AclEntry>);

impl Acl {
    /// Reads the value of an attribute. `None` for an empty one, which removes a list.
    ///
    /// # Errors
    /// Why the kernel does not take it (`posix_acl_valid`).
    pub(super) fn parse(value: &[u8]) -> Result<Option<Self>, &'static str> {
        let (version, rest) = value.split_at_checked(4).ok_or("an access control list without a version")?;
        if version != VERSION.to_le_bytes() {
            return Err("an access control list of another version");
        }
        if rest.is_empty() {
            return Ok(None);
        }
        if rest.len() % 8 != 0 {
            return Err("an access control list that ends within an entry");
        }
        let entry = |bytes: &[u8]| {
            let tag = u16::from_le_bytes([bytes[0], bytes[1]]);
            let named = matches!(tag, USER | GROUP);
            let id = u32::from_le_bytes([bytes[4], bytes[5], bytes[6], bytes[7]]);
            AclEntry { tag, permissions: u16::from_le_bytes([bytes[2], bytes[3]]), id: if named { id } else { NOBODY } }
        };
        let list = Self(rest.chunks_exact(8).map(entry).collect());
        if list.valid() { Ok(Some(list)) } else { Err("an access control list that the kernel does not take") }
    }

    fn valid(&self) -> bool {
        let (mut next, mut mask) = (USER_OBJ, false);
        for entry in &self.0 {
            if entry.permissions & !7 != 0 || (matches!(entry.tag, USER | GROUP) && entry.id == NOBODY) {
                return false;
            }
            match (entry.tag, next) {
                (USER_OBJ, USER_OBJ) => next = USER,
                (USER, USER) => mask = true,
                (GROUP_OBJ, USER) => next = GROUP,
                (GROUP, GROUP) => mask = true,
                (MASK, GROUP) => next = OTHER,
                (OTHER, OTHER) => next = 0,
                (OTHER, GROUP) if !mask => next = 0,
                _ => return false,
            }
        }
        next == 0
    }

    /// Encodes the list as the value of an attribute.
    pub(super) fn value(&self) -> Box<[u8]> {
        let mut out = VERSION.to_le_bytes().to_vec();
        for AclEntry { tag, permissions, id } in &self.0 {
            out.extend_from_slice(&tag.to_le_bytes());
            out.extend_from_slice(&permissions.to_le_bytes());
            out.extend_from_slice(&id.to_le_bytes());
        }
        out.into()
    }

    /// Returns the permission bits that the list comes to, and whether these say everything (`posix_acl_equiv_mode`).
    pub(super) fn mode(&self) -> (u32, bool) {
        let (mut mode, mut all) = (0, true);
        for AclEntry { tag, permissions, .. } in &self.0 {
            let bits = u32::from(*permissions);
            match *tag {
                USER_OBJ => mode |= bits << 6,
                GROUP_OBJ => mode |= bits << 3,
                OTHER => mode |= bits,
                MASK => {
                    mode = (mode & !0o070) | (bits << 3);
                    all = false;
                }
                _ => all = false,
            }
        }
        (mode, all)
    }

    /// Changes the list as chmod(2) does (`__posix_acl_chmod_masq`).
    pub(super) fn set_mode(&mut self, mode: u32) {
        let masked = self.0.iter().any(|e| e.tag == MASK);
        for entry in &mut self.0 {
            let shift = match entry.tag {
                USER_OBJ => 6,
                MASK => 3,
                GROUP_OBJ if !masked => 3,
                OTHER => 0,
                _ => continue,
            };
            entry.permissions = (mode >> shift & 7) as u16;
        }
    }

    /// Returns the mode of a file that is made with `mode` in a directory of which this is the default list, and the
    /// list that the file begins with (`posix_acl_create_masq`): `None` where the mode says it all.
    pub(super) fn create(&self, mode: u32) -> (u32, Option<Self>) {
        let mut list = self.clone();
        let masked = list.0.iter().any(|e| e.tag == MASK);
        for entry in &mut list.0 {
            let shift = match entry.tag {
                USER_OBJ => 6,
                MASK => 3,
                GROUP_OBJ if !masked => 3,
                OTHER => 0,
                _ => continue,
            };
            entry.permissions &= (mode >> shift & 7) as u16;
        }
        let (bits, all) = list.mode();
        ((mode & !0o777) | bits, (!all).then_some(list))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn value(entries: &[(u16, u16, u32)]) -> Vec<u8> {
        let mut out = VERSION.to_le_bytes().to_vec();
        for (tag, permissions, id) in entries {
            out.extend(tag.to_le_bytes());
            out.extend(permissions.to_le_bytes());
            out.extend(id.to_le_bytes());
        }
        out
    }

    const LIST: [(u16, u16, u32); 5] =
        [(USER_OBJ, 7, 0), (USER, 6, 33), (GROUP_OBJ, 0, 0), (MASK, 6, 0), (OTHER, 0, 0)];

    #[test]
    fn lists_are_those_that_the_kernel_takes() {
        let read = Acl::parse(&value(&LIST)).unwrap().unwrap();
        assert_eq!(read.mode(), (0o760, false));
        assert_eq!(Acl::parse(&read.value()).unwrap().unwrap(), read);
        assert_eq!(Acl::parse(&VERSION.to_le_bytes()), Ok(None));
        for bad in [
            value(&LIST[..4]),
            value(&LIST[1..]),
            value(&[LIST[0], LIST[1], LIST[2], LIST[4]]),
            value(&[(USER_OBJ, 8, 0), (GROUP_OBJ, 0, 0), (OTHER, 0, 0)]),
            value(&[(USER_OBJ, 7, 0), (USER, 7, NOBODY), (GROUP_OBJ, 0, 0), (MASK, 0, 0), (OTHER, 0, 0)]),
            value(&LIST)[..20].to_vec(),
            vec![1, 0, 0, 0],
            vec![],
        ] {
            assert!(Acl::parse(&bad).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn modes_and_lists_follow_each_other() {
        let mut list = Acl::parse(&value(&LIST)).unwrap().unwrap();
        list.set_mode(0o645);
        assert_eq!(list.mode(), (0o645, false));
        let (mode, begins) = list.create(0o100_600);
        assert_eq!((mode, begins.unwrap().mode().0), (0o100_600, 0o600));
        let plain = Acl::parse(&value(&[(USER_OBJ, 7, 0), (GROUP_OBJ, 5, 0), (OTHER, 1, 0)])).unwrap().unwrap();
        assert_eq!(plain.mode(), (0o751, true));
        assert_eq!(plain.create(0o666), (0o640, None));
    }
}
