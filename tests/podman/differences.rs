//! Where layerseal is not like fuse-overlayfs, and why.

use crate::log::Step;
use crate::podman::{Podman, Program};

/// A difference that is meant.
struct Expected {
    /// Scenario and step; a star at the end stands for anything.
    step: &'static str,
    /// What every line holds that only one of both has.
    lines: &'static [&'static str],
    /// Of which versions of podman this is true.
    podman: fn((u32, u32)) -> bool,
    /// Why.
    why: &'static str,
}

const ALL: fn((u32, u32)) -> bool = |_| true;

/// fuse-overlayfs 1.10 to 1.14: podman compares two of its mounts to see what a container changed.
const OPAQUE: &str = "fuse-overlayfs forgets that a directory was removed and made again: its old content comes back";
/// containers-storage of podman 4 maps the users of the lower directories, and fuse-overlayfs does so again.
const TWICE: &str = "podman 4 with fuse-overlayfs maps the users twice, and its containers do not start";

const EXPECTED_DIFFERENCES: &[Expected] = &[
    Expected { step: "life: diff when it is stopped", lines: &["/etc/opaque"], podman: ALL, why: OPAQUE },
    Expected {
        step: "life: the tree of the committed image",
        lines: &["\"etc/opaque/upper\" "],
        podman: ALL,
        why: OPAQUE,
    },
    Expected {
        step: "life: the tree of the committed image",
        lines: &["\"usr/share/three\" "],
        podman: ALL,
        why: "fuse-overlayfs 1.14 gives a file that was copied up the number of the one that it was linked to",
    },
    Expected {
        step: "life: diff while it runs",
        lines: &[""],
        podman: |v| v >= (5, 0),
        why: "podman finds the mount by FUSE's magic number only; it calls us again and cannot clean up",
    },
    Expected {
        step: "images: what was exported",
        lines: &[" usr/bin/sh"],
        podman: ALL,
        why: "fuse-overlayfs counts the links of a file that it has met, and a tar goes by that count",
    },
    Expected { step: "build: build in one layer: run", lines: &["upper"], podman: ALL, why: OPAQUE },
    Expected {
        step: "build: build in one layer: the tree",
        lines: &["\"etc/opaque/upper\" "],
        podman: ALL,
        why: OPAQUE,
    },
    Expected { step: "build: image diff of what was built", lines: &["/etc/opaque"], podman: ALL, why: OPAQUE },
    Expected { step: "users: uidmap: diff", lines: &["/etc/opaque"], podman: ALL, why: OPAQUE },
    Expected { step: "users: uidmap*", lines: &[""], podman: |v| v < (5, 0), why: TWICE },
    Expected { step: "users: userns=auto", lines: &[""], podman: |v| v < (5, 0), why: TWICE },
];

/// Where the hooks are not like the overlay of containers-storage itself.
const EXPECTED_WITH_HOOKS: &[Expected] = &[Expected {
    step: "hooks: users: uidmap: rm",
    lines: &["exit", "m"],
    podman: |v| v < (5, 0),
    why: "podman 4 cannot always unmount a container of mapped users whose mount it takes for its own",
}];

/// Differences that nobody expects, in words.
pub fn unexpected(wanted: Program, scenario: &str, standard: &[Step], ours: &[Step]) -> Vec<String> {
    let expected = if wanted == Program::Native { EXPECTED_WITH_HOOKS } else { EXPECTED_DIFFERENCES };
    find(expected, Podman::version(), scenario, standard, ours)
}

fn find(expected: &[Expected], version: (u32, u32), scenario: &str, standard: &[Step], ours: &[Step]) -> Vec<String> {
    let mut wrong = Vec::new();
    let mut excused = Vec::new();
    for at in 0..standard.len().max(ours.len()) {
        let (Some(a), Some(b)) = (standard.get(at), ours.get(at)) else {
            wrong.push(format!("step {at} is only in one of them"));
            continue;
        };
        assert_eq!(a.what, b.what, "{scenario}: the steps are not the same");
        let name = format!("{scenario}: {}", a.what);
        let mut found = only(&a.lines, &b.lines);
        let reached = |code: i32| [a, b].iter().any(|s| s.lines[0] == format!("exit {code}"));
        if let Some(code) = a.wanted.filter(|code| !reached(*code)) {
            found.push(('!', format!("{} and {} instead of exit {code}", a.lines[0], b.lines[0])));
        }
        for (sign, line) in found {
            let reason = expected
                .iter()
                .find(|e| is(e.step, &name) && (e.podman)(version) && e.lines.iter().any(|part| line.contains(part)));
            match reason {
                Some(e) => excused.push((name.clone(), e.why)),
                None => wrong.push(format!("{name}: {sign} {line}")),
            }
        }
    }
    excused.dedup();
    excused.iter().for_each(|(name, why)| println!("expected difference: {name}: {why}"));
    wrong
}

fn is(pattern: &str, name: &str) -> bool {
    pattern.strip_suffix('*').map_or(pattern == name, |front| name.starts_with(front))
}

/// Lines that are only in the standard (`-`) or only in ours (`+`); or the order, where only that differs.
fn only(standard: &[String], ours: &[String]) -> Vec<(char, String)> {
    let mut rest = ours.to_vec();
    let mut out = Vec::new();
    for line in standard {
        match rest.iter().position(|l| l == line) {
            Some(at) => drop(rest.remove(at)),
            None => out.push(('-', line.clone())),
        }
    }
    out.extend(rest.into_iter().map(|l| ('+', l)));
    if out.is_empty() && standard != ours {
        out.push(('!', format!("the order of lines: {standard:?}, {ours:?}")));
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    fn step(what: &str, lines: &[&str]) -> Step {
        Step { what: what.into(), lines: lines.iter().map(|l| (*l).to_owned()).collect(), wanted: None }
    }

    const TABLE: &[Expected] = &[Expected { step: "s: diff*", lines: &["exit"], podman: |v| v < (5, 0), why: "w" }];

    #[test]
    fn a_difference_is_found_unless_it_is_expected() {
        let find = |version, a: &[Step], b: &[Step]| find(TABLE, version, "s", a, b);
        let same = [step("run", &["exit 0", "x"])];
        assert!(find((4, 3), &same, &same).is_empty());
        assert_eq!(find((4, 3), &same, &[step("run", &["exit 0", "y"])]), ["s: run: - x", "s: run: + y"]);
        assert_eq!(find((4, 3), &same, &[]).len(), 1);
        assert_eq!(find((4, 3), &[step("run", &["a", "b"])], &[step("run", &["b", "a"])]).len(), 1);
        let (a, b) = ([step("diff of it", &["exit 0", "x"])], [step("diff of it", &["exit 125", "x"])]);
        assert!(find((4, 3), &a, &b).is_empty());
        assert_eq!(find((5, 4), &a, &b).len(), 2);
        assert_eq!(find((4, 3), &a, &[step("diff of it", &["exit 125"])]), ["s: diff of it: - x"]);
        let failed = [Step { wanted: Some(0), ..step("run", &["exit 1"]) }];
        assert_eq!(find((4, 3), &failed, &failed), ["s: run: ! exit 1 and exit 1 instead of exit 0"]);
    }
}
