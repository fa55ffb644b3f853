//! A page for each verb, from the definition of the command line.

use std::io;
use std::path::Path;

use clap::Command;
use clap_mangen::roff::{Roff, roman};

use crate::page::{Page, sentence};
use crate::sections;

/// Writes the pages of a command and of those beneath it.
pub(crate) fn write(command: &Command, dir: &Path) -> io::Result<()> {
    page(command)?.write(dir)?;
    command.get_subcommands().try_for_each(|verb| write(verb, dir))
}

/// Returns the name of a page: `layerseal-hook-explain`.
fn page_name(command: &Command) -> String {
    typed(command).replace(' ', "-")
}

/// Returns a command as it is typed: `layerseal hook explain`.
fn typed(command: &Command) -> String {
    command.get_bin_name().unwrap_or_else(|| command.get_name()).to_owned()
}

fn page(command: &Command) -> io::Result<Page> {
    let name = page_name(command);
    let about = command.get_about().map(ToString::to_string).unwrap_or_default();
    let mut page = Page::new(&name, 1, &about);
    page.section("SYNOPSIS");
    for (number, usage) in usages(command).iter().enumerate() {
        if number > 0 {
            page.roff.control("br", []);
        }
        page.synopsis(&typed(command), usage);
    }
    page.section("DESCRIPTION");
    match command.get_long_about() {
        Some(text) => paragraphs(&text.to_string(), &mut page.roff),
        None => _ = page.text(&sentence(&about)),
    }
    options(command, &mut page)?;
    let verbs: Vec<_> = command.get_subcommands().collect();
    if !verbs.is_empty() {
        page.section("COMMANDS");
        for verb in verbs {
            let about = verb.get_about().map(ToString::to_string).unwrap_or_default();
            page.roff.control("TP", []);
            page.text(&format!("{}(1)", page_name(verb))).text(&sentence(&about));
        }
    }
    // `--help` ends with the exit codes, which have a section here.
    if let Some(text) = command.get_after_help().map(ToString::to_string) {
        page.section("NOTES");
        let parts: Vec<&str> = text.split("\n\n").filter(|part| !part.starts_with("Exit codes")).collect();
        paragraphs(&parts.join("\n\n"), &mut page.roff);
        page.roff.control("PP", []);
        page.text("Every refusal ends with the ID of its case, such as [R-D04].");
    }
    if let Some(examples) = command.get_after_long_help().map(ToString::to_string) {
        page.section("EXAMPLES").roff.control("EX", []);
        examples.lines().skip(1).for_each(|line| _ = page.text(line.trim_start()));
        page.roff.control("EE", []);
    }
    page.exit_status(sections::exit_status(&name));
    page.files(&sections::files(&name, command));
    page.environment(&sections::environment(&name, command));
    page.see_also(&see_also(&name, command));
    Ok(page)
}

/// Returns what `--help` shows as usage, a line for each form.
fn usages(command: &Command) -> Vec<String> {
    let text = command.clone().render_usage().to_string();
    text.lines().map(|line| line.trim().trim_start_matches("Usage: ").to_owned()).filter(|l| !l.is_empty()).collect()
}

/// Adds the options as clap_mangen shows them.
fn options(command: &Command, page: &mut Page) -> io::Result<()> {
    let mut text = Vec::new();
    // Every verb has these, so they come after its own.
    let command = command.clone().mut_args(|argument| match argument.is_global_set() {
        true => argument.help_heading("Global options"),
        false => argument,
    });
    clap_mangen::Man::new(command).render_options_section(&mut text)?;
    let text = String::from_utf8(text).map_err(io::Error::other)?;
    // Each rendering begins with the same definitions.
    let section = text.find(".SH").map(|at| text[at..].to_owned()).unwrap_or_default();
    page.raw(&section);
    Ok(())
}

fn paragraphs(text: &str, roff: &mut Roff) {
    for (number, part) in text.split("\n\n").filter(|part| !part.trim().is_empty()).enumerate() {
        if number > 0 {
            roff.control("PP", []);
        }
        roff.text([roman(part.replace('\n', " "))]);
    }
}

/// Lists the pages around this one, and those that it is about.
fn see_also(name: &str, command: &Command) -> Vec<String> {
    let beneath = command.get_subcommands().map(|verb| format!("{}(1)", page_name(verb)));
    let above: Vec<&str> = name.match_indices('-').map(|(at, _)| &name[..at]).collect();
    let all = crate::command();
    let known = |page: &str| page == "layerseal" || all.get_subcommands().any(|verb| page_name(verb) == page);
    let above = above.into_iter().filter(|page| known(page)).map(|page| format!("{page}(1)"));
    let more = sections::see_also(name).iter().map(|page| (*page).to_owned());
    let mut pages: Vec<String> = Vec::new();
    for page in above.chain(beneath).chain(more) {
        if !pages.contains(&page) {
            pages.push(page);
        }
    }
    pages
}
