//! Sign-ins, and what they do to a session that exists.

use ccgateway_sim::{AgentState, Fault, Misbehaviour, Options, Simulator};
use serde_json::json;

use super::{
    client::{Agent, Client, SIGN_IN, call},
    start, until,
};

#[tokio::test]
async fn sign_in_answers_with_exact_headers_and_fields() {
    let sim = start().await;
    let reply = call(&sim, "PUT onlineagent/291", "", SIGN_IN).await.unwrap();

    assert_eq!(reply.status(), 200);
    let guid = reply.header("Guid").unwrap();
    assert_eq!(reply.header("Set-GUID"), Some(&*format!("JSESSIONID={guid}")));
    let (uuid, node) = guid.split_once('.').unwrap();
    assert_eq!((uuid.len(), node), (36, "AgentGateway0"));
    let body = reply.json();
    assert_eq!(body["message"], "");
    assert_eq!(body["result"]["workno"], "291");
    assert_eq!(body["result"]["mediatype"], "TTF");
    assert_eq!(body["result"]["isForceChange"], "false");
    assert!(body["result"]["loginTime"].is_string());
    assert_eq!(body["result"]["serverName"], "AgentGateway");
}

#[tokio::test]
async fn sign_in_takes_strings_for_numbers_and_flags() {
    let sim = start().await;
    let body = json!({"password": "secret", "phonenum": "1", "status": "3", "agenttype": "4",
        "releasephone": "true", "autoenteridle": "false"});
    let reply = call(&sim, "PUT onlineagent/7", "guid: stale\r\n", &body.to_string()).await;
    assert_eq!(reply.unwrap().retcode(), "0");
    assert_eq!(sim.agent(7).unwrap().state, AgentState::Busy);
    sim.start_call(7);
    sim.end_call(7);
    assert_eq!(sim.agent(7).unwrap().state, AgentState::Working);
}

#[tokio::test]
async fn each_refusal_of_a_sign_in_has_its_own_code() {
    let agents = [(8, "own".to_owned())].into();
    let options = Options { agents, default_password: None, ..Options::default() };
    let sim = Simulator::start(options).await.unwrap();
    let own = SIGN_IN.replace("secret", "own");
    for (line, body, retcode) in [
        ("PUT onlineagent/7", SIGN_IN, "100-004"),
        ("PUT onlineagent/8", SIGN_IN, "100-004"),
        ("PUT onlineagent/8", "{", "000-006"),
        ("PUT onlineagent/8", &own, "0"),
        ("PUT onlineagent/8", &own, "100-002"),
        ("PUT onlineagent/8/forcelogin", &own, "0"),
    ] {
        let reply = call(&sim, line, "", body).await.unwrap();
        assert_eq!(reply.retcode(), retcode, "{line} {body}");
    }
}

#[tokio::test]
async fn forcible_sign_in_ends_the_former_session() {
    let sim = start().await;
    let former = Agent::sign_in(&sim, 7).await;
    let waiting = former.poll();
    let force = async { call(&sim, "PUT onlineagent/7/forcelogin", "", SIGN_IN).await.unwrap() };
    let (poll, reply) = tokio::join!(waiting, force);
    assert_eq!(reply.retcode(), "0");
    // Whichever of the two came first: the former session is over, and hears of nothing else.
    assert_eq!(poll.event().unwrap(), "AgentOther_ShutdownService");
    assert_eq!(former.poll().await.retcode(), "000-003");
    assert_eq!(former.post("saybusy").await, "000-003");
}

#[tokio::test]
async fn an_agent_taken_over_by_a_test_has_a_new_session() {
    let mut options = Options { take_over_event: false, ..Options::default() };
    options.codes.guid_taken_over = "100-006".into();
    let sim = Simulator::start(options).await.unwrap();
    assert_eq!(sim.take_over(7), None);

    let former = Agent::sign_in(&sim, 7).await;
    let (poll, guid) = tokio::join!(former.poll(), async {
        until(|| sim.journal().len() == 4).await;
        sim.take_over(7).unwrap()
    });
    assert_eq!(poll.retcode(), "100-006");
    assert_eq!(former.post("saybusy").await, "100-006");
    let other = Agent { sim: &sim, id: 7, guid };
    assert_eq!(other.poll().await.event().unwrap(), "AgentOther_InService");
    assert_eq!(other.post("saybusy").await, "0");
    assert_eq!(sim.violations(), Vec::<String>::new());
}

#[tokio::test]
async fn forcible_sign_in_can_be_switched_off() {
    let options = Options { force_sign_in: false, ..Options::default() };
    let sim = Simulator::start(options).await.unwrap();
    sim.sign_in(7);
    for line in ["PUT onlineagent/7", "PUT onlineagent/7/forcelogin"] {
        assert_eq!(call(&sim, line, "", SIGN_IN).await.unwrap().retcode(), "100-015");
    }
}

#[tokio::test]
async fn sign_in_during_a_sign_in_has_its_own_code() {
    let sim = start().await;
    sim.misbehave(Misbehaviour::once(Fault::Hang));
    let mut hanging = Client::connect(&sim).await.unwrap();
    hanging.send("PUT onlineagent/7", "", SIGN_IN).await.unwrap();
    until(|| sim.agent(7).is_some_and(|agent| agent.signed_in)).await;
    let reply = call(&sim, "PUT onlineagent/7/forcelogin", "", SIGN_IN).await.unwrap();
    assert_eq!(reply.retcode(), "100-021");
    assert_eq!(sim.violations().len(), 1);
}
