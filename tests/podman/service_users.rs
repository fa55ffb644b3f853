//! What users do beside starting containers where the service mounts: our verbs, other users, logging out.

use serde_json::Value;

use crate::image::{BIG, FRESH};
use crate::podman::{Podman, Program, copy, sealed};
use crate::rootless::{User, text};
use crate::service::{Service, call, gets_seals, host_forgets, outcomes, user};
use crate::{common, host, ready};
use support::tools::{Site, path};

/// Runs a verb of ours as the user, for its document and exit code.
fn verb(user: &User<'_>, args: &str) -> (Value, i32) {
    let output = user.run(&format!("{} {args} --json", common::binary().display()));
    let document = serde_json::from_slice(&output.stdout).unwrap_or_else(|e| panic!("{args}: {e}: {}", text(&output)));
    (document, output.status.code().unwrap())
}

fn ok(user: &User<'_>, script: &str) -> String {
    let output = user.run(script);
    assert!(output.status.success(), "{script}: {}", text(&output));
    text(&output)
}

/// What is mounted for the user, by container and signer.
fn mounted(user: &User<'_>) -> Vec<(String, String)> {
    let (status, code) = verb(user, "status");
    assert_eq!((code, &status["users"]), (0, &Value::Array(Vec::new())), "{status}");
    let row = |m: &Value| (m["container"].as_str().unwrap_or("-").to_owned(), m["signer"].as_str().unwrap().to_owned());
    status["mounts"].as_array().unwrap().iter().map(row).collect()
}

/// What root sees of it.
fn seen_by_root(podman: &Podman) -> Vec<String> {
    let status = podman.host.sh(&format!("{} status --json", common::binary().display()));
    let status: Value = serde_json::from_str(&status).unwrap();
    assert_eq!(status["mounts"], Value::Array(Vec::new()), "{status}");
    let row = |m: &Value| format!("{} {} {}", m["user"], m["identities"][0], m["signer"]);
    status["users"].as_array().unwrap().iter().map(row).collect()
}

