//! Where the store is: podman itself, as `podman info` tells it, against what layerseal reads, over configurations
//! of every kind that the versions of podman read differently.

use serde_json::Value;

use crate::host::Host;
use crate::podman::Podman;
use crate::{common, ready, scratch};

/// A configuration: files, variables of the environment, and what is made before.
struct Configuration {
    name: &'static str,
    files: Vec<(&'static str, String)>,
    variables: Vec<(&'static str, &'static str)>,
    before: &'static str,
}

const ETC: &str = "/etc/containers/storage.conf";
const USR: &str = "/usr/share/containers/storage.conf";
const OWN: &str = "/root/.config/containers/storage.conf";

fn with(name: &'static str, files: &[(&'static str, &str)]) -> Configuration {
    let files = files.iter().map(|(path, text)| (*path, (*text).to_owned())).collect();
    Configuration { name, files, variables: vec![], before: "" }
}

impl Configuration {
    fn env(mut self, name: &'static str, value: &'static str) -> Self {
        self.variables.push((name, value));
        self
    }

    fn before(mut self, script: &'static str) -> Self {
        self.before = script;
        self
    }
}

/// `[storage]` with a graph root, and further lines for it.
fn storage(graph_root: &str, more: &str) -> String {
    format!("[storage]\ndriver = \"overlay\"\nrunroot = \"/run/t/r\"\ngraphroot = \"{graph_root}\"\n{more}\n")
}

fn one(name: &'static str, text: &str) -> Configuration {
    with(name, &[(ETC, text)])
}

