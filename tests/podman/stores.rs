//! Stores of other shapes than one directory: an image store beside the graph root, additional stores, links and odd
//! slashes on the way to them, transient stores. Under enforce each starts what is sealed, as podman alone starts it.

use std::process::Output;

use crate::image::{APP, FRESH};
use crate::podman::{Podman, Program, default_policy, has_verity};
use crate::{common, ready};

/// A container that starts, and what the hook said of it where it does not.
#[track_caller]
fn starts(podman: &Podman, args: &[&str], what: &str) {
    // podman loses what was attached now and then.
    let attached = |output: &Output| !output.status.success() || !output.stdout.is_empty();
    let mut runs = std::iter::repeat_with(|| podman.run(args)).take(3);
    let output = runs.find(attached).expect("nothing of three runs was attached");
    let said =
        std::fs::read_to_string(podman.host.inside("/run/layerseal/hooks/precreate.podman.json")).unwrap_or_default();
    assert!(output.status.success(), "{what}: podman {args:?}: {said} {output:?}");
    assert_eq!(String::from_utf8_lossy(&output.stdout), "replaced\n", "{what}: podman {args:?}");
}

const LOOK: [&str; 4] = ["--rm", APP, "cat", "/etc/kept"];

fn run<'a>(options: &[&'a str]) -> Vec<&'a str> {
    [&["run"], options, &LOOK].concat()
}

/// A host on which nobody has pulled anything, with this storage.conf.
fn empty(program: Program, conf: &str) -> Podman {
    let dir = crate::scratch::fresh("host");
    let podman = Podman::at(dir, program);
    configure(&podman, conf);
    podman
}

/// Writes storage.conf; `PROGRAM` in it is the line that has the mount program, where there is one.
fn configure(podman: &Podman, conf: &str) {
    let program = podman.mount_program().map(|p| format!("[storage.options.overlay]\nmount_program = \"{p}\"\n"));
    podman.host.write("/etc/containers/storage.conf", conf.replace("PROGRAM", &program.unwrap_or_default()));
}

fn storage(graph_root: &str, more: &str) -> String {
    format!(
        "[storage]\ndriver = \"overlay\"\nrunroot = \"/run/containers/storage\"\ngraphroot = \"{graph_root}\"\n{more}\nPROGRAM"
    )
}

/// Sealed starts, in every way that has to do with where layers lie; what is not sealed does not.
#[track_caller]
fn holds(podman: &Podman, what: &str, ways: &[&[&str]]) {
    podman.prepare(APP);
    for options in ways {
        starts(podman, &run(options), what);
    }
    let refused = podman.run(&["run", "--rm", FRESH, "true"]);
    assert!(!refused.status.success(), "{what}: {refused:?}");
    podman.ok(&["create", "--name", "c", APP, "cat", "/etc/kept"]);
    assert_eq!(podman.ok(&["start", "-a", "c"]), "replaced\n", "{what}");
    assert_eq!(podman.ok(&["start", "-a", "c"]), "replaced\n", "{what}: again");
    podman.ok(&["rm", "c"]);
    assert_eq!(podman.container_mounts(), Vec::<String>::new(), "{what}");
    needs_all_of_it(podman, what);
    starts(podman, &run(&["--pull=never"]), what);
}

/// Ways to write a directory beneath `/var/tmp`, each with the script that makes it.
fn ways_to(name: &str) -> [(String, String); 3] {
    let make = format!("mkdir -p /var/tmp/{name}");
    [
        (format!("/var/tmp/{name}"), make.clone()),
        (format!("//var//tmp/./{name}/"), make.clone()),
        (format!("/var/tmp/link/{name}"), format!("{make}; ln -s . /var/tmp/link")),
    ]
}

/// The first with the hooks and with the mount program, and each of the others with one of them.
fn each<T: Clone>([plain, slashes, link]: [T; 3]) -> [(Program, T); 4] {
    let (hooked, program) = (Program::Hooked, Program::Layerseal);
    [(hooked, plain.clone()), (program, plain), (hooked, link), (program, slashes)]
}