#[test]
fn r_users_prepare_and_check_images_and_see_what_is_mounted_for_them() {
    if !ready("verbs of users of the service") {
        return;
    }
    let podman = Podman::pulled(Program::Layerseal);
    let user = user(&podman);
    // Without the service nothing would start.
    let (checked, _) = verb(&user, &format!("check {FRESH}"));
    assert_eq!(checked["images"][0]["expected"]["error"]["case"], "X06", "{checked}");
    let (prepared, code) = verb(&user, &format!("prepare {FRESH}"));
    assert_eq!((&prepared["images"][0]["error"]["case"], code), (&"X06".into(), 6), "{prepared}");
    let mut service = Service::new(&podman);
    let expected = |name: &str| verb(&user, &format!("check {name}")).0["images"][0]["expected"].clone();
    let before = expected(FRESH);
    assert!(before["verdict"] == "sealed" && before["signer"] == "CN=test signer", "{before}");
    assert_eq!(before["ready"], false, "{before}");
    let (prepared, code) = verb(&user, &format!("prepare {FRESH}"));
    let image = &prepared["images"][0];
    assert_eq!((&image["ready"], &image["signer"], code), (&true.into(), &"CN=test signer".into(), 0), "{prepared}");
    assert_eq!(expected(FRESH)["ready"], true);
    // By the names that are asked for, as at a start.
    let none = "registry.example.com/acme/none";
    ok(&user, &format!("podman tag {FRESH} {none} localhost/free"));
    let refused = expected(none);
    assert_eq!((&refused["verdict"], &refused["error"]["case"]), (&"refused".into(), &"D18".into()), "{refused}");
    assert_eq!(expected("localhost/free")["verdict"], "unasked");
    let started = |name: &str| user.run(&format!("podman run --rm {name} true")).status.success();
    assert_eq!([FRESH, none, "localhost/free"].map(started), [true, false, true]);
    // What is mounted, for the user, for another one, and for root.
    assert_eq!(mounted(&user), Vec::new());
    let id = ok(&user, &format!("podman run -d --name one {FRESH} sleep 1000")).trim().to_owned();
    let seen = [(id.clone(), "CN=test signer".to_owned())];
    assert_eq!(mounted(&user), seen);
    let checked = verb(&user, "check --containers").0;
    assert_eq!(checked["containers"][0]["expected"]["verdict"], "sealed", "{checked}");
    assert_eq!(seen_by_root(&podman), ["1234 \"registry.example.com/acme/fresh\" \"CN=test signer\""]);
    let own = std::env::current_exe().unwrap().display().to_string();
    let ask = |who: &str| {
        let script = format!("LAYERSEAL_ATTACK=mounts {who} {own} --ignored --exact caller::caller --nocapture");
        outcomes(&podman.host.shell(&script)).remove(0).1
    };
    let number = |heard: String| heard.strip_prefix("mounts of").map(|rest| rest.split_whitespace().count());
    assert!(number(ask("setpriv --reuid 1234 --regid 1234 --clear-groups")).unwrap() > 0);
    assert_eq!(number(ask("setpriv --reuid 1235 --regid 1235 --clear-groups")), Some(0));
    assert_eq!(number(ask("setpriv --reuid 1235 --regid 1235 --clear-groups unshare --user --map-root-user")), Some(0));
    assert_eq!(number(outcomes(&call(&user, "", "mounts")).remove(0).1).map(|n| n > 0), Some(true));
    // A new service knows it too; without any nobody is said to vouch.
    service.restart();
    assert_eq!(mounted(&user), seen);
    service.ends_by("TERM");
    let binary = common::binary().display().to_string();
    podman.host.sh("mv /run/layerseal/serve.sock /run/layerseal/away");
    let told = ok(&user, &format!("{binary} status"));
    assert!(told.contains("unsealed") && told.contains("is not known"), "{told}");
    podman.host.sh("mv /run/layerseal/away /run/layerseal/serve.sock");
    service.begins();
    ok(&user, "podman rm -f -t 0 one");
    assert_eq!((mounted(&user), seen_by_root(&podman)), (Vec::new(), Vec::new()));
    // The doctor knows whether it answers, inside podman's namespace too.
    for way in [String::new(), "podman unshare ".to_owned()] {
        let output = user.run(&format!("{way}{binary} doctor --json"));
        let doctor: Value = serde_json::from_slice(&output.stdout).unwrap();
        let found = doctor["checks"].as_array().unwrap().iter().find(|check| check["check"] == "service for users");
        assert_eq!(found.unwrap()["state"], "ok", "{doctor}");
    }
    let inside = user.run(&format!("podman unshare {binary} check {FRESH}"));
    assert!(text(&inside).contains("outside of `podman unshare`"), "{}", text(&inside));
}

/// Has the skopeo of the registries' tests on this host, and returns what a script exports to find it.
fn skopeo(podman: &Podman, site: Site) -> String {
    if host::foreign().is_none() {
        return format!("export PATH='{}';", path(site.skopeo));
    }
    // Another userland may have none, and sees none of this one's files.
    let here = "/var/tmp/skopeo";
    let from = support::tools::tools().unwrap().join(format!("skopeo-{}/usr", site.skopeo));
    podman.host.sh(&format!("mkdir -p {here}/bin"));
    copy(&from, &podman.host.inside(here));
    let library = format!("{here}/usr/lib/x86_64-linux-gnu");
    let program =
        format!("{library}/ld-linux-x86-64.so.2 --library-path {library} --argv0 skopeo {here}/usr/bin/skopeo");
    podman.host.write(&format!("{here}/bin/skopeo"), format!("#!/bin/sh\nexec {program} \"$@\"\n"));
    podman.host.sh(&format!("chmod -R a+rX {here}; chmod a+x {here}/bin/skopeo"));
    format!("export PATH=\"{here}/bin:$PATH\";")
}

