//! Changes with an id of their caller's, among replicas: each is made once, whichever replica is asked.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use ccgateway_bridge::rpc::proto::{
    GetStateChangeRequest, SetBusyRequest, SetBusyResponse, SignInRequest, confirmation,
    get_state_change_response::What,
};
use ccgateway_sim::{Fault, Interface, Misbehaviour};
use ccgateway_test_support::{
    PASSWORD, RedisServer, Site, TestBridge, asked, changes::Change, in_redis, refused, until,
    until_asked,
};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpListener, TcpStream},
};
use tonic::{Code, Request, Status};

use crate::{
    attacker::{Attacker, disbelieved, key},
    callee,
    keeping::keeping,
};

const ID: &str = "f81d4fae-7dec-41d0-a765-00a0c91e6bf6";

/// Two replicas of which the first has signed agent 1001 in.
async fn two() -> (RedisServer, Site, [TestBridge; 2]) {
    let (server, site) = (RedisServer::start().await, callee::site().await);
    let first = Box::pin(callee::start(&site, &server)).await;
    let second = Box::pin(callee::start(&site, &server)).await;
    first.sign_in(1001).await.expect("signed in");
    (server, site, [first, second])
}

fn busy(reason: i32) -> SetBusyRequest {
    let (agent_id, request_id) = ("1001".to_owned(), ID.to_owned());
    SetBusyRequest { agent_id, request_id, reason: Some(reason), ..<_>::default() }
}

#[tokio::test]
async fn a_sign_in_that_is_repeated_at_another_replica_after_its_session_has_ended_is_told_as_it_was()
 {
    let (_server, site, [first, second]) = Box::pin(two()).await;
    let sign_in = || SignInRequest {
        agent_id: "1002".into(),
        password: Some(PASSWORD.into()),
        request_id: ID.into(),
        ..<_>::default()
    };
    first.sessions.clone().sign_in(sign_in()).await.expect("signed in");
    first.sign_out(1002).await.expect("signed out");
    let again = second.sessions.clone().sign_in(sign_in()).await.expect("as before").into_inner();
    assert_eq!((again.retcode.as_str(), again.session), ("0", None));
    assert_eq!(asked(&site.gateway, Interface::SignIn).len(), 2);
}

#[tokio::test]
async fn a_change_that_is_repeated_at_another_replica_is_confirmed_by_an_event_that_has_come() {
    let (server, site) = (RedisServer::start().await, callee::site().await);
    let first = Box::pin(TestBridge::at(&site, &keeping(&server, ""))).await;
    let second = Box::pin(TestBridge::at(&site, &keeping(&server, ""))).await;
    first.sign_in(1001).await.expect("signed in");
    let within = Some(prost_types::Duration { seconds: 60, nanos: 0 });
    let confirmed = SetBusyRequest { confirm_within: within, ..busy(200) };
    let told = first.call(confirmed.clone()).await.expect("accepted").confirmation.expect("told");
    assert_eq!(told.status(), confirmation::Status::Confirmed, "{told:?}");
    let again = second.call(confirmed).await.expect("accepted").confirmation.expect("told");
    assert_eq!(again.status(), confirmation::Status::Confirmed, "{again:?}");
}

/// One with another id.
fn another() -> SetBusyRequest {
    SetBusyRequest { request_id: ID.replace('f', "e"), ..busy(200) }
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
    let (server, site, [first, second]) = Box::pin(two()).await;
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
    let third = Box::pin(callee::start(&site, &server)).await;
    assert_eq!(set_busy(&third).await.expect("accepted"), made);
    assert_eq!(requests(&site), 1);
}

#[tokio::test]
async fn a_change_that_is_under_way_at_another_replica_is_waited_for() {
    let (_server, site, [first, second]) = Box::pin(two()).await;
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
    let mut hurried = Request::new(another());
    hurried.set_timeout(Duration::from_secs(1));
    fail(&site, Fault::Delay(Duration::from_secs(4)));
    let answer = second.states.clone().set_busy(hurried).await;
    refused(answer, Code::DeadlineExceeded, "DEADLINE", "unknown");
}

#[tokio::test]
async fn what_one_replica_has_not_sent_another_one_sends() {
    let (_server, site, [first, second]) = Box::pin(two()).await;
    fail(&site, Fault::Retcode { retcode: "000-004".into(), message: String::new() });
    refused(set_busy(&first).await, Code::Unavailable, "AGENT_SWITCHOVER", "refused");
    set_busy(&second).await.expect("accepted");
    assert_eq!(requests(&site), 2);
}

