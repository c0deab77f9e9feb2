//! Changes with an id of their caller's: each is made once, however often it is asked for.

use std::time::Duration;

use ccgateway_bridge::rpc::proto::{
    BatchSetBusyRequest, GetStateChangeRequest, GetStateChangeResponse, SetBusyRequest,
    SetBusyResponse, SignInRequest, SignOutRequest, get_state_change_response::What,
};
use ccgateway_sim::{Fault, Interface, Misbehaviour};
use ccgateway_test_support::{
    AGENT, PASSWORD, Refusal, Setup, TestBridge, changes::Change, refused, until,
};
use prost::Message as _;
use tonic::{Code, Request, Status};

use crate::{
    batch::{batch, outcomes, registered},
    table::{BUSY, rows},
};

const ID: &str = "f81d4fae-7dec-41d0-a765-00a0c91e6bf6";
const OTHER: &str = "0b3a1c2d-7dec-41d0-a765-00a0c91e6bf6";
const LONG: Duration = Duration::from_secs(20);

/// Makes agent 1001 busy, with this id.
async fn set_busy(bridge: &TestBridge, id: &str) -> Result<SetBusyResponse, Status> {
    bridge.call(busy(id)).await
}

fn busy(id: &str) -> SetBusyRequest {
    SetBusyRequest { agent_id: AGENT.to_string(), request_id: id.to_owned(), ..<_>::default() }
}

async fn with(tenant: &str) -> TestBridge {
    let tenant = format!("read_back = false\n{tenant}");
    let bridge = TestBridge::with(Setup { tenant, ..<_>::default() }).await;
    bridge.sign_in(AGENT).await.expect("signed in");
    bridge.gateway.clear_journal();
    bridge
}

fn fail(bridge: &TestBridge, fault: Fault) {
    bridge.gateway.misbehave(Misbehaviour::once(fault).on(Interface::SayBusy));
}

fn refusal(retcode: &str) -> Fault {
    Fault::Retcode { retcode: retcode.into(), message: String::new() }
}

fn asked(bridge: &TestBridge) -> usize {
    bridge.asked(Interface::SayBusy).len()
}

async fn became(
    bridge: &TestBridge,
    request_id: &str,
    agent_id: &str,
) -> Result<GetStateChangeResponse, Status> {
    let (request_id, agent_id) = (request_id.to_owned(), agent_id.to_owned());
    let request = GetStateChangeRequest { request_id, agent_id, ..<_>::default() };
    bridge.states.clone().get_state_change(request).await.map(tonic::Response::into_inner)
}

fn error(found: GetStateChangeResponse) -> Refusal {
    let Some(What::Error(error)) = found.what else { panic!("an error: {found:?}") };
    let details = error.encode_to_vec().into();
    Refusal::from(Status::with_details(Code::from_i32(error.code), error.message, details))
}

#[tokio::test]
async fn every_change_is_made_once_however_often_it_is_asked_for() {
    for (_, row) in rows() {
        let bridge = with("").await;
        for change in row.allowed_after {
            change.ask(&bridge.states, AGENT).await.expect("accepted");
        }
        bridge.gateway.clear_journal();
        let first = row.change.ask_once(&bridge.states, AGENT, ID).await.expect("accepted");
        for id in [ID, &ID.to_uppercase()] {
            let again = row.change.ask_once(&bridge.states, AGENT, id).await;
            assert_eq!(again.expect("accepted"), first, "{}", row.method);
        }
        assert_eq!(bridge.asked(row.interface).len(), 1, "{}", row.method);
        let found = became(&bridge, ID, "").await.expect("known");
        assert_eq!(found.agent_id, AGENT.to_string());
        assert!(matches!(found.what, Some(What::Change(_))), "{found:?}");
    }
}

#[tokio::test]
async fn a_repeated_call_waits_for_the_one_that_is_under_way() {
    let bridge = with("").await;
    fail(&bridge, Fault::Delay(Duration::from_millis(300)));
    let calls = (0..20).map(|_| set_busy(&bridge, ID));
    let mut calls = Box::pin(futures_util::future::join_all(calls));
    tokio::select! {
        _all = &mut calls => panic!("the gateway has not answered"),
        () = until("the request is sent", || asked(&bridge) == 1) => {}
    }
    let found = became(&bridge, ID, "").await.expect("known");
    assert!(matches!(found.what, Some(What::UnderWay(_))), "{found:?}");
    for answer in calls.await {
        answer.expect("accepted");
    }
    assert_eq!(asked(&bridge), 1);
}

