mod runtime;
mod store;

use std::path::Path;
use std::process::ExitCode;

use serde_json::json;

use crate::cli::args;
use crate::cli::home::Home;
use crate::cli::output;
use crate::hook::{self, Caller, Found, Since, Stage};
use crate::identify::{graph_root, mount_program};
use crate::policy::{Directories, Policy};
use crate::prepare;
use crate::report::{Case, Class};
use crate::sys::keyring::VerityKeyring;
use crate::sys::mounts::{Configure, kernel_release};
use crate::sys::{files, process, verity};
use crate::vault::Vault;

pub(super) use store::vault;

/// One thing that was looked at.
struct Check {
    name: &'static str,
    state: State,
    found: String,
    remedy: String,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum State {
    /// There.
    Ok,
    /// Missing, and sealed mounts work without it.
    Optional,
    /// Missing, and no sealed mount is possible.
    Missing,
}

impl State {
    fn name(self) -> &'static str {
        match self {
            Self::Ok => "ok",
            Self::Optional => "optional",
            Self::Missing => "missing",
        }
    }
}

/// `layerseal doctor`
pub(super) fn run(home: &Home, args: &args::Doctor) -> anyhow::Result<ExitCode> {
    let kernel = [root(), kernel(), erofs(), overlay(), filesystem(home), signatures(), keys(), required()];
    let (store, found) = store::look();
    let own =
        kernel.into_iter().chain(proof(home)).chain(objects(home)).chain(store).chain([policy(), podman(), restore()]);
    let checks: Vec<Check> = own.chain(hooks()).chain(runtime::checks()).chain([skopeo(home)]).collect();
    let enforces = checks.iter().all(|c| c.state != State::Missing);
    if args.json {
        let list: Vec<_> = checks
            .iter()
            .map(|c| json!({"check": c.name, "state": c.state.name(), "found": c.found, "remedy": c.remedy}))
            .collect();
        output::document(&json!({"enforces": enforces, "checks": list, "store": found}));
    } else {
        let mut rows = Vec::new();
        for check in &checks {
            rows.push(vec![check.state.name().to_owned(), check.name.to_owned(), check.found.clone()]);
        }
        output::table(&rows);
        for check in checks.iter().filter(|c| c.state != State::Ok && !c.remedy.is_empty()) {
            output::line(format!("{}: {}", check.name, check.remedy));
        }
        output::line(if enforces {
            "this host can enforce sealed images"
        } else {
            "this host cannot enforce sealed images"
        });
    }
    Ok(if enforces { ExitCode::SUCCESS } else { ExitCode::from(Class::CannotEnforce.exit_code()) })
}

fn check(name: &'static str, state: State, found: impl Into<String>, remedy: impl Into<String>) -> Check {
    Check { name, state, found: found.into(), remedy: remedy.into() }
}

fn root() -> Check {
    let root = rustix::process::geteuid().is_root();
    let state = if root { State::Ok } else { State::Missing };
    check(
        "root",
        state,
        if root { "running as root" } else { "not running as root" },
        "mounting needs root; rootless comes later",
    )
}

fn kernel() -> Check {
    judge_kernel(kernel_release())
}

fn judge_kernel((major, minor, patch): (u32, u32, u32)) -> Check {
    let found = format!("Linux {major}.{minor}");
    if let Some(mended) = broken((major, minor, patch)) {
        let why = format!("{found}.{patch}: the first open of each object of an image fails (verity=require)");
        return check("kernel", State::Missing, why, format!("use Linux {mended} or newer"));
    }
    match (major, minor) {
        (..6, _) | (6, ..6) => {
            check("kernel", State::Missing, found, "use Linux 6.6 or newer: older ones have no verity= for overlayfs")
        }
        (6, 6..12) => check(
            "kernel",
            State::Optional,
            format!("{found}, EROFS through loop devices"),
            "Linux 6.12 and newer mount EROFS images from files",
        ),
        _ => check("kernel", State::Ok, found, ""),
    }
}

