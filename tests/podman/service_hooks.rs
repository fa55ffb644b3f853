//! Containers of users by podman's own overlay, with the hooks and the service: precreate puts the service's mount in that
//! overlay's place, and createRuntime compares it with what the service has on record.

use serde_json::Value;

use crate::database::{has_sqlite, sql_in};
use crate::image::FRESH;
use crate::podman::{Podman, Program, default_policy, has_verity};
use crate::rootless::{User, text};
use crate::service::{Service, gets_seals, user};
use crate::{common, ready};

/// Where the user's podman has its layers.
const OVERLAY: &str = "/var/tmp/home/.local/share/containers/storage/overlay";
/// What a container's root is.
const ROOT: &str = "grep ' / / ' /proc/self/mountinfo";

fn ok(user: &User<'_>, script: &str) -> String {
    let output = user.run(script);
    assert!(output.status.success(), "{script}: {}", text(&output));
    text(&output)
}

/// Why the last start was refused, or would have been: the user's own record, which podman does not show.
fn why(user: &User<'_>, decision: &str) -> String {
    let shown = user.run(&format!("{} hook explain --json", common::binary().display()));
    let shown: Value = serde_json::from_slice(&shown.stdout).unwrap_or_default();
    shown[decision]["message"].as_str().unwrap_or_default().to_owned()
}

/// What users do, and what of it is seen.
fn life(user: &User<'_>) -> Vec<(String, String)> {
    let shows = "sh -c 'id; cat /proc/self/uid_map; find / -xdev | sort | head -200 | xargs stat -c \"%n %A %u %g\"'";
    let writes = "echo x >>/etc/new; rm -f /etc/kept; rm -rf /etc/opaque; mkdir /etc/opaque; echo n >/etc/opaque/new; \
                  chmod 600 /opt/app; mv /usr/share/one /usr/share/moved; cat /etc/new; ls /etc /etc/opaque";
    let looks = "podman diff c | sort; podman cp c:/etc/new - | tar -xO; podman cp c:/etc/opaque - | tar -t | sort";
    let cleans = "podman container cleanup c >/dev/null";
    let steps = [
        format!("podman create --name c {FRESH} sh -c '{writes}' >/dev/null"),
        // What was written stays, and is the same for podman's own overlay and for the verified one.
        format!("podman start -a c; {cleans}; {looks}; podman start -a c; {cleans}; {looks}"),
        "podman commit -q c localhost/made >/dev/null && podman run --rm localhost/made ls /etc /etc/opaque".to_owned(),
        "podman rm c >/dev/null; podman rmi localhost/made >/dev/null".to_owned(),
        // Files that are there before the first start.
        format!(
            "echo put >~/put; podman create --name c {FRESH} cat /etc/put /etc/kept >/dev/null; podman cp ~/put c:/etc/put; \
             podman start -a c; {cleans}; podman rm c >/dev/null"
        ),
        // While it runs, and again.
        format!(
            "podman run -d --name one {FRESH} sleep 1000 >/dev/null; podman run --rm {FRESH} sha256sum /usr/share/big; \
             podman exec one sh -c 'echo y >/y; cat /y'; podman cp ~/put one:/etc/put; podman stop -t 0 one >/dev/null; \
             podman start one >/dev/null; podman exec one cat /y /etc/put; podman restart -t 0 one >/dev/null; \
             podman exec one cat /y; podman diff one | sort; podman rm -f -t 0 one >/dev/null"
        ),
        format!("podman run --rm {FRESH} {shows}"),
        format!("podman run --rm --user 7:8 {FRESH} sh -c 'id; cat /etc/passwd /etc/group'"),
        format!("podman run --rm --user 1000 -w /home/app {FRESH} cat own"),
        format!("podman run --rm --read-only {FRESH} sh -c 'touch /x; echo $?'"),
        // It is mounted when it is started: by podman, and then by the service, with what a start has copied for it.
        format!(
            "podman create --name c --read-only --user 7:8 -v /home/app {FRESH} sh -c 'cat /etc/passwd; ls /home/app' >/dev/null; \
             podman unshare sh -c 'podman mount c >/dev/null; podman start -a c; {cleans}; podman start -a c; {cleans}; podman umount c >/dev/null'; \
             podman start -a c; {cleans}; podman rm -v c >/dev/null"
        ),
        // Volumes that podman fills from its own overlay.
        format!("podman run --rm -v /home/app -v named:/etc/opaque {FRESH} sh -c 'ls -ln /home/app /etc/opaque'"),
        format!("podman run --rm -v named:/v {FRESH} sh -c 'ls /v'; podman volume rm named >/dev/null"),
        format!(
            "podman pod create --network none --infra-image {FRESH} --infra-command 'sleep 1000' --name p >/dev/null; \
             podman run --rm --pod p {FRESH} sha256sum /usr/share/big; podman pod rm -f -t 0 p >/dev/null"
        ),
    ];
    let stable = |said: String| {
        // A listing of what was just written has the time.
        said.lines().filter(|line| !line.contains("warning")).map(|line| format!("{line}\n")).collect::<String>()
    };
    steps.into_iter().map(|step| (step.clone(), stable(text(&user.run(&step))))).collect()
}