#[test]
fn r_users_fetch_seals_and_look_after_their_vaults() {
    if !ready("fetch, images and fsck of users") {
        return;
    }
    let Some(site) = Site::plain() else { return };
    let podman = Podman::pulled(Program::Layerseal);
    let user = user(&podman);
    let second = User::second(&podman);
    let skopeo = skopeo(&podman, site);
    let _service = Service::new(&podman);
    // In a registry, with its seal; and pulled from there by a user whose vault has nothing of it.
    let (bench, repository) = (common::Bench::new(), site.repository("users/app"));
    let name = format!("{repository}:1");
    let there = format!("docker://{name}");
    let layout = format!("oci:{}:{FRESH}", sealed(FRESH).display());
    support::tools::skopeo(&["copy", "-q", "--dest-tls-verify=false", &layout, &there]);
    bench.signer("signer", common::signer());
    site.run(&bench, &["sign", &there, "--cert", "signer.crt", "--key", "signer.key", "--identity", &repository]).ok();
    ok(&user, &format!("podman rmi -fa >/dev/null; {} gc >/dev/null", common::binary().display()));
    assert_eq!(verb(&user, "images").0["images"], Value::Array(Vec::new()));
    ok(&user, &format!("podman pull -q --tls-verify=false {name}"));
    let said = text(&user.run(&format!("podman run --rm --pull=never {name} true")));
    assert!(said.contains("R-C07"), "{said}");
    let asked = |args: &str| {
        let output = user.run(&format!("{skopeo} {} {args} --tls-verify=false --json", common::binary().display()));
        let document: Value =
            serde_json::from_slice(&output.stdout).unwrap_or_else(|e| panic!("{args}: {e}: {}", text(&output)));
        (document, output.status.code().unwrap())
    };
    let (fetched, code) = asked(&format!("fetch {name}"));
    assert_eq!((fetched["images"][0]["seals"].as_array().map(Vec::len), code), (Some(1), 0), "{fetched}");
    let listed = verb(&user, "images").0;
    let row = &listed["images"][0];
    assert!(row["store_names"][0] == name.as_str() && row["seals"] == 1, "{listed}");
    // The first start makes its objects.
    let reads = format!("podman run --rm --pull=never {name} sha256sum /usr/share/big /opt/app");
    let read = ok(&user, &reads);
    let seen = ok(&user, &format!("podman run --rm --pull=never {name} cat /proc/self/mountinfo"));
    assert!(seen.contains(" / / rw,nodev") && seen.contains("overlay composefs:"), "{seen}");
    let whole = |args: &str| {
        let (checked, code) = asked(args);
        assert_eq!(checked["images"].as_array().map(Vec::len), Some(1), "{args}: {checked}");
        (checked["whole"].as_bool().unwrap(), code, checked)
    };
    let vault = "cd ~/.local/share/containers/storage/layerseal";
    // What only another ID of the user's may read is read.
    let object = format!("$(find objects -type f -size {BIG}c)");
    let private = format!("f={object}; podman unshare sh -c \"chown 5:5 $f; chmod 600 $f\"; test ! -r $f");
    ok(&user, &format!("{vault}; {private}"));
    let (is_whole, code, checked) = whole("fsck");
    assert_eq!((is_whole, code), (true, 0), "{checked}");
    // What is lost or damaged is found, and made again of podman's files, or brought from the registry.
    let erofs = "$(find objects -type f -size -200k -exec grep -l -a -e composefs -e opt {} + | head -n 1)";
    let seal = "blobs/sha256/$(find images -path '*/seals/*' | head -n 1 | sed 's/.*[:\\/]//')";
    let damaged = "echo damaged >$f";
    for (what, path, damage) in
        [("an object", object.as_str(), damaged), ("an EROFS image", erofs, "true"), ("a seal", seal, damaged)]
    {
        ok(&user, &format!("{vault}; f={path}; test -f $f; rm -f $f; {damage}"));
        let (is_whole, code, checked) = whole("fsck");
        assert_eq!((is_whole, code), (false, 4), "{what}: {checked}");
        let (is_whole, code, checked) = whole(&format!("fsck --repair {name}"));
        assert_eq!((is_whole, code), (true, 0), "{what}: {checked}");
        assert_eq!(ok(&user, &reads), read, "{what}");
    }
    // An image of the user's own, pushed, sealed where it lies, and started by its new name.
    let own = site.repository("users/own");
    ok(&user, &format!("podman tag {name} localhost/own"));
    let key = common::signer().key.private_key_to_pem_pkcs8().unwrap();
    user.writes("~/signer.key", &String::from_utf8(key).unwrap());
    user.writes("~/signer.crt", &String::from_utf8(common::signer().cert.to_pem().unwrap()).unwrap());
    ok(&user, "chmod 600 ~/signer.key");
    let key = "--cert ~/signer.crt --key ~/signer.key";
    let (signed, code) = asked(&format!("sign localhost/own --push docker://{own}:1 {key}"));
    assert_eq!((signed["images"][0]["seal"].is_string(), code), (true, 0), "{signed}");
    assert_eq!(ok(&user, &format!("podman run --rm --pull=never {own}:1 sha256sum /usr/share/big /opt/app")), read);
    // Of another user's nothing is shown.
    assert_eq!(verb(&second, "images").0["images"], Value::Array(Vec::new()));
    assert_eq!(verb(&second, "fsck").1, 0);
}

