//! Stores of which podman's database says that podman uses them, whatever storage.conf says.

use std::path::Path;

use serde_json::{Value, json};

use crate::guard::text;
use crate::hostile::{GRAPH_ROOT, IMAGE_STORE, IMAGES, as_pulled_in_parts, json_of, other_config};
use crate::image::APP;
use crate::podman::{Podman, Program, default_policy};
use crate::{common, ready};

/// The name of the check of podman's database.
const DATABASE: &str = "podman's database";

/// What one check of the doctor says.
pub fn doctor(podman: &Podman, name: &str) -> String {
    let output = podman.host.command(common::binary().to_str().unwrap(), &["doctor", "--json"]).output().unwrap();
    let report: Value = serde_json::from_slice(&output.stdout).unwrap_or_else(|e| panic!("{e}: {output:?}"));
    let found = report["checks"].as_array().unwrap().iter().find(|check| check["check"] == name);
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
        let said = doctor(&podman, DATABASE);
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
    let said = doctor(&podman, DATABASE);
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
        let said = doctor(&podman, DATABASE);
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
pub fn has_sqlite() -> bool {
    let asked = std::process::Command::new("python3").args(["-c", "import sqlite3"]).output();
    asked.is_ok_and(|output| output.status.success())
}

/// Runs SQL on podman's database.
fn sql(podman: &Podman, script: &str) {
    sql_in(&podman.graph_root().join("db.sql"), script);
}

pub fn sql_in(database: &Path, script: &str) {
    let edit = "import sqlite3, sys\nc = sqlite3.connect(sys.argv[1])\nc.executescript(sys.argv[2])\nc.close()\n";
    let output = std::process::Command::new("python3").args(["-c", edit]).arg(database).arg(script).output().unwrap();
    assert!(output.status.success(), "{script}: {}", text(&output));
}

/// What changes the state that podman writes down for a new container.
pub const STATE: &str = "UPDATE ContainerState SET JSON = json_set(JSON, '$.bindMounts', json('{\"/opt\":\"/var/tmp/evil\"}')) WHERE ID = NEW.ID";

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
        let said = doctor(&podman, DATABASE);
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
        let said = doctor(&podman, DATABASE);
        assert!(said.starts_with("\"missing\"") && said.contains("db.sql"), "{said}");
        sql(&podman, changes[0].1);
        sealed("as it was");
    }
}

/// What python does to a copy of podman's database, with which podman then reads another volume, or another state of a container, than it has
/// written down.
const CRAFTED: [(&str, &str); 6] = [
    // podman writes by places and reads by names: the place of what it leaves out has the name of what it reads.
    (
        "a default in the place of a volume",
        r#"
c.executescript(f"""DROP TABLE VolumeConfig;
CREATE TABLE VolumeConfig(Name TEXT PRIMARY KEY NOT NULL, JSON TEXT NOT NULL ON CONFLICT REPLACE DEFAULT '{evil}', StorageID TEXT);
INSERT INTO VolumeConfig VALUES ('evil', NULL, NULL);""")
"#,
    ),
    // The last row has the number 1000, and on the way to the next one are others.
    (
        "rows in the place of new ones",
        r#"
rows = [(n, f"row{n}", evil.ljust(1500)) for n in [*range(1001, 1061), *range(2000, 2008)]]
c.executemany("INSERT INTO VolumeConfig(rowid, Name, JSON) VALUES (?, ?, ?)", rows)
c.commit()
(root,) = c.execute("SELECT rootpage FROM sqlite_master WHERE name = 'VolumeConfig'").fetchone()
data = bytearray(open(path, "rb").read())
number = lambda at, length: int.from_bytes(data[at : at + length], "big")
size = number(16, 2)
def renumber(page):
    at = (page - 1) * size
    above = data[at] == 5
    for n in range(number(at + 3, 2)):
        cell = at + number(at + (12 if above else 8) + 2 * n, 2)
        if above:
            renumber(number(cell, 4))
            continue
        while data[cell] & 0x80:
            cell += 1
        row = (data[cell + 1] & 0x7F) << 7 | data[cell + 2]
        if data[cell + 1] & 0x80 and row >= 2000:
            row -= 1007
            data[cell + 1 : cell + 3] = [0x80 | row >> 7, row & 0x7F]
    if above:
        renumber(number(at + 8, 4))
renumber(root)
open(path, "wb").write(data)
"#,
    ),
    // SQLite has it where the link leads. The file itself says nothing of it.
    (
        "a log beside the file that a link leads to",
        r#"
c.execute("PRAGMA journal_mode = WAL")
c.execute("PRAGMA wal_autocheckpoint = 0")
c.executescript(trigger)
for end in ["", "-wal"]:
    shutil.copy(path + end, aside + end)
c.close()
with open(aside, "r+b") as file:
    file.seek(18)
    file.write(b"\1\1")
os.remove(path)
os.symlink(os.path.relpath(aside, os.path.dirname(path)), path)
"#,
    ),
    // SQLite takes away what is before `..`, and the kernel looks for it.
    (
        "a link that SQLite alone can follow",
        r#"
c.executescript(trigger)
os.rename(path, aside)
os.symlink("none/../" + os.path.basename(aside), path)
"#,
    ),
    // In one tree, two indexes have two rows for a new name: podman finds the one with the lower number.
    (
        "a page with two places",
        r#"
c.executescript(f"""DROP TABLE ContainerVolume; DROP TABLE VolumeState; DROP TABLE VolumeConfig;
CREATE TABLE ContainerVolume(ContainerID TEXT, VolumeName TEXT);
CREATE TABLE VolumeState(Name TEXT, JSON TEXT);
CREATE TABLE VolumeConfig(Name TEXT, StorageID TEXT, JSON TEXT);
INSERT INTO VolumeState VALUES ('evil', '{{}}');
CREATE INDEX states ON VolumeState(Name);
CREATE INDEX volumes ON VolumeConfig(Name);""")
c.executemany("INSERT INTO VolumeConfig VALUES (?, NULL, ?)", [(name, evil) for name in ["evil", *map(str, range(50))]])
c.commit()
c.executescript("""PRAGMA writable_schema = ON;
UPDATE sqlite_master SET rootpage = (SELECT rootpage FROM sqlite_master WHERE name = 'volumes') WHERE name = 'states';""")
"#,
    ),
    ("pages that are moved", "c.execute('PRAGMA auto_vacuum = FULL')\nc.execute('VACUUM')"),
];

