//! What an agent may do in which state, and the events that follow.

use std::time::Duration;

use ccgateway_sim::{AgentState, Options, Simulator};
use serde_json::json;

use super::{
    client::{Agent, SIGN_IN, call},
    start,
};

#[tokio::test]
async fn empty_poll_is_byte_exact() {
    let options = Options { poll_wait: Duration::from_millis(20), ..Options::default() };
    let sim = Simulator::start(options).await.unwrap();
    let agent = Agent::sign_in(&sim, 7).await;
    assert_eq!(agent.poll().await.text(), r#"{"message":"","retcode":"0"}"#);
}

#[tokio::test]
async fn events_come_one_by_one_in_order() {
    let sim = start().await;
    let body = SIGN_IN.replace(r#""status":"4""#, r#""status":5"#);
    let reply = call(&sim, "PUT onlineagent/291", "", &body).await.unwrap();
    let guid = reply.set_guid().unwrap().to_owned();
    let agent = Agent { sim: &sim, id: 291, guid };
    let first = agent.poll().await;
    let expected = r#"{"message":"","retcode":"0","event":{"eventType":"AgentOther_InService","workNo":"291","content":null}}"#;
    assert_eq!(first.text(), expected);
    assert_eq!(agent.poll().await.event().unwrap(), "AgentState_Ready");
    assert_eq!(agent.poll().await.event().unwrap(), "AgentState_Work");
}

#[tokio::test]
async fn waiting_poll_is_woken_by_an_event() {
    let sim = start().await;
    let agent = Agent::sign_in(&sim, 7).await;
    let (poll, retcode) = tokio::join!(agent.poll(), agent.post("saybusy?reason=205"));
    assert_eq!(retcode, "0");
    assert_eq!(poll.event().unwrap(), "AgentState_SetNotReady_Success");
    assert_eq!(poll.json()["event"]["content"], json!({"reason": "205"}));
}

#[tokio::test]
async fn busy_again_needs_reason_and_prolong() {
    let sim = start().await;
    let agent = Agent::sign_in(&sim, 7).await;
    let reply = agent.call("POST", "saybusy?reason=&prolong=").await;
    assert_eq!(reply.text(), r#"{"result":{},"message":"success","retcode":"0"}"#);
    for (query, retcode) in [
        ("", "100-009"),
        ("?reason=201", "100-009"),
        ("?prolong=true", "100-009"),
        ("?reason=0&prolong=true", "100-009"),
        ("?reason=201&prolong=true", "0"),
        ("?reason=199", "000-002"),
        ("?reason=251", "000-002"),
        ("?reason=x", "000-002"),
        ("?reason=201&prolong=1", "000-002"),
    ] {
        assert_eq!(agent.post(&format!("saybusy{query}")).await, retcode, "{query}");
    }
    assert_eq!(sim.agent(7).unwrap().busy_reason, Some(201));
}

#[tokio::test]
async fn states_change_as_documented() {
    let sim = start().await;
    let agent = Agent::sign_in(&sim, 7).await;
    for (tail, event, state) in [
        ("saybusy", "AgentState_SetNotReady_Success", 3),
        ("cancelbusy", "AgentState_CancelNotReady_Success", 4),
        ("saybusy", "AgentState_SetNotReady_Success", 3),
        ("sayfree", "AgentState_CancelNotReady_Success", 4),
        ("work", "AgentState_SetWork_Success", 5),
        ("cancelwork", "AgentState_CancelWork_Success", 4),
        ("rest/60/0", "AgentState_SetRest_Success", 8),
        ("rest/60/255?prolong=true", "AgentState_SetRest_Success", 8),
        ("cancelrest", "AgentState_CancelRest_Success", 4),
    ] {
        assert_eq!(agent.post(tail).await, "0", "{tail}");
        assert_eq!(agent.poll().await.event().unwrap(), event, "{tail}");
        let status = agent.call("GET", "agentstatus").await.json();
        let expected = json!({"agentState": state, "isWorking": false});
        assert_eq!(status["result"], expected, "{tail}");
    }
    for refused in ["cancelbusy", "cancelwork", "cancelrest", "sayfree"] {
        assert_eq!(agent.post(refused).await, "100-009", "{refused}");
    }
}

#[tokio::test]
async fn rest_reminds_at_its_end_and_goes_on() {
    let options = Options { time_scale: 20, ..Options::default() };
    let sim = Simulator::start(options).await.unwrap();
    let agent = Agent::sign_in(&sim, 7).await;
    assert_eq!(agent.post("rest/1/3").await, "0");
    assert_eq!(agent.poll().await.event().unwrap(), "AgentState_SetRest_Success");
    assert_eq!(agent.poll().await.event().unwrap(), "AgentState_Rest_Timeout");
    assert_eq!(sim.agent(7).unwrap().state, AgentState::Resting);
}

#[tokio::test]
async fn busy_waits_for_the_end_of_the_call() {
    let sim = start().await;
    let agent = Agent::sign_in(&sim, 7).await;
    sim.start_call(7);
    assert_eq!(agent.poll().await.event().unwrap(), "AgentState_Busy");
    assert_eq!(agent.post("saybusy?reason=222").await, "0");
    let view = sim.agent(7).unwrap();
    assert!(view.pending_busy && view.state == AgentState::Talking && view.events_waiting == 0);
    assert_eq!(agent.call("DELETE", "logout").await.retcode(), "100-010");

    sim.end_call(7);
    assert_eq!(agent.poll().await.event().unwrap(), "AgentState_SetNotReady_Success");
    assert_eq!(sim.agent(7).unwrap().busy_reason, Some(222));
}

#[tokio::test]
async fn rest_while_talking_is_refused_or_waits() {
    for (rest_waits, retcode, code) in [(false, "100-009", 7), (true, "0", 9)] {
        let options = Options { rest_waits, ..Options::default() };
        let sim = Simulator::start(options).await.unwrap();
        let agent = Agent::sign_in(&sim, 7).await;
        sim.start_call(7);
        assert_eq!(agent.poll().await.event().unwrap(), "AgentState_Busy");
        assert_eq!(agent.post("rest/60/3").await, retcode);
        let status = agent.call("GET", "agentstatus").await.json();
        assert_eq!(status["result"], json!({"agentState": code, "isWorking": true}));

        sim.end_call(7);
        let expected = if rest_waits { "AgentState_SetRest_Success" } else { "AgentState_Ready" };
        assert_eq!(agent.poll().await.event().unwrap(), expected);
    }
}

#[tokio::test]
async fn rest_refuses_bad_parameters() {
    let sim = start().await;
    let agent = Agent::sign_in(&sim, 7).await;
    for (tail, retcode) in [
        ("rest/0/0", "000-002"),
        ("rest/86400/0", "000-002"),
        ("rest/x/0", "000-002"),
        ("rest/60/256", "000-002"),
        ("rest/60/0?prolong=1", "000-002"),
        ("rest/86399/255?prolong=", "0"),
        ("rest/60/0", "100-009"),
        ("rest/60/0?prolong=true", "0"),
        ("saybusy", "100-009"),
        ("work", "100-009"),
        ("sayfree", "100-009"),
        ("cancelbusy", "100-009"),
        ("cancelwork", "100-009"),
    ] {
        assert_eq!(agent.post(tail).await, retcode, "{tail}");
    }
    assert_eq!(sim.agent(7).unwrap().state, AgentState::Resting);
}

#[tokio::test]
async fn sign_out_ends_the_session_without_an_event() {
    let sim = start().await;
    for tail in ["logout", "forcelogout", "forcelogoutwithreason/255"] {
        let agent = Agent::sign_in(&sim, 7).await;
        assert_eq!(agent.call("DELETE", tail).await.retcode(), "0", "{tail}");
        assert_eq!(agent.post("saybusy").await, "100-006");
        assert_eq!(agent.poll().await.retcode(), "100-006");
    }
    let agent = Agent::sign_in(&sim, 7).await;
    let refused = agent.call("DELETE", "forcelogoutwithreason/256").await;
    assert_eq!(refused.retcode(), "100-005");
}