/// None of what a start needs is taken for what nobody needs.
#[track_caller]
fn needs_all_of_it(podman: &Podman, what: &str) {
    let gc = podman.host.command(common::binary().to_str().unwrap(), &["gc"]).output().unwrap();
    assert!(gc.status.success(), "{what}: {gc:?}");
    assert!(String::from_utf8_lossy(&gc.stdout).contains("removed 0 images, 0 files"), "{what}: {gc:?}");
    starts(podman, &run(&[]), what);
}

const MAPPED: [&str; 4] = ["--uidmap", "0:300000:65536", "--gidmap", "0:300000:65536"];

#[test]
fn an_image_store_beside_the_graph_root() {
    if !ready("an image store") {
        return;
    }
    if Podman::version() < (4, 6) {
        support::skip!("podman {:?} has none", Podman::version());
    }
    for (program, (place, script)) in each(ways_to("images")) {
        let podman = empty(program, &storage("/var/lib/containers/storage", &format!("imagestore = \"{place}\"")));
        podman.host.sh(&script);
        podman.pull(APP);
        podman.pull(FRESH);
        assert!(podman.host.inside("/var/tmp/images/overlay-images/images.json").exists());
        holds(&podman, &place, &[&[], &["--read-only"], &MAPPED, &["--userns=auto"]]);
        // The name that another store has for a layer: what is read is what lies in the image store.
        let layers = podman.host.inside("/var/tmp/images/overlay");
        common::walk(&layers, &mut |file| {
            if file.ends_with("etc/kept") {
                std::fs::write(file, "changed\n").unwrap();
            }
        });
        if program == Program::Layerseal {
            podman.ok(&["image", "mount", APP]);
            podman.ok(&["image", "unmount", APP]);
        }
        // Prepared is prepared.
        starts(&podman, &run(&[]), "prepared is prepared");
    }
}

