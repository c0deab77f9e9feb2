//! Skill queues, and what an agent is without them.

use ccgateway_sim::{AgentState, Options, Simulator};
use serde_json::json;

use super::client::Agent;

/// A gateway whose agents have the queues 1, 2 and 3.
async fn with_skills(skills_need_reset: bool) -> Simulator {
    let options = Options { skills: vec![1, 2, 3], skills_need_reset, ..Options::default() };
    Simulator::start(options).await.unwrap()
}

#[tokio::test]
async fn reset_skill_signs_in_to_the_configured_ones_asked_for() {
    let sim = with_skills(false).await;
    let agent = Agent::sign_in(&sim, 7).await;
    assert_eq!(sim.agent(7).unwrap().skills, [1, 2, 3]);
    for (tail, expected) in [
        ("false?skillid=3;9;1", &[1, 3][..]),
        ("true?skillid=2", &[1, 2, 3]),
        ("no?skillid=2%3B", &[2]),
        ("True", &[]),
        ("true?phonelinkage=0", &[1, 2, 3]),
        ("false?skillid=", &[]),
    ] {
        assert_eq!(agent.post(&format!("resetskill/{tail}")).await, "0", "{tail}");
        assert_eq!(sim.agent(7).unwrap().skills, expected, "{tail}");
    }
    assert_eq!(agent.call("GET", "agentstatus").await.json()["result"]["agentState"], 4);
}

#[tokio::test]
async fn reset_skill_refuses_bad_parameters() {
    let sim = with_skills(false).await;
    let agent = Agent::sign_in(&sim, 7).await;
    let longest = "1;".repeat(2000);
    for (query, retcode) in [
        ("skillid=1;x", "000-002"),
        ("skillid=1,2", "000-002"),
        ("phonelinkage=2", "000-002"),
        (&*format!("skillid={longest}"), "0"),
        (&*format!("skillid={longest}1"), "000-002"),
    ] {
        assert_eq!(agent.post(&format!("resetskill/false?{query}")).await, retcode, "{query}");
    }
    assert_eq!(sim.agent(7).unwrap().skills, [1]);
    assert_eq!(agent.call("POST", "resetskill").await.status(), 404);
}

#[tokio::test]
async fn no_call_comes_without_skills() {
    let sim = with_skills(true).await;
    let agent = Agent::sign_in(&sim, 7).await;
    assert!(!sim.start_call(7));
    assert_eq!(sim.agent(7).unwrap().state, AgentState::Idle);

    assert_eq!(agent.post("resetskill/true").await, "0");
    assert!(sim.start_call(7));
    assert_eq!(agent.poll().await.event().unwrap(), "AgentState_Busy");
    assert!(!sim.start_call(7), "there is a call already");

    // The skills are the session's.
    sim.sign_in(7);
    assert!(!sim.start_call(7));
    assert!(!sim.start_call(8), "not signed in");
}

#[tokio::test]
async fn agent_skills_lists_the_configured_ones() {
    let sim = with_skills(true).await;
    let agent = Agent::sign_in(&sim, 7).await;
    let body = agent.call("GET", "agentskills").await.json();
    let expected =
        json!({"name": "skill 1", "id": 1, "mediatype": 5, "serviceType": 0, "realFlag": 1});
    assert_eq!(body["result"][0], expected);
    assert_eq!(body["result"].as_array().unwrap().len(), 3);

    let options = Options { skills: vec![], ..Options::default() };
    let sim = Simulator::start(options).await.unwrap();
    let agent = Agent::sign_in(&sim, 7).await;
    assert_eq!(agent.call("GET", "agentskills").await.retcode(), "600-001");
}
