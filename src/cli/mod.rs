//! The command line: one file for each verb. Words become a request of [`crate::ops`], and what comes back becomes
//! lines or JSON.

pub mod args;
mod check;
mod deny;
mod digest;
mod doctor;
mod fetch;
mod floors;
mod fsck;
mod gc;
mod hook;
mod images;
mod inspect;
pub mod json;
mod keyring;
mod mount;
mod output;
mod policy;
mod progress;
mod pull;
mod push;
mod report;
mod runtime;
pub mod schema;
mod setup;
mod sign;
mod trust;
mod vault;
mod verify;

use std::process::ExitCode;
use std::time::Duration;

use clap::{ColorChoice, CommandFactory as _, FromArgMatches as _};

use crate::error::{Case, Refusal, Result};
use crate::hook::Stage;
use crate::ops::{Context, PushRequest};
use crate::serve::{ServeOptions, serve};
use args::{Args, Command, FloorsCommand, HookCommand, KeyringCommand, PolicyCommand, TrustCommand, VaultCommand};

/// Runs what the command line asks for, or the mount that a container runtime asks for.
pub fn main() -> ExitCode {
    crate::sys::process::begin();
    crate::sys::process::tune_heap();
    let mut words = std::env::args_os();
    let program = words.next().unwrap_or_default();
    let argv: Vec<std::ffi::OsString> = words.collect();
    // First: most of these calls are not for us, and engines make many of them.
    if let Some(asked) = runtime::asked(&program, &argv) {
        return runtime::run(&asked);
    }
    if crate::protocol::looks_like_mount_program(&argv) {
        return crate::start::mount_program(&argv);
    }
    if let Some(stage) = hook::stage(&argv) {
        return crate::hook::run(stage);
    }
    // By itself clap has colours on every terminal where CI is set.
    let colours = if output::may_have_colours() { ColorChoice::Auto } else { ColorChoice::Never };
    let mut matches = Args::command().color(colours).get_matches();
    let args = Args::from_arg_matches_mut(&mut matches).unwrap_or_else(|e| e.exit());
    let level = match args.verbose {
        0 => log::LevelFilter::Warn,
        1 => log::LevelFilter::Info,
        _ => log::LevelFilter::Debug,
    };
    env_logger::Builder::new()
        .filter_level(level)
        .format(|out, record| {
            use std::io::Write as _;
            writeln!(out, "{}: {}", record.level().as_str().to_lowercase(), record.args())
        })
        .init();
    let json = args.command.wants_json();
    match run(args) {
        Ok(code) => output::written(code),
        Err(error) => output::failed(&error, json),
    }
}