/// Fifty of them.
fn all() -> Vec<Configuration> {
    let g = |name: &str| storage(&format!("/var/tmp/t/{name}"), "");
    let option = |text: &str| storage("/var/tmp/t/g", &format!("[storage.options]\n{text}"));
    let overlay = |text: &str| storage("/var/tmp/t/g", &format!("[storage.options.overlay]\n{text}"));
    let stores = "mkdir -p /var/tmp/t/a /var/tmp/t/b /var/tmp/t/c";
    vec![
        with("no file at all", &[]),
        one("a file in /etc", &g("g")),
        with("a file in /usr/share", &[(USR, &g("u"))]),
        with("both", &[(ETC, &g("g")), (USR, &g("u"))]),
        with("a user's too", &[(ETC, &g("g")), (OWN, &g("o"))]),
        with("a user's alone", &[(OWN, &g("o"))]),
        with("an empty one hides the other", &[(ETC, ""), (USR, &g("u"))]),
        one("a section alone", "[storage]\n"),
        one("a driver alone", "[storage]\ndriver = \"overlay\"\n"),
        one("no graph root", "[storage]\ndriver = \"overlay\"\nrunroot = \"/run/t/r\"\n"),
        one("no run root", "[storage]\ndriver = \"overlay\"\ngraphroot = \"/var/tmp/t/g\"\n"),
        one("no driver", "[storage]\nrunroot = \"/run/t/r\"\ngraphroot = \"/var/tmp/t/g\"\n"),
        one("empty texts", "[storage]\ndriver = \"overlay\"\nrunroot = \"\"\ngraphroot = \"\"\n"),
        with("no graph root in /etc, one in /usr/share", &[
            (ETC, "[storage]\ndriver = \"overlay\"\n"),
            (USR, &g("u")),
        ]),
        one("names in other cases", "[STORAGE]\nDriver = \"overlay\"\nRunRoot = \"/run/t/r\"\nGraphRoot = \"/var/tmp/t/g\"\n"),
        one("broken", "[storage\n"),
        one("a number for a path", "[storage]\ndriver = \"overlay\"\ngraphroot = 7\n"),
        one("another driver", &g("g").replace("\"overlay\"", "\"vfs\"")),
        one("overlay2", &g("g").replace("\"overlay\"", "\"overlay2\"")),
        one("odd slashes", &storage("//var//tmp/./t/g/", "")),
        one("points", &storage("/var/tmp/t/x/../g", "")),
        one("a link to what is there", &storage("/var/tmp/t/link", "")).before("mkdir -p /var/tmp/t/real; ln -s real /var/tmp/t/link"),
        one("a link on the way", &storage("/var/tmp/t/link/g", "")).before("mkdir -p /var/tmp/t/real; ln -s real /var/tmp/t/link"),
        one("a link on the way to what is there", &storage("/var/tmp/t/link/g", "")).before("mkdir -p /var/tmp/t/real/g; ln -s real /var/tmp/t/link"),
        one("variables", &storage("$HOME/../var/tmp/t/${NAME}-$UID", "")).env("NAME", "n"),
        one("a variable that is not set", &storage("/var/tmp/t/g$NOTSET", "")),
        one("additional stores", &option("additionalimagestores = [\"/var/tmp/t/a\", \"/var/tmp/t//b/\"]")).before(stores),
        one("an additional store with a comma", &option("additionalimagestores = [\"/var/tmp/t/a,/var/tmp/t/b\"]")).before(stores),
        one("an additional store that is not there", &option("additionalimagestores = [\"/var/tmp/t/none\"]")),
        one("an additional store that is relative", &option("additionalimagestores = [\"var/tmp\"]")),
        one("additional stores that are no list", &option("additionalimagestores = \"/var/tmp/t/a\"")).before(stores),
        one("additional stores without a graph root", "[storage]\ndriver = \"overlay\"\n[storage.options]\nadditionalimagestores = [\"/var/tmp/t/a\"]\n").before(stores),
        one("a list that appends to nothing", &option("additionalimagestores = [\"/var/tmp/t/a\", {append = true}]")).before(stores),
        one("imagestore", &storage("/var/tmp/t/g", "imagestore = \"/var/tmp/t/i\"")),
        one("imagestore that is the graph root", &storage("/var/tmp/t/g", "imagestore = \"/var/tmp/t/g\"")),
        one("imagestore among the options", &option("imagestore = \"/var/tmp/t/a\"")).before(stores),
        one("imagestore and additional stores", &storage("/var/tmp/t/g", "imagestore = \"/var/tmp/t/i\"\n[storage.options]\nadditionalimagestores = [\"/var/tmp/t/a\"]")).before(stores),
        one("a transient store", &storage("/var/tmp/t/g", "transient_store = true")),
        one("a transient store as text", &storage("/var/tmp/t/g", "transient_store = \"true\"")),
        one("a mount program", &overlay("mount_program = \"/usr/bin/fuse-overlayfs\"")),
        one("a mount program for all drivers", &option("mount_program = \"/usr/bin/fuse-overlayfs\"")),
        one("a mount program without a driver", &overlay("mount_program = \"/usr/bin/fuse-overlayfs\"").replace("driver = \"overlay\"\n", "")),
        one("a variable names the file", &g("g")).env("CONTAINERS_STORAGE_CONF", "/var/tmp/t/mine.conf").before(
            "printf '[storage]\\ndriver = \"overlay\"\\nrunroot = \"/run/t/m\"\\ngraphroot = \"/var/tmp/t/m\"\\n' >/var/tmp/t/mine.conf"),
        one("a variable names a file that is not there", &g("g")).env("CONTAINERS_STORAGE_CONF", "/var/tmp/t/none.conf"),
        one("a variable that is empty", &g("g")).env("CONTAINERS_STORAGE_CONF", ""),
        one("XDG_CONFIG_HOME", &g("g")).env("XDG_CONFIG_HOME", "/var/tmp/t/xdg").before(
            "mkdir -p /var/tmp/t/xdg/containers; printf '[storage]\\ndriver = \"overlay\"\\nrunroot = \"/run/t/x\"\\ngraphroot = \"/var/tmp/t/x\"\\n' >/var/tmp/t/xdg/containers/storage.conf"),
        one("XDG_CONFIG_HOME without a file", &g("g")).env("XDG_CONFIG_HOME", "/var/tmp/t/xdg"),
        one("STORAGE_DRIVER", &g("g")).env("STORAGE_DRIVER", "vfs"),
        one("STORAGE_OPTS", &option("additionalimagestores = [\"/var/tmp/t/a\"]")).env("STORAGE_OPTS", "overlay.imagestore=/var/tmp/t/b").before(stores),
        one("STORAGE_OPTS without a driver's name", &option("additionalimagestores = [\"/var/tmp/t/a\"]")).env("STORAGE_OPTS", "imagestore=/var/tmp/t/c,overlay.mount_program=/usr/bin/fuse-overlayfs").before(stores),
        with("drop-ins", &[
            (ETC, &g("g")),
            ("/etc/containers/storage.conf.d/10.conf", "[storage]\ngraphroot = \"/var/tmp/t/d\"\n"),
            ("/etc/containers/storage.conf.d/20.conf", "[storage]\nrunroot = \"/run/t/d\"\n"),
            ("/etc/containers/storage.conf.d/30.txt", "[storage]\nrunroot = \"/run/t/no\"\n"),
        ]),
        with("drop-ins alone", &[("/etc/containers/storage.conf.d/10.conf", &g("d"))]),
        with("drop-ins of the vendor", &[
            (ETC, &g("g")),
            ("/usr/share/containers/storage.conf.d/50.conf", "[storage]\ngraphroot = \"/var/tmp/t/v\"\n"),
            ("/usr/share/containers/storage.conf.d/60.conf", "[storage]\nrunroot = \"/run/t/v\"\n"),
            ("/etc/containers/storage.conf.d/60.conf", "[storage]\nrunroot = \"/run/t/e\"\n"),
        ]),
        with("drop-ins for root", &[
            (USR, &g("u")),
            ("/usr/share/containers/storage.rootful.conf.d/50.conf", "[storage]\ngraphroot = \"/var/tmp/t/v\"\n"),
            ("/etc/containers/storage.rootful.conf.d/60.conf", "[storage]\nrunroot = \"/run/t/e\"\n"),
            ("/etc/containers/storage.rootless.conf.d/90.conf", "[storage]\nrunroot = \"/run/t/no\"\n"),
        ]),
        with("one name in all directories", &[
            ("/usr/share/containers/storage.conf.d/50.conf", &g("1")),
            ("/usr/share/containers/storage.rootful.conf.d/50.conf", &g("2")),
            ("/etc/containers/storage.conf.d/50.conf", &g("3")),
            ("/etc/containers/storage.rootful.conf.d/50.conf", &g("4")),
        ]),
        with("a user's drop-ins", &[
            (ETC, &g("g")),
            ("/root/.config/containers/storage.conf.d/50.conf", "[storage]\ngraphroot = \"/var/tmp/t/o\"\n"),
            ("/etc/containers/storage.conf.d/50.conf", "[storage]\ngraphroot = \"/var/tmp/t/no\"\n"),
        ]),
        with("drop-ins that add to a list", &[
            (ETC, &option("additionalimagestores = [\"/var/tmp/t/a\"]")),
            ("/etc/containers/storage.conf.d/50.conf", "[storage.options]\nadditionalimagestores = [\"/var/tmp/t/b\", {append = true}]\n"),
            ("/etc/containers/storage.conf.d/60.conf", "[storage.options]\nadditionalimagestores = [\"/var/tmp/t/c\"]\n"),
        ]).before(stores),
        with("drop-ins that take the place of a list", &[
            (ETC, &option("additionalimagestores = [\"/var/tmp/t/a\"]")),
            ("/etc/containers/storage.conf.d/50.conf", "[storage.options]\nadditionalimagestores = [\"/var/tmp/t/b\"]\n"),
        ]).before(stores),
        with("a drop-in that is broken", &[(ETC, &g("g")), ("/etc/containers/storage.conf.d/50.conf", "[storage\n")]),
        with("a drop-in that is a link to nothing", &[(ETC, &g("g"))]).before(
            "mkdir -p /etc/containers/storage.conf.d; ln -s /none /etc/containers/storage.conf.d/50.conf"),
        with("a drop-in that takes a value away", &[
            (ETC, &g("g")),
            ("/etc/containers/storage.conf.d/50.conf", "[storage]\ngraphroot = \"\"\n"),
        ]),
        with("a variable leaves drop-ins out", &[(ETC, &g("g")), ("/etc/containers/storage.conf.d/50.conf", &g("no"))])
            .env("CONTAINERS_STORAGE_CONF", ETC),
        with("a variable that counts last", &[(ETC, &g("g")), ("/etc/containers/storage.conf.d/50.conf", &g("d")), ("/var/tmp/t/last", &g("l"))])
            .env("CONTAINERS_STORAGE_CONF_OVERRIDE", "/var/tmp/t/last"),
        one("a variable that counts last, and names nothing", &g("g")).env("CONTAINERS_STORAGE_CONF_OVERRIDE", "/var/tmp/t/none"),
    ]
}

