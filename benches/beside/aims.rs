//! The aims, and whether what was measured meets them.

use serde_json::Value;

use super::numbers::{middle, number};
use super::previous::Page;

/// A line of a table: where, the table, the case, the tool.
type Line = [&'static str; 4];

const PULL: Line = ["host", "pull", "big-5", "layerseal pull"];
const CFSCTL_PULL: Line = ["host", "pull", "big-5", "cfsctl oci pull"];
const TAR: Line = ["host", "pull", "big-5", "tar -x (floor)"];
const SHA: Line = ["host", "pull", "big-5", "SHA-256 of the layers (floor)"];
const VERITY: Line = ["host", "pull", "big-5", "fs-verity digests of the files (floor)"];
const FIRST: Line = ["host", "first use", "big-5", "layerseal, first mount"];
const VM_FIRST: Line = ["vm", "first use", "small-5", "layerseal, first mount"];
const VM_KERNEL: Line = ["vm", "first use", "small-5", "FS_IOC_ENABLE_VERITY alone, 2 threads"];
const VM_LINKS: Line = ["vm", "first use", "small-5", "cp -al of the store (floor)"];
const CALL: Line = ["host", "starts", "mount_program call, warm", "layerseal (9 signatures)"];
const FUSE_CALL: Line = ["host", "starts", "mount_program call, warm", "fuse-overlayfs"];

const CHECK: Line = ["host", "check", "check --all, 200 images", "layerseal, warm"];

const SIZE: Line = ["host", "program", "size", "layerseal"];
const FAULTS: Line = ["host", "program", "page faults of --version", "layerseal"];

const PULLED: &str = "pull and first start, big-5";
const FIFTY: &str = "pull and first start, 50 MB";
const PREPARED: &str = "first start, prepared, big-5";
const SEALS: &str = "an image and its seal";

const INSIDE: &str = "every file, inside";
const RUN: &str = "podman run --rm";
const AT_ONCE: &str = "50 × podman run at once";

/// Makes a line of the table of starts.
const fn start(case: &'static str, way: &'static str) -> Line {
    ["host", "starts", case, way]
}

/// What is asked of a number, in its unit.
#[derive(Clone, Copy)]
enum Aim {
    AtMost(f64),
    AtLeast(f64),
    /// Nothing but that it could be measured.
    Works,
}

/// A row: the work, the aim, its unit, what was measured, and others' numbers in the same unit.
type Row = (&'static str, Aim, &'static str, Option<f64>, Vec<(&'static str, Option<f64>)>);

/// Writes the table of all aims, from the lines of the file of results; what is not in them is as it was.
pub fn table(lines: &[Value], before: &Page) -> String {
    let mut out = String::from("| work | aim | measured | beside it | |\n|---|---|--:|---|---|\n");
    for (work, aim, unit, found, others) in rows(&|line, key| get(lines, line, key)) {
        let before = before.found(work).filter(|_| found.is_none());
        let found = found.or(before.map(|(found, _)| found));
        let asked = match aim {
            Aim::AtMost(most) => format!("≤ {most} {unit}"),
            Aim::AtLeast(least) => format!("≥ {least} {unit}"),
            Aim::Works => String::new(),
        };
        let verdict = match (aim, found) {
            (_, None) => "not measured",
            (Aim::AtMost(most), Some(found)) if found > most => "missed",
            (Aim::AtLeast(least), Some(found)) if found < least => "missed",
            (Aim::Works, _) => "works",
            _ => "met",
        };
        let shown = |value: Option<f64>| value.map(|v| format!("{} {unit}", number(v))).unwrap_or_default();
        let others: Vec<String> =
            others.into_iter().filter(|o| o.1.is_some()).map(|(tool, v)| format!("{tool} {}", shown(v))).collect();
        let others = before.map_or_else(|| others.join(", "), |(_, others)| others.to_owned());
        let found = shown(found);
        let cells = [work, asked.trim_end(), found.trim_end(), &others, verdict];
        out.push_str(&format!("| {} |\n", cells.join(" | ")));
    }
    out
}

fn get(lines: &[Value], [place, table, case, tool]: Line, key: &str) -> Option<f64> {
    let wanted = |l: &&Value| l["where"] == place && l["table"] == table && l["case"] == case && l["tool"] == tool;
    let line = lines.iter().find(wanted)?;
    middle(line, key).or_else(|| line[key].as_f64())
}

fn rows(get: &dyn Fn(Line, &str) -> Option<f64>) -> Vec<Row> {
    use Aim::{AtLeast, AtMost, Works};
    let wall = |line| get(line, "wall");
    let cpu = |line| get(line, "cpu");
    let ms = |seconds: Option<f64>| seconds.map(|s| s * 1000.0);
    let of = |a: Option<f64>, b: Option<f64>| Some(a? / b?);
    let sign = |tool| ["host", "sign", "big-5", tool];
    let mount = |tool| ["host", "mount", "big-5", tool];
    let directory = |tool| ["host", "directory", "big-1", tool];
    let hashing = |tool| get(["host", "hashing", "one thread", tool], "value");
    let registry = |case, tool| wall(["host", "registry", case, tool]);
    let seals = |tool| wall(["host", "seals", SEALS, tool]);
    let million = |tool| ["host", "growth", "files 1000000", tool];
    let layers = |tool| ["host", "growth", "layers 500", tool];
    let stat = |tool| ["host", "reading, stat of every file", "1 layer", tool];
    let memory = ["pull", "sign", "first mount"].map(|tool| get(million(tool), "memory"));
    vec![
        ("pull, of cfsctl's time", AtMost(0.45), "", of(wall(PULL), wall(CFSCTL_PULL)), vec![]),
        (
            "pull, processor",
            AtMost(3.5),
            "s",
            cpu(PULL),
            vec![("cfsctl", cpu(CFSCTL_PULL)), ("tar -x alone", cpu(TAR))],
        ),
        (
            "pull, of `tar -x`, SHA-256 and fs-verity digests, each alone on both processors",
            AtMost(1.15),
            "",
            of(wall(PULL), wall(TAR).zip(wall(SHA)).zip(wall(VERITY)).map(|((tar, sha), verity)| tar + sha + verity)),
            vec![],
        ),
        ("pull, memory", AtMost(64.0), "MB", get(PULL, "memory"), vec![("cfsctl", get(CFSCTL_PULL, "memory"))]),
        (
            "sign from the vault",
            AtMost(0.6),
            "s",
            wall(sign("layerseal sign")),
            vec![("cfsctl, digest alone", wall(sign("cfsctl oci compute-id (no signature)")))],
        ),
        (
            "verify and mount from the vault",
            AtMost(15.0),
            "ms",
            ms(wall(mount("layerseal mount (9 signatures)"))),
            vec![("mount.composefs, without signatures", ms(wall(mount("mount.composefs (no signature)"))))],
        ),
        (
            "first use from the container store",
            AtMost(3.0),
            "s",
            wall(FIRST),
            vec![("cfsctl", wall(["host", "first use", "big-5", "cfsctl oci pull --local-fetch auto"]))],
        ),
        (
            "the same with fs-verity, of the kernel's time (*small*, VM)",
            AtMost(1.15),
            "",
            of(wall(VM_FIRST), wall(VM_KERNEL)),
            // It also gives each file its second name.
            vec![(
                "of that and half of `cp -al`",
                of(wall(VM_FIRST), wall(VM_KERNEL).zip(wall(VM_LINKS)).map(|(a, b)| a + b / 2.0)),
            )],
        ),
        (
            "directory → EROFS digest (one layer)",
            AtMost(1.3),
            "s",
            wall(directory("layerseal digest --directory")),
            vec![
                ("mkcomposefs", wall(directory("mkcomposefs --print-digest-only"))),
                ("cfsctl", wall(directory("cfsctl compute-id"))),
            ],
        ),
        ("`check --all`, for each of 200 images", AtMost(5.0), "ms", ms(wall(CHECK)).map(|all| all / 200.0), vec![]),
        (
            "fs-verity hashing, sha256",
            AtLeast(3.0),
            "GB/s",
            hashing("fsverity-sha256-12, 1 MiB pieces"),
            vec![("openssl speed", hashing("openssl speed sha256, 16 KiB messages"))],
        ),
        (
            "fs-verity hashing, sha512",
            AtLeast(2.4),
            "GB/s",
            hashing("fsverity-sha512-12, 1 MiB pieces"),
            vec![("openssl speed", hashing("openssl speed sha512, 16 KiB messages"))],
        ),
        (
            "`podman run` with layerseal as the runtime, of native overlay",
            AtMost(1.04),
            "",
            of(wall(start(RUN, "runtime")), wall(start(RUN, "native"))),
            vec![],
        ),
        (
            "the same, of a shell before crun",
            AtMost(1.04),
            "",
            of(wall(start(RUN, "runtime")), wall(start(RUN, "idle runtime"))),
            vec![],
        ),
        (
            "with the hooks, of two hooks that do nothing",
            AtMost(1.02),
            "",
            of(wall(start(RUN, "hooks")), wall(start(RUN, "idle hooks"))),
            vec![],
        ),
        (
            "50 at once with the hooks, of native overlay",
            AtMost(1.1),
            "",
            of(wall(start(AT_ONCE, "hooks")), wall(start(AT_ONCE, "native"))),
            vec![],
        ),
        (
            "50 at once, processor",
            AtMost(1.2),
            "",
            of(cpu(start(AT_ONCE, "hooks")), cpu(start(AT_ONCE, "native"))),
            vec![],
        ),
        (
            "both hooks, warm",
            AtMost(7.0),
            "ms",
            ms(wall(start("hooks, warm", "precreate"))
                .zip(wall(start("hooks, warm", "createRuntime")))
                .map(|(a, b)| a + b)),
            vec![],
        ),
        (
            "warm mount_program call, 9 signatures",
            AtMost(10.0),
            "ms",
            ms(wall(CALL)),
            vec![("fuse-overlayfs", ms(wall(FUSE_CALL)))],
        ),
        (
            "warm mount_program call, processor",
            AtMost(6.0),
            "ms",
            ms(cpu(CALL)),
            vec![("`layerseal --version`", ms(cpu(["host", "starts", CALL[2], "layerseal --version"])))],
        ),
        (
            "`podman run` of a user, with the service, of rootless native overlay",
            AtMost(1.05),
            "",
            of(wall(["host", "rootless", RUN, "layerseal"]), wall(["host", "rootless", RUN, "native"])),
            vec![(
                "fuse-overlayfs",
                of(wall(["host", "rootless", RUN, "fuse-overlayfs"]), wall(["host", "rootless", RUN, "native"])),
            )],
        ),
        (
            "every file inside that user's container, of the same as root",
            AtMost(1.05),
            "",
            of(
                wall(["host", "rootless", INSIDE, "layerseal"]),
                wall(["host", "rootless", INSIDE, "layerseal, as root"]),
            ),
            vec![(
                "fuse-overlayfs",
                of(
                    wall(["host", "rootless", INSIDE, "fuse-overlayfs"]),
                    wall(["host", "rootless", INSIDE, "layerseal, as root"]),
                ),
            )],
        ),
        (
            "stat of every file, one layer, of native overlay",
            AtMost(1.0),
            "",
            of(wall(stat("layerseal")), wall(stat("native overlay"))),
            vec![("mount.composefs", of(wall(stat("mount.composefs")), wall(stat("native overlay"))))],
        ),
        (
            "`podman pull` and first start with the hooks, of podman alone",
            AtMost(1.15),
            "",
            of(registry(PULLED, "hooks"), registry(PULLED, "native")),
            vec![("mount program", of(registry(PULLED, "mount program"), registry(PULLED, "native")))],
        ),
        (
            "the same, of 50 MB, more than podman alone",
            AtMost(0.3),
            "s",
            registry(FIFTY, "hooks").zip(registry(FIFTY, "native")).map(|(ours, native)| ours - native),
            vec![],
        ),
        (
            "first start of an image that was prepared, with the mount program, of podman alone",
            AtMost(1.05),
            "",
            of(registry(PREPARED, "mount program"), registry(PREPARED, "native")),
            vec![("hooks", of(registry(PREPARED, "hooks"), registry(PREPARED, "native")))],
        ),
        (
            "verify an image in a registry, of `skopeo inspect`",
            AtMost(2.0),
            "",
            of(seals("layerseal verify"), seals("skopeo inspect")),
            vec![],
        ),
        (
            "fetch its seals, of `skopeo inspect`",
            AtMost(2.0),
            "",
            of(seals("layerseal fetch"), seals("skopeo inspect")),
            vec![],
        ),
        (
            "warm mount_program call of an image with two trusted seals, of one with one",
            AtMost(1.1),
            "",
            of(wall(["host", "starts", CALL[2], "layerseal, two seals"]), wall(CALL)),
            vec![],
        ),
        ("size of the program", AtMost(6.0), "MB", get(SIZE, "value"), vec![]),
        ("page faults of `layerseal --version`", AtMost(250.0), "", get(FAULTS, "value"), vec![]),
        (
            "1 million files: the most memory of pull, sign and first mount",
            AtMost(500.0),
            "MB",
            memory.into_iter().flatten().reduce(f64::max),
            vec![],
        ),
        (
            "500 layers, verify and mount",
            Works,
            "ms",
            ms(wall(layers("verify and mount"))),
            vec![("their pull", ms(wall(layers("pull"))))],
        ),
        (
            "start flat in files: with ten times as many, of the time (VM)",
            // Two of them, taken one after the other, differ by as much.
            AtMost(1.25),
            "",
            of(
                wall(["vm", "growth", "files 10000", "verify and mount"]),
                wall(["vm", "growth", "files 1000", "verify and mount"]),
            ),
            vec![],
        ),
    ]
}
