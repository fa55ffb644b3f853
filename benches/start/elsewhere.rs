//! What a vault costs that is not in the graph root: the time of `layerseal prepare`, and the space that it takes, with the
//! files hard-linked, with their blocks shared, and copied into a filesystem that `layerseal vault create` made. Every round
//! has filesystems of its own, which hold nothing but what is measured.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use measure::{Line, Part, Usage, done, flush, in_turn, usage};
use support::measure;

use super::{HOOKS, IMAGE, Place};

const ROUNDS: usize = 3;
/// How much each filesystem can hold, in MB: files with holes, but for the vault's.
const ROOM: u64 = 8000;
const TABLE: &str = "vault elsewhere";

const EXT4: (&str, &[&str]) = ("ext4", &["mkfs.ext4", "-q", "-F", "-b", "4096", "-O", "verity"]);
const BTRFS: (&str, &[&str]) = ("btrfs", &["mkfs.btrfs", "-q", "-f"]);

/// Where the vault is.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Vault {
    GraphRoot,
    /// A directory of the same filesystem, which no hard link reaches.
    Subvolume,
    Created,
}

/// Measures the image `name` of the layout `input`.
pub fn elsewhere(place: &Place, input: &Path, name: &str) {
    let image = place.path("elsewhere");
    done(Command::new("cp").arg("-a").arg(input).arg(&image));
    place.sign(&image, IMAGE, "bench");
    let store = place.store(HOOKS);
    store.load_only(&image);
    let root = place.root(HOOKS);
    // podman's driver mounts it on itself.
    let _ = Command::new("umount").arg(root.join("g/overlay")).stderr(Stdio::null()).status();
    std::fs::rename(root.join("g"), root.join("kept")).unwrap();
    let host = Hosted { place, image, root, megabytes: (size_of(input) * 2 / 1_000_000 + 200).min(ROOM) };
    let ways: [(_, &[(&str, Vault)]); 2] = [
        (EXT4, &[("in the graph root, hard links", Vault::GraphRoot), ("vault create, copies", Vault::Created)]),
        (
            BTRFS,
            &[
                ("in the graph root, hard links", Vault::GraphRoot),
                ("another subvolume, shared blocks", Vault::Subvolume),
            ],
        ),
    ];
    for (filesystem, vaults) in ways {
        let case = format!("{name}, {}", filesystem.0);
        let space: Vec<_> = vaults.iter().map(|_| std::cell::Cell::new(0)).collect();
        let mut parts: Vec<Part<'_>> = Vec::new();
        for ((tool, vault), space) in vaults.iter().zip(&space) {
            let host = &host;
            parts.push((
                tool,
                Box::new(move |_| {
                    let (usage, took) = host.prepared(filesystem.1, *vault);
                    space.set(took);
                    usage
                }),
            ));
        }
        if filesystem == EXT4 {
            parts.push(("cp -a of the layers (floor)", Box::new(|_| host.copied(filesystem.1))));
        }
        in_turn(TABLE, &case, ROUNDS, parts);
        let table = format!("{TABLE}, space");
        Line { table: &table, case: &case, tool: "the layers themselves" }
            .value("MB", megabytes(size_of(&host.layers())));
        for ((tool, _), space) in vaults.iter().zip(&space) {
            Line { table: &table, case: &case, tool }.value("MB", megabytes(space.get()));
        }
    }
}

struct Hosted<'a> {
    place: &'a Place,
    image: PathBuf,
    root: PathBuf,
    /// The size of a vault that is made.
    megabytes: u64,
}

