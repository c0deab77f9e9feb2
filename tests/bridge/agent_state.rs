//! Every change of an agent's state: as the gateway is asked for it and refuses it.

use ccgateway_bridge::{
    retcode::LISTED,
    rpc::proto::{GetStateRequest, SetRestingRequest},
};
use ccgateway_sim::{Fault, Interface, Misbehaviour};
use ccgateway_test_support::{
    AGENT, Refusal, TestBridge,
    changes::{Change, no_fields},
    refused,
};
use tonic::Code;

use crate::table::{ROWS, method, rows};

async fn signed_in() -> TestBridge {
    let bridge = TestBridge::start().await;
    for (agent, _) in rows() {
        bridge.sign_in(agent).await.expect("signed in");
    }
    bridge
}

async fn do_all(bridge: &TestBridge, agent: u32, changes: &[Change]) {
    for change in changes {
        change.ask(&bridge.states, agent).await.expect("accepted");
    }
}

#[tokio::test]
async fn every_change_is_asked_for_exactly_as_documented() {
    let bridge = signed_in().await;
    for (agent, row) in rows() {
        do_all(&bridge, agent, row.allowed_after).await;
        bridge.gateway.clear_journal();
        let answer = row.change.ask(&bridge.states, agent).await.expect("accepted");
        assert_eq!((answer.retcode.as_str(), answer.message.as_str()), ("0", "success"));
        assert_eq!(answer.result, Some(no_fields()));
        assert_eq!(answer.confirmation, None, "nobody asked for one");

        let journal = bridge.gateway.journal();
        let [entry] = journal.as_slice() else { panic!("{}: {journal:?}", row.method) };
        let target = format!("/agentgateway/resource/onlineagent/{agent}{}", row.target);
        assert_eq!((entry.method.as_str(), &entry.target), ("POST", &target));
        assert_eq!(entry.body, b"");
        let guid = bridge.gateway.agent(agent).and_then(|agent| agent.guid);
        assert_eq!(entry.header("guid"), guid.as_deref());
        assert_eq!(entry.header("content-length"), Some("0"));
        assert_eq!(entry.header("content-type"), Some("application/json; charset=UTF-8"));
        let mut names: Vec<_> = entry.headers.iter().map(|(name, _)| name.as_str()).collect();
        names.sort_unstable();
        let expected = ["Accept-Encoding", "Content-Length", "Content-Type", "Guid", "Host"];
        assert_eq!(names, expected, "{}", row.method);
    }
}

#[tokio::test]
async fn every_listed_retcode_means_the_same_for_every_method() {
    let bridge = TestBridge::start().await;
    for (agent, _) in rows() {
        register(&bridge, agent).await;
    }
    // After 000-007 the bridge asks again: see `overlaps`.
    let refusals = || LISTED.iter().filter(|listed| listed.code != "000-007");
    for listed in refusals() {
        let mut of_set_busy = None;
        for (agent, row) in rows() {
            let refusal = refusal(&bridge, agent, row.interface, listed.code, async || {
                row.change.ask(&bridge.states, agent).await.map(|_| ())
            });
            let refusal = refusal.await;
            assert_eq!(refusal.metadata["method"], method(row.method));
            let seen = (refusal.code, refusal.reason);
            let expected = of_set_busy.get_or_insert_with(|| seen.clone());
            assert_eq!(seen, *expected, "{} {}", row.method, listed.code);
        }
        let refusal = refusal(&bridge, AGENT, Interface::AgentStatus, listed.code, async || {
            let agent_id = AGENT.to_string();
            let request = GetStateRequest { agent_id, ..<_>::default() };
            bridge.states.clone().get_state(request).await.map(|_| ())
        });
        let refusal = refusal.await;
        assert_eq!(refusal.metadata["method"], method("GetState"));
        assert_eq!(Some((refusal.code, refusal.reason)), of_set_busy, "{}", listed.code);
    }
    let states = |entry: &ccgateway_sim::Entry| entry.interface != Some(Interface::SignIn);
    let asked = bridge.gateway.journal().into_iter().filter(states).count();
    assert_eq!(asked, refusals().count() * (ROWS.len() + 1), "nothing is repeated");
}

/// Hands in the session of an agent, whom the bridge has no password to sign in with.
async fn register(bridge: &TestBridge, agent: u32) {
    let guid = bridge.gateway.sign_in(agent);
    bridge.register(agent, &guid).await.expect("registered");
}

