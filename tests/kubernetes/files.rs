//! The files themselves: what the API's schemas say, what kustomize makes of them, the MachineConfig.

use std::collections::BTreeMap;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use layerseal::policy::{Directories, Policy};

fn kubernetes() -> PathBuf {
    support::top().join("contrib/kubernetes")
}

/// kubernetes-validate; `None`, with a line that says so, where `tools.sh` did not bring it.
fn validator() -> Option<PathBuf> {
    let dir = std::env::var_os("LAYERSEAL_KUBERNETES_DIR")
        .map_or_else(|| support::top().join("target/kubernetes"), PathBuf::from);
    if !dir.join("recipe").exists() {
        support::skip!("schemas of Kubernetes: not there; run tests/kubernetes/tools.sh");
    }
    Some(dir.join("venv/bin/kubernetes-validate"))
}

/// What it says of a text, and whether it passes.
fn validate(program: &Path, text: &str) -> (bool, String) {
    let mut file = tempfile::Builder::new().suffix(".yaml").tempfile().unwrap();
    file.write_all(text.as_bytes()).unwrap();
    let output = Command::new(program).arg("--strict").arg(file.path()).output().unwrap();
    let said = [output.stdout, output.stderr].concat();
    (output.status.success(), String::from_utf8_lossy(&said).into_owned())
}

/// The YAML files below a directory that are resources of Kubernetes itself.
fn resources() -> Vec<PathBuf> {
    let mut found = Vec::new();
    support::common::walk(&kubernetes(), &mut |path| {
        let name = path.file_name().unwrap();
        let other = name == "kustomization.yaml" || path.starts_with(kubernetes().join("openshift"));
        if path.extension().is_some_and(|e| e == "yaml") && !other {
            found.push(path.to_owned());
        }
    });
    found
}

#[test]
fn resources_are_as_the_api_has_them() {
    let Some(program) = validator() else { return };
    let files = resources();
    assert!(files.len() >= 3, "{files:?}");
    for file in files {
        let text = std::fs::read_to_string(&file).unwrap();
        let (passed, said) = validate(&program, &text);
        assert!(passed && said.contains("passed for resource"), "{}: {said}", file.display());
        // It does look: a field that is not there, and a value of the wrong kind.
        let (passed, said) = validate(&program, &format!("{text}\nlayerseal: true\n"));
        assert!(!passed, "{}: {said}", file.display());
    }
    let daemonset = std::fs::read_to_string(kubernetes().join("base/daemonset.yaml")).unwrap();
    for (from, to) in [("hostPath:", "hostPaths:"), ("privileged: true", "privileged: \"yes\"")] {
        assert!(daemonset.contains(from));
        let (passed, said) = validate(&program, &daemonset.replace(from, to));
        assert!(!passed, "{to}: {said}");
    }
}

/// `kubectl kustomize`, where there is one.
fn kustomize(dir: &str) -> Option<String> {
    let output = match Command::new("kubectl").arg("kustomize").arg(kubernetes().join(dir)).output() {
        Ok(output) => output,
        Err(e) => support::skip!("kustomize: kubectl: {e}"),
    };
    assert!(output.status.success(), "{dir}: {}", String::from_utf8_lossy(&output.stderr));
    Some(String::from_utf8(output.stdout).unwrap())
}

#[test]
fn what_kustomize_makes_is_as_the_api_has_it() {
    for dir in ["base", "example", "remove"] {
        let Some(made) = kustomize(dir) else { return };
        for kind in ["Namespace", "ConfigMap", "DaemonSet", "RuntimeClass"] {
            assert_eq!(made.matches(&format!("\nkind: {kind}\n")).count(), 1, "{dir}: {kind}: {made}");
        }
        // The pods' ConfigMap is the one that was made.
        let name = made.lines().find_map(|line| line.strip_prefix("  name: layerseal-")).unwrap();
        assert!(made.contains(&format!("configMap:\n          name: layerseal-{name}\n")), "{dir}: {made}");
        assert_eq!(made.contains("- remove\n"), dir == "remove", "{made}");
        assert_eq!(made.contains("- install\n"), dir != "remove", "{made}");
        assert_eq!(made.contains("  trust.d__acme__release.crt: |"), dir == "example", "{made}");
        assert_eq!(made.contains("image: registry.example.com/acme/layerseal-installer:1.0\n"), dir == "example");
        let Some(program) = validator() else { continue };
        let (passed, said) = validate(&program, &made);
        assert!(passed && said.matches("passed for resource").count() == 4, "{dir}: {said}");
    }
}

