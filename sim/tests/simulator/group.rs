//! Questions about all agents, and sign-ins that only some clients make.

use ccgateway_sim::{AgentState, IdOutside, Options, Simulator};
use serde_json::{Value, json};

use super::{
    client::{Agent, SIGN_IN, call},
    start,
};

impl Agent<'_> {
    async fn ask(&self, line: &str) -> Value {
        let (method, path) = line.split_once(' ').unwrap();
        let (family, tail) = path.split_once('/').unwrap();
        let line = format!("{method} {family}/{}/{tail}", self.id);
        call(self.sim, &line, &self.header(), "").await.unwrap().json()
    }
}

#[tokio::test]
async fn all_agents_are_listed_with_both_numbers_of_their_state() {
    let sim = start().await;
    let agent = Agent::sign_in(&sim, 7).await;
    let other = Agent::sign_in(&sim, 8).await;
    assert_eq!(other.post("saybusy").await, "0");
    let all = agent.ask("GET agentgroup/allagentstatus").await;
    let expected = json!([
        {"workno": "7", "name": "agent 7", "status": 4, "ctiStatus": 1},
        {"workno": "8", "name": "agent 8", "status": 3, "ctiStatus": 7},
    ]);
    assert_eq!(all["result"], expected);
    let idle = agent.ask("GET agentgroup/idleagent").await;
    assert_eq!(idle["result"], json!([{"workno": "7", "name": "agent 7"}]));
    for (status, expected) in [("3", &expected[1]), ("4", &expected[0])] {
        let listed = agent.ask(&format!("GET agentgroup/agentlistbystatus?status={status}")).await;
        assert_eq!(listed["result"], json!([expected]));
    }
    let nobody = agent.ask("GET agentgroup/agentlistbystatus?status=8").await;
    assert_eq!(nobody["result"], json!([]));
    for query in ["", "?status=", "?status=idle"] {
        let refused = agent.ask(&format!("GET agentgroup/agentlistbystatus{query}")).await;
        assert_eq!(refused["retcode"], "000-002", "{query}");
    }
    assert_eq!(agent.ask("GET queuedevice/waitnum").await["result"], 0);
    assert_eq!(sim.violations(), Vec::<String>::new());
}

#[tokio::test]
async fn what_is_configured_for_all_agents_is_told() {
    let options = Options { rest_reasons: vec![3], inspectors: vec![8], ..Options::default() };
    let sim = Simulator::start(options).await.unwrap();
    let agent = Agent::sign_in(&sim, 7).await;
    let reasons = agent.ask("GET agentgroup/restreason").await;
    assert_eq!(reasons["result"], json!([{"id": 3, "name": "rest 3"}]));
    assert_eq!(agent.ask("GET agentgroup/iscensor").await["result"], false);
    assert_eq!(Agent::sign_in(&sim, 8).await.ask("GET agentgroup/iscensor").await["result"], true);
    let skills = agent.call("GET", "agentskillsbyworkno/8").await.json();
    assert_eq!(skills["result"], agent.call("GET", "agentskills").await.json()["result"]);
    let unknown = agent.call("GET", "agentskillsbyworkno/x").await;
    assert_eq!(unknown.retcode(), "000-002");
}

#[tokio::test]
async fn inspectors_monitor_up_to_500_agents_and_make_one_rest() {
    let options = Options { inspectors: vec![100], ..Options::default() };
    let sim = Simulator::start(options).await.unwrap();
    let inspector = Agent::sign_in(&sim, 100).await;
    let agent = Agent::sign_in(&sim, 7).await;
    let many = vec!["7"; 500].join(";");
    for (agents, retcode) in
        [("7;8", "0"), (&*many, "0"), (&*format!("{many};8"), "000-002"), ("", "000-002")]
    {
        for tail in ["beginmonitor", "endmonitor"] {
            let line = format!("POST qualitycontrol/{tail}?agents={agents}");
            assert_eq!(inspector.ask(&line).await["retcode"], retcode);
        }
    }
    let refused = agent.ask("POST qualitycontrol/beginmonitor?agents=100").await;
    assert_eq!(refused["retcode"], "900-002");

    for (tail, retcode) in [("7/0/1", "000-002"), ("7/60/0", "000-002"), ("7/60/9", "0")] {
        let line = format!("POST qualitycontrol/forcerest/{tail}");
        assert_eq!(inspector.ask(&line).await["retcode"], retcode, "{tail}");
    }
    let event = agent.poll().await.json()["event"].take();
    assert_eq!(event["eventType"], "AgentState_SetRest_Success");
    assert_eq!(event["content"], json!({"reason": "9"}));
    let again = inspector.ask("POST qualitycontrol/forcerest/7/60/9").await;
    assert_eq!(again["retcode"], "900-005");
}

