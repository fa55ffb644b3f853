//! What one run of a command costs, and a file where that is recorded.

// wait4(2) and sync(2), which no crate here offers.
#![allow(unsafe_code)]

use std::io::Write as _;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use serde_json::{Value, json};

/// What a run took.
#[derive(Clone, Copy, Debug, Default)]
pub struct Usage {
    /// Seconds on the clock.
    pub wall: f64,
    /// Seconds of processor, in the program and in the kernel for it, children included.
    pub cpu: f64,
    /// Most memory at a time, in MB (`ru_maxrss`): of the largest process, not the sum.
    pub memory: f64,
    /// Pages that were missing, and were there or made without reading the disk (`ru_minflt`).
    pub faults: f64,
}

/// Runs a command that reads nothing to its end; it must succeed.
pub fn usage(command: &mut Command) -> Usage {
    usage_with(command, Stdio::null())
}

/// Does the same with a standard input.
// wait4(2) waits for it, and returns more than the standard library does.
#[allow(clippy::zombie_processes)]
pub fn usage_with(command: &mut Command, input: Stdio) -> Usage {
    command.stdin(input);
    let start = Instant::now();
    let child = command.spawn().unwrap_or_else(|e| panic!("{command:?}: {e}"));
    let (mut status, mut usage) = (0, std::mem::MaybeUninit::<libc::rusage>::zeroed());
    // SAFETY: the pointers are to live variables of the types that wait4(2) fills in.
    let waited = unsafe { libc::wait4(child.id() as i32, &raw mut status, 0, usage.as_mut_ptr()) };
    let wall = start.elapsed().as_secs_f64();
    assert!(waited == child.id() as i32 && status == 0, "{command:?}: {status}");
    // SAFETY: all zeros is a value of this type, and wait4(2) has filled it in.
    let usage = unsafe { usage.assume_init() };
    let seconds = |t: libc::timeval| t.tv_sec as f64 + t.tv_usec as f64 / 1e6;
    Usage {
        wall,
        cpu: seconds(usage.ru_utime) + seconds(usage.ru_stime),
        memory: usage.ru_maxrss as f64 / 1024.0,
        faults: usage.ru_minflt as f64,
    }
}

/// Runs a command that is not measured.
pub fn done(command: &mut Command) {
    let status = command.stdin(Stdio::null()).status().unwrap_or_else(|e| panic!("{command:?}: {e}"));
    assert!(status.success(), "{command:?}: {status}");
}

/// Makes the kernel write everything to the disk.
pub fn flush() {
    // SAFETY: sync(2) has neither arguments nor errors.
    unsafe { libc::sync() };
}

/// Makes the kernel forget what it has of files, so that all begin alike.
pub fn forget() {
    flush();
    std::fs::write("/proc/sys/vm/drop_caches", "3").unwrap();
}

/// Reads files, so that the kernel has them.
pub fn remember(dir: &Path) {
    for entry in std::fs::read_dir(dir).unwrap() {
        std::io::copy(&mut std::fs::File::open(entry.unwrap().path()).unwrap(), &mut std::io::sink()).unwrap();
    }
}

/// Removes what was written, before a command is measured that writes.
pub fn remove(dir: &Path) {
    std::fs::remove_dir_all(dir).unwrap();
    settle();
}

/// Waits until ext4 is at rest. Without a journal it skips inodes that were deleted in the last minute one by one
/// (`recently_deleted`, fs/ext4/ialloc.c): whoever writes next would pay for it.
pub fn settle() {
    flush();
    std::thread::sleep(Duration::from_secs(65));
}

/// One line of one table.
pub struct Line<'a> {
    /// The table.
    pub table: &'a str,
    /// What all tools were given: lines of one case are compared.
    pub case: &'a str,
    /// The tool that did it.
    pub tool: &'a str,
}

impl Line<'_> {
    /// Shows the line and appends it to the file of results, if there is one.
    pub fn record(&self, runs: &[Usage]) {
        let all = |of: fn(&Usage) -> f64| runs.iter().map(of).collect::<Vec<_>>();
        let (wall, cpu, memory) = (all(|u| u.wall), all(|u| u.cpu), all(|u| u.memory));
        println!(
            "  {:<28} {:<34} {:>9.4} s   {:>8.4} s CPU   {:>6.0} MB",
            self.case,
            self.tool,
            median(&wall),
            median(&cpu),
            median(&memory)
        );
        self.write(json!({"wall": wall, "cpu": cpu, "memory": memory}));
    }

    /// Records one number like [`Self::record`], in another unit.
    #[allow(dead_code)] // this file is part of several benchmarks
    pub fn value(&self, unit: &str, value: f64) {
        println!("  {:<28} {:<34} {value:>9.2} {unit}", self.case, self.tool);
        self.write(json!({"unit": unit, "value": value}));
    }

    fn write(&self, mut line: Value) {
        let Some(path) = std::env::var_os("LAYERSEAL_BENCH_RESULTS") else { return };
        line["table"] = self.table.into();
        line["case"] = self.case.into();
        line["tool"] = self.tool.into();
        // Parts are measured again on other days.
        line["date"] = std::env::var("LAYERSEAL_BENCH_DATE").unwrap_or_default().into();
        line["where"] = std::env::var("LAYERSEAL_BENCH_WHERE").unwrap_or_else(|_| "host".into()).into();
        let mut file = std::fs::OpenOptions::new().create(true).append(true).open(path).unwrap();
        writeln!(file, "{line}").unwrap();
    }
}

/// Returns the middle value.
pub fn median(values: &[f64]) -> f64 {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    sorted.get(sorted.len() / 2).copied().unwrap_or(f64::NAN)
}

/// A tool's part in a comparison: gets the number of the round, prepares what is not measured, and measures.
pub type Part<'a> = (&'a str, Box<dyn FnMut(usize) -> Usage + 'a>);

/// Runs every tool on the same input in turn, A B A B.
pub fn in_turn(table: &str, case: &str, rounds: usize, parts: Vec<Part<'_>>) {
    in_order(table, case, rounds, parts, false);
}

/// Runs every tool on the same input in turn and back, A B B A: what one leaves to be done after its end is not always the
/// same one's loss.
pub fn in_turn_and_back(table: &str, case: &str, rounds: usize, parts: Vec<Part<'_>>) {
    in_order(table, case, rounds, parts, true);
}

fn in_order(table: &str, case: &str, rounds: usize, mut parts: Vec<Part<'_>>, and_back: bool) {
    let mut runs = vec![Vec::new(); parts.len()];
    for round in 0..rounds {
        let mut order: Vec<usize> = (0..parts.len()).collect();
        if and_back && round % 2 == 1 {
            order.reverse();
        }
        for part in order {
            runs[part].push(parts[part].1(round));
        }
    }
    for ((tool, _), runs) in parts.iter().zip(&runs) {
        Line { table, case, tool }.record(runs);
    }
}
