//! Containers of other users than root, on a host where layerseal is installed.

use std::process::{Command, Output};

use serde_json::Value;

use crate::image::{APP, FRESH, layout};
use crate::podman::{Podman, Program, copy, layouts};
use crate::{common, ready};

/// A user with IDs for containers, and both images in a store of their own. With the configuration of root: hooks, and
/// the mount program where there is one.
pub struct User<'a> {
    podman: &'a Podman,
    name: &'static str,
    id: u32,
    home: &'static str,
}

impl<'a> User<'a> {
    pub fn new(podman: &'a Podman) -> Self {
        podman.host.sh("mknod -m 666 /run/fuse c 10 229 && mount --bind /run/fuse /dev/fuse");
        Self::of(podman, "someone", 1234, "/var/tmp/home")
    }

    /// Another one on the same host.
    pub fn second(podman: &'a Podman) -> Self {
        Self::of(podman, "second", 1235, "/var/tmp/second")
    }

    fn of(podman: &'a Podman, name: &'static str, id: u32, home: &'static str) -> Self {
        let user = Self { podman, name, id, home };
        let (host, ids) = (&podman.host, id * 100_000);
        host.sh(&format!(
            "grep -q ^{name}: /etc/passwd || echo {name}:x:{id}:{id}::{home}:/bin/sh >>/etc/passwd; \
             grep -q ^{name}: /etc/group || echo {name}:x:{id}: >>/etc/group; \
             echo {name}:{ids}:65536 >>/etc/subuid; echo {name}:{ids}:65536 >>/etc/subgid; \
             mkdir -p {home} /var/tmp/layout; chown {id}:{id} {home}; chmod 1777 /var/tmp"
        ));
        user.logs_in();
        // podman before 6 takes neither a place nor a mount program for users from root's configuration, 6 takes both.
        let program = podman.mount_program().map(|program| format!("mount_program = \"{program}\"\n"));
        let conf = format!(
            "[storage]\ndriver = \"overlay\"\ngraphroot = \"{home}/.local/share/containers/storage\"\n\
             runroot = \"/run/user/{id}/containers\"\n[storage.options.overlay]\n{}",
            program.unwrap_or_default()
        );
        host.write(&format!("{home}/.config/containers/storage.conf"), conf);
        host.sh(&format!("chown -R {id}:{id} {home}"));
        copy(&layout(layouts(), FRESH).join("."), &host.inside("/var/tmp/layout"));
        let output = user.run(&format!("podman pull -q oci:/var/tmp/layout:{FRESH}"));
        assert!(output.status.success(), "pull: {output:?}");
        let id = String::from_utf8(output.stdout).unwrap();
        let output = user.run(&format!("podman tag {} {FRESH}", id.trim()));
        assert!(output.status.success(), "tag: {output:?}");
        user
    }

    /// As systemd has it made.
    pub fn logs_in(&self) {
        let id = self.id;
        self.podman
            .host
            .sh(&format!("mkdir -p /run/user/{id}; chown {id}:{id} /run/user/{id}; chmod 700 /run/user/{id}"));
    }

    /// Ends all that runs of the user's, and takes the runtime directory away: as when the last session ends.
    pub fn logs_out(&self) {
        let (id, ids) = (self.id, self.id * 100_000);
        self.podman.host.sh(&format!(
            "for i in 1 2 3; do for p in /proc/[0-9]*; do u=$(stat -c %u $p 2>/dev/null) || continue; \
             if [ $u = {id} ] || {{ [ $u -ge {ids} ] && [ $u -lt $(({ids} + 65536)) ]; }}; then kill -9 ${{p#/proc/}} 2>/dev/null || true; fi; \
             done; done; rm -rf /run/user/{id}"
        ));
    }

    /// Writes a file of the user's; `~` is the home directory.
    pub fn writes(&self, path: &str, text: &str) {
        let (id, path) = (self.id, path.replacen('~', self.home, 1));
        self.podman.host.write(&path, text);
        self.podman.host.sh(&format!("chown {id}:{id} {path}"));
    }

    pub fn run(&self, script: &str) -> Output {
        self.command(script).output().unwrap()
    }

