//! What agents set beside their state.

use ccgateway_sim::{AgentState, Options, Simulator};

use super::{client::Agent, start};

#[tokio::test]
async fn auto_enter_idle_decides_what_follows_a_call() {
    let sim = start().await;
    let agent = Agent::sign_in(&sim, 7).await;
    for (flag, event, state) in [
        ("false", "AgentState_Work", AgentState::Working),
        ("true", "AgentState_Ready", AgentState::Idle),
        ("True", "AgentState_Work", AgentState::Working),
    ] {
        let reply = agent.call("POST", &format!("autoenteridle/{flag}")).await;
        assert_eq!(reply.text(), r#"{"result":{},"message":"success","retcode":"0"}"#);
        assert!(sim.start_call(7));
        sim.end_call(7);
        assert_eq!(agent.poll().await.event().unwrap(), "AgentState_Busy");
        assert_eq!(agent.poll().await.event().unwrap(), event, "{flag}");
        assert_eq!(sim.agent(7).unwrap().state, state);
    }
}

#[tokio::test]
async fn flags_in_the_path_have_one_to_five_characters() {
    for any_case_true in [false, true] {
        let options = Options { any_case_true, ..Options::default() };
        let sim = Simulator::start(options).await.unwrap();
        let agent = Agent::sign_in(&sim, 7).await;
        for (flag, retcode) in [("no", "0"), ("toolong", "000-002"), ("", "000-002"), ("True", "0")]
        {
            assert_eq!(agent.post(&format!("autoanswer/{flag}")).await, retcode, "{flag}");
            assert_eq!(agent.post(&format!("autoenteridle/{flag}")).await, retcode, "{flag}");
        }
        let view = sim.agent(7).unwrap();
        assert_eq!((view.auto_answer, view.auto_idle), (any_case_true, any_case_true));
    }
}

#[tokio::test]
async fn talk_right_decides_whether_calls_come() {
    let sim = start().await;
    let agent = Agent::sign_in(&sim, 7).await;
    assert_eq!(agent.post("settalkright?flag=0").await, "0");
    assert!(!sim.start_call(7));
    for query in ["", "?flag=", "?flag=true", "?flag=2"] {
        assert_eq!(agent.post(&format!("settalkright{query}")).await, "000-002", "{query}");
    }
    assert_eq!(agent.post("settalkright?flag=1").await, "0");
    assert!(sim.start_call(7));
}

#[tokio::test]
async fn custom_state_is_65535_until_it_is_set() {
    let sim = start().await;
    let agent = Agent::sign_in(&sim, 7).await;
    let unset = r#"{"result":{"agentcustomstate":"65535"},"message":"success","retcode":"0"}"#;
    assert_eq!(agent.call("GET", "querycustomstate").await.text(), unset);
    assert_eq!(agent.post("cancelsetcustomstate").await, "100-009");
    for query in ["", "?customstate=", "?customstate=65535", "?customstate=-1", "?customstate=x"] {
        assert_eq!(agent.post(&format!("setcustomstate{query}")).await, "000-002", "{query}");
    }
    for state in [0, 65_534] {
        assert_eq!(agent.post(&format!("setcustomstate?customstate={state}")).await, "0");
        let body = agent.call("GET", "querycustomstate").await.json();
        assert_eq!(body["result"]["agentcustomstate"], state.to_string());
        assert_eq!(sim.agent(7).unwrap().custom_state, Some(state));
    }
    assert_eq!(agent.post("cancelsetcustomstate").await, "0");
    assert_eq!(agent.call("GET", "querycustomstate").await.text(), unset);
}