/// What was said without podman's own log: it cannot commit every file of a container with other user IDs, and may find
/// that one has ended before it was told.
fn without_log(said: &str) -> String {
    said.lines().filter(|line| !line.starts_with("time=")).collect::<Vec<_>>().join("\n")
}

/// Checks that each step came to what it comes to with podman's own overlay.
fn are_equal(wanted: &[(String, String)], seen: &[(String, String)], user: &User<'_>) {
    for ((step, wanted), (_, seen)) in wanted.iter().zip(seen) {
        assert!(!wanted.contains("Error:"), "{step}: {wanted}");
        assert_eq!(seen, wanted, "{step}: {}", why(user, "refused"));
    }
}

/// The same of containers with other user IDs than podman's, for which podman's own overlay shows copies of the layers.
fn life_of_mapped(user: &User<'_>) -> Vec<(String, String)> {
    let shows = "sh -c 'id; cat /proc/self/uid_map /proc/self/gid_map /etc/passwd /etc/group; \
                 find / -xdev ! -path \"/proc/*\" ! -path \"/sys/*\" ! -path \"/dev/*\" | sort | xargs stat -c \"%n %A %u %g\"'";
    let writes = "echo x >>/etc/new; rm -f /etc/kept; mkdir -p /etc/opaque/made; chmod 600 /opt/app 2>/dev/null; \
                  chown 5:6 /usr/share/one; cat /etc/new; stat -c \"%n %A %u %g\" /etc/opaque/* /usr/share/*";
    let upper = "podman inspect c --format '{{.GraphDriver.Data.UpperDir}}'";
    let looks = format!(
        // A directory that only the times of the copy distinguish.
        "podman diff c | grep -v 'C /usr/share$' | sort; podman cp c:/etc/new - | tar -xO; \
         podman unshare sh -c \"cd $({upper}); find . ! -path ./run/* | sort | xargs stat -c '%n %A %u %g'\""
    );
    let cleans = "podman container cleanup c >/dev/null";
    let several = "--uidmap 0:0:100 --uidmap 100:2000:50 --gidmap 0:0:100 --gidmap 100:2000:50";
    let mut steps = Vec::new();
    for ids in [
        "--userns=keep-id",
        "--userns=keep-id:uid=200,gid=210",
        "--uidmap 0:100:5000 --gidmap 0:100:5000",
        "--userns=auto:size=2000",
        several,
    ] {
        steps.extend([
            format!("podman run --rm {ids} {FRESH} {shows}"),
            format!("podman run --rm {ids} --user 7:8 --read-only {FRESH} {shows}"),
            format!("podman create --name c {ids} --user 0 {FRESH} sh -c '{writes}' >/dev/null"),
            format!("podman start -a c; {cleans}; {looks}; podman start -a c; {cleans}; {looks}"),
            format!(
                "podman commit -q c localhost/made >/dev/null && podman run --rm {ids} localhost/made sh -c 'stat -c \"%n %A %u %g\" /etc/* /etc/opaque/* /usr/share/*'; \
                 podman rm c >/dev/null; podman rmi localhost/made >/dev/null"
            ),
        ]);
    }
    steps.extend([
        format!(
            "echo put >~/put; podman create --name c --userns=keep-id {FRESH} cat /etc/put >/dev/null; \
             podman cp ~/put c:/etc/put; podman start -a c; {cleans}; podman rm c >/dev/null"
        ),
        format!(
            "podman run --rm --userns=keep-id -v /home/app -v named:/etc/opaque {FRESH} sh -c 'stat -c \"%n %A %u %g\" /home/app /home/app/* /etc/opaque/*'; \
             podman run --rm --uidmap 0:100:5000 --gidmap 0:100:5000 -v /home/app {FRESH} sh -c 'stat -c \"%n %A %u %g\" /home/app /home/app/*'; \
             podman run --rm --userns=keep-id -v named:/v {FRESH} ls /v; podman volume rm named >/dev/null"
        ),
        format!(
            "podman run -d --name one --userns=keep-id {FRESH} sleep 1000 >/dev/null; podman exec --user 0 one sh -c 'echo y >/y; cat /y'; \
             podman cp ~/put one:/etc/put; podman run --rm --userns=container:one {FRESH} {shows}; podman restart -t 0 one >/dev/null; \
             podman exec one cat /y /etc/put; podman diff one | sort; podman rm -f -t 0 one >/dev/null"
        ),
        format!(
            "podman pod create --userns=keep-id --network none --infra-image {FRESH} --infra-command 'sleep 1000' --name p >/dev/null; \
             podman run --rm --pod p {FRESH} {shows}; podman pod rm -f -t 0 p >/dev/null"
        ),
        format!("podman run --rm --userns=host {FRESH} {shows}"),
    ]);
    steps.into_iter().map(|step| (step.clone(), without_log(&text(&user.run(&step))))).collect()
}

