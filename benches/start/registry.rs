//! What a host waits for between a registry and the first container: `podman pull` and the first start, beside podman
//! alone, with the seal fetched at that start or with the image prepared before it; and looking at a seal in a registry beside
//! `skopeo inspect`.

use std::cell::Cell;
use std::path::Path;
use std::process::{Command, Stdio};

use measure::{Part, Usage, done, flush, in_turn, settle, usage};
use support::{measure, tools};
use tools::Site;

use super::{HOOKS, MOUNT_PROGRAM, NATIVE, Place, Store};

/// Files and bytes of the image that is 50 MB.
const FIFTY: (usize, usize) = (2000, 50 << 20);
/// The case of a look at seals.
const SEALS: &str = "an image and its seal";
/// How often seals are looked at.
const CALLS: usize = 20;

/// Where the images are.
struct Registry {
    site: Site,
    /// How many graph roots were used.
    spent: Cell<usize>,
}

impl Place {
    /// Measures an image that is made here and the one of the layout `input`, which is called `name`.
    pub fn registry(&self, input: &Path, name: &str) {
        let registry = Registry::new(self);
        let policy = std::fs::read_to_string("/etc/layerseal/policy.toml").unwrap();
        std::fs::write("/etc/layerseal/policy.toml", policy + "fetch = \"on-mount\"\n").unwrap();
        let fifty = self.image("fifty", FIFTY.0, FIFTY.1);
        let large = self.path("large");
        done(Command::new("cp").arg("-a").arg(input).arg(&large));
        // For a look at seals alone.
        let starts = std::env::var_os("LAYERSEAL_BENCH_SEALS").is_none();
        for (image, case, rounds) in [(&fifty, "50 MB", 9), (&large, name, 3)] {
            let at = registry.push(self, image, case);
            if starts {
                self.first_starts(&registry, case, &at, rounds);
            }
        }
        if !starts {
            let policy = self.path("policy.json").display().to_string();
            let pull = ["pull", "-q", "--tls-verify=false", "--signature-policy", &policy, &registry.name(name)];
            done(registry.environment(&mut self.store(NATIVE).podman(&pull)));
        }
        // Not while the disk writes what was pulled.
        settle();
        // The one that is in the store now, for which seals can be fetched.
        registry.looked_at(self, &registry.name(name));
    }

    /// Measures a pull and the first start after it, and that start alone for an image that was prepared.
    fn first_starts(&self, registry: &Registry, case: &str, at: &str, rounds: usize) {
        let stores = [NATIVE, HOOKS, MOUNT_PROGRAM].map(|way| self.store(way));
        registry.removed(&stores);
        let pull = ["pull", "-q", "--tls-verify=false", "--signature-policy"];
        let policy = self.path("policy.json").display().to_string();
        let pull = [&pull[..], &[&policy, at]].concat();
        let start = ["run", "--rm", "--pull", "never", at, "/bin/true"];
        let [all, alone] = ["pull and first start", "first start, prepared"].map(|what| format!("{what}, {case}"));
        let mut parts: Vec<Part<'_>> = Vec::new();
        for store in &stores {
            let script = format!("podman {} >/dev/null && exec podman {}", pull.join(" "), start.join(" "));
            parts.push((
                store.way.name,
                Box::new(move |_| {
                    registry.emptied(store);
                    let mut both = Command::new("sh");
                    store.environment(registry.environment(both.args(["-c", &script]).stdout(Stdio::null())));
                    usage(&mut both)
                }),
            ));
        }
        in_turn("registry", &all, rounds, parts);
        registry.removed(&stores);
        let mut parts: Vec<Part<'_>> = Vec::new();
        for store in &stores {
            let pull = &pull;
            parts.push((
                store.way.name,
                Box::new(move |_| {
                    registry.emptied(store);
                    done(registry.environment(&mut store.podman(pull)));
                    if store.way.is_ours() {
                        let mut prepare = Command::new(Self::layerseal());
                        prepare.args(["prepare", "--all"]).stdout(Stdio::null());
                        store.environment(&mut prepare);
                        done(registry.environment(&mut prepare));
                    }
                    flush();
                    usage(&mut store.podman(&start))
                }),
            ));
        }
        in_turn("registry", &alone, rounds, parts);
    }
}

