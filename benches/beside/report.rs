//! From the file of results to the document: every `@TABLE@` of the template becomes a table and a picture. What was not
//! measured this time stays as it is in the document, with its date.

use std::path::Path;

use serde_json::Value;

use super::chart::{Bar, Group, svg};
use super::numbers::{middle, number};
use super::{aims, previous};

/// Writes `benchmarks.md` and the pictures into `dir`, from the template beside the benchmarks.
pub fn write(results: &Path, dir: &Path) {
    let kept = std::fs::read_to_string(results).unwrap();
    let lines: Vec<Value> = kept.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let pictures = dir.join("benchmarks");
    std::fs::create_dir_all(&pictures).unwrap();
    let page = dir.join("benchmarks.md");
    let before = previous::Page::read(&page);
    let template = std::fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/benches/benchmarks.md.in")).unwrap();
    let document = template.lines().map(|line| {
        let Some(name) = line.strip_prefix('@').and_then(|l| l.strip_suffix('@')) else { return format!("{line}\n") };
        if name == "machine" {
            let now: Vec<&Value> = lines.iter().filter(|l| l["table"] == "machine").collect();
            let is_now = |key: &str| now.iter().any(|line| text(line, "case") == key);
            return before.machine(is_now).chain(now.iter().map(|line| machine(line))).collect();
        }
        if name == "aims" {
            return aims::table(&lines, &before);
        }
        let (place, table) = name.strip_prefix("vm ").map_or(("host", name), |table| ("vm", table));
        let found: Vec<&Value> = lines.iter().filter(|l| l["table"] == table && l["where"] == place).collect();
        let file = format!("{place}-{}.svg", table.replace([' ', ','], "-").replace("--", "-"));
        if found.is_empty() {
            return before.table(&file).unwrap_or_else(|| "Not measured.\n".to_owned());
        }
        std::fs::write(pictures.join(&file), picture(table, place, &found)).unwrap();
        let date = text(found[0], "date");
        format!("{}\n*{date}*\n\n![{table}](benchmarks/{file})\n", rows(&found))
    });
    let document = document.collect::<String>();
    for picture in std::fs::read_dir(&pictures).unwrap().map(|entry| entry.unwrap()) {
        if !document.contains(&*picture.file_name().to_string_lossy()) {
            std::fs::remove_file(picture.path()).unwrap();
        }
    }
    std::fs::write(page, document).unwrap();
}

fn machine(line: &Value) -> String {
    format!("- {}: {}\n", text(line, "case"), text(line, "tool"))
}

fn text<'a>(line: &'a Value, key: &str) -> &'a str {
    line[key].as_str().unwrap_or_default()
}

/// Returns what the bars show: seconds on the clock, or the value of another unit.
fn main_value(line: &Value) -> f64 {
    middle(line, "wall").or_else(|| line["value"].as_f64()).unwrap_or(0.0)
}

/// Writes a table: of the times with processor, memory and ratio where they were measured.
fn rows(found: &[&Value]) -> String {
    if found[0]["unit"].is_string() {
        let mut out = format!("| | | {} |\n|---|---|--:|\n", text(found[0], "unit"));
        for line in found {
            let value = number(main_value(line));
            out.push_str(&format!("| {} | {} | {value} |\n", text(line, "case"), text(line, "tool")));
        }
        return out;
    }
    let whole = |line: &&&Value| middle(line, "cpu").is_some_and(|cpu| cpu > 0.0);
    let costs = found.iter().any(|line| whole(&line));
    let mut out = String::from("| | | s, median | best | worst | of the first |");
    out.push_str(if costs {
        " CPU s | MB |\n|---|---|--:|--:|--:|--:|--:|--:|\n"
    } else {
        "\n|---|---|--:|--:|--:|--:|\n"
    });
    let mut first = (String::new(), 1.0);
    for line in found {
        let wall = main_value(line);
        if first.0 != text(line, "case") {
            first = (text(line, "case").to_owned(), wall);
        }
        let values: Vec<f64> = line["wall"].as_array().into_iter().flatten().filter_map(Value::as_f64).collect();
        let of = |fold: fn(f64, f64) -> f64, from| number(values.iter().copied().fold(from, fold));
        out.push_str(&format!(
            "| {} | {} | {} | {} | {} | {:.2} |",
            text(line, "case"),
            text(line, "tool"),
            number(wall),
            of(f64::min, f64::INFINITY),
            of(f64::max, 0.0),
            wall / first.1
        ));
        match costs {
            true if !whole(&line) => out.push_str(" | |\n"),
            true => out.push_str(&format!(
                " {} | {:.0} |\n",
                number(middle(line, "cpu").unwrap_or(0.0)),
                middle(line, "memory").unwrap_or(0.0)
            )),
            false => out.push('\n'),
        }
    }
    out
}

fn picture(table: &str, place: &str, found: &[&Value]) -> String {
    let mut groups: Vec<Group> = Vec::new();
    for line in found {
        let bar = Bar { tool: text(line, "tool").to_owned(), value: main_value(line) };
        match groups.last_mut().filter(|g| g.case == text(line, "case")) {
            Some(group) => group.bars.push(bar),
            None => groups.push(Group { case: text(line, "case").to_owned(), bars: vec![bar] }),
        }
    }
    let unit = found[0]["unit"].as_str().unwrap_or("s");
    let place = if place == "vm" { "in the VM, with fs-verity" } else { "on the machine" };
    let better = if unit == "s" { "" } else { "; longer is better" };
    svg(&format!("{table} ({place}{better})"), unit, &groups)
}