#[test]
fn r_hooks_of_users_show_containers_with_other_ids_the_image_and_no_copy_of_it() {
    if !ready("containers of users with other IDs") {
        return;
    }
    let native = Podman::pulled(Program::Native);
    let wanted = life_of_mapped(&User::new(&native));
    let podman = Podman::pulled(Program::Hooked);
    let user = user(&podman);
    let _service = Service::new(&podman);
    let seen = life_of_mapped(&user);
    are_equal(&wanted, &seen, &user);
    let mapped = "--uidmap 0:100:5000 --gidmap 0:100:5000";
    let root = ok(&user, &format!("podman run --rm {mapped} {FRESH} {ROOT}"));
    assert!(root.contains(" - overlay composefs:") && !root.contains("diff1"), "{root}");
    // The copy is what the user makes of it.
    let copy = format!(
        "d=$(podman unshare sh -c 'for d in {OVERLAY}/*/diff1; do [ \"$(stat -c %u $d/etc/passwd)\" = 100 ] && echo $d; done; true' 2>/dev/null)"
    );
    ok(
        &user,
        &format!(
            "{copy}; podman unshare sh -c \"echo evil >$d/etc/evil; chown 100:100 $d/etc/evil; chmod 666 $d/opt/app\""
        ),
    );
    let output =
        user.run(&format!("podman run --rm {mapped} {FRESH} sh -c 'test ! -e /etc/evil && stat -c %a /opt/app'"));
    assert!(text(&output).contains("755"), "{}\n{}", text(&output), why(&user, "refused"));
    // What podman itself reads from it is compared.
    ok(&user, &format!("{copy}; podman unshare sh -c \"echo evil:x:0:0::/:/bin/sh >>$d/etc/passwd\""));
    let output = user.run(&format!("podman run --rm {mapped} --user 77:88 {FRESH} true"));
    assert!(!output.status.success() && why(&user, "refused").contains("R-O09"), "{}", why(&user, "refused"));
    // The IDs that the container gets are those that its root is shown under.
    hook(&podman, "z-maps", "precreate", "sed 's/\"size\":4000/\"size\":3999/g; s/\"size\": 4000/\"size\": 3999/g'");
    let output = user.run(&format!("podman run --rm --uidmap 0:100:4000 --gidmap 0:100:4000 {FRESH} true"));
    let why = why(&user, "refused");
    assert!(
        !output.status.success() && why.contains("R-O03") && why.contains("other user IDs"),
        "{}\n{why}",
        text(&output)
    );
}

