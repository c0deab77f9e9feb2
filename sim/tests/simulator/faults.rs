//! Every way in which the simulated gateway can be made to fail.

use std::{io, time::Duration};

use ccgateway_sim::{AgentState, Fault, Interface, Misbehaviour, Options, Simulator};
use tokio::time::{Instant, timeout};

use super::{
    client::{Agent, Client, Reply, SIGN_IN, call},
    start, until,
};

const A_WHILE: Duration = Duration::from_millis(60);

/// The answer to a saybusy that meets `fault`, and whether it was carried out.
async fn busy_with(fault: Fault) -> (io::Result<Reply>, bool) {
    let sim = start().await;
    let agent = Agent::sign_in(&sim, 7).await;
    sim.misbehave(Misbehaviour::once(fault).on(Interface::SayBusy).of(7));
    let reply = agent.try_call("POST", "saybusy").await;
    let carried_out = sim.agent(7).unwrap().state == AgentState::Busy;
    // The rule is used up.
    assert_eq!(agent.post("rest/60/0").await, "0");
    assert_eq!(sim.violations(), Vec::<String>::new());
    (reply, carried_out)
}

#[tokio::test]
async fn delay_comes_after_the_change() {
    let sim = start().await;
    let agent = Agent::sign_in(&sim, 7).await;
    sim.misbehave(Misbehaviour::once(Fault::Delay(A_WHILE)));
    let started = Instant::now();
    let (reply, poll) = tokio::join!(agent.call("POST", "saybusy"), async {
        until(|| sim.agent(7).unwrap().state == AgentState::Busy).await;
        agent.poll().await
    });
    assert_eq!(reply.retcode(), "0");
    assert_eq!(poll.event().unwrap(), "AgentState_SetNotReady_Success");
    assert!(started.elapsed() >= A_WHILE);
}

#[tokio::test]
async fn delay_before_acts_even_if_the_client_leaves() {
    let sim = start().await;
    let agent = Agent::sign_in(&sim, 7).await;
    sim.misbehave(Misbehaviour::once(Fault::DelayBefore(A_WHILE)));
    let mut client = Client::connect(&sim).await.unwrap();
    client.send("POST onlineagent/7/saybusy", &agent.header(), "").await.unwrap();
    until(|| sim.journal().len() == 4).await;
    assert_eq!(sim.agent(7).unwrap().state, AgentState::Idle);
    drop(client);
    until(|| sim.agent(7).unwrap().state == AgentState::Busy).await;
}

#[tokio::test]
async fn a_load_takes_longer_the_more_requests_there_are() {
    let sim = start().await;
    let agents = [Agent::sign_in(&sim, 7).await, Agent::sign_in(&sim, 8).await];
    // The second of two requests at once takes four times as long as one alone.
    let load = Fault::Load { time: A_WHILE, bears: 1, strain: 2 };
    sim.misbehave(Misbehaviour::always(load).on(Interface::SayBusy));
    let took = async |agent: &Agent<'_>| {
        let started = Instant::now();
        assert_eq!(agent.post("saybusy").await, "0");
        started.elapsed()
    };
    let (first, second) = tokio::join!(took(&agents[0]), took(&agents[1]));
    let (shorter, longer) = (first.min(second), first.max(second));
    assert!(shorter >= A_WHILE && longer >= A_WHILE * 4, "{shorter:?} {longer:?}");
}

#[tokio::test]
async fn hang_acts_and_never_answers() {
    let sim = start().await;
    let agent = Agent::sign_in(&sim, 7).await;
    sim.misbehave(Misbehaviour::once(Fault::Hang));
    let answer = timeout(A_WHILE, agent.try_call("POST", "saybusy")).await;
    assert!(answer.is_err());
    assert_eq!(sim.agent(7).unwrap().state, AgentState::Busy);
    let entry = sim.journal().pop().unwrap().answer.unwrap();
    assert_eq!((entry.status, entry.fault), (None, Some("hang")));
}

#[tokio::test]
async fn cuts_come_after_the_change() {
    for fault in [Fault::CutBeforeAnswer, Fault::CutMidAnswer] {
        let (reply, carried_out) = busy_with(fault).await;
        assert_eq!(reply.unwrap_err().kind(), io::ErrorKind::UnexpectedEof);
        assert!(carried_out);
    }
}

