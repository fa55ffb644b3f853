//! The service that mounts for users: podman of a user by it, and callers that ask for what they should not.

use std::os::fd::AsFd as _;
use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::net::UnixListener;
use std::process::{Child, Command, Output, Stdio};

use crate::image::FRESH;
use crate::podman::{Podman, Program, copy, default_policy, has_verity, sealed};
use crate::rootless::{User, text};
use crate::{common, ready};

const SOCKET: &str = "/run/layerseal/serve.sock";

/// What the unit leaves of root's capabilities, in the words of setpriv(1).
fn capabilities() -> String {
    let unit = include_str!("../../contrib/systemd/layerseal.service");
    let line = unit.lines().find_map(|line| line.strip_prefix("CapabilityBoundingSet=")).unwrap();
    line.split(' ').map(|name| format!(",+{}", name.strip_prefix("CAP_").unwrap().to_lowercase())).collect()
}

/// The service as systemd starts it: by a socket that is there before.
pub struct Service<'a> {
    podman: &'a Podman,
    listener: UnixListener,
    child: Child,
}

impl<'a> Service<'a> {
    pub fn new(podman: &'a Podman) -> Self {
        let path = podman.host.inside(SOCKET);
        let _ = std::fs::remove_file(&path);
        let listener = UnixListener::bind(&path).unwrap();
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o666)).unwrap();
        let child = Self::start(podman, &listener);
        Self { podman, listener, child }
    }

    fn start(podman: &Podman, listener: &UnixListener) -> Child {
        let script = format!(
            "exec 3<&0 </dev/null; echo $$ >/run/serve.pid; LISTEN_FDS=1 LISTEN_PID=$$ \
             exec setpriv --no-new-privs --bounding-set=-all{} {} serve --idle 300",
            capabilities(),
            common::binary().display()
        );
        let mut command = podman.host.command("sh", &["-euc", &script]);
        command
            .stdin(Stdio::from(listener.as_fd().try_clone_to_owned().unwrap()))
            .stderr(Stdio::null())
            .spawn()
            .unwrap()
    }

    /// Whoever calls meanwhile waits.
    pub fn restart(&mut self) {
        self.end();
        self.child = Self::start(self.podman, &self.listener);
    }

    fn pid(&self) -> String {
        self.podman.host.sh("cat /run/serve.pid").trim().to_owned()
    }

    fn end(&mut self) {
        self.ends_by("TERM");
    }

    pub fn ends_by(&mut self, signal: &str) {
        // It may have been ended before.
        self.podman.host.sh(&format!("kill -{signal} {} || true", self.pid()));
        let _ = self.child.wait();
    }

    /// What a user calls while there is none waits in the socket.
    pub fn begins(&mut self) {
        self.child = Self::start(self.podman, &self.listener);
    }

    /// Its processes, and what it has open, when no call is being answered any more.
    fn at_rest(&self) -> String {
        let pid = self.pid();
        let script = format!(
            "for i in $(seq 150); do [ -z \"$(cat /proc/{pid}/task/{pid}/children)\" ] && break; sleep 0.1; done; \
             echo \"children: $(cat /proc/{pid}/task/{pid}/children)\"; ls /proc/{pid}/fd | wc -l; \
             ls /run/layerseal /var/lib/layerseal 2>/dev/null || true"
        );
        self.podman.host.sh(&script)
    }
}

impl Drop for Service<'_> {
    fn drop(&mut self) {
        self.end();
    }
}

/// A user with the image's seals, on a host whose policy asks for them.
pub fn user(podman: &Podman) -> User<'_> {
    let user = User::new(podman);
    gets_seals(podman, &user);
    user
}

pub fn gets_seals(podman: &Podman, user: &User<'_>) {
    if podman.program.is_ours() {
        podman.policy(&format!("{}[rootless]\nmode = \"enforce\"\n", default_policy()));
        let inside = podman.host.inside("/var/tmp/sealed");
        std::fs::create_dir_all(&inside).unwrap();
        copy(&sealed(FRESH).join("."), &inside);
        podman.host.sh("chmod -R a+rX /var/tmp/sealed");
        let binary = common::binary().display().to_string();
        let script = format!("podman unshare {binary} prepare {FRESH} --seal oci:/var/tmp/sealed:{FRESH} --seals-only");
        let output = user.run(&script);
        assert!(output.status.success(), "{}", text(&output));
    }
}

