//! A picture of a table: horizontal bars, a group for each case.

use std::fmt::Write as _;

/// One bar.
pub struct Bar {
    pub tool: String,
    pub value: f64,
}

/// A group of bars with a name.
pub struct Group {
    pub case: String,
    pub bars: Vec<Bar>,
}

const COLORS: [&str; 6] = ["#1b6ca8", "#d98032", "#5a9e5a", "#9a6fb0", "#8c8c8c", "#c0504d"];
const LEFT: usize = 270;
const WIDTH: usize = 820;
const BAR: usize = 16;

/// Draws the picture; shorter bars are better unless the title says otherwise.
pub fn svg(title: &str, unit: &str, groups: &[Group]) -> String {
    let values = || groups.iter().flat_map(|g| &g.bars).map(|b| b.value);
    let (least, most) = (values().fold(f64::MAX, f64::min), values().fold(f64::MIN_POSITIVE, f64::max));
    // Otherwise one bar would be seen, and no other.
    let logarithmic = least > 0.0 && most / least > 1000.0;
    let share =
        |value: f64| if logarithmic { (2.0 * value / least).ln() / (2.0 * most / least).ln() } else { value / most };
    let title = if logarithmic { format!("{title}, logarithmic") } else { title.to_owned() };
    let bars: usize = groups.iter().map(|g| g.bars.len()).sum();
    let height = 44 + groups.len() * 26 + bars * (BAR + 3);
    let mut out = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"{WIDTH}\" height=\"{height}\" viewBox=\"0 0 {WIDTH} {height}\" \
         font-family=\"sans-serif\" font-size=\"12\" role=\"img\" aria-label=\"{0}\">\n<rect width=\"100%\" height=\"100%\" fill=\"#fff\"/>\n\
         <text x=\"10\" y=\"22\" font-size=\"15\" font-weight=\"bold\">{0}</text>\n",
        escape(&title)
    );
    let mut y = 34;
    let mut tools: Vec<&str> = Vec::new();
    for group in groups {
        y += 20;
        let _ = writeln!(out, "<text x=\"10\" y=\"{y}\" font-weight=\"bold\">{}</text>", escape(&group.case));
        y += 6;
        for bar in &group.bars {
            // A tool has one colour in the whole picture.
            let at = tools.iter().position(|t| *t == bar.tool).unwrap_or_else(|| {
                tools.push(&bar.tool);
                tools.len() - 1
            });
            let length = (share(bar.value) * (WIDTH - LEFT - 110) as f64).max(1.0);
            let (base, color) = (y + BAR - 4, COLORS[at % COLORS.len()]);
            let _ = writeln!(
                out,
                "<text x=\"{}\" y=\"{base}\" text-anchor=\"end\">{}</text>\
                 <rect x=\"{LEFT}\" y=\"{y}\" width=\"{length:.1}\" height=\"{BAR}\" fill=\"{color}\"/>\
                 <text x=\"{:.1}\" y=\"{base}\">{} {}</text>",
                LEFT - 8,
                escape(&bar.tool),
                LEFT as f64 + length + 6.0,
                super::numbers::number(bar.value),
                escape(unit),
            );
            y += BAR + 3;
        }
    }
    out.push_str("</svg>\n");
    out
}

fn escape(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;")
}
