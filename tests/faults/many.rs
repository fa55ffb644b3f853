//! Many at once: one does the work of a first start, and none is in the way of another.

use std::process::{Child, Command, Stdio};
use std::time::Duration;

use rustix::process::Resource;

use crate::common::{Bench, Entry, Layer, Layout};
use crate::host::{AUDIT, Container, ENFORCE, Host, binary, copy_into_store, in_dir};

const NAME: &str = "registry.example.com/acme/many";

/// A host with a sealed image of many files that nobody has started yet.
fn host(files: usize) -> Option<Host> {
    host_with(files, ENFORCE)
}

fn host_with(files: usize, policy: &str) -> Option<Host> {
    let bench = Bench::new();
    let mut entries = vec![Entry::dir("usr"), Entry::dir("usr/many")];
    for number in 0..files {
        entries.push(Entry::file(&format!("usr/many/{number}"), format!("{number} ").repeat(200)));
    }
    let above = [Entry::dir("usr"), Entry::dir("usr/many"), Entry::file("usr/many/.wh.8", "")];
    Layout::new(&bench.path("many"), &[Layer::new(&entries), Layer::new(&above)]);
    bench.signer("signer", crate::common::signer());
    bench.run(&["sign", "oci:many", "--cert", "signer.crt", "--key", "signer.key", "--identity", NAME]).ok();
    if !copy_into_store(&bench, "many", NAME) {
        return None;
    }
    let host = Host::in_bench(bench, policy)?;
    host.layerseal(&["prepare", &format!("{NAME}:v1"), "--seal", "oci:many", "--seals-only"]);
    Some(host)
}

fn begin(host: &Host, container: &Container) -> Child {
    let mut command = host.sandbox.command(binary());
    command.args(["-o", &host.options(container), &host.of(&container.layer, "merged")]);
    let mut command = in_dir(&host.sandbox, &host.root.join("overlay"), command);
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap()
}

#[track_caller]
fn end(child: Child) {
    let output = child.wait_with_output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
}

/// What children have taken of the processors so far.
fn used() -> Duration {
    let usage = |file: &str| -> Vec<u64> {
        let text = std::fs::read_to_string(file).unwrap();
        // proc_pid_stat(5): cutime and cstime are the 16th and 17th, behind the name in parentheses.
        text.rsplit_once(") ").unwrap().1.split(' ').skip(13).take(2).map(|n| n.parse().unwrap()).collect()
    };
    let ticks: u64 = usage("/proc/self/stat").iter().sum();
    Duration::from_millis(ticks * 1000 / rustix::param::clock_ticks_per_second())
}

#[test]
fn l06_fifty_first_starts_are_one() {
    let Some(host) = host(3000) else { return };
    // nofile: fifty pipes and what the harness has open.
    let _ = rustix::process::getrlimit(Resource::Nofile);
    let image = host.image(NAME);
    let alone = host.container("alone", &image);
    let before = used();
    end(begin(&host, &alone));
    let one = used() - before;
    host.unmount(&alone);
    std::fs::rename(host.root.join("layerseal"), host.bench.path("kept")).unwrap();
    host.layerseal(&["prepare", &format!("{NAME}:v1"), "--seal", "oci:many", "--seals-only"]);
    let containers: Vec<Container> = (0..50).map(|n| host.container(&format!("c{n}"), &image)).collect();
    let before = used();
    let children: Vec<Child> = containers.iter().map(|c| begin(&host, c)).collect();
    children.into_iter().for_each(end);
    let fifty = used() - before;
    // Each alone would have taken as much as the first.
    assert!(fifty < one * 25, "one took {one:?}, fifty took {fifty:?}");
    for container in &containers {
        assert_eq!(host.read(container, "usr/many/7").unwrap(), b"7 ".repeat(200));
        assert_eq!(host.mounts_of(container).len(), 1);
        host.unmount(container);
    }
    host.layerseal(&["fsck"]);
    assert_eq!(std::fs::read_dir(host.root.join("layerseal/locks")).unwrap().count(), 0);
}

/// The same for layers that are no image, as `podman build` and `podman diff` mount them.
#[test]
fn l06_many_first_looks_at_one_layer_are_one() {
    let Some(host) = host_with(3000, AUDIT) else { return };
    let image = host.image(NAME);
    let layers: Vec<Container> = (0..21)
        .map(|number| {
            let layer = crate::host::random_id(&format!("look {number}"));
            host.layer(&layer, Some(&image.layers[0]));
            Container { layer, lowers: image.layers.clone() }
        })
        .collect();
    let vault = host.root.join("layerseal");
    let _ = std::fs::remove_dir_all(&vault);
    let before = used();
    end(begin(&host, &layers[0]));
    let one = used() - before;
    assert!(vault.join("layers").join(&image.layers[0]).exists(), "it was not made into a tree");
    host.unmount(&layers[0]);
    std::fs::remove_dir_all(&vault).unwrap();
    let before = used();
    let children: Vec<Child> = layers[1..].iter().map(|layer| begin(&host, layer)).collect();
    children.into_iter().for_each(end);
    let twenty = used() - before;
    assert!(twenty < one * 10, "one took {one:?}, twenty took {twenty:?}");
    for layer in &layers[1..] {
        assert_eq!(host.read(layer, "usr/many/7").unwrap(), b"7 ".repeat(200));
        host.read(layer, "usr/many/8").unwrap_err();
        host.unmount(layer);
    }
    assert_eq!(std::fs::read_dir(vault.join("locks")).unwrap().count(), 0);
}

#[test]
fn l06_two_hundred_warm_starts_beside_everything_else() {
    let Some(host) = host(300) else { return };
    let image = host.image(NAME);
    let verb = |args: &[&str]| -> Child {
        let mut command: Command = host.sandbox.command(binary());
        command.arg("--vault").arg(host.root.join("layerseal")).args(args);
        let mut command = in_dir(&host.sandbox, host.bench.dir.path(), command);
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap()
    };
    host.layerseal(&["prepare", &format!("{NAME}:v1")]);
    for round in 0..4 {
        let containers: Vec<Container> = (0..50).map(|n| host.container(&format!("c{round}-{n}"), &image)).collect();
        let mut children: Vec<Child> = containers.iter().take(25).map(|c| begin(&host, c)).collect();
        children.push(verb(&["gc"]));
        children.push(verb(&["prepare", &format!("{NAME}:v1")]));
        children.push(verb(&["fsck"]));
        children.extend(containers.iter().skip(25).map(|c| begin(&host, c)));
        children.push(verb(&["gc"]));
        children.into_iter().for_each(end);
        for container in &containers {
            assert_eq!(host.read(container, "usr/many/7").unwrap(), b"7 ".repeat(200));
            host.unmount(container);
        }
    }
    host.layerseal(&["fsck"]);
}