/// What users do, and what of it is seen.
fn life(user: &User<'_>) -> Vec<(String, String)> {
    let shows = "sh -c 'id; cat /proc/self/uid_map; find / -xdev | sort | head -200 | xargs stat -c \"%n %A %u %g\"'";
    let steps = [
        // Twice, with what it wrote, and what podman sees of it.
        format!(
            "podman create --name c {FRESH} sh -c 'cat /etc/new; echo x >>/etc/new; rm -f /etc/kept; ls /etc' >/dev/null"
        ),
        // A second mount of a container that is mounted is the trap of reference counts: its own is to be gone.
        "podman start -a c; podman container cleanup c >/dev/null; podman start -a c; podman container cleanup c >/dev/null; \
         podman diff c | sort; podman cp c:/etc/new - | tar -xO"
            .to_owned(),
        "podman commit -q c localhost/made >/dev/null && podman run --rm localhost/made cat /etc/new".to_owned(),
        "podman rm c >/dev/null; podman rmi localhost/made >/dev/null".to_owned(),
        // Two of one image, one of them asked while it runs.
        format!(
            "podman run -d --name one {FRESH} sleep 1000 >/dev/null; podman run --rm {FRESH} cat /usr/share/big | sha256sum"
        ),
        "podman exec one sh -c 'echo y >/y; cat /y'; podman rm -f -t 0 one >/dev/null".to_owned(),
        // Other IDs.
        format!("podman run --rm --userns=keep-id {FRESH} {shows}"),
        format!("podman run --rm --uidmap 0:100:5000 --gidmap 0:100:5000 {FRESH} {shows}"),
        format!("podman run --rm --user 7:8 {FRESH} id"),
        format!("podman run --rm --read-only {FRESH} sh -c 'touch /x; echo $?'"),
        format!(
            "podman unshare sh -c 'cat $(podman image mount {FRESH})/usr/share/big | sha256sum; podman image unmount -a >/dev/null'"
        ),
        // Other ways to an image.
        format!("podman run --rm --mount type=image,source={FRESH},target=/i {FRESH} sha256sum /i/usr/share/big"),
        format!(
            "cd; printf 'FROM {FRESH}\\nRUN echo made >/etc/made\\n' >file; podman build -q --network host -t localhost/built -f file . >/dev/null; \
             podman run --rm localhost/built cat /etc/made; podman rmi localhost/built >/dev/null"
        ),
        // Where the host has no pause program, its image is one like others.
        format!(
            "podman pod create --network none --infra-image {FRESH} --infra-command 'sleep 1000' --name p >/dev/null; \
             podman run --rm --pod p {FRESH} sha256sum /usr/share/big; podman pod rm -f -t 0 p >/dev/null"
        ),
    ];
    steps.into_iter().map(|step| (step.clone(), text(&user.run(&step)))).collect()
}

