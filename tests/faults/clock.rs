//! A clock that is set: a year back, as a host has it that lost its battery, and ten years ahead. Nothing but the dates of
//! certificates goes by it.
//!
//! The program's clock is set, and not the kernel's: what is written gets the times that it has always had, and so all that
//! was there is from another time.

use std::os::unix::fs::MetadataExt as _;
use std::path::PathBuf;
use std::process::Command;
use std::sync::OnceLock;
use std::time::{Duration, Instant, SystemTime};

use layerseal::digest::BlobDigest;
use serde_json::json;

use crate::common::{Bench, Layout, Run, two_layers};
use crate::host::{APP, AUDIT, ENFORCE, Host, TOOL, binary, in_dir};
use crate::sandbox::Ran;
use crate::{PULL, nothing_is_left, sealed, whole};

const YEAR: i64 = 365 * 24 * 3600;

/// Seconds that the clock is wrong by.
const WRONG: [i64; 2] = [-YEAR, 10 * YEAR];

/// What the programs take their time from.
const SHIM: &str = r#"
#define _GNU_SOURCE
#include <stdlib.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <time.h>
#include <unistd.h>
static long long offset;
__attribute__((constructor)) static void begin(void) {
    const char *text = getenv("CLOCK_OFFSET");
    offset = text ? atoll(text) : 0;
}
int clock_gettime(clockid_t clock, struct timespec *now) {
    long failed = syscall(SYS_clock_gettime, clock, now);
    if (!failed && (clock == CLOCK_REALTIME || clock == CLOCK_REALTIME_COARSE)) now->tv_sec += offset;
    return failed;
}
time_t time(time_t *out) {
    struct timespec now;
    clock_gettime(CLOCK_REALTIME, &now);
    if (out) *out = now.tv_sec;
    return now.tv_sec;
}
int gettimeofday(struct timeval *restrict out, void *restrict zone) {
    struct timespec now;
    (void)zone;
    clock_gettime(CLOCK_REALTIME, &now);
    out->tv_sec = now.tv_sec;
    out->tv_usec = now.tv_nsec / 1000;
    return 0;
}
"#;

/// The library that has it, made once.
fn shim() -> Option<&'static str> {
    static MADE: OnceLock<Option<String>> = OnceLock::new();
    MADE.get_or_init(|| {
        let place = support::scratch_dir().join(format!("clock-{}", std::process::id()));
        let (source, library) = (place.with_extension("c"), place.with_extension("so"));
        // The same for all runs, and whole at any time.
        let kept = place.with_file_name("clock.so");
        std::fs::write(&source, SHIM).unwrap();
        let made = Command::new("cc").args(["-shared", "-fPIC", "-O1", "-o"]).arg(&library).arg(&source).status();
        let _ = std::fs::remove_file(source);
        if !made.is_ok_and(|status| status.success()) {
            return None;
        }
        std::fs::rename(library, &kept).unwrap();
        Some(kept.display().to_string())
    })
    .as_deref()
}

fn settings(seconds: i64) -> Option<[String; 2]> {
    Some([format!("LD_PRELOAD={}", shim()?), format!("CLOCK_OFFSET={seconds}")])
}

/// A verb at another time.
fn at(seconds: i64, bench: &Bench, args: &[&str]) -> Run {
    let mut command = bench.command(args);
    command.env("LD_PRELOAD", shim().unwrap()).env("CLOCK_OFFSET", seconds.to_string());
    command.env("TMPDIR", bench.dir.path());
    Run::of(command.output().unwrap())
}

/// The program in a host's namespace at another time.
fn on(seconds: i64, host: &Host, dir: PathBuf, args: &[&str]) -> Ran {
    let mut command = host.sandbox.command("env");
    command.args(settings(seconds).unwrap()).arg(binary()).args(args);
    host.sandbox.run(&mut in_dir(&host.sandbox, &dir, command))
}

fn verb(seconds: i64, host: &Host, args: &[&str]) -> Ran {
    let vault = host.root.join("layerseal").display().to_string();
    on(seconds, host, host.bench.dir.path().to_owned(), &[&["--vault", &vault], args].concat())
}