#[tokio::test]
async fn rests_outside_their_range_match_no_route_where_that_is_chosen() {
    let options = Options { rest_outside: IdOutside::NotFound, ..Options::default() };
    let sim = Simulator::start(options).await.unwrap();
    let agent = Agent::sign_in(&sim, 7).await;
    for tail in ["rest/0/0", "rest/86400/0", "rest/60/256", "rest/x/0", "rest/60/-1"] {
        assert_eq!(agent.call("POST", tail).await.status(), 404, "{tail}");
    }
    assert_eq!(agent.post("rest/86399/255").await, "0");
}

#[tokio::test]
async fn an_agent_signs_in_to_the_platform_alone_or_by_its_account() {
    let sim = start().await;
    let body = r#"{"password":"secret","status":3}"#;
    let refused = call(&sim, "PUT onlineagent/7", "", body).await.unwrap();
    assert_eq!(refused.retcode(), "100-001", "it has no phone");
    let reply = call(&sim, "PUT onlineagent/7/loginex", "", body).await.unwrap();
    assert!(reply.set_guid().is_some());
    assert_eq!(sim.agent(7).unwrap().state, AgentState::Busy);

    let by_account = |account: &str, password: &str| {
        SIGN_IN.replace('{', &format!(r#"{{"account":"{account}","#)).replace("secret", password)
    };
    for (account, password, retcode) in [
        ("8", "wrong", "100-062"),
        ("nobody", "secret", "100-062"),
        ("8", "secret", "0"),
        ("8", "secret", "100-002"),
    ] {
        let body = by_account(account, password);
        let reply = call(&sim, "PUT onlineagent/loginbyaccount", "", &body).await.unwrap();
        assert_eq!(reply.retcode(), retcode, "{account} {password}");
    }
    assert!(sim.agent(8).unwrap().signed_in);
}

#[tokio::test]
async fn a_call_is_told_from_its_arrival_to_its_end() {
    let options = Options { call_events: true, ..Options::default() };
    let sim = Simulator::start(options).await.unwrap();
    let agent = Agent::sign_in(&sim, 7).await;
    for arrived in ["AgentEvent_Auto_Answer", "AgentEvent_Ringing"] {
        assert!(sim.start_call(7));
        sim.end_call(7);
        let mut ids = Vec::new();
        for expected in [
            "AgentState_Busy",
            "AgentOther_PhoneAlerting",
            "AgentOther_PhoneOffhook",
            arrived,
            "AgentEvent_Talking",
            "AgentEvent_Customer_Release",
            "AgentEvent_Call_Release",
            "AgentOther_PhoneRelease",
            "AgentState_Ready",
        ] {
            let poll = agent.poll().await;
            assert_eq!(poll.event().unwrap(), expected);
            ids.extend(poll.json()["event"]["content"]["callid"].as_str().map(str::to_owned));
        }
        assert_eq!(ids.len(), 4);
        assert!(ids.iter().all(|id| *id == ids[0]), "{ids:?}");
        assert_eq!(agent.post("autoanswer/false").await, "0");
    }
}

#[tokio::test]
async fn refusals_say_what_gateways_say() {
    let sim = start().await;
    let reply = call(&sim, "POST onlineagent/7/saybusy", "", "").await.unwrap();
    let seen = r#"{"message":"agent not login","result":"","retcode":"100-006"}"#;
    assert_eq!(reply.text(), seen);
}