#[test]
fn r_containers_of_users_by_the_service_are_as_by_fuse_overlayfs() {
    if !ready("containers of users by the service") {
        return;
    }
    let fuse = Podman::pulled(Program::FuseOverlayfs);
    let wanted = life(&user(&fuse));
    let podman = Podman::pulled(Program::Layerseal);
    let user = user(&podman);
    // A kernel, or a namespace around the tests, that lets no user have one.
    let first = user.run(&format!("podman run --rm {FRESH} true"));
    assert!(text(&first).contains("rootless") && text(&first).contains("R-X06"), "without the service: {first:?}");
    let mut service = Service::new(&podman);
    let seen = life(&user);
    for ((step, wanted), (_, seen)) in wanted.iter().zip(&seen) {
        assert!(!wanted.contains("Error:"), "{step}: {wanted}");
        assert_eq!(seen, wanted, "{step}");
    }
    // It is ours, and a container outlives the service.
    let output =
        user.run(&format!("podman run -d --name m {FRESH} sleep 1000; podman exec m cat /proc/self/mountinfo"));
    let root = text(&output);
    assert!(root.contains(" / / rw,nodev") && root.contains("overlay composefs:"), "{root}");
    service.restart();
    let output =
        user.run("podman exec m true && podman restart -t 0 m >/dev/null && podman exec m true; podman rm -f -t 0 m");
    assert!(output.status.success(), "{}", text(&output));
    // No flag of the mount can be cleared by its user.
    let output = user.run(&format!(
        "podman unshare sh -c 'm=$(podman image mount {FRESH}); grep -c composefs: /proc/self/mountinfo; \
         mount -o remount,bind,dev,ro $m && echo dev; mount -o remount,bind,nodev,rw $m && echo rw; \
         mount -o remount,bind,nodev,ro $m && echo none; podman image unmount -a >/dev/null'"
    ));
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    assert_eq!(said, "1\nnone\n", "{}", text(&output));
    // What a rule asks nothing of is podman's, under the same policy.
    let output = user.run(&format!(
        "podman tag {FRESH} localhost/free; podman untag {FRESH} {FRESH}; podman run --rm localhost/free cat /proc/self/mountinfo"
    ));
    assert!(text(&output).contains("fuse-overlayfs"), "a rule for localhost: {}", text(&output));
    // And what the policy asks a seal of, and has none.
    let name = "registry.example.com/acme/none";
    let output = user.run(&format!("podman tag localhost/free {name}; podman run --rm {name} true"));
    assert!(!output.status.success() && text(&output).contains("R-D18"), "{}", text(&output));
    let output = user.run(
        "podman rm -fa; podman rmi -fa; ls -A .local/share/containers/storage/overlay | grep -v -e ^l$ -e has-mount",
    );
    assert!(!text(&output).contains("busy"), "{}", text(&output));
}

/// That takes a fifth of a start, and there is nothing that the answer would change.
#[test]
fn starts_of_users_do_not_ask_podman_which_one_it_is() {
    if !ready("what podman is asked for in a start") {
        return;
    }
    for program in [Program::Layerseal, Program::Hooked] {
        let podman = Podman::pulled(program);
        let user = user(&podman);
        let _service = Service::new(&podman);
        // Where layerseal looks first.
        let wrapper = "#!/bin/sh\necho \"$1\" >>/var/tmp/asked\nexec /usr/bin/podman \"$@\"\n";
        podman.host.sh(&format!(
            "printf '{wrapper}' >/usr/local/sbin/podman; chmod 755 /usr/local/sbin/podman; touch /var/tmp/asked; chmod 666 /var/tmp/asked"
        ));
        let asked = |script: &str| {
            let output = user.run(&format!(": >/var/tmp/asked; {script} >/dev/null && cat /var/tmp/asked"));
            assert!(output.status.success(), "{program:?}: {script}: {}", text(&output));
            String::from_utf8(output.stdout).unwrap()
        };
        assert_eq!(asked(&format!("podman run --rm {FRESH} true")), "", "{program:?}");
        // A verb of the user's does.
        assert!(asked(&format!("{} images", common::binary().display())).contains("--version"), "{program:?}");
    }
}

