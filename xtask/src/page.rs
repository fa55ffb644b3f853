//! A man page, with the sections that all have.

use std::path::Path;

use clap_mangen::roff::{Roff, bold, italic, roman};

/// A page that is being written.
pub(crate) struct Page {
    name: String,
    section: u8,
    pub(crate) roff: Roff,
    /// What was written before `roff` began anew.
    written: String,
}

impl Page {
    /// Begins a page with its title and its name.
    pub(crate) fn new(name: &str, section: u8, about: &str) -> Self {
        let mut page = Self { name: name.to_owned(), section, roff: Roff::new(), written: String::new() };
        let source = format!("layerseal {}", env_version());
        page.roff.control("TH", [name, &section.to_string(), "", source.as_str(), "layerseal"]);
        page.section("NAME").text(&format!("{name} - {about}"));
        page
    }

    /// Adds what was rendered elsewhere.
    pub(crate) fn raw(&mut self, text: &str) {
        let before = std::mem::take(&mut self.roff);
        self.rendered(&before);
        self.written.push_str(text);
    }

    /// Adds a rendering without the definitions that each begins with: a page has them once.
    fn rendered(&mut self, roff: &Roff) {
        let text = roff.render();
        let begin = if self.written.is_empty() { 0 } else { text.find("\n.S").map_or(0, |at| at + 1) };
        self.written.push_str(&text[begin..]);
    }

    pub(crate) fn section(&mut self, heading: &str) -> &mut Self {
        self.roff.control("SH", [heading]);
        self
    }

    pub(crate) fn text(&mut self, text: &str) -> &mut Self {
        self.roff.text([roman(text)]);
        self
    }

    /// Lists what an exit status, a file or a variable stands for.
    fn items(&mut self, heading: &str, items: &[(String, String)]) {
        if items.is_empty() {
            return;
        }
        self.section(heading);
        for (name, what) in items {
            self.roff.control("TP", []).text([bold(name.as_str())]).text([roman(what.as_str())]);
        }
    }

    pub(crate) fn exit_status(&mut self, more: Option<&str>) {
        let success = ("0".to_owned(), "Success.".to_owned());
        let classes = layerseal::error::Class::ALL.iter();
        let refused = classes.map(|class| (class.exit_code().to_string(), sentence(class.describe())));
        self.items("EXIT STATUS", &std::iter::once(success).chain(refused).collect::<Vec<_>>());
        if let Some(more) = more {
            self.roff.control("PP", []);
            self.text(more);
        }
    }

    pub(crate) fn files(&mut self, files: &[(String, String)]) {
        self.items("FILES", files);
    }

    pub(crate) fn environment(&mut self, variables: &[(String, String)]) {
        self.items("ENVIRONMENT", variables);
    }

    /// Lists pages, by name and section.
    pub(crate) fn see_also(&mut self, pages: &[impl AsRef<str>]) {
        self.section("SEE ALSO");
        let mut line = Vec::new();
        for page in pages {
            let (name, section) = page.as_ref().split_once('(').unwrap_or((page.as_ref(), ""));
            line.extend([roman(if line.is_empty() { "" } else { ", " }), bold(name), roman(format!("({section}"))]);
        }
        self.roff.text(line);
    }

    /// Writes an invocation as it is typed: the words of the program in bold, options as they are, values in italics.
    pub(crate) fn synopsis(&mut self, name: &str, usage: &str) {
        let rest = usage.strip_prefix(name).unwrap_or(usage);
        let mut line = vec![bold(name)];
        for word in rest.split(' ').filter(|word| !word.is_empty()) {
            line.push(roman(" "));
            let value = word.contains(|c: char| c == '<' || c.is_ascii_uppercase());
            line.push(if value && !word.starts_with("[OPTIONS") { italic(word) } else { roman(word) });
        }
        self.roff.text(line);
    }

    pub(crate) fn write(mut self, dir: &Path) -> std::io::Result<()> {
        let last = std::mem::take(&mut self.roff);
        self.rendered(&last);
        std::fs::write(dir.join(format!("{}.{}", self.name, self.section)), self.written)
    }
}

/// Returns the version of layerseal, not of this program.
fn env_version() -> String {
    crate::command().get_version().unwrap_or_default().to_owned()
}

/// Turns a text into a sentence, with a capital and a full stop.
pub(crate) fn sentence(text: &str) -> String {
    let mut letters = text.chars();
    let first = letters.next().map(|c| c.to_ascii_uppercase());
    let end = if text.ends_with(['.', '!', '?', ':']) { "" } else { "." };
    first.into_iter().chain(letters).collect::<String>() + end
}
