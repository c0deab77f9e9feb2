//! What becomes of each kind of call that is open when its bridge stops, with each store, alone and beside two
//! other replicas.

use std::{collections::HashMap, time::Duration};

use ccgateway_bridge::{
    rpc::proto::{
        BatchSetBusyRequest, BatchSetBusyResponse, CancelBusyRequest, Confirmation,
        GetStateRequest, SessionState, SetBusyRequest, SignInRequest,
        batch_set_busy_response::result::Result as Told,
        confirmation::{Reason, Status},
        watch_events_response::What,
    },
    server::Drained,
};
use ccgateway_sim::{Fault, Interface, Misbehaviour, Options};
use ccgateway_test_support::{
    RedisServer, Setup, Site, TestBridge, Watching, asked, in_file, in_redis, until, within,
};
use tonic::Code;
use tonic_types::StatusExt as _;

/// Has no answer yet, has one that nobody has read, and waits for the end of a call.
const SLOW: u32 = 1001;
const SLOW_IN_BATCH: u32 = 1002;
const TALKING: u32 = 1003;
const TALKING_IN_BATCH: u32 = 1004;
const AGENTS: [u32; 4] = [SLOW, SLOW_IN_BATCH, TALKING, TALKING_IN_BATCH];

const ID: &str = "7d9c6e0a-2f0f-4b62-9b6e-3b1f0d8f6a01";

fn setup(store: String) -> Setup {
    let tenant = "keep.pause_min = \"5ms\"\nkeep.pause_max = \"10ms\"\n".into();
    let drain = "delay = \"0s\"\nsessions = \"leave\"\n".into();
    Setup { store, tenant, drain, keep: true, ..<_>::default() }
}

fn busy(agent: u32, request_id: &str, confirm: bool) -> SetBusyRequest {
    let confirm_within = confirm.then_some(prost_types::Duration { seconds: 20, nanos: 0 });
    let (agent_id, request_id) = (agent.to_string(), request_id.into());
    SetBusyRequest { agent_id, request_id, confirm_within, ..<_>::default() }
}

fn is_shutting_down(confirmation: Option<Confirmation>) -> bool {
    confirmation
        .is_some_and(|it| it.status() == Status::Accepted && it.reason() == Reason::ShuttingDown)
}

/// Accepted results by agent, with what is said of their confirmations.
fn accepted(batch: BatchSetBusyResponse) -> HashMap<String, Option<Confirmation>> {
    let results = batch.results.into_iter().map(|result| match result.result {
        Some(Told::Accepted(accepted)) => (result.agent_id, accepted.confirmation),
        other => panic!("{}: {other:?}", result.agent_id),
    });
    results.collect()
}

/// Opens a call of each kind at a bridge, stops that bridge, and looks at what each caller is told.
async fn every_call_is_answered(site: &Site, stopping: TestBridge) {
    let gateway = site.gateway.clone();
    let mut watching = stopping.watch(&AGENTS, None).await;
    for agent in AGENTS {
        stopping.sign_in(agent).await.expect("signed in");
    }
    // An agent in a call becomes busy with its end, so no event comes.
    for agent in [TALKING, TALKING_IN_BATCH] {
        watching.event("AgentState_Ready").await;
        assert!(gateway.start_call(agent));
    }
    for agent in [SLOW, SLOW_IN_BATCH] {
        let slow = Fault::Delay(Duration::from_millis(400));
        gateway.misbehave(Misbehaviour::once(slow).on(Interface::SayBusy).of(agent));
    }
    gateway.clear_journal();
    let call = |request| {
        let mut states = stopping.states.clone();
        tokio::spawn(async move { states.set_busy(request).await })
    };
    let batch = |agents: &[u32], confirm: bool| {
        let (mut states, agent_ids) =
            (stopping.states.clone(), agents.iter().map(u32::to_string).collect());
        let confirm_within = confirm.then_some(prost_types::Duration { seconds: 20, nanos: 0 });
        let request = BatchSetBusyRequest { agent_ids, confirm_within, ..<_>::default() };
        tokio::spawn(async move { states.batch_set_busy(request).await })
    };
    let slow = call(busy(SLOW, ID, false));
    let slow_batch = batch(&[SLOW_IN_BATCH], false);
    let confirmed = call(busy(TALKING, "", true));
    let confirmed_batch = batch(&[TALKING_IN_BATCH], true);
    until("four requests", || asked(&gateway, Interface::SayBusy).len() == AGENTS.len()).await;
    let repeated = call(busy(SLOW, ID, false));
    let behind = {
        let (mut states, agent_id) = (stopping.states.clone(), SLOW.to_string());
        let request = CancelBusyRequest { agent_id, ..<_>::default() };
        tokio::spawn(async move { states.cancel_busy(request).await })
    };
    let answered = || {
        let journal = asked(&gateway, Interface::SayBusy);
        journal.iter().filter(|entry| entry.answer.is_some()).count() >= 2
    };
    until("two answers", answered).await;

    let TestBridge { bridge, .. } = stopping;
    assert!(matches!(within("the end", bridge.drain()).await, Drained::Clean));

    slow.await.expect("no panic").expect("answered");
    repeated.await.expect("no panic").expect("the same answer");
    behind.await.expect("no panic").expect("in its turn");
    let results = slow_batch.await.expect("no panic").expect("answered").into_inner();
    assert_eq!(accepted(results).len(), 1);
    let answer = confirmed.await.expect("no panic").expect("accepted").into_inner();
    assert!(is_shutting_down(answer.confirmation));
    let results = confirmed_batch.await.expect("no panic").expect("answered").into_inner();
    assert!(accepted(results).into_values().all(is_shutting_down));
    let end = loop {
        if let Err(end) = watching.told().await {
            break end;
        }
    };
    let details = end.get_error_details();
    let reason = details.error_info().map(|info| &*info.reason);
    assert_eq!((end.code(), reason), (Code::Unavailable, Some("SHUTTING_DOWN")));
    assert_eq!(asked(&gateway, Interface::SayBusy).len(), AGENTS.len(), "the id made one change");
    assert_eq!(gateway.violations(), Vec::<String>::new());
}

