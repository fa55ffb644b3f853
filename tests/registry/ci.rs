//! The samples of contrib/ci: what they sign with is taken out of them and run as an ordinary user, against a registry.

use std::collections::BTreeMap;
use std::os::unix::fs::{PermissionsExt as _, chown};
use std::path::PathBuf;
use std::process::Command;

use serde_json::Value;

use crate::common::{Bench, Layout, Run, binary, two_layers};
use crate::tools::{Site, path};

/// Nobody's numbers.
const USER: u32 = 65534;

/// A sample as JSON; `None` where nobody can read YAML here.
fn sample(name: &str) -> Option<Value> {
    let file = support::top().join("contrib/ci").join(name);
    let own = support::top().join("target/kubernetes/venv/bin/python");
    for python in [own, PathBuf::from("python3")] {
        let script = "import json, sys, yaml; json.dump(yaml.safe_load(open(sys.argv[1])), sys.stdout)";
        let output = Command::new(python).args(["-c", script]).arg(&file).output();
        if let Ok(output) = output
            && output.status.success()
        {
            return Some(serde_json::from_slice(&output.stdout).unwrap());
        }
    }
    let there = Command::new("python3").args(["-c", "import yaml"]).output().is_ok_and(|o| o.status.success());
    assert!(!there, "{name} is no YAML");
    support::skip!("CI samples: needs python3 with yaml");
}

/// An image that was pushed, and a user who may sign it.
struct Job {
    bench: Bench,
    site: Site,
    image: String,
    digest: String,
}

impl Job {
    fn new(site: Site, name: &str) -> Self {
        let bench = Bench::new();
        bench.signer("release", crate::common::signer());
        let digest = Layout::new(&bench.path("image"), &two_layers()).digest.to_string();
        let image = site.repository(name);
        site.run(&bench, &["push", "oci:image", &format!("docker://{image}:v1")]).ok();
        bench.write("digest", format!("{digest}\n").as_bytes());
        // The registries of the samples have TLS.
        std::fs::create_dir_all(bench.path(".config/containers")).unwrap();
        let conf = format!("[[registry]]\nlocation = \"127.0.0.1:{}\"\ninsecure = true\n", site.port);
        bench.write(".config/containers/registries.conf", conf.as_bytes());
        ["tmp", "run"].iter().for_each(|name| std::fs::create_dir(bench.path(name)).unwrap());
        for name in ["", ".config", ".config/containers", "tmp", "run", "release.key", "release.crt", "digest"] {
            chown(bench.path(name), Some(USER), Some(USER)).unwrap();
        }
        std::fs::set_permissions(bench.dir.path(), std::fs::Permissions::from_mode(0o755)).unwrap();
        Self { bench, site, image, digest }
    }

    /// Runs a script of a sample as the user, with what the CI system would have set.
    fn run(&self, script: &str, environment: &BTreeMap<String, String>) -> Run {
        let programs = binary().parent().unwrap().display().to_string();
        let user = USER.to_string();
        let mut command = Command::new("setpriv");
        command.args([
            "--reuid",
            &user,
            "--regid",
            &user,
            "--clear-groups",
            "--no-new-privs",
            "--",
            "sh",
            "-euc",
            script,
        ]);
        command.current_dir(self.bench.dir.path()).env_clear();
        command.env("PATH", format!("{programs}:{}", path(self.site.skopeo)));
        command.env("HOME", self.bench.dir.path()).env("TMPDIR", self.bench.path("tmp"));
        // Without it containers' tools look into /run/containers, which is root's where root runs any.
        command.env("XDG_RUNTIME_DIR", self.bench.path("run")).envs(environment);
        Run::of(command.output().unwrap())
    }

    /// What hosts see.
    fn is_sealed(&self, more: &[&str]) {
        let at = format!("docker://{}@{}", self.image, self.digest);
        let verify = ["verify", &at, "--trust", "release.crt", "--identity", &self.image];
        self.site.run(&self.bench, &[&verify[..], more].concat()).ok();
        // And nothing of the key stayed.
        assert_eq!(std::fs::read_dir(self.bench.path("tmp")).unwrap().count(), 0);
    }
}

