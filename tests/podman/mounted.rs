//! Images that are mounted besides the root, where the store says something else of them than podman takes.

use serde_json::json;

use crate::guard::text;
use crate::hostile::json_of;
use crate::image::{APP, FRESH};
use crate::podman::{Podman, Program, default_policy};
use crate::ready;

const NAME: &str = "registry.example.com/acme/data:1";
const ROOT: &str = "/var/lib/containers/storage";

/// podman with the hooks, and an image that nobody sealed under [`NAME`] alone, with something in it to show.
fn with_unsealed() -> Podman {
    with_unsealed_by(Program::Hooked)
}

fn with_unsealed_by(program: Program) -> Podman {
    let podman = Podman::new(program);
    podman.ok(&["tag", FRESH, NAME]);
    podman.ok(&["untag", FRESH, FRESH]);
    podman
}

impl Podman {
    fn show(&self, image: &str, root: &str) -> std::process::Output {
        let mount = format!("type=image,src={image},dst=/data");
        self.run(&["run", "--rm", "--mount", &mount, root, "cat", "/data/etc/gone/again"])
    }

    /// The uppermost layer of an image.
    fn top(&self, image: &str) -> String {
        let upper = self.ok(&["image", "inspect", "--format", "{{.GraphDriver.Data.UpperDir}}", image]);
        upper.trim().trim_end_matches("/diff").rsplit('/').next().unwrap().to_owned()
    }

    fn not_shown(&self, image: &str, root: &str, case: &str, what: &str) {
        let output = self.show(image, root);
        assert!(!output.status.success() && !text(&output).contains("fresh"), "{what}: {}", text(&output));
        let last = self.last("precreate");
        assert_eq!(last, ("refused".into(), case.into()), "{what}: {}", text(&output));
        self.run(&["image", "umount", "-a"]);
    }

    fn shown(&self, image: &str, root: &str, what: &str) {
        let output = self.show(image, root);
        assert!(output.status.success() && text(&output).contains("fresh"), "{what}: {}", text(&output));
    }
}

/// A layer is a layer however the store spells the place of its mount.
#[test]
fn o11_a_layer_is_known_wherever_the_store_mounts_it() {
    if !ready("places of layers") {
        return;
    }
    let podman = with_unsealed();
    podman.not_shown(NAME, APP, "O11", "as it is");
    let top = podman.top(NAME);
    let home = format!("{ROOT}/overlay/{top}");
    let sh = |script: String| podman.host.sh(&script);
    // Elsewhere than the kernel has it in mountinfo, and elsewhere than in any store.
    for place in ["../../elsewhere", "/var/tmp/elsewhere"] {
        sh(format!("cd {home}; mkdir -p {place}; rmdir merged 2>/dev/null || true; ln -s {place} merged"));
        podman.not_shown(NAME, APP, "O11", place);
        sh(format!("rm {home}/merged; mkdir {home}/merged"));
    }
    // Newer podman fails by itself at this.
    sh(format!("mv {home} {ROOT}/there; ln -s ../there {home}"));
    let output = podman.show(NAME, APP);
    assert!(!output.status.success() && !text(&output).contains("fresh"), "a link to the layer: {}", text(&output));
    podman.run(&["image", "umount", "-a"]);
    sh(format!("rm {home}; mv {ROOT}/there {home}"));
    // No name of a layer that podman gives.
    let other = "no-layer";
    sh(format!(
        "cd {ROOT}; sed -i s/{top}/{other}/g overlay-layers/*.json overlay-images/images.json; mv overlay/{top} overlay/{other}; \
         link=$(cat overlay/{other}/link); ln -sfn ../{other}/diff overlay/l/$link; \
         mv overlay-layers/{top}.tar-split.gz overlay-layers/{other}.tar-split.gz"
    ));
    let output = podman.show(NAME, APP);
    assert!(!output.status.success() && !text(&output).contains("fresh"), "another ID: {}", text(&output));
}