/// The next process, or another replica, goes on with the sessions.
async fn goes_on(next: &TestBridge) {
    for agent in AGENTS {
        let request = GetStateRequest { agent_id: agent.to_string(), ..<_>::default() };
        next.states.clone().get_state(request).await.expect("its session is known");
    }
    assert!(next.asked(Interface::SignIn).is_empty());
}

async fn site() -> Site {
    let options = Options { poll_wait: Duration::from_millis(200), ..<_>::default() };
    Box::pin(Site::new(options)).await
}

#[tokio::test]
async fn without_a_store_a_drain_answers_every_call() {
    let site = site().await;
    let bridge = TestBridge::at(&site, &setup(String::new())).await;
    Box::pin(every_call_is_answered(&site, bridge)).await;
}

#[tokio::test]
async fn with_a_file_a_drain_answers_every_call_and_the_next_process_goes_on() {
    let (site, setup) = (site().await, setup(in_file()));
    let bridge = TestBridge::at(&site, &setup).await;
    Box::pin(every_call_is_answered(&site, bridge)).await;
    goes_on(&TestBridge::at(&site, &setup).await).await;
}

#[tokio::test]
async fn with_redis_a_drain_answers_every_call_and_the_next_process_goes_on() {
    let (site, redis) = (site().await, RedisServer::start().await);
    let setup = setup(in_redis(&redis.url()));
    let bridge = TestBridge::at(&site, &setup).await;
    Box::pin(every_call_is_answered(&site, bridge)).await;
    goes_on(&TestBridge::at(&site, &setup).await).await;
}

async fn until_state(watching: &mut Watching, awaited: SessionState) {
    let is_it = |what| matches!(what, Some(What::SessionChange(it)) if it.state() == awaited);
    let told = async { while !is_it(watching.next().await.what) {} };
    within("the state", told).await;
}

/// Nobody but the replica that stops knows how its last calls have ended.
#[tokio::test]
async fn who_watches_at_another_replica_hears_how_the_last_calls_of_a_drain_have_ended() {
    let (site, redis) = (site().await, RedisServer::start().await);
    let setup = setup(in_redis(&redis.url()));
    let stopping = TestBridge::at(&site, &setup).await;
    let other = TestBridge::at(&site, &setup).await;
    stopping.sign_in(TALKING).await.expect("signed in");
    let mut watching = other.watch(&[SLOW], None).await;
    let slow = Fault::Delay(Duration::from_millis(600));
    site.gateway.misbehave(Misbehaviour::once(slow).on(Interface::SignIn).of(SLOW));
    let mut sessions = stopping.sessions.clone();
    let password = Some("wrong".into());
    let request = SignInRequest { agent_id: SLOW.to_string(), password, ..<_>::default() };
    let signing_in = tokio::spawn(async move { sessions.sign_in(request).await });
    until_state(&mut watching, SessionState::SigningIn).await;
    let TestBridge { bridge, .. } = stopping;
    assert!(matches!(within("the end", bridge.drain()).await, Drained::Clean));
    signing_in.await.expect("no panic").expect_err("the password is wrong");
    until_state(&mut watching, SessionState::Gone).await;
}

#[tokio::test]
async fn one_of_three_replicas_answers_every_call_and_the_others_go_on() {
    let (site, redis) = (site().await, RedisServer::start().await);
    let setup = setup(in_redis(&redis.url()));
    let bridge = TestBridge::at(&site, &setup).await;
    let others = [TestBridge::at(&site, &setup).await, TestBridge::at(&site, &setup).await];
    Box::pin(every_call_is_answered(&site, bridge)).await;
    for other in &others {
        goes_on(other).await;
    }
}