#[tokio::test]
async fn a_caller_who_has_left_finds_what_became_of_its_change() {
    let bridge = with("").await;
    fail(&bridge, Fault::Delay(Duration::from_millis(700)));
    let mut request = Request::new(busy(ID));
    request.set_timeout(Duration::from_millis(300));
    let answer = bridge.states.clone().set_busy(request).await;
    refused(answer, Code::DeadlineExceeded, "DEADLINE", "unknown");
    assert_eq!(set_busy(&bridge, ID).await.expect("accepted").retcode, "0");
    let found = became(&bridge, ID, "").await.expect("known");
    assert!(matches!(found.what, Some(What::Change(_))), "{found:?}");
    assert_eq!(asked(&bridge), 1);
}

#[tokio::test]
async fn an_id_belongs_to_one_change() {
    let bridge = with("").await;
    bridge.sign_in(AGENT + 1).await.expect("signed in");
    set_busy(&bridge, ID).await.expect("accepted");
    let of_another = SetBusyRequest { agent_id: (AGENT + 1).to_string(), ..busy(ID) };
    for request in [SetBusyRequest { reason: Some(200), ..busy(ID) }, of_another] {
        let answer = bridge.call(request).await;
        refused(answer, Code::InvalidArgument, "REQUEST_ID_REUSED", "not_sent");
    }
    let answer = Change::CancelBusy.ask_once(&bridge.states, AGENT, ID).await;
    refused(answer, Code::InvalidArgument, "REQUEST_ID_REUSED", "not_sent");
    Change::CancelBusy.ask_once(&bridge.states, AGENT, OTHER).await.expect("accepted");
    assert_eq!(asked(&bridge), 1);

    // How long a caller waits does not belong to the change.
    let within = Some(prost_types::Duration { seconds: 1, nanos: 0 });
    let again = SetBusyRequest { confirm_within: within, ..busy(ID) };
    assert!(bridge.call(again).await.expect("accepted").confirmation.is_some());
}

#[tokio::test]
async fn a_request_that_was_not_sent_is_sent_the_next_time() {
    let bridge = with("").await;
    bridge.gateway.stop().await;
    refused(set_busy(&bridge, ID).await, Code::Unavailable, "GATEWAY_UNREACHABLE", "not_sent");
    let unknown = became(&bridge, ID, "").await;
    refused(unknown, Code::NotFound, "REQUEST_ID_UNKNOWN", "not_sent");
    bridge.gateway.restart(false).await.expect("restarted");
    set_busy(&bridge, ID).await.expect("accepted");
    set_busy(&bridge, ID).await.expect("accepted");
    assert_eq!(asked(&bridge), 1);
}

#[tokio::test]
async fn an_attempt_that_sends_nothing_hides_nothing_of_the_one_before() {
    let bridge = with("").await;
    fail(&bridge, refusal("000-004"));
    refused(set_busy(&bridge, ID).await, Code::Unavailable, "AGENT_SWITCHOVER", "refused");
    bridge.gateway.stop().await;
    refused(set_busy(&bridge, ID).await, Code::Unavailable, "GATEWAY_UNREACHABLE", "not_sent");
    assert_eq!(error(became(&bridge, ID, "").await.expect("known")).reason, "AGENT_SWITCHOVER");
    bridge.gateway.restart(false).await.expect("restarted");
    set_busy(&bridge, ID).await.expect("accepted");
    assert_eq!(asked(&bridge), 2);
}

