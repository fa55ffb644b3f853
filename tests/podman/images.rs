//! What podman does with images.

use crate::image::{APP, FRESH};
use crate::log::{Log, compare, compare_from};
use crate::podman::{Podman, Program, copy};
use crate::scratch;

fn look(_: &Podman, log: &mut Log<'_>) {
    let merged = log.run("image mount", &["image", "mount", APP]);
    log.tree("the tree of an image", &merged);
    log.shell("it cannot be written", &format!("! touch {}/etc/x 2>/dev/null", merged.trim()));
    log.run("run while it is mounted", &["run", "--rm", APP, "sh", "-c", "cat /etc/kept"]);
    log.mounts("mounts while it is mounted");
    log.run("image unmount", &["image", "unmount", APP]);
    log.mounts("mounts afterwards");
    log.list("image diff", &["image", "diff", APP]);
    log.run("type=image", &["run", "--rm", "--mount", &format!("type=image,src={FRESH},dst=/other"), APP, "sh", "-c",
        "cat /other/etc/gone/again; ls -A /other/etc /other/etc/opaque; touch /other/x 2>/dev/null || echo read-only"]);
    let rw = format!("type=image,src={FRESH},dst=/other,rw=true");
    log.run(
        "type=image,rw",
        &[
            "run",
            "--rm",
            "--mount",
            &rw,
            APP,
            "sh",
            "-c",
            "echo x >>/other/etc/kept; rm /other/etc/opaque/upper; cat /other/etc/kept; ls -A /other/etc/opaque",
        ],
    );
    log.run("save", &["save", "-q", "--format", "oci-dir", "-o", "/var/tmp/saved", APP]);
    log.shell(
        "the blobs of what was saved",
        "cd /var/tmp/saved; ls | grep -v -e index -e version | wc -l; \
        for f in $(ls); do if [ ${#f} = 64 ]; then sha256sum $f | cut -c 1-64 | grep -c $f; fi; done",
    );
    log.run("create", &["create", "--name", "c", APP, "true"]);
    log.run("export", &["export", "-o", "/var/tmp/exported.tar", "c"]);
    log.shell(
        "what was exported",
        "cd /var/tmp; tar --numeric-owner --full-time -tvf exported.tar | LC_ALL=C sort -k 6",
    );
    log.run("rm", &["rm", "c"]);
    if Podman::version() >= (5, 0) {
        log.run("system check", &["system", "check", "-m", "0s"]);
        log.run("system check --quick", &["system", "check", "-q"]);
    } else {
        support::skip!(part: "system check: podman {:?} has none", Podman::version());
    }
    log.mounts("mounts at the end");
}

#[test]
fn images_are_as_with_fuse_overlayfs() {
    compare_from("images", Podman::with_both, look);
}

fn build(podman: &Podman, log: &mut Log<'_>) {
    let file = format!(
        "FROM {APP}\nRUN cat /etc/kept && echo built >/etc/built && rm /etc/passwd && rm -r /etc/opaque && chmod 700 /opt/app\n\
         COPY copied /etc/copied\nRUN mkdir /etc/opaque && cat /etc/built /etc/copied >/etc/opaque/both && rm /usr/share/big\n"
    );
    podman.host.write("/var/tmp/context/Containerfile", file);
    podman.host.write("/var/tmp/context/copied", "copied\n");
    for (what, layers) in [("build in layers", "--layers=true"), ("build in one layer", "--layers=false")] {
        let mut args = vec!["build", "-q", layers, "-t", "localhost/built", "--timestamp", "0"];
        args.extend(Podman::build_flags());
        args.push("/var/tmp/context");
        log.run(what, &args);
        log.run(
            &format!("{what}: run"),
            &[
                "run",
                "--rm",
                "localhost/built",
                "sh",
                "-c",
                "cat /etc/opaque/both /etc/kept; ls -A /etc /etc/opaque /usr/share; stat -c %a /opt/app",
            ],
        );
        log.run(&format!("{what}: create"), &["create", "--name", "b", "localhost/built", "true"]);
        let merged = log.run(&format!("{what}: mount"), &["mount", "b"]);
        log.tree(&format!("{what}: the tree"), &merged);
        log.run(&format!("{what}: rm"), &["rm", "-f", "b"]);
    }
    log.list("image diff of what was built", &["image", "diff", "localhost/built"]);
    log.mounts("mounts at the end");
}

#[test]
fn b12_images_are_built_as_with_fuse_overlayfs() {
    compare("build", build);
}

/// A store that has the images in another one, which it does not write to.
fn additional(program: Program) -> Podman {
    let podman = Podman::at(scratch::fresh("host"), program);
    let store = podman.host.dir().join("containers/additional");
    let other = Podman::pulled(program);
    copy(&other.graph_root(), &store);
    drop(other);
    let path = podman.mount_program();
    let options = "additionalimagestores = [\"/var/lib/containers/additional\"]";
    podman.storage_conf(path.as_deref(), options);
    // Whoever looks into a store that podman has not made yet finds none.
    podman.ok(&["images", "-q"]);
    if program == Program::Layerseal {
        podman.prepare(APP);
    }
    podman
}

fn elsewhere(_: &Podman, log: &mut Log<'_>) {
    log.run("images", &["images", "--format", "{{.Repository}} {{.ReadOnly}}"]);
    log.run(
        "run",
        &["run", "--name", "c", APP, "sh", "-c", "cat /etc/kept; ls -A /etc /etc/opaque; echo x >>/etc/kept"],
    );
    log.run("run again", &["start", "-a", "c"]);
    log.run("cleanup", &["container", "cleanup", "c"]);
    log.list("diff", &["diff", "c"]);
    log.run("rm", &["rm", "c"]);
    log.mounts("mounts at the end");
}

#[test]
fn b10_images_of_an_additional_store_start_as_with_fuse_overlayfs() {
    compare_from("additional store", additional, elsewhere);
}