impl Hosted<'_> {
    fn layers(&self) -> PathBuf {
        self.root.join("kept/overlay")
    }

    /// Makes a filesystem, and has the graph root in it as podman has just left it: on the disk, and in memory.
    fn mounted(&self, command: &[&str]) -> Mounted {
        let (file, at) = (self.place.path("disk"), self.root.join("g"));
        let mounted = Mounted::new(&file, &at, command);
        done(Command::new("cp").arg("-a").arg(self.root.join("kept/.")).arg(&at));
        flush();
        mounted
    }

    /// Prepares the image; returns what that cost, and the bytes that it took on the disk.
    fn prepared(&self, command: &[&str], vault: Vault) -> (Usage, u64) {
        let graph = self.mounted(command);
        let dir = match vault {
            Vault::GraphRoot => None,
            Vault::Subvolume => {
                let dir = graph.at.join("elsewhere");
                done(Command::new("btrfs").args(["-q", "subvolume", "create"]).arg(&dir));
                Some(dir)
            }
            Vault::Created => Some(self.place.path("vault")),
        };
        let created = (vault == Vault::Created).then(|| {
            let (file, at) = (self.place.path("vault.img"), self.place.path("vault"));
            let mut create = Command::new(Place::layerseal());
            create.args(["vault", "create", "--size", &format!("{}M", self.megabytes), "--file"]).arg(&file).arg(&at);
            done(create.stdout(Stdio::null()));
            Mounted::of(file, at)
        });
        let policy = "/etc/layerseal/policy.toml";
        let before = std::fs::read_to_string(policy).unwrap();
        if let Some(dir) = &dir {
            std::fs::write(policy, format!("{before}[store]\nvault = \"{}\"\n", dir.display())).unwrap();
        }
        flush();
        let on = created.as_ref().unwrap_or(&graph);
        let used = on.used();
        let mut prepare = Command::new(Place::layerseal());
        prepare.args(["prepare", IMAGE, "--seal", &format!("oci:{}", self.image.display())]).stdout(Stdio::null());
        self.place.store(HOOKS).environment(&mut prepare);
        let usage = usage(&mut prepare);
        flush();
        let took = on.used().saturating_sub(used);
        std::fs::write(policy, before).unwrap();
        (usage, took)
    }

    /// Copies the layers' files into an empty filesystem.
    fn copied(&self, command: &[&str]) -> Usage {
        let graph = self.mounted(command);
        let other = Mounted::new(&self.place.path("other"), &self.place.path("copy"), command);
        let mut copy = Command::new("cp");
        usage(copy.arg("-a").arg(graph.at.join("overlay")).arg(&other.at))
    }
}

/// A filesystem in a file, which goes with this value.
struct Mounted {
    file: PathBuf,
    at: PathBuf,
}

impl Mounted {
    fn new(file: &Path, at: &Path, command: &[&str]) -> Self {
        std::fs::File::create(file).unwrap().set_len(ROOM << 20).unwrap();
        done(Command::new(command[0]).args(&command[1..]).arg(file).stdout(Stdio::null()));
        std::fs::create_dir_all(at).unwrap();
        Self::of(file.to_owned(), at.to_owned())
    }

    fn of(file: PathBuf, at: PathBuf) -> Self {
        done(Command::new("mount").args(["-o", "loop"]).arg(&file).arg(&at));
        Self { file, at }
    }

    /// Returns the bytes that are not free.
    fn used(&self) -> u64 {
        let stat = rustix::fs::statvfs(&self.at).unwrap();
        (stat.f_blocks - stat.f_bfree) * stat.f_frsize
    }
}

impl Drop for Mounted {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg(self.at.join("overlay")).stderr(Stdio::null()).status();
        done(Command::new("umount").arg(&self.at));
        // As `vault create` leaves it.
        let _ = Command::new("chattr").arg("-i").arg(&self.at).stderr(Stdio::null()).status();
        std::fs::remove_file(&self.file).unwrap();
        let _ = std::fs::remove_dir(&self.at);
    }
}

/// Returns what files take, by du(1).
fn size_of(path: &Path) -> u64 {
    let output = Command::new("du").args(["-s", "--block-size=1"]).arg(path).output().unwrap();
    String::from_utf8(output.stdout).unwrap().split_whitespace().next().unwrap().parse().unwrap()
}

#[allow(clippy::cast_precision_loss)] // megabytes
fn megabytes(bytes: u64) -> f64 {
    bytes as f64 / 1e6
}
