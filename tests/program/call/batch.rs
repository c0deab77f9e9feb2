//! `batch-set-busy`: each agent has a result, and the worst one decides the exit code.

use ccgateway_sim::{Fault, Interface, Misbehaviour};
use ccgateway_test_support::Program;
use serde_json::Value;

use super::{call, check, signed_in};

use crate::support::{register, start};

/// A batch for these agents.
async fn batch(program: &Program, agents: &[&str], more: &[&str]) -> (Option<i32>, String) {
    let agents = agents.iter().flat_map(|agent| ["--agent", agent]);
    let args: Vec<_> = agents.chain(more.iter().copied()).collect();
    call(program, "batch-set-busy", &args).await
}

#[tokio::test]
async fn each_agent_is_told_in_the_order_of_the_command_line() {
    let program = start("", &[]).await;
    register(&program, 1001).await;
    register(&program, 1003).await;
    let done = batch(&program, &["1003", "1001"], &["--reason", "200"]).await;
    check(&done, 0, &["OK: 2 accepted\n1003: OK: accepted", "\n1001: OK: accepted"]);

    let some = batch(&program, &["1001", "1002"], &["--reason", "201", "--prolong"]).await;
    let words = [
        "1 accepted, 1 failed\n1001: OK: accepted",
        "\n1002: FAILED_PRECONDITION: SESSION_MISSING",
        "outcome            not_sent: the gateway was not asked",
        "what to do         sign the agent in",
    ];
    check(&some, 1, &words);
}

#[tokio::test]
async fn the_worst_of_all_agents_decides_the_exit_code() {
    let program = start("", &[]).await;
    signed_in(&program, "1001").await;
    register(&program, 1002).await;
    // 1002 is not polled, so nothing confirms it; 1003 has no session.
    let confirm = ["--confirm-within", "20s"];
    check(&batch(&program, &["1001"], &confirm).await, 0, &["1001: OK: confirmed"]);
    let again = ["--confirm-within", "20s", "--reason", "200", "--prolong"];
    let done = batch(&program, &["1001", "1002"], &again).await;
    check(
        &done,
        4,
        &["OK: 2 accepted", "1001: OK: confirmed", "1002: OK: accepted, not confirmed"],
    );
    let done = batch(&program, &["1003", "1002", "1001"], &again).await;
    check(&done, 1, &["2 accepted, 1 failed", "SESSION_MISSING"]);
    let cut = Misbehaviour::once(Fault::CutBeforeAnswer).on(Interface::SayBusy);
    program.gateway.misbehave(cut.of(1001));
    let done = batch(&program, &["1001", "1002", "1003"], &again).await;
    check(&done, 3, &["1 accepted, 2 failed", "1001: UNKNOWN: GATEWAY_NO_ANSWER", "look before"]);
}

#[tokio::test]
async fn scripts_get_each_agent_as_json() {
    let program = start("", &[]).await;
    register(&program, 1001).await;
    let (code, printed) = batch(&program, &["1001", "1002"], &["--json"]).await;
    let answer: Value = serde_json::from_str(&printed).unwrap_or_else(|_| panic!("{printed}"));
    assert_eq!((code, &answer["error_count"]), (Some(1), &1.into()), "{answer}");
    let [busy, missing] = &answer["results"].as_array().expect("results")[..] else {
        panic!("{answer}");
    };
    assert_eq!((&busy["agent_id"], &busy["accepted"]["retcode"]), (&"1001".into(), &"0".into()));
    assert_eq!(missing["agent_id"], "1002", "{answer}");
    assert_eq!(missing["error"]["reason"], "SESSION_MISSING", "{answer}");
    assert_eq!(missing["error"]["outcome"], "not_sent", "{answer}");
}

#[tokio::test]
async fn what_concerns_the_whole_batch_fails_as_a_whole() {
    let program = start("", &[]).await;
    check(&batch(&program, &[], &[]).await, 2, &["--agent <ID>"]);
    let twice = batch(&program, &["1001", "1001"], &[]).await;
    check(&twice, 1, &["INVALID_ARGUMENT: INVALID_REQUEST", "agent_ids"]);
    assert!(program.gateway.journal().is_empty());
}