impl Registry {
    fn new(place: &Place) -> Self {
        let site = Site::plain().expect("tests/registry/tools.sh brings the registry");
        // What a program finds without an environment.
        let skopeo = tools::tools().unwrap().join("skopeo-trixie/bin/skopeo");
        done(Command::new("mount").arg("--bind").arg(skopeo).arg("/usr/bin/skopeo"));
        let conf = place.path("registries.conf.d");
        std::fs::create_dir_all(&conf).unwrap();
        let insecure = format!("[[registry]]\nlocation = \"127.0.0.1:{}\"\ninsecure = true\n", site.port);
        std::fs::write(conf.join("bench.conf"), insecure).unwrap();
        done(Command::new("mount").arg("--bind").arg(conf).arg("/etc/containers/registries.conf.d"));
        Self { site, spent: Cell::new(0) }
    }

    /// Gives a way a store with nothing in it, and takes away what is known of images. The one before stays:
    /// removing it would slow down whoever writes next.
    fn emptied(&self, store: &Store<'_>) {
        let root = store.place.root(store.way);
        self.spent.set(self.spent.get() + 1);
        if root.join("g").exists() {
            std::fs::rename(root.join("g"), root.join(format!("spent{}", self.spent.get()))).unwrap();
        }
        for entry in std::fs::read_dir("/var/lib/layerseal").unwrap() {
            std::fs::remove_dir_all(entry.unwrap().path()).unwrap();
        }
        flush();
    }

    /// Removes the stores that were used.
    fn removed(&self, stores: &[Store<'_>]) {
        let mut any = false;
        for store in stores {
            for number in 1..=self.spent.get() {
                let spent = store.place.root(store.way).join(format!("spent{number}"));
                if spent.exists() {
                    std::fs::remove_dir_all(spent).unwrap();
                    any = true;
                }
            }
        }
        if any {
            settle();
        }
    }

    fn environment<'a>(&self, command: &'a mut Command) -> &'a mut Command {
        command.env("PATH", tools::path(self.site.skopeo))
    }

    fn name(&self, case: &str) -> String {
        self.site.repository(&format!("bench/{}", case.to_lowercase().replace(' ', "-")))
    }

    /// Pushes an image with a seal for its name there.
    fn push(&self, place: &Place, image: &Path, case: &str) -> String {
        let name = self.name(case);
        place.sign(image, &name, "bench");
        let mut push = Command::new(Place::layerseal());
        push.args(["push", &format!("oci:{}", image.display()), &format!("docker://{name}"), "--signatures"]);
        done(self.environment(push.arg("--tls-verify=false").stdout(Stdio::null())));
        name
    }

    /// Measures what others and we take to look at an image in the registry.
    fn looked_at(&self, place: &Place, name: &str) {
        let there = format!("docker://{name}");
        let run = |program: &str, args: &[&str]| -> Usage {
            let mut command = Command::new(program);
            place.store(NATIVE).environment(command.args(args).stdout(Stdio::null()).stderr(Stdio::null()));
            usage(self.environment(&mut command))
        };
        let ours = Place::layerseal();
        let verify = ["verify", &there, "--trust", "/etc/layerseal/trust.d/bench", "--tls-verify=false"];
        // Beside the image, which podman alone has pulled.
        let vault = place.root(NATIVE).join("g/layerseal");
        let fetch = ["fetch", name, "--tls-verify=false"];
        let parts: Vec<Part<'_>> = vec![
            ("skopeo inspect", Box::new(|_| run("skopeo", &["inspect", "--tls-verify=false", &there]))),
            ("layerseal verify", Box::new(|_| run(&ours, &verify))),
            (
                "layerseal fetch",
                Box::new(|_| {
                    let _ = std::fs::remove_dir_all(&vault);
                    run(&ours, &fetch)
                }),
            ),
        ];
        in_turn("seals", SEALS, CALLS, parts);
    }
}