/// The replica that was refused remembers that, and the other one has made the change since.
#[tokio::test]
async fn what_became_of_a_change_is_known_where_an_earlier_attempt_was_refused() {
    let (_server, site, [first, second]) = Box::pin(two()).await;
    fail(&site, Fault::Retcode { retcode: "000-004".into(), message: String::new() });
    refused(set_busy(&first).await, Code::Unavailable, "AGENT_SWITCHOVER", "refused");
    set_busy(&second).await.expect("accepted");
    until_asked("it is shared", async || matches!(became(&first).await, Ok(Some(What::Change(_)))))
        .await;
}

#[tokio::test]
async fn a_change_is_under_way_where_an_earlier_attempt_was_refused_and_another_replica_makes_it() {
    let (_server, site, [first, second]) = Box::pin(two()).await;
    fail(&site, Fault::Retcode { retcode: "000-004".into(), message: String::new() });
    refused(set_busy(&first).await, Code::Unavailable, "AGENT_SWITCHOVER", "refused");
    fail(&site, Fault::Delay(Duration::from_secs(1)));
    let mut states = second.states.clone();
    let making = tokio::spawn(async move { states.set_busy(busy(200)).await });
    until("the request is sent", || requests(&site) == 2).await;
    let became = became(&first).await;
    assert!(matches!(became, Ok(Some(What::UnderWay(_)))), "{became:?}");
    making.await.expect("no panic").expect("accepted");
}

#[tokio::test]
async fn what_a_change_came_to_is_shared_once_redis_takes_it() {
    let (server, site, [first, second]) = Box::pin(two()).await;
    let mut attacker = Attacker::of(&server).await;
    fail(&site, Fault::Delay(Duration::from_millis(500)));
    let mut states = first.states.clone();
    let making = tokio::spawn(async move { states.set_busy(busy(200)).await });
    until("the request is sent", || requests(&site) == 1).await;
    let _: () = attacker.ask(&["CONFIG", "SET", "maxmemory", "1"]).await;
    making.await.expect("no panic").expect("accepted");
    assert!(matches!(became(&second).await, Ok(Some(What::UnderWay(_)))));
    let _: () = attacker.ask(&["CONFIG", "SET", "maxmemory", "0"]).await;
    let is_told = async || matches!(became(&second).await, Ok(Some(What::Change(_))));
    until_asked("it is shared", is_told).await;
    set_busy(&second).await.expect("as before");
    assert_eq!(requests(&site), 1);
}

/// The first attempt is refused for the moment while Redis hangs, and the second one begins before Redis is back.
async fn attempts_while_redis_hangs(is_accepted: bool) {
    let (server, site, [first, second]) = Box::pin(two()).await;
    let mut attacker = Attacker::of(&server).await;
    let refusal = || Fault::Retcode { retcode: "000-004".into(), message: String::new() };
    fail(&site, refusal());
    site.gateway.freeze();
    let mut states = first.states.clone();
    let earlier = tokio::spawn(async move { states.set_busy(busy(200)).await });
    let is_stored =
        async || attacker.ask::<u64>(&["EXISTS", &key(&format!("change:{ID}"))]).await > 0;
    until_asked("the record", is_stored).await;
    server.freeze();
    site.gateway.thaw();
    let earlier = earlier.await.expect("no panic");
    refused(earlier, Code::Unavailable, "AGENT_SWITCHOVER", "refused");
    if !is_accepted {
        fail(&site, refusal());
    }
    assert_eq!(set_busy(&first).await.is_ok(), is_accepted);
    server.thaw();
    if is_accepted {
        // Until then Redis may have the end of the first attempt, which it had received before it hung.
        let is_told = async || matches!(became(&second).await, Ok(Some(What::Change(_))));
        until_asked("it is shared", is_told).await;
    }
    set_busy(&second).await.expect("as before, or made now");
    assert_eq!(requests(&site), if is_accepted { 2 } else { 3 });
}

#[tokio::test]
async fn a_change_that_is_made_at_the_second_attempt_while_redis_hangs_is_made_once() {
    Box::pin(attempts_while_redis_hangs(true)).await;
}

#[tokio::test]
async fn an_id_is_free_after_two_attempts_while_redis_hangs() {
    Box::pin(attempts_while_redis_hangs(false)).await;
}