/// What both say, in one form.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Said {
    graph_root: String,
    run_root: String,
    driver: String,
    additional: Vec<String>,
    mount_program: Option<String>,
    transient: bool,
}

fn text(value: &Value) -> String {
    value.as_str().unwrap_or_default().to_owned()
}

/// What podman says; an error in its own words.
fn podmans(host: &Host, configuration: &Configuration) -> Result<Said, String> {
    let mut command = host.command("podman", &["info", "--format", "json"]);
    let output = command.envs(configuration.variables.iter().copied()).output().unwrap();
    if !output.status.success() {
        return Err(String::from_utf8_lossy(&output.stderr).into_owned());
    }
    let info: Value = serde_json::from_slice(&output.stdout).unwrap();
    let store = &info["store"];
    let options = store["graphOptions"].as_object().unwrap();
    let of =
        |suffix: &str| options.iter().find(|(key, _)| key.to_lowercase().ends_with(suffix)).map(|(_, value)| value);
    let list = of("additionalimagestores").and_then(Value::as_array).cloned();
    // Before 5.0 it shows one of several.
    let list = list.unwrap_or_else(|| of("imagestore").into_iter().cloned().collect());
    let clean = |path: &str| format!("/{}", path.split('/').filter(|p| !p.is_empty()).collect::<Vec<_>>().join("/"));
    Ok(Said {
        graph_root: text(&store["graphRoot"]),
        run_root: text(&store["runRoot"]),
        driver: text(&store["graphDriverName"]),
        additional: list.iter().flat_map(|store| text(store).split(',').map(clean).collect::<Vec<_>>()).collect(),
        mount_program: of("mount_program").map(|program| text(&program["Executable"])),
        transient: store["transientStore"].as_bool().unwrap_or_default(),
    })
}