/// Kernels that take `verity=require` and do not do what it says: the first that does again. From 7.0 on overlayfs
/// looked for the digest of a file that nobody had opened yet where it was not (f77f281b6118, mended in 7.0.7).
fn broken(release: (u32, u32, u32)) -> Option<&'static str> {
    ((7, 0, 0)..(7, 0, 7)).contains(&release).then_some("7.0.7")
}

fn erofs() -> Check {
    match Configure::open("erofs") {
        Ok(_) => check("EROFS", State::Ok, "available", ""),
        Err(e) => check(
            "EROFS",
            State::Missing,
            e.to_string(),
            "modprobe erofs; or a kernel with CONFIG_EROFS_FS and CONFIG_EROFS_FS_XATTR",
        ),
    }
}

fn overlay() -> Check {
    const REMEDY: &str = "modprobe overlay; verity=require needs Linux 6.6 or newer";
    let tried = Configure::open("overlay").and_then(|overlay| overlay.string("verity", "require"));
    match tried {
        Ok(()) => check("overlayfs verity=require", State::Ok, "accepted", ""),
        Err(e) => check("overlayfs verity=require", State::Missing, e.to_string(), REMEDY),
    }
}

/// The vault's filesystem, or that of the nearest directory above it that exists.
fn filesystem(home: &Home) -> Check {
    const NAME: &str = "fs-verity";
    let existing = home.vault.ancestors().find(|d| d.is_dir()).unwrap_or(Path::new("/"));
    let shown = existing.display().to_string();
    let probe = files::open_dir(existing)
        .map_err(|e| e.to_string())
        .and_then(|dir| prepare::probe(dir, &shown).map_err(|r| format!("{}: {}", r.case().what(), r.detail())));
    match probe {
        Ok(()) => check(NAME, State::Ok, format!("enabled on a file in {shown}"), ""),
        Err(why) => check(
            NAME,
            State::Missing,
            format!("{shown}: {}", why.trim_end_matches(": ")),
            Case::G06Unsupported.remedy(),
        ),
    }
}

/// What the options and versions of above are worth: see [`crate::start::prove`].
fn proof(home: &Home) -> Option<Check> {
    const NAME: &str = "sealed files, tried";
    if !rustix::process::geteuid().is_root() {
        return None;
    }
    Some(match crate::start::prove(&home.vault) {
        Ok(()) => check(NAME, State::Ok, "an object is read, and with another digest or without one it is not", ""),
        // It comes to no mount, which the lines above say why.
        Err(refusal) => check(NAME, State::Missing, refusal.to_string(), ""),
    })
}

/// What the filesystem has lost of the vault: see docs/assurance.md.
fn objects(home: &Home) -> Option<Check> {
    const NAME: &str = "objects of the vault";
    let lost = || match home.has_vault()? {
        true => Vault::open(&home.vault)?.lost_objects().map(Some),
        false => Ok(None),
    };
    Some(match lost() {
        Ok(None) => return None,
        Ok(Some(lost)) if lost.is_empty() => check(NAME, State::Ok, "none has lost its fs-verity data", ""),
        Ok(Some(lost)) => {
            let found = format!("{} of the vault's objects have lost their fs-verity data: {}", lost.len(), lost[0]);
            check(NAME, State::Missing, found, "`layerseal fsck --repair` makes them again; see docs/assurance.md")
        }
        Err(refusal) => check(NAME, State::Missing, refusal.to_string(), ""),
    })
}

fn signatures() -> Check {
    const NAME: &str = "kernel signature checks";
    if verity::kernel_verifies() {
        return check(NAME, State::Ok, "CONFIG_FS_VERITY_BUILTIN_SIGNATURES", "");
    }
    check(
        NAME,
        State::Optional,
        "not in this kernel; layerseal's own checks do not need it",
        Case::G08Unchecked.remedy(),
    )
}

fn keys() -> Check {
    const NAME: &str = ".fs-verity keyring";
    match VerityKeyring::find().and_then(|keyring| keyring.list()) {
        Ok(keys) if keys.is_empty() => check(
            NAME,
            State::Optional,
            "empty",
            "`layerseal keyring add-cert CERT` makes the kernel check signatures too",
        ),
        Ok(keys) => check(NAME, State::Ok, format!("{} certificates", keys.len()), ""),
        Err(refusal) => check(NAME, State::Optional, refusal.detail(), Case::G09Keyring.remedy()),
    }
}

