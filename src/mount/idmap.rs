use std::fmt::Write as _;
use std::os::fd::{AsFd, OwnedFd};

use super::MountOptions;
use crate::error::{Case, Refusal, Result};
use crate::protocol::{Extent, IdMapping};
use crate::sys::id_maps::IdMaps;
use crate::sys::mounts;
use crate::sys::userns::{self, IdRange};

/// The container's map of IDs, as the kernel takes it.
pub(super) struct IdMap {
    namespace: OwnedFd,
    /// The host's user and group ID of the container's root: overlayfs makes its own files under them.
    pub(super) owner: (u32, u32),
}

impl IdMap {
    /// Makes the map of IDs that `how` asks for; `None` where IDs are shown as they are.
    pub(super) fn new(how: &MountOptions) -> Result<Option<Self>> {
        let Some((uids, gids)) = ranges(&how.uids, &how.gids) else { return Ok(None) };
        let namespace = made(&with_root(&uids), &with_root(&gids))?;
        Ok(Some(Self { namespace, owner: (root(&uids), root(&gids)) }))
    }

    /// Maps the IDs of a mount that is attached nowhere.
    pub(super) fn apply(&self, mount: impl AsFd, shown: &str) -> Result<()> {
        mounts::map_ids(mount, &self.namespace).map_err(|e| Refusal::new(Case::A13Cannot, shown, e))
    }

    /// Makes a mount of the directory alone, with its IDs mapped.
    pub(super) fn clone_of(&self, dir: impl AsFd, shown: &str) -> Result<OwnedFd> {
        let clone = mounts::clone_mount(dir).map_err(|e| Refusal::new(Case::A13Cannot, shown, e))?;
        self.apply(&clone, shown)?;
        Ok(clone)
    }
}

/// Makes a user namespace with these IDs and no others, for a mount that another process makes, with an upper directory
/// whose IDs are not mapped; `None` where IDs are shown as they are.
///
/// # Errors
/// A13, [`Case::J03Proc`].
pub(crate) fn namespace(uids: &IdMapping, gids: &IdMapping) -> Result<Option<OwnedFd>> {
    let Some((uids, gids)) = ranges(uids, gids) else { return Ok(None) };
    let own = IdMaps::own().map_err(|e| Refusal::io("/proc/self/uid_map", e))?;
    made(&split(&uids, own.users()), &split(&gids, own.groups())).map(Some)
}

/// Splits ranges where the IDs that they are made of do not continue each other outside this process's own namespace: the
/// kernel takes no range that is several there (kernel/user_namespace.c, `map_write`).
fn split(extents: &[Extent], own: &[IdRange]) -> Vec<Extent> {
    let mut all = Vec::new();
    for extent in extents {
        let mut rest = *extent;
        while let Some((first, _, count)) =
            own.iter().find(|(first, _, n)| rest.host >= *first && rest.host - first < *n)
        {
            let size = rest.size.min(count - (rest.host - first));
            all.push(Extent { size, ..rest });
            // No sum overflows: a range ends before the last ID.
            rest = Extent { container: rest.container + size, host: rest.host + size, size: rest.size - size };
            if rest.size == 0 {
                break;
            }
        }
        if rest.size != 0 {
            // IDs that this process does not have, which is for the kernel to refuse.
            all.push(rest);
        }
    }
    all
}

/// Returns the ranges of a container's IDs; `None` where they are shown as they are.
fn ranges(uids: &IdMapping, gids: &IdMapping) -> Option<(Vec<Extent>, Vec<Extent>)> {
    let (uids, gids) = (extents(uids), extents(gids));
    if uids.is_empty() && gids.is_empty() {
        return None;
    }
    // Where only user or only group IDs are mapped, the other kind stays as it is.
    let or_all = |ranges: Vec<Extent>| if ranges.is_empty() { vec![ALL] } else { ranges };
    Some((or_all(uids), or_all(gids)))
}

fn made(uids: &[Extent], gids: &[Extent]) -> Result<OwnedFd> {
    let (uid_map, gid_map) = (lines("uidmapping", uids)?, lines("gidmapping", gids)?);
    userns::with_maps(&uid_map, &gid_map)?
        .map_err(|f| Refusal::new(Case::A13Cannot, "user namespace", format!("{}: {}", f.step, f.error)))
}

/// The map of every ID to itself, except the last, (uid_t) -1, which is not an ID.
const ALL: Extent = Extent { container: 0, host: 0, size: u32::MAX };

/// Returns the ranges of a map, joined where one continues another: `/proc/PID/uid_map` has room for few.
fn extents(mapping: &IdMapping) -> Vec<Extent> {
    let mut extents = match mapping {
        IdMapping::None => Vec::new(),
        IdMapping::Map(extents) => extents.clone(),
        IdMapping::Squash(host) => vec![Extent { container: 0, host: *host, size: 1 }],
    };
    extents.sort_unstable_by_key(|e| e.container);
    let mut joined: Vec<Extent> = Vec::new();
    for next in extents {
        match joined.last_mut() {
            // No sum overflows: a range ends before the last ID.
            Some(last) if last.container + last.size == next.container && last.host + last.size == next.host => {
                last.size += next.size;
            }
            _ => joined.push(next),
        }
    }
    joined
}