#[test]
fn r04_an_erofs_image_that_is_changed_under_a_mount_changes_nothing() {
    if !ready("EROFS images that are changed") {
        return;
    }
    let podman = Podman::pulled(Program::Layerseal);
    let user = user(&podman);
    let _service = Service::new(&podman);
    let output =
        user.run(&format!("podman run -d --name m {FRESH} sleep 1000; podman exec m cat /proc/self/mountinfo"));
    let mountinfo = text(&output);
    let digest = mountinfo.split(" - overlay composefs:").nth(1).and_then(|rest| rest.split(' ').next());
    let digest = digest.unwrap_or_else(|| panic!("{mountinfo}"));
    let file =
        format!("/var/tmp/home/.local/share/containers/storage/layerseal/objects/{}/{}", &digest[..2], &digest[2..]);
    let list = "podman exec m sh -c 'find / -xdev | sort | head -200 | xargs stat -c \"%n %A %u %g %s\"'";
    let before = text(&user.run(list));
    assert!(before.contains("/usr/bin/busybox"), "{before}");
    // Every byte of it, as its owner may.
    let change = user.run(&format!(
        "chmod u+w {file}; size=$(stat -c %s {file}); head -c $size /dev/zero | tr '\\0' x | dd of={file} conv=notrunc"
    ));
    assert_eq!(change.status.success(), !has_verity(), "{}", text(&change));
    host_forgets(&podman);
    assert_eq!(text(&user.run(list)), before);
    // The next one is made from what the service has, or from what fs-verity protects.
    let run = format!("podman run --rm {FRESH} true");
    let again = user.run(&run);
    assert!(again.status.success(), "{}", text(&again));
    copies_are_forgotten(&podman);
    let later = user.run(&run);
    assert_eq!(later.status.success(), has_verity(), "{}", text(&later));
    assert!(has_verity() || text(&later).contains("R-G03"), "{}", text(&later));
    user.run("podman rm -f -t 0 m");
}

/// A service that nobody calls ends, and keeps nothing.
fn copies_are_forgotten(podman: &Podman) {
    let binary = common::binary().display().to_string();
    podman.host.sh(&format!("{binary} serve --socket /run/unused.sock --idle 0 && rm /run/unused.sock"));
}

/// What is read next comes from the disk.
pub fn host_forgets(podman: &Podman) {
    podman.host.sh("sync; echo 3 >/proc/sys/vm/drop_caches");
}

#[test]
fn r_hooks_know_the_mounts_of_the_service() {
    if !ready("hooks for users") {
        return;
    }
    let podman = Podman::pulled(Program::Guarded);
    let user = user(&podman);
    let run = format!("podman run --rm {FRESH} cat /proc/self/mountinfo");
    assert!(!user.run(&run).status.success(), "without the service");
    let _service = Service::new(&podman);
    let output = user.run(&run);
    assert!(output.status.success() && text(&output).contains(" - overlay composefs:"), "{}", text(&output));
    // Other IDs, in a home as useradd(8) makes it: newer podman binds the root elsewhere, where these can reach it.
    podman.host.sh("chmod 700 /var/tmp/home");
    for ids in ["--userns=keep-id", "--uidmap 0:100:5000 --gidmap 0:100:5000"] {
        let output = user.run(&format!("podman run --rm {ids} {FRESH} cat /proc/self/mountinfo"));
        assert!(output.status.success() && text(&output).contains(" - overlay composefs:"), "{ids}: {}", text(&output));
    }
    // A root that others mounted.
    let other =
        user.run(&format!("podman --storage-opt overlay.mount_program=/usr/bin/fuse-overlayfs run --rm {FRESH} true"));
    assert!(!other.status.success(), "{}", text(&other));
}

/// Calls as `user`, in a user and mount namespace of its own, after `before` has run there.
pub fn call(user: &User<'_>, before: &str, attacks: &str) -> Output {
    calling(user, before, attacks).output().unwrap()
}

fn calling(user: &User<'_>, before: &str, attacks: &str) -> Command {
    let own = std::env::current_exe().unwrap();
    let script = format!(
        "export LAYERSEAL_ATTACK='{attacks}'; exec unshare --user --map-root-user --mount sh -euc \
         '{before} exec {} --ignored --exact caller::caller --nocapture'",
        own.display()
    );
    user.command(&script)
}

/// What came of each.
pub fn outcomes(output: &Output) -> Vec<(String, String)> {
    let all = text(output);
    let lines = all.lines().filter_map(|line| line.strip_prefix('[')?.split_once("] "));
    let found: Vec<_> = lines.map(|(name, outcome)| (name.to_owned(), outcome.to_owned())).collect();
    assert!(!found.is_empty(), "{all}");
    found
}

