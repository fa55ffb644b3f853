//! The command line: one file for each verb, nothing decided here.

pub mod args;
mod digest;
mod doctor;
mod fetch;
mod fsck;
mod gc;
mod home;
mod hook;
mod images;
mod inline;
mod inspect;
mod keyring;
mod mount;
mod output;
mod policy;
mod prepare;
mod progress;
mod pull;
mod push;
mod runtime;
mod seal;
mod sign;
mod status;
mod stored;
mod verify;

use std::process::ExitCode;

use clap::Parser as _;

pub use runtime::pass;

use crate::hook::Stage;
use crate::report::{Class, Refusal};
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

fn run(args: Args) -> anyhow::Result<ExitCode> {
    let vault = match &args.command {
        // That the container store cannot be found is one of its answers.
        Command::Doctor(_) => args.vault.or_else(|| Some(doctor::vault())),
        _ => args.vault,
    };
    let home = home::Home::new(vault, args.command.registry().options())?;
    match args.command {
        Command::Pull(a) => pull::run(&home, &a)?,
        Command::Seal(a) => inline::seal(&home, &a)?,
        Command::Sign(a) => return sign::run(&home, &a),
        Command::Digest(a) => digest::run(&home, &a)?,
        Command::Attach(a) => sign::attach(&home, &a)?,
        Command::Verify(a) => return verify::run(&home, &a),
        Command::Fetch(a) => return fetch::run(&home, &a),
        Command::Prepare(a) => return prepare::run(&home, &a),
        Command::Mount(a) => mount::run(&home, &a)?,
        Command::Umount(a) => crate::mount::unmount(&a.target)?,
        Command::Status(a) => status::run(&a)?,
        Command::Push(a) => {
            push::run(&home, &a.image, &a.to, push::What { content: true, signatures: a.signatures })?;
        }
        Command::ExportSignatures(a) => {
            push::run(&home, &a.image, &a.to, push::What { content: false, signatures: true })?;
        }
        Command::Inspect(a) => inspect::run(&home, &a)?,
        Command::Images(a) => images::list(&home, &a)?,
        Command::Tag(a) => images::tag(&home, &a)?,
        Command::Untag(a) => images::untag(&home, &a)?,
        Command::Gc(a) => gc::run(&home, &a)?,
        Command::Fsck(a) => return fsck::run(&home, &a),
        Command::Keyring(KeyringCommand::AddCert(a)) => keyring::add(&a)?,
        Command::Keyring(KeyringCommand::List(a)) => keyring::list(&a)?,
        Command::Keyring(KeyringCommand::Restrict) => keyring::restrict()?,
        Command::Policy(PolicyCommand::Check(a)) => policy::check(&a)?,
        Command::Hook(HookCommand::Explain(a)) => hook::explain(&a)?,
        Command::Hook(HookCommand::CreateRuntime) => return Ok(crate::hook::run(Stage::CreateRuntime)),
        Command::Hook(HookCommand::CreateContainer) => return Ok(crate::hook::run(Stage::CreateContainer)),
        Command::Hook(HookCommand::Precreate) => return Ok(crate::hook::run(Stage::Precreate)),
        Command::Runtime(a) => return Ok(runtime::run(&a.arguments)),
        Command::Doctor(a) => return doctor::run(&home, &a),
    }
    Ok(ExitCode::SUCCESS)
}

/// The exit code for any error.
fn exit_code(error: &anyhow::Error) -> ExitCode {
    let class = error.downcast_ref::<Refusal>().map_or(Class::Internal, |r| r.case().class());
    ExitCode::from(class.exit_code())
}