/// The policies that are shipped can be used, and trust what is beside them.
#[test]
fn policies_can_be_used() {
    if !rustix::process::geteuid().is_root() {
        support::skip!("needs root, whose the files must be");
    }
    let copy = tempfile::tempdir().unwrap();
    let copied = Command::new("cp").arg("-r").arg(kubernetes()).arg(copy.path()).status().unwrap();
    assert!(copied.success());
    for (dir, certificates) in [("base", 0), ("example/etc-layerseal", 1)] {
        let place = copy.path().join("kubernetes").join(dir);
        let policy = Policy::load(&Directories::new(vec![place])).unwrap_or_else(|e| panic!("{dir}: {e}"));
        let decision = policy.decide(&["registry.example.com/acme/app:1".to_owned()]);
        assert_eq!(decision.certificates.len(), certificates, "{dir}");
        assert_eq!(decision.mode.to_string(), "audit", "{dir}");
    }
}

fn machineconfig(args: &[&str]) -> (bool, String, String) {
    let mut command = Command::new("sh");
    command.arg(kubernetes().join("machineconfig.sh")).args(args).current_dir(kubernetes()).stdin(Stdio::null());
    let output = command.output().unwrap();
    let text = |bytes| String::from_utf8(bytes).unwrap();
    (output.status.success(), text(output.stdout), text(output.stderr))
}

/// The files of a MachineConfig, by their paths.
fn contents(yaml: &str) -> BTreeMap<String, Vec<u8>> {
    let mut files = BTreeMap::new();
    let mut path = "";
    for line in yaml.lines().map(str::trim) {
        if let Some(found) = line.strip_prefix("- path: ") {
            path = found;
        } else if let Some(data) = line.strip_prefix("source: data:;base64,") {
            files.insert(path.to_owned(), openssl::base64::decode_block(data).unwrap());
        }
    }
    files
}

/// The example is what the script makes of the example's files, byte for byte.
#[test]
fn machineconfig_has_the_files() {
    let (ok, made, said) = machineconfig(&["example/etc-layerseal"]);
    assert!(ok, "{said}");
    let example = std::fs::read_to_string(kubernetes().join("openshift/50-layerseal.yaml")).unwrap();
    assert_eq!(made, example, "contrib/kubernetes/machineconfig.sh makes it anew");
    let files = contents(&made);
    assert_eq!(files.len(), 3, "{:?}", files.keys());
    for (path, bytes) in &files {
        let name = path.strip_prefix("/etc/layerseal/").unwrap();
        assert_eq!(*bytes, std::fs::read(kubernetes().join("example/etc-layerseal").join(name)).unwrap(), "{path}");
    }
    assert_eq!(made.matches("mode: 420\n").count(), 3, "octal 0644, which Ignition reads as a decimal number");

    let (ok, made, said) = machineconfig(&["--role", "master", "--crio", "example/etc-layerseal"]);
    assert!(ok, "{said}");
    assert!(made.contains("machineconfiguration.openshift.io/role: master\n") && made.contains("name: 50-master-"));
    let handler = contents(&made).remove("/etc/crio/crio.conf.d/10-layerseal-runtime.conf").unwrap();
    assert_eq!(handler, std::fs::read(support::top().join("contrib/crio/10-layerseal-runtime.conf")).unwrap());
}

#[test]
fn machineconfig_takes_nothing_that_would_not_be_what_it_says() {
    let dir = tempfile::tempdir().unwrap();
    let at = dir.path().to_str().unwrap();
    let (ok, made, said) = machineconfig(&[at]);
    assert!(!ok && made.is_empty() && said.contains("policy.toml"), "{made}{said}");
    std::fs::write(dir.path().join("policy.toml"), "version = 1\n").unwrap();
    std::fs::write(dir.path().join(".policy.toml.swp"), "x").unwrap();
    let (ok, made, _) = machineconfig(&[at]);
    assert!(ok && contents(&made).len() == 1, "{made}");
    let (ok, _, said) = machineconfig(&["--role", "a b", at]);
    assert!(!ok && said.contains("a b"), "{said}");
    std::fs::write(dir.path().join("a: b\nc"), "x").unwrap();
    let (ok, made, said) = machineconfig(&[at]);
    assert!(!ok, "{made}{said}");
}
