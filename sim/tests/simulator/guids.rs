//! How Guids are renewed and end, on a clock that runs faster.

use std::time::Duration;

use ccgateway_sim::{Announce, AuthMode, Options, Simulator};

use super::{
    client::{Agent, SIGN_IN, call},
    start, until,
};

/// Guids are renewed after 60 gateway milliseconds; nobody is signed out for not polling.
fn quick() -> Options {
    Options {
        guid_interval: Duration::from_millis(60),
        idle_sign_out: None,
        poll_wait: Duration::from_millis(30),
        ..Options::default()
    }
}

#[tokio::test]
async fn guid_is_renewed_on_the_poll_only() {
    let sim = Simulator::start(quick()).await.unwrap();
    let mut agent = Agent::sign_in(&sim, 7).await;
    let first = agent.guid.clone();
    loop {
        assert_eq!(agent.call("GET", "agentstatus").await.set_guid(), None);
        if let Some(guid) = agent.poll().await.set_guid() {
            agent.guid = guid.to_owned();
            break;
        }
    }
    assert_ne!(agent.guid, first);
    assert_eq!(sim.agent(7).unwrap().guid, Some(agent.guid.clone()));
    // The old one lives its own life to the end.
    agent.guid = first;
    assert_eq!(agent.post("saybusy").await, "0");
}

#[tokio::test]
async fn old_guid_dies_at_the_end_of_its_life() {
    let options = Options { guid_timeout: Duration::from_millis(400), ..quick() };
    let sim = Simulator::start(options).await.unwrap();
    let started = tokio::time::Instant::now();
    let agent = Agent::sign_in(&sim, 7).await;
    loop {
        let reply = agent.call("GET", "agentstatus").await.retcode();
        match reply.as_str() {
            "0" => tokio::time::sleep(Duration::from_millis(5)).await,
            retcode => break assert_eq!(retcode, "000-003"),
        }
    }
    assert!(started.elapsed() >= Duration::from_millis(400));
    assert!(sim.agent(7).unwrap().signed_in);
}

#[tokio::test]
async fn old_guid_can_die_at_once() {
    let options = Options { old_guid_lives: false, ..Options::default() };
    let sim = Simulator::start(options).await.unwrap();
    let mut agent = Agent::sign_in(&sim, 7).await;
    let renewed = sim.renew_guid(7).unwrap();
    assert_eq!(agent.post("saybusy").await, "000-003");
    agent.guid = renewed;
    assert_eq!(agent.post("saybusy").await, "0");
}

#[tokio::test]
async fn renewed_guid_is_announced_once_or_until_used() {
    for (announce, times) in [(Announce::Once, 1), (Announce::UntilUsed, 2)] {
        let options = Options { announce, time_scale: 1000, idle_sign_out: None, ..quick() };
        let options = Options { guid_interval: Duration::from_secs(9_999), ..options };
        let options = Options { guid_timeout: Duration::from_secs(99_999), ..options };
        let sim = Simulator::start(options).await.unwrap();
        let agent = Agent::sign_in(&sim, 7).await;
        let renewed = sim.renew_guid(7);
        let mut announced = Vec::new();
        for _ in 0..2 {
            announced.extend(agent.poll().await.set_guid().map(ToOwned::to_owned));
        }
        assert_eq!(announced.len(), times, "{announce:?}");
        assert_eq!(announced.first(), renewed.as_ref());
    }
}

#[tokio::test]
async fn static_guids_never_change() {
    let options = Options {
        auth_mode: AuthMode::Static,
        guid_interval: Duration::ZERO,
        guid_timeout: Duration::ZERO,
        ..quick()
    };
    let sim = Simulator::start(options).await.unwrap();
    let agent = Agent::sign_in(&sim, 7).await;
    assert_eq!(agent.poll().await.set_guid(), None);
    assert_eq!(agent.post("saybusy").await, "0");
}

#[tokio::test]
async fn any_reply_can_bring_a_guid_when_told() {
    let sim = start().await;
    let agent = Agent::sign_in(&sim, 7).await;
    sim.set_guid_on_next_reply(7);
    let reply = agent.call("POST", "saybusy").await;
    assert_eq!(reply.set_guid().map(ToOwned::to_owned), sim.agent(7).unwrap().guid);
    assert_eq!(agent.call("POST", "sayfree").await.set_guid(), None);
}

#[tokio::test]
async fn update_guid_answers_with_a_new_one() {
    let sim = start().await;
    let mut agent = Agent::sign_in(&sim, 7).await;
    let reply = agent.call("PUT", "updateGuid").await;
    agent.guid = reply.json()["result"]["guid"].as_str().unwrap().to_owned();
    assert_eq!(sim.agent(7).unwrap().guid, Some(agent.guid.clone()));
    assert_eq!(agent.post("saybusy").await, "0");
}

