//! What has podman remove files of the host, and what does not let it.

use serde_json::json;

use crate::database::doctor;
use crate::guard::text;
use crate::hostile::json_of;
use crate::image::APP;
use crate::podman::{Podman, Program};
use crate::ready;

const CHECK: &str = "what podman removes when it opens its store";
const RUN: [&str; 5] = ["run", "--rm", "--pull=never", APP, "true"];
/// How SQLite's journals end that name another (Database File Format, 3.1).
const SUPER_JOURNAL: [u8; 8] = [0xd9, 0xd5, 0x05, 0xf9, 0x20, 0xa1, 0x63, 0xd7];

/// A layer that was not finished.
fn unfinished(podman: &Podman, id: &str) {
    let path = podman.graph_root().join("overlay-layers/layers.json");
    let mut layers = json_of(&path);
    let record = json!({"id": id, "created": "2024-01-01T00:00:00Z", "flags": {"incomplete": true}});
    layers.as_array_mut().unwrap().push(record);
    std::fs::write(&path, layers.to_string()).unwrap();
}

#[test]
fn doctor_finds_what_has_podman_remove_files() {
    if !ready("what podman removes") {
        return;
    }
    let podman = Podman::new(Program::Hooked);
    podman.ok(&RUN);
    let says = |part: &str| {
        let said = doctor(&podman, CHECK);
        assert!(said.starts_with("\"missing\"") && said.contains(part), "{said}");
    };
    let silent = || assert_eq!(doctor(&podman, CHECK), "none");
    silent();
    let layers = podman.graph_root().join("overlay-layers/layers.json");
    let before = std::fs::read(&layers).unwrap();
    // One that a pull left, as podman has them.
    let id = "e".repeat(64);
    unfinished(&podman, &id);
    silent();
    let link = podman.graph_root().join("overlay").join(&id).join("link");
    std::fs::create_dir_all(link.parent().unwrap()).unwrap();
    std::fs::write(&link, "../../../../../../etc/layerseal/deny.d").unwrap();
    says("deny.d");
    std::fs::remove_dir_all(link.parent().unwrap()).unwrap();
    unfinished(&podman, "../../../../../etc/layerseal/deny.d");
    says("deny.d");
    std::fs::write(&layers, before).unwrap();
    silent();
    let journal = podman.graph_root().join("db.sql-journal");
    std::fs::write(&journal, [0; 512]).unwrap();
    silent();
    std::fs::write(&journal, [&[0; 512][..], b"/etc/layerseal/deny.d/x.list", &SUPER_JOURNAL].concat()).unwrap();
    says("SQLite");
    std::fs::remove_file(&journal).unwrap();
    silent();
}

/// The measure that docs/threat-model.md names.
#[test]
fn f06_podman_does_not_remove_a_list_that_is_immutable() {
    if !ready("an immutable configuration") {
        return;
    }
    for immutable in [true, false] {
        let podman = Podman::new(Program::Hooked);
        let id = podman.ok(&["image", "inspect", "--format", "{{.Id}}", APP]);
        podman.host.write("/etc/layerseal/deny.d/x.list", format!("sha256:{}\n", id.trim()));
        if immutable && !podman.host.shell("chattr -R +i /etc/layerseal/deny.d").status.success() {
            support::skip!("no immutable files here");
        }
        assert!(!podman.run(&RUN).status.success());
        unfinished(&podman, "../../../../../etc/layerseal/deny.d");
        let output = podman.run(&RUN);
        let left = podman.host.shell("ls /etc/layerseal/deny.d").status.success();
        podman.host.sh("[ ! -e /etc/layerseal/deny.d ] || chattr -R -i /etc/layerseal/deny.d");
        if immutable {
            assert!(left && !output.status.success(), "{}", text(&output));
        } else if left {
            println!("podman {:?} removes nothing by an ID", Podman::version());
        } else {
            assert!(output.status.success(), "{}", text(&output));
        }
    }
}
