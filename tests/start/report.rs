//! What is on record of starts, for `layerseal report`.

use std::path::PathBuf;
use std::process::{Child, Stdio};

use serde_json::Value;

use crate::host::{APP, AUDIT, Container, ENFORCE, Host, OTHER, binary, in_dir};

/// Bytes of the log that are too many; see `state::events`.
const FULL: usize = 1 << 20;

trait Record {
    fn report(&self) -> Value;
    fn counted(&self, labels: &str) -> u64;
    fn log(&self) -> PathBuf;
    fn begin(&self, container: &Container) -> Child;
}

impl Record for Host {
    fn report(&self) -> Value {
        serde_json::from_str(&self.layerseal(&["report", "--json"]).stdout).unwrap()
    }

    /// The counter of one kind of calls.
    fn counted(&self, labels: &str) -> u64 {
        let text = self.layerseal(&["report", "--prometheus"]).stdout;
        let line = text.lines().find(|line| line.starts_with(&format!("layerseal_decisions_total{{{labels}}} ")));
        line.map_or(0, |line| line.rsplit(' ').next().unwrap().parse().unwrap())
    }

    fn log(&self) -> PathBuf {
        self.sandbox.path("/run/layerseal/log".as_ref())
    }

    fn begin(&self, container: &Container) -> Child {
        let mut command = self.sandbox.command(binary());
        command.args(["-o", &self.options(container), &self.of(&container.layer, "merged")]);
        let mut command = in_dir(&self.sandbox, &self.root.join("overlay"), command);
        command.stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap()
    }
}

/// What is refused, what audit lets pass and what starts, with image, case, subject and remedy.
#[test]
fn starts_are_summed_up_by_image_and_case() {
    let Some(host) = Host::new(ENFORCE) else { return };
    let (app, other) = (host.container("c", &host.image(APP)), host.container("d", &host.image(OTHER)));
    host.start(&app).ok();
    host.unmount(&app);
    for _ in 0..2 {
        host.start_refused(&other, 3, "C07");
    }
    host.config("policy.toml", AUDIT);
    let ran = host.start(&other);
    assert_eq!(ran.code, 0);
    for field in
        ["LAYERSEAL_CASE=C07", "LAYERSEAL_SUBJECT=", "LAYERSEAL_REMEDY=", "LAYERSEAL_IMAGE=", "LAYERSEAL_STAGE=mount"]
    {
        assert_eq!(ran.records.iter().filter(|record| record.contains(field)).count(), 1, "{field}: {ran:?}");
    }
    host.unmount(&other);
    let report = host.report();
    let calls = serde_json::json!({"allowed": 1, "off": 0, "audit": 1, "refused": 2});
    assert_eq!((&report["source"], &report["calls"]), (&"log".into(), &calls), "{report}");
    let [refused, audit] = &report["groups"].as_array().unwrap()[..] else { panic!("{report}") };
    for (group, decision, calls) in [(refused, "refused", 2), (audit, "audit", 1)] {
        let found = (&group["decision"], &group["case"], &group["image"], &group["calls"]);
        assert_eq!(found, (&decision.into(), &"C07".into(), &format!("{OTHER}:v1").into(), &calls.into()), "{report}");
        for field in ["subject", "remedy", "message"] {
            assert!(!group[field].as_str().unwrap().is_empty(), "{field}: {report}");
        }
    }
    assert_eq!(audit["containers"], 1, "{report}");
    let text = host.layerseal(&["report"]).stdout;
    assert!(text.contains(&format!("enforce would refuse {OTHER}:v1 [R-C07]: 1 call of 1 container")), "{text}");
    assert_eq!(host.counted("decision=\"refused\",case=\"C07\",stage=\"mount\""), 2);
    let metrics = host.layerseal(&["report", "--prometheus"]).stdout;
    assert!(metrics.contains("layerseal_call_seconds_count{stage=\"mount\"} 4\n"), "{metrics}");
    // Nothing is that new.
    let later: Value =
        serde_json::from_str(&host.layerseal(&["report", "--json", "--since", "9999-01-01"]).stdout).unwrap();
    assert_eq!(later["groups"], serde_json::json!([]));
}

/// Fifty starts at once find the log full: no line is lost, and it does not grow.
#[test]
fn fifty_starts_at_once_are_all_on_record_and_the_log_stays_small() {
    let Some(host) = Host::new(AUDIT) else { return };
    let image = host.image(OTHER);
    let first = host.container("first", &image);
    host.start(&first);
    host.unmount(&first);
    let line = std::fs::read(host.log().join("events")).unwrap();
    let before = FULL / line.len() + 1;
    std::fs::write(host.log().join("events"), line.repeat(before)).unwrap();
    let containers: Vec<Container> = (0..50).map(|n| host.container(&format!("c{n}"), &image)).collect();
    let children: Vec<Child> = containers.iter().map(|container| host.begin(container)).collect();
    for child in children {
        let output = child.wait_with_output().unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    }
    let all = before + 50;
    assert_eq!(host.report()["calls"]["audit"], all);
    assert_eq!(host.counted("decision=\"audit\",case=\"C07\",stage=\"mount\""), all as u64);
    // Full again: what goes is counted still.
    let now = std::fs::read(host.log().join("events")).unwrap();
    let held = now.split(|b| *b == b'\n').filter(|line| !line.is_empty()).count();
    std::fs::write(host.log().join("events"), [&now[..], &line.repeat(before)].concat()).unwrap();
    host.start(&first);
    assert_eq!(host.counted("decision=\"audit\",case=\"C07\",stage=\"mount\""), (all + before + 1) as u64);
    assert_eq!(host.report()["calls"]["audit"], held + before + 1, "only these are there");
    let sizes: Vec<u64> =
        std::fs::read_dir(host.log()).unwrap().map(|e| e.unwrap().metadata().unwrap().len()).collect();
    assert!(sizes.len() <= 3 && sizes.iter().sum::<u64>() < 3 * FULL as u64, "{sizes:?}");
    host.unmount(&first);
    containers.iter().for_each(|container| host.unmount(container));
}

/// A log that cannot be written stops nobody, and what others could have written is not read.
#[test]
fn no_start_depends_on_the_log() {
    let Some(host) = Host::new(ENFORCE) else { return };
    let (app, other) = (host.container("c", &host.image(APP)), host.container("d", &host.image(OTHER)));
    for script in [
        "mkdir -p /run/layerseal; rm -rf /run/layerseal/log; : >/run/layerseal/log",
        "rm /run/layerseal/log; mkdir -m 700 -p /run/layerseal/log/events",
        "rm -r /run/layerseal/log; mkdir -m 700 /run/layerseal/log; mkfifo /run/layerseal/log/events",
        "rm -r /run/layerseal/log; mkdir -m 700 /run/layerseal/log; ln -s /etc/passwd /run/layerseal/log/events",
        "rm -r /run/layerseal/log; mkdir -m 700 /run/layerseal/log; chown 7 /run/layerseal/log",
    ] {
        host.sandbox.sh(script);
        host.start(&app).ok();
        host.unmount(&app);
        host.start_refused(&other, 3, "C07");
    }
    assert_ne!(host.verb(&["report"]).code, 0, "it is another user's");
}
