//! Lines that podman adds to the users and groups of an image before it calls `precreate`.

use std::ffi::OsStr;
use std::fs::File;
use std::io::{self, Seek as _, SeekFrom};
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Component, Path, PathBuf};

use crate::sys::files;
use crate::sys::id_maps::IdMaps;

/// The size of the users of a large image.
pub(super) const MAX_FILE: u64 = 16 << 20;

/// Returns how many fields a line has in `path`, if that is one of the two files that podman adds a line to.
pub(super) fn fields(path: &Path) -> Option<usize> {
    match path.as_os_str().as_bytes() {
        b"/etc/passwd" => Some(7),
        b"/etc/group" => Some(4),
        _ => None,
    }
}

/// Checks that a line is the one for the container's own user (libpod, `generateUserPasswdEntry` and
/// `generateUserGroupEntry`): its password matches nothing, and it has no other ID.
fn is_entry(line: &[u8], fields: usize, (uid, gid): (u32, u32)) -> bool {
    let Some(line) = std::str::from_utf8(line).ok().and_then(|l| l.strip_suffix('\n')) else { return false };
    let parts: Vec<&str> = line.split(':').collect();
    let number = |at: usize| parts.get(at).and_then(|text| text.parse::<u32>().ok());
    let ids = match fields {
        7 => number(2) == Some(uid) && number(3).is_some_and(|found| found == gid),
        // A number alone is the user's, and podman gives the group the same number.
        _ => {
            number(2).is_some_and(|found| found == gid || found == uid)
                && parts.get(3).is_some_and(|l| !l.contains(','))
        }
    };
    parts.len() == fields && !line.contains(['\n', '\r', '\0']) && matches!(parts[1], "*" | "x") && ids
}

/// Checks that `copy` is what podman makes of the image's file at `path`: the image's content and podman's own lines.
/// `None` for any other path.
///
/// # Errors
/// Errors of reading.
pub fn are_users_of_image(
    path: &Path,
    copy: File,
    image: Option<File>,
    user: (u32, u32),
    directory: &Path,
) -> io::Result<Option<bool>> {
    let Some(fields) = fields(path) else { return Ok(None) };
    let read = |file: File| files::read_all(file, MAX_FILE);
    let (copy, image) = (read(copy)?, image.map(read).transpose()?.unwrap_or_default());
    Ok(Some(extends(&copy, &image, fields, user, directory)))
}

/// Checks that one file is the other followed by lines that podman adds.
pub(super) fn extends(bytes: &[u8], before: &[u8], fields: usize, user: (u32, u32), directory: &Path) -> bool {
    let Some(added) = bytes.strip_prefix(before) else { return false };
    let lines: Vec<&[u8]> = added.split_inclusive(|b| *b == b'\n').collect();
    are_added(&lines, fields, user, &clean(directory))
}

/// Removes `.` and `..` from a path, as podman does with a working directory.
pub(super) fn clean(path: &Path) -> PathBuf {
    path.components().fold(PathBuf::from("/"), |mut clean, part| {
        match part {
            Component::Normal(name) => clean.push(name),
            Component::ParentDir => {
                clean.pop();
            }
            _ => {}
        }
        clean
    })
}

/// Checks that the lines are what podman adds to one of the two files, in its order (libpod, `generatePasswdEntry` and
/// `generateGroupEntry`): users of this host, or with `--userns=keep-id` the group of podman's own user, and then one
/// line for the container's own. Any other line came from the layer, and podman copied it.
fn are_added(lines: &[&[u8]], fields: usize, user: (u32, u32), directory: &Path) -> bool {
    let (own, others) = match lines.split_last() {
        Some((last, others)) if is_entry(last, fields, user) => (Some(*last), others),
        _ => (None, lines),
    };
    if others.is_empty() {
        return true;
    }
    let of_host = |path: &str| File::open(path).and_then(|file| files::read_all(file, MAX_FILE)).unwrap_or_default();
    let users = of_host("/etc/passwd");
    if fields == 4 {
        let is_podmans = |line: &[u8]| is_group_of(line, podmans_ids(), &users, &of_host("/etc/group"));
        return matches!(others, [line] if is_podmans(line));
    }
    // All lines follow the pattern of `--passwd-entry`.
    let shell = own.and_then(|own| Some(seven(own)?[6])).unwrap_or(b"/bin/sh");
    let is_one = |line: &&[u8]| {
        let of_host = users.split(|b| *b == b'\n').filter_map(seven);
        of_host.into_iter().any(|user| is_host_user(line, &user, directory, shell))
    };
    fields == 7 && others.iter().all(is_one)
}

