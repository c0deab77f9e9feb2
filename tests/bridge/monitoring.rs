//! The dashboard and the alerts in `deploy/` use only metrics and labels that a bridge exports.

mod dashboard;
mod promql;
mod reference;
mod source;
mod tokens;

use std::{
    collections::{BTreeMap, BTreeSet},
    net::TcpListener,
    time::Duration,
};

use ccgateway_bridge::rpc::proto::{SetBusyRequest, SignInRequest};
use ccgateway_sim::{Fault, Interface, Misbehaviour, Options};
use ccgateway_test_support::{AGENT, PASSWORD, Setup, TestBridge, refused};
use serde_json::Value;
use tonic::Code;

use self::promql::{Asked, Matcher, asked};

const DASHBOARD: &str = include_str!("../../deploy/monitoring/dashboard.json");
const RULES: &str = include_str!("../../deploy/components/alerts/rules.yaml");
const RUNBOOK: &str = include_str!("../../docs/running/runbook.md");

/// Labels that Prometheus adds.
const ADDED: [&str; 2] = ["namespace", "pod"];
/// Series of kube-state-metrics, with their label.
const OTHERS: [(&str, &str); 2] = [
    ("kube_deployment_spec_replicas", "deployment"),
    ("kube_deployment_status_replicas_ready", "deployment"),
];
/// Labels of which every value is known beforehand.
const CLOSED: [&str; 7] =
    ["grpc_code", "grpc_service", "grpc_type", "interface", "result", "share", "state"];

/// What is exported: the values of each label of each metric.
#[derive(Default)]
struct Exported(BTreeMap<String, BTreeMap<String, BTreeSet<String>>>);

/// An expression, and what it is of.
struct Query {
    place: String,
    expression: String,
}

/// An alert, or a recorded series.
struct Rule<'a> {
    name: &'a str,
    is_alert: bool,
    expression: String,
    /// Its lines, without their indentation.
    lines: Vec<&'a str>,
}

// === impl Exported ===

impl Exported {
    fn from_series<'a>(series: impl IntoIterator<Item = &'a str>) -> Self {
        let mut exported = Self::default();
        for one in series {
            // A series is written as a selector of itself.
            for Asked { metric, matchers, .. } in asked(one).expect(one) {
                let labels = exported.0.entry(metric).or_default();
                for Matcher { label, value, .. } in matchers {
                    labels.entry(label).or_default().insert(value);
                }
            }
        }
        exported
    }

    /// Adds series whose values do not matter.
    fn add(&mut self, metric: &str, labels: impl IntoIterator<Item = String>) {
        let labels = labels.into_iter().map(|label| (label, BTreeSet::new()));
        self.0.insert(metric.to_owned(), labels.collect());
    }

    /// The labels and values in an expression that no metric has.
    fn missing(&self, expression: &str) -> Vec<String> {
        match asked(expression) {
            Err(error) => vec![error],
            Ok(asked) => asked.iter().flat_map(|asked| self.missing_for(asked)).collect(),
        }
    }

    fn missing_for(&self, asked: &Asked) -> Vec<String> {
        let metric = &asked.metric;
        let Some(labels) = self.0.get(metric) else {
            return vec![format!("there is no {metric}")];
        };
        let matched = asked.matchers.iter().map(|matcher| &matcher.label);
        let mut missing: Vec<_> = matched
            .chain(&asked.grouped)
            .filter(|label| !ADDED.contains(&label.as_str()) && !labels.contains_key(*label))
            .map(|label| format!("{metric} has no label {label}"))
            .collect();
        for matcher in &asked.matchers {
            if let (true, Some(known)) =
                (CLOSED.contains(&matcher.label.as_str()), labels.get(&matcher.label))
            {
                let wrong = alternatives(matcher).filter(|value| !is_among(known, value));
                let said = |value| format!("{metric} has no {}=\"{value}\"", matcher.label);
                missing.extend(wrong.map(said));
            }
        }
        missing
    }
}

/// The values that a matcher names.
fn alternatives(matcher: &Matcher) -> impl Iterator<Item = &str> {
    let separator = if matcher.pattern { "|" } else { "\n" };
    matcher.value.split(separator)
}

/// Whether a value, or a beginning with `.*` behind it, is among the known ones.
fn is_among(known: &BTreeSet<String>, value: &str) -> bool {
    match value.strip_suffix(".*") {
        Some(beginning) => known.iter().any(|known| known.starts_with(beginning)),
        None => known.contains(value),
    }
}

// === What is asked for ===

fn dashboard() -> Value {
    serde_json::from_str(DASHBOARD).expect("JSON")
}

/// The panels that show something.
fn panels(dashboard: &Value) -> Vec<&Value> {
    let panels = dashboard["panels"].as_array().expect("panels");
    panels.iter().filter(|panel| panel["type"] != "row").collect()
}