#[tokio::test]
async fn an_id_is_free_where_the_store_took_its_record_after_the_caller_had_left() {
    let (server, site) = (RedisServer::start().await, callee::site().await);
    let store = callee::on_redis(&server, "timeouts.command = \"1m\"");
    let bridge = Box::pin(callee::on(&site, PASSWORD, store)).await;
    bridge.sign_in(1001).await.expect("signed in");
    // Redis knows the script from now on.
    bridge.call(another()).await.expect("accepted");
    Change::CancelBusy.ask(&bridge.states, 1001).await.expect("accepted");
    server.freeze();
    let mut hurried = Request::new(busy(200));
    hurried.set_timeout(Duration::from_millis(300));
    let answer = bridge.states.clone().set_busy(hurried).await;
    refused(answer, Code::DeadlineExceeded, "DEADLINE", "not_sent");
    server.thaw();
    set_busy(&bridge).await.expect("accepted");
    assert_eq!(requests(&site), 2);
}

/// Passes everything on between a bridge and Redis, and closes the connection in place of the first answer to a
/// request that names the id.
async fn lossy(server: &RedisServer) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let (own, redis) = (listener.local_addr().expect("bound").port(), server.port());
    let is_lost = Arc::new(AtomicBool::new(false));
    tokio::spawn(async move {
        while let Ok((bridge, _)) = listener.accept().await {
            let redis = TcpStream::connect(("127.0.0.1", redis)).await.expect("Redis answers");
            tokio::spawn(pass_on(bridge, redis, is_lost.clone()));
        }
    });
    format!("redis://127.0.0.1:{own}")
}

async fn pass_on(mut bridge: TcpStream, mut redis: TcpStream, is_lost: Arc<AtomicBool>) {
    let (mut asked, mut told) = ([0; 8192], [0; 8192]);
    loop {
        tokio::select! {
            Ok(length @ 1..) = bridge.read(&mut asked) => {
                let asked = &asked[..length];
                redis.write_all(asked).await.expect("written");
                let names_id = asked.windows(ID.len()).any(|part| part == ID.as_bytes());
                let is_known = || asked.windows(4).any(|part| part == b"EVAL");
                if names_id && is_known() && !is_lost.swap(true, Ordering::Relaxed) {
                    let _answered = redis.read(&mut told).await;
                    return;
                }
            }
            Ok(length @ 1..) = redis.read(&mut told) => {
                if bridge.write_all(&told[..length]).await.is_err() {
                    return;
                }
            }
            else => return,
        }
    }
}

#[tokio::test]
async fn a_record_whose_answer_was_lost_is_not_taken_for_another_calls() {
    let (server, site) = (RedisServer::start().await, callee::site().await);
    // Redis knows the script from now on.
    let first = Box::pin(callee::start(&site, &server)).await;
    first.sign_in(1001).await.expect("signed in");
    first.call(another()).await.expect("accepted");
    first.stop().await;

    let url = lossy(&server).await;
    let store = format!("{}key_prefix = \"test:\"\n", in_redis(&url));
    let bridge = Box::pin(callee::on(&site, PASSWORD, store)).await;
    Change::CancelBusy.ask_once(&bridge.states, 1001, ID).await.expect("accepted");
}

#[tokio::test]
async fn whoever_waits_for_a_change_of_another_replica_is_answered_when_its_own_one_stops() {
    let (_server, site, [first, second]) = Box::pin(two()).await;
    fail(&site, Fault::Hang);
    let one = tokio::spawn({
        let mut states = first.states.clone();
        async move { states.set_busy(busy(200)).await }
    });
    until("the request is sent", || requests(&site) == 1).await;
    let waiting = tokio::spawn({
        let mut states = second.states.clone();
        let mut request = Request::new(busy(200));
        request.set_timeout(Duration::from_secs(60));
        async move { states.set_busy(request).await }
    });
    until_asked("it waits", async || {
        let open =
            |(name, count): (String, f64)| name.starts_with("ccgw_calls_open") && count > 0.0;
        second.scrape().await.into_iter().any(open)
    })
    .await;
    second.stop().await;
    refused(waiting.await.expect("told"), Code::Unknown, "GATEWAY_NO_ANSWER", "unknown");
    one.abort();
}

#[tokio::test]
async fn a_change_that_may_have_been_made_is_made_at_no_other_replica() {
    let (_server, site, [first, second]) = Box::pin(two()).await;
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
    let (mut server, site, [first, _second]) = Box::pin(two()).await;
    server.kill().await;
    for _ in 0..3 {
        set_busy(&first).await.expect("accepted");
    }
    assert_eq!(requests(&site), 1);
}

#[tokio::test]
async fn what_no_replica_has_written_is_not_believed() {
    let (server, site, [first, second]) = Box::pin(two()).await;
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
