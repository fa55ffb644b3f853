//! How cost grows with files, bytes and layers.

use std::path::Path;
use std::process::Command;

use super::measure::{Line, Usage, done, usage};
use super::tools::{Place, unmount};

/// Layers, files in each, bytes of a file; and what changes.
const STEPS: [(&str, usize, usize, usize); 11] = [
    ("files 1000", 1, 1_000, 100),
    ("files 10000", 1, 10_000, 100),
    ("files 100000", 1, 100_000, 100),
    ("files 1000000", 1, 1_000_000, 100),
    ("megabytes 10", 1, 100, 100 << 10),
    ("megabytes 100", 1, 100, 1 << 20),
    ("megabytes 1000", 1, 100, 10 << 20),
    ("layers 1", 1, 1_000, 1000),
    ("layers 10", 10, 100, 1000),
    ("layers 100", 100, 10, 1000),
    ("layers 500", 500, 2, 1000),
];

pub fn all(place: &Place) {
    let target = place.path("target");
    std::fs::create_dir_all(&target).unwrap();
    place.key();
    let grown = place.path("growth");
    std::fs::create_dir_all(&grown).unwrap();
    for (case, layers, files, bytes) in STEPS.into_iter().filter(|step| place.wants(step.0)) {
        let name = case.replace(' ', "-");
        let made = place.inputs.join("growth").join(&name);
        if !made.exists() {
            // In the VM, which has no Python, there are those that it was given.
            if place.verity {
                continue;
            }
            // Under its name when it is complete.
            let new = place.path("image");
            make(&new, layers, files, bytes);
            std::fs::create_dir_all(made.parent().unwrap()).unwrap();
            std::fs::rename(new, &made).unwrap();
        }
        let image = format!("oci:{}", made.display());
        // Once where it takes a minute.
        let rounds = if layers * files > 100_000 { 1 } else { 3 };
        // They stay until all is measured: removing them would cost whoever writes next.
        let dirs: Vec<_> = (0..rounds).map(|round| grown.join(format!("{name}.{round}"))).collect();
        let record = |tool: &str, runs: &[Usage]| Line { table: "growth", case, tool }.record(runs);
        let mut runs = [const { Vec::new() }; 3];
        for dir in &dirs {
            std::fs::create_dir_all(dir).unwrap();
            let pull = ["pull", "--algorithm", "sha256", &image, "--name", "bench"];
            runs[0].push(usage(place.layerseal(dir).args(pull)));
            runs[1].push(usage(&mut place.sign(dir)));
            // The first mount compares a new seal with the layers.
            runs[2].push(usage(&mut place.mount(dir, &target)));
            unmount(&target);
        }
        for (tool, runs) in ["pull", "sign", "first mount"].into_iter().zip(&runs) {
            record(tool, runs);
        }
        let dir = &dirs[rounds - 1];
        for (tool, shape) in [("verify and mount", None), ("verify and mount --stack", Some("--stack"))] {
            // overlayfs takes 500 layers, the objects among them.
            if shape.is_some() && layers > 499 {
                continue;
            }
            let runs: Vec<Usage> = (0..10)
                .map(|_| {
                    let usage = usage(place.mount(dir, &target).args(shape));
                    unmount(&target);
                    usage
                })
                .collect();
            record(tool, &runs);
        }
        // The small ones are for the VM.
        if layers * files * bytes > 2_000_000 {
            std::fs::remove_dir_all(&made).unwrap();
        }
    }
    std::fs::remove_dir_all(grown).unwrap();
}

/// Makes an image in a separate process: a child's `ru_maxrss` begins with that of the process it was forked from.
fn make(dir: &Path, layers: usize, files: usize, bytes: usize) {
    let numbers = [layers, files, bytes].map(|n| n.to_string());
    done(Command::new("python3").args(["-c", include_str!("../growth.py")]).arg(dir).args(numbers));
}