fn queries_of_dashboard(dashboard: &Value) -> Vec<Query> {
    let mut queries = Vec::new();
    for panel in panels(dashboard) {
        for target in panel["targets"].as_array().expect("targets") {
            let place = format!("panel {}", panel["title"]);
            queries.push(Query { place, expression: text(&target["expr"]).to_owned() });
        }
    }
    for variable in dashboard["templating"]["list"].as_array().expect("variables") {
        // The only function that is not of Prometheus.
        let values = variable["definition"].as_str().and_then(|definition| {
            definition.strip_prefix("label_values(")?.strip_suffix(')')?.split_once(", ")
        });
        if let Some((metric, label)) = values {
            let place = format!("variable {}", variable["name"]);
            queries.push(Query { place, expression: format!("count by ({label}) ({metric})") });
        }
    }
    queries
}

#[track_caller]
fn text(value: &Value) -> &str {
    value.as_str().expect("a text")
}

/// Reads the rules by their lines, which is enough for the form that they are written in.
fn rules() -> Vec<Rule<'static>> {
    let mut rules: Vec<Rule<'static>> = Vec::new();
    // The indentation of an expression that goes on.
    let mut inside = None;
    for line in RULES.lines() {
        let indentation = line.len() - line.trim_start().len();
        let line = line.trim_start();
        let name = line.strip_prefix("- alert: ").or_else(|| line.strip_prefix("- record: "));
        if let Some(name) = name {
            let is_alert = line.starts_with("- alert");
            let (expression, lines) = (String::new(), Vec::new());
            rules.push(Rule { name, is_alert, expression, lines });
        }
        let Some(rule) = rules.last_mut() else { continue };
        if inside.is_some_and(|of| indentation <= of) {
            inside = None;
        }
        if inside.is_some() {
            rule.expression.push_str(line);
            rule.expression.push('\n');
        } else if line == "expr: |" {
            inside = Some(indentation);
        } else if let Some(whole) = line.strip_prefix("expr: ") {
            whole.clone_into(&mut rule.expression);
        }
        rule.lines.push(line);
    }
    rules
}

/// The labels that a recorded series has, beside those that Prometheus adds.
fn recorded_labels(rule: &Rule<'_>) -> BTreeSet<String> {
    let asked = asked(&rule.expression).unwrap_or_default();
    let grouped = asked.into_iter().flat_map(|asked| asked.grouped);
    grouped.filter(|label| !ADDED.contains(&label.as_str())).collect()
}

// === The live run ===

/// A bridge after a morning with all kinds of trouble.
async fn troubled() -> TestBridge {
    // It takes connections and says nothing, so a caller can leave before there is one.
    let silent = TcpListener::bind("127.0.0.1:0").expect("a port");
    let bridge = TestBridge::with(Setup {
        gateway: Options { event_gen_time: true, ..<_>::default() },
        // It has no polls for all agents, so both kinds are asked for.
        tenant: "timeouts.connect = \"1s\"\nkeep.poll = \"all\"\n".into(),
        keep: true,
        first: Some(silent.local_addr().expect("bound")),
        ..<_>::default()
    })
    .await;
    let mut watching = bridge.watch(&[], None).await;
    let sign_in = |agent: u32, password: &str| SignInRequest {
        agent_id: agent.to_string(),
        password: Some(password.into()),
        ..<_>::default()
    };
    let mut sessions = bridge.sessions.clone();
    let mut impatient = tonic::Request::new(sign_in(AGENT, PASSWORD));
    impatient.set_timeout(Duration::from_millis(100));
    let given_up = sessions.sign_in(impatient).await;
    refused(given_up, Code::DeadlineExceeded, "DEADLINE", "not_sent");

    bridge.sign_in(AGENT).await.expect("signed in");
    watching.event("AgentState_Ready").await;
    let agent_id = AGENT.to_string();
    let confirm_within = Some(Duration::from_secs(10).try_into().expect("a duration"));
    let confirmed = SetBusyRequest { agent_id, confirm_within, ..<_>::default() };
    bridge.call(confirmed.clone()).await.expect("busy");
    bridge.call(confirmed).await.expect_err("busy already");
    bridge.set_busy(AGENT + 1).await.expect_err("no session");
    let wrong = sessions.sign_in(sign_in(AGENT + 1, "wrong")).await;
    refused(wrong, Code::FailedPrecondition, "CREDENTIALS_REJECTED", "refused");

    let without_guid = Fault::Status {
        status: 200,
        headers: Vec::new(),
        body: br#"{"message":"","retcode":"0"}"#.to_vec(),
        content_type: "application/json".into(),
    };
    bridge.gateway.misbehave(Misbehaviour::once(without_guid).on(Interface::SignIn));
    let useless = bridge.sign_in(AGENT + 1).await;
    refused(useless, Code::Internal, "GATEWAY_BAD_REPLY", "unknown");

    let cut = Misbehaviour::once(Fault::CutBeforeAnswer).on(Interface::SayBusy);
    bridge.gateway.misbehave(cut);
    refused(bridge.set_busy(AGENT).await, Code::Unknown, "GATEWAY_NO_ANSWER", "unknown");
    bridge.gateway.stop().await;
    drop(silent);
    let unreachable = bridge.set_busy(AGENT).await;
    refused(unreachable, Code::Unavailable, "GATEWAY_UNREACHABLE", "not_sent");

    bridge
}

