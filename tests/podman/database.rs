//! Stores of which podman's database says that podman uses them, whatever storage.conf says.

use serde_json::{Value, json};

use crate::guard::text;
use crate::hostile::{GRAPH_ROOT, IMAGE_STORE, IMAGES, as_pulled_in_parts, json_of, other_config};
use crate::image::APP;
use crate::podman::{Podman, Program, default_policy};
use crate::{common, ready};

/// What the doctor says about podman's database.
fn doctor(podman: &Podman) -> String {
    let output = podman.host.command(common::binary().to_str().unwrap(), &["doctor", "--json"]).output().unwrap();
    let report: Value = serde_json::from_slice(&output.stdout).unwrap_or_else(|e| panic!("{e}: {output:?}"));
    let found = report["checks"].as_array().unwrap().iter().find(|check| check["check"] == "podman's database");
    found.map_or_else(|| "none".to_owned(), |check| format!("{}: {}", check["state"], check["found"]))
}

/// podman's database, in the graph root that is configured, names another one: podman looks for an image in the image
/// store and then there.
#[test]
fn b04_a_graph_root_that_only_podmans_database_names_has_no_order_beside_an_image_store() {
    if !ready("another graph root by the database") {
        return;
    }
    if Podman::version() < (5, 0) {
        support::skip!("another graph root by the database: podman {:?} has no db.sql", Podman::version());
    }
    // As long as the configured one: it is replaced in the file.
    const OTHER_ROOT: &str = "/var/lib/containers/storag2";
    for program in [Program::Hooked, Program::Runtime, Program::Layerseal] {
        let podman = Podman::at(crate::scratch::fresh("host"), program);
        let line = podman.mount_program().map(|p| format!("[storage.options.overlay]\nmount_program = \"{p}\"\n"));
        let configured = |root: &str, more: &str| {
            let text = format!(
                "[storage]\ndriver = \"overlay\"\nrunroot = \"/run/containers/storage\"\ngraphroot = \"{root}\"\n{more}{}",
                line.clone().unwrap_or_default()
            );
            podman.host.write("/etc/containers/storage.conf", text);
        };
        configured(OTHER_ROOT, "");
        podman.pull(APP);
        let id = as_pulled_in_parts(&podman, OTHER_ROOT, OTHER_ROOT);
        podman.prepare(APP);
        let run = || podman.run(&["run", "--rm", "--pull=never", APP]);
        let output = run();
        assert!(output.status.success(), "{program:?}: by the configuration: {}", text(&output));
        podman.host.sh("rm -rf /run/containers/storage/* /run/libpod");
        let mut database = std::fs::read(podman.host.inside(&format!("{OTHER_ROOT}/db.sql"))).unwrap();
        for dir in ["libpod", "volumes"] {
            let [from, to] = [OTHER_ROOT, GRAPH_ROOT].map(|root| format!("{root}/{dir}").into_bytes());
            while let Some(at) = database.windows(from.len()).position(|bytes| bytes == from) {
                database[at..at + to.len()].copy_from_slice(&to);
            }
        }
        podman.host.write(&format!("{GRAPH_ROOT}/db.sql"), database);
        podman.host.sh(&format!("mkdir -p {IMAGE_STORE}; cp -a {OTHER_ROOT}/overlay-images {IMAGE_STORE}/"));
        configured(GRAPH_ROOT, &format!("imagestore = \"{IMAGE_STORE}\"\n"));
        let info = podman.ok(&["info", "--format", "{{.Store.GraphRoot}}"]);
        assert_eq!(info.trim(), OTHER_ROOT, "{program:?}");
        let said = doctor(&podman);
        assert!(
            said.starts_with("\"optional\"") && said.contains(&format!("graph root {OTHER_ROOT} instead")),
            "{said}"
        );
        let output = run();
        assert!(output.status.success(), "{program:?}: both alike: {}", text(&output));
        other_config(&podman.host.inside(IMAGE_STORE), &id);
        let said = text(&run());
        assert!(said.contains("layerseal") && !said.contains("evil"), "{program:?}: {said}");
    }
}

/// podman's database names a run root on the disk, which says where the layers of images are mounted already.
#[test]
fn o11_what_another_run_root_says_is_mounted_is_no_image() {
    if !ready("another run root by the database") {
        return;
    }
    let mount = format!("type=image,source={APP},destination=/img");
    let shown = ["run", "--rm", "--pull=never", "--mount", mount.as_str(), APP, "cat", "/img/note"];
    let podman = Podman::new(Program::Guarded);
    let said = doctor(&podman);
    assert!(said.starts_with("\"ok\""), "{said}");
    podman.host.sh("mkdir -p /var/tmp/lower");
    podman.ok(&["run", "--rm", "--mount", &mount, "-v", "/var/tmp/lower:/lower:O", APP, "true"]);
    for program in [Program::Hooked, Program::Runtime, Program::Guarded] {
        let podman = Podman::at(crate::scratch::fresh("host"), program);
        let other = format!("{GRAPH_ROOT}/run");
        podman.host.sh(&format!("mkdir -p {GRAPH_ROOT}/overlay {other}/overlay-layers"));
        podman.ok(&["--runroot", &other, "info"]);
        podman.pull(APP);
        podman.prepare(APP);
        podman.ok(&["run", "--rm", "--pull=never", APP, "true"]);
        let info = podman.ok(&["info", "--format", "{{.Store.RunRoot}}"]);
        assert_eq!(info.trim(), other, "{program:?}");
        let said = doctor(&podman);
        assert!(said.starts_with("\"optional\"") && said.contains(&format!("run root {other} instead")), "{said}");
        let top = json_of(&podman.graph_root().join(IMAGES))[0]["layer"].clone();
        podman.host.write(&format!("{GRAPH_ROOT}/overlay/note"), "evil");
        let said = json!([{"id": top, "path": format!("{GRAPH_ROOT}/overlay"), "count": 1}]);
        for mount in [mount.clone(), format!("{mount},rw=true")] {
            podman.host.write(&format!("{other}/overlay-layers/mountpoints.json"), said.to_string());
            let mut shown = shown;
            shown[4] = &mount;
            let output = podman.run(&shown);
            assert!(!output.status.success() && !text(&output).contains("evil"), "{program:?}: {}", text(&output));
            let stage = if program == Program::Runtime { "runtime" } else { "precreate" };
            assert_eq!(podman.last(stage), ("refused".into(), "O11".into()), "{program:?}: {}", text(&output));
        }
        // Somebody's own directories are no images, and a rule may let the place be covered.
        podman.host.sh("mkdir -p /var/tmp/own");
        podman.ok(&["run", "--rm", "--pull=never", "-v", "/var/tmp/own:/own", APP, "true"]);
    }
}

