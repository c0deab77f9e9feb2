//! A bridge whose store is shared, as callers see it.

use std::time::Duration;

use ccgateway_bridge::{
    config,
    keyring::EncryptionKey,
    rpc::proto::{SetBusyRequest, SignInRequest},
    server::Drained,
    session::{SessionFile, SessionStore as _},
};
use ccgateway_sim::{Fault, Interface, Misbehaviour, Simulator};
use ccgateway_test_support::{PASSWORD, RedisServer, STORE_KEY, in_file, key, until_asked};
use tonic::{Code, Status};
use tonic_types::StatusExt as _;

use crate::{
    callee::{self, CREDENTIALS, sign_ins},
    support::{CAPACITY, Replica, agent, all_listen, eventually, tenant},
    topologies::ask,
};

#[tokio::test]
async fn what_one_replica_signs_in_serves_the_other() {
    let (server, site) = (RedisServer::start().await, callee::site().await);
    let gateway = &site.gateway;
    let left = callee::start(&site, &server).await;
    let right = callee::start(&site, &server).await;
    left.set_busy(1001).await.expect("accepted");
    right.set_busy(1001).await.expect("accepted");
    assert_eq!(sign_ins(gateway), 1);
    assert_eq!(left.session(1001).await.guid_version, right.session(1001).await.guid_version);
}

#[tokio::test]
async fn callers_and_operators_are_told_that_redis_takes_no_writes() {
    let (server, site) = (RedisServer::start().await, callee::site().await);
    let bridge = callee::start(&site, &server).await;
    let _: () = ask(&server, &["CONFIG", "SET", "maxmemory", "1"]).await;
    bridge.set_busy(1001).await.expect("signed in, and known here");
    let status = bridge.set_busy(1003).await.expect_err("another replica may know the agent");
    assert_eq!(status.code(), Code::Unavailable);
    let reason = status.get_details_error_info().expect("ErrorInfo").reason;
    assert_eq!(reason, "STORE_UNAVAILABLE");
    assert!(status.message().contains("refuses writes"), "{status:?}");

    let ready = bridge.ask("GET /readyz?verbose").await.1;
    let words = "store: refuses writes, OOM command not allowed when used memory > 'maxmemory'.; \
                 its memory is full";
    assert!(ready.contains(words), "{ready}");
    assert!(bridge.ask("GET /").await.1.contains("refuses writes"));
    let answer = bridge.ask("GET /status.json").await.1;
    let status: serde_json::Value = serde_json::from_str(&answer).expect("JSON");
    assert_eq!(status["store"]["state"], "refuses_writes");
    let metrics = bridge.ask("GET /metrics").await.1;
    assert!(metrics.contains("ccgw_store_state{state=\"refuses_writes\"} 1"), "{metrics}");
    assert!(metrics.contains("ccgw_store_state{state=\"up\"} 0"), "{metrics}");
}

/// The gateway has answered by then, and that is what the caller has to hear.
#[tokio::test]
async fn a_call_is_answered_as_it_was_when_the_store_fails_after_it() {
    let (mut server, site) = (RedisServer::start().await, callee::site().await);
    let gateway = &site.gateway;
    let other = callee::start(&site, &server).await;
    for agent in [1002, 1003] {
        other.sign_in(agent).await.expect("signed in");
    }
    // It has room for one of them, and has to ask Redis where the session of the other one is changed.
    let small = "[tenants.acme.limits]\nsessions = 1";
    let bridge = callee::with(&site, &server, PASSWORD, small).await;
    bridge.set_busy(1002).await.expect("accepted");
    gateway.set_guid_on_next_reply(1003);
    gateway.freeze();
    let asked = |gateway: &Simulator| {
        let journal = gateway.journal();
        journal.iter().filter(|entry| entry.interface == Some(Interface::SayBusy)).count()
    };
    let failing = async {
        eventually("the request", || asked(gateway) == 2).await;
        server.kill().await;
        gateway.thaw();
    };
    let (answer, ()) = tokio::join!(bridge.set_busy(1003), failing);
    answer.expect("it was carried out");
    assert_eq!(asked(gateway), 2);
    let metrics = bridge.ask("GET /metrics").await.1;
    let unstored = "ccgw_session_changes_unstored_total{tenant=\"acme\"} 1";
    assert!(metrics.contains(unstored), "{metrics}");
}

