//! What happened, step by step, in words that are the same in every run.

use std::process::Output;

use crate::podman::{self, Podman, Program};
use crate::{differences, tree};

/// One step: what was done, and lines that say what came of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Step {
    pub what: String,
    pub lines: Vec<String>,
    /// The exit code that the step has at least with one of both: a step that nobody can do would
    /// compare nothing.
    pub wanted: Option<i32>,
}

pub struct Log<'a> {
    podman: &'a Podman,
    steps: Vec<Step>,
}

impl Log<'_> {
    /// Runs podman and notes exit code and output; gives the output as it was.
    pub fn run(&mut self, what: &str, args: &[&str]) -> String {
        self.run_to(0, what, args)
    }

    /// The same, where podman is to exit with `wanted`.
    pub fn run_to(&mut self, wanted: i32, what: &str, args: &[&str]) -> String {
        let since = std::time::Instant::now();
        let args = slowly(args);
        let output = self.podman.run(&args.iter().map(String::as_str).collect::<Vec<_>>());
        if show() {
            println!(
                "{:?} {what}: {} ms {}",
                self.podman.program,
                since.elapsed().as_millis(),
                String::from_utf8_lossy(&output.stderr)
            );
        }
        self.note(what, wanted, &output)
    }

    /// Runs a script on the host and notes exit code and output.
    pub fn shell(&mut self, what: &str, script: &str) {
        let output = self.podman.host.shell(script);
        self.note(what, 0, &output);
    }

    /// Runs podman, whose output is a set of lines.
    pub fn list(&mut self, what: &str, args: &[&str]) {
        self.run(what, args);
        let lines = &mut self.steps.last_mut().unwrap().lines;
        lines[1..].sort();
    }

    fn note(&mut self, what: &str, wanted: i32, output: &Output) -> String {
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        let mut lines = vec![format!("exit {}", output.status.code().unwrap_or(-1))];
        lines.extend(text.lines().map(|l| normal(l.trim_end())));
        if show() {
            let errors = String::from_utf8_lossy(&output.stderr);
            println!("{:?} {what}: {lines:?} {errors}", self.podman.program);
        }
        self.steps.push(Step { what: what.to_owned(), lines, wanted: Some(wanted) });
        text
    }

    /// Notes what a directory of the host holds.
    ///
    /// Times of directories are left out: overlay filesystems make them up. Other times than those of
    /// the image are this test's. fuse-overlayfs counts the links that it has met; which names are one
    /// file is compared all the same.
    pub fn tree(&mut self, what: &str, path: &str) {
        let path = path.trim();
        let lines =
            if path.is_empty() { vec!["there is none".to_owned()] } else { tree::dump(&self.podman.host.inside(path)) };
        self.say(what, lines.iter().map(|l| plain(l)).collect());
    }

    /// Notes anything.
    pub fn say(&mut self, what: &str, lines: Vec<String>) {
        self.steps.push(Step { what: what.to_owned(), lines, wanted: None });
    }

    /// Notes which containers' and images' mounts there are.
    pub fn mounts(&mut self, what: &str) {
        let mut lines: Vec<String> = self.podman.container_mounts().iter().map(|m| normal(m)).collect();
        lines.sort();
        self.say(what, lines);
    }
}

/// podman 4 can lose what a container prints just before it ends: there scripts end a little later.
fn slowly(args: &[&str]) -> Vec<String> {
    let mut args: Vec<String> = args.iter().map(|a| (*a).to_owned()).collect();
    if let Some(at) = args.windows(2).position(|w| w == ["sh", "-c"])
        && Podman::version() < (5, 0)
    {
        args[at + 2].insert_str(0, "trap 'sleep 0.3' EXIT\n");
    }
    args
}

/// Whether somebody wants to see every step.
fn show() -> bool {
    std::env::var_os("LAYERSEAL_PODMAN_SHOW").is_some()
}

/// IDs are different in every run, and so is the minute in which `ls -l` says that a file was made.
fn normal(line: &str) -> String {
    let minute = |word: &str| {
        word.split_once(':').is_some_and(|(h, m)| h.len() == 2 && m.len() == 2 && is_number(h) && is_number(m))
    };
    let line: Vec<&str> = line.split(' ').map(|word| if minute(word) { "now" } else { word }).collect();
    let line = line.join(" ");
    let mut out = String::new();
    let mut word = String::new();
    for c in line.chars().chain([' ']) {
        if c.is_ascii_alphanumeric() {
            word.push(c);
            continue;
        }
        let hex = word.bytes().all(|b| b.is_ascii_hexdigit() && !b.is_ascii_uppercase());
        out.push_str(if hex && (word.len() == 64 || word.len() == 12) { "ID" } else { &word });
        word.clear();
        out.push(c);
    }
    out.trim_end().to_owned()
}

