//! The command line: one file for each verb. Words become a request of [`crate::ops`], and what comes back becomes
//! lines or JSON.

pub mod args;
mod digest;
mod doctor;
mod fetch;
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
mod runtime;
pub mod schema;
mod sign;
mod verify;

use std::process::ExitCode;

use clap::Parser as _;

pub use runtime::pass;

use crate::hook::Stage;
use crate::ops::{Context, PushRequest};
use crate::report::Result;
use args::{Args, Command, HookCommand, KeyringCommand, PolicyCommand};

/// Runs what the command line asks for, or the mount that a container runtime does.
pub fn main() -> ExitCode {
    let mut words = std::env::args_os();
    let program = words.next().unwrap_or_default();
    let argv: Vec<std::ffi::OsString> = words.collect();
    // First: most of these calls are none of our business, and engines make many of them.
    if let Some(argv) = runtime::arguments(&program, &argv) {
        return runtime::run(argv);
    }
    crate::sys::process::free_large_buffers();
    if crate::invoke::looks_like_mount_program(&argv) {
        return crate::start::mount_program(&argv);
    }
    if let Some(stage) = hook::stage(&argv) {
        return crate::hook::run(stage);
    }
    let args = Args::parse();
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
    let vault = match &args.command {
        // That the container store cannot be found is one of its answers.
        Command::Doctor(_) => args.vault.or_else(|| Some(crate::ops::doctor::vault())),
        _ => args.vault,
    };
    let context = Context::new(vault, args.command.registry().options(), Box::new(progress::Terminal))?;
    match args.command {
        Command::Pull(a) => pull::run(&context, a)?,
        Command::Seal(a) => sign::seal(&context, a)?,
        Command::Sign(a) => return sign::run(&context, a),
        Command::Digest(a) => digest::run(&context, a)?,
        Command::Attach(a) => sign::attach(&context, a)?,
        Command::Verify(a) => return verify::run(&context, a),
        Command::Fetch(a) => return fetch::run(&context, a),
        Command::Prepare(a) => return fetch::prepared(&context, a),
        Command::Mount(a) => mount::run(&context, a)?,
        Command::Umount(a) => mount::unmount(&a)?,
        Command::Status(a) => mount::status(&a)?,
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
        Command::Fsck(a) => return fsck::run(&context, &a),
        Command::Keyring(KeyringCommand::AddCert(a)) => keyring::add(&a)?,
        Command::Keyring(KeyringCommand::List(a)) => keyring::list(&a)?,
        Command::Keyring(KeyringCommand::Restrict(a)) => keyring::restrict(&a)?,
        Command::Policy(PolicyCommand::Check(a)) => policy::check(&a)?,
        Command::Hook(HookCommand::Explain(a)) => hook::explain(&a)?,
        Command::Hook(HookCommand::CreateRuntime) => return Ok(crate::hook::run(Stage::CreateRuntime)),
        Command::Hook(HookCommand::CreateContainer) => return Ok(crate::hook::run(Stage::CreateContainer)),
        Command::Hook(HookCommand::Precreate) => return Ok(crate::hook::run(Stage::Precreate)),
        Command::Runtime(a) => return Ok(runtime::run(&a.arguments)),
        Command::Doctor(a) => return Ok(doctor::run(&context, &a)),
    }
    Ok(ExitCode::SUCCESS)
}
