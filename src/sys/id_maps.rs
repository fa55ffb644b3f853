//! Which IDs a user namespace has, as the kernel says.

use std::io;
use std::os::fd::{AsFd, OwnedFd};

use rustix::process::{DumpableBehavior, set_dumpable_behavior};
use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};
use serde::{Deserialize, Serialize};

use super::child::in_child;
use super::files;
use super::peer::UserNamespace;
use super::userns::{IdRange, ranges};

/// User and group IDs of a user namespace, as ranges of which none continues another.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct IdMaps {
    users: Vec<IdRange>,
    groups: Vec<IdRange>,
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
    pub fn users(&self) -> &[IdRange] {
        &self.users
    }

    /// Returns the ranges of group IDs, by their first ID inside.
    pub fn groups(&self) -> &[IdRange] {
        &self.groups
    }

    /// Returns the user and the group that root is outside; `None` if one of them is nobody.
    pub fn root(&self) -> Option<(u32, u32)> {
        let outside = |ranges: &[IdRange]| ranges.first().filter(|(inside, ..)| *inside == 0).map(|range| range.1);
        outside(&self.users).zip(outside(&self.groups))
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_ids_of_a_namespace_are_those_that_it_was_made_with() {
        assert_eq!(IdMaps::of_process(std::process::id()).unwrap(), None);
        let Ok(namespace) = crate::sys::userns::with_maps("0 7 2\n2 9 3\n", "3 0 1\n").unwrap() else { return };
        let maps = IdMaps::of_namespace(&namespace).unwrap();
        assert_eq!(maps, IdMaps { users: vec![(0, 7, 5)], groups: vec![(3, 0, 1)] });
        assert_eq!((maps.root(), IdMaps { groups: vec![(0, 9, 1)], ..maps }.root()), (None, Some((7, 9))));
    }
}