#[tokio::test]
async fn a_call_that_leaves_before_it_is_sent_leaves_its_id() {
    let bridge = with("").await;
    fail(&bridge, Fault::Delay(Duration::from_secs(1)));
    let mut first = Box::pin(bridge.set_busy(AGENT));
    tokio::select! {
        _answered = &mut first => panic!("the gateway has not answered"),
        () = until("the request is sent", || asked(&bridge) == 1) => {}
    }
    // It waits for the agent's turn.
    let mut request = Request::new(busy(ID));
    request.set_timeout(Duration::from_millis(100));
    let left = bridge.states.clone().set_busy(request).await;
    refused(left, Code::DeadlineExceeded, "DEADLINE", "not_sent");
    first.await.expect("accepted");
    Change::CancelBusy.ask(&bridge.states, AGENT).await.expect("accepted");
    set_busy(&bridge, ID).await.expect("accepted");
    assert_eq!(asked(&bridge), 2);
}

#[tokio::test]
async fn a_refusal_that_passes_frees_the_id_and_one_for_good_keeps_it() {
    for (retcode, reason, code) in [
        ("100-009", "AGENT_STATE_REFUSED", Code::FailedPrecondition),
        ("999-999", "UNLISTED_RETCODE", Code::Unknown),
    ] {
        let bridge = with("").await;
        fail(&bridge, refusal(retcode));
        for _ in 0..2 {
            refused(set_busy(&bridge, ID).await, code, reason, "refused");
        }
        assert_eq!(asked(&bridge), 1, "{retcode}");
        assert_eq!(error(became(&bridge, ID, "").await.expect("known")).reason, reason);
    }
    for (fault, reason) in [
        (refusal("000-004"), "AGENT_SWITCHOVER"),
        (refusal("100-003"), "PLATFORM_UNAVAILABLE"),
        (busy_proxy(), "GATEWAY_BUSY"),
    ] {
        let bridge = with("").await;
        fail(&bridge, fault);
        refused(set_busy(&bridge, ID).await, Code::Unavailable, reason, "refused");
        assert_eq!(error(became(&bridge, ID, "").await.expect("known")).reason, reason);
        set_busy(&bridge, ID).await.expect("accepted");
        assert_eq!(asked(&bridge), 2, "{reason}");
    }
}

fn busy_proxy() -> Fault {
    let headers = vec![("Retry-After".to_owned(), "1".to_owned())];
    Fault::Status { status: 503, headers, body: Vec::new(), content_type: String::new() }
}

#[tokio::test]
async fn a_change_that_may_have_been_made_is_not_made_again() {
    let bridge = with("").await;
    fail(&bridge, Fault::CutBeforeAnswer);
    for _ in 0..2 {
        let answer = set_busy(&bridge, ID).await;
        refused(answer, Code::Unknown, "GATEWAY_NO_ANSWER", "unknown");
    }
    assert_eq!(asked(&bridge), 1);
    let known = error(became(&bridge, ID, "").await.expect("known"));
    assert_eq!((&*known.reason, &*known.metadata["outcome"]), ("GATEWAY_NO_ANSWER", "unknown"));
    assert_eq!(known.metadata["method"], "ccgateway.agent.v1.AgentState/SetBusy");
}

#[tokio::test]
async fn a_batch_that_is_sent_again_makes_only_what_is_missing() {
    let agents = AGENT..AGENT + 4;
    let bridge = registered(Setup::default(), agents.clone()).await;
    let fault = Misbehaviour::once(refusal("000-004")).on(Interface::SayBusy);
    bridge.gateway.misbehave(fault.of(AGENT + 2));
    let request =
        |agents| BatchSetBusyRequest { request_id: ID.into(), ..crate::batch::request(agents) };
    let first = batch(&bridge, request(agents.clone()), LONG).await.expect("an answer");
    assert_eq!(first.error_count, 1);
    let agent = (AGENT + 2).to_string();
    assert_eq!(error(became(&bridge, ID, &agent).await.expect("known")).reason, "AGENT_SWITCHOVER");
    let again = batch(&bridge, request(agents.clone()), LONG).await.expect("an answer");
    assert!(outcomes(again).iter().all(|(_, result)| result.is_ok()));
    assert_eq!(asked(&bridge), 5);
    // A call for one of them is another change.
    let alone = SetBusyRequest { agent_id: agent, ..busy(ID) };
    let answer = bridge.call(alone).await;
    refused(answer, Code::FailedPrecondition, "AGENT_STATE_REFUSED", "refused");
}