async fn exported(bridge: &TestBridge) -> Exported {
    let series = bridge.scrape().await;
    Exported::from_series(series.keys().map(String::as_str))
}

#[tokio::test]
async fn dashboard_and_rules_ask_for_what_a_bridge_exports() {
    let mut exported = exported(&troubled().await).await;
    for (metric, label) in OTHERS {
        exported.add(metric, [label.to_owned()]);
    }
    let rules = rules();
    for rule in rules.iter().filter(|rule| !rule.is_alert) {
        exported.add(rule.name, recorded_labels(rule));
    }
    let of_rule = |rule: Rule<'_>| Query {
        place: format!("rule {}", rule.name),
        expression: rule.expression,
    };
    for rule in &rules {
        assert!(!rule.expression.is_empty(), "{} has no expression", rule.name);
    }
    let mut queries = queries_of_dashboard(&dashboard());
    queries.extend(rules.into_iter().map(of_rule));
    assert!(queries.len() > 40, "only {} queries were found", queries.len());
    let missing = queries.iter().flat_map(|Query { place, expression }| {
        exported.missing(expression).into_iter().map(move |problem| format!("{place}: {problem}"))
    });
    assert_eq!(missing.collect::<Vec<_>>(), Vec::<String>::new());
}

// === The check itself, and the words around the queries ===

#[test]
fn a_query_for_a_metric_that_does_not_exist_is_found() {
    let mut exported = Exported::from_series([
        r#"requests_total{tenant="acme",result="ok"}"#,
        r#"requests_total{tenant="acme",result="no_answer"}"#,
        "seconds_bucket{le=\"1.0\"}",
    ]);
    exported.add("recorded:sum", ["tenant".to_owned()]);
    for (expression, expected) in [
        (r#"requests_total{tenant="other",result=~"ok|no_.*",pod="a"}"#, vec![]),
        ("histogram_quantile(0.5, sum by (le) (rate(seconds_bucket[5m])))", vec![]),
        ("sum by (namespace, tenant) (recorded:sum)", vec![]),
        ("requests", vec!["there is no requests"]),
        ("recorded:sum / up", vec!["there is no up"]),
        (r#"requests_total{agent="1"}"#, vec!["requests_total has no label agent"]),
        ("sum by (agent) (requests_total)", vec!["requests_total has no label agent"]),
        ("recorded:sum and on (le) seconds_bucket", vec!["recorded:sum has no label le"]),
        (r#"requests_total{result!="okay"}"#, vec![r#"requests_total has no result="okay""#]),
        (
            r#"requests_total{result=~"ok|un.*|bad"}"#,
            vec![r#"requests_total has no result="un.*""#, r#"requests_total has no result="bad""#],
        ),
        // No other pattern is understood, so nothing slips through.
        (r#"requests_total{result=~"o[k]"}"#, vec![r#"requests_total has no result="o[k]""#]),
        ("sum without (x) (requests_total)", vec!["without is not understood here"]),
    ] {
        assert_eq!(exported.missing(expression), expected, "{expression}");
    }
}

#[test]
fn every_panel_says_what_to_look_for() {
    let dashboard = dashboard();
    for panel in panels(&dashboard) {
        let title = text(&panel["title"]);
        assert!(text(&panel["description"]).len() > 60, "{title}");
        assert_eq!(panel["datasource"]["uid"], "${datasource}", "{title}");
        assert!(panel["targets"].as_array().is_some_and(|targets| !targets.is_empty()), "{title}");
    }
}

#[test]
fn every_alert_is_in_the_runbook_and_nothing_else() {
    let sections: BTreeSet<_> =
        RUNBOOK.lines().filter_map(|line| line.strip_prefix("## Ccgw")).collect();
    let mut told = BTreeSet::new();
    for rule in rules().iter().filter(|rule| rule.is_alert) {
        let value = |key: &str| {
            let line = rule.lines.iter().find_map(|line| line.strip_prefix(key));
            line.unwrap_or_else(|| panic!("{} has no {key}", rule.name)).trim()
        };
        assert!(["page", "ticket"].contains(&value("severity:")), "{}", rule.name);
        assert!(!value("summary:").is_empty() && !value("description:").is_empty());
        let (page, anchor) = value("runbook_url:").rsplit_once('#').expect("an anchor");
        assert!(page.ends_with("/docs/running/runbook.md"), "{page}");
        let section = sections.iter().find(|section| {
            // An anchor is a heading in small letters.
            anchor.strip_prefix("ccgw") == Some(&section.to_lowercase())
        });
        let listed = RUNBOOK.lines().filter(|line| line.starts_with("| [Ccgw"));
        let row = format!("| [{}](#{anchor}) | {} |", rule.name, value("severity:"));
        assert_eq!(listed.filter(|line| line.starts_with(&row)).count(), 1, "{row}");
        told.insert(*section.unwrap_or_else(|| panic!("there is no section {anchor}")));
    }
    assert_eq!(told, sections);
}
