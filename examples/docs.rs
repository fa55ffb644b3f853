//! Man pages and completions from the command line's own definition, the page of the policy file from the sample, and
//! docs/json.md from the types of the JSON:
//! `cargo run --example docs -- contrib`.

use std::path::{Path, PathBuf};

use clap::CommandFactory as _;
use clap_complete::Shell;
use clap_mangen::roff::{Roff, roman};

fn main() -> std::io::Result<()> {
    let out = PathBuf::from(std::env::args_os().nth(1).unwrap_or_else(|| "contrib".into()));
    let command = layerseal::cli::args::Args::command();
    std::fs::create_dir_all(out.join("man"))?;
    std::fs::create_dir_all(out.join("completions"))?;
    pages(&command, "layerseal", &out.join("man"))?;
    policy(&out)?;
    std::fs::write(out.join("../docs/json.md"), layerseal::cli::json::page())?;
    for shell in [Shell::Bash, Shell::Zsh, Shell::Fish] {
        clap_complete::generate_to(shell, &mut command.clone(), "layerseal", out.join("completions"))?;
    }
    Ok(())
}

/// The sample says what every word of the file means: it is the page.
fn policy(out: &Path) -> std::io::Result<()> {
    let sample = std::fs::read_to_string(out.join("policy.toml"))?;
    let mut page = Roff::new();
    page.control("TH", ["layerseal-policy.toml", "5"])
        .control("SH", ["NAME"])
        .text([roman("layerseal-policy.toml - what this host asks of images")])
        .control("SH", ["SYNOPSIS"])
        .text([roman("/etc/layerseal/policy.toml, /etc/layerseal/policy.d/*.toml")])
        .control("SH", ["DESCRIPTION"])
        .text([roman("Every setting, with what it means. Those that are commented out show what counts without them.")])
        .control("EX", []);
    sample.lines().for_each(|line| _ = page.text([roman(line)]));
    page.control("EE", []);
    page.control("SH", ["SEE ALSO"])
        .text([roman("layerseal-policy-check(1), layerseal-doctor(1), containers-policy.json(5)")]);
    page.to_writer(&mut std::fs::File::create(out.join("man/layerseal-policy.toml.5"))?)
}

fn pages(command: &clap::Command, name: &str, dir: &Path) -> std::io::Result<()> {
    let page = command.clone().name(&*name.to_owned().leak()).disable_help_subcommand(true);
    let examples = page.get_after_long_help().map(ToString::to_string);
    let page = page.after_long_help(None);
    let mut text = Vec::new();
    clap_mangen::Man::new(page).manual("layerseal").render(&mut text)?;
    if let Some(examples) = examples {
        // Under their own heading, and line by line.
        let mut section = Roff::new();
        section.control("SH", ["EXAMPLES"]).control("EX", []);
        examples.lines().skip(1).for_each(|line| _ = section.text([roman(line.trim_start())]));
        section.control("EE", []).to_writer(&mut text)?;
    }
    std::fs::write(dir.join(format!("{name}.1")), text)?;
    for sub in command.get_subcommands().filter(|s| s.get_name() != "help") {
        pages(sub, &format!("{name}-{}", sub.get_name()), dir)?;
    }
    Ok(())
}