    pub fn command(&self, script: &str) -> Command {
        let (id, home) = (self.id, self.home);
        let env = format!("HOME={home} XDG_RUNTIME_DIR=/run/user/{id} PATH=/usr/sbin:/usr/bin:/sbin:/bin");
        let script = format!("cd /; export {env}; {script}");
        let args = ["--reuid", self.name, "--regid", self.name, "--init-groups", "--", "sh", "-euc", &script];
        self.podman.host.command("setpriv", &args)
    }

    /// What a container says of itself that runs, is asked, and is started again.
    fn life(&self) -> Output {
        self.run(&format!(
            "podman create --name c {FRESH} sh -c 'cat /proc/self/uid_map; stat -c \"%n %A %u %g\" /etc/*; echo x >>/etc/new; cat /etc/new' \
             >/dev/null; podman start -a c; podman container cleanup c >/dev/null; podman start -a c; podman container cleanup c >/dev/null; podman diff c | sort; podman rm c >/dev/null"
        ))
    }
}

pub fn text(output: &Output) -> String {
    format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr))
}

#[test]
fn x06_containers_of_users_are_as_without_layerseal_unless_the_policy_says_otherwise() {
    if !ready("containers of users") {
        return;
    }
    let life = |program| User::new(&Podman::pulled(program)).life();
    let (native, fuse) = (life(Program::Native), life(Program::FuseOverlayfs));
    let wanted = &native;
    if !wanted.status.success() {
        // Not podman's fault: a kernel, or a namespace around the tests, that lets no user have one.
        support::skip!("containers of users: podman itself runs none here: {}", text(wanted));
    }
    for program in [Program::Hooked, Program::Layerseal, Program::Guarded] {
        // A mount program hands them on to what users had in its place.
        let wanted = if program == Program::Hooked { &native } else { &fuse };
        let podman = Podman::pulled(program);
        let user = User::new(&podman);
        let seen = user.life();
        if program.is_ours() && program != Program::Hooked {
            let script = format!(
                "podman run -d -q --name m {FRESH} sleep 1000 >/dev/null; cat /proc/*/comm; podman rm -f -t 0 m"
            );
            assert!(text(&user.run(&script)).contains("fuse-overlayfs"), "{program:?}: it is not mounted by it");
        }
        assert_eq!(text(&seen), text(wanted), "{program:?}");
        // Root's own are refused all the same.
        assert!(!podman.run(&["run", "--rm", FRESH, "true"]).status.success(), "{program:?}");
        let asks = |mode: &str| {
            let policy = format!("{}[rootless]\nmode = \"{mode}\"\n", crate::podman::default_policy());
            podman.policy(&policy);
        };
        asks("off");
        assert_eq!(text(&user.life()), text(wanted), "{program:?}: off");
        asks("audit");
        assert_eq!(text(&user.life()), text(wanted), "{program:?}: audit");
        asks("enforce");
        let output = user.run(&format!("podman run --rm {FRESH} true"));
        assert!(!output.status.success(), "{program:?}: enforce");
        let said = text(&output);
        match program {
            // The hook's own words are in the journal; podman says how it ended.
            Program::Hooked => assert!(said.contains("exit status 6") || said.contains("R-X06"), "{said}"),
            _ => assert!(said.contains("rootless") && said.contains("R-X06"), "{said}"),
        }
        // A policy that the user may not read asks nothing of them.
        podman.host.sh("chmod 600 /etc/layerseal/policy.toml");
        assert_eq!(text(&user.life()), text(wanted), "{program:?}: a policy that only root reads");
    }
}

#[test]
fn x06_users_are_told_that_it_is_about_rootless_containers() {
    if !ready("messages for users") {
        return;
    }
    let podman = Podman::pulled(Program::Hooked);
    podman.policy("version = 1\n[default]\nmode = \"audit\"\n[rootless]\nmode = \"enforce\"\n");
    let binary = common::binary().display().to_string();
    for (stage, code) in [("precreate", 6), ("createRuntime", 6)] {
        let args = ["--reuid", "1234", "--regid", "1234", "--clear-groups", "--"];
        let shell = format!("echo '{{}}' | {binary} hook {stage}");
        let output = podman.host.command("setpriv", &[&args[..], &["sh", "-c", &shell]].concat()).output().unwrap();
        assert_eq!(output.status.code(), Some(code), "{output:?}");
        assert!(text(&output).contains("rootless") && text(&output).contains("[rootless]"), "{output:?}");
    }
}

