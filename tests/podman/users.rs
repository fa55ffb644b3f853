//! Other users, and other roots than an image.

use crate::image::APP;
use crate::log::{Log, compare};
use crate::podman::Podman;

pub const LOOK: &str = "
    cat /proc/self/uid_map /proc/self/gid_map
    ls -ln /etc/kept /usr/bin/suid /opt/app /home/app/own
    stat -c '%n %A %u %g' / /tmp /home/app
    echo mine >>/etc/kept; echo new >/etc/made; chown 1000:1000 /etc/made; ls -ln /etc/kept /etc/made
    rm -r /etc/opaque; mkdir /etc/opaque; ls -A /etc/opaque; cat /home/app/own";

pub fn mapped(_: &Podman, log: &mut Log<'_>) {
    let map = ["run", "--name", "m", "--uidmap", "0:300000:65536", "--gidmap", "0:300000:65536", APP, "sh", "-c", LOOK];
    log.run("uidmap", &map);
    log.run("uidmap: again", &["start", "-a", "m"]);
    // podman unmounts a container that ended when it finds the time.
    log.run("uidmap: cleanup", &["container", "cleanup", "m"]);
    log.list("uidmap: diff", &["diff", "m"]);
    log.run("uidmap: rm", &["rm", "m"]);
    log.run("userns=auto", &["run", "--rm", "--userns=auto", APP, "sh", "-c", LOOK]);
    log.run(
        "as a user",
        &[
            "run",
            "--rm",
            "--user",
            "app",
            APP,
            "sh",
            "-c",
            "id -u; cat /home/app/own; touch /home/app/new && echo written; touch /etc/x 2>/dev/null || echo refused",
        ],
    );
    log.mounts("mounts at the end");
}

#[test]
fn a13_mapped_users_are_as_with_fuse_overlayfs() {
    compare("users", mapped);
}

pub fn volumes(podman: &Podman, log: &mut Log<'_>) {
    podman.host.write("/var/tmp/volume/kept", "kept\n");
    podman.host.write("/var/tmp/volume/gone", "gone\n");
    let change = "cat /v/kept; rm /v/gone; echo new >/v/new; echo more >>/v/kept; ls -A /v; cat /v/kept";
    log.run("-v :O", &["run", "--name", "v", "-v", "/var/tmp/volume:/v:O", APP, "sh", "-c", change]);
    log.run("-v :O again", &["start", "-a", "v"]);
    log.run("-v :O rm", &["rm", "v"]);
    log.shell("the directory is as it was", "cd /var/tmp/volume; ls -a; cat kept");
    // A root of one's own, which no image says anything about.
    podman.host.sh("mkdir -p /var/tmp/root/usr/bin /var/tmp/root/etc; cd /var/tmp/root; \
        cp $(command -v busybox) usr/bin/busybox; ln -s usr/bin bin; ln -s busybox usr/bin/sh; echo root:x:0:0::/:/bin/sh >etc/passwd");
    let touch = "echo x >/etc/made; busybox rm /etc/passwd; busybox ls -A /etc | busybox grep -v -e mtab -e hosts";
    log.run("--rootfs :O", &["run", "--name", "r", "--rootfs", "/var/tmp/root:O", "sh", "-c", touch]);
    log.run("--rootfs :O rm", &["rm", "r"]);
    log.shell("the root is as it was", "ls -A /var/tmp/root/etc; cat /var/tmp/root/etc/passwd");
    log.mounts("mounts at the end");
}

#[test]
fn a08_overlay_volumes_are_as_with_fuse_overlayfs() {
    compare("volumes", volumes);
}