/// `nobody`, which fuse-overlayfs takes for every ID of the host that the container does not have.
const NOBODY: u32 = 65_534;

/// Adds a range for the host's root where the ranges do not have it: podman itself, as root, makes links and
/// directories in a container's root, and could not (EOVERFLOW). In the container they belong to no user, and on the
/// disk to an ID that the container does not have.
fn with_root(extents: &[Extent]) -> Vec<Extent> {
    let mut all = extents.to_vec();
    if extents.iter().any(|e| e.host == 0) {
        return all;
    }
    let free = |id: &u32| extents.iter().all(|e| *id < e.container || *id - e.container >= e.size);
    // The last number is not an ID.
    let ends = extents.iter().filter_map(|e| e.container.checked_sub(1));
    let spare = std::iter::once(NOBODY).chain(std::iter::once(u32::MAX - 1)).chain(ends).find(free);
    all.extend(spare.map(|container| Extent { container, host: 0, size: 1 }));
    all
}

fn lines(option: &str, extents: &[Extent]) -> Result<String> {
    let mut text = String::new();
    for Extent { container, host, size } in extents {
        let _ = writeln!(text, "{container} {host} {size}");
    }
    if text.len() > userns::MAX_MAP {
        let why = format!("{} ranges that do not continue each other: the kernel takes a page of them", extents.len());
        return Err(Refusal::new(Case::A13IdMap, option, why));
    }
    Ok(text)
}

/// Returns the host's ID of the container's root, or of its first ID where it has no root.
fn root(extents: &[Extent]) -> u32 {
    extents.first().map_or(0, |e| e.host)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn map(text: &[(u32, u32, u32)]) -> IdMapping {
        IdMapping::Map(text.iter().map(|&(container, host, size)| Extent { container, host, size }).collect())
    }

    #[test]
    fn a13_ranges_that_continue_each_other_are_one() {
        let text = |m: &IdMapping| lines("uidmapping", &extents(m)).unwrap();
        assert_eq!(text(&map(&[(1, 101, 4), (0, 100, 1), (5, 200, 1)])), "0 100 5\n5 200 1\n");
        assert_eq!(text(&IdMapping::Squash(1000)), "0 1000 1\n");
        assert_eq!(text(&map(&[])), "");
        // Never across the largest ID.
        assert_eq!(text(&map(&[(0, 4_294_967_294, 1), (1, 0, 4_294_967_294)])), "0 4294967294 1\n1 0 4294967294\n");
    }

    #[test]
    fn a13_a_map_longer_than_a_page_is_refused() {
        let ranges: Vec<_> = (0..340).map(|n| (n * 1_000_000, 4_000_000_000 - n * 1_000_000, 10)).collect();
        assert_eq!(lines("uidmapping", &extents(&map(&ranges))).unwrap_err().case(), Case::A13IdMap);
    }

    #[test]
    fn a13_root_of_the_host_has_an_id() {
        let added = |m: &[(u32, u32, u32)]| with_root(&extents(&map(m))).pop().map(|e| (e.container, e.host, e.size));
        assert_eq!(added(&[(0, 100_000, 1000)]), Some((NOBODY, 0, 1)));
        assert_eq!(added(&[(0, 100_000, 65_536)]), Some((u32::MAX - 1, 0, 1)));
        assert_eq!(added(&[(0, 0, 10)]), Some((0, 0, 10)));
        assert_eq!(added(&[(5, 1, u32::MAX - 5)]), Some((4, 0, 1)));
    }

    #[test]
    fn a13_ranges_are_split_where_the_users_own_are() {
        let own = [(0, 1234, 1), (1, 100_000, 65_536)];
        let split = |m: &[(u32, u32, u32)]| lines("uidmapping", &split(&extents(&map(m)), &own)).unwrap();
        assert_eq!(split(&[(0, 0, 100), (100, 2000, 50)]), "0 0 1\n1 1 99\n100 2000 50\n");
        assert_eq!(split(&[(0, 1, 1234), (1234, 0, 1), (1235, 1235, 10)]), "0 1 1234\n1234 0 1\n1235 1235 10\n");
        // Two that are not there, and one that is there in part.
        assert_eq!(split(&[(0, 70_000, 2), (5, 65_530, 10)]), "0 70000 2\n5 65530 7\n12 65537 3\n");
        assert_eq!(split(&[(0, 4_294_967_290, 5)]), "0 4294967290 5\n");
    }

    #[test]
    fn the_owner_is_the_containers_root() {
        assert_eq!(root(&extents(&map(&[(5, 200, 1), (0, 100, 5)]))), 100);
        assert_eq!(root(&[ALL]), 0);
    }
}
