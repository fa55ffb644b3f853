//! Ratios of a short run beside those of the page, so that a change can be judged while it is made.

use std::path::Path;

use serde_json::Value;

use super::numbers::{middle, number};

/// Prints what each tool took of the first one's time, here and on the page.
pub fn print(results: &Path, page: &Path) {
    let results = std::fs::read_to_string(results).unwrap();
    let page = std::fs::read_to_string(page).unwrap();
    println!("{:<28} {:<34} {:>9} {:>10} {:>10}", "", "", "s", "of first", "on page");
    let mut first = (String::new(), 1.0);
    for line in results.lines() {
        let line: Value = serde_json::from_str(line).unwrap();
        let text = |key: &str| line[key].as_str().unwrap_or_default().to_owned();
        let (case, tool) = (text("case"), text("tool"));
        let Some(wall) = middle(&line, "wall") else { continue };
        if first.0 != case {
            first = (case.clone(), wall);
        }
        let before = ratio_on(&page, &case, &tool).unwrap_or("-");
        println!("{case:<28} {tool:<34} {:>9} {:>10.2} {before:>10}", number(wall), wall / first.1);
    }
}

/// Finds the ratio in the first row of the page for this: measured on the machine, and not in the VM, which comes
/// after.
fn ratio_on<'a>(page: &'a str, case: &str, tool: &str) -> Option<&'a str> {
    let row = page.lines().find_map(|line| line.strip_prefix(&format!("| {case} | {tool} | ")))?;
    row.split(" | ").nth(3)
}
