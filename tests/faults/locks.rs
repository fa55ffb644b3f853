//! A holder of each lock that was stopped: others wait for ten seconds at most, or go on without it.

use std::io::{BufRead as _, BufReader};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use layerseal::digest::BlobDigest;
use layerseal::vault::Vault;

use crate::common::{Bench, Layout, two_layers};
use crate::host::{APP, ENFORCE, Host};
use crate::sandbox::Ran;
use crate::{PULL, image, sealed};

/// The vault, and what is to be held of it, for [`hold`] in a process of its own.
const HELD: &str = "LAYERSEAL_TEST_HOLD";

/// Not a test of its own: what [`stopped`] runs.
#[test]
fn hold() {
    let Ok(what) = std::env::var(HELD) else { return };
    let (lock, path) = what.split_once(' ').unwrap();
    let vault = Vault::open(path.as_ref()).unwrap();
    let _held: Box<dyn std::any::Any> = match lock {
        "shared" => Box::new(vault.shared().unwrap()),
        "exclusive" => Box::new(vault.exclusive().unwrap()),
        _ => Box::new((vault.shared().unwrap(), vault.turn(&image()).unwrap())),
    };
    println!("\nheld");
    loop {
        std::thread::sleep(Duration::from_secs(1));
    }
}

struct Holder(Child);

impl Holder {
    fn of(bench: &Bench, lock: &str) -> Self {
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "locks::hold", "--nocapture"])
            .env(HELD, format!("{lock} {}", bench.vault().display()))
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let held = BufReader::new(child.stdout.take().unwrap()).lines().map_while(Result::ok).any(|l| l == "held");
        assert!(held);
        Self(child)
    }

    fn stop(&self) {
        let pid = rustix::process::Pid::from_child(&self.0);
        rustix::process::kill_process(pid, rustix::process::Signal::STOP).unwrap();
    }
}