/// Returns whether a file that is neither of the two ends with a line that podman adds to them: podman follows links on
/// the way there, and appends to whatever they lead to. `user` is the container's, if that is known.
pub(super) fn ends_with_entry(mut file: File, user: Option<(u32, u32)>) -> io::Result<bool> {
    /// Longer than a line that podman makes.
    const END: u64 = 4096;
    let size = file.seek(SeekFrom::End(0))?;
    file.seek(SeekFrom::Start(size.saturating_sub(END)))?;
    let end = files::read_all(file, END)?;
    let Some(rest) = end.strip_suffix(b"\n") else { return Ok(false) };
    Ok(is_like_entry(rest.rsplit(|b| *b == b'\n').next().unwrap_or(rest), user))
}

/// Tells whether a line looks like one that podman adds. Any group will do, because podman looked that up in the
/// layers; a user of the host may be anyone.
fn is_like_entry(line: &[u8], user: Option<(u32, u32)>) -> bool {
    let number = |text: &[u8]| std::str::from_utf8(text).ok().and_then(|text| text.parse::<u32>().ok());
    let is_user = |text: &[u8]| number(text).is_some_and(|found| user.is_none_or(|(uid, _)| uid == found));
    match line.split(|b| *b == b':').collect::<Vec<_>>()[..] {
        [_, b"*" | b"x", uid, gid, _, _, shell] => {
            number(gid).is_some() && (is_user(uid) || number(uid).is_some() && shell == b"/bin/sh")
        }
        [_, b"x", gid, members] => number(gid).is_some() && (is_user(gid) || is_user(members)),
        _ => false,
    }
}

/// Checks that a line is for a user of this host that the container is to have (`--hostuser`; libpod,
/// `userPasswdEntry`): never root under another name.
fn is_host_user(line: &[u8], user: &[&[u8]; 7], directory: &Path, shell: &[u8]) -> bool {
    let Some(found) = seven(line) else { return false };
    let locked = matches!(found[1], b"*" | b"x");
    let same = [0, 2, 3].iter().all(|at| found[*at] == user[*at]) && found[2] != b"0";
    let home = found[5] == user[5] || Path::new(OsStr::from_bytes(found[5])) == directory;
    line.ends_with(b"\n") && locked && same && home && [b"/bin/sh", shell, user[6]].contains(&found[6])
}

/// Returns the IDs of the user whose podman this is, if that is not root: root of this user namespace is that user.
fn podmans_ids() -> Option<(u32, u32)> {
    IdMaps::own().ok()?.root().filter(|(uid, gid)| *uid != 0 && *gid != 0)
}

/// Tells whether a line is for the group of the user with these IDs, with nobody else in it (libpod,
/// `generateCurrentUserGroupEntry`). `users` and `groups` are this host's.
fn is_group_of(line: &[u8], ids: Option<(u32, u32)>, users: &[u8], groups: &[u8]) -> bool {
    let Some((uid, gid)) = ids.map(|(uid, gid)| (uid.to_string(), gid.to_string())) else { return false };
    let lines = |text| <[u8]>::split(text, |b: &u8| *b == b'\n').map(|l| l.split(|b| *b == b':').collect::<Vec<_>>());
    let find = |text, id: &str| lines(text).find(|l| l.len() > 3 && l[2] == id.as_bytes()).map(|l| l[0].to_vec());
    let Some((user, group)) = find(users, &uid).zip(find(groups, &gid)) else { return false };
    line == [&group, &b":x:"[..], gid.as_bytes(), b":", &user, b"\n"].concat()
}