#[test]
fn r_hooks_of_users_show_verified_images_in_containers() {
    if !ready("images in containers of users") {
        return;
    }
    let steps = |user: &User<'_>| -> Vec<(String, String)> {
        let shows = "sh -c 'sha256sum /i/usr/share/big; touch /i/x 2>/dev/null; echo $?; \
                     find /i -xdev | sort | xargs stat -c \"%n %A %u %g\"'";
        let image = format!("--mount type=image,source={FRESH},target=/i");
        let steps = [
            format!("podman run --rm {image} {FRESH} {shows}"),
            format!("podman run --rm {image},rw=true {FRESH} {shows}"),
            format!("podman run --rm --userns=keep-id {image} {FRESH} {shows}"),
            // Of one image that is shown in two containers, and in one that is started again.
            format!(
                "podman run -d --name one {image} {FRESH} sleep 1000 >/dev/null; podman run --rm {image} {FRESH} {shows}; \
                 podman exec one sha256sum /i/usr/share/big; podman restart -t 0 one >/dev/null; \
                 podman exec one sha256sum /i/usr/share/big; podman rm -f -t 0 one >/dev/null"
            ),
        ];
        steps.into_iter().map(|step| (step.clone(), without_log(&text(&user.run(&step))))).collect()
    };
    let native = Podman::pulled(Program::Native);
    let wanted = steps(&User::new(&native));
    let podman = Podman::pulled(Program::Hooked);
    let user = user(&podman);
    let _service = Service::new(&podman);
    let seen = steps(&user);
    are_equal(&wanted, &seen, &user);
    let left = ok(&user, "podman image unmount -a >/dev/null; podman unshare cat /proc/self/mountinfo");
    assert!(!left.contains("composefs:"), "{left}");
    // What the layers hold does not count.
    let base = format!("d=$(dirname $(dirname $(grep -l ^app: {OVERLAY}/*/diff/etc/passwd | head -n 1)))");
    ok(&user, &format!("{base}; echo evil >$d/etc/evil"));
    let image = |name: &str| format!("--mount type=image,source={name},target=/i");
    let sees = ok(&user, &format!("podman run --rm {} {FRESH} ls /i/etc", image(FRESH)));
    assert!(sees.contains("kept") && !sees.contains("evil"), "{sees}");
    // What has no seal is shown where a rule asks for none, and refused where none does.
    let none = "registry.example.com/acme/none";
    ok(&user, &format!("podman create --name c {FRESH} true; podman commit -q c localhost/made; podman rm c"));
    let run = |name: &str| user.run(&format!("podman run --rm --pull=never {} {FRESH} ls /i/etc", image(name)));
    let output = run("localhost/made");
    assert!(text(&output).contains("evil"), "{}\n{}", text(&output), why(&user, "refused"));
    ok(&user, &format!("podman tag localhost/made {none}"));
    let output = run(none);
    let refused = why(&user, "refused");
    assert!(!output.status.success() && refused.contains("R-O11") && refused.contains("rootless"), "{refused}");
    assert!(refused.contains("no seal"), "{refused}");
}

