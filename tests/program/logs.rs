use std::time::Duration;

use ccgateway_bridge::{rpc::proto::SetBusyRequest, sim::Interface};
use tokio::{task::JoinSet, time::sleep};

use crate::support::{Program, within};

#[tokio::test]
async fn a_reader_of_the_log_who_stalls_stops_no_call() {
    let program = Program::start_unread("", &["--log-filter", "trace"]).await;
    program.register(1001).await;
    let mut states = program.states();
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
    let program = Program::start_unlogged("", &["--log-filter", "debug"]).await;
    program.register(1001).await;
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
    let program = Program::start("server.drain.delay = \"0s\"", &[]).await;
    for agent in 1001..1021 {
        program.register(agent).await;
    }
    program.gateway.freeze();
    let asked = || {
        let journal = program.gateway.journal();
        journal.iter().filter(|entry| entry.interface == Some(Interface::SayBusy)).count()
    };
    let mut calls = JoinSet::new();
    for agent in 1001..1021_u32 {
        let mut states = program.states();
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