/// Splits a line of the users' file into its fields.
fn seven(line: &[u8]) -> Option<[&[u8]; 7]> {
    let line = line.strip_suffix(b"\n").unwrap_or(line);
    line.split(|b| *b == b':').collect::<Vec<_>>().try_into().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn m01_podman_adds_one_line_for_the_containers_own_user() {
        let passwd = |line: &str| is_entry(line.as_bytes(), 7, (1000, 0));
        assert!(passwd("1000:*:1000:0:container user:/:/bin/sh\n"));
        for bad in [
            "1000:*:1000:0:container user:/:/bin/sh",
            "evil:*:0:0::/:/bin/sh\n",
            "1000::1000:0::/:/bin/sh\n",
            "1000:*:1000:0::/:/bin/sh\nevil:*:0:0::/:/bin/sh\n",
            "1000:*:1000:0::/:/bin/sh:\n",
            "1000:*:1000:27::/:/bin/sh\n",
            "\n",
        ] {
            assert!(!passwd(bad), "{bad}");
        }
        let group = |line: &str| is_entry(line.as_bytes(), 4, (1000, 5));
        assert!(group("1000:x:1000:1000\n") && group("5:x:5:1000\n"));
        for bad in ["wheel:x:0:1000\n", "1000:x:1000:1000,other\n", "1000:x:1000\n", "1000::1000:1000\n"] {
            assert!(!group(bad), "{bad}");
        }
    }

    #[test]
    fn o09_a_line_of_podmans_is_told_at_the_end_of_any_file() {
        let like = |line: &str| is_like_entry(line.as_bytes(), Some((1234, 0)));
        for line in [
            "1234:*:1234:0:container user:/:/bin/sh",
            "me:x:1234:77:of --passwd-entry:/srv:/bin/ash",
            "daemon:*:1:1:daemon:/:/bin/sh",
            "77:x:77:1234",
            "1234:x:1234:1234",
        ] {
            assert!(like(line), "{line}");
        }
        for line in ["", "exit", "http://a:b:c", "root:!:19000:0:99999:7:::", "a:x:5:", "git:x:7:7::/srv:/bin/false"] {
            assert!(!like(line), "{line}");
        }
        assert!(is_like_entry(b"a:x:5:5", None) && is_like_entry(b"git:x:7:7::/srv:/bin/false", None));
    }

    #[test]
    fn m01_podman_adds_users_of_the_host_before_the_containers_own() {
        let host = seven(b"games:x:5:60:games:/usr/games:/usr/sbin/nologin").unwrap();
        let is_host = |line: &str| is_host_user(line.as_bytes(), &host, Path::new("/srv"), b"/bin/ash");
        for fine in ["/usr/games:/bin/sh", "/srv:/bin/ash", "/usr/games:/usr/sbin/nologin"] {
            assert!(is_host(&format!("games:*:5:60:games:{fine}\n")), "{fine}");
        }
        for bad in ["games:*:5:60:x:/tmp:/bin/sh\n", "games:*:5:60:x:/srv:/opt/evil\n", "games:*:5:0:x:/srv:/bin/sh\n"]
        {
            assert!(!is_host(bad), "{bad}");
        }
        let are_added = |lines: &[&[u8]], fields| are_added(lines, fields, (1234, 77), Path::new("/"));
        let own: [&[u8]; 2] = [b"1234:*:1234:77:container user:/:/bin/sh\n", b"evil:*:1234:77:x:/tmp:/opt/evil\n"];
        assert!(are_added(&own[..1], 7) && are_added(&[], 7));
        // The layer's line, and another line for whatever reason.
        assert!(!are_added(&[own[1], own[0]], 7) && !are_added(&[own[1], b"\n"], 7));
        let groups: [&[u8]; 2] = [b"sudo:x:1234:app\n", b"77:x:77:1234\n"];
        assert!(are_added(&groups[1..], 4) && !are_added(&groups, 4));
    }

    #[test]
    fn m01_podman_adds_the_group_of_its_own_user_and_no_other() {
        let (users, groups) = (b"root:x:0:0:::\nme:x:1000:100:::\n", b"root:x:0:\nusers:x:100:you,me\n");
        let is_group = |line: &str, ids| is_group_of(line.as_bytes(), ids, users, groups);
        assert!(is_group("users:x:100:me\n", Some((1000, 100))));
        for bad in ["users:x:100:me", "users:x:100:you,me\n", "users:x:100:\n", "me:x:100:me\n", "users:x:0:me\n"] {
            assert!(!is_group(bad, Some((1000, 100))), "{bad}");
        }
        for ids in [None, Some((1000, 0)), Some((1000, 101)), Some((1001, 100))] {
            assert!(!is_group("users:x:100:me\n", ids), "{ids:?}");
        }
    }
}