impl Drop for Holder {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn bench() -> Bench {
    let bench = Bench::new();
    sealed(&bench);
    bench.run(&PULL).ok();
    bench
}

fn in_ten_seconds<T>(work: impl FnOnce() -> T) -> T {
    let begin = Instant::now();
    let done = work();
    assert!(begin.elapsed() < Duration::from_secs(20), "{:?}", begin.elapsed());
    done
}

#[test]
fn x08_a_stopped_collection_keeps_nobody_for_long() {
    let bench = bench();
    let holder = Holder::of(&bench, "exclusive");
    holder.stop();
    in_ten_seconds(|| bench.run(&["images"]).refused(7, "X08"));
    drop(holder);
    bench.run(&["images"]).ok();
}

#[test]
fn x08_a_stopped_start_keeps_a_collection_waiting_and_nobody_else() {
    let bench = bench();
    bench.run(&["untag", "app"]).ok();
    let holder = Holder::of(&bench, "shared");
    holder.stop();
    bench.run(&["images"]).ok();
    bench.run(&["pull", "oci:image", "--name", "other"]).ok();
    bench.run(&["untag", "other"]).ok();
    in_ten_seconds(|| bench.run(&["gc"]).refused(7, "X08"));
    drop(holder);
    bench.run(&["gc"]).ok();
}

#[test]
fn a_turn_is_waited_for_as_long_as_its_holder_lives_and_no_longer() {
    let bench = bench();
    let vault = Vault::open(&bench.vault()).unwrap();
    let holder = Holder::of(&bench, "turn");
    std::thread::scope(|scope| {
        let second = scope.spawn(|| {
            let begin = Instant::now();
            let turn = vault.turn(&image()).unwrap();
            drop(turn);
            begin.elapsed()
        });
        // Longer than anybody waits for one that gives no sign of life.
        std::thread::sleep(Duration::from_secs(12));
        assert!(!second.is_finished(), "it did not wait for one that is at work");
        // One that is dead is noticed at once.
        drop(holder);
        assert!(second.join().unwrap() < Duration::from_secs(14));
    });
    let holder = Holder::of(&bench, "turn");
    holder.stop();
    let begin = Instant::now();
    drop(vault.turn(&image()).unwrap());
    let waited = begin.elapsed();
    assert!((8..20).contains(&waited.as_secs()), "{waited:?}");
    drop(holder);
    assert!(std::fs::read_dir(bench.vault().join("locks")).unwrap().count() <= 1);
    // Nobody has it any more.
    let begin = Instant::now();
    drop(vault.turn(&image()).unwrap());
    assert!(begin.elapsed() < Duration::from_secs(2));
    assert_eq!(std::fs::read_dir(bench.vault().join("locks")).unwrap().count(), 0);
}

/// A stopped process that holds the lock of a directory, in a host's namespace where it has one.
fn stopped(mut command: Command, dir: &str) -> Holder {
    // One process from here on, which is the one that holds.
    let child = command.args(["--exclusive", "--no-fork", dir, "sleep", "120"]).spawn().unwrap();
    let holder = Holder(child);
    let held =
        || std::fs::read_to_string(format!("/proc/{}/comm", holder.0.id())).is_ok_and(|name| name.trim() == "sleep");
    let until = Instant::now() + Duration::from_secs(10);
    while !held() {
        assert!(Instant::now() < until, "{dir} is not held");
        std::thread::sleep(Duration::from_millis(20));
    }
    holder.stop();
    holder
}

/// How long something waited for a holder that never ends.
fn waited<T>(work: impl FnOnce() -> T) -> (T, Duration) {
    let begin = Instant::now();
    let done = work();
    (done, begin.elapsed())
}

/// Refused with this case, after so many seconds.
#[track_caller]
fn gives_up((ran, waited): (Ran, Duration), case: &str, seconds: std::ops::Range<u64>) {
    assert!(ran.code != 0 && ran.stderr.contains(&format!("[R-{case}]")), "{ran:?}");
    assert!(seconds.contains(&waited.as_secs()), "{waited:?}: {ran:?}");
}

#[test]
fn x08_a_stopped_change_of_a_layout_keeps_others_for_ten_seconds() {
    let bench = bench();
    let holder = stopped(Command::new("flock"), bench.path("image").to_str().unwrap());
    let sign = ["sign", "oci:image", "--cert", "signer.crt", "--key", "signer.key"];
    for verb in [&sign[..], &["push", "app", "oci:image:copy"], &["seal", "oci:image", "--inline"]] {
        let (_, waited) = waited(|| bench.run(verb).refused(7, "X08"));
        assert!((8..20).contains(&waited.as_secs()), "{verb:?}: {waited:?}");
    }
    // Who only reads waits for nobody.
    let (_, waited) = waited(|| bench.run(&["verify", "oci:image", "--trust", "signer.crt"]).ok());
    assert!(waited < Duration::from_secs(8), "{waited:?}");
    drop(holder);
    bench.run(&sign).ok();
}

#[test]
fn i07_a_stopped_start_keeps_others_of_its_container_for_ten_seconds() {
    let Some(host) = Host::new(ENFORCE) else { return };
    let image = host.image(APP);
    let (one, other) = (host.container("one", &image), host.container("other", &image));
    let holder = stopped(host.sandbox.command("flock"), &host.of(&one.layer, "diff"));
    gives_up(waited(|| host.start(&one)), "I07", 8..20);
    let (ran, waited) = waited(|| host.start(&other));
    ran.ok();
    assert!(waited < Duration::from_secs(8), "{waited:?}");
    drop(holder);
    host.start(&one).ok();
}

#[test]
fn d10_a_stopped_holder_of_the_floors_is_waited_for_ten_seconds() {
    let Some(host) = Host::bare(&format!("{ENFORCE}rollback = \"refuse\"\n")) else { return };
    host.sandbox.sh("mkdir -p /var/lib/layerseal && mount -t tmpfs -o mode=0755 none /var/lib/layerseal");
    Layout::new(&host.bench.path("counted"), &two_layers());
    let sign = ["sign", "oci:counted", "--cert", "signer.crt", "--key", "signer.key", "--identity", APP];
    host.layerseal(&[&sign[..], &["--sequence", "5"]].concat());
    host.layerseal(&["prepare", &format!("{APP}:v1"), "--seal", "oci:counted"]);
    let container = host.container("c", &host.image(APP));
    let raised = |host: &Host| host.sandbox.sh("cat /var/lib/layerseal/floors/*");
    assert!(raised(&host).ends_with("\n5\n"));
    // A warm start writes nothing, and waits for nobody; one that raises the floor does.
    let holder = stopped(host.sandbox.command("flock"), "/var/lib/layerseal/floors");
    let (ran, took) = waited(|| host.start(&container));
    ran.ok();
    assert!(took < Duration::from_secs(8), "{took:?}");
    host.unmount(&container);
    host.sandbox.sh("rm -f /var/lib/layerseal/floors/*");
    gives_up(waited(|| host.start(&container)), "D10", 8..20);
    drop(holder);
    host.start(&container).ok();
    assert!(raised(&host).starts_with(APP), "{}", raised(&host));
}

/// One asks the registry for all; the others wait as long as one may ask, and then go by what is here.
#[test]
fn c13_a_stopped_search_in_a_registry_is_waited_for_as_long_as_one_may_take() {
    let Some(host) = Host::bare(&format!("{ENFORCE}fetch = \"on-mount\"\nfetch_timeout = 3\n")) else { return };
    let image = host.image(APP);
    let manifest = std::fs::read(host.root.join("overlay-images").join(&image.id).join("manifest")).unwrap();
    let asked = format!("/run/layerseal/asked/{}", BlobDigest::of(&manifest).hex());
    host.sandbox.sh(&format!("mkdir -m 0700 -p '{asked}'"));
    let holder = stopped(host.sandbox.command("flock"), &asked);
    let container = host.container("c", &image);
    gives_up(waited(|| host.start(&container)), "C07", 2..10);
    host.forget_refused();
    // Seals that came meanwhile count.
    host.layerseal(&["prepare", &format!("{APP}:v1"), "--seal", "oci:app", "--seals-only"]);
    host.start(&container).ok();
    drop(holder);
}