#[test]
fn r_hooks_of_users_put_verified_roots_in_the_place_of_podmans_own_overlay() {
    if !ready("podman's own overlay of users") {
        return;
    }
    let native = Podman::pulled(Program::Native);
    let wanted = life(&User::new(&native));
    let podman = Podman::pulled(Program::Hooked);
    let user = user(&podman);
    let mut service = Service::new(&podman);
    let seen = life(&user);
    are_equal(&wanted, &seen, &user);
    // It is the service's, outlives it, and is not podman's that comes back.
    let root = ok(&user, &format!("podman run -d --name m {FRESH} sleep 1000 >/dev/null; podman exec m {ROOT}"));
    assert!(
        root.contains(" - overlay composefs:") && root.contains("rw,nodev") && root.contains("userxattr"),
        "{root}"
    );
    service.restart();
    let root = ok(&user, &format!("podman exec m true; podman restart -t 0 m >/dev/null; podman exec m {ROOT}"));
    assert!(root.contains(" - overlay composefs:"), "{root}");
    let status = ok(&user, &format!("{} status", common::binary().display()));
    assert!(status.contains("test signer") && status.contains("sealed"), "{status}");
    ok(&user, "podman rm -f -t 0 m >/dev/null");
    let left = ok(&user, "podman unshare cat /proc/self/mountinfo");
    assert!(!left.contains("composefs:") && !left.contains("/merged"), "{left}");
    // What a rule asks nothing of is podman's.
    let free = ok(
        &user,
        &format!(
            "podman tag {FRESH} localhost/free; podman untag {FRESH} {FRESH}; podman run --rm localhost/free {ROOT}"
        ),
    );
    assert!(free.contains(" - overlay overlay "), "{free}");
}

#[test]
fn r_hooks_of_users_refuse_under_enforce_and_let_pass_under_audit() {
    if !ready("hooks of users that refuse") {
        return;
    }
    let podman = Podman::pulled(Program::Hooked);
    let user = user(&podman);
    let mut service = Service::new(&podman);
    ok(&user, &format!("podman run -d --name m {FRESH} sleep 1000"));
    let none = "registry.example.com/acme/none";
    ok(&user, &format!("podman tag {FRESH} {none}"));
    let run = |name: &str, flags: &str| user.run(&format!("podman run --rm --pull=never {flags} {name} {ROOT}"));
    let refused = |name: &str, flags: &str, case: &str| {
        let output = run(name, flags);
        let why = why(&user, "refused");
        assert!(!output.status.success() && why.contains(case), "{name} {flags}: {}\n{why}", text(&output));
        assert!(why.contains("rootless"), "{why}");
    };
    let mode = |mode: &str| {
        podman.policy(&format!("{}[rootless]\nmode = \"{mode}\"\n", default_policy()));
    };
    // A name that nothing is sealed for, and a root that is no image's.
    refused(none, "", "R-D18");
    refused(none, "--uidmap 0:100:5000 --gidmap 0:100:5000", "R-D18");
    ok(
        &user,
        "mkdir -p ~/rootfs/bin ~/rootfs/proc; cp /bin/busybox ~/rootfs/bin/sh || cp /usr/bin/busybox ~/rootfs/bin/sh",
    );
    let rootfs = user.run("podman run --rm --rootfs ~/rootfs /bin/sh -c true");
    assert!(!rootfs.status.success(), "{}", text(&rootfs));
    // Without the service: with what to do about it. Whoever runs goes on.
    service.ends_by("TERM");
    podman.host.sh("mv /run/layerseal/serve.sock /run/layerseal/away");
    refused(FRESH, "", "R-X06");
    assert!(why(&user, "refused").contains("systemctl enable --now layerseal.socket"));
    ok(&user, "podman exec m sha256sum /usr/share/big");
    mode("audit");
    assert!(text(&run(FRESH, "")).contains(" - overlay overlay "), "{}", why(&user, "audit"));
    assert!(why(&user, "audit").contains("R-X06"), "{}", why(&user, "audit"));
    podman.host.sh("mv /run/layerseal/away /run/layerseal/serve.sock");
    service.begins();
    // What is sealed is mounted by the service, and nothing else.
    assert!(text(&run(FRESH, "")).contains(" - overlay composefs:"));
    let output = run(none, "");
    assert!(text(&output).contains(" - overlay overlay "), "{}", text(&output));
    assert!(why(&user, "audit").contains("R-D18"), "{}", why(&user, "audit"));
    mode("off");
    let audited = why(&user, "audit");
    assert!(text(&run(FRESH, "")).contains(" - overlay overlay "));
    assert_eq!(why(&user, "audit"), audited, "a hook has looked");
    ok(&user, "podman rm -f -t 0 m");
}

