//! The simulated gateway as a client on the wire sees it.

#![expect(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    reason = "a test fails by panicking"
)]

mod client;
mod faults;
mod group;
mod guids;
mod inspector;
mod passwords;
mod polls;
mod program;
mod push;
mod recovery;
mod settings;
mod sign_in;
mod skills;
mod states;
mod tls;

use std::time::Duration;

use ccgateway_sim::{Fault, IdOutside, Interface, Misbehaviour, Options, Simulator};

use self::client::{Agent, Client, SIGN_IN, call};

async fn start() -> Simulator {
    Simulator::start(Options::default()).await.unwrap()
}

#[tokio::test]
async fn ids_outside_the_routes_are_not_found() {
    let sim = start().await;
    for id in ["0", "60000", "01", "x"] {
        let reply = call(&sim, &format!("PUT onlineagent/{id}"), "", SIGN_IN).await.unwrap();
        assert_eq!(reply.status(), 404, "{id}");
        assert!(reply.header("Content-Type").unwrap().starts_with("text/html"));
    }
    let options = Options { id_outside: IdOutside::Refused, ..Options::default() };
    let sim = Simulator::start(options).await.unwrap();
    let reply = call(&sim, "PUT onlineagent/60000", "", SIGN_IN).await.unwrap();
    assert_eq!(reply.retcode(), "000-002");
}

#[tokio::test]
async fn overlapping_calls_are_recorded_and_refused() {
    let options = Options { repeats_before_guid: true, ..Options::default() };
    let sim = Simulator::start(options).await.unwrap();
    let agent = Agent::sign_in(&sim, 7).await;
    sim.misbehave(Misbehaviour::once(Fault::Hang).on(Interface::SignOut));
    let mut hanging = Client::connect(&sim).await.unwrap();
    hanging.send("DELETE onlineagent/7/logout", &agent.header(), "").await.unwrap();
    until(|| sim.journal().last().is_some_and(|entry| entry.answer.is_some())).await;

    let reply = call(&sim, "PUT onlineagent/7", "", SIGN_IN).await.unwrap();
    assert_eq!(reply.retcode(), "000-007");
    assert_eq!(agent.post("saybusy").await, "000-007");
    let violations = sim.violations();
    assert_eq!(violations.len(), 2, "{violations:?}");
    assert_eq!(violations[0], "agent 7: SignIn came while SignOut was unanswered");

    // The call is over once its client has gone.
    drop(hanging);
    loop {
        let reply = call(&sim, "PUT onlineagent/7", "", SIGN_IN).await.unwrap();
        match reply.retcode().as_str() {
            "000-007" => tokio::task::yield_now().await,
            retcode => break assert_eq!(retcode, "0"),
        }
    }
}

#[tokio::test]
async fn whose_guid_is_refused_hears_of_no_overlap() {
    for (repeats_before_guid, retcode, violations) in [(false, "000-003", 0), (true, "000-007", 1)]
    {
        let options = Options { repeats_before_guid, take_over_event: false, ..Options::default() };
        let sim = Simulator::start(options).await.unwrap();
        let former = Agent::sign_in(&sim, 7).await;
        let guid = sim.take_over(7).unwrap();
        let other = Agent { sim: &sim, id: 7, guid };
        for event in ["AgentOther_InService", "AgentState_Ready"] {
            assert_eq!(other.poll().await.event().unwrap(), event);
        }
        let asked = sim.journal().len();
        let waiting = other.poll();
        let refused = async {
            until(|| sim.journal().len() > asked).await;
            let refused = former.poll().await.retcode();
            sim.start_call(7);
            refused
        };
        let (poll, refused) = tokio::join!(waiting, refused);
        assert_eq!((poll.retcode().as_str(), refused.as_str()), ("0", retcode));
        assert_eq!(sim.violations().len(), violations);
    }
}

#[tokio::test]
async fn answers_have_the_type_that_the_library_of_2014_reads() {
    let sim = start().await;
    let reply = call(&sim, "PUT onlineagent/7", "", SIGN_IN).await.unwrap();
    assert_eq!(reply.header("Content-Type"), Some("application/json"));
    assert_eq!(reply.header("JSON-Type"), None);
    let json_type = Some("application/json;charset=UTF-8".to_owned());
    let options = Options { content_type: "text/html".into(), json_type, ..Options::default() };
    let sim = Simulator::start(options).await.unwrap();
    let reply = call(&sim, "PUT onlineagent/7", "", SIGN_IN).await.unwrap();
    assert_eq!(reply.header("Content-Type"), Some("text/html"));
    assert_eq!(reply.header("JSON-Type"), Some("application/json;charset=UTF-8"));
}

