//! `uidmapping=`, `gidmapping=` and `squash_to_uid=`: how the container sees the owners of files.

use crate::error::{Case, Refusal, Result};

/// `UID_GID_MAP_MAX_EXTENTS`: the kernel accepts no more (user_namespaces(7)).
const MAX_EXTENTS: usize = 340;

/// One line of a mapping, as in `/proc/PID/uid_map`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Extent {
    /// The first ID inside the container.
    pub container: u32,
    /// The first ID on the host.
    pub host: u32,
    /// How many IDs.
    pub size: u32,
}

/// How user or group IDs are to be shown.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum IdMapping {
    /// As they are.
    #[default]
    None,
    /// By this map, which may be empty: containers-storage writes `uidmapping=` for a container that has a map without
    /// entries.
    Map(Vec<Extent>),
    /// All as this single ID of the host: written instead of a map with a single ID.
    Squash(u32),
}

impl IdMapping {
    /// Parses `:C:H:S[:C:H:S]…`. The first colon is an accident of containers-storage that fuse-overlayfs has learned
    /// to expect; it may be missing.
    ///
    /// # Errors
    /// [`Case::A13IdMap`].
    pub(super) fn map(option: &str, text: &[u8]) -> Result<Self> {
        let bad = |why: &str| Refusal::new(Case::A13IdMap, option, why);
        let text = text.strip_prefix(b":").unwrap_or(text);
        if text.is_empty() {
            return Ok(Self::Map(Vec::new()));
        }
        let numbers = text.split(|b| *b == b':').map(|n| id(option, n)).collect::<Result<Vec<_>>>()?;
        let (triples, rest) = numbers.as_chunks::<3>();
        if !rest.is_empty() {
            return Err(bad("not triples of container ID, host ID and size"));
        }
        Self::extents(option, triples.iter().map(|&[container, host, size]| Extent { container, host, size }).collect())
    }

    /// Makes a map of these ranges.
    ///
    /// # Errors
    /// [`Case::A13IdMap`].
    pub(super) fn extents(option: &str, extents: Vec<Extent>) -> Result<Self> {
        let bad = |why: &str| Refusal::new(Case::A13IdMap, option, why);
        if extents.len() > MAX_EXTENTS {
            return Err(bad("more than 340 ranges"));
        }
        disjoint(extents.iter().map(|e| (e.container, e.size)).collect()).map_err(bad)?;
        disjoint(extents.iter().map(|e| (e.host, e.size)).collect()).map_err(bad)?;
        Ok(Self::Map(extents))
    }

    /// Returns the ID on the host of one in the container; the same for one that has none.
    pub fn host(&self, id: u32) -> u32 {
        match self {
            Self::None => id,
            Self::Squash(one) => *one,
            Self::Map(extents) => extents
                .iter()
                .find_map(|e| id.checked_sub(e.container).filter(|n| *n < e.size).and_then(|n| e.host.checked_add(n)))
                .unwrap_or(id),
        }
    }

    /// Parses the ID of `squash_to_uid=`.
    ///
    /// # Errors
    /// [`Case::A13IdMap`].
    pub(super) fn squash(option: &str, text: &[u8]) -> Result<Self> {
        match id(option, text)? {
            // (uid_t) -1 is not a user (setuid(2)).
            u32::MAX => Err(Refusal::new(Case::A13IdMap, option, "not an ID")),
            id => Ok(Self::Squash(id)),
        }
    }
}

/// Parses digits and nothing else: `str::parse` would accept a sign.
fn id(option: &str, text: &[u8]) -> Result<u32> {
    let digits = std::str::from_utf8(text).ok().filter(|t| !t.is_empty() && t.bytes().all(|b| b.is_ascii_digit()));
    digits
        .and_then(|t| t.parse().ok())
        .ok_or_else(|| Refusal::new(Case::A13IdMap, option, format!("{:?} is no ID", String::from_utf8_lossy(text))))
}

fn disjoint(mut ranges: Vec<(u32, u32)>) -> std::result::Result<(), &'static str> {
    ranges.sort_unstable();
    let mut free = 0;
    for (first, size) in ranges {
        if size == 0 {
            return Err("a range of no IDs");
        }
        if first < free {
            return Err("ranges overlap");
        }
        // No range contains the last ID, (uid_t) -1; so this sum is also the next free one.
        free = first.checked_add(size).ok_or("a range goes beyond the largest ID")?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a13_maps_are_whole_and_disjoint() {
        let extent = |container, host, size| Extent { container, host, size };
        let map = |text: &str| IdMapping::map("uidmapping", text.as_bytes());
        assert_eq!(map("").unwrap(), IdMapping::Map(vec![]));
        assert_eq!(map(":0:100000:65536").unwrap(), IdMapping::Map(vec![extent(0, 100_000, 65_536)]));
        assert_eq!(
            map("0:1000:1:1:100000:9").unwrap(),
            IdMapping::Map(vec![extent(0, 1000, 1), extent(1, 100_000, 9)])
        );
        assert!(map(":0:0:4294967295").is_ok());
        for bad in [
            "::0:1:2",
            "0:1",
            "0:1:2:",
            ":0:1:2:3",
            "0:1:0",
            "0:1:+1",
            "0:1:-1",
            "0: 1:1",
            "0:1:4294967296",
            "0:1:4294967295",
            "1:0:4294967295",
            "0:100:10:5:200:10",
            "0:100:10:10:105:10",
            "0:100:1:0:200:1",
            "x:1:1",
        ] {
            assert_eq!(map(bad).unwrap_err().case(), Case::A13IdMap, "{bad}");
        }
        let many = (0..341).map(|i| format!(":{i}:{i}:1")).collect::<String>();
        assert_eq!(map(&many).unwrap_err().case(), Case::A13IdMap);
    }

    #[test]
    fn a13_squash_takes_one_id() {
        assert_eq!(IdMapping::squash("squash_to_uid", b"1000").unwrap(), IdMapping::Squash(1000));
        for bad in [&b""[..], b"-1", b"4294967295", b"4294967296", b"1:2", b"root"] {
            assert_eq!(IdMapping::squash("squash_to_uid", bad).unwrap_err().case(), Case::A13IdMap);
        }
    }
}