/// Has a script run as a hook of podman's, with the container's state or configuration on its standard input.
fn hook(podman: &Podman, name: &str, stage: &str, script: &str) {
    podman.host.write(&format!("/var/tmp/{name}.sh"), format!("#!/bin/sh\nset -eu\n{script}\n"));
    podman.host.sh(&format!("chmod 755 /var/tmp/{name}.sh"));
    let json = format!(
        r#"{{"version": "1.0.0", "hook": {{"path": "/var/tmp/{name}.sh"}}, "when": {{"always": true}}, "stages": ["{stage}"]}}"#
    );
    podman.host.write(&format!("/etc/containers/hooks/{name}.json"), json);
}

#[test]
fn r_hooks_of_users_find_a_root_that_was_swapped_after_precreate() {
    if !ready("roots of users that are swapped") {
        return;
    }
    let podman = Podman::pulled(Program::Hooked);
    let user = user(&podman);
    let _service = Service::new(&podman);
    ok(&user, &format!("podman run -d --name other {FRESH} sleep 1000"));
    let other = ok(&user, "podman inspect other --format '{{.GraphDriver.Data.MergedDir}}'");
    let other = other.trim();
    let record = "/run/layerseal/users/*.json";
    // The names of the hooks are their order; each hands on the configuration.
    let find = "c=$(cat); m=$(echo \"$c\" | grep -o '/[^\"]*/merged' | head -n 1); echo \"$c\"";
    let own = "d=/var/tmp/home/own; mkdir -p $d/l/usr $d/u $d/w";
    let swaps = [
        // An overlay of the user's, which calls itself as the service's do; one of the service's, made for another
        // container; a part of the right one, and nothing at all.
        (
            "R-O01",
            format!("{own}; mount -t overlay -o userxattr,lowerdir=$d/l,upperdir=$d/u,workdir=$d/w composefs:x $m"),
        ),
        ("R-O03", format!("mount --bind {other} $m")),
        ("R-O03", "mount --bind $m/usr $m".to_owned()),
        ("R-O01", "umount $m".to_owned()),
    ];
    for (case, script) in &swaps {
        hook(&podman, "z-swap", "precreate", &format!("{find}; {script}"));
        let output = user.run(&format!("podman run --name swapped {FRESH} true"));
        let why = why(&user, "refused");
        assert!(!output.status.success() && why.contains(case), "{script}: {}\n{why}", text(&output));
        // podman takes one mount away, and here may be two.
        ok(
            &user,
            "m=$(podman inspect swapped --format '{{.GraphDriver.Data.UpperDir}}'); \
             podman unshare sh -c \"while umount ${m%/diff}/merged 2>/dev/null; do :; done; rm -rf ${m%/diff}/merged/*\"; podman rm -f swapped",
        );
        podman.host.sh("rm /etc/containers/hooks/z-swap.json");
        ok(&user, &format!("podman run --rm {FRESH} true"));
    }
    podman.host.sh("mv /etc/containers/hooks/createRuntime.json /etc/containers/hooks/z-createRuntime.json");
    // What was right when it was mounted is so no more: its signer is not trusted when the runtime has made the rest.
    let certificate = "/etc/layerseal/trust.d/acme/acme.crt";
    podman.host.sh(&format!("cp {certificate} /var/tmp/kept.crt"));
    let signer = common::Signer::new("another signer", 2048, -1, 30);
    podman.host.write("/var/tmp/another.crt", signer.cert.to_pem().unwrap());
    podman.host.sh("mkfifo -m 666 /var/tmp/ready /var/tmp/go");
    hook(&podman, "a-waits", "createRuntime", "echo ready >/var/tmp/ready; cat /var/tmp/go >/dev/null");
    let mut waits = user.command(&format!("timeout 60 podman run --rm {FRESH} true"));
    let waits = std::thread::spawn(move || waits.output().unwrap());
    podman.host.sh("timeout 60 cat /var/tmp/ready >/dev/null");
    podman.host.sh(&format!("cp /var/tmp/another.crt {certificate}; echo >/var/tmp/go"));
    let output = waits.join().unwrap();
    assert!(
        !output.status.success() && why(&user, "refused").contains("R-E07"),
        "{}\n{}",
        text(&output),
        why(&user, "refused")
    );
    podman.host.sh(&format!("rm /etc/containers/hooks/a-waits.json; cp /var/tmp/kept.crt {certificate}"));
    ok(&user, &format!("podman run --rm {FRESH} true"));
    // Records are root's: the user can neither read nor write them.
    let records = user
        .run(&format!("cat {record} || podman unshare sh -c 'cat {record}; echo x >/run/layerseal/users/0:1.json'"));
    assert!(!records.status.success() && !text(&records).contains("composefs"), "{}", text(&records));
    ok(&user, "podman rm -f -t 0 other");
}

