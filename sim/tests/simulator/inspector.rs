//! What inspectors do to other agents.

use ccgateway_sim::{AgentState, Options, Simulator};
use serde_json::json;

use super::{
    client::{Agent, call},
    start,
};

impl Agent<'_> {
    async fn inspect(&self, tail: &str) -> String {
        let line = format!("POST qualitycontrol/{}/{tail}", self.id);
        call(self.sim, &line, &self.header(), "").await.unwrap().retcode()
    }
}

#[tokio::test]
async fn forced_state_is_told_by_an_event_of_its_own() {
    let sim = start().await;
    let inspector = Agent::sign_in(&sim, 100).await;
    let agent = Agent::sign_in(&sim, 7).await;
    let line = "POST qualitycontrol/100/forcebusy/7";
    let reply = call(&sim, line, &inspector.header(), "").await.unwrap();
    assert_eq!(reply.text(), r#"{"message":"","retcode":"0","result":{}}"#);
    let event = agent.poll().await.json()["event"].take();
    assert_eq!(event["eventType"], "AgentState_Force_SetNotReady");
    assert_eq!(event["content"], json!({"reason": "3"}));
    assert_eq!(sim.agent(7).unwrap().state, AgentState::Busy);

    assert_eq!(inspector.inspect("forceidle/7").await, "0");
    assert_eq!(agent.poll().await.event().unwrap(), "AgentState_Force_Ready");
    assert_eq!(sim.agent(7).unwrap().state, AgentState::Idle);
}

#[tokio::test]
async fn forced_sign_out_is_told_to_the_agent() {
    let sim = start().await;
    let inspector = Agent::sign_in(&sim, 100).await;
    let agent = Agent::sign_in(&sim, 7).await;
    // It also ends a call, which the agent's own sign-out would not.
    assert!(sim.start_call(7));
    assert_eq!(inspector.inspect("forcelogout/7").await, "0");
    assert_eq!(agent.poll().await.event().unwrap(), "AgentState_Busy");
    assert_eq!(agent.poll().await.event().unwrap(), "AgentOther_ShutdownService");
    assert_eq!(agent.poll().await.retcode(), "100-006");
}

#[tokio::test]
async fn forced_busy_waits_for_the_end_of_the_call() {
    let sim = start().await;
    let agent = Agent::sign_in(&sim, 7).await;
    assert!(sim.start_call(7));
    assert!(sim.force_busy(7));
    assert!(!sim.force_idle(7), "not while talking");
    sim.end_call(7);
    assert_eq!(agent.poll().await.event().unwrap(), "AgentState_Busy");
    assert_eq!(agent.poll().await.event().unwrap(), "AgentState_Force_SetNotReady");
}

#[tokio::test]
async fn forced_idle_ends_a_rest_without_a_reminder() {
    let options = Options { time_scale: 20, ..Options::default() };
    let sim = Simulator::start(options).await.unwrap();
    let agent = Agent::sign_in(&sim, 7).await;
    assert_eq!(agent.post("rest/1/0").await, "0");
    assert!(sim.force_idle(7));
    assert!(!sim.force_idle(7), "idle already");
    assert_eq!(agent.poll().await.event().unwrap(), "AgentState_SetRest_Success");
    assert_eq!(agent.poll().await.event().unwrap(), "AgentState_Force_Ready");
    assert_eq!(agent.poll().await.event(), None);
}

#[tokio::test]
async fn each_refusal_of_an_inspector_has_its_own_code() {
    let options = Options { inspectors: vec![100, 101], ..Options::default() };
    let sim = Simulator::start(options).await.unwrap();
    let inspector = Agent::sign_in(&sim, 100).await;
    let agent = Agent::sign_in(&sim, 7).await;
    for (tail, retcode) in [
        ("forcebusy/100", "000-005"),
        ("forceidle/7", "900-005"),
        ("forcebusy/8", "900-003"),
        ("forcelogout/8", "900-003"),
        ("forcebusy/x", "000-002"),
        ("forcebusy/7", "0"),
        ("forcebusy/7", "900-005"),
    ] {
        assert_eq!(inspector.inspect(tail).await, retcode, "{tail}");
    }
    assert_eq!(agent.inspect("forcebusy/100").await, "900-002");
    let absent = Agent { sim: &sim, id: 101, guid: inspector.guid.clone() };
    assert_eq!(absent.inspect("forcebusy/7").await, "100-006");
    assert!(!sim.force_busy(8), "not signed in");
}

#[tokio::test]
async fn an_inspector_is_told_what_the_monitored_agents_do() {
    let options = Options { monitor_events: true, ..Options::default() };
    let sim = Simulator::start(options).await.unwrap();
    let inspector = Agent::sign_in(&sim, 100).await;
    assert_eq!(inspector.inspect("beginmonitor?agents=7;8").await, "0");
    let agent = Agent::sign_in(&sim, 7).await;
    for tail in ["saybusy", "cancelbusy", "rest/60/0", "cancelrest", "work"] {
        assert_eq!(agent.post(tail).await, "0", "{tail}");
    }
    assert!(sim.start_call(7));
    assert_eq!(agent.call("DELETE", "forcelogout").await.retcode(), "0");
    for subtype in ["Login", "Idle", "Busy", "Idle", "Rest", "Idle", "Work", "Active", "Logout"] {
        let event = inspector.poll().await.json()["event"].take();
        assert_eq!(event["eventType"], "QC_AgentState_Notify");
        assert_eq!(event["workNo"], "100");
        let subtype = format!("QC_AgentState_{subtype}");
        let expected = json!({"monitoredagent": "7", "agentname": "agent 7", "subtype": subtype});
        assert_eq!(event["content"], expected);
    }

    // A notice also ends a poll that waits.
    let (polled, agent) = tokio::join!(inspector.poll(), Agent::sign_in(&sim, 8));
    assert_eq!(polled.json()["event"]["content"]["monitoredagent"], "8");
    assert_eq!(inspector.poll().await.json()["event"]["content"]["subtype"], "QC_AgentState_Idle");
    assert_eq!(inspector.inspect("endmonitor?agents=8").await, "0");
    assert_eq!(agent.post("saybusy").await, "0");
    assert_eq!(inspector.post("saybusy").await, "0");
    let event = inspector.poll().await.event().unwrap();
    assert_eq!(event, "AgentState_SetNotReady_Success");
    assert_eq!(sim.agent(100).unwrap().events_waiting, 0);
}

#[tokio::test]
async fn monitoring_ends_with_the_inspectors_session() {
    let options = Options { monitor_events: true, ..Options::default() };
    let sim = Simulator::start(options).await.unwrap();
    let inspector = Agent::sign_in(&sim, 100).await;
    assert_eq!(inspector.inspect("beginmonitor?agents=7").await, "0");
    assert_eq!(inspector.call("DELETE", "logout").await.retcode(), "0");
    let again = Agent::sign_in(&sim, 100).await;
    Agent::sign_in(&sim, 7).await;
    assert_eq!(sim.agent(100).unwrap().events_waiting, 0);
    assert_eq!(again.inspect("beginmonitor?agents=60000").await, "900-004");
}