#[tokio::test]
async fn the_double_slash_of_the_library_is_taken_for_one() {
    let sim = start().await;
    let reply = call(&sim, "PUT /onlineagent/7", "", SIGN_IN).await.unwrap();
    let guid = reply.set_guid().unwrap().to_owned();
    let header = format!("Guid: {guid}\r\n");
    let reply = call(&sim, "POST /onlineagent/7/saybusy?reason=&_=1", &header, "").await.unwrap();
    assert_eq!(reply.retcode(), "0");
    assert_eq!(
        sim.journal()[1].target,
        "/agentgateway/resource//onlineagent/7/saybusy?reason=&_=1"
    );
}

#[tokio::test]
async fn answered_calls_are_no_violation_on_any_connection() {
    let sim = start().await;
    let agent = Agent::sign_in(&sim, 7).await;
    let mut clients = [Client::connect(&sim).await.unwrap(), Client::connect(&sim).await.unwrap()];
    for turn in 0..100 {
        let client = &mut clients[turn % 2];
        let tail = if turn % 2 == 0 { "saybusy" } else { "sayfree" };
        client.send(&format!("POST onlineagent/7/{tail}"), &agent.header(), "").await.unwrap();
        assert_eq!(client.receive().await.unwrap().retcode(), "0");
    }
    for turn in 0..100 {
        let event = agent.poll().await.event().unwrap();
        let expected = if turn % 2 == 0 { "SetNotReady" } else { "CancelNotReady" };
        assert!(event.contains(expected), "{turn}: {event}");
    }
    assert_eq!(sim.violations(), Vec::<String>::new());
}

#[tokio::test]
async fn two_polls_at_once_are_a_violation() {
    let options = Options { refuse_repeated: false, time_scale: 10, ..Options::default() };
    let sim = Simulator::start(options).await.unwrap();
    let agent = Agent::sign_in(&sim, 7).await;
    let (first, second) = tokio::join!(agent.poll(), agent.poll());
    assert_eq!((first.retcode(), second.retcode()), ("0".into(), "0".into()));
    assert_eq!(sim.violations().len(), 1);
}

#[tokio::test]
async fn journal_keeps_requests_as_they_came() {
    let sim = start().await;
    let guid = sim.sign_in(7);
    let mut client = Client::connect(&sim).await.unwrap();
    let headers = format!("gUID: {guid}\r\nContent-Type: text/plain\r\n");
    let target = "onlineagent/7/saybusy?reason=%32%300&_=1";
    // A body that nobody asked for.
    client.send(&format!("POST {target}"), &headers, "{}").await.unwrap();
    assert_eq!(client.receive().await.unwrap().retcode(), "0");
    client.send("GET onlineagent/7/agentstatus", &headers, "").await.unwrap();
    assert_eq!(client.receive().await.unwrap().retcode(), "0");

    let journal = sim.journal();
    assert_eq!((journal.len(), sim.connections()), (2, 1));
    let entry = &journal[0];
    assert_eq!(entry.target, format!("/agentgateway/resource/{target}"));
    assert!(entry.headers.contains(&("gUID".into(), guid)));
    assert_eq!(entry.body, b"{}");
    assert_eq!((entry.agent, entry.interface), (Some(7), Some(Interface::SayBusy)));
    let answer = entry.answer.as_ref().unwrap();
    assert_eq!((answer.status, answer.retcode.as_deref()), (Some(200), Some("0")));
    sim.clear_journal();
    assert!(sim.journal().is_empty());
}

#[tokio::test]
async fn balancer_cookie_and_node_agree() {
    let options = Options { nodes: 2, balancer_cookie: true, ..Options::default() };
    let sim = Simulator::start(options).await.unwrap();
    sim.sign_in(6);
    let reply = call(&sim, "PUT onlineagent/7", "", SIGN_IN).await.unwrap();
    assert!(reply.set_guid().unwrap().ends_with(".AgentGateway1"));
    assert_eq!(reply.header("Set-Cookie"), Some("loadbalance=1; Path=/"));
}

/// Waits for something that happens by itself soon.
async fn until(happened: impl Fn() -> bool) {
    let patience = tokio::time::timeout(Duration::from_secs(20), async {
        while !happened() {
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
    });
    patience.await.expect("it never happened");
}
