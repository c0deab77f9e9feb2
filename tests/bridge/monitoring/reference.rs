//! docs/running/telemetry.md lists everything that exists, and nothing else.

use std::collections::{BTreeMap, BTreeSet};

use ccgateway_test_support::{
    TestBridge,
    page::{names, rows},
};

use super::{
    Exported, exported,
    source::{Found, Names},
    troubled,
};

/// A metric's type and labels, by its name.
type Metrics = BTreeMap<String, (String, BTreeSet<String>)>;

/// What stands in each line of the log, whatever its message.
const EVERY_LINE: [&str; 4] = ["timestamp", "level", "target", "message"];

/// What is added to a name when it is registered.
const ENDINGS: [&str; 6] = ["", "_total", "_info", "_seconds", "_seconds_total", "_bytes"];

pub(super) fn listed_metrics() -> Metrics {
    let metric = |row: Vec<&str>| match row[..] {
        [name, kind, labels, _meaning] => {
            let labels = labels.split(", ").filter(|label| !label.is_empty());
            let labels = labels.map(|label| label.trim_matches('`').to_owned()).collect();
            (name.to_owned(), (kind.to_owned(), labels))
        }
        _ => panic!("{row:?}"),
    };
    rows("Metrics").into_iter().map(metric).collect()
}

async fn exported_metrics(bridge: &TestBridge) -> Metrics {
    let (_, text) = bridge.ask("GET /metrics").await;
    let Exported(series) = exported(bridge).await;
    let families = text.lines().filter_map(|line| line.strip_prefix("# TYPE ")?.split_once(' '));
    let metric = |(family, kind): (&str, &str)| {
        let (name, one) = match kind {
            "counter" => (format!("{family}_total"), format!("{family}_total")),
            "info" => (format!("{family}_info"), format!("{family}_info")),
            "histogram" => (family.to_owned(), format!("{family}_count")),
            _ => (family.to_owned(), family.to_owned()),
        };
        let labels = series.get(&one).unwrap_or_else(|| panic!("{one} has no series"));
        (name, (kind.to_owned(), labels.keys().cloned().collect()))
    };
    families.map(metric).collect()
}

#[tokio::test]
async fn every_metric_is_in_the_reference_with_its_type_and_labels() {
    let exported = exported_metrics(&troubled().await).await;
    assert!(exported.len() > 30, "{exported:?}");
    let listed = listed_metrics();
    let listed_alone: Vec<_> = listed.iter().filter(|one| !exported.contains_key(one.0)).collect();
    let unlisted: Vec<_> = exported.iter().filter(|one| listed.get(one.0) != Some(one.1)).collect();
    assert!(
        listed_alone.is_empty(),
        "docs/running/telemetry.md lists what is not exported: {listed_alone:#?}"
    );
    assert!(unlisted.is_empty(), "docs/running/telemetry.md does not list as it is: {unlisted:#?}");
}

/// A family without a series is not exported, and would not be seen in the run above.
#[test]
fn every_metric_that_is_registered_is_in_the_reference() {
    let listed = listed_metrics();
    let is_listed =
        |name: &str| ENDINGS.iter().any(|ending| listed.contains_key(&format!("{name}{ending}")));
    let registered = Names::of_the_bridge().metrics;
    assert!(registered.len() > 30, "{registered:?}");
    let unlisted: Vec<_> = registered.iter().filter(|(name, _)| !is_listed(name)).collect();
    assert!(unlisted.is_empty(), "docs/running/telemetry.md does not list {unlisted:#?}");
}

/// As `promtool check metrics` has them.
#[test]
fn names_of_metrics_follow_the_conventions() {
    for (name, (kind, labels)) in listed_metrics() {
        let words: Vec<_> = name.split('_').collect();
        let last = *words.last().expect("a word");
        let lower = |name: &str| name.bytes().all(|b| b.is_ascii_lowercase() || b == b'_');
        assert!(lower(&name) && labels.iter().all(|label| lower(label)), "{name} {labels:?}");
        assert_eq!(last == "total", kind == "counter", "{name}: {kind}");
        assert_eq!(last == "info", kind == "info", "{name}: {kind}");
        let is_seconds = matches!(last, "seconds" | "bytes");
        assert!(kind != "histogram" || is_seconds, "{name} has no base unit at its end");
        for word in ["count", "sum", "bucket", "created", "gauge", "counter", "histogram"] {
            assert!(!words.contains(&word), "{name} has the word {word}");
        }
        for unit in ["ms", "milliseconds", "us", "minutes", "hours", "kb", "mb", "percent"] {
            assert!(!words.contains(&unit), "{name} has another unit than the base one: {unit}");
        }
        let is_time =
            words.iter().any(|word| matches!(*word, "time" | "timestamp" | "wait" | "lag"));
        assert!(!is_time || words.contains(&"seconds"), "{name} has no unit");
    }
}

#[track_caller]
fn compare(what: &str, found: &Found, listed: &[&str]) {
    let unlisted: Vec<_> =
        found.iter().filter(|(name, _)| !listed.contains(&name.as_str())).collect();
    assert!(
        unlisted.is_empty(),
        "docs/running/telemetry.md does not list these {what}: {unlisted:#?}"
    );
    let gone: Vec<_> = listed.iter().filter(|name| !found.contains_key(**name)).collect();
    assert!(
        gone.is_empty(),
        "docs/running/telemetry.md lists {what} that nothing writes: {gone:?}"
    );
    let once: BTreeSet<_> = listed.iter().collect();
    assert_eq!(once.len(), listed.len(), "docs/running/telemetry.md lists some {what} twice");
}

#[test]
fn every_field_of_the_log_is_in_the_reference() {
    let mut listed = names("Log fields");
    for name in EVERY_LINE {
        assert!(listed.contains(&name), "docs/running/telemetry.md does not list {name}");
    }
    listed.retain(|name| !EVERY_LINE.contains(name));
    let found = Names::of_the_bridge().fields;
    assert!(found.len() > 40, "{found:?}");
    compare("log fields", &found, &listed);
}

#[test]
fn every_attribute_of_a_span_is_in_the_reference() {
    let found = Names::of_the_bridge().attributes;
    assert!(found.len() > 15, "{found:?}");
    compare("span attributes", &found, &names("Span attributes"));
}