fn required() -> Check {
    const NAME: &str = "fs.verity.require_signatures";
    if verity::signatures_required() {
        return check(
            NAME,
            State::Missing,
            "1",
            "objects of an image carry no signature of their own: set it to 0, and let policy ask for seals",
        );
    }
    check(NAME, State::Ok, "0", "")
}

/// What starts of containers go by; `layerseal mount` does without.
fn policy() -> Check {
    const NAME: &str = "policy";
    match Policy::load(&Directories::system()) {
        Ok(policy) => {
            let found = format!("by default {:?}", policy.default_mode()).to_lowercase();
            match policy.lenient() {
                rules if rules.is_empty() => check(NAME, State::Ok, found, ""),
                rules => check(
                    NAME,
                    State::Optional,
                    format!("{found}, and less than for some names: {}", rules.join(", ")),
                    "names are bound by nothing: who can write to the disk gives an image one that no rule is for; \
                     let [default] ask for as much as any rule",
                ),
            }
        }
        Err(refusal) => {
            // Where a hook or the mount program goes by it, no container starts.
            let asked = mount_program().is_some_and(|p| p.ends_with("/layerseal"))
                || matches!(hook::installed(Path::new("/"), Caller::Podman, Stage::CreateRuntime), Found::Ready(_));
            let (state, so) = if asked { (State::Missing, "; no container starts") } else { (State::Optional, "") };
            let found = format!("{}: {}{so}", refusal.subject(), refusal.detail());
            check(NAME, state, found, Case::F03Policy.remedy())
        }
    }
}

fn podman() -> Check {
    const NAME: &str = "podman's mount_program";
    let own = std::env::current_exe().unwrap_or_else(|_| "/usr/bin/layerseal".into());
    let remedy = format!(
        "for podman take the hooks (`make install`); or, in /etc/containers/storage.conf, driver = \"overlay\" in \
         [storage] and mount_program = \"{}\" in [storage.options.overlay]",
        own.display()
    );
    match mount_program() {
        Some(program) if program.ends_with("/layerseal") && Path::new(&program).exists() => {
            check(NAME, State::Ok, program, "")
        }
        Some(program) => check(NAME, State::Optional, program, remedy),
        None if had_mount_program() => check(
            NAME,
            State::Missing,
            "none now, but there was one once: podman goes on with fuse-overlayfs",
            "remove overlay/.has-mount-program from the graph root",
        ),
        None => match hook::installed(Path::new("/"), Caller::Podman, Stage::Precreate) {
            Found::Ready(_) => check(NAME, State::Ok, "none: the hook precreate replaces podman's own mounts", ""),
            _ if runtime::podman_has_it() => {
                check(NAME, State::Ok, "none: the runtime replaces podman's own mounts", "")
            }
            _ => check(NAME, State::Optional, "none: podman mounts without us", remedy),
        },
    }
}

/// `podman container restore`: podman calls no precreate for it, and crun no hook at all, so that a checkpoint
/// comes back on podman's own overlay, with whatever its layers hold by then.
fn restore() -> Check {
    const NAME: &str = "podman container restore";
    // Where podman looks for it (containers-common, containers.conf.5, "runtimes").
    const PLACES: [&str; 6] = ["/usr/bin", "/usr/sbin", "/usr/local/bin", "/usr/local/sbin", "/sbin", "/bin"];
    if mount_program().is_some_and(|p| p.ends_with("/layerseal")) {
        return check(NAME, State::Ok, "the mount_program sees what is restored", "");
    }
    if runtime::podman_has_it() {
        return check(NAME, State::Ok, "layerseal is the runtime, and sees what is restored", "");
    }
    let crun = PLACES.iter().map(|place| Path::new(place).join("crun")).find(|path| path.exists());
    let version = crun.and_then(|crun| std::process::Command::new(crun).arg("--version").output().ok());
    let criu = version.is_some_and(|v| String::from_utf8_lossy(&v.stdout).split_whitespace().any(|w| w == "+CRIU"));
    match criu {
        true => check(
            NAME,
            State::Optional,
            "crun says +CRIU: it restores checkpoints, and calls no hook then",
            "what comes back from a checkpoint is not looked at; have layerseal as mount_program, or no checkpoints",
        ),
        false => check(NAME, State::Ok, "crun restores nothing", ""),
    }
}

