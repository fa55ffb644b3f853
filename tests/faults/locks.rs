//! A holder of each lock that was stopped: others wait for ten seconds at most, or go on without it.

use std::io::{BufRead as _, BufReader};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use layerseal::digest::BlobDigest;
use layerseal::vault::Vault;

use crate::common::Bench;
use crate::{PULL, sealed};

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

fn image() -> BlobDigest {
    BlobDigest::of(b"some image")
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
