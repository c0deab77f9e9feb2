//! Agents who have their events sent: their heartbeats stand for polls.

use std::time::Duration;

use ccgateway_sim::{Options, Simulator};
use serde_json::{Value, json};

use super::{
    client::{Agent, SIGN_IN, call},
    start, until,
};

/// Signs agent 7 in with these fields besides the usual ones.
async fn sign_in(sim: &Simulator, more: Value) -> Agent<'_> {
    let mut body: Value = serde_json::from_str(SIGN_IN).unwrap();
    body.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    let reply = call(sim, "PUT onlineagent/7", "", &body.to_string()).await.unwrap();
    Agent { sim, id: 7, guid: reply.set_guid().unwrap().to_owned() }
}

fn push() -> Value {
    json!({"callBackUri": "http://127.0.0.1/events", "serviceToken": "abc-1"})
}

#[tokio::test]
async fn only_both_fields_exclude_the_poll() {
    for (more, retcode) in [
        (push(), "000-001"),
        (json!({"callBackUri": "http://127.0.0.1/events"}), "0"),
        (json!({"serviceToken": "abc-1", "callBackUri": ""}), "0"),
    ] {
        let sim = start().await;
        assert_eq!(sign_in(&sim, more).await.poll().await.retcode(), retcode);
    }
}

#[tokio::test]
async fn heartbeats_keep_the_agent_signed_in_and_polls_do_not() {
    let idle = Duration::from_secs(1);
    let options = Options { idle_sign_out: Some(idle), ..Options::default() };
    let sim = Simulator::start(options).await.unwrap();
    let agent = sign_in(&sim, push()).await;
    let started = tokio::time::Instant::now();
    while started.elapsed() < idle + idle / 10 {
        for (method, tail) in [("POST", "handshake"), ("PUT", "heartbeat")] {
            let reply = agent.call(method, tail).await;
            assert_eq!(reply.text(), r#"{"message":"success","retcode":"0"}"#);
        }
    }
    let ended = loop {
        match agent.poll().await.retcode().as_str() {
            "000-001" => {}
            retcode => break retcode.to_owned(),
        }
    };
    // The event that tells of the sign-out, which nobody was there to be sent to.
    assert_eq!(ended, "0");
    assert!(!sim.agent(7).unwrap().signed_in);
}

#[tokio::test]
async fn heartbeat_brings_a_new_guid() {
    for (method, tail) in [("POST", "handshake"), ("PUT", "heartbeat")] {
        let sim = start().await;
        let mut agent = sign_in(&sim, push()).await;
        let renewed = sim.renew_guid(7);
        assert_eq!(agent.call("GET", "agentstatus").await.set_guid(), None);
        assert_eq!(agent.call(method, tail).await.set_guid(), renewed.as_deref());
        assert_eq!(agent.call(method, tail).await.set_guid(), None);
        agent.guid = renewed.unwrap();
        assert_eq!(agent.post("saybusy").await, "0");
    }
}

#[tokio::test]
async fn heartbeat_means_nothing_for_an_agent_who_polls() {
    let idle = Duration::from_millis(300);
    let options = Options { idle_sign_out: Some(idle), ..Options::default() };
    let sim = Simulator::start(options).await.unwrap();
    let agent = sign_in(&sim, json!({})).await;
    sim.renew_guid(7);
    assert_eq!(agent.call("POST", "handshake").await.set_guid(), None);
    until(|| !sim.agent(7).unwrap().signed_in).await;
    assert_eq!(agent.post("handshake").await, "100-006");
}

#[tokio::test]
async fn handshake_checks_the_service_token() {
    let sim = start().await;
    let agent = sign_in(&sim, push()).await;
    for (token, retcode) in [
        (String::new(), "0"),
        ("abc-1".into(), "0"),
        ("a".repeat(50), "0"),
        ("a".repeat(51), "100-001"),
        ("<a>".into(), "100-001"),
    ] {
        let headers = format!("{}service_token: {token}\r\n", agent.header());
        let reply = call(&sim, "POST onlineagent/7/handshake", &headers, "").await.unwrap();
        assert_eq!(reply.retcode(), retcode, "{token}");
    }
}