/// Whether containers-storage has noted a mount program, which it does not forget (overlay.go,
/// `SupportsNativeOverlay`): without one it takes fuse-overlayfs where that is installed.
fn had_mount_program() -> bool {
    let note = graph_root().map(|root| std::fs::read_to_string(root.join("overlay/.has-mount-program")));
    note.is_ok_and(|text| text.is_ok_and(|text| text.trim() == "true"))
}

/// What keeps containers from starting on a root that nobody verified.
fn hooks() -> Vec<Check> {
    vec![
        one_hook("podman's hook createRuntime", Caller::Podman, Stage::CreateRuntime),
        one_hook("podman's hook precreate", Caller::Podman, Stage::Precreate),
    ]
}

fn one_hook(name: &'static str, caller: Caller, stage: Stage) -> Check {
    const REMEDY: &str =
        "`make install` puts program, hooks and their configuration in their places, see hooks/README.md";
    match (hook::installed(Path::new("/"), caller, stage), stage) {
        (Found::Broken(why), _) => check(name, State::Missing, why, REMEDY),
        (Found::Nowhere, Stage::Precreate) if mount_program().is_some_and(|p| p.ends_with("/layerseal")) => {
            check(name, State::Ok, "none, and not needed with the mount_program", "")
        }
        (Found::Nowhere, _) if caller == Caller::Podman && runtime::podman_has_it() => {
            check(name, State::Ok, "none, and not needed where layerseal is the runtime", "")
        }
        (Found::Nowhere, _) => {
            check(name, State::Optional, "none: containers start on roots that nobody verified", REMEDY)
        }
        // Only podman's containers can be told from others from here.
        (Found::Ready(file), _) if caller == Caller::Podman => called(name, stage, &file),
        (Found::Ready(file), _) => {
            let called = hook::last_call(stage, caller).map(|called| process::now() - called.time);
            let ago =
                called.map_or("not called since the host was started".into(), |ago| format!("called {ago} s ago"));
            check(name, State::Ok, format!("{}; {ago}", file.display()), "")
        }
    }
}

fn called(name: &'static str, stage: Stage, file: &Path) -> Check {
    let shown = file.display();
    match hook::since(stage) {
        Since::Called(called) => {
            let ago = process::now() - called.time;
            let container = called.container.get(..12).unwrap_or(&called.container);
            check(name, State::Ok, format!("{shown}; called {ago} s ago for {container}: {}", called.decision), "")
        }
        Since::NotCalled(seconds) => check(
            name,
            State::Missing,
            format!("{shown}, but a container of podman runs for which it was not called, {seconds} s later"),
            "a container that was started before the hook was there is stopped and started again; \
             look for hooks_dir in containers.conf and for --hooks-dir",
        ),
        Since::Unknown => check(
            name,
            State::Ok,
            format!("{shown}; not called since the host was started"),
            "start a container, and look again",
        ),
    }
}

/// What registries are asked by.
fn skopeo(home: &Home) -> Check {
    const NAME: &str = "skopeo, for registries";
    match home.session().and_then(|session| session.protocol()) {
        Ok(version) => check(NAME, State::Ok, format!("proxy protocol {version}"), ""),
        Err(refusal) => check(NAME, State::Optional, refusal.detail(), Case::C16Skopeo.remedy()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kernels_that_cannot_enforce_are_named() {
        for (release, state) in [
            ((6, 1, 0), State::Missing),
            ((6, 6, 30), State::Optional),
            ((6, 12, 57), State::Ok),
            ((6, 18, 44), State::Ok),
            ((6, 19, 14), State::Ok),
            ((7, 0, 0), State::Missing),
            ((7, 0, 6), State::Missing),
            ((7, 0, 7), State::Ok),
            ((7, 3, 0), State::Ok),
        ] {
            assert!(judge_kernel(release).state == state, "{release:?}");
        }
        assert!(judge_kernel((7, 0, 3)).remedy.contains("7.0.7"));
    }
}