/// Opens the database, and describes a volume of somebody else's.
const CRAFT: &str = r#"
import json, os, shutil, sqlite3, sys
path, aside, trigger, script = sys.argv[1:]
c = sqlite3.connect(path)
(row,) = c.execute("SELECT JSON FROM VolumeConfig WHERE Name = 'evil'").fetchone()
evil = json.dumps({**json.loads(row), "mountPoint": "/var/tmp/evil"})
exec(script)
c.close()
"#;

/// The schema is podman's own, or looks like it, and podman reads what it did not write.
#[test]
fn b15_a_database_that_gives_podman_something_else_than_it_wrote_is_refused() {
    if !ready("another database") {
        return;
    }
    if Podman::version() < (5, 0) {
        support::skip!("another database: podman {:?} has no db.sql", Podman::version());
    }
    if !has_sqlite() {
        support::skip!("another database: needs python3 with sqlite3");
    }
    for program in [Program::Hooked, Program::Runtime, Program::Layerseal] {
        let podman = Podman::new(program);
        let database = podman.graph_root().join("db.sql");
        let aside = podman.graph_root().join("aside.sql");
        let run = |more: &[&str]| {
            let script = "[ -e /opt/app ] && [ ! -e /opt/evil ] && [ ! -e /home/app/evil ]";
            podman.run(&[&["run", "--pull=never", "-v", "/home/app"], more, &[APP, "sh", "-c", script]].concat())
        };
        // Not removed by podman's own cleanup, which may still be at it when the database is another one.
        let output = run(&["--name", "one"]);
        assert!(output.status.success(), "{program:?}: podman's own: {}", text(&output));
        podman.ok(&["rm", "-v", "one"]);
        podman.host.sh("mkdir -p /var/tmp/evil; echo mine >/var/tmp/evil/evil");
        podman.ok(&["volume", "create", "evil"]);
        let own = std::fs::read(&database).unwrap();
        for (what, script) in CRAFTED {
            let trigger = format!("CREATE TRIGGER evil AFTER INSERT ON ContainerState BEGIN {STATE}; END;");
            let mut python = std::process::Command::new("python3");
            let output =
                python.args(["-c", CRAFT]).args([&database, &aside]).arg(trigger).arg(script).output().unwrap();
            assert!(output.status.success(), "{what}: {}", text(&output));
            let output = run(&["--rm"]);
            assert!(!output.status.success(), "{program:?}: {what}: {}", text(&output));
            match program {
                Program::Layerseal => assert!(text(&output).contains("[R-B15]"), "{what}: {}", text(&output)),
                Program::Runtime => assert_eq!(podman.last("runtime"), ("refused".into(), "B15".into()), "{what}"),
                _ => assert_eq!(podman.last("precreate"), ("refused".into(), "B15".into()), "{what}"),
            }
            let said = doctor(&podman, DATABASE);
            assert!(said.starts_with("\"missing\"") && said.contains("db.sql"), "{what}: {said}");
            podman.host.sh("cd /var/lib/containers/storage; rm -f db.sql* aside.sql*");
            std::fs::write(&database, &own).unwrap();
        }
        let output = run(&["--rm"]);
        assert!(output.status.success(), "{program:?}: as it was: {}", text(&output));
    }
}

