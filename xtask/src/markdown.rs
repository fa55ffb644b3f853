//! As much of Markdown as the documents of this repository use, as roff. A page has other means than a screen: a table
//! becomes a list of its rows, and of a link its text is left.

use clap_mangen::roff::{Inline, Roff, bold, italic, roman};

/// Writes a document without its title.
pub(crate) fn write(text: &str, roff: &mut Roff) {
    let mut lines = text.lines().peekable();
    let mut first = true;
    while let Some(line) = lines.next() {
        if let Some(heading) = line.strip_prefix('#') {
            match (heading.trim_start_matches('#'), heading.starts_with("##")) {
                // The title is the page's name.
                (_, false) if !heading.starts_with('#') => continue,
                (heading, true) => _ = roff.control("SS", [plain(heading).as_str()]),
                (heading, false) => _ = roff.control("SH", [plain(heading).to_uppercase().as_str()]),
            }
            first = true;
        } else if line.starts_with("```") {
            roff.control("PP", []).control("EX", []);
            for line in lines.by_ref().take_while(|line| !line.starts_with("```")) {
                roff.text([roman(format!("    {line}"))]);
            }
            roff.control("EE", []);
            first = false;
        } else if line.starts_with('|') {
            let mut rows = vec![cells(line)];
            while let Some(row) = lines.next_if(|line| line.starts_with('|')) {
                rows.push(cells(row));
            }
            table(&rows, roff);
            first = false;
        } else if !line.trim().is_empty() {
            let mut paragraph = line.trim().to_owned();
            while let Some(more) = lines.next_if(|line| continues(line)) {
                paragraph.push(' ');
                paragraph.push_str(more.trim());
            }
            match item(&paragraph) {
                // A list of the document's own headings.
                Some((_, rest)) if rest.starts_with("[") && rest.contains("](#") => continue,
                Some((mark, rest)) => _ = roff.control("IP", [mark.as_str(), "4"]).text(inlines(rest)),
                None if first => _ = roff.text(inlines(&paragraph)),
                None => _ = roff.control("PP", []).text(inlines(&paragraph)),
            }
            first = false;
        }
    }
}

/// Returns whether a line goes on with the paragraph before it.
fn continues(line: &str) -> bool {
    !line.trim().is_empty() && !line.starts_with(['#', '|']) && !line.starts_with("```") && item(line.trim()).is_none()
}

/// Splits an item of a list into its mark and its text.
fn item(line: &str) -> Option<(String, &str)> {
    if let Some(rest) = line.strip_prefix("- ") {
        return Some(("-".to_owned(), rest));
    }
    let (number, rest) = line.split_once(". ")?;
    (!number.is_empty() && number.len() < 3 && number.bytes().all(|b| b.is_ascii_digit()))
        .then(|| (format!("{number}."), rest))
}

fn cells(row: &str) -> Vec<String> {
    let row = row.trim().trim_start_matches('|').trim_end_matches('|');
    row.split('|').map(|cell| cell.trim().to_owned()).collect()
}

/// Writes a table as a list: the last cell is what a row says, the others are what it is about.
fn table(rows: &[Vec<String>], roff: &mut Roff) {
    let about = |row: &[String]| {
        let cells: Vec<&str> = row.iter().map(String::as_str).filter(|cell| !cell.is_empty()).collect();
        cells.join(", ")
    };
    for (number, row) in rows.iter().enumerate() {
        let Some((last, before)) = row.split_last() else { continue };
        match number {
            0 if about(row).is_empty() => (),
            0 => {
                let heading = if last.is_empty() { about(before) } else { format!("{}: {last}", about(before)) };
                _ = roff.control("PP", []).text([italic(plain(&heading))]);
            }
            // Below the heading.
            1 => (),
            _ => _ = roff.control("TP", []).text(inlines(&about(before))).text(inlines(last)),
        }
    }
}

/// Returns the text without marks.
fn plain(text: &str) -> String {
    let words = inlines(text.trim()).into_iter().map(|inline| match inline {
        Inline::Roman(text) | Inline::Italic(text) | Inline::Bold(text) => text,
        Inline::LineBreak => String::new(),
    });
    words.collect()
}

/// Splits a text: code and strong text are bold, emphasized text is italic.
fn inlines(text: &str) -> Vec<Inline> {
    let mut out = Vec::new();
    let mut rest = text;
    let mut said = String::new();
    while !rest.is_empty() {
        let code = between(rest, "`", "`").map(|(text, rest)| (bold(text), rest));
        let strong = || between(rest, "**", "**").map(|(text, rest)| (bold(text.replace('`', "")), rest));
        let stressed = || between(rest, "*", "*").map(|(text, rest)| (italic(text), rest));
        if let Some((inline, after)) = code.or_else(strong).or_else(stressed) {
            out.extend([roman(std::mem::take(&mut said)), inline]);
            rest = after;
        } else if let Some((text, after)) = between(rest, "[", "](") {
            // A reader of the page sees the text of a link, and not its address.
            said.push_str(&text.replace(['`', '*'], ""));
            rest = after.split_once(')').map_or("", |(_, after)| after);
        } else {
            let end = rest.chars().next().map_or(0, char::len_utf8);
            said.push_str(&rest[..end]);
            rest = &rest[end..];
        }
    }
    out.push(roman(said));
    out
}

/// Returns what stands between two marks at the beginning, and what follows. A star before a space is a star.
fn between<'a>(text: &'a str, open: &str, close: &str) -> Option<(&'a str, &'a str)> {
    let inner = text.strip_prefix(open)?;
    let end = inner.find(close)?;
    let (found, rest) = (&inner[..end], &inner[end + close.len()..]);
    let link = close == "](" && found.contains([']', '[']);
    (!found.is_empty() && !found.starts_with(' ') && !link).then_some((found, rest))
}
