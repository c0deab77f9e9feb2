//! `watch-events`, and how it ends.

use ccgateway_test_support::{Program, Setup, signal, within};
use serde_json::Value;
use tokio::{
    io::{AsyncBufReadExt as _, BufReader, Lines},
    process::{Child, ChildStdout},
};

use super::{call, check, command, signed_in};

use crate::support::{setup, start, start_at};

/// A watch in a process of its own.
async fn watch(program: &Program, args: &[&str]) -> (Child, Lines<BufReader<ChildStdout>>) {
    let mut child = command(program, "watch-events", args).spawn().expect("started");
    let mut lines = BufReader::new(child.stdout.take().expect("piped")).lines();
    let first = within("the first line", lines.next_line()).await.expect("readable");
    let first = first.expect("a line");
    assert!(first.contains("watching") || first.contains("begin"), "{first}");
    (child, lines)
}

#[tokio::test]
async fn events_are_told_until_ctrl_c() {
    let program = start("", &[]).await;
    let (mut child, mut lines) = watch(&program, &["--agent", "1001"]).await;
    signed_in(&program, "1001").await;
    let mut told = String::new();
    while !told.contains("AgentState_Ready") {
        let line = within("an event", lines.next_line()).await.expect("readable");
        told = told + &line.expect("a line") + "\n";
    }
    assert!(told.contains("  1001  session kept"), "{told}");

    signal(child.id().expect("running"), "-INT");
    let status = within("its end", child.wait()).await.expect("waited for");
    assert_eq!(status.code(), Some(0));
}

#[tokio::test]
async fn a_watch_goes_on_when_its_connection_has_reached_its_age() {
    let age = "server.connections = { max_age = \"1s\", max_age_grace = \"1s\" }";
    let program = start(age, &[]).await;
    let (_child, mut lines) = watch(&program, &["--json"]).await;
    let mut next = async || -> Value {
        let line = within("a message", lines.next_line()).await.expect("readable");
        serde_json::from_str(&line.expect("a line")).expect("JSON")
    };
    let again = next().await;
    assert!(again["begin"].is_object(), "{again}");
    signed_in(&program, "1001").await;
    let event = next().await;
    assert_eq!(event["agent_id"], "1001", "{event}");
}

/// A time that began anew with each stream would not end, as streams end sooner here.
#[tokio::test]
async fn a_watch_whose_time_is_over_has_done_what_it_was_to() {
    let age = "server.connections = { max_age = \"1s\", max_age_grace = \"1s\" }";
    let program = start(age, &[]).await;
    let done = call(&program, "watch-events", &["--deadline", "4s", "--json"]).await;
    check(&done, 0, &["\"begin\""]);
    assert!(!done.1.contains("error"), "{}", done.1);
}

#[tokio::test]
async fn a_watch_that_is_refused_is_told_from_one_that_breaks_off() {
    let program = start("", &[]).await;
    let nobody = ["--tenant", "nobody"];
    check(&call(&program, "watch-events", &nobody).await, 1, &["TENANT_UNKNOWN"]);
    let bad = ["--agent", "01"];
    check(&call(&program, "watch-events", &bad).await, 1, &["INVALID_REQUEST"]);

    let (mut child, _lines) = watch(&program, &["--deadline", "5s"]).await;
    program.signal("-KILL");
    let status = within("its end", child.wait()).await.expect("waited for");
    assert_eq!(status.code(), Some(2), "no bridge comes before the deadline");
    check(&call(&program, "watch-events", &[]).await, 2, &["Connection refused"]);
}

/// The next message that is so.
async fn until_told(
    lines: &mut Lines<BufReader<ChildStdout>>,
    is_so: impl Fn(&Value) -> bool,
) -> Value {
    let told = async {
        loop {
            let line = lines.next_line().await.expect("readable").expect("it goes on");
            let message = serde_json::from_str(&line).expect("JSON");
            if is_so(&message) {
                return message;
            }
        }
    };
    within("a message", told).await
}

#[tokio::test]
async fn a_watch_goes_on_with_the_bridge_that_is_started_next_until_one_refuses_it() {
    let mut program = start("", &[]).await;
    let (addr, site) = (program.grpc, program.site.clone());
    let again = |settings| Setup { listen: Some(addr), ..setup(settings) };
    let (mut child, mut lines) = watch(&program, &["--json"]).await;
    let mut errors = BufReader::new(child.stderr.take().expect("piped")).lines();
    program.kill().await;
    let said = within("what it does", errors.next_line()).await.expect("readable");
    let said = said.expect("a line");
    assert!(said.ends_with("; reconnecting"), "{said}");
    let refused = async {
        loop {
            let said = errors.next_line().await.expect("readable").expect("a line");
            if said.contains("Connection refused") {
                return said;
            }
        }
    };
    let said = within("the next cause", refused).await;
    assert!(said.ends_with("; reconnecting"), "{said}");

    let mut program = start_at(Some(&site), &again("")).await;
    until_told(&mut lines, |message| message["begin"].is_object()).await;
    signed_in(&program, "1001").await;
    until_told(&mut lines, |message| message["agent_id"] == "1001").await;
    program.kill().await;

    let rules =
        "callers.all = { principals = [\"anonymous\"], tenants = [\"*\"], rights = [\"read\"] }";
    let _program = start_at(Some(&site), &again(rules)).await;
    let refused = until_told(&mut lines, |message| message["error"].is_object()).await;
    assert_eq!(refused["error"]["reason"], "CALLER_NOT_ALLOWED", "{refused}");
    let status = within("its end", child.wait()).await.expect("waited for");
    assert_eq!(status.code(), Some(1));
}