/// The error of a call that the gateway refuses with this retcode.
async fn refusal(
    bridge: &TestBridge,
    agent: u32,
    interface: Interface,
    retcode: &str,
    call: impl AsyncFn() -> Result<(), tonic::Status>,
) -> Refusal {
    let fault = Fault::Retcode { retcode: retcode.into(), message: "no".into() };
    bridge.gateway.misbehave(Misbehaviour::once(fault).on(interface));
    let refusal = Refusal::from(call().await.expect_err("refused"));
    if matches!(retcode, "000-003" | "100-006" | "105-005" | "105-006" | "105-007") {
        // It was refused for its session, so the bridge has forgotten that.
        register(bridge, agent).await;
    }
    assert_eq!(refusal.metadata["outcome"], "refused", "{}", refusal.message);
    assert_eq!(refusal.metadata["retcode"], retcode);
    assert_eq!(refusal.metadata["gateway_message"], "no");
    assert_eq!(refusal.metadata["agent_id"], agent.to_string());
    refusal
}

#[tokio::test]
async fn a_change_that_the_agents_state_does_not_allow_is_refused() {
    let bridge = signed_in().await;
    for (agent, row) in rows() {
        do_all(&bridge, agent, row.refused_after).await;
        let result = row.change.ask(&bridge.states, agent).await;
        let refusal = refused(result, Code::FailedPrecondition, "AGENT_STATE_REFUSED", "refused");
        assert_eq!(refusal.metadata["retcode"], "100-009");
        assert_eq!(refusal.metadata["method"], method(row.method));
        let details = refusal.details.precondition_failure().expect("a violation");
        let violations = &details.violations;
        assert_eq!(violations[0].subject, format!("tenants/acme/agents/{agent}"));
    }
}

#[tokio::test]
async fn every_change_checks_its_fields_before_anything_is_sent() {
    let bridge = signed_in().await;
    bridge.gateway.clear_journal();
    for row in ROWS {
        let zero = prost_types::Duration::default();
        let result = row.change.ask_of(&bridge.states, "99", Some(zero)).await;
        let refusal = refused(result, Code::InvalidArgument, "INVALID_REQUEST", "not_sent");
        let violations = &refusal.details.bad_request().expect("fields").field_violations;
        let mut named: Vec<_> = violations.iter().map(|v| v.field.as_str()).collect();
        named.sort_unstable();
        assert_eq!(named, ["agent_id", "confirm_within"], "{}", row.method);
        assert_eq!(refusal.metadata["method"], method(row.method));
    }
    assert_eq!(bridge.gateway.journal().len(), 0);
}

#[tokio::test]
async fn a_rests_time_and_cause_have_their_limits() {
    let bridge = signed_in().await;
    bridge.gateway.clear_journal();
    let time = |seconds, nanos| Some(prost_types::Duration { seconds, nanos });
    let (day, ages) = (24 * 60 * 60, i64::MAX);
    for (duration, reason, fields) in [
        (None, 0, &["duration"][..]),
        (time(0, 0), 0, &["duration"]),
        (time(-1, 0), 0, &["duration"]),
        (time(day, 0), 0, &["duration"]),
        (time(ages, 0), 0, &["duration"]),
        // The same as a minute in 32 bits.
        (time((1 << 32) + 60, 0), 0, &["duration"]),
        (time(0, 500_000_000), 0, &["duration"]),
        (time(60, 1), 0, &["duration"]),
        (time(60, 0), -1, &["reason"]),
        (time(60, 0), 256, &["reason"]),
        (time(0, 0), i32::MIN, &["duration", "reason"]),
    ] {
        let agent_id = AGENT.to_string();
        let request = SetRestingRequest { agent_id, duration, reason, ..<_>::default() };
        let result = bridge.states.clone().set_resting(request).await;
        let refusal = refused(result, Code::InvalidArgument, "INVALID_REQUEST", "not_sent");
        let violations = &refusal.details.bad_request().expect("fields").field_violations;
        let named: Vec<_> = violations.iter().map(|v| v.field.as_str()).collect();
        assert_eq!(named, fields, "{duration:?} {reason}");
    }
    assert_eq!(bridge.gateway.journal().len(), 0);
}