#[test]
fn r_hooks_of_users_compare_what_podman_wrote_from_layers_that_nobody_verified() {
    if !ready("layers of users that are changed") {
        return;
    }
    let podman = Podman::pulled(Program::Hooked);
    let user = user(&podman);
    let _service = Service::new(&podman);
    ok(&user, &format!("podman run --rm {FRESH} true; podman create --name made {FRESH} true"));
    // The layer's files are the user's own to replace (with fs-verity none is changed); a new container is not what they say.
    let base = format!("d=$(dirname $(dirname $(grep -l ^app: {OVERLAY}/*/diff/etc/passwd | head -n 1)))");
    ok(
        &user,
        &format!(
            "{base}; cp $d/etc/passwd ~/passwd; (cat ~/passwd; echo evil:x:0:0::/:/bin/sh) >$d/etc/made; mv $d/etc/made $d/etc/passwd; echo evil >$d/etc/evil"
        ),
    );
    let run = |flags: &str, command: &str| user.run(&format!("podman run --rm {flags} {FRESH} {command}"));
    let output = run("", "true");
    assert!(!output.status.success() && why(&user, "refused").contains("R-O09"), "{}", why(&user, "refused"));
    let output = user.run("podman start -a made");
    assert!(!output.status.success() && why(&user, "refused").contains("R-O09"), "{}", why(&user, "refused"));
    // Sealed content is not what the layers hold now, whatever is mended of them.
    ok(&user, &format!("{base}; cp ~/passwd $d/etc/made; mv $d/etc/made $d/etc/passwd"));
    let output = run("", "sh -c 'test ! -e /etc/evil && sha256sum /etc/passwd'");
    assert!(output.status.success(), "{}\n{}", text(&output), why(&user, "refused"));
    // But the container that podman had made of them is not the same as one that never was.
    let output = user.run("podman start -a made");
    assert!(!output.status.success() && why(&user, "refused").contains("R-O13"), "{}", why(&user, "refused"));
    // A volume that podman filled from them is remembered.
    ok(&user, &format!("{base}; podman unshare touch $d/home/app/more"));
    let output = run("-v named:/home/app", "true");
    assert!(!output.status.success() && why(&user, "refused").contains("R-O09"), "{}", why(&user, "refused"));
    ok(&user, &format!("{base}; podman unshare rm $d/home/app/more"));
    let output = run("-v named:/home/app", "true");
    assert!(!output.status.success() && why(&user, "refused").contains("R-O10"), "{}", why(&user, "refused"));
    ok(&user, "podman rm made >/dev/null; podman volume rm named >/dev/null");
    ok(&user, &format!("podman run --rm -v named:/home/app {FRESH} true"));
    if has_verity() {
        // And what is verified is read by the kernel, through both overlays.
        let all = "cd ~/.local/share/containers/storage/layerseal/objects; o=$(find . -type f -size 1500001c)";
        let read = format!("podman run --rm {FRESH} sha256sum /usr/share/big");
        ok(&user, &read);
        let output = user.run(&format!("{all}; cp $o ~/new; printf x | dd of=$HOME/new conv=notrunc 2>/dev/null; mv $o ~/old; mv ~/new $o; cd; {read}"));
        let said = text(&output);
        assert!(
            !output.status.success() && (said.contains("I/O error") || said.contains("Input/output error")),
            "{said}"
        );
        ok(&user, &format!("{all}; mv ~/old $o; cd; {read}"));
    }
}

