//! The container's tree is the one that podman shows: layer sets made at random, put into a store, and listed as
//! podman's own overlay shows them and as layerseal does.
//!
//! `SAME_TREE_SEEDS` is how many (300), `SAME_TREE_FROM` the first one: what a failure names can be repeated.
#![allow(missing_docs)]

mod generate;
mod list;
mod store;

use generate::Set;
use store::{Store, Way};
use support::common;
use support::podman::{host, scratch};

/// What may differ, and why. Listings leave these out; everything else must be the same.
const ALLOWED: &[(&str, &str)] = &[
    ("link counts", "podman counts names that upper layers hide; one image of all layers has no such names"),
    ("times of what has no entry in its layer", "podman's is the time of unpacking; ours is 1970"),
    ("the root's own metadata", "a container shows its writable layer's; ours are fixed"),
    (
        "a whiteout of what its own layer made before",
        "podman says \"file exists\"; it is about lower layers, and hides none here",
    ),
    ("nanoseconds", "filesystems of a store keep them or not"),
];

fn ready() -> bool {
    let missing = |tool: &&str| {
        let tried = std::process::Command::new(tool).arg("--version").output();
        !tried.is_ok_and(|o| o.status.success())
    };
    let tools: Vec<&str> = ["podman", "skopeo", "nsenter", "unshare"].into_iter().filter(missing).collect();
    let erofs = layerseal::sys::mounts::Configure::open("erofs").is_ok();
    if rustix::process::geteuid().is_root() && tools.is_empty() && erofs {
        return true;
    }
    support::skip!("the same tree: needs root, EROFS, and {}", tools.join(", "))
}

fn now() -> i64 {
    let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap();
    since.as_secs() as i64
}

fn start() -> i64 {
    static START: std::sync::OnceLock<i64> = std::sync::OnceLock::new();
    *START.get_or_init(now)
}

fn number(name: &str, otherwise: u64) -> u64 {
    std::env::var(name).ok().map_or(otherwise, |text| text.parse().unwrap())
}

/// Sets are worked on in batches: one call of podman mounts all of a batch.
const BATCH: u64 = 50;

#[test]
fn every_tree_is_the_one_that_podman_shows() {
    if !ready() {
        return;
    }
    start();
    ALLOWED.iter().for_each(|(what, why)| println!("allowed to differ: {what}: {why}"));
    let (from, count) = (number("SAME_TREE_FROM", 0), number("SAME_TREE_SEEDS", 300));
    let (mut same, mut refused, mut failed) = (0, 0, Vec::new());
    let mut first = from;
    while first < from + count {
        let last = (first + BATCH).min(from + count);
        let sets: Vec<Set> = (first..last).map(Set::new).collect();
        let native = Store::new(Way::Native, &sets);
        // Every third also where podman calls us: two stores of everything take too long for CI.
        let few = |set: &&Set| set.seed.is_multiple_of(3);
        let program = Store::new(Way::MountProgram, &sets.iter().filter(few).cloned().collect::<Vec<_>>());
        for set in &sets {
            let shown = native.listing(set).unwrap_or_else(|| Err("it is not in the store".into()));
            match judge(set, &shown, &native, &program) {
                Ok(true) => same += 1,
                Ok(false) => refused += 1,
                Err(why) => failed.push(format!("seed {}: {why}\n{}", set.seed, set.describe())),
            }
        }
        first = last;
    }
    println!("{same} the same, {refused} refused by both, {} differ", failed.len());
    failed.iter().for_each(|why| println!("{why}"));
    assert!(failed.is_empty(), "{} of {count} differ", failed.len());
    assert!(same * 4 >= count * 3, "only {same} of {count} are images that podman runs");
}

/// Whether layerseal shows the same in every way, true, or refuses what podman refuses, false.
fn judge(set: &Set, shown: &Result<Vec<String>, String>, native: &Store, program: &Store) -> Result<bool, String> {
    let ours = native.layerseal(set, &[]);
    let podman = match (shown, &ours) {
        (Err(podman), Err(ours)) if ours.contains("[R-") => {
            if std::env::var_os("SAME_TREE_SHOW").is_some() {
                println!("REF {}: {podman}\n{ours}", set.seed);
            }
            return Ok(false);
        }
        (Err(podman), Err(ours)) => return Err(format!("podman: {podman}\nlayerseal without a case: {ours}")),
        (Err(podman), Ok(_)) if podman.contains("(file exists)") => return Ok(false),
        (Err(podman), Ok(_)) => return Err(format!("podman refuses, layerseal does not: {podman}")),
        (Ok(_), Err(ours)) => return Err(format!("podman shows it, layerseal refuses: {ours}")),
        (Ok(podman), Ok(_)) => podman,
    };
    let mut ways = vec![("layerseal mount", ours), ("layerseal mount --stack", native.layerseal(set, &["--stack"]))];
    // A container each, and a start: fewer still.
    if set.seed.is_multiple_of(6) {
        ways.push(("hook precreate", native.precreate(set)));
    }
    ways.extend(program.listing(set).map(|listing| ("mount program", listing)));
    for (way, listing) in ways {
        let listing = listing.map_err(|why| format!("{way}: {why}"))?;
        list::compare(podman, &listing, &(start()..=now())).map_err(|why| format!("{way}:\n{why}"))?;
    }
    Ok(true)
}
