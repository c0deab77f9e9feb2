use std::time::Duration;

use ccgateway_bridge::rpc::proto::{SetBusyRequest, WatchEventsRequest};
use ccgateway_sim::Interface;
use ccgateway_test_support::{Clients, Program, within};
use tokio::{task::JoinSet, time::sleep};
use tonic::Request;

use crate::support::{register, start, start_unlogged, start_unread};

/// Longer than the test goes on.
const LONG: Duration = Duration::from_secs(600);

#[tokio::test]
async fn a_reader_of_the_log_who_stalls_stops_no_call() {
    let program = start_unread("", &["--log-filter", "trace"]).await;
    register(&program, 1001).await;
    let mut states = Clients::of(program.grpc).states;
    // At this level each call writes some kilobytes, and a pipe holds 64.
    let calls = async {
        for _ in 0..200 {
            let request = SetBusyRequest {
                agent_id: "1001".into(),
                reason: Some(200),
                prolong: Some(true),
                ..<_>::default()
            };
            states.set_busy(request).await.expect("accepted");
        }
    };
    within("two hundred calls", calls).await;
}

#[tokio::test]
async fn lines_that_cannot_be_written_are_counted_and_stop_no_call() {
    let program = start_unlogged("", &["--log-filter", "debug"]).await;
    register(&program, 1001).await;
    let lost = async {
        loop {
            let (status, metrics) = program.ask("GET /metrics", "").await;
            assert_eq!(status, 200);
            let mut lines = metrics.lines();
            let line = lines.find_map(|line| line.strip_prefix("ccgw_log_lines_lost_total "));
            if line.expect("the metric") != "0" {
                return;
            }
            sleep(Duration::from_millis(20)).await;
        }
    };
    within("lines to be lost", lost).await;
}

#[tokio::test]
async fn calls_whose_callers_have_left_are_one_line_for_many() {
    let program = start("server.drain.delay = \"0s\"", &[]).await;
    for agent in 1001..1021 {
        register(&program, agent).await;
    }
    program.gateway.freeze();
    let asked = || {
        let journal = program.gateway.journal();
        journal.iter().filter(|entry| entry.interface == Some(Interface::SayBusy)).count()
    };
    let mut calls = JoinSet::new();
    for agent in 1001..1021_u32 {
        let mut states = Clients::of(program.grpc).states;
        let agent_id = agent.to_string();
        calls.spawn(async move {
            let request = SetBusyRequest { agent_id, reason: Some(200), ..<_>::default() };
            states.set_busy(request).await.map(drop)
        });
    }
    let sent = async {
        while asked() < 20 {
            sleep(Duration::from_millis(2)).await;
        }
    };
    within("twenty requests", sent).await;
    // All callers leave while the gateway thinks, which then accepts.
    calls.shutdown().await;
    let cancelled = async {
        while program.printed("CANCELLED").await.matches("CANCELLED").count() < 20 {
            sleep(Duration::from_millis(2)).await;
        }
    };
    within("twenty callers who have left", cancelled).await;
    program.gateway.thaw();
    program.signal("-TERM");
    let (status, printed) = program.ended().await;
    assert_eq!(status, Some(0));
    let lines = printed.lines().map(|line| serde_json::from_str(line).expect("JSON"));
    let left = |line: &serde_json::Value| {
        line["message"].as_str().is_some_and(|message| message.contains("callers had left"))
    };
    let lines: Vec<serde_json::Value> = lines.filter(left).collect();
    let accepted = |line: &serde_json::Value| line["accepted"].as_u64().expect("a number");
    assert_eq!(lines.iter().map(accepted).sum::<u64>(), 20, "{lines:?}");
    assert!(lines.len() < 20, "a line for each: {lines:?}");
    assert!(!printed.contains("after its caller had left"), "{printed}");
}

/// Watches until the stream ends, which takes no longer than `time`.
async fn watch(program: &Program, time: Duration) {
    let mut watch = Request::new(WatchEventsRequest::default());
    watch.set_timeout(time);
    let mut stream =
        Clients::of(program.grpc).events.watch_events(watch).await.expect("begun").into_inner();
    while stream.message().await.is_ok() {}
}

/// Checks that the log has a line for each of these ends of watches, and none with a warning.
#[track_caller]
fn are_no_warnings(printed: &str, ends: &[&str]) {
    let lines = printed.lines().map(|line| serde_json::from_str(line).expect("JSON"));
    let watches = |line: &serde_json::Value| {
        line["method"].as_str().is_some_and(|method| method.ends_with("/WatchEvents"))
    };
    let lines: Vec<serde_json::Value> = lines.filter(watches).collect();
    assert_eq!(lines.len(), ends.len(), "{lines:?}");
    for (line, end) in lines.iter().zip(ends) {
        assert!(line.to_string().contains(end), "{end}: {line}");
        assert_eq!((&line["level"], line.get("error")), (&"INFO".into(), None), "{line}");
    }
}

#[tokio::test]
async fn a_watch_that_ends_by_its_caller_or_with_the_bridge_is_no_warning() {
    let program = start("server.drain.delay = \"0s\"", &[]).await;
    watch(&program, Duration::from_secs(1)).await;
    program.printed("DEADLINE").await;
    let left = Clients::of(program.grpc).events.watch_events(WatchEventsRequest::default()).await;
    drop(left.expect("begun"));
    program.printed("CANCELLED").await;

    let stopped =
        Clients::of(program.grpc).events.watch_events(WatchEventsRequest::default()).await;
    let mut stopped = stopped.expect("begun").into_inner();
    program.signal("-TERM");
    while stopped.message().await.is_ok() {}
    let (_, printed) = program.ended().await;
    are_no_warnings(&printed, &["DEADLINE", "CANCELLED", "SHUTTING_DOWN"]);
}

#[tokio::test]
async fn a_watch_that_ends_with_its_connection_is_no_warning() {
    let age = "server.connections = { max_age = \"1s\", max_age_grace = \"1s\" }";
    let program = start(age, &[]).await;
    watch(&program, LONG).await;
    let printed = program.printed("CONNECTION_AGED").await;
    are_no_warnings(&printed, &["CONNECTION_AGED"]);
}