/// containers-storage takes a layer's ID for the name of a directory: `..` in it leads to where nothing is known to be a
/// layer, or to another store, in which the image has a name that is let pass.
#[test]
fn b07_the_id_of_a_layer_leads_nowhere_else() {
    if !ready("IDs of layers that lead elsewhere") {
        return;
    }
    for program in [Program::Hooked, Program::Runtime, Program::Guarded, Program::Layerseal] {
        for place in ["../there", "..", "../../there", "a/b", "../fake/overlay"] {
            let podman = with_unsealed_by(program);
            assert!(!podman.show(NAME, APP).status.success(), "{program:?}: as it is");
            podman.run(&["image", "umount", "-a"]);
            let top = podman.top(NAME);
            let in_other_store = place.ends_with("/overlay");
            let other = if in_other_store { format!("{place}/{top}") } else { place.to_owned() };
            if in_other_store {
                podman.host.sh(&format!(
                    "cd {ROOT}; mkdir -p fake/overlay; cp -a overlay-layers overlay-images fake/; cp -a overlay/l fake/overlay/; \
                     sed -i 's|{NAME}|localhost/x:1|g' fake/overlay-images/images.json"
                ));
            }
            podman.host.sh(&format!(
                "cd {ROOT}; sed -i 's|{top}|{other}|g' overlay-layers/*.json overlay-images/images.json; \
                 mkdir -p overlay/{other}; mv overlay/{top}/* overlay/{other}/; rmdir overlay/{top}; \
                 ln -sfn ../{other}/diff overlay/l/$(cat overlay/{other}/link)"
            ));
            if !in_other_store {
                // Alone: beneath it are layers that are known.
                let path = podman.graph_root().join("overlay-layers/layers.json");
                let mut layers = json_of(&path);
                for layer in layers.as_array_mut().unwrap().iter_mut().filter(|layer| layer["id"] == *other) {
                    layer.as_object_mut().unwrap().remove("parent");
                }
                std::fs::write(&path, layers.to_string()).unwrap();
                podman.host.sh(&format!("cd {ROOT}/overlay/{other}; rm -f lower lower-layers; mkdir -p empty"));
            }
            let output = podman.show(NAME, APP);
            let said = text(&output);
            assert!(!output.status.success() && !said.contains("fresh"), "{program:?} {place}: {said}");
            match program {
                Program::Hooked => assert_eq!(podman.last("precreate"), ("refused".into(), "O11".into()), "{said}"),
                Program::Runtime => assert!(said.contains("[R-O11]"), "{place}: {said}"),
                _ => assert!(said.contains("[R-A08]") || said.contains("[R-B07]"), "{program:?} {place}: {said}"),
            }
            podman.ok(&["run", "--rm", APP, "true"]);
        }
    }
}

/// containers-storage finds a layer by the beginning of its ID too, and by its names: the image is another one then than
/// the one that has that layer by its ID, and whose name is let pass.
#[test]
fn b07_an_image_names_its_layer_by_the_whole_id() {
    if !ready("images that name their layer otherwise") {
        return;
    }
    const PASSES: &str = "localhost/x:1";
    for program in [Program::Hooked, Program::Runtime, Program::Guarded, Program::Layerseal] {
        for named in [false, true] {
            let podman = Podman::new(program);
            podman.ok(&["tag", FRESH, PASSES]);
            podman.ok(&["untag", FRESH, FRESH]);
            podman.shown(PASSES, APP, "by a name that is let pass");
            let top = podman.top(PASSES);
            let called = if named { "x" } else { &top[..12] };
            let path = podman.graph_root().join("overlay-images/images.json");
            let mut images = json_of(&path);
            let all = images.as_array_mut().unwrap();
            let mut other = all.iter().find(|image| image["names"][0] == PASSES).unwrap().clone();
            let (id, other_id) = (other["id"].as_str().unwrap().to_owned(), "ab".repeat(32));
            (other["id"], other["layer"]) = (json!(other_id), json!(called));
            other["names"] = json!([NAME]);
            all.push(other);
            std::fs::write(&path, images.to_string()).unwrap();
            // podman 4.3 looks whether there is a directory of that name.
            podman
                .host
                .sh(&format!("cd {ROOT}; cp -a overlay-images/{id} overlay-images/{other_id}; mkdir overlay/{called}"));
            let path = podman.graph_root().join("overlay-layers/layers.json");
            let mut layers = json_of(&path);
            for layer in layers.as_array_mut().unwrap().iter_mut().filter(|layer| named && layer["id"] == *top) {
                layer["names"] = json!([called]);
            }
            std::fs::write(&path, layers.to_string()).unwrap();
            let output = podman.show(NAME, APP);
            let said = text(&output);
            assert!(!output.status.success() && !said.contains("fresh"), "{program:?} {called}: {said}");
            podman.ok(&["run", "--rm", APP, "true"]);
        }
    }
}

/// podman resolves the name of a list to its instance: what is asked of that name is asked of the instance.
#[test]
fn o11_an_image_is_known_by_its_lists() {
    if !ready("lists of mounted images") {
        return;
    }
    let podman = with_unsealed();
    podman.ok(&["tag", NAME, "localhost/x:1"]);
    podman.ok(&["untag", NAME, NAME]);
    podman.shown("localhost/x:1", APP, "by a name that is let pass");
    podman.list(NAME, FRESH);
    podman.not_shown(NAME, APP, "O11", "by the name of its list");
}

