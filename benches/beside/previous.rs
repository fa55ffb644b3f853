//! The document as it is: what was not measured this time is taken over from it.

use std::path::Path;

/// A document that this program wrote.
pub struct Page {
    text: String,
}

impl Page {
    /// Reads it; one that is not there holds nothing.
    pub fn read(path: &Path) -> Self {
        Self { text: std::fs::read_to_string(path).unwrap_or_default() }
    }

    /// Returns the table whose picture is `file`, with its date and its picture.
    pub fn table(&self, file: &str) -> Option<String> {
        let lines: Vec<&str> = self.text.lines().collect();
        let picture = lines.iter().position(|line| line.ends_with(&format!("](benchmarks/{file})")))?;
        let above = &lines[..picture];
        let dated = above.iter().rposition(|line| line.starts_with('*') && line.ends_with('*'));
        let end = above.iter().rposition(|line| line.starts_with('|'))?;
        let start = above[..end].iter().rposition(|line| !line.starts_with('|')).map_or(0, |at| at + 1);
        let date = dated.filter(|at| *at > end).map(|at| above[at].trim_matches('*').to_owned());
        let date = date.or_else(|| self.date()).unwrap_or_default();
        Some(format!("{}\n\n*{date}*\n\n{}\n", lines[start..=end].join("\n"), lines[picture]))
    }

    /// Returns what was found of a work that has an aim, in its unit, and what is beside it.
    pub fn found(&self, work: &str) -> Option<(f64, &str)> {
        let row = self.text.lines().find(|line| line.starts_with(&format!("| {work} |")))?;
        let cells: Vec<&str> = row.trim_matches('|').split('|').map(str::trim).collect();
        Some((cells.get(2)?.split(' ').next()?.parse().ok()?, cells.get(3)?))
    }

    /// Returns the lines about machines and inputs whose key is not `measured` now.
    pub fn machine(&self, measured: impl Fn(&str) -> bool) -> impl Iterator<Item = String> {
        let lines =
            self.text.lines().skip_while(|line| !line.starts_with("- ")).take_while(|line| line.starts_with("- "));
        let key = |line: &str| line.trim_start_matches("- ").split(':').next().unwrap_or_default().to_owned();
        lines.filter(move |line| !measured(&key(line))).map(|line| format!("{line}\n"))
    }

    /// Returns when all of it was measured, before tables had dates.
    fn date(&self) -> Option<String> {
        self.text.lines().find_map(|line| line.strip_prefix("- 20")).map(|rest| "20".to_owned() + &rest[..8])
    }
}