/// A line of [`tree::dump`] without what nobody set.
fn plain(line: &str) -> String {
    let line = line.split(' ').filter(|w| !w.starts_with("links=")).collect::<Vec<_>>().join(" ");
    let line = line.as_str();
    let time =
        line.split(' ').find(|w| w.len() >= 20 && w.split_once('.').is_some_and(|(s, n)| is_number(s) && is_number(n)));
    match time {
        Some(time) if is_directory(line) => line.replace(time, "-"),
        Some(time) if time != IMAGE_TIME => line.replace(time, "now"),
        _ => line.to_owned(),
    }
}

/// When the entries of the images were made.
const IMAGE_TIME: &str = "1700000000.000000000";

fn is_number(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit())
}

/// The mode follows the quoted path.
fn is_directory(line: &str) -> bool {
    line.rsplit_once("\" ").is_some_and(|(_, rest)| rest.starts_with('4'))
}

/// A scenario: uses podman, and notes what happens.
pub type Scenario = fn(&Podman, &mut Log<'_>);

/// Runs the scenario with fuse-overlayfs and with layerseal, and fails when they differ in a way that
/// is not expected. In an emulated machine only layerseal is run, and each step must end as it should.
/// `LAYERSEAL_PODMAN_CANDIDATE=native` puts the kernel's own overlay in the place of
/// layerseal: it tells whether a difference is layerseal's doing.
pub fn compare(name: &str, scenario: Scenario) {
    compare_from(name, Podman::new, scenario);
}

/// The same with another way to make the store.
pub fn compare_from(name: &str, make: fn(Program) -> Podman, scenario: Scenario) {
    let candidate = match std::env::var("LAYERSEAL_PODMAN_CANDIDATE").as_deref() {
        Ok("native") => Program::Native,
        Ok("fuse-overlayfs") => Program::FuseOverlayfs,
        _ => Program::Layerseal,
    };
    compare_with(name, [Program::FuseOverlayfs, candidate], make, scenario);
}

/// The same with two programs of one's own, the standard first.
pub fn compare_with(name: &str, programs: [Program; 2], make: fn(Program) -> Podman, scenario: Scenario) {
    if !crate::ready(name) {
        return;
    }
    let [wanted, candidate] = programs;
    let run = |program| {
        let podman = make(program);
        let mut log = Log { podman: &podman, steps: Vec::new() };
        scenario(&podman, &mut log);
        let steps = log.steps;
        (steps, left(&podman))
    };
    // An emulated machine is slow, and compares on its real processors, without fs-verity.
    if podman::emulated() {
        let (steps, left) = run(candidate);
        assert_eq!(left, [""; 0], "{name}: left behind");
        let wrong = differences::unexpected(wanted, name, &steps, &steps);
        assert!(wrong.is_empty(), "{name}: with {candidate:?}:\n{}", wrong.join("\n"));
        return;
    }
    let (standard, ours) = std::thread::scope(|scope| {
        let other = scope.spawn(|| run(wanted));
        let ours = run(candidate);
        (other.join(), ours)
    });
    let standard = standard.unwrap_or_else(|_| panic!("{name}: the run with {wanted:?} failed"));
    assert_eq!(ours.1, standard.1, "{name}: left behind, at the left with {candidate:?}");
    let wrong = differences::unexpected(wanted, name, &standard.0, &ours.0);
    assert!(wrong.is_empty(), "{name}: with {candidate:?} not as with {wanted:?}:\n{}", wrong.join("\n"));
}

/// What is still mounted when all containers and images are gone.
fn left(podman: &Podman) -> Vec<String> {
    podman.run(&["rm", "-fa", "-t", "0"]);
    podman.run(&["image", "unmount", "-fa"]);
    podman.container_mounts().iter().map(|m| normal(m)).collect()
}

#[test]
fn ids_are_made_the_same() {
    let id = "a".repeat(64);
    assert_eq!(normal(&format!("/x/{id}/merged 0123456789ab 0123456789AB abc")), "/x/ID/merged ID 0123456789AB abc");
}

#[test]
fn times_of_directories_and_of_this_test_are_left_out() {
    let line = |mode: &str, time: &str| format!("\"etc/a b\" {mode} 0:0 {time} size=3");
    assert_eq!(plain(&line("40755", IMAGE_TIME)), line("40755", "-"));
    assert_eq!(plain(&line("100644", IMAGE_TIME)), line("100644", IMAGE_TIME));
    assert_eq!(plain(&line("100644", "1795425903.925381618")), line("100644", "now"));
}