#[tokio::test]
async fn the_agent_of_a_change_may_be_named_although_it_is_of_no_batch() {
    let bridge = with("").await;
    set_busy(&bridge, ID).await.expect("accepted");
    let found = became(&bridge, ID, &AGENT.to_string()).await.expect("known");
    assert!(matches!(found.what, Some(What::Change(_))), "{found:?}");
    let of_another = became(&bridge, ID, &(AGENT + 1).to_string()).await;
    refused(of_another, Code::NotFound, "REQUEST_ID_UNKNOWN", "not_sent");
}

#[tokio::test]
async fn the_oldest_ids_are_forgotten_first() {
    let bridge = with("request_ids.most = 1\n").await;
    BUSY.ask_once(&bridge.states, AGENT, ID).await.expect("accepted");
    Change::CancelBusy.ask_once(&bridge.states, AGENT, OTHER).await.expect("accepted");
    let forgotten = became(&bridge, ID, "").await;
    refused(forgotten, Code::NotFound, "REQUEST_ID_UNKNOWN", "not_sent");
    became(&bridge, OTHER, "").await.expect("known");
    BUSY.ask_once(&bridge.states, AGENT, ID).await.expect("accepted");
    assert_eq!(asked(&bridge), 2);
}

#[tokio::test]
async fn what_is_no_uuid_is_refused() {
    let bridge = with("").await;
    for id in ["1", "nil", "00000000-0000-0000-0000-000000000000"] {
        let refusal = refused(
            set_busy(&bridge, id).await,
            Code::InvalidArgument,
            "INVALID_REQUEST",
            "not_sent",
        );
        assert!(refusal.message.contains("see the field violations"), "{}", refusal.message);
        let violations = refusal.details.bad_request().expect("named").field_violations.clone();
        assert_eq!(violations[0].field, "request_id");
        assert!(violations[0].description.contains("UUID"), "{violations:?}");
        let unknown = became(&bridge, id, "").await;
        refused(unknown, Code::InvalidArgument, "INVALID_REQUEST", "not_sent");
    }
    let missing = became(&bridge, "", "").await;
    refused(missing, Code::InvalidArgument, "INVALID_REQUEST", "not_sent");
    assert_eq!(asked(&bridge), 0);
}

#[tokio::test]
async fn an_agent_is_signed_in_and_out_once() {
    let bridge = TestBridge::start().await;
    let sign_in = |id: &str, password: &str| SignInRequest {
        agent_id: AGENT.to_string(),
        password: Some(password.to_owned()),
        request_id: id.to_owned(),
        ..<_>::default()
    };
    let mut sessions = bridge.sessions.clone();
    let wrong = sessions.sign_in(sign_in(ID, "not this one")).await.map(drop);
    refused(wrong, Code::FailedPrecondition, "CREDENTIALS_REJECTED", "refused");
    let first = sessions.sign_in(sign_in(ID, PASSWORD)).await.expect("signed in").into_inner();
    let again = sessions.sign_in(sign_in(ID, PASSWORD)).await.expect("as before").into_inner();
    assert_eq!(again, first);
    assert_eq!(bridge.asked(Interface::SignIn).len(), 2);
    let forced = SignInRequest { force: true, ..sign_in(ID, PASSWORD) };
    let answer = sessions.sign_in(forced).await.map(drop);
    refused(answer, Code::InvalidArgument, "REQUEST_ID_REUSED", "not_sent");
    let found = became(&bridge, ID, "").await.expect("known");
    assert!(matches!(found.what, Some(What::Change(_))), "{found:?}");

    let sign_out = || SignOutRequest {
        agent_id: AGENT.to_string(),
        request_id: OTHER.to_owned(),
        ..<_>::default()
    };
    for _ in 0..2 {
        sessions.sign_out(sign_out()).await.expect("signed out");
    }
    assert_eq!(bridge.asked(Interface::SignOut).len(), 1);
    // The session that the id made has ended since.
    let ended = sessions.sign_in(sign_in(ID, PASSWORD)).await.expect("as before").into_inner();
    assert_eq!((ended.retcode.as_str(), ended.session), ("0", None));
    assert_eq!(bridge.asked(Interface::SignIn).len(), 2);
}