fn ready() -> bool {
    if !rustix::process::geteuid().is_root() {
        support::skip!("CI samples: becoming an ordinary user needs root");
    }
    true
}

fn environment(of: &[(&str, &str)]) -> BTreeMap<String, String> {
    of.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
}

fn text(value: &Value) -> &str {
    value.as_str().unwrap_or_else(|| panic!("no text: {value}"))
}

fn step<'a>(steps: &'a Value, name: &str) -> &'a Value {
    let found = steps.as_array().unwrap().iter().find(|step| step["name"] == name);
    found.unwrap_or_else(|| panic!("no step {name}: {steps}"))
}

#[test]
fn the_sample_for_github_signs_what_was_pushed() {
    let (true, Some(site)) = (ready(), Site::with_api()) else { return };
    let Some(sample) = sample("github.yml") else { return };
    let job = Job::new(site, "ci/github");
    let sign = step(&sample["jobs"]["image"]["steps"], "sign");
    let read = |name: &str| std::fs::read_to_string(job.bench.path(name)).unwrap();
    assert_eq!(sign["env"].as_object().unwrap().len(), 2, "what the step is given");
    let given = environment(&[
        ("IMAGE", &job.image),
        ("GITHUB_RUN_NUMBER", "7"),
        ("SIGNING_KEY", &read("release.key")),
        ("SIGNING_CERT", &read("release.crt")),
    ]);
    job.run(text(&sign["run"]), &given).ok();
    job.is_sealed(&[]);
    // The other steps are shell too.
    for name in ["install", "build"] {
        let script = text(&step(&sample["jobs"]["image"]["steps"], name)["run"]).to_owned();
        assert!(Command::new("sh").args(["-nc", &script]).status().unwrap().success(), "{name}");
    }
}

#[test]
fn the_sample_for_gitlab_signs_into_a_layout() {
    let (true, Some(site)) = (ready(), Site::plain()) else { return };
    let Some(sample) = sample("gitlab.yml") else { return };
    let job = Job::new(site, "ci/gitlab");
    let lines = |name: &str, part: &str| {
        let all = sample[name][part].as_array().unwrap().iter().map(|line| text(line).to_owned());
        all.collect::<Vec<_>>().join("\n")
    };
    let file = |name: &str| job.bench.path(name).display().to_string();
    let given = environment(&[
        ("IMAGE", &job.image),
        ("CI_PIPELINE_IID", "7"),
        ("SIGNING_KEY", &file("release.key")),
        ("SIGNING_CERT", &file("release.crt")),
    ]);
    job.run(&lines("sign", "script"), &given).ok();
    assert_eq!(sample["sign"]["artifacts"]["paths"][0], "seals");
    job.is_sealed(&["--seal", "oci:seals"]);
    let script = [lines("build", "script"), lines("sign", "before_script")].join("\n");
    assert!(Command::new("sh").args(["-nc", &script]).status().unwrap().success());
}

#[test]
fn the_sample_for_tekton_signs_what_was_pushed() {
    let (true, Some(site)) = (ready(), Site::plain()) else { return };
    let Some(sample) = sample("tekton.yaml") else { return };
    let job = Job::new(site, "ci/tekton");
    let sign = step(&sample["spec"]["steps"], "sign");
    assert_eq!(sign["securityContext"]["runAsNonRoot"], true);
    // As Tekton puts them in.
    let home = job.bench.dir.path().display().to_string();
    let values = [
        ("$(params.image)", job.image.as_str()),
        ("$(params.digest)", &job.digest),
        ("$(params.sequence)", "7"),
        ("$(workspaces.signing.path)", &home),
        ("$(workspaces.dockerconfig.path)", ""),
    ];
    let mut given = BTreeMap::new();
    for entry in sign["env"].as_array().unwrap() {
        let value = values.iter().fold(text(&entry["value"]).to_owned(), |all, (name, value)| all.replace(name, value));
        given.insert(text(&entry["name"]).to_owned(), value);
    }
    assert_eq!(given.insert("HOME".to_owned(), home.clone()).as_deref(), Some("/tmp"));
    job.run(text(&sign["script"]), &given).ok();
    job.is_sealed(&[]);
}