/// What layerseal says, and where the image store is.
fn ours(host: &Host, configuration: &Configuration) -> Result<(Said, Option<String>), String> {
    let mut command = host.command(common::binary().to_str().unwrap(), &["doctor", "--json"]);
    let output = command.envs(configuration.variables.iter().copied()).output().unwrap();
    let report: Value = serde_json::from_slice(&output.stdout).unwrap_or_else(|e| panic!("{e}: {output:?}"));
    let store = &report["store"];
    if !store["error"].is_null() {
        return Err(store["error"].to_string());
    }
    let said = Said {
        graph_root: text(&store["graphroot"]),
        run_root: text(&store["runroot"]),
        driver: store["driver"].as_str().unwrap_or("overlay").to_owned(),
        additional: store["additionalimagestores"].as_array().unwrap().iter().map(text).collect(),
        mount_program: store["mount_program"].as_str().map(str::to_owned),
        transient: store["transient_store"].as_bool().unwrap(),
    };
    Ok((said, store["imagestore"].as_str().map(str::to_owned)))
}

/// Everything of the configuration before is gone.
const CLEAN: &str = "for m in $(awk '$5 ~ \"^/var/(tmp/t|lib/containers/storage)\" {print $5}' /proc/self/mountinfo | sort -r); do umount -l $m; done
    rm -rf /var/tmp/t /run/t /run/containers /run/libpod /var/lib/containers/storage /etc/containers/storage* /root/.config
    find /usr/share/containers -mindepth 1 -name 'storage*' -prune -exec rm -rf {} +
    mkdir -p /var/tmp/t";