fn run(args: Args) -> Result<ExitCode> {
    if let Command::Serve(a) = args.command {
        // The service has no store of its own.
        return serve(&ServeOptions { socket: a.socket, idle: Duration::from_secs(a.idle) })
            .map(|()| ExitCode::SUCCESS);
    }
    let vault = match &args.command {
        // If the container store cannot be found, that is one of its findings.
        Command::Doctor(_) => args.vault.or_else(|| Some(crate::ops::doctor::vault())),
        _ => args.vault,
    };
    if !rustix::process::geteuid().is_root() {
        if let Some(what) = of_root(&args.command) {
            return Err(Refusal::new(Case::NeedsRoot, what, ""));
        }
        // A vault that is named need not be podman's.
        if let Some(what) = of_podmans_namespace(&args.command, vault.is_some()) {
            return Err(enter_podmans_namespace(what));
        }
    }
    let context = Context::new(vault, args.command.registry().options(), Box::new(progress::Terminal));
    match args.command {
        Command::Pull(a) => pull::run(&context, a)?,
        Command::Seal(a) => sign::seal(&context, a)?,
        Command::Sign(a) => return sign::run(&context, a),
        Command::Digest(a) => digest::run(&context, a)?,
        Command::Attach(a) => sign::attach(&context, a)?,
        Command::Verify(a) => return verify::run(&context, a),
        Command::Fetch(a) => return fetch::run(&context, a),
        Command::Prepare(a) => return fetch::prepared(&context, a),
        Command::Check(a) => return check::run(&context, a),
        Command::Mount(a) => mount::run(&context, a)?,
        Command::Umount(a) => mount::unmount(&a)?,
        Command::Status(a) => mount::status(&context, &a)?,
        Command::Push(a) => {
            let request = PushRequest { image: a.image, to: a.to, content: true, signatures: a.signatures };
            push::run(&context, &request, a.json)?;
        }
        Command::ExportSignatures(a) => {
            let request = PushRequest { image: a.image, to: a.to, content: false, signatures: true };
            push::run(&context, &request, a.json)?;
        }
        Command::Inspect(a) => inspect::run(&context, &a)?,
        Command::Images(a) => images::list(&context, &a)?,
        Command::Tag(a) => images::tag(&context, a)?,
        Command::Untag(a) => images::untag(&context, a)?,
        Command::Gc(a) => gc::run(&context, a)?,
        Command::Vault(VaultCommand::Create(a)) => vault::create(a)?,
        Command::Fsck(a) => return fsck::run(&context, &a),
        Command::Keyring(KeyringCommand::AddCert(a)) => keyring::add(&a)?,
        Command::Keyring(KeyringCommand::List(a)) => keyring::list(&a)?,
        Command::Keyring(KeyringCommand::Restrict(a)) => keyring::restrict(&a)?,
        Command::Policy(PolicyCommand::Check(a)) => policy::check(&a)?,
        Command::Hook(HookCommand::Explain(a)) => hook::explain(&a)?,
        Command::Hook(HookCommand::CreateRuntime) => return Ok(crate::hook::run(Stage::CreateRuntime)),
        Command::Hook(HookCommand::CreateContainer) => return Ok(crate::hook::run(Stage::CreateContainer)),
        Command::Hook(HookCommand::Precreate) => return Ok(crate::hook::run(Stage::Precreate)),
        Command::Setup(a) => return setup::run(&context, &a),
        Command::Enforce(a) => return setup::enforce(&context, &a),
        Command::Audit(a) => return setup::audit(&context, &a),
        Command::Deny(a) => deny::run(&context, &a)?,
        Command::Floors(FloorsCommand::List(a)) => floors::list(&a)?,
        Command::Floors(FloorsCommand::Reset(a)) => floors::reset(a)?,
        Command::Trust(TrustCommand::List(a)) => trust::list(&a)?,
        Command::Trust(TrustCommand::Add(a)) => trust::add(&a)?,
        Command::Report(a) => report::run(&a)?,
        Command::Runtime(a) => return Ok(runtime::run(&runtime::Asked::Become(&a.arguments))),
        // Handled above.
        Command::Serve(_) => {}
        Command::Doctor(a) => return Ok(doctor::run(&context, &a)),
    }
    Ok(ExitCode::SUCCESS)
}

/// Returns the name of a verb that, for an ordinary user, needs what is only seen in the namespaces of that user's
/// podman: mounts, and files of other IDs.
fn of_podmans_namespace(command: &Command, other_vault: bool) -> Option<&'static str> {
    match command {
        Command::Fsck(_) if !other_vault => Some("fsck"),
        Command::Status(_) => Some("status"),
        Command::Prepare(a) if !a.seals_only => Some("prepare"),
        _ => None,
    }
}

/// Runs this command in the namespaces of the user's podman, as `podman unshare` does; returns only if that fails.
fn enter_podmans_namespace(what: &str) -> Refusal {
    use std::os::unix::process::CommandExt as _;
    let name = std::env::current_exe().unwrap_or_else(|_| "layerseal".into());
    let e = std::process::Command::new("podman").arg("unshare").arg(name).args(std::env::args_os().skip(1)).exec();
    Refusal::new(Case::NeedsRoot, what, format!("other users run it by `podman unshare`: {e}"))
}

/// Returns the name of a verb that deals with notes and files of this host that only root may read or change: other
/// users would take the kernel's answers for a fault.
fn of_root(command: &Command) -> Option<&'static str> {
    match command {
        Command::Setup(_) => Some("setup"),
        Command::Enforce(_) => Some("enforce"),
        Command::Audit(_) => Some("audit"),
        Command::Deny(_) => Some("deny"),
        Command::Floors(FloorsCommand::List(_)) => Some("floors list"),
        Command::Floors(FloorsCommand::Reset(_)) => Some("floors reset"),
        Command::Trust(TrustCommand::Add(_)) => Some("trust add"),
        _ => None,
    }
}
