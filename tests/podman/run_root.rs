//! A run root that is on the disk: what podman notes there outlasts the boot, and whoever has the disk can write it.

use serde_json::{Value, json};

use crate::database::{STATE, doctor, has_sqlite, sql_in};
use crate::guard::text;
use crate::hostile::{GRAPH_ROOT, IMAGES, json_of};
use crate::image::APP;
use crate::podman::{Podman, Program, default_policy};
use crate::ready;

/// Where the run root is, beneath the graph root.
const RUN_ROOT: &str = "/var/lib/containers/storage/run";

/// podman whose run root is configured to be on the disk.
fn on_disk(program: Program, more: &str) -> Podman {
    let podman = Podman::at(crate::scratch::fresh("host"), program);
    let line = podman.mount_program().map(|p| format!("[storage.options.overlay]\nmount_program = \"{p}\"\n"));
    let conf = format!(
        "[storage]\ndriver = \"overlay\"\nrunroot = \"{RUN_ROOT}\"\ngraphroot = \"{GRAPH_ROOT}\"\n{more}{}",
        line.unwrap_or_default()
    );
    podman.host.write("/etc/containers/storage.conf", conf);
    podman
}

/// Has what podman notes in its run root say, after a boot, that a layer is mounted on a directory of somebody else's.
fn mounted_elsewhere(podman: &Podman, layer: &Value) {
    podman.host.reboot();
    podman.host.write(&format!("{GRAPH_ROOT}/overlay/note"), "evil");
    let said = json!([{"id": layer, "path": format!("{GRAPH_ROOT}/overlay"), "count": 1}]);
    podman.host.write(&format!("{RUN_ROOT}/overlay-layers/mountpoints.json"), said.to_string());
}

/// It is the one that is configured, and yet whoever has the disk says which layers are mounted where.
#[test]
fn o11_what_a_run_root_on_the_disk_says_is_mounted_is_no_image() {
    if !ready("a run root on the disk") {
        return;
    }
    for program in [Program::Hooked, Program::Runtime, Program::Guarded] {
        let podman = on_disk(program, "");
        podman.pull(APP);
        podman.prepare(APP);
        podman.ok(&["run", "--rm", "--pull=never", APP, "true"]);
        let info = podman.ok(&["info", "--format", "{{.Store.RunRoot}}"]);
        assert_eq!(info.trim(), RUN_ROOT, "{program:?}");
        let said = doctor(&podman, "run root");
        assert!(said.starts_with("\"optional\"") && said.contains(RUN_ROOT), "{said}");
        let top = json_of(&podman.graph_root().join(IMAGES))[0]["layer"].clone();
        let image = format!("type=image,source={APP},destination=/img");
        for mount in [image.clone(), format!("{image},rw=true")] {
            mounted_elsewhere(&podman, &top);
            let output = podman.run(&["run", "--rm", "--pull=never", "--mount", &mount, APP, "cat", "/img/note"]);
            assert!(!output.status.success() && !text(&output).contains("evil"), "{program:?}: {}", text(&output));
            let stage = if program == Program::Runtime { "runtime" } else { "precreate" };
            assert_eq!(podman.last(stage), ("refused".into(), "O11".into()), "{program:?}: {}", text(&output));
        }
        // By what is mounted in its own file's place, nothing tells which run root podman uses.
        mounted_elsewhere(&podman, &top);
        podman.host.sh("echo >/var/tmp/own-file");
        let own = "/var/tmp/own-file:/run/.containerenv";
        let output =
            podman.run(&["run", "--rm", "--pull=never", "-v", own, "--mount", &image, APP, "cat", "/img/note"]);
        assert!(!output.status.success() && !text(&output).contains("evil"), "{program:?}: {}", text(&output));
        podman.ok(&["run", "--rm", "--pull=never", "-v", own, APP, "true"]);
        // What podman itself has written there since is true: the store's own directory is a mount, and no layer's place.
        podman.host.write(&format!("{RUN_ROOT}/overlay-layers/mountpoints.json"), "[]");
        podman.host.sh("mkdir -p /var/tmp/overlay");
        for _ in 0..2 {
            podman.ok(&["run", "--rm", "--pull=never", "-v", "/var/tmp/overlay:/overlay:O", APP, "true"]);
            let output = podman.run(&["run", "--rm", "--pull=never", "--mount", &image, APP, "ls", "/img/opt"]);
            // Without the mount program nobody verifies it.
            assert_eq!(output.status.success(), program == Program::Guarded, "{program:?}: {}", text(&output));
        }
        // Somebody's own directories are no images, and a rule may let the place be covered.
        podman.host.sh("mkdir -p /var/tmp/own");
        podman.ok(&["run", "--rm", "--pull=never", "-v", "/var/tmp/own:/own", APP, "true"]);
        podman.policy(&default_policy().replace("[default]\n", "[default]\ncover = [\"/img\"]\n"));
        podman.ok(&["run", "--rm", "--pull=never", "--mount", &image, APP, "true"]);
    }
}

