//! Events reach every watcher, at every replica.

use ccgateway_bridge::rpc::proto::{
    SetBusyRequest,
    confirmation::{Reason, Status},
    watch_events_response::What,
};
use ccgateway_sim::{Fault, Interface, Misbehaviour};

use crate::support::Centre;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_watcher_goes_on_at_another_replica_where_it_stopped() {
    let centre = Centre::open().await;
    let mut one = centre.replica(None).await;
    let two = centre.replica(None).await;
    let mut here = one.watch(&[], None).await;
    let mut there = two.watch(&[], None).await;
    one.sign_in(1001).await.expect("signed in");
    let ready = here.event("AgentState_Ready").await;
    assert_eq!(there.event("AgentState_Ready").await, ready, "the same, wherever it is told");

    two.set_busy(1001).await.expect("busy");
    let busy = there.event("AgentState_SetNotReady_Success").await;
    here.event("AgentState_SetNotReady_Success").await;
    one.kill().await;
    let three = centre.replica(None).await;
    let mut again = three.watch(&[], Some(ready.sequence)).await;
    assert_eq!(again.event("AgentState_SetNotReady_Success").await, busy);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn content_is_the_same_at_every_replica_whatever_json_it_is() {
    let centre = Centre::open().await;
    let replicas = [centre.replica(None).await, centre.replica(None).await];
    replicas[0].sign_in(1001).await.expect("signed in");
    // One of the two has fetched the event, the other one is told, and the third reads it afterwards.
    let mut watches = [replicas[0].watch(&[], None).await, replicas[1].watch(&[], None).await];
    let mut told = Vec::new();
    for sent in [Some("\"1478661212-6\""), Some("14786612120000000000123"), Some("null"), None] {
        assert!(centre.gateway.tell(1001, "AgentEvent_Hold", sent));
        let [here, there] = &mut watches;
        let message = here.event("AgentEvent_Hold").await;
        assert_eq!(there.event("AgentEvent_Hold").await, message);
        let Some(What::GatewayEvent(event)) = &message.what else { panic!("no event") };
        assert_eq!(event.content_json, sent.unwrap_or_default());
        told.push(message);
    }
    let third = centre.replica(None).await;
    let mut again = third.watch(&[], Some(told[0].sequence)).await;
    for message in &told[1..] {
        assert_eq!(&again.event("AgentEvent_Hold").await, message);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_change_is_confirmed_by_an_event_that_another_replica_fetched() {
    let centre = Centre::open().await;
    let replicas = [centre.replica(None).await, centre.replica(None).await];
    for agent in 1001..1009 {
        replicas[0].sign_in(agent).await.expect("signed in");
    }
    // Whichever of the two polls an agent, the other one is asked too.
    for (turn, replica) in replicas.iter().enumerate() {
        for agent in 1001..1009 {
            let request = SetBusyRequest {
                agent_id: agent.to_string(),
                reason: Some(200 + i32::try_from(turn).expect("small")),
                prolong: Some(true),
                confirm_within: Some(prost_types::Duration { seconds: 20, nanos: 0 }),
                ..<_>::default()
            };
            let answer = replica.states.clone().set_busy(request).await.expect("accepted");
            let confirmation = answer.into_inner().confirmation.expect("asked for");
            assert_eq!(confirmation.status(), Status::Confirmed, "{confirmation:?}");
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_event_of_another_replica_confirms_nothing_without_a_status() {
    let centre = Centre::open().await;
    let replicas = [centre.replica(None).await, centre.replica(None).await];
    replicas[0].sign_in(1001).await.expect("signed in");
    let untold = Fault::Retcode { retcode: "100-007".into(), message: String::new() };
    centre.gateway.misbehave(Misbehaviour::always(untold).on(Interface::AgentStatus));
    // One of the two polls the agent, and has fetched the event itself.
    let mut told = Vec::new();
    for (replica, reason) in replicas.iter().zip([200, 201]) {
        let mut events = replica.watch(&[], None).await;
        let request = SetBusyRequest {
            agent_id: "1001".into(),
            reason: Some(reason),
            prolong: Some(true),
            confirm_within: Some(prost_types::Duration { seconds: 3, nanos: 0 }),
            ..<_>::default()
        };
        let answer = replica.states.clone().set_busy(request).await.expect("accepted");
        let confirmation = answer.into_inner().confirmation.expect("asked for");
        events.event("AgentState_SetNotReady_Success").await;
        told.push((confirmation.status(), confirmation.reason()));
    }
    told.sort();
    let expected = [(Status::Confirmed, Reason::Unspecified), (Status::Accepted, Reason::NoEvent)];
    assert_eq!(told, expected);
}