#[test]
fn r_gc_of_users_takes_nothing_from_under_a_mount() {
    if !ready("gc of users") {
        return;
    }
    let podman = Podman::pulled(Program::Layerseal);
    let user = user(&podman);
    let _service = Service::new(&podman);
    ok(&user, &format!("podman run -d --name m {FRESH} sleep 1000"));
    let read = "podman exec m sh -c 'find /usr /opt /etc -xdev -type f | sort | xargs sha256sum'";
    let before = ok(&user, read);
    // The store forgets the image, and keeps the container.
    let records = "/var/tmp/home/.local/share/containers/storage/overlay-images/images.json";
    ok(&user, &format!("cp {records} ~/records; echo '[]' >{records}"));
    for way in ["", "podman unshare "] {
        let output = user.run(&format!("{way}{} gc --json", common::binary().display()));
        let collected: Value = serde_json::from_slice(&output.stdout).unwrap_or_else(|e| panic!("{e}: {output:?}"));
        let kept = &collected["kept"];
        assert!(kept["mounts"] == 1 && kept["images"] == 1, "{way}: {collected}");
        assert_eq!(collected["removed"]["objects"], 0, "{way}: {collected}");
    }
    host_forgets(&podman);
    assert_eq!(ok(&user, read), before);
    // Without the mount nothing keeps it.
    ok(&user, "podman rm -f -t 0 m");
    let (collected, code) = verb(&user, "gc");
    assert_eq!((collected["removed"]["images"].as_array().map(Vec::len), code), (Some(1), 0), "{collected}");
    assert!(collected["removed"]["objects"].as_u64().unwrap() > 0, "{collected}");
    ok(&user, &format!("cp ~/records {records}"));
}

