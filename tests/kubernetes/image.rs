//! The image, made as `make image` makes it, and run by podman as the DaemonSet's init container is.

use std::os::unix::fs::PermissionsExt as _;
use std::process::Command;

use crate::node::Node;

/// podman with a store of its own; crun takes no hybrid of cgroup versions.
const ENGINE: &str = r##"#!/bin/sh
exec unshare -m sh -c '
    [ "$(stat -f -c %T /sys/fs/cgroup)" = cgroup2fs ] || mount -t cgroup2 cgroup2 /sys/fs/cgroup || exit
    dir=$1 && shift && mkdir -p "$dir/hooks"
    exec podman --root "$dir/root" --runroot "$dir/run" --storage-driver vfs --hooks-dir "$dir/hooks" \
        --cgroup-manager cgroupfs --runtime crun "$@"' sh "${0%/*}/store" "$@"
"##;

#[test]
fn the_image_installs() {
    if !Command::new("podman").arg("--version").output().is_ok_and(|o| o.status.success()) {
        support::skip!("needs podman");
    }
    if !Command::new("busybox").arg("true").status().is_ok_and(|s| s.success()) {
        support::skip!("needs busybox-static");
    }
    let Some(node) = Node::new() else { return };
    let engine = node.dir.path().join("engine");
    std::fs::write(&engine, ENGINE).unwrap();
    std::fs::set_permissions(&engine, std::fs::Permissions::from_mode(0o755)).unwrap();
    let mut make = Command::new("sh");
    make.arg(support::top().join("contrib/kubernetes/image.sh")).arg(node.programs()).arg("localhost/installer:test");
    let output = make.env("ENGINE", &engine).env("TMPDIR", node.dir.path()).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));

    let run = |args: &[&str], command: &[&str]| {
        let mut run = Command::new("timeout");
        run.args(["--kill-after=5", "120"]).arg(&engine).args(["run", "--rm", "--read-only", "--net=none"]);
        run.args(["--cgroups=disabled", "--pids-limit=0", "--ulimit=nofile=1024:1024", "--ulimit=nproc=1024:1024"]);
        let output = run.args(args).arg("localhost/installer:test").args(command).output().unwrap();
        let text = String::from_utf8([output.stdout, output.stderr].concat()).unwrap();
        (output.status.code(), text)
    };
    let (host, config) = (node.host().display().to_string(), node.dir.path().join("config").display().to_string());
    let (host, config) = (format!("{host}:/host:rslave"), format!("{config}:/config:ro"));
    let installer = |verb| {
        let args = ["--privileged", "-v", &host, "-v", "/proc:/host/proc", "-v", &config];
        run(&args, &["/bin/sh", "/layerseal/install.sh", verb])
    };
    let before = node.names();
    let (code, said) = installer("install");
    assert_eq!(code, Some(0), "{said}");
    assert!(node.host().join("usr/bin/layerseal-runtime").exists() && node.restarts() == 1, "{said}");
    let state = node.state();
    let (code, said) = installer("install");
    assert_eq!((code, said.as_str()), (Some(0), "layerseal: the node has what it should have\n"));
    assert_eq!(node.state(), state);
    node.key("policy.toml", "version = 2\n");
    let (code, said) = installer("install");
    assert!(code == Some(1) && said.contains("[R-F03]"), "{said}");
    assert_eq!(node.state(), state);
    let (code, said) = installer("remove");
    assert_eq!(code, Some(0), "{said}");
    assert_eq!(node.names(), before);

    // What the other container does, for a moment: with no rights at all.
    let sleep = "/bin/sleep infinity & /bin/sleep 1; kill $!";
    let (code, said) = run(&["--user=65534:65534", "--cap-drop=all"], &["/bin/sh", "-c", sleep]);
    assert_eq!((code, said.as_str()), (Some(0), ""));
}