#[tokio::test]
async fn status_html_and_retcode_change_nothing() {
    let status = Fault::Status {
        status: 503,
        headers: vec![("Retry-After".into(), "3".into())],
        body: b"later".into(),
        content_type: String::new(),
    };
    let (reply, carried_out) = busy_with(status).await;
    let reply = reply.unwrap();
    assert!(reply.head.starts_with("HTTP/1.1 503 Service Unavailable\r\n"));
    assert_eq!(reply.header("Retry-After"), Some("3"));
    assert_eq!((reply.text(), carried_out), ("later", false));
    assert_eq!(reply.header("Content-Type"), None);

    let (reply, carried_out) = busy_with(Fault::Html).await;
    let reply = reply.unwrap();
    assert_eq!((reply.status(), carried_out), (200, false));
    assert!(reply.text().starts_with("<!DOCTYPE html>"));

    let (retcode, message) = ("999-123".to_owned(), "a \"word\"".to_owned());
    let (reply, carried_out) = busy_with(Fault::Retcode { retcode, message }).await;
    let body = reply.unwrap().json();
    assert_eq!((&body["retcode"], carried_out), (&"999-123".into(), false));
    assert_eq!(body["message"], "a \"word\"");
}

#[tokio::test]
async fn raw_replaces_the_body_and_keeps_the_headers() {
    let sim = start().await;
    sim.misbehave(Misbehaviour::once(Fault::Raw {
        body: br#"{"message":null,"retcode":0}"#.into(),
        content_type: "text/plain".into(),
        headers: vec![("JSON-Type".into(), "application/json".into())],
    }));
    let reply = call(&sim, "PUT onlineagent/7", "", SIGN_IN).await.unwrap();
    assert_eq!(reply.text(), r#"{"message":null,"retcode":0}"#);
    assert_eq!(reply.header("JSON-Type"), Some("application/json"));
    assert_eq!(reply.header("Content-Type"), Some("text/plain"));
    assert_eq!(reply.set_guid().map(ToOwned::to_owned), sim.agent(7).unwrap().guid);
}

#[tokio::test]
async fn close_after_answer_is_not_announced() {
    let sim = start().await;
    sim.misbehave(Misbehaviour::once(Fault::CloseAfterAnswer));
    let mut client = Client::connect(&sim).await.unwrap();
    client.send("GET onlineagent/7/agentstatus", "", "").await.unwrap();
    assert_eq!(client.receive().await.unwrap().header("Connection"), None);
    assert!(client.is_closed().await);
}

#[tokio::test]
async fn tls_failure_hits_connections() {
    let sim = start().await;
    sim.misbehave(Misbehaviour::once(Fault::TlsFailure));
    assert!(Client::connect(&sim).await.is_err());
    assert!(Client::connect(&sim).await.is_ok());
    assert_eq!(sim.connections(), 2);
}

#[tokio::test]
async fn stale_set_guid_is_added() {
    let (reply, carried_out) = busy_with(Fault::StaleSetGuid("old.AgentGateway0".into())).await;
    assert_eq!(reply.unwrap().set_guid(), Some("old.AgentGateway0"));
    assert!(carried_out);
}

#[tokio::test]
async fn rules_apply_until_told_to_behave() {
    let sim = start().await;
    sim.misbehave(Misbehaviour::always(Fault::Html));
    let nowhere = call(&sim, "GET nowhere", "", "").await.unwrap();
    assert_eq!(nowhere.status(), 200);
    sim.behave();
    assert_eq!(call(&sim, "GET nowhere", "", "").await.unwrap().status(), 404);
}

#[tokio::test]
async fn frozen_gateway_answers_after_the_thaw() {
    let sim = start().await;
    let agent = Agent::sign_in(&sim, 7).await;
    sim.freeze();
    let (retcode, ()) = tokio::join!(agent.post("saybusy"), async {
        until(|| sim.journal().len() == 4).await;
        assert_eq!(sim.agent(7).unwrap().state, AgentState::Idle);
        sim.thaw();
    });
    assert_eq!(retcode, "0");
}

#[tokio::test]
async fn latency_delays_every_answer() {
    let options = Options { latency: A_WHILE, ..Options::default() };
    let sim = Simulator::start(options).await.unwrap();
    let started = Instant::now();
    call(&sim, "GET onlineagent/7/agentstatus", "", "").await.unwrap();
    assert!(started.elapsed() >= A_WHILE);
}

#[tokio::test]
async fn stop_cuts_connections_and_restart_keeps_sessions() {
    let sim = start().await;
    let agent = Agent::sign_in(&sim, 7).await;
    let mut client = Client::connect(&sim).await.unwrap();
    client.send("GET agentevent/7", &agent.header(), "").await.unwrap();
    until(|| sim.journal().len() == 4).await;
    sim.stop().await;
    assert!(client.receive().await.is_err());
    assert!(Client::connect(&sim).await.is_err());

    sim.restart(false).await.unwrap();
    assert_eq!(agent.post("saybusy").await, "0");
    sim.restart(true).await.unwrap();
    assert_eq!(agent.post("saybusy").await, "100-006");
}

#[tokio::test]
async fn invalid_bytes_are_a_bad_request() {
    let sim = start().await;
    let mut client = Client::connect(&sim).await.unwrap();
    client.send("GET onlineagent/7/agentstatus", "no colon\r\n", "").await.unwrap();
    let reply = client.receive().await.unwrap();
    assert_eq!(reply.status(), 400);
    assert!(client.is_closed().await);
}
