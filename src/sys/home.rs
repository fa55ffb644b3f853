//! Where users have their own files.

use std::path::{Path, PathBuf};

/// Returns the home directory of whoever runs this process, as the containers tools find it: `HOME`, or the table of
/// users, as a container runtime's call has no environment.
pub fn own() -> Option<PathBuf> {
    let named = std::env::var_os("HOME").filter(|home| !home.is_empty()).map(PathBuf::from);
    named.or_else(|| of_user(Path::new("/"), rustix::process::geteuid().as_raw()).map(PathBuf::from))
}

/// Returns the home directory that the table of users names for a user of the system whose root directory is `root`.
/// root has one in any case.
pub fn of_user(root: &Path, uid: u32) -> Option<String> {
    let users = std::fs::read_to_string(root.join("etc/passwd")).unwrap_or_default();
    let uid = uid.to_string();
    let home = users.lines().find_map(|user| {
        let mut fields = user.split(':').skip(2);
        let same = fields.next() == Some(&uid);
        fields.nth(2).filter(|_| same).map(str::to_owned)
    });
    home.or_else(|| (uid == "0").then(|| "/root".to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_of_users_says_where_a_home_is() {
        let dir = tempfile::tempdir().unwrap();
        assert_eq!(of_user(dir.path(), 0).as_deref(), Some("/root"));
        assert_eq!(of_user(dir.path(), 7), None);
        std::fs::create_dir(dir.path().join("etc")).unwrap();
        let users = "x:x:10:0:0:/no:/bin/sh\ntoor:x:0:0:root:/srv/root:/bin/sh\nme:x:7:7::/home/me:/bin/sh\n";
        std::fs::write(dir.path().join("etc/passwd"), users).unwrap();
        assert_eq!(of_user(dir.path(), 0).as_deref(), Some("/srv/root"));
        assert_eq!(of_user(dir.path(), 7).as_deref(), Some("/home/me"));
    }
}
