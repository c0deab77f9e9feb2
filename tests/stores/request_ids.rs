//! Changes with an id of their caller's, among replicas: each is made once, whichever replica is asked.

use std::time::Duration;

use ccgateway_bridge::rpc::proto::{
    GetStateChangeRequest, SetBusyRequest, SetBusyResponse, get_state_change_response::What,
};
use ccgateway_sim::{Fault, Interface, Misbehaviour};
use ccgateway_test_support::{RedisServer, Site, TestBridge, asked, refused, until, until_asked};
use futures_util::future::BoxFuture;
use tonic::{Code, Request, Status};

use crate::{
    attacker::{Attacker, disbelieved, key},
    callee,
};

const ID: &str = "f81d4fae-7dec-41d0-a765-00a0c91e6bf6";

/// Two replicas of which the first has signed agent 1001 in.
fn two() -> BoxFuture<'static, (RedisServer, Site, [TestBridge; 2])> {
    Box::pin(async {
        let (server, site) = (RedisServer::start().await, callee::site().await);
        let first = callee::start(&site, &server).await;
        let second = callee::start(&site, &server).await;
        first.sign_in(1001).await.expect("signed in");
        (server, site, [first, second])
    })
}

fn busy(reason: i32) -> SetBusyRequest {
    let (agent_id, request_id) = ("1001".to_owned(), ID.to_owned());
    SetBusyRequest { agent_id, request_id, reason: Some(reason), ..<_>::default() }
}

async fn set_busy(bridge: &TestBridge) -> Result<SetBusyResponse, Status> {
    bridge.call(busy(200)).await
}

async fn became(bridge: &TestBridge) -> Result<Option<What>, Status> {
    let request = GetStateChangeRequest { request_id: ID.into(), ..<_>::default() };
    let answer = bridge.states.clone().get_state_change(request).await?;
    Ok(answer.into_inner().what)
}

fn requests(site: &Site) -> usize {
    asked(&site.gateway, Interface::SayBusy).len()
}

fn fail(site: &Site, fault: Fault) {
    site.gateway.misbehave(Misbehaviour::once(fault).on(Interface::SayBusy));
}

#[tokio::test]
async fn a_change_that_was_made_at_one_replica_is_not_made_at_another() {
    let (server, site, [first, second]) = two().await;
    let made = set_busy(&first).await.expect("accepted");
    // Redis hears of it after the caller.
    until_asked("it is shared", async || {
        matches!(became(&second).await, Ok(Some(What::Change(_))))
    })
    .await;
    assert_eq!(set_busy(&second).await.expect("accepted"), made);
    assert_eq!(requests(&site), 1);
    let other = second.call(busy(201)).await;
    refused(other, Code::InvalidArgument, "REQUEST_ID_REUSED", "not_sent");

    // After a restart, too.
    drop(first);
    let third = callee::start(&site, &server).await;
    assert_eq!(set_busy(&third).await.expect("accepted"), made);
    assert_eq!(requests(&site), 1);
}

#[tokio::test]
async fn a_change_that_is_under_way_at_another_replica_is_waited_for() {
    let (_server, site, [first, second]) = two().await;
    fail(&site, Fault::Delay(Duration::from_millis(500)));
    let mut calls = Box::pin(async { tokio::join!(set_busy(&first), set_busy(&second)) });
    tokio::select! {
        _both = &mut calls => panic!("the gateway has not answered"),
        () = until("the request is sent", || requests(&site) == 1) => {}
    }
    assert!(matches!(became(&second).await, Ok(Some(What::UnderWay(_)))));
    let (one, other) = calls.await;
    assert_eq!(one.expect("accepted"), other.expect("accepted"));
    assert_eq!(requests(&site), 1);

    // A caller who cannot wait does not know.
    let mut hurried =
        Request::new(SetBusyRequest { request_id: ID.replace('f', "e"), ..busy(200) });
    hurried.set_timeout(Duration::from_millis(200));
    fail(&site, Fault::Delay(Duration::from_secs(1)));
    let answer = second.states.clone().set_busy(hurried).await;
    refused(answer, Code::DeadlineExceeded, "DEADLINE", "unknown");
}

#[tokio::test]
async fn what_one_replica_has_not_sent_another_one_sends() {
    let (_server, site, [first, second]) = two().await;
    fail(&site, Fault::Retcode { retcode: "000-004".into(), message: String::new() });
    refused(set_busy(&first).await, Code::Unavailable, "AGENT_SWITCHOVER", "refused");
    set_busy(&second).await.expect("accepted");
    assert_eq!(requests(&site), 2);
}

#[tokio::test]
async fn a_change_that_may_have_been_made_is_made_at_no_other_replica() {
    let (_server, site, [first, second]) = two().await;
    // Then its state does not show it.
    first.set_busy(1001).await.expect("accepted");
    fail(&site, Fault::CutBeforeAnswer);
    let again = || SetBusyRequest { prolong: Some(true), ..busy(201) };
    for bridge in [&first, &first, &second] {
        let answer = bridge.call(again()).await;
        refused(answer, Code::Unknown, "GATEWAY_NO_ANSWER", "unknown");
    }
    assert_eq!(requests(&site), 2);
}

#[tokio::test]
async fn without_redis_each_replica_makes_a_change_once() {
    let (mut server, site, [first, _second]) = two().await;
    server.kill().await;
    for _ in 0..3 {
        set_busy(&first).await.expect("accepted");
    }
    assert_eq!(requests(&site), 1);
}

#[tokio::test]
async fn what_no_replica_has_written_is_not_believed() {
    let (server, site, [first, second]) = two().await;
    let mut attacker = Attacker::of(&server).await;
    let long = "x".repeat(1024 * 1024);
    for garbage in ["{}", "", &long] {
        let _: String = attacker.ask(&["SET", &key(&format!("change:{ID}")), garbage]).await;
        let unknown = became(&second).await;
        refused(unknown, Code::NotFound, "REQUEST_ID_UNKNOWN", "not_sent");
    }
    let _: u64 = attacker.ask(&["DEL", &key(&format!("change:{ID}"))]).await;
    let _: u64 = attacker.ask(&["LPUSH", &key(&format!("change:{ID}")), "x"]).await;
    set_busy(&first).await.expect("accepted");
    assert_eq!(requests(&site), 1);
    let _: String = attacker.ask(&["SET", &key(&format!("change:{ID}")), "garbage"]).await;
    set_busy(&first).await.expect("it remembers it by itself");
    assert_eq!(requests(&site), 1);
    assert!(disbelieved(&second, "change").await > 0.0);
}