/// Also where sessions are not kept by polls.
#[tokio::test]
async fn first_calls_at_two_replicas_at_once_need_one_sign_in() {
    let (server, site) = (RedisServer::start().await, callee::site().await);
    let gateway = &site.gateway;
    let left = callee::start(&site, &server).await;
    let right = callee::start(&site, &server).await;
    let slow = Fault::DelayBefore(Duration::from_millis(300));
    gateway.misbehave(Misbehaviour::always(slow).on(Interface::SignIn));
    let (one, other) = tokio::join!(left.set_busy(1001), right.set_busy(1001));
    one.expect("accepted");
    other.expect("accepted");
    assert_eq!(sign_ins(gateway), 1);
}

#[tokio::test]
async fn calls_for_one_agent_at_two_replicas_at_once_are_both_carried_out() {
    let (server, site) = (RedisServer::start().await, callee::site().await);
    let gateway = &site.gateway;
    let left = callee::start(&site, &server).await;
    let right = callee::start(&site, &server).await;
    left.set_busy(1001).await.expect("accepted");
    let slow = Fault::DelayBefore(Duration::from_millis(100));
    gateway.misbehave(Misbehaviour::always(slow).on(Interface::SayBusy));
    for _ in 0..5 {
        let (one, other) = tokio::join!(left.set_busy(1001), right.set_busy(1001));
        one.expect("accepted");
        other.expect("accepted");
    }
    assert!(!gateway.violations().is_empty(), "they met");
}

#[tokio::test]
async fn a_guid_that_was_refused_is_looked_up_before_anybody_signs_in() {
    let (server, site) = (RedisServer::start().await, callee::site().await);
    let gateway = &site.gateway;
    let left = callee::start(&site, &server).await;
    let right = callee::start(&site, &server).await;
    left.set_busy(1001).await.expect("accepted");
    let good = left.session(1001).await.guid_version;
    let insider = Replica::with_keys(&server, &[STORE_KEY]);
    let known = insider.store.load(agent(1001)).await.unwrap().expect("readable");
    // The right one believes a wrong Guid, and a better one is stored without a word to it.
    right.register(1001, "stale.AgentGateway0").await.expect("registered");
    assert!(right.session(1001).await.guid_version > good);
    let elsewhere = RedisServer::start().await;
    let aside = Replica::with_keys(&elsewhere, &[STORE_KEY]);
    let guid = known.guid.header().to_str().expect("text");
    let better = aside.put(1001, guid).await.version;
    let key = aside.shared.keys(&tenant()).session(agent(1001));
    let fields: Vec<Vec<u8>> = ::redis::cmd("HGETALL")
        .arg(&key)
        .query_async(&mut elsewhere.connection().await)
        .await
        .expect("a record");
    let mut copy = ::redis::cmd("HSET");
    copy.arg(&key).arg(fields);
    let _: () = copy.query_async(&mut server.connection().await).await.expect("copied");

    right.set_busy(1001).await.expect("repeated with the better one");
    assert_eq!(sign_ins(gateway), 1);
    assert_eq!(right.session(1001).await.guid_version, better);
}

#[tokio::test]
async fn without_redis_known_agents_are_served_and_others_signed_in_or_put_off() {
    let (mut server, site) = (RedisServer::start().await, callee::site().await);
    let gateway = &site.gateway;
    let first = callee::start(&site, &server).await;
    first.set_busy(1001).await.expect("accepted");
    assert_eq!(sign_ins(gateway), 1);
    server.kill().await;
    first.set_busy(1001).await.expect("served from memory");
    assert_eq!(sign_ins(gateway), 1);

    // One that knows nobody: at most one sign-in.
    let second = callee::start(&site, &server).await;
    for _ in 0..3 {
        second.set_busy(1001).await.expect("signed in by itself");
    }
    assert_eq!(sign_ins(gateway), 2);
    for refused in
        [second.set_busy(1002).await.map(drop), second.find_session(1002).await.map(drop)]
    {
        let status = refused.expect_err("nobody can know");
        let details = status.get_error_details();
        let info = details.error_info().expect("ErrorInfo");
        assert_eq!((status.code(), info.reason.as_str()), (Code::Unavailable, "STORE_UNAVAILABLE"));
        assert_eq!(info.metadata["outcome"], "not_sent");
        assert!(details.retry_info().is_some());
    }
}