/// What is denied is mounted nowhere, whatever lets it pass otherwise.
#[test]
fn f06_an_image_that_is_denied_is_not_mounted_besides_the_root() {
    if !ready("denied images besides the root") {
        return;
    }
    let podman = with_unsealed();
    let config = podman.ok(&["image", "inspect", "--format", "{{.Id}}", NAME]);
    let diff_id = podman.ok(&["image", "inspect", "--format", "{{index .RootFS.Layers 0}}", NAME]);
    let rule = |image: &str, mode: &str| format!("[[rule]]\nimage = \"{image}\"\nmode = \"{mode}\"\n");
    let data = "registry.example.com/acme/data";
    // A root of which nothing is asked, by a name of its own.
    let own = Podman::new(Program::Hooked);
    own.ok(&["tag", FRESH, NAME]);
    own.ok(&["untag", FRESH, FRESH]);
    own.ok(&["tag", APP, "localhost/app:1"]);
    own.ok(&["untag", APP, APP]);
    let off = default_policy() + &rule(data, "off");
    let covered = default_policy().replace("[default]\n", "[default]\ncover = [\"/data\"]\n");
    // The root's own rule says nothing of what is mounted in it.
    own.not_shown(NAME, "localhost/app:1", "O11", "a root of which nothing is asked");
    for (podman, policy, root) in [(&podman, &off, APP), (&podman, &covered, APP), (&own, &off, "localhost/app:1")] {
        podman.policy(policy);
        podman.shown(NAME, root, policy);
        for denied in [format!("sha256:{}", config.trim()), diff_id.trim().to_owned()] {
            podman.host.write("/etc/layerseal/deny.d/data.list", format!("{denied}\n"));
            podman.not_shown(NAME, root, "F06", policy);
            podman.host.sh("rm /etc/layerseal/deny.d/data.list");
        }
        // Something else is denied.
        podman.host.write("/etc/layerseal/deny.d/data.list", format!("sha256:{}\n", "0".repeat(64)));
        podman.shown(NAME, root, policy);
        podman.host.sh("rm /etc/layerseal/deny.d/data.list");
    }
    own.policy(&(default_policy() + &rule(data, "audit")));
    own.shown(NAME, "localhost/app:1", "audit");
    assert_eq!(own.last("precreate"), ("audit".into(), "O11".into()));
}

/// containers-storage puts the content of a file of the store among the options as it lies there.
#[test]
fn b08_a_store_gives_no_options_to_the_mount() {
    if !ready("options in a store") {
        return;
    }
    for program in [Program::Layerseal, Program::Guarded, Program::Hooked] {
        let podman = Podman::new(program);
        let top = podman.top(APP);
        let home = format!("{ROOT}/overlay/{top}");
        podman.ok(&["run", "--rm", APP, "true"]);
        for option in ["squash_to_uid=1000", "volatile", "noexec", "xattr_permissions=0", "metacopy=on", "x"] {
            // A link of that name, for podman looks whether it is there. Nothing goes by `../..`: podman detaches its
            // mount of `overlay` when it ends, and above that there is nothing then.
            podman.host.sh(&format!(
                "cd {home}; cp -p lower {ROOT}/kept; last=$(cat lower); last=${{last##*:}}; name=\"$last,{option}\"; \
                 ln -s \"$(readlink ../$last)\" \"../$name\"; printf '%s' \",{option}\" >>lower"
            ));
            let output = podman.run(&["run", "--rm", APP, "sh", "-c", "stat -c %u /etc/kept; echo started"]);
            assert!(!output.status.success(), "{program:?} {option}: {}", text(&output));
            podman.run(&["rm", "-fa", "-t", "0"]);
            podman.host.sh(&format!("cd {home}; mv {ROOT}/kept lower; rm ../l/*,*"));
        }
        podman.ok(&["run", "--rm", APP, "true"]);
    }
}

/// While layers are denied each must be what its record says, and for that its table must be there.
#[test]
fn f06_a_layer_of_an_image_without_its_table_is_nothing_that_can_be_told() {
    if !ready("layers without tables") {
        return;
    }
    for program in [Program::Layerseal, Program::Hooked] {
        let podman = Podman::new(program);
        podman.ok(&["tag", FRESH, "localhost/x:1"]);
        podman.ok(&["untag", FRESH, FRESH]);
        podman.host.write("/etc/layerseal/deny.d/some.list", format!("sha256:{}\n", "0".repeat(64)));
        podman.ok(&["run", "--rm", "localhost/x:1", "true"]);
        let top = podman.top("localhost/x:1");
        podman.host.sh(&format!("rm {ROOT}/overlay-layers/{top}.tar-split.gz; rm -rf /run/layerseal/content"));
        let output = podman.run(&["run", "--rm", "localhost/x:1", "true"]);
        assert!(!output.status.success(), "{program:?}: {}", text(&output));
    }
}
