//! Labels of mounts, where SELinux is enabled and a policy is loaded: see tests/vm/selinux.sh.

use std::io::{Read as _, Write as _};
use std::path::Path;

use layerseal::sys::selinux::{is_enabled, label_of};

use crate::Sealed;
use crate::host::{APP, ENFORCE, Host};

const RO: &str = "system_u:object_r:container_ro_file_t:s0";

fn label(path: &Path) -> String {
    let found = std::fs::File::open(path).ok().and_then(label_of);
    found.map_or_else(String::new, |label| label.into_string().unwrap())
}

/// Whether the policy lets a container with two categories read files of this label.
fn readable(label: &str) -> bool {
    let index = std::fs::read_to_string("/sys/fs/selinux/class/file/index").unwrap();
    let read: u32 = std::fs::read_to_string("/sys/fs/selinux/class/file/perms/read").unwrap().trim().parse().unwrap();
    let mut file = std::fs::File::options().read(true).write(true).open("/sys/fs/selinux/access").unwrap();
    // In one piece.
    let question = format!("system_u:system_r:container_t:s0:c1,c2 {label} {}", index.trim());
    file.write_all(question.as_bytes()).unwrap();
    let mut answer = String::new();
    file.read_to_string(&mut answer).unwrap();
    let allowed = u32::from_str_radix(answer.split(' ').next().unwrap(), 16).unwrap();
    allowed & (1 << (read - 1)) != 0
}

#[test]
fn a_mount_shows_the_label_that_it_is_given() {
    if !is_enabled() {
        support::skip!("needs SELinux");
    }
    let sealed = Sealed::new();
    let labels = [RO, "system_u:object_r:container_file_t:s0:c1,c2"];
    for (label_wanted, own) in labels.into_iter().flat_map(|label| [(label, false), (label, true)]) {
        let mut more = vec!["--context", label_wanted];
        let _ = std::fs::remove_dir_all(sealed.bench.path("up"));
        let _ = std::fs::remove_dir_all(sealed.bench.path("work"));
        if own {
            std::fs::create_dir(sealed.bench.path("up")).unwrap();
            std::fs::create_dir(sealed.bench.path("work")).unwrap();
            more.extend(["--upper", "up", "--work", "work"]);
        }
        sealed.mount_with(&more).ok();
        for path in ["", "usr", "usr/bin/tool"] {
            assert_eq!(label(&sealed.root(path)), label_wanted, "{path}");
        }
        assert!(readable(label_wanted));
        sealed.bench.run(&["umount", "root"]).ok();
    }
    // Without one they have none that anybody confined could read.
    sealed.mount().ok();
    let without = label(&sealed.root("usr/bin/tool"));
    assert!(!readable(&without), "{without}");
    sealed.bench.run(&["umount", "root"]).ok();
}

/// As `podman image mount` and image volumes ask for it, and with what containers-storage gives a container.
#[test]
fn the_mount_program_shows_the_label_of_the_store() {
    if !is_enabled() {
        support::skip!("needs SELinux");
    }
    let policy = ENFORCE.replace("verity = \"off\"", "verity = \"require\"");
    let Some(host) = Host::new(&policy) else { return };
    // As a policy for containers labels a graph root.
    host.sandbox.sh(&format!("find '{}' -exec setfattr -h -n security.selinux -v {RO} {{}} +", host.root.display()));
    let image = host.image(APP);
    let merged = host.of(&image.layers[0], "merged");
    std::fs::create_dir_all(&merged).unwrap();
    host.sandbox.sh(&format!("setfattr -n security.selinux -v {RO} '{merged}'"));
    let lowers: Vec<String> = image.layers.iter().map(|id| host.of(id, "diff")).collect();
    host.call(&format!("lowerdir={}", lowers.join(":")), &merged).ok();
    let seen = host.sandbox.path(Path::new(&merged));
    for path in ["", "usr", "usr/bin/tool"] {
        assert_eq!(label(&seen.join(path)), RO, "{path}");
    }
    host.sandbox.sh(&format!("umount '{merged}'"));
    let container = host.container("c", &image);
    let target = host.of(&container.layer, "merged");
    let own = "system_u:object_r:container_file_t:s0:c1,c2";
    host.call(&format!("{},context=\"{own}\"", host.options(&container)), &target).ok();
    assert_eq!(label(&host.merged(&container).join("usr/bin/tool")), own);
    host.unmount(&container);
}
