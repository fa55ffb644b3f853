//! Which IDs a user namespace has, as the kernel says.

use std::io;
use std::os::fd::{AsFd, OwnedFd};

use rustix::process::{DumpableBehavior, set_dumpable_behavior};
use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};
use serde::{Deserialize, Serialize};

use super::child::in_child;
use super::files;
use super::peer::UserNamespace;

/// User and group IDs of a user namespace, as ranges: first ID inside, first ID outside, how many. No range continues
/// another.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct IdMaps {
    users: Vec<(u32, u32, u32)>,
    groups: Vec<(u32, u32, u32)>,
}

impl IdMaps {
    /// Reads the IDs that a process has, by those of this process; `None` if it has the same, in the same namespace.
    ///
    /// # Errors
    /// The kernel's.
    pub fn of_process(pid: u32) -> io::Result<Option<Self>> {
        check_proc()?;
        let open = || std::fs::File::open(format!("/proc/{pid}/ns/user")).map(OwnedFd::from);
        let namespace = |fd| UserNamespace::from_descriptor(fd)?.ok_or_else(|| io::Error::other("no user namespace"));
        if namespace(open()?)?.identity()? == UserNamespace::own()?.identity()? {
            return Ok(None);
        }
        Self::read(&format!("/proc/{pid}")).map(Some)
    }

    /// Reads the IDs of this process's own namespace, by those of the one that it was made in.
    ///
    /// # Errors
    /// The kernel's.
    pub fn own() -> io::Result<Self> {
        check_proc()?;
        // Whoever opens its own map is told by which IDs that was made (user_namespaces(7)).
        Self::read("/proc/self")
    }

    /// Returns the ranges of user IDs, by their first ID inside.
    pub fn users(&self) -> &[(u32, u32, u32)] {
        &self.users
    }

    /// Returns the ranges of group IDs, by their first ID inside.
    pub fn groups(&self) -> &[(u32, u32, u32)] {
        &self.groups
    }

    /// Reads the IDs of a namespace, by those of the namespace that it was made in. This process must have one thread.
    ///
    /// # Errors
    /// The kernel's.
    pub fn of_namespace(namespace: impl AsFd) -> io::Result<Self> {
        let maps = || -> io::Result<Vec<u8>> {
            // No process that is in there may look at what this one has in its memory, or has open.
            set_dumpable_behavior(DumpableBehavior::NotDumpable)?;
            move_into_link_name_space(namespace.as_fd(), Some(LinkNameSpaceType::User))?;
            Ok(serde_json::to_vec(&Self::own()?)?)
        };
        let said = in_child(|| maps().unwrap_or_default())?;
        serde_json::from_slice(&said).map_err(|_| io::Error::other("its IDs cannot be read"))
    }

    fn read(process: &str) -> io::Result<Self> {
        let read = |name| std::fs::read_to_string(format!("{process}/{name}")).and_then(|text| ranges(&text));
        Ok(Self { users: read("uid_map")?, groups: read("gid_map")? })
    }
}

fn check_proc() -> io::Result<()> {
    files::check_proc().map_err(|e| io::Error::other(e.to_string()))
}

/// Parses `/proc/PID/uid_map`, and joins ranges that continue each other.
fn ranges(text: &str) -> io::Result<Vec<(u32, u32, u32)>> {
    let line = |line: &str| -> Option<(u32, u32, u32)> {
        let numbers: Vec<u32> = line.split_whitespace().map(str::parse).collect::<Result<_, _>>().ok()?;
        let &[inside, outside, count] = numbers.as_slice() else { return None };
        // No range has the last number, which is not an ID.
        (inside.checked_add(count).is_some() && outside.checked_add(count).is_some())
            .then_some((inside, outside, count))
    };
    let mut all =
        text.lines().map(line).collect::<Option<Vec<_>>>().ok_or_else(|| io::Error::other("no map of IDs"))?;
    all.sort_unstable();
    let mut joined: Vec<(u32, u32, u32)> = Vec::new();
    for (inside, outside, count) in all {
        match joined.last_mut() {
            Some(last) if last.0 + last.2 == inside && last.1 + last.2 == outside => last.2 += count,
            _ => joined.push((inside, outside, count)),
        }
    }
    Ok(joined)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn maps_are_equal_if_they_say_the_same() {
        let of = |text: &str| ranges(text).unwrap();
        assert_eq!(of("  0   1 1234\n1234 0 1\n1235 1235 10\n"), [(0, 1, 1234), (1234, 0, 1), (1235, 1235, 10)]);
        assert_eq!(of("5 105 5\n0 100 5\n"), [(0, 100, 10)]);
        assert_eq!(of("0 0 4294967295\n"), [(0, 0, u32::MAX)]);
        for bad in ["0 1", "0 1 2 3", "0 1 x", "-1 0 1", "0 4294967295 2", "4294967295 0 2"] {
            assert!(ranges(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn the_ids_of_a_namespace_are_those_that_it_was_made_with() {
        assert_eq!(IdMaps::of_process(std::process::id()).unwrap(), None);
        let Ok(namespace) = crate::sys::userns::with_maps("0 7 2\n2 9 3\n", "3 0 1\n").unwrap() else { return };
        let maps = IdMaps::of_namespace(&namespace).unwrap();
        assert_eq!(maps, IdMaps { users: vec![(0, 7, 5)], groups: vec![(3, 0, 1)] });
    }
}