#[test]
fn r_callers_get_nothing_that_is_not_theirs() {
    if !ready("callers of the service") {
        return;
    }
    let podman = Podman::pulled(Program::Layerseal);
    let user = user(&podman);
    let host = &podman.host;
    let service = Service::new(&podman);
    let first = user.run(&format!("podman run --rm {FRESH} true"));
    assert!(first.status.success(), "{}", text(&first));
    user.run("cd; mkdir -p layer/diff layer/work full/diff full/work/mine link bound fuse/lower fuse/merged; ln -s /etc link/diff; mkdir link/work");
    host.sh("mkdir -p /var/tmp/others/diff /var/tmp/others/work; chmod -R 777 /var/tmp/others; mkdir -p /var/tmp/another/diff /var/tmp/another/work; chown -R 1235 /var/tmp/another; chmod -R 777 /var/tmp/another; mkdir -p /etc/diff /etc/work");
    host.sh("rm -rf /var/tmp/home/roots; mkdir -p /var/tmp/home/roots/work; cd /var/tmp/home; mkdir roots/diff; chown 1234 roots roots/diff roots/work; mkdir -p roots/work/work; echo kept >roots/work/work/file");
    let before = (service.at_rest(), host.mounts());
    // Without fs-verity the service mounts its own copy of what was signed, whatever it is handed.
    let other = if has_verity() { "G0" } else { "mounted" };
    let expected = [
        ("good", "mounted"),
        ("native", "mounted"),
        ("native-readonly", "R01"),
        ("readonly", "mounted"),
        ("above", "mounted"),
        ("raw:x", "R01"),
        ("long", "R01"),
        ("half:0", "R01"),
        ("half:1", "R01"),
        ("half:50", "R01"),
        ("half:99", "R01"),
        ("more", "R01"),
        ("less", "R01"),
        ("name:", "R01"),
        ("layer:/etc", "R03"),
        ("layer:/var/tmp/another", "R03"),
        ("layer:/var/tmp/home/bound", "R03"),
        ("layer:/var/tmp/others", "R03"),
        ("layer:/var/tmp/home/full", "R03"),
        ("layer:/var/tmp/home/link", "R03"),
        ("layer:/var/tmp/home/roots", "R03"),
        ("attached", "R03"),
        ("upper:/etc", "R03"),
        ("upper:/var/tmp/home/layer/diff", "R03"),
        ("work:/var/tmp/home/full/work", "R03"),
        ("same", "R03"),
        ("above:/etc", "R03"),
        ("above:/var/tmp/others", "R03"),
        ("upper-odd:device", "R03"),
        ("upper-odd:pipe", "R03"),
        ("upper-odd:fuse", "R03"),
        ("objects:/etc", "R03"),
        ("objects:/proc", "R03"),
        ("objects:other", "R03"),
        ("objects:directory", "R03"),
        ("erofs:directory", "R04"),
        ("erofs:path", "R04"),
        ("erofs:device", "R04"),
        ("erofs:pipe", "R04"),
        ("erofs:socket", "R04"),
        ("erofs:proc", "R04"),
        ("erofs:memfd", "R04"),
        ("erofs:writable", "R04"),
        ("erofs:fuse", "R04"),
        ("erofs-writable", "R04"),
        ("erofs:other", other),
        ("erofs-changed", other),
        ("namespace:/proc/self/ns/mnt", "R02"),
        ("namespace:/proc/self/ns/user", "mounted"),
        ("namespace:device", "R02"),
        ("namespace:other", "R02"),
        ("native-namespace:/var/tmp/home/child", "mounted"),
        // Its IDs would be compared with others than the hook's.
        ("native-namespace:/var/tmp/home/grandchild", "R02"),
        ("unsealed", "C07"),
        ("unsigned", "C04"),
        ("replayed", "D"),
        ("name:registry.example.com/acme/other", "D18"),
        ("verdict", "verified, by"),
        ("verdict:descriptors", "R01"),
        ("verdict:unsigned", "C04"),
        ("verdict:registry.example.com/acme/other", "D18"),
        ("mounts-and-more", "R01"),
        ("mounts", "mounts of 1234"),
    ];
    let attacks: Vec<&str> = expected.iter().map(|(name, _)| *name).collect();
    // A filesystem that a program of the user's answers for.
    let fuse = "echo x >/var/tmp/home/fuse/lower/erofs; fuse-overlayfs -o lowerdir=/var/tmp/home/fuse/lower /var/tmp/home/fuse/merged; \
                mount --bind /etc /var/tmp/home/bound; cd /var/tmp/home; rm -f ready hold; mkfifo ready hold; exec 8<>ready 9<>hold;";
    // Two that wait in namespaces of their own as long as the caller lives.
    let waits = "echo \\$\\$ >NAME; echo >ready; exec cat <hold";
    let end = ">/dev/null 2>&1 9>&- & read x <&8;";
    let child = format!("unshare --user --map-root-user sh -c \"{}\" {end}", waits.replace("NAME", "child"));
    let deeper = waits.replace("NAME", "grandchild").replace('\\', "\\\\\\");
    let deeper = format!("unshare --user --map-root-user sh -c \\\"{deeper}\\\"");
    let grandchild = format!("unshare --user --map-root-user sh -c \"{deeper}\" {end}");
    let before_each = format!("{fuse} {child} {grandchild}");
    // Fewer at a time than a user may have.
    let mut seen = Vec::new();
    for some in attacks.chunks(25) {
        seen.extend(outcomes(&call(&user, &before_each, &some.join(" "))));
    }
    for ((name, wanted), (seen_name, seen)) in expected.iter().zip(&seen) {
        assert_eq!(name, seen_name);
        assert!(seen.starts_with(wanted), "{name}: {seen}, not {wanted}");
    }
    assert_eq!(seen.len(), expected.len());
    assert_eq!(host.sh("cat /var/tmp/home/roots/work/work/file"), "kept\n");
    assert_eq!(
        host.sh("ls -A /etc/diff /etc/work /var/tmp/others/diff /var/tmp/others/work"),
        "/etc/diff:\n\n/etc/work:\n\n/var/tmp/others/diff:\n\n/var/tmp/others/work:\n"
    );
    assert_eq!((service.at_rest(), host.mounts()), before, "something is left");
    let last = user.run(&format!("podman run --rm {FRESH} true"));
    assert!(last.status.success(), "{}", text(&last));
}

