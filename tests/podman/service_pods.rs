//! Pods of users from Kubernetes' YAML, and units of systemd's by Quadlet, where the service mounts.

use crate::image::FRESH;
use crate::podman::{Podman, Program};
use crate::ready;
use crate::rootless::{User, text};
use crate::service::{Service, user};

/// A pod of two containers that share a volume, the second of them from `image`.
fn yaml(image: &str) -> String {
    let look = "id; cat /proc/self/uid_map; sha256sum /usr/share/big /opt/app; ls -A /scratch; echo x >>/etc/new; \
                cat /etc/new; rm /etc/kept; find /etc -type f | sort; echo made >/scratch/file";
    let waits = "for i in $(seq 200); do [ -s /scratch/file ] && break; sleep 0.1; done; cat /scratch/file; trap 'exit 0' TERM; sleep 1000 & wait";
    let container = |name: &str, image: &str, script: &str| {
        format!(
            "  - name: {name}\n    image: {image}\n    imagePullPolicy: Never\n    command: [sh, -c, {script:?}]\n    \
             volumeMounts: [{{name: scratch, mountPath: /scratch}}]\n"
        )
    };
    let (one, other) = (container("one", FRESH, look), container("other", image, waits));
    format!(
        "apiVersion: v1\nkind: Pod\nmetadata: {{name: p}}\nspec:\n  hostNetwork: true\n  restartPolicy: Never\n  \
         containers:\n{one}{other}  volumes: [{{name: scratch, emptyDir: {{}}}}]\n"
    )
}

/// What podman says of itself is not compared: IDs and its own order are in it.
fn plays(user: &User<'_>) -> Vec<String> {
    // In the place of podman's own, which it builds where the host has a pause program, under a name like this.
    let pause = "localhost/pause:1";
    let made = user.run(&format!(
        "podman create --name pause {FRESH} >/dev/null; podman commit -q --change 'CMD [\"sleep\", \"1000\"]' \
         --change 'STOPSIGNAL KILL' pause {pause}; podman rm pause"
    ));
    assert!(made.status.success(), "{}", text(&made));
    user.writes("~/.config/containers/containers.conf", &format!("[engine]\ninfra_image = \"{pause}\"\n"));
    user.writes("~/pod.yaml", &yaml(FRESH));
    // As often as it was started.
    let other = |times: usize| {
        let written = format!("[ $(podman logs p-other | grep -c made) = {times} ]");
        format!("for i in $(seq 200); do {written} && break; sleep 0.1; done; podman logs p-other")
    };
    let says = |script: &str| (script.to_owned(), user.run(script));
    let steps = [
        says("cd; podman kube play pod.yaml >/dev/null; podman wait p-one; podman logs p-one"),
        says(&other(1)),
        says(
            "podman exec p-other sha256sum /usr/share/big; podman ps -a --format '{{.Names}} {{.ExitCode}}' | grep p- | sort",
        ),
        says("cd; podman kube play --replace pod.yaml >/dev/null; podman wait p-one; podman logs p-one"),
        says(&format!("podman pod stop -t 0 p >/dev/null; podman pod start p >/dev/null; {}", other(2))),
        says("cd; podman kube down pod.yaml >/dev/null; podman ps -aq; podman pod ps -q"),
    ];
    let said = |(script, output): (String, std::process::Output)| {
        assert!(output.status.success(), "{script}: {}", text(&output));
        String::from_utf8(output.stdout).unwrap()
    };
    steps.into_iter().map(said).collect()
}

#[test]
fn r_pods_of_users_from_yaml_are_as_by_fuse_overlayfs() {
    if !ready("pods of users") {
        return;
    }
    let fuse = Podman::pulled(Program::FuseOverlayfs);
    let wanted = plays(&user(&fuse));
    assert!(wanted[0].contains("/etc/new") && wanted[1].contains("made"), "{wanted:?}");
    let podman = Podman::pulled(Program::Layerseal);
    let user = user(&podman);
    let _service = Service::new(&podman);
    assert_eq!(plays(&user), wanted);
    // A container whose image nobody sealed for its name, in a pod with one that is sealed.
    let none = "registry.example.com/acme/none:1";
    user.writes("~/unsealed.yaml", &yaml(none));
    let output = user.run(&format!("cd; podman tag {FRESH} {none}; podman kube play unsealed.yaml"));
    assert!(!output.status.success() && text(&output).contains("R-D18"), "{}", text(&output));
    let ran = user.run("podman wait p-one; podman ps -q --filter name=p-other; podman pod rm -f -t 0 p >/dev/null");
    assert_eq!(String::from_utf8_lossy(&ran.stdout), "0\n", "{}", text(&ran));
}

/// The unit in docs/rootless.md.
fn unit() -> &'static str {
    let text = include_str!("../../docs/rootless.md");
    text.split("```ini\n").nth(1).and_then(|rest| rest.split("```").next()).unwrap()
}

/// There is no systemd here: what its unit would run is run by the test, but for what only systemd gives.
#[test]
fn r_the_unit_of_the_documents_starts_a_sealed_image() {
    if !ready("Quadlet") {
        return;
    }
    let podman = Podman::pulled(Program::Layerseal);
    if !podman.host.shell("test -x /usr/libexec/podman/quadlet").status.success() {
        support::skip!("Quadlet: podman {:?} has none", Podman::version());
    }
    let user = user(&podman);
    let _service = Service::new(&podman);
    // The image that this user has, and the same without a seal for its name.
    let none = "registry.example.com/acme/none:1";
    let output = user.run(&format!("podman tag {FRESH} {none}"));
    assert!(output.status.success(), "{}", text(&output));
    let started = |image: &str| {
        let unit = unit().replace("registry.example.com/acme/app:1", image);
        user.writes("~/.config/containers/systemd/app.container", &unit);
        let output = user.run("/usr/libexec/podman/quadlet -dryrun -user");
        let made = text(&output);
        assert!(output.status.success() && made.contains("---app.service---"), "{made}");
        let start = made.lines().find_map(|line| line.strip_prefix("ExecStart=")).unwrap_or_else(|| panic!("{made}"));
        let (command, name) = start.rsplit_once(" -d ").unwrap_or_else(|| panic!("{made}"));
        assert_eq!(name, image);
        let command = command.replace("%N", "app").replace("%t", "$XDG_RUNTIME_DIR").replace("--cgroups=split ", "");
        user.run(&format!("{command} {image} cat /proc/self/mountinfo"))
    };
    let output = started(FRESH);
    assert!(output.status.success() && text(&output).contains(" - overlay composefs:"), "{}", text(&output));
    let output = started(none);
    assert!(!output.status.success() && text(&output).contains("R-D18"), "{}", text(&output));
}