#[test]
fn l05_verbs_at_another_time() {
    if shim().is_none() {
        support::skip!("needs a C compiler");
    }
    for wrong in WRONG {
        let bench = Bench::new();
        sealed(&bench);
        // The clock is wrong indeed: by it the certificate is of another time.
        at(wrong, &bench, &PULL).refused(4, "E11");
        let pull = [&PULL[..], &["--dates", "ignore"]].concat();
        at(wrong, &bench, &pull).ok();
        whole(&bench);
        at(wrong, &bench, &["tag", "app", "other"]).ok();
        at(wrong, &bench, &["sign", "app", "--cert", "signer.crt", "--key", "signer.key"]).ok();
        at(wrong, &bench, &["push", "app", "oci:copy", "--signatures"]).ok();
        bench.run(&["verify", "oci:copy", "--trust", "signer.crt"]).ok();
        bench.run(&["untag", "app"]).ok();
        // What a killed process was fetching goes, what a living one is fetching stays, at whatever time it began.
        let (left, used) = (bench.path("layerseal-work.left"), bench.path("layerseal-work.used"));
        std::fs::create_dir(&left).unwrap();
        std::fs::create_dir(&used).unwrap();
        let open = layerseal::sys::files::open_dir(&used).unwrap();
        rustix::fs::flock(&open, rustix::fs::FlockOperation::LockExclusive).unwrap();
        at(wrong, &bench, &["gc"]).ok();
        assert!(!left.exists() && used.exists());
        at(wrong, &bench, &["fsck"]).ok();
        std::fs::remove_dir_all(bench.vault().join("objects")).unwrap();
        std::fs::create_dir(bench.vault().join("objects")).unwrap();
        at(wrong, &bench, &["fsck", "--repair"]).ok();
        nothing_is_left(&bench);
        bench.run(&["fsck"]).ok();
        bench.run(&["verify", "other", "--trust", "signer.crt"]).ok();
    }
}

/// Starts, records of mounts, notes of upper directories, rollback floors.
#[test]
fn l05_starts_at_another_time() {
    if shim().is_none() {
        support::skip!("needs a C compiler");
    }
    for wrong in WRONG {
        let policy = format!("{ENFORCE}dates = \"ignore\"\nrollback = \"refuse\"\nupper = \"empty\"\n");
        let Some(host) = Host::bare(&policy) else { return };
        host.sandbox.sh("mkdir -p /var/lib/layerseal && mount -t tmpfs -o mode=0755 none /var/lib/layerseal");
        Layout::new(&host.bench.path("counted"), &two_layers());
        let sign = ["sign", "oci:counted", "--cert", "signer.crt", "--key", "signer.key", "--identity", APP];
        verb(wrong, &host, &[&sign[..], &["--sequence", "5"]].concat());
        let ran = verb(wrong, &host, &["prepare", &format!("{APP}:v1"), "--seal", "oci:counted"]);
        assert_eq!(ran.code, 0, "{ran:?}");
        let image = host.image(APP);
        // Each time by the other clock than the time before.
        let container = host.container("c", &image);
        for seconds in [wrong, 0, wrong] {
            let merged = host.of(&container.layer, "merged");
            let start = ["-o", &host.options(&container), &merged];
            let ran = on(seconds, &host, host.root.join("overlay"), &start);
            assert_eq!((ran.code, ran.stderr.as_str()), (0, ""), "{seconds}: {ran:?}");
            assert_eq!(host.read(&container, "usr/bin/tool").unwrap(), TOOL);
            // What it has written since is its own, whenever that was.
            std::fs::write(host.merged(&container).join("etc/own"), seconds.to_string()).unwrap();
            for seconds in [wrong, 0] {
                let shown = verb(seconds, &host, &["status", "--json"]);
                assert!(shown.code == 0 && shown.stdout.contains(&merged), "{seconds}: {shown:?}");
            }
            let ran = verb(wrong, &host, &["gc"]);
            assert_eq!(ran.code, 0, "{ran:?}");
            assert_eq!(host.read(&container, "usr/bin/tool").unwrap(), TOOL, "gc took what is mounted");
            host.unmount(&container);
        }
        // The floor was raised by the other clock, and counts by this one.
        assert!(host.sandbox.sh("cat /var/lib/layerseal/floors/*").contains("\n5\n"));
        let floors = "cd /var/lib/layerseal/floors && for f in *; do printf '%s\\n9\\n' \"$(head -n 1 $f)\" >$f; done";
        host.sandbox.sh(floors);
        let start = ["-o", &host.options(&container), &host.of(&container.layer, "merged")];
        let ran = on(wrong, &host, host.root.join("overlay"), &start);
        assert!(ran.code != 0 && ran.stderr.contains("[R-D1"), "{ran:?}");
    }
}