#[tokio::test]
async fn a_warm_call_asks_redis_nothing() {
    let (server, site) = (RedisServer::start().await, callee::site().await);
    let bridge = callee::start(&site, &server).await;
    all_listen(&server, 1).await;
    bridge.set_busy(1001).await.expect("signed in");
    let mut least = u64::MAX;
    // What a replica does by itself falls into one round and not into all.
    for _ in 0..5 {
        let before = commands(&server).await;
        for _ in 0..50 {
            bridge.set_busy(1001).await.expect("served from memory");
        }
        least = least.min(commands(&server).await - before);
    }
    assert_eq!(least, 0);
}

/// How many commands a server has carried out, without those that only look after a connection.
async fn commands(server: &RedisServer) -> u64 {
    let mut question = ::redis::cmd("INFO");
    let info: String = question
        .arg("commandstats")
        .query_async(&mut server.connection().await)
        .await
        .expect("answered");
    let count = |line: &str| {
        let (command, rest) = line.strip_prefix("cmdstat_")?.split_once(":calls=")?;
        let about_connections = ["info", "ping", "client", "subscribe", "hello"];
        let counts = !about_connections.iter().any(|name| command.starts_with(name));
        counts.then(|| rest.split(',').next()?.parse::<u64>().ok())?
    };
    info.lines().filter_map(count).sum()
}

#[tokio::test]
async fn a_password_that_was_rejected_at_one_replica_is_not_tried_at_another() {
    let (server, site) = (RedisServer::start().await, callee::site().await);
    let gateway = &site.gateway;
    let left = callee::with(&site, &server, "canary-wrong", "").await;
    let right = callee::with(&site, &server, "canary-wrong", "").await;
    let first = left.set_busy(1001).await.expect_err("rejected");
    let second = right.set_busy(1001).await.expect_err("known to be rejected");
    assert_eq!(sign_ins(gateway), 1);
    assert_eq!((second.code(), second.message()), (first.code(), first.message()));
    let of = |status: &Status| {
        let details = status.get_error_details();
        let metadata = &details.error_info().expect("ErrorInfo").metadata;
        ["outcome", "retcode", "gateway_message"].map(|key| metadata[key].clone())
    };
    assert_eq!(of(&second), of(&first));

    let mended = callee::with(&site, &server, PASSWORD, "").await;
    mended.set_busy(1001).await.expect("another password is tried");
    assert_eq!(sign_ins(gateway), 2);
}

#[tokio::test]
async fn wrong_passwords_that_come_in_turns_at_two_replicas_reach_the_gateway_once_each() {
    let (server, site) = (RedisServer::start().await, callee::site().await);
    let left = callee::start(&site, &server).await;
    let right = callee::start(&site, &server).await;
    for bridge in [&left, &right, &left, &right] {
        for password in ["wrong", "wrong too"] {
            let (agent_id, password) = ("1002".into(), Some(password.into()));
            let request = SignInRequest { agent_id, password, ..<_>::default() };
            let status = bridge.sessions.clone().sign_in(request).await.expect_err("rejected");
            assert_eq!(status.code(), Code::FailedPrecondition);
        }
    }
    assert_eq!(sign_ins(&site.gateway), 2);
}

