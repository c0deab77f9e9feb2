//! Reads the reference of metrics, log fields and span attributes.

/// The text of docs/running/telemetry.md.
pub const PAGE: &str = include_str!("../../../docs/running/telemetry.md");

/// The cells of every row of the tables in a section, such as "Metrics", without the backticks
/// around the name.
pub fn rows(section: &str) -> Vec<Vec<&'static str>> {
    let heading = format!("\n## {section}\n");
    let (_, section) = PAGE.split_once(&heading).unwrap_or_else(|| panic!("no {heading}"));
    let section = section.split("\n## ").next().unwrap_or_default();
    let rows = section.lines().filter(|line| line.starts_with("| `"));
    rows.map(cells).collect()
}

fn cells(row: &'static str) -> Vec<&'static str> {
    let cells = row.trim_matches('|').split('|').map(str::trim);
    cells
        .enumerate()
        .map(|(place, cell)| if place == 0 { cell.trim_matches('`') } else { cell })
        .collect()
}

/// The names in a section, in order.
pub fn names(section: &str) -> Vec<&'static str> {
    rows(section).iter().filter_map(|row| row.first().copied()).collect()
}