/// Makes a database of BoltDB like podman's, of which the list of free pages names two of them twice: what a new container is said
/// to be, and the list of all containers, come to lie there. In that list is what another container was.
const CRAFT_BOLT: &str = r#"
import json, struct, sys
path = sys.argv[1]
data = open(path, "rb").read()
def leaf(page, buffer, found):
    flags, count = struct.unpack_from("<HH", buffer, page + 8)
    for element in range(page + 16, page + 16 + 16 * count, 16):
        if flags & 1:
            leaf(struct.unpack_from("<Q", buffer, element + 8)[0] * size, data, found)
            continue
        kind, at, key, value = struct.unpack_from("<IIII", buffer, element)
        at += element
        found[buffer[at : at + key]] = bucket(buffer[at + key : at + key + value]) if kind else buffer[at + key : at + key + value]
    return found
def bucket(value):
    root, = struct.unpack_from("<Q", value)
    return leaf(root * size, data, {}) if root else leaf(16, value, {})
size, = struct.unpack_from("<I", data, 24)
metas = [struct.unpack_from("<IIIIQQQQQ", data, at + 16) for at in (0, size)]
tree = leaf(max(metas, key=lambda meta: meta[8])[4] * size, data, {})
def page(number, entries, overflow=0):
    heads = body = b""
    for n, (key, value) in enumerate(sorted(entries.items())):
        kind, value = (1, value[0]) if isinstance(value, tuple) else (0, value)
        heads += struct.pack("<IIII", kind, 16 * (len(entries) - n) + len(body), len(key), len(value))
        body += key + value
    return struct.pack("<QHHI", number, 2, len(entries), overflow) + heads + body
within = lambda entries: (bytes(16) + page(0, entries),)
at = lambda number: (struct.pack("<QQ", number, 0),)
(other,) = tree[b"ctr"].values()
state = {**json.loads(other[b"state"]), "bindMounts": {"/opt": "/var/tmp/evil"}}
old = {b"config": other[b"config"].ljust(9000), b"state": json.dumps(state).encode(), b"dependencies": within({})}
keep = [b"runtime-config", b"networks"]
root = {name: within(entries if name in keep else {}) for name, entries in tree.items()}
root.update({b"ctr": at(4), b"all-ctrs": at(5)})
free = [8, 10, 12, 14, 14, 15, 15]
size = 8192
def meta(number):
    meta = struct.pack("<IIIIQQQQQ", 0xED0CDAED, 2, size, 0, 3, 0, 2, 16, 100 + number)
    sum = 0xCBF29CE484222325
    for byte in meta:
        sum = (sum ^ byte) * 0x100000001B3 % 2**64
    return struct.pack("<QHHI", number, 4, 0, 0) + meta + struct.pack("<Q", sum)
listed = struct.pack(f"<QHHI{len(free)}Q", 2, 16, len(free), 0, *free)
made = [meta(0), meta(1), listed, page(3, root), page(4, {}), page(5, old, 1).ljust(2 * size, b"\0")]
open(path, "wb").write(b"".join(page.ljust(size, b"\0") for page in made).ljust(16 * size, b"\0"))
"#;

/// podman 4 has a database of another kind, in which a page can have two places as well.
#[test]
fn b15_a_database_of_boltdb_with_a_page_of_two_places_is_refused() {
    if !ready("BoltDB") {
        return;
    }
    if Podman::version() >= (5, 0) {
        support::skip!("BoltDB: podman {:?} makes none", Podman::version());
    }
    if !has_sqlite() {
        support::skip!("BoltDB: needs python3");
    }
    for program in [Program::Runtime, Program::Layerseal] {
        let podman = Podman::new(program);
        let database = podman.graph_root().join("libpod/bolt_state.db");
        let run =
            || podman.run(&["run", "--rm", "--pull=never", APP, "sh", "-c", "[ -e /opt/app ] && [ ! -e /opt/evil ]"]);
        podman.host.sh("mkdir -p /var/tmp/evil; echo mine >/var/tmp/evil/evil");
        podman.ok(&["create", "--name", "one", APP, "true"]);
        let output = run();
        assert!(output.status.success(), "{program:?}: podman's own: {}", text(&output));
        let own = std::fs::read(&database).unwrap();
        let output = std::process::Command::new("python3").args(["-c", CRAFT_BOLT]).arg(&database).output().unwrap();
        assert!(output.status.success(), "{}", text(&output));
        let said = doctor(&podman, DATABASE);
        assert!(said.starts_with("\"missing\"") && said.contains("bolt_state.db"), "{program:?}: {said}");
        let output = run();
        assert!(!output.status.success(), "{program:?}: {}", text(&output));
        match program {
            Program::Layerseal => assert!(text(&output).contains("[R-B15]"), "{}", text(&output)),
            _ => assert_eq!(podman.last("runtime"), ("refused".into(), "B15".into()), "{}", text(&output)),
        }
        std::fs::write(&database, &own).unwrap();
        let output = run();
        assert!(output.status.success(), "{program:?}: as it was: {}", text(&output));
    }
}