/// On the command line it is for one call: the call tells it.
#[test]
fn an_image_store_of_the_command_line() {
    if !ready("--imagestore") {
        return;
    }
    if Podman::version() < (4, 7) {
        support::skip!("podman {:?} has none", Podman::version());
    }
    for program in [Program::Hooked, Program::Layerseal] {
        let configured = storage("/var/lib/containers/storage", "imagestore = \"/var/tmp/images\"");
        let podman = empty(program, &configured);
        podman.pull(APP);
        podman.prepare(APP);
        configure(&podman, &storage("/var/lib/containers/storage", ""));
        let with = |args: &[&'static str]| [&["--imagestore", "/var/tmp/images"], args].concat();
        assert_eq!(podman.ok(&with(&run(&[]))), "replaced\n", "{program:?}");
        assert!(!podman.run(&with(&["run", "--rm", FRESH, "true"])).status.success());
    }
}

/// Additional stores with everything that makes podman name their layers otherwise.
#[test]
fn additional_stores_with_mapped_users() {
    if !ready("additional stores") {
        return;
    }
    for (program, (place, script)) in each(ways_to("more")) {
        let options = format!("[storage.options]\nadditionalimagestores = [\"{place}\"]");
        let podman = empty(program, &storage("/var/tmp/more", ""));
        podman.host.sh(&script);
        podman.pull(APP);
        podman.pull(FRESH);
        configure(&podman, &storage("/var/lib/containers/storage", &options));
        podman.host.sh("mkdir -p /var/lib/containers/storage/layerseal");
        holds(&podman, &place, &[&[], &MAPPED, &["--userns=auto"]]);
    }
}

/// Nobody has run podman here: images come with the disk, and there is no graph root yet.
#[test]
fn an_additional_store_alone() {
    if !ready("an additional store alone") {
        return;
    }
    for graph_root in ["graphroot = \"/var/lib/containers/storage\"\n", ""] {
        if graph_root.is_empty() && Podman::version() < (5, 6) {
            support::skip!(part: "podman {:?} takes no empty graph root", Podman::version());
            continue;
        }
        let podman = empty(Program::Hooked, &storage("/var/tmp/more", ""));
        podman.pull(APP);
        podman.host.sh("rm -rf /run/containers /run/libpod; umount -l /var/lib/containers/storage/overlay 2>/dev/null || true; rm -rf /var/lib/containers/storage");
        let text = format!(
            "[storage]\ndriver = \"overlay\"\nrunroot = \"/run/containers/storage\"\n{graph_root}\
             [storage.options]\nadditionalimagestores = [\"/var/tmp/more\"]\n"
        );
        configure(&podman, &text);
        assert!(!podman.host.inside("/var/lib/containers/storage").exists());
        podman.prepare(APP);
        starts(&podman, &run(&[]), "alone");
        needs_all_of_it(&podman, "alone");
    }
}

/// The way to the store is written otherwise than the kernel shows it.
#[test]
fn links_and_odd_slashes_on_the_way_to_the_store() {
    if !ready("links to the store") {
        return;
    }
    for (root, script) in [
        ("//var//tmp/./graph/", ""),
        ("/var/tmp/link", "mkdir -p /var/tmp/graph; ln -s graph /var/tmp/link"),
        ("/var/tmp/link/graph", "mkdir -p /var/tmp/real; ln -s real /var/tmp/link"),
    ] {
        for program in [Program::Hooked, Program::Layerseal] {
            let podman = empty(program, &storage(root, ""));
            podman.host.sh(script);
            podman.pull(APP);
            podman.pull(FRESH);
            holds(&podman, root, &[&[], &MAPPED]);
        }
    }
}

/// Its containers are forgotten with the boot; their records are in the run root.
#[test]
fn a_transient_store() {
    if !ready("a transient store") {
        return;
    }
    if Podman::version() < (4, 5) {
        support::skip!("podman {:?} has none", Podman::version());
    }
    for program in [Program::Hooked, Program::Layerseal] {
        let podman = empty(program, &storage("/var/lib/containers/storage", "transient_store = true"));
        podman.pull(APP);
        podman.pull(FRESH);
        holds(&podman, "a transient store", &[&[], &MAPPED]);
    }
}

/// Drop-ins alone say where the store is: podman 6, and those that are built with its library.
#[test]
fn drop_ins_say_where_the_store_is() {
    if !ready("drop-ins") {
        return;
    }
    if Podman::version() < (5, 8) {
        support::skip!("podman {:?} has none", Podman::version());
    }
    let podman = empty(Program::Hooked, &storage("/var/tmp/not-this", ""));
    let dir = "/usr/share/containers/storage.rootful.conf.d";
    podman.host.sh("mkdir -p /var/tmp/usr; cp -a /usr/share/containers/. /var/tmp/usr; mount --bind /var/tmp/usr /usr/share/containers");
    podman.host.write(&format!("{dir}/50.conf"), "[storage]\ngraphroot = \"/var/tmp/graph\"\n");
    podman.pull(APP);
    podman.pull(FRESH);
    assert!(podman.host.inside("/var/tmp/graph/overlay-images").exists());
    holds(&podman, "drop-ins", &[&[], &MAPPED]);
    assert!(podman.host.inside("/var/tmp/graph/layerseal").exists());
    assert!(!podman.host.inside("/var/tmp/not-this").exists());
}

/// The drivers that layerseal does nothing for are named: podman lists their images.
#[test]
fn x09_another_driver_than_overlay_is_named() {
    if !ready("x09 drivers") {
        return;
    }
    let podman = empty(Program::Hooked, &storage("/var/tmp/graph", "").replace("\"overlay\"", "\"vfs\""));
    podman.pull(APP);
    let layerseal = |args: &[&str]| podman.host.command(common::binary().to_str().unwrap(), args).output().unwrap();
    let prepared = layerseal(&["prepare", APP]);
    let said = String::from_utf8_lossy(&prepared.stderr).into_owned();
    assert!(said.contains("driver vfs") && said.contains("[R-X09]"), "{said}");
    let doctor = String::from_utf8(layerseal(&["doctor"]).stdout).unwrap();
    let line = doctor.lines().find(|line| line.contains("container store")).unwrap();
    assert!(line.starts_with("missing") && line.contains("driver vfs"), "{line}");
    // One that nobody chose is found by its directories.
    configure(&podman, &storage("/var/tmp/graph", "").replace("driver = \"overlay\"\n", ""));
    let said = String::from_utf8(layerseal(&["prepare", APP]).stderr).unwrap();
    assert!(said.contains("driver vfs"), "{said}");
    configure(&podman, &storage("/var/lib/containers/storage", ""));
    let said = String::from_utf8(layerseal(&["prepare", APP]).stderr).unwrap();
    assert!(said.contains("[R-X09]") && !said.contains("driver"), "{said}");
}

/// The policy says where the vault is: hooks, mount program, runtime and verbs go by it, and nothing is in the graph root.
#[test]
fn a_vault_elsewhere() {
    if !ready("a vault elsewhere") {
        return;
    }
    for program in [Program::Hooked, Program::Layerseal, Program::Runtime] {
        let podman = empty(program, &storage("/var/lib/containers/storage", ""));
        podman.policy(&format!("{}[store]\nvault = \"/var/tmp/vault\"\n", default_policy()));
        podman.host.sh("mkdir -m 755 /var/tmp/vault");
        if !has_verity() {
            podman.host.sh("mount -t tmpfs -o mode=755 vault /var/tmp/vault");
        }
        podman.pull(APP);
        podman.pull(FRESH);
        let ways: &[&[&str]] = if program == Program::Layerseal { &[&MAPPED] } else { &[] };
        holds(&podman, "a vault elsewhere", ways);
        assert!(podman.host.inside("/var/tmp/vault/objects").exists());
        let inside = podman.host.inside("/var/lib/containers/storage/layerseal");
        assert!(!inside.exists(), "{program:?}: {}", inside.display());
        let status = podman.host.command(common::binary().to_str().unwrap(), &["fsck"]).output().unwrap();
        assert!(status.status.success(), "{program:?}: {status:?}");
    }
}

/// podman mounts images of its own making only where it has made some: others are as ever.
#[test]
fn use_composefs_with_hooks() {
    if !ready("use_composefs") {
        return;
    }
    if Podman::version() < (5, 0) {
        support::skip!("podman {:?} has none", Podman::version());
    }
    let options = "[storage.options.overlay]\nuse_composefs = \"true\"";
    for program in [Program::Hooked, Program::Runtime] {
        let podman = empty(program, &storage("/var/lib/containers/storage", options));
        if !podman.has_program("mkcomposefs") {
            support::skip!("no mkcomposefs, which podman makes its images with");
        }
        podman.pull(APP);
        podman.pull(FRESH);
        holds(&podman, "use_composefs", &[]);
    }
}

/// What podman pulls in parts (`zstd:chunked`) never was a tar here: the ID of such a layer is that of a table of contents.
#[test]
fn zstd_chunked_layers_that_were_pulled_in_parts() {
    if !ready("zstd:chunked") {
        return;
    }
    if Podman::version() < (5, 0) {
        support::skip!("podman {:?} knows it otherwise", Podman::version());
    }
    let Some(site) = support::tools::Site::with_api() else { return };
    let repository = site.repository("acme/chunked");
    let (name, there) = (format!("{repository}:1"), format!("docker://{repository}:1"));
    let graph_root = "/var/lib/containers/storage";
    let from = empty(Program::Native, &storage(graph_root, ""));
    if !from.has_program("skopeo") {
        support::skip!("no skopeo, by which seals come from a registry");
    }
    from.pull(APP);
    from.ok(&["push", "-q", "--tls-verify=false", "--compression-format", "zstd:chunked", APP, &there]);
    let bench = common::Bench::new();
    bench.signer("signer", common::signer());
    let sign = ["sign", &there, "--cert", "signer.crt", "--key", "signer.key", "--identity", &repository];
    site.run(&bench, &sign).ok();
    let options = "[storage.options]\npull_options = {enable_partial_images = \"true\"}";
    for program in [Program::Hooked, Program::Layerseal] {
        let podman = empty(program, &storage(graph_root, options));
        podman.ok(&["pull", "-q", "--tls-verify=false", &name]);
        let layers =
            std::fs::read_to_string(podman.host.inside("/var/lib/containers/storage/overlay-layers/layers.json"));
        let parts = layers.unwrap().contains("\"toc-digest\"");
        let args = ["prepare", &name, "--seal", &there, "--tls-verify=false"];
        let prepared = podman.host.command(common::binary().to_str().unwrap(), &args).output().unwrap();
        assert!(prepared.status.success(), "{program:?}, in parts: {parts}: {prepared:?}");
        starts(&podman, &["run", "--rm", &name, "cat", "/etc/kept"], "zstd:chunked");
        if !parts {
            support::skip!(part: "podman {:?} pulled all of it", Podman::version());
        }
    }
}