#[tokio::test]
async fn wrong_guids_get_the_code_that_is_set() {
    let mut options = Options::default();
    options.codes.guid_missing = "100-006".into();
    options.codes.guid_foreign = "100-007".into();
    options.codes.guid_unknown = "100-008".into();
    let sim = Simulator::start(options).await.unwrap();
    let other = sim.sign_in(8);
    let agent = Agent { sim: &sim, id: 7, guid: sim.sign_in(7) };
    for (header, retcode) in [
        (String::new(), "100-006"),
        (format!("Guid: {other}\r\n"), "100-007"),
        ("Guid: nonsense\r\n".into(), "100-008"),
        (agent.header(), "0"),
        (agent.header().to_uppercase().replace(&agent.guid.to_uppercase(), &agent.guid), "0"),
    ] {
        let reply = call(&sim, "GET onlineagent/7/agentstatus", &header, "").await;
        assert_eq!(reply.unwrap().retcode(), retcode, "{header}");
    }
    sim.expire_guids(7);
    assert_eq!(agent.post("saybusy").await, "000-003");
    let reply = call(&sim, "PUT onlineagent/7", "", SIGN_IN).await.unwrap();
    assert_eq!(reply.retcode(), "100-002");
}

#[tokio::test]
async fn agents_who_do_not_poll_are_signed_out() {
    let options = Options { time_scale: 120, ..Options::default() };
    let sim = Simulator::start(options).await.unwrap();
    let agent = Agent::sign_in(&sim, 7).await;
    until(|| !sim.agent(7).unwrap().signed_in).await;
    let poll = agent.poll().await;
    assert_eq!(poll.event().unwrap(), "AgentOther_ShutdownService");
    assert!(poll.json()["event"]["content"]["loginTime"].is_string());
    assert_eq!(agent.poll().await.retcode(), "100-006");
}

#[tokio::test]
async fn a_sign_out_by_a_test_ends_a_waiting_poll() {
    let sim = start().await;
    let agent = Agent::sign_in(&sim, 7).await;
    let (poll, ()) = tokio::join!(agent.poll(), async {
        until(|| sim.journal().len() == 4).await;
        sim.sign_out(7);
    });
    assert_eq!(poll.event().unwrap(), "AgentOther_ShutdownService");
}

#[tokio::test]
async fn a_gateway_without_guids_sends_none_and_wants_none() {
    let options =
        Options { auth_mode: AuthMode::None, guid_interval: Duration::ZERO, ..Options::default() };
    let sim = Simulator::start(options).await.unwrap();
    let reply = call(&sim, "PUT onlineagent/7", "", SIGN_IN).await.unwrap();
    assert_eq!((reply.header("Set-GUID"), reply.header("Guid")), (None, None));
    for guid in ["", "Guid: nonsense\r\n"] {
        let poll = call(&sim, "GET agentevent/7", guid, "").await.unwrap();
        assert_eq!((poll.retcode().as_str(), poll.set_guid()), ("0", None));
        let reply = call(&sim, "GET onlineagent/7/agentstatus", guid, "").await.unwrap();
        assert_eq!(reply.retcode(), "0");
    }
    assert_eq!(
        call(&sim, "PUT onlineagent/7/updateGuid", "", "").await.unwrap().retcode(),
        "000-002"
    );
    let reply = call(&sim, "GET onlineagent/8/agentstatus", "", "").await.unwrap();
    assert_eq!(reply.retcode(), "100-006", "nobody has signed that agent in");
}

#[tokio::test]
async fn a_take_over_without_guids_ends_the_open_poll() {
    for (take_over_event, expected) in [(true, "0"), (false, "000-003")] {
        let options = Options { auth_mode: AuthMode::None, take_over_event, ..Options::default() };
        let sim = Simulator::start(options).await.unwrap();
        let agent = Agent { sim: &sim, id: 7, guid: sim.sign_in(7) };
        for event in ["AgentOther_InService", "AgentState_Ready"] {
            assert_eq!(agent.poll().await.event().unwrap(), event);
        }
        let (poll, ()) = tokio::join!(agent.poll(), async {
            until(|| sim.journal().len() == 3).await;
            sim.take_over(7).unwrap();
        });
        assert_eq!(poll.retcode(), expected);
        let event = take_over_event.then_some("AgentOther_ShutdownService");
        assert_eq!(poll.event().as_deref(), event);
    }
}
