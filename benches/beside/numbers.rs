//! Numbers of the file of results, and how they are shown.

use serde_json::Value;

use super::measure::median;

/// Returns the median of one column of a line.
pub fn middle(line: &Value, key: &str) -> Option<f64> {
    let values: Vec<f64> = line[key].as_array()?.iter().filter_map(Value::as_f64).collect();
    Some(median(&values))
}

/// Shows a number with three significant digits.
pub fn number(value: f64) -> String {
    match value {
        v if v >= 100.0 => format!("{v:.0}"),
        v if v >= 10.0 => format!("{v:.1}"),
        v if v >= 1.0 => format!("{v:.2}"),
        v if v >= 0.1 => format!("{v:.3}"),
        v => format!("{v:.4}"),
    }
}