#[test]
fn r_users_share_the_service_and_what_ends_beside_a_container_ends_it_not() {
    if !ready("users of one service") {
        return;
    }
    let podman = Podman::pulled(Program::Layerseal);
    let first = user(&podman);
    let second = User::second(&podman);
    gets_seals(&podman, &second);
    let mut service = Service::new(&podman);
    let look = "sh -c 'sha256sum /usr/share/big; echo x >>/etc/new; cat /etc/new; stat -c \"%n %A %u %g\" /etc/*'";
    let once = |user: &User<'_>| ok(user, &format!("podman run --rm {FRESH} {look}"));
    for user in [&first, &second] {
        ok(user, &format!("podman run -d --name m {FRESH} sh -c 'echo kept >/kept; sleep 1000'"));
    }
    assert_eq!(once(&first), once(&second));
    assert_eq!(mounted(&first).len(), 1);
    assert_eq!(mounted(&second).len(), 1);
    let seen = seen_by_root(&podman);
    assert!(seen[0].starts_with("1234 ") && seen[1].starts_with("1235 ") && seen.len() == 2, "{seen:?}");
    // The service dies; what runs goes on, and what starts meanwhile waits for the next one.
    service.ends_by("KILL");
    for user in [&first, &second] {
        ok(user, "podman exec m sha256sum /usr/share/big");
    }
    let mut waiting = second.command(&format!("podman run --rm {FRESH} {look}"));
    let waiting = std::thread::spawn(move || waiting.output());
    ok(&first, "podman exec m sha256sum /usr/share/big");
    service.begins();
    let waited = waiting.join().unwrap().unwrap();
    assert_eq!((waited.status.success(), text(&waited)), (true, once(&first)));
    // What one of them removes, the other one keeps.
    ok(&second, "podman rm -f -t 0 m; podman rmi -f --all");
    verb(&second, "gc");
    host_forgets(&podman);
    assert_eq!(ok(&first, "podman exec m cat /kept"), "kept\n");
    once(&first);
    ok(&first, "podman rm -f -t 0 m");
}

/// What a user's podman says of itself; beside that it complains of a host that is none.
fn said(user: &User<'_>, script: &str) -> String {
    let output = user.run(script);
    assert!(output.status.success(), "{script}: {}", text(&output));
    String::from_utf8(output.stdout).unwrap()
}

/// A container before and after its user has logged out, and before and after a reboot.
fn sessions(podman: &Podman, user: &User<'_>, forgets: &dyn Fn()) -> Vec<String> {
    let mut seen = vec![said(
        user,
        &format!(
            "podman run -d --name m {FRESH} sh -c 'cat /kept; echo kept >>/kept; exec sleep 1000' >/dev/null; \
                  for i in $(seq 50); do podman exec m sh -c 'test -s /kept' && break; sleep 0.1; done; podman exec m cat /kept"
        ),
    )];
    for (lines, reboot) in [(2, false), (3, true)] {
        user.logs_out();
        if reboot {
            forgets();
        }
        user.logs_in();
        // Whether it is there and runs: what else podman says of it depends on what its conmon wrote before it died.
        seen.push(said(user, "podman ps -a --format '{{.Names}}'; podman ps --format '{{.Names}} runs'"));
        seen.push(said(user, &format!("podman start m >/dev/null; for i in $(seq 50); do [ $(podman exec m cat /kept | wc -l) -ge {lines} ] && break; sleep 0.1; done; podman exec m sha256sum /kept /usr/share/big")));
        seen.push(said(user, &format!("podman run --rm {FRESH} sha256sum /usr/share/big")));
        seen.push(podman.host.sh("grep -c -e composefs: -e fuse-overlayfs /proc/self/mountinfo || true"));
    }
    said(user, "podman rm -f -t 0 m");
    seen
}

#[test]
fn r_containers_outlive_the_sessions_of_their_users_as_with_fuse_overlayfs() {
    if !ready("sessions of users") {
        return;
    }
    let fuse = Podman::pulled(Program::FuseOverlayfs);
    let wanted = sessions(&fuse, &user(&fuse), &|| ());
    let podman = Podman::pulled(Program::Layerseal);
    let user = user(&podman);
    let _service = Service::new(&podman);
    // What a host forgets with a reboot; the socket is there before users are.
    let forgets = || {
        podman.host.sh("cd /run/layerseal; find . -mindepth 1 -maxdepth 1 ! -name serve.sock -exec rm -r {} +");
    };
    assert_eq!(sessions(&podman, &user, &forgets), wanted);
    assert_eq!((mounted(&user), seen_by_root(&podman)), (Vec::new(), Vec::new()));
}
