//! Containers of other users than root, on a host where layerseal is installed.

use std::process::Output;

use crate::image::{FRESH, layout};
use crate::podman::{Podman, Program, copy, layouts};
use crate::{common, ready};

const USER: &str = "someone";

/// A user with IDs for containers, and both images in a store of their own. With the configuration of root: hooks, and
/// the mount program where there is one.
struct User<'a> {
    podman: &'a Podman,
}

impl<'a> User<'a> {
    fn new(podman: &'a Podman) -> Self {
        let user = Self { podman };
        let host = &podman.host;
        host.sh(&format!(
            "grep -q ^{USER}: /etc/passwd || echo {USER}:x:1234:1234::/var/tmp/home:/bin/sh >>/etc/passwd; \
             grep -q ^{USER}: /etc/group || echo {USER}:x:1234: >>/etc/group; \
             echo {USER}:2000000:65536 >>/etc/subuid; echo {USER}:2000000:65536 >>/etc/subgid; \
             mkdir -p /var/tmp/home /run/user/1234 /var/tmp/layout; \
             chown 1234:1234 /var/tmp/home /run/user/1234; chmod 700 /run/user/1234; chmod 1777 /var/tmp; \
             mknod -m 666 /run/fuse c 10 229 && mount --bind /run/fuse /dev/fuse"
        ));
        // podman before 6 takes neither a place nor a mount program for users from root's configuration, 6 takes both.
        let program = podman.mount_program().map(|program| format!("mount_program = \"{program}\"\n"));
        let conf = format!(
            "[storage]\ndriver = \"overlay\"\ngraphroot = \"/var/tmp/home/.local/share/containers/storage\"\n\
             runroot = \"/run/user/1234/containers\"\n[storage.options.overlay]\n{}",
            program.unwrap_or_default()
        );
        host.write("/var/tmp/home/.config/containers/storage.conf", conf);
        host.sh("chown -R 1234:1234 /var/tmp/home");
        copy(&layout(layouts(), FRESH).join("."), &host.inside("/var/tmp/layout"));
        let output = user.run(&format!("podman pull -q oci:/var/tmp/layout:{FRESH}"));
        assert!(output.status.success(), "pull: {output:?}");
        let id = String::from_utf8(output.stdout).unwrap();
        let output = user.run(&format!("podman tag {} {FRESH}", id.trim()));
        assert!(output.status.success(), "tag: {output:?}");
        user
    }

    fn run(&self, script: &str) -> Output {
        let env = "HOME=/var/tmp/home XDG_RUNTIME_DIR=/run/user/1234 PATH=/usr/sbin:/usr/bin:/sbin:/bin";
        let script = format!("cd /; export {env}; {script}");
        let args = ["--reuid", USER, "--regid", USER, "--init-groups", "--", "sh", "-euc", &script];
        self.podman.host.command("setpriv", &args).output().unwrap()
    }

    /// What a container says of itself that runs, is asked, and is started again.
    fn life(&self) -> Output {
        self.run(&format!(
            "podman create --name c {FRESH} sh -c 'cat /proc/self/uid_map; stat -c \"%n %A %u %g\" /etc/*; echo x >>/etc/new; cat /etc/new' \
             >/dev/null; podman start -a c; podman start -a c; podman diff c | sort; podman rm c >/dev/null"
        ))
    }
}

fn text(output: &Output) -> String {
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
                "podman run -d -q --name m {FRESH} sleep 100 >/dev/null; cat /proc/*/comm; podman rm -f -t 0 m"
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