#[test]
fn the_store_is_found_where_podman_has_it() {
    if !ready("where podman's store is") {
        return;
    }
    let host = Host::new(scratch::fresh("host"));
    // A copy: what the vendor has is this machine's own.
    host.sh("mkdir -p /var/tmp/usr && cp -a /usr/share/containers/. /var/tmp/usr && mount --bind /var/tmp/usr /usr/share/containers
        mount -t tmpfs -o mode=700 root /root");
    host.write("/etc/containers/policy.json", r#"{"default":[{"type":"insecureAcceptAnything"}]}"#);
    host.write("/etc/containers/registries.conf", "unqualified-search-registries = []\n");
    host.write(
        "/etc/containers/containers.conf",
        "[engine]\nevents_logger = \"file\"\ncgroup_manager = \"cgroupfs\"\n",
    );
    let configurations = all();
    let (mut wrong, mut compared) = (Vec::new(), 0);
    for configuration in &configurations {
        host.sh(CLEAN);
        for (path, text) in &configuration.files {
            host.write(path, text);
        }
        host.sh(configuration.before);
        // Ours first: podman makes directories, and symlinks are followed where all of the path is there.
        let found = ours(&host, configuration);
        let podman = podmans(&host, configuration);
        let same = match (&podman, &found) {
            (Ok(podman), Ok((ours, _))) => {
                compared += 1;
                let one = podman.additional.len() == 1 && Podman::version() < (5, 0);
                let shown =
                    if one { ours.additional.last().cloned().into_iter().collect() } else { ours.additional.clone() };
                *podman == Said { additional: shown, ..ours.clone() }
            }
            // That podman does not start is more than we need to know; that we say where its store is then, no harm.
            (Err(podman), Ok(_)) if podman.contains("must be set") => false,
            (Err(_), _) => true,
            (Ok(_), Err(_)) => false,
        };
        if std::env::var_os("LAYERSEAL_PODMAN_SHOW").is_some() {
            println!("{}: {podman:?}\n    {found:?}", configuration.name);
        }
        if !same {
            wrong.push(format!("{}:\n  podman: {podman:?}\n  layerseal: {found:?}", configuration.name));
        }
    }
    host.sh(CLEAN);
    assert!(compared >= 45, "podman took {compared} of {} only", configurations.len());
    assert!(wrong.is_empty(), "{} of {} differ:\n{}", wrong.len(), configurations.len(), wrong.join("\n"));
}

const RUNTIME: &str = "[engine]\nruntime = \"/usr/bin/layerseal-runtime\"\n";
const CRUN: &str = "[engine]\nruntime = \"crun\"\n";

/// Which runtime containers.conf and its drop-ins name: podman 6 reads one main file and more directories.
#[test]
fn the_runtime_is_the_one_that_podman_takes() {
    const MAIN: &str = "/etc/containers/containers.conf";
    let configurations = [
        with("no file", &[]),
        with("a file in /etc", &[(MAIN, RUNTIME)]),
        with("a file in /usr/share", &[("/usr/share/containers/containers.conf", RUNTIME), (MAIN, "[engine]\n")]),
        with("a drop-in", &[(MAIN, CRUN), ("/etc/containers/containers.conf.d/50.conf", RUNTIME)]),
        with(
            "the last drop-in",
            &[
                ("/etc/containers/containers.conf.d/50.conf", RUNTIME),
                ("/etc/containers/containers.conf.d/60.conf", CRUN),
            ],
        ),
        with("a drop-in for root", &[(MAIN, CRUN), ("/etc/containers/containers.rootful.conf.d/50.conf", RUNTIME)]),
        with("a drop-in of the vendor", &[("/usr/share/containers/containers.conf.d/50.conf", RUNTIME)]),
        with(
            "one that is hidden",
            &[
                ("/usr/share/containers/containers.rootful.conf.d/50.conf", RUNTIME),
                ("/etc/containers/containers.conf.d/50.conf", CRUN),
            ],
        ),
        with("a drop-in of root's own", &[("/root/.config/containers/containers.conf.d/50.conf", RUNTIME)]),
        with("one for others", &[("/etc/containers/containers.rootless.conf.d/50.conf", RUNTIME)]),
    ];
    if !ready("which runtime podman takes") {
        return;
    }
    let host = Host::new(scratch::fresh("host"));
    host.sh("mkdir -p /var/tmp/usr && cp -a /usr/share/containers/. /var/tmp/usr && mount --bind /var/tmp/usr /usr/share/containers
        mount -t tmpfs -o mode=700 root /root
        printf '#!/bin/sh\\necho crun version 1.0\\n' >/var/tmp/runtime; chmod 755 /var/tmp/runtime
        mkdir /var/tmp/bin /var/tmp/work
        mount -t overlay -o lowerdir=/usr/bin,upperdir=/var/tmp/bin,workdir=/var/tmp/work bin /usr/bin
        cp /var/tmp/runtime /usr/bin/layerseal-runtime");
    let mut named = 0;
    for configuration in &configurations {
        host.sh("rm -rf /etc/containers/containers* /usr/share/containers/containers* /root/.config");
        for (path, text) in &configuration.files {
            host.write(path, text);
        }
        let output = host.command("podman", &["info", "--format", "json"]).output().unwrap();
        let info: Value = serde_json::from_slice(&output.stdout).unwrap_or_else(|e| panic!("{e}: {output:?}"));
        let theirs = info["host"]["ociRuntime"]["path"] == "/usr/bin/layerseal-runtime";
        let output = host.command(common::binary().to_str().unwrap(), &["doctor", "--json"]).output().unwrap();
        let report: Value = serde_json::from_slice(&output.stdout).unwrap();
        let checks = report["checks"].as_array().unwrap();
        let restore = checks.iter().find(|check| check["check"] == "podman container restore").unwrap();
        let ours = restore["found"].as_str().unwrap().contains("layerseal is the runtime");
        assert_eq!(ours, theirs, "{}: {restore} {}", configuration.name, info["host"]["ociRuntime"]);
        named += usize::from(theirs);
    }
    assert!((2..configurations.len()).contains(&named), "{named}");
}
