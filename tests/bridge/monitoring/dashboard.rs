//! What the dashboard shows, and where.

use std::collections::BTreeSet;

use serde_json::Value;

use super::{
    RUNBOOK, dashboard, promql::asked, queries_of_dashboard, reference::listed_metrics, rules, text,
};

/// Metrics for questions about one replica; over time they tell nothing.
const UNSHOWN: [&str; 4] = [
    "ccgw_reloads_total",
    "ccgw_store_file_bytes",
    "process_start_time_seconds",
    "process_threads",
];

/// What the runbook names of itself, and of the page of the admin port.
const NO_PANELS: [&str; 2] = ["Look", "Failed calls"];

/// The metrics that an expression asks for. Of a histogram it asks for one of its parts.
fn metrics_of(expression: &str) -> Vec<String> {
    let whole = |metric: String| {
        let part = ["_bucket", "_count", "_sum"].iter().find_map(|end| metric.strip_suffix(end));
        part.map_or_else(|| metric.clone(), str::to_owned)
    };
    asked(expression).expect(expression).into_iter().map(|asked| whole(asked.metric)).collect()
}

/// The first column and row of a panel, and those behind its last.
fn edges(panel: &Value) -> [u64; 4] {
    let [x, y, width, height] =
        ["x", "y", "w", "h"].map(|key| panel["gridPos"][key].as_u64().expect("a number"));
    [x, y, x + width, y + height]
}

fn overlap(one: &Value, other: &Value) -> bool {
    let ([left, top, right, bottom], [x, y, end, below]) = (edges(one), edges(other));
    left < end && x < right && top < below && y < bottom
}

#[test]
fn every_metric_is_on_the_dashboard_or_in_an_alert() {
    let queries = queries_of_dashboard(&dashboard()).into_iter().map(|query| query.expression);
    let of_rules = rules().into_iter().map(|rule| rule.expression);
    let used: BTreeSet<_> = queries.chain(of_rules).flat_map(|one| metrics_of(&one)).collect();
    let listed: BTreeSet<_> = listed_metrics().into_keys().collect();
    let unused: BTreeSet<_> =
        listed.iter().filter(|name| !used.contains(*name)).map(String::as_str).collect();
    assert_eq!(unused, BTreeSet::from(UNSHOWN));
}

#[test]
fn tenants_are_offered_by_the_namespaces_that_are_chosen() {
    let dashboard = dashboard();
    let variables = dashboard["templating"]["list"].as_array().expect("variables");
    let tenant = variables.iter().find(|variable| variable["name"] == "tenant").expect("there");
    // Grafana shows the former and asks the latter.
    for asked in [&tenant["definition"], &tenant["query"]["query"]] {
        assert!(text(asked).contains(r#"{namespace=~"$namespace"}"#), "{asked}");
    }
}

#[test]
fn every_panel_has_a_place_and_a_number_of_its_own() {
    let dashboard = dashboard();
    let all = dashboard["panels"].as_array().expect("panels");
    let ids: BTreeSet<_> = all.iter().map(|panel| panel["id"].as_u64()).collect();
    assert_eq!(ids.len(), all.len(), "some panels have the same id");
    for (place, one) in all.iter().enumerate() {
        let title = text(&one["title"]);
        let over: Vec<_> = all[..place]
            .iter()
            .filter(|other| overlap(one, other))
            .map(|other| text(&other["title"]))
            .collect();
        assert!(over.is_empty(), "{title} lies over {over:?}");
        assert!(edges(one)[2] <= 24, "{title} is too wide");
    }
}

/// Names of panels and rows are between quotes there, and begin with a capital letter.
#[test]
fn the_runbook_names_panels_that_exist() {
    let dashboard = dashboard();
    let all = dashboard["panels"].as_array().expect("panels");
    let titles: Vec<_> = all.iter().map(|panel| text(&panel["title"])).collect();
    let outside =
        |words: &str, mark: &str| words.split(mark).step_by(2).collect::<Vec<_>>().join(" ");
    let prose = outside(&outside(RUNBOOK, "```"), "`");
    let words = prose.split_whitespace().collect::<Vec<_>>().join(" ");
    let quoted = words.split('"').skip(1).step_by(2);
    let named: Vec<_> = quoted
        .filter(|name| name.starts_with(char::is_uppercase) && !NO_PANELS.contains(name))
        .collect();
    assert!(named.len() > 5, "{named:?}");
    for name in named {
        // What stands behind a comma is often left out.
        let is_of = |title: &str| title == name || title.split(", ").next() == Some(name);
        assert!(titles.iter().any(|title| is_of(title)), "there is no panel {name:?}");
    }
}