/// The next replica knows the password, and what the configuration says of the rest.
#[tokio::test]
async fn of_a_sign_in_only_the_password_is_shared() {
    let (server, site) = (RedisServer::start().await, callee::site().await);
    let first = callee::with(&site, &server, PASSWORD, CREDENTIALS).await;
    let request = SignInRequest {
        agent_id: "1002".into(),
        password: Some(PASSWORD.into()),
        phone_number: Some("79999".into()),
        force: true,
        ..<_>::default()
    };
    first.sessions.clone().sign_in(request).await.expect("signed in");
    drop(first);
    site.gateway.take_over(1002).expect("signed in");
    site.gateway.clear_journal();

    let second = callee::with(&site, &server, PASSWORD, CREDENTIALS).await;
    let status = second.set_busy(1002).await.expect_err("another client has the agent");
    assert_eq!(status.code(), Code::AlreadyExists);
    let asked = ccgateway_test_support::asked(&site.gateway, Interface::SignIn);
    let bodies: Vec<_> = asked.iter().map(|entry| String::from_utf8_lossy(&entry.body)).collect();
    assert_eq!(bodies, [format!(r#"{{"password":"{PASSWORD}","phonenum":""}}"#)]);
    let forced = ccgateway_test_support::asked(&site.gateway, Interface::ForceSignIn);
    assert!(forced.is_empty());
}

/// Also by a replica that a caller once gave the password to.
#[tokio::test]
async fn no_replica_uses_a_callers_password_after_the_owner_has_registered_a_guid() {
    let (server, site) = (RedisServer::start().await, callee::site().await);
    let first = callee::with(&site, &server, PASSWORD, CREDENTIALS).await;
    let second = callee::with(&site, &server, PASSWORD, CREDENTIALS).await;
    all_listen(&server, 2).await;
    first.sign_in(1002).await.expect("signed in");
    let guid = site.gateway.take_over(1002).expect("signed in");
    second.register(1002, &guid).await.expect("registered");
    assert!(!has_credentials(&server).await);
    let version = second.session(1002).await.guid_version;
    let hears = async || first.session(1002).await.guid_version == version;
    until_asked("the first one to hear of it", hears).await;
    site.gateway.take_over(1002).expect("signed in");
    for bridge in [&second, &first, &second, &first] {
        bridge.set_busy(1002).await.expect_err("the owner has to register another");
    }
    assert_eq!(sign_ins(&site.gateway), 1);
}

#[tokio::test]
async fn a_sign_in_without_a_guid_at_one_replica_is_not_tried_at_another() {
    let (server, site) = (RedisServer::start().await, callee::site().await);
    let gateway = &site.gateway;
    let left = callee::start(&site, &server).await;
    let right = callee::start(&site, &server).await;
    let without_guid = Fault::Status {
        status: 200,
        headers: Vec::new(),
        body: br#"{"message":"","retcode":"0"}"#.to_vec(),
        content_type: "application/json".into(),
    };
    gateway.misbehave(Misbehaviour::once(without_guid).on(Interface::SignIn));
    let first = left.set_busy(1001).await.expect_err("of no use");
    assert_eq!(first.code(), Code::Internal, "{first:?}");
    for callee in [&right, &left] {
        let held_back = callee.set_busy(1001).await.expect_err("not tried");
        let details = held_back.get_error_details();
        let info = details.error_info().expect("ErrorInfo");
        assert_eq!(info.reason, "SIGN_IN_WITHOUT_GUID");
        assert_eq!(info.metadata["outcome"], "not_sent");
    }
    assert_eq!(sign_ins(gateway), 1);
    right.sign_in(1002).await.expect("the other agents are not held back");
}

/// Where what agent 1002 was signed in with is.
async fn has_credentials(server: &RedisServer) -> bool {
    let mut question = ::redis::cmd("EXISTS");
    question.arg("test:{acme}:credentials:1002");
    question.query_async(&mut server.connection().await).await.expect("answered")
}

#[tokio::test]
async fn an_agent_whom_a_caller_signed_in_is_signed_in_again_by_another_replica_if_that_is_wanted()
{
    for (wanted, store) in [(true, CREDENTIALS), (false, "")] {
        let (server, site) = (RedisServer::start().await, callee::site().await);
        let gateway = &site.gateway;
        let first = callee::with(&site, &server, PASSWORD, store).await;
        first.sign_in(1002).await.expect("signed in");
        assert_eq!(has_credentials(&server).await, wanted);
        drop(first);
        gateway.sign_out(1002);

        let second = callee::with(&site, &server, PASSWORD, store).await;
        let answer = second.set_busy(1002).await;
        assert_eq!(answer.is_ok(), wanted, "{answer:?}");
        assert_eq!(sign_ins(gateway), 1 + usize::from(wanted));
    }
}

/// Also where its file has another one, which may be outdated.
#[tokio::test]
async fn the_password_that_a_caller_gave_is_used_by_another_replica_before_the_files() {
    let (server, site) = (RedisServer::start().await, callee::site().await);
    let first = callee::with(&site, &server, "canary-outdated", CREDENTIALS).await;
    first.sign_in(1001).await.expect("signed in");
    drop(first);
    site.gateway.sign_out(1001);
    let second = callee::with(&site, &server, "canary-outdated", CREDENTIALS).await;
    second.set_busy(1001).await.expect("signed in with the caller's");
    assert_eq!(sign_ins(&site.gateway), 2);
}

#[tokio::test]
async fn passwords_are_shared_again_if_redis_has_lost_them() {
    let (server, site) = (RedisServer::start().await, callee::site().await);
    let bridge = callee::with(&site, &server, PASSWORD, CREDENTIALS).await;
    all_listen(&server, 1).await;
    bridge.sign_in(1002).await.expect("signed in");
    let _: () = ask(&server, &["FLUSHALL"]).await;
    assert!(!has_credentials(&server).await);
    // Its replica may have missed something, and compares.
    let _: u64 = ask(&server, &["CLIENT", "KILL", "TYPE", "pubsub"]).await;
    until_shared(&server).await;
    drop(bridge);
    site.gateway.sign_out(1002);
    let second = callee::with(&site, &server, PASSWORD, CREDENTIALS).await;
    second.set_busy(1002).await.expect("signed in again");
}

#[tokio::test]
async fn a_password_that_was_given_while_redis_was_away_is_shared_later() {
    let (mut server, site) = (RedisServer::start().await, callee::site().await);
    let bridge = callee::with(&site, &server, PASSWORD, CREDENTIALS).await;
    server.kill().await;
    bridge.sign_in(1002).await.expect("signed in");
    server.restart().await;
    until_shared(&server).await;
    bridge.sign_out(1002).await.expect("signed out");
    assert!(!has_credentials(&server).await);
}

/// It answers, so that nobody waits for it to come back.
#[tokio::test]
async fn a_password_that_was_given_while_redis_took_no_writes_is_shared_later() {
    let (server, site) = (RedisServer::start().await, callee::site().await);
    let bridge = callee::with(&site, &server, PASSWORD, CREDENTIALS).await;
    all_listen(&server, 1).await;
    let _: () = ask(&server, &["CONFIG", "SET", "maxmemory", "1"]).await;
    bridge.sign_in(1002).await.expect("signed in");
    let _: () = ask(&server, &["CONFIG", "SET", "maxmemory", "0"]).await;
    until_shared(&server).await;
}

/// Whatever somebody else has put in the places of their sessions.
#[tokio::test]
async fn passwords_are_shared_again_also_if_those_of_others_cannot_be() {
    let (server, site) = (RedisServer::start().await, callee::site().await);
    let bridge = callee::with(&site, &server, PASSWORD, CREDENTIALS).await;
    all_listen(&server, 1).await;
    for agent in 1002..1010 {
        bridge.sign_in(agent).await.expect("signed in");
    }
    for agent in 1003..1010 {
        let _: () = ask(&server, &["SET", &format!("test:{{acme}}:session:{agent}"), "x"]).await;
        let _: u64 = ask(&server, &["DEL", &format!("test:{{acme}}:credentials:{agent}")]).await;
    }
    let _: u64 = ask(&server, &["DEL", "test:{acme}:credentials:1002"]).await;
    let _: u64 = ask(&server, &["CLIENT", "KILL", "TYPE", "pubsub"]).await;
    until_shared(&server).await;
}

/// Waits until Redis has what agent 1002 was signed in with.
async fn until_shared(server: &RedisServer) {
    until_asked("the password to be shared", async || has_credentials(server).await).await;
}

#[tokio::test]
async fn passwords_that_all_replicas_have_in_a_file_are_not_shared() {
    let (server, site) = (RedisServer::start().await, callee::site().await);
    let bridge = callee::with(&site, &server, PASSWORD, CREDENTIALS).await;
    bridge.set_busy(1001).await.expect("signed in");
    let mut question = ::redis::cmd("KEYS");
    let found: Vec<String> = question
        .arg("*:credentials:*")
        .query_async(&mut server.connection().await)
        .await
        .expect("answered");
    assert_eq!(found, Vec::<String>::new());
}

#[tokio::test]
async fn an_agent_that_signed_out_is_not_signed_in_again() {
    let (server, site) = (RedisServer::start().await, callee::site().await);
    let gateway = &site.gateway;
    let first = callee::with(&site, &server, PASSWORD, CREDENTIALS).await;
    let second = callee::with(&site, &server, PASSWORD, CREDENTIALS).await;
    first.sign_in(1002).await.expect("signed in");
    second.sign_out(1002).await.expect("signed out");
    assert!(!has_credentials(&server).await);
    // Not even by the one that was told the password.
    for bridge in [first, second] {
        let status = bridge.set_busy(1002).await.expect_err("nobody is to");
        assert_eq!(status.code(), Code::FailedPrecondition);
    }
    assert_eq!(sign_ins(gateway), 1);
}

#[tokio::test]
async fn a_password_that_was_changed_is_shared_no_longer() {
    let (server, site) = (RedisServer::start().await, callee::site().await);
    let gateway = &site.gateway;
    let first = callee::with(&site, &server, PASSWORD, CREDENTIALS).await;
    first.sign_in(1002).await.expect("signed in");
    drop(first);
    gateway.sign_out(1002);
    let rejected = Fault::Retcode { retcode: "100-004".into(), message: String::new() };
    gateway.misbehave(Misbehaviour::always(rejected).on(Interface::SignIn));
    let second = callee::with(&site, &server, PASSWORD, CREDENTIALS).await;
    second.set_busy(1002).await.expect_err("rejected");
    assert!(!has_credentials(&server).await);
}

/// A caller that tries passwords for all ids must not fill the shared store or the file.
#[tokio::test]
async fn no_more_rejected_passwords_are_stored_than_sessions_may_be() {
    let (server, site) = (RedisServer::start().await, callee::site().await);
    let limits = "[tenants.acme.limits]\nsessions = 3";
    let bridge = callee::with(&site, &server, PASSWORD, limits).await;
    for id in 2001..2011 {
        let (agent_id, password) = (u32::to_string(&id), Some("canary-wrong".into()));
        let request = SignInRequest { agent_id, password, ..<_>::default() };
        bridge.sessions.clone().sign_in(request).await.expect_err("rejected");
    }
    let keys: Vec<String> = ask(&server, &["KEYS", "*:rejected:*"]).await;
    assert_eq!(keys.len(), 3, "{keys:?}");
}

#[tokio::test]
async fn a_drain_that_is_cut_short_leaves_the_file_to_the_next_process() {
    let site = callee::site().await;
    let gateway = &site.gateway;
    let callee = callee::on(&site, PASSWORD, in_file()).await;
    callee.set_busy(1001).await.expect("signed in");
    gateway.freeze();
    let states = callee.states.clone();
    let hanging = tokio::spawn(async move {
        let request =
            SetBusyRequest { agent_id: "1001".into(), reason: Some(200), ..<_>::default() };
        states.clone().set_busy(request).await
    });
    let asked = || {
        let journal = gateway.journal();
        journal.iter().filter(|entry| entry.interface == Some(Interface::SayBusy)).count()
    };
    eventually("the call to hang", || asked() == 2).await;
    let drained = callee.bridge.drain().await;
    assert!(matches!(drained, Drained::CutShort { .. }), "{drained:?}");
    // It is stored, and nobody has the file open any more.
    let file = config::FileStore {
        path: site.path("sessions.redb"),
        encryption_keys: vec![EncryptionKey::new(key(STORE_KEY))],
        credentials: false,
    };
    let file = SessionFile::open(&file, [(tenant(), CAPACITY)].into()).await.expect("it is free");
    assert_eq!(file.store(&tenant(), CAPACITY).len(), 1);
    gateway.thaw();
    drop(hanging);
}