/// What is only looked at, an ordinary user may look at, on a host where root's containers run: with an answer of their own
/// store, and no advice that is root's.
#[test]
fn verbs_of_ordinary_users_answer_where_root_runs_containers() {
    if !ready("verbs of ordinary users") {
        return;
    }
    let podman = Podman::new(Program::Hooked);
    podman.ok(&["run", "-d", "--name", "roots", APP, "sleep", "1000"]);
    let user = User::new(&podman);
    let binary = common::binary().display().to_string();
    let verb = |args: &str| {
        let output = user.run(&format!("{binary} {args} --json"));
        let document =
            serde_json::from_slice::<Value>(&output.stdout).unwrap_or_else(|e| panic!("{args}: {e}: {output:?}"));
        (document, output.status.code().unwrap())
    };
    // As the package has it made.
    podman.host.sh("chmod 711 /run/layerseal");
    assert_eq!(podman.host.sh("stat -c %a /run/layerseal/mounts").trim(), "700");
    let layout = format!("oci:{}:{APP}", crate::podman::sealed(APP).display());
    let (verified, code) = verb(&format!("verify {layout} --trust /etc/layerseal/trust.d/acme/acme.crt"));
    assert_eq!((&verified["accepted"], code), (&true.into(), 0), "{verified}");
    let (inspected, code) = verb(&format!("inspect {layout}"));
    assert_eq!((inspected["seals"].as_array().map(Vec::len), code), (Some(1), 0), "{inspected}");
    // Of images of theirs, and by no word of root's.
    for verb_of_images in ["verify", "inspect"] {
        let (refused, code) = verb(&format!("{verb_of_images} {FRESH}"));
        let said = refused["error"]["message"].to_string();
        assert!(code == 2 && said.contains("podman has it"), "{refused}");
        let (refused, code) = verb(&format!("{verb_of_images} {APP}"));
        assert_eq!((&refused["error"]["case"], code), (&"X04".into(), 2), "it is root's: {refused}");
    }
    let checked = verb(&format!("check {FRESH}")).0;
    let expected = &checked["images"][0]["expected"];
    assert_eq!((&expected["verdict"], &expected["rule"]), (&"unasked".into(), &"[rootless]".into()), "{checked}");
    let names: Vec<Value> =
        verb("check --all").0["images"].as_array().unwrap().iter().map(|i| i["name"].clone()).collect();
    assert!(names.contains(&FRESH.into()) && !names.contains(&APP.into()), "{names:?}");
    assert_eq!(verb("check --containers").0["containers"], Value::Array(Vec::new()));
    assert_eq!(verb("images").0["images"], Value::Array(Vec::new()));
    for quiet in
        ["fsck", "gc --dry-run", "trust list", "policy check registry.example.com/acme/app:1", "hook explain O04"]
    {
        assert_eq!(verb(quiet).1, 0, "{quiet}");
    }
    let (doctor, _) = verb("doctor");
    for check in doctor["checks"].as_array().unwrap() {
        let (name, remedy) = (&check["check"], check["remedy"].as_str().unwrap());
        assert!(check["state"] != "missing" && !check["found"].to_string().contains("not called"), "{check}");
        // What root would have to do, after root has looked.
        let of_user = [Value::from("root"), "kernel signature checks".into(), "skopeo, for registries".into()];
        assert!(remedy.is_empty() || of_user.contains(name), "{check}");
    }
    let store = doctor["checks"].as_array().unwrap().iter().find(|check| check["check"] == "container store").unwrap();
    let told = user.run("podman info --format '{{.Store.GraphRoot}}'");
    let graph_root = String::from_utf8(told.stdout).unwrap();
    assert!(store["found"].as_str().unwrap().starts_with(&format!("{} (", graph_root.trim())), "{graph_root}: {store}");
    // What is kept by root is not "input or output failed", and nobody is sent to look for what is wrong with it.
    for roots in [
        "report",
        "setup",
        "enforce",
        "audit",
        "hook explain",
        "hook explain roots",
        "floors list",
        "floors reset registry.example.com/acme/app",
        "trust add /etc/layerseal/trust.d/acme/acme.crt",
        "deny registry.example.com/acme/app:1",
    ] {
        let (refused, code) = verb(roots);
        assert_eq!((&refused["error"]["case"], code), (&"X14".into(), 2), "{roots}: {refused}");
    }
    podman.run(&["rm", "-fa", "-t", "0"]);
}