#[test]
fn r02_r05_whoever_stays_dies_or_calls_without_end_stops_nobody() {
    if !ready("callers of the service without end") {
        return;
    }
    let podman = Podman::pulled(Program::Layerseal);
    let user = user(&podman);
    let host = &podman.host;
    let service = Service::new(&podman);
    let first = user.run(&format!("podman run --rm {FRESH} true"));
    assert!(first.status.success(), "{}", text(&first));
    user.run("cd; mkdir -p layer/diff layer/work");
    host.sh("chmod a+rx /var/tmp/home");
    let before = (service.at_rest(), host.mounts());
    let came = |output: &Output| outcomes(output).remove(0).1;
    for at in ["dies:0", "dies:1", "dies:30", "dies:99", "dies:100"] {
        assert_eq!(came(&call(&user, "", at)), "gone", "{at}");
    }
    assert_eq!((service.at_rest(), host.mounts()), before, "something is left of callers that died");
    // Who is in no namespace of its own, or in somebody else's.
    let own = std::env::current_exe().unwrap().display().to_string();
    let caller = format!("{own} --ignored --exact caller::caller --nocapture");
    let run = |script: &str| user.run(&format!("export LAYERSEAL_ATTACK=raw:x; {script} {caller}"));
    assert!(came(&run("")).contains("it is in none"));
    let forged = |unshare: &str| host.shell(&format!("export LAYERSEAL_ATTACK=raw:x; {unshare} {caller}"));
    assert!(came(&forged("")).contains("it is in none"), "root");
    assert!(came(&forged("unshare --user --map-root-user")).starts_with("R02"), "root in a namespace");
    host.sh("echo root:1234:1 >>/etc/subuid; echo root:1234:1 >>/etc/subgid");
    let made = "unshare --user --map-users=1234,0,1 --map-groups=1234,0,1 --setuid 0 --setgid 0";
    assert!(came(&forged(made)).contains("user 0 made it"), "{}", text(&forged(made)));
    // As many as one user may have at a time wait for their time to be over, and all others are told at once; meanwhile
    // another user is answered.
    let other = "setpriv --reuid 1235 --regid 1235 --clear-groups unshare --user --map-root-user";
    let mut stays = calling(&user, "", "stays");
    let stays = stays.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let begun = std::time::Instant::now();
    let heard = came(&forged(other));
    assert!(heard.starts_with("R01") && begun.elapsed().as_secs() < 8, "{heard}");
    let stays = came(&stays.wait_with_output().unwrap());
    let (answered, told) = (stays.matches("R01").count(), stays.matches("R05").count());
    assert!(answered == 8 && told > 6 && told + stays.matches("nothing").count() == 12, "{stays}");
    // No more than a user has at once, and what comes back meanwhile: under emulation that is thousands.
    let begun = std::time::Instant::now();
    let answered: u128 = came(&call(&user, "", "many:10000")).parse().unwrap();
    let allowed = 400 + begun.elapsed().as_millis() / 50;
    assert!(answered > 0 && answered <= allowed, "{answered} of {allowed}");
    assert!(came(&forged(other)).starts_with("R01"));
    assert_eq!((service.at_rest(), host.mounts()), before, "something is left");
    // In a moment the user has some again.
    let last = user.run(&format!("sleep 1; podman run --rm {FRESH} true"));
    assert!(last.status.success(), "{}", text(&last));
}