/// When a registry was asked last: a note from another time is no reason never to ask again, nor to ask each time.
#[test]
fn l05_a_registry_is_asked_again_whatever_the_clock_says() {
    if shim().is_none() {
        support::skip!("needs a C compiler");
    }
    for wrong in WRONG {
        let Some(host) = Host::bare(&format!("{AUDIT}fetch = \"on-mount\"\nfetch_timeout = 2\n")) else { return };
        let image = host.image(APP);
        // Nobody listens there.
        host.edit("overlay-images/images.json", |all| {
            let ours = all.iter_mut().filter(|i| i["id"] == image.id.as_str());
            ours.for_each(|i| i["names"] = json!(["127.0.0.1:1/acme/app:v1"]));
        });
        let manifest = std::fs::read(host.root.join("overlay-images").join(&image.id).join("manifest")).unwrap();
        let note = host.sandbox.path(&PathBuf::from("/run/layerseal/asked")).join(BlobDigest::of(&manifest).hex());
        let mut before = 0;
        for (number, (seconds, asks)) in [(0, true), (0, false), (wrong, true), (0, false)].iter().enumerate() {
            let container = host.container(&format!("c{number}"), &image);
            let start = ["-o", &host.options(&container), &host.of(&container.layer, "merged")];
            let ran = on(*seconds, &host, host.root.join("overlay"), &start);
            assert_eq!(ran.code, 0, "{ran:?}");
            let now = note.join("last").metadata().unwrap().ino();
            assert_eq!(now != before, *asks, "{wrong}: start {number}");
            before = now;
        }
    }
}

/// A process shows that it lives by changing a time, to whatever.
#[test]
fn l05_turns_do_not_go_by_the_clock() {
    let bench = Bench::new();
    sealed(&bench);
    bench.run(&PULL).ok();
    let vault = layerseal::vault::Vault::open(&bench.vault()).unwrap();
    let image = crate::image();
    let path = bench.vault().join("locks").join(image.hex());
    let ahead = SystemTime::now() + Duration::from_secs(10 * YEAR.unsigned_abs());
    let back = SystemTime::now() - Duration::from_secs(YEAR.unsigned_abs());
    // One that was left at another time is nobody's.
    for time in [ahead, back] {
        drop(vault.turn(&image).unwrap());
        std::fs::File::create(&path).unwrap().set_modified(time).unwrap();
        let begin = Instant::now();
        drop(vault.turn(&image).unwrap());
        assert!(begin.elapsed() < Duration::from_secs(5));
    }
    // The clock is set twice while the holder stands still: it is waited for no more than ten seconds longer.
    let file = std::fs::File::create(&path).unwrap();
    rustix::fs::flock(&file, rustix::fs::FlockOperation::LockExclusive).unwrap();
    let begin = Instant::now();
    std::thread::scope(|scope| {
        let other = scope.spawn(|| drop(vault.turn(&image).unwrap()));
        for time in [ahead, back] {
            std::thread::sleep(Duration::from_secs(1));
            file.set_modified(time).unwrap();
        }
        other.join().unwrap();
    });
    let waited = begin.elapsed().as_secs();
    assert!((10..20).contains(&waited), "{waited}");
}