#[test]
fn r_hooks_of_two_users_know_their_own_mounts() {
    if !ready("hooks of two users") {
        return;
    }
    let podman = Podman::pulled(Program::Hooked);
    let first = user(&podman);
    let second = User::second(&podman);
    gets_seals(&podman, &second);
    let _service = Service::new(&podman);
    for user in [&first, &second] {
        ok(user, &format!("podman run -d --name m {FRESH} sleep 1000"));
    }
    let device = ok(&first, "podman exec m grep ' / / ' /proc/self/mountinfo").split(' ').nth(2).unwrap().to_owned();
    let own = std::env::current_exe().unwrap().display().to_string();
    let ask = |who: u32| {
        let script = format!(
            "LAYERSEAL_ATTACK=device:{device} setpriv --reuid {who} --regid {who} --clear-groups {own} --ignored --exact caller::caller --nocapture"
        );
        crate::service::outcomes(&podman.host.shell(&script)).remove(0).1
    };
    assert_eq!((ask(1234).trim(), ask(1235).trim()), ("mounts of 1234", "mounts of"));
    for user in [&first, &second] {
        ok(user, "podman restart -t 0 m >/dev/null; podman exec m sha256sum /usr/share/big; podman rm -f -t 0 m");
    }
}

#[test]
fn r05_the_mounts_of_one_user_leave_others_room_for_theirs() {
    if !ready("many mounts of one user") {
        return;
    }
    let podman = Podman::pulled(Program::Hooked);
    let first = user(&podman);
    let second = User::second(&podman);
    gets_seals(&podman, &second);
    let _service = Service::new(&podman);
    ok(&first, &format!("podman run -d --name one {FRESH} sleep 1000"));
    // As many records as one user may have; these are of mounts in namespaces that nobody can see.
    let fill = "cd /run/layerseal/users; i=100000; while [ $i -lt 102000 ]; do \
                echo \"{\\\"user\\\":1234,\\\"device\\\":[0,$i]}\" >0:$i.json; i=$((i + 1)); done";
    podman.host.sh(fill);
    let refused = first.run(&format!("podman run --rm {FRESH} true"));
    let why = why(&first, "refused");
    assert!(!refused.status.success() && why.contains("R-R05"), "{}\n{why}", text(&refused));
    ok(&second, &format!("podman run --rm {FRESH} true"));
    // What `layerseal gc` removes when they are gone.
    podman.host.sh("cd /run/layerseal/users; rm 0:1019*.json");
    ok(&first, &format!("podman run --rm {FRESH} true"));
    ok(&first, "podman rm -f -t 0 one");
}

/// What a user has podman write is that user's own affair.
#[test]
fn b15_the_database_of_a_user_is_that_users_own() {
    if !ready("the database of a user") {
        return;
    }
    if Podman::version() < (5, 0) {
        support::skip!("the database of a user: podman {:?} has no db.sql", Podman::version());
    }
    if !has_sqlite() {
        support::skip!("the database of a user: needs python3 with sqlite3");
    }
    let podman = Podman::pulled(Program::Hooked);
    let user = user(&podman);
    let _service = Service::new(&podman);
    let trigger = "CREATE TRIGGER mine AFTER INSERT ON ContainerConfig BEGIN SELECT 1; END;";
    let run = || ok(&user, &format!("podman run --rm --pull=never {FRESH} {ROOT}"));
    assert!(run().contains(" - overlay composefs:"));
    // SQLite does not find its way into the user's home.
    let database = podman.host.inside("/var/tmp/home/.local/share/containers/storage/db.sql");
    let copy = podman.host.dir().join("db.sql");
    std::fs::copy(&database, &copy).unwrap();
    sql_in(&copy, trigger);
    std::fs::write(&database, std::fs::read(&copy).unwrap()).unwrap();
    let root = run();
    assert!(root.contains(" - overlay composefs:"), "{root}");
    // Root's is asked about.
    podman.prepare(FRESH);
    sql_in(&podman.graph_root().join("db.sql"), trigger);
    let output = podman.run(&["run", "--rm", "--pull=never", FRESH, "true"]);
    assert_eq!(podman.last("precreate"), ("refused".into(), "B15".into()), "{}", text(&output));
    assert!(run().contains(" - overlay composefs:"));
}