#[test]
fn r05_callers_that_are_dead_are_no_users_of_their_own() {
    use std::io::{BufRead as _, BufReader, Read as _, Write as _};
    if !ready("dead callers of the service") {
        return;
    }
    let podman = Podman::pulled(Program::Layerseal);
    let user = user(&podman);
    let mut service = Service::new(&podman);
    let first = user.run(&format!("podman run --rm {FRESH} true"));
    assert!(first.status.success(), "{}", text(&first));
    // Before it is started all of them connect and end, so that it sees none of them alive: more than it has places.
    service.ends_by("TERM");
    let own = std::env::current_exe().unwrap().display().to_string();
    let call = format!(
        "export LAYERSEAL_ATTACK=zombies:70; exec podman unshare {own} --ignored --exact caller::caller --nocapture"
    );
    let mut zombies = user.command(&call).stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
    let mut said = BufReader::new(zombies.stdout.take().unwrap());
    let mut line = String::new();
    while !line.contains("[zombies] ready") {
        line.clear();
        assert_ne!(said.read_line(&mut line).unwrap(), 0, "it ended");
    }
    service.begins();
    writeln!(zombies.stdin.take().unwrap(), "go on").unwrap();
    let mut rest = String::new();
    said.read_to_string(&mut rest).unwrap();
    zombies.wait().unwrap();
    let heard = rest.lines().find_map(|line| line.strip_prefix("[zombies:70] ")).unwrap_or_else(|| panic!("{rest}"));
    // None of them took a place: whose time was over would be told so.
    let ignored = heard.split("; ").all(|one| one.starts_with("nothing: ") && !one.contains("timed out"));
    assert!(ignored, "{heard}");
    let last = user.run(&format!("podman run --rm {FRESH} true"));
    assert!(last.status.success(), "{}", text(&last));
}