/// Whether podman's database can be edited here.
fn has_sqlite() -> bool {
    let asked = std::process::Command::new("python3").args(["-c", "import sqlite3"]).output();
    asked.is_ok_and(|output| output.status.success())
}

/// Runs SQL on podman's database.
fn sql(podman: &Podman, script: &str) {
    let database = podman.graph_root().join("db.sql");
    let edit = "import sqlite3, sys\nc = sqlite3.connect(sys.argv[1])\nc.executescript(sys.argv[2])\nc.close()\n";
    let output = std::process::Command::new("python3").args(["-c", edit]).arg(database).arg(script).output().unwrap();
    assert!(output.status.success(), "{script}: {}", text(&output));
}

/// A trigger in it: podman writes down a new container, and reads another one.
#[test]
fn b15_a_database_that_changes_what_podman_writes_is_refused() {
    if !ready("another schema in the database") {
        return;
    }
    if Podman::version() < (5, 0) {
        support::skip!("another schema in the database: podman {:?} has no db.sql", Podman::version());
    }
    if !has_sqlite() {
        support::skip!("another schema in the database: needs python3 with sqlite3");
    }
    const STATE: &str = "UPDATE ContainerState SET JSON = json_set(JSON, '$.bindMounts', json('{\"/opt\":\"/var/tmp/evil\"}')) WHERE ID = NEW.ID";
    // Every kind of entry that can do so, and what removes it.
    let trigger = |on: &str, does: &str| format!("CREATE TRIGGER evil AFTER INSERT ON {on} BEGIN {does}; END;");
    let config = "UPDATE ContainerConfig SET JSON = json_set(JSON, '$.spec.process.args', json('[\"echo\", \"evil\"]')) WHERE ID = NEW.ID";
    let long = trigger("ContainerState", &format!("{STATE} AND '{}' <> ''", "x".repeat(9000)));
    let changes = [
        (trigger("ContainerState", STATE), "DROP TRIGGER evil;"),
        (long, "DROP TRIGGER evil;"),
        (trigger("ContainerConfig", config), "DROP TRIGGER evil;"),
        ("CREATE VIEW evil AS SELECT 1;".to_owned(), "DROP VIEW evil;"),
        ("CREATE TABLE evil(a TEXT, b TEXT AS (a));".to_owned(), "DROP TABLE evil;"),
    ];
    for program in [Program::Hooked, Program::Runtime, Program::Layerseal] {
        let podman = Podman::new(program);
        let run =
            || podman.run(&["run", "--rm", "--pull=never", APP, "sh", "-c", "[ -e /opt/app ] && [ ! -e /opt/evil ]"]);
        let sealed = |what: &str| {
            let output = run();
            assert!(output.status.success(), "{program:?}: {what}: {}", text(&output));
        };
        podman.host.sh("mkdir -p /var/tmp/evil; echo mine >/var/tmp/evil/evil");
        sealed("podman's own");
        let said = doctor(&podman);
        assert!(said.starts_with("\"ok\""), "{said}");
        // Indexes of somebody else change nothing, and many tables take more pages.
        let tables: String = (0..40).map(|n| format!("CREATE TABLE other{n}(a TEXT, b TEXT); ")).collect();
        sql(&podman, &format!("{tables} CREATE INDEX other ON ContainerConfig(PodID);"));
        sealed("more tables");
        for (change, back) in &changes {
            sql(&podman, change);
            let output = run();
            assert!(!output.status.success(), "{program:?}: {change}: {}", text(&output));
            match program {
                Program::Layerseal => assert!(text(&output).contains("[R-B15]"), "{change}: {}", text(&output)),
                Program::Runtime => assert_eq!(podman.last("runtime"), ("refused".into(), "B15".into()), "{change}"),
                _ => assert_eq!(podman.last("precreate"), ("refused".into(), "B15".into()), "{change}"),
            }
            sql(&podman, back);
        }
        podman.policy(&default_policy().replace("\"enforce\"", "\"audit\""));
        sql(&podman, &changes[0].0);
        let output = run();
        assert!(!text(&output).contains("layerseal"), "{program:?}: audit: {}", text(&output));
        podman.policy(&default_policy());
        let (found, code) = podman.verb(&["check", APP]);
        assert_eq!(code, 4, "{program:?}: {found}");
        let said = doctor(&podman);
        assert!(said.starts_with("\"missing\"") && said.contains("db.sql"), "{said}");
        sql(&podman, changes[0].1);
        sealed("as it was");
    }
}
