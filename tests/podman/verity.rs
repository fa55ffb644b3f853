//! What only a kernel with fs-verity does: it goes on checking while the container runs.

use crate::disk::Disk;
use crate::image::{APP, BIG};
use crate::podman::{Podman, Program, has_verity};
use crate::ready;

#[test]
fn g05_a_byte_changed_on_the_disk_of_a_running_container_is_an_error_in_it() {
    if !ready("a byte changed on the disk") {
        return;
    }
    if !has_verity() {
        support::skip!("a byte changed on the disk: needs fs-verity");
    }
    let disk = Disk::new(256, true);
    let dir = disk.mount_point().join("host");
    std::fs::create_dir(&dir).unwrap();
    crate::podman::copy(&Podman::pulled(Program::Layerseal).host.dir().join("containers"), &dir);
    let podman = Podman::at(dir, Program::Layerseal);
    podman.prepare(APP);
    podman.ok(&["run", "-d", "--name", "c", APP, "sleep", "1000"]);
    let sum = "sha256sum </usr/share/big && md5sum </usr/bin/suid";
    let before = podman.ok(&["exec", "c", "sh", "-c", sum]);
    let mut object = None;
    crate::common::walk(&podman.graph_root().join("layerseal/objects"), &mut |file| {
        if std::fs::metadata(file).unwrap().len() == BIG as u64 {
            object = Some(file.to_owned());
        }
    });
    disk.flip_mounted(&object.unwrap(), 100);
    let output = podman.run(&["exec", "c", "sh", "-c", sum]);
    let error = String::from_utf8_lossy(&output.stderr);
    assert!(
        !output.status.success() && (error.contains("I/O error") || error.contains("Input/output error")),
        "{error}"
    );
    assert_eq!(String::from_utf8_lossy(&output.stdout), "", "altered content was served");
    // The blocks around it, and everything else, are as they were.
    let others =
        "dd if=/usr/share/big bs=4096 count=100 2>/dev/null | wc -c; md5sum </usr/bin/suid; echo on >/etc/made";
    let after = podman.ok(&["exec", "c", "sh", "-c", others]);
    assert_eq!(after.lines().next(), Some("409600"));
    assert_eq!(after.lines().nth(1), before.lines().nth(1));
    podman.ok(&["rm", "-f", "-t", "0", "c"]);
    assert_eq!(podman.container_mounts(), [""; 0]);
}