#[test]
fn r_an_object_that_its_user_changed_is_not_read() {
    if !ready("objects of users") {
        return;
    }
    if !has_verity() {
        support::skip!("objects of users: needs fs-verity");
    }
    let podman = Podman::pulled(Program::Layerseal);
    let user = user(&podman);
    let _service = Service::new(&podman);
    let reads = |wanted: bool| {
        let output = user.run(&format!("podman run --rm {FRESH} sha256sum /usr/share/big"));
        assert_eq!(output.status.success(), wanted, "{}", text(&output));
        text(&output)
    };
    reads(true);
    let all = "cd .local/share/containers/storage/layerseal/objects; o=$(find . -type f -size 1500001c)";
    // It is the user's own to replace, and the kernel that finds it out, in a container that runs and in the next.
    let output = user.run(&format!(
        "podman run -d --name m {FRESH} sleep 1000 >/dev/null; cd; {all}; cp $o ~/new; printf x | dd of=$HOME/new conv=notrunc 2>/dev/null; \
         mv $o ~/old; mv ~/new $o; cd; podman exec m sha256sum /usr/share/big; podman rm -f -t 0 m >/dev/null"
    ));
    assert!(text(&output).contains("I/O error") || text(&output).contains("Input/output error"), "{}", text(&output));
    assert!(reads(false).contains("/O error") || reads(false).contains("output error"));
    user.run(&format!("cd; {all}; mv ~/old $o"));
    reads(true);
}

#[test]
fn r07_a_file_of_others_in_a_directory_of_the_user_is_not_read_as_an_object() {
    if !ready("files of others among objects") {
        return;
    }
    for program in [Program::Layerseal, Program::Hooked] {
        let podman = Podman::pulled(program);
        let user = user(&podman);
        let policy = default_policy().replace("\"require\"", "\"off\"");
        podman.policy(&format!("{policy}[rootless]\nmode = \"enforce\"\n"));
        let _service = Service::new(&podman);
        let read = format!("podman run --rm {FRESH} head -c 30 /usr/share/big");
        // What root wrote in the user's home: its owner may rename it, and not read it.
        podman.host.sh("echo what only root may read >/var/tmp/home/roots; chmod 600 /var/tmp/home/roots");
        let first = user.run(&format!("! cat ~/roots 2>/dev/null; {read}"));
        assert!(first.status.success(), "{}", text(&first));
        let objects = "cd ~/.local/share/containers/storage/layerseal/objects";
        let swapped = user.run(&format!(
            "{objects}; o=$(find . -type f -size 1500001c); echo $o >~/place; mv $o ~/kept; mv ~/roots $o; cd; {read}"
        ));
        assert!(!text(&swapped).contains("what only root may read"), "{program:?}: {}", text(&swapped));
        // Its own it may change, where nothing is measured; and what its namespace has.
        let own = user.run(&format!("{objects}; o=$(cat ~/place); mv $o ~/roots; cp ~/kept $o; cd; {read}"));
        assert!(own.status.success() && text(&own) == text(&first), "{program:?}: {}", text(&own));
    }
}

#[test]
fn r04_containers_of_an_image_have_one_copy_of_its_erofs_image() {
    if !ready("copies of EROFS images") {
        return;
    }
    let podman = Podman::pulled(Program::Layerseal);
    let user = user(&podman);
    podman.policy(&format!("{}[rootless]\nmode = \"enforce\"\n", default_policy().replace("\"require\"", "\"off\"")));
    let _service = Service::new(&podman);
    let copies = || podman.host.sh("cd /var/lib/layerseal/copies && stat -c '%n %i %u %a' *");
    let runs = |name: &str| {
        let output = user.run(&format!("podman run -d --name {name} {FRESH} sleep 1000"));
        assert!(output.status.success(), "{}", text(&output));
    };
    runs("one");
    let first = copies();
    assert!(first.lines().count() == 1 && first.trim().ends_with(" 0 600"), "{first}");
    runs("two");
    assert_eq!(copies(), first);
    // Of a copy that is not right another one is made, and what is mounted stays as it was.
    podman
        .host
        .sh("cd /var/lib/layerseal/copies && cp * /var/tmp/x && truncate -s 4096 /var/tmp/x && mv -f /var/tmp/x $(ls)");
    runs("three");
    assert_ne!(copies(), first);
    copies_are_forgotten(&podman);
    assert_eq!(podman.host.sh("ls -A /var/lib/layerseal/copies"), "");
    for name in ["one", "two", "three"] {
        let output =
            user.run(&format!("podman exec {name} sha256sum /usr/share/big; podman rm -f -t 0 {name} >/dev/null"));
        assert!(output.status.success() && text(&output).contains("/usr/share/big"), "{}", text(&output));
    }
}