/// The container existed, and podman says that its root is mounted already: nothing mounts it.
#[test]
fn o01_a_root_that_a_run_root_on_the_disk_says_is_mounted_does_not_start() {
    if !ready("a container's root by a run root on the disk") {
        return;
    }
    for (program, by_database) in [
        (Program::Hooked, false),
        (Program::Hooked, true),
        (Program::Runtime, false),
        (Program::Runtime, true),
        (Program::Guarded, false),
        (Program::Guarded, true),
    ] {
        let podman = on_disk(program, "");
        podman.pull(APP);
        podman.prepare(APP);
        if by_database {
            podman.storage_conf(podman.mount_program().as_deref(), "");
            let info = podman.ok(&["info", "--format", "{{.Store.RunRoot}}"]);
            assert_eq!(info.trim(), RUN_ROOT, "{program:?}");
        }
        podman.ok(&["create", "--name", "c", APP, "cat", "/note"]);
        let layer = json_of(&podman.graph_root().join("overlay-containers/containers.json"))[0]["layer"].clone();
        mounted_elsewhere(&podman, &layer);
        podman.host.sh(&format!("cd {GRAPH_ROOT}/overlay; mkdir bin; cp /bin/busybox bin/cat"));
        let output = podman.run(&["start", "-a", "c"]);
        assert!(!output.status.success() && !text(&output).contains("evil"), "{program:?}: {}", text(&output));
        let stage = if program == Program::Runtime { "runtime" } else { "precreate" };
        assert_eq!(podman.last(stage).0, "refused", "{program:?}: {}", text(&output));
        podman.host.write(&format!("{RUN_ROOT}/overlay-layers/mountpoints.json"), "[]");
    }
}

/// A transient store has podman's database in its run root.
#[test]
fn b15_a_database_in_the_run_root_is_looked_at() {
    if !ready("a database in the run root") {
        return;
    }
    if Podman::version() < (5, 0) {
        support::skip!("a database in the run root: podman {:?} has no db.sql", Podman::version());
    }
    if !has_sqlite() {
        support::skip!("a database in the run root: needs python3 with sqlite3");
    }
    const OTHER: &str = "/var/lib/containers/storage/other";
    for program in [Program::Hooked, Program::Runtime, Program::Layerseal] {
        // Configured, and named on the command line, which the mount program does not hear of.
        for by_option in [false, true].into_iter().filter(|by_option| !by_option || program != Program::Layerseal) {
            let podman = on_disk(program, "transient_store = true\n");
            podman.pull(APP);
            podman.prepare(APP);
            let (options, place): (&[&str], _) =
                if by_option { (&["--runroot", OTHER], "other") } else { (&[], "run") };
            let run = || podman.run(&[options, &["run", "--rm", "--pull=never", APP, "ls", "/opt"]].concat());
            let output = run();
            assert!(output.status.success(), "{program:?} {place}: {}", text(&output));
            podman.host.reboot();
            podman.host.sh("mkdir -p /var/tmp/evil; echo mine >/var/tmp/evil/evil");
            let database = podman.graph_root().join(place).join("db.sql");
            let trigger = format!("CREATE TRIGGER evil AFTER INSERT ON ContainerState BEGIN {STATE}; END;");
            sql_in(&database, &trigger);
            let output = run();
            assert!(!output.status.success(), "{program:?} {place}: {}", text(&output));
            match program {
                Program::Layerseal => assert!(text(&output).contains("[R-B15]"), "{}", text(&output)),
                Program::Runtime => assert_eq!(podman.last("runtime"), ("refused".into(), "B15".into())),
                _ => assert_eq!(podman.last("precreate"), ("refused".into(), "B15".into())),
            }
            if !by_option {
                let said = doctor(&podman, "podman's database");
                assert!(said.starts_with("\"missing\"") && said.contains("db.sql"), "{said}");
            }
            sql_in(&database, "DROP TRIGGER evil;");
            let output = run();
            assert!(output.status.success(), "{program:?} {place}: as it was: {}", text(&output));
        }
    }
}

/// The container existed, and by its database podman has mounted its root and was not started since: that names a
/// directory for what is to end with the boot, on the disk.
#[test]
fn o06_a_root_that_the_database_says_is_mounted_does_not_start() {
    if !ready("a container's root by the database") {
        return;
    }
    if Podman::version() < (5, 0) {
        support::skip!("a container's root by the database: podman {:?} has no db.sql", Podman::version());
    }
    if !has_sqlite() {
        support::skip!("a container's root by the database: needs python3 with sqlite3");
    }
    for program in [Program::Hooked, Program::Runtime, Program::Guarded] {
        let podman = Podman::at(crate::scratch::fresh("host"), program);
        podman.pull(APP);
        podman.prepare(APP);
        podman.ok(&["create", "--name", "c", APP, "cat", "/note"]);
        podman.host.reboot();
        let evil = format!("{GRAPH_ROOT}/evil");
        podman
            .host
            .sh(&format!("mkdir -p {evil}/bin {GRAPH_ROOT}/tmp {GRAPH_ROOT}/own; cp /bin/busybox {evil}/bin/cat"));
        podman.host.write(&format!("{evil}/note"), "evil");
        podman.host.write(&format!("{GRAPH_ROOT}/tmp/alive"), "");
        let set = |table: &str, keys: &str| format!("UPDATE {table} SET JSON = json_set(JSON, {keys});");
        let own = format!("{GRAPH_ROOT}/own");
        let state = format!("'$.mounted', json('true'), '$.mountPoint', '{evil}', '$.runDir', '{own}'");
        let config = format!("'$.conmonPidFile', '{own}/conmon', '$.pidFile', '{own}/pid'");
        let tmp = format!("UPDATE DBConfig SET TmpDir = '{GRAPH_ROOT}/tmp';");
        let edit = [tmp, set("ContainerState", &state), set("ContainerConfig", &config)].concat();
        sql_in(&podman.graph_root().join("db.sql"), &edit);
        let output = podman.run(&["start", "-a", "c"]);
        let said = text(&output);
        assert!(!output.status.success() && !said.contains("evil"), "{program:?}: {said}");
        let stage = if program == Program::Runtime { "runtime" } else { "precreate" };
        assert_eq!(podman.last(stage), ("refused".into(), "O06".into()), "{program:?}: {said}");
    }
}
