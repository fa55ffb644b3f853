//! Files of this repository that are made from others. `tests/docs.rs` compares what is in `contrib/` with what this
//! makes.

#![forbid(unsafe_code)]

mod markdown;
mod page;
mod sections;
mod verbs;

use std::io;
use std::path::Path;

use clap::CommandFactory as _;
use clap_complete::Shell;
use clap_mangen::roff::roman;

use page::Page;

/// Returns the top of the source tree.
pub fn top() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap_or(Path::new("."))
}

/// Returns the command line, with the names that people type.
fn command() -> clap::Command {
    let mut command = layerseal::cli::args::Args::command().disable_help_subcommand(true);
    command.build();
    command
}

/// Writes all man pages into `out/man`, in place of those that are there, and completions into `out/completions`.
///
/// # Errors
/// The errors of reading and writing.
pub fn docs(out: &Path) -> io::Result<()> {
    let (man, completions) = (out.join("man"), out.join("completions"));
    if man.exists() {
        std::fs::remove_dir_all(&man)?;
    }
    std::fs::create_dir_all(&man)?;
    std::fs::create_dir_all(&completions)?;
    verbs::write(&command(), &man)?;
    policy()?.write(&man)?;
    document("layerseal-hooks", 7, "OCI hooks of layerseal, for podman and CRI-O", "hooks/README.md")?.write(&man)?;
    document("layerseal-seal", 5, "the format of seals of container images", "docs/seal-format.md")?.write(&man)?;
    for shell in [Shell::Bash, Shell::Zsh, Shell::Fish] {
        let mut command = layerseal::cli::args::Args::command();
        clap_complete::generate_to(shell, &mut command, "layerseal", &completions)?;
    }
    Ok(())
}

/// Writes docs/json.md, the page about the types of `layerseal::cli::json`.
///
/// # Errors
/// The errors of writing.
pub fn json() -> io::Result<()> {
    std::fs::write(top().join("docs/json.md"), layerseal::cli::json::page())
}

/// Lists every variable that a page names; layerseal reads them.
pub fn variables() -> Vec<&'static str> {
    sections::variables().collect()
}

/// Writes the page about the policy, which is the sample: that says what every word of the file means.
fn policy() -> io::Result<Page> {
    let sample = std::fs::read_to_string(top().join("contrib/policy.toml"))?;
    let mut page = Page::new("layerseal-policy.toml", 5, "what this host requires of images");
    page.section("SYNOPSIS").text("/etc/layerseal/policy.toml, /etc/layerseal/policy.d/*.toml");
    page.section("DESCRIPTION");
    page.text("Every setting, with what it means. Those that are commented out show what counts without them.");
    page.roff.control("EX", []);
    sample.lines().for_each(|line| _ = page.roff.text([roman(line)]));
    page.roff.control("EE", []);
    page.files(&sections::of_policy());
    page.see_also(&["layerseal-policy-check(1)", "layerseal-doctor(1)", "containers-policy.json(5)"]);
    Ok(page)
}

/// Writes a document of the repository as a page.
fn document(name: &str, section: u8, about: &str, file: &str) -> io::Result<Page> {
    let text = std::fs::read_to_string(top().join(file))?;
    let mut page = Page::new(name, section, about);
    page.section("DESCRIPTION");
    markdown::write(&text, &mut page.roff);
    page.files(&sections::of_document(name));
    let itself = format!("{name}({section})");
    page.see_also(&sections::see_also(name).iter().filter(|page| **page != itself).collect::<Vec<_>>());
    Ok(page)
}
