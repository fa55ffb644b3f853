//! The life of a container.

use crate::image::{APP, FRESH};
use crate::log::{Log, compare, compare_from};
use crate::podman::Podman;

/// Looks at everything that the layers do to one another.
const LOOK: &str = "
    cat /etc/kept /etc/passwd /etc/gone/again
    ls -A /etc/opaque /etc/gone /usr/share /home/app
    ls -ln /usr/bin/suid /usr/bin/cap /opt/app /home/app/own /home/app/dangling
    stat -c '%n %A %u %g' /tmp /root /home/app /etc/opaque
    stat -c '%n %h %s' /usr/share/one /usr/share/two /usr/share/empty
    [ /usr/share/one -ef /usr/share/two ] && echo linked
    sha256sum /usr/share/big /usr/bin/busybox
    id";

/// Does everything to files that come from the image.
const CHANGE: &str = "
    echo new >/etc/made; echo more >>/etc/kept; rm /etc/passwd; rm -r /etc/opaque; mkdir /etc/opaque
    mv /usr/share/one /usr/share/moved; ln /usr/share/two /usr/share/three; chmod 600 /opt/app
    mkdir -p /var/data; dd if=/usr/share/big of=/var/data/copy bs=4096 skip=3 count=2 2>/dev/null
    echo x | dd of=/usr/share/big bs=1 seek=5000 conv=notrunc 2>/dev/null
    ln -s ../etc/kept /usr/link; touch /tmp/own; sha256sum /usr/share/big /var/data/copy; ls /etc/opaque /usr/share";

pub fn run(podman: &Podman, log: &mut Log<'_>) {
    log.run("run", &["run", "--name", "first", APP, "sh", "-c", LOOK]);
    log.run_to(7, "run --rm", &["run", "--rm", APP, "sh", "-c", "echo out; rm /etc/kept; exit 7"]);
    log.run("run --rm again", &["run", "--rm", FRESH, "sh", "-c", "cat /etc/kept /etc/gone/again"]);
    let write = "echo x 2>/dev/null >/etc/made && echo written; cat /etc/kept; echo y >/tmp/y && cat /tmp/y";
    log.run("run --read-only", &["run", "--rm", "--read-only", APP, "sh", "-c", write]);
    log.run_to(127, "a command that is not there", &["run", "--rm", APP, "/no/such"]);
    log.run("ps", &["ps", "-a", "--format", "{{.Names}} {{.Image}} {{.ExitCode}}"]);
    let merged = log.run("mount", &["mount", "first"]);
    log.tree("the tree of a container", &merged);
    log.run("umount", &["umount", "first"]);
    log.run("rm", &["rm", "first"]);
    log.mounts("mounts at the end");
    assert!(podman.host.processes().iter().all(|p| p != "conmon"));
}

#[test]
fn containers_run_as_with_fuse_overlayfs() {
    compare_from("run", Podman::with_both, run);
}

pub fn stay(podman: &Podman, log: &mut Log<'_>) {
    log.run("start", &["run", "-d", "--name", "c", APP, "sleep", "1000"]);
    log.mounts("mounts while it runs");
    log.run("exec", &["exec", "c", "sh", "-c", LOOK]);
    log.run("exec that changes", &["exec", "c", "sh", "-c", CHANGE]);
    podman.host.write("/var/tmp/in/file", "from outside\n");
    podman.host.write("/var/tmp/in/sub/other", [7; 5000]);
    log.run("cp in", &["cp", "/var/tmp/in", "c:/usr/share/in"]);
    log.run("cp out", &["cp", "c:/usr/share/big", "/var/tmp/big"]);
    log.run("cp out a directory", &["cp", "c:/etc/gone", "/var/tmp/gone"]);
    log.shell("what was copied", "cd /var/tmp; sha256sum big gone/again; rm -r big gone");
    log.run("exec sees what was copied in", &["exec", "c", "sh", "-c", "cat /usr/share/in/file; ls -ln /usr/share/in"]);
    // With a kernel's overlay podman calls the mount program once more, and cannot clean up after it.
    log.list("diff while it runs", &["diff", "c"]);
    log.run("exec after diff", &["exec", "c", "sh", "-c", "echo still here >>/etc/made; cat /etc/made /etc/kept"]);
    log.run("restart", &["restart", "-t", "0", "c"]);
    log.run(
        "exec after restart",
        &["exec", "c", "sh", "-c", "cat /etc/made; ls /etc/opaque; sha256sum /usr/share/big"],
    );
    log.run("stop", &["stop", "-t", "0", "c"]);
    log.mounts("mounts when it is stopped");
    log.list("diff when it is stopped", &["diff", "c"]);
    log.run("commit", &["commit", "-q", "c", "localhost/committed"]);
    log.run("cp out of a stopped one", &["cp", "c:/etc/made", "/var/tmp/made"]);
    log.shell("what was copied from it", "cat /var/tmp/made");
    log.run("start again", &["start", "c"]);
    log.run("exec after start", &["exec", "c", "sh", "-c", "cat /etc/made"]);
    log.run("rm -f", &["rm", "-f", "-t", "0", "c"]);
    log.run(
        "the committed image",
        &["run", "--rm", "localhost/committed", "sh", "-c", "cat /etc/made; ls -A /etc /usr/share"],
    );
    // Not the container that just ended: podman may still be about to unmount that.
    log.run("create of it", &["create", "--name", "d", "localhost/committed", "true"]);
    let merged = log.run("mount of it", &["mount", "d"]);
    log.tree("the tree of the committed image", &merged);
    log.run("rm of it", &["rm", "-f", "d"]);
    log.run("rmi", &["rmi", "localhost/committed"]);
    log.mounts("mounts at the end");
}

#[test]
fn i11_containers_live_as_with_fuse_overlayfs() {
    compare("life", stay);
}
