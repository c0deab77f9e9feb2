//! Agents whom no replica polls, although their sessions are stored.

use std::{collections::HashMap, time::Duration};

use ccgateway_bridge::session::SessionState;
use ccgateway_sim::{AuthMode, Fault, Interface, Misbehaviour, Options};
use ccgateway_test_support::{RedisServer, Setup, Site, TestBridge, asked, until, until_asked};
use redis::cmd;

use crate::callee::{on_redis, setup};

pub(crate) fn keeping(server: &RedisServer, tenant: &str) -> Setup {
    let pauses = "keep.pause_min = \"5ms\"\nkeep.pause_max = \"10ms\"\n";
    let (keep, tenant) = (true, format!("{pauses}{tenant}"));
    Setup { keep, tenant, ..setup(on_redis(server, "lease = \"2s\"")) }
}

/// Waits until a replica has taken several turns in which it could have begun to poll for this agent.
async fn turns(server: &RedisServer, agent: u32) {
    let lease = format!("test:{{acme}}:lease:{agent}");
    let mut connection = server.connection().await;
    let (mut last, mut renewals) = (Vec::new(), 0);
    until_asked("the lease to be renewed", async || {
        let found: Option<Vec<u8>> =
            cmd("GET").arg(&lease).query_async(&mut connection).await.expect("answered");
        let found = found.unwrap_or_default();
        renewals += usize::from(found != last);
        last = found;
        renewals > 4
    })
    .await;
}

fn entered(series: &HashMap<String, f64>, state: SessionState) -> f64 {
    let label = format!("state=\"{state}\"");
    let name = "ccgw_session_states_entered_total";
    let found = series.iter().find(|(key, _)| key.starts_with(name) && key.contains(&label));
    *found.expect("counted").1
}

#[tokio::test]
async fn an_agent_for_whom_the_gateway_allows_no_polls_is_polled_once_for_each_session() {
    let (auth_mode, server) = (AuthMode::Static, RedisServer::start().await);
    let site = Site::new(Options { auth_mode, ..Options::default() }).await;
    let refusal = Fault::Retcode { retcode: "000-001".into(), message: String::new() };
    site.gateway.misbehave(Misbehaviour::always(refusal).on(Interface::Poll));
    let setup = keeping(&server, "auth_mode = \"static\"\n");
    let bridge = Box::pin(TestBridge::at(&site, &setup)).await;
    let polls = || asked(&site.gateway, Interface::Poll).len();
    for sessions in 1..3 {
        bridge.set_busy(1001).await.expect("signed in");
        until("the poll", || polls() >= sessions).await;
        turns(&server, 1001).await;
        assert_eq!(polls(), sessions);
        bridge.sign_out(1001).await.expect("signed out");
    }
}

#[tokio::test]
async fn an_agent_who_is_not_the_tenants_any_more_is_let_go_once_and_taken_back() {
    // Longer than a replica takes to hand an agent over.
    let options = Options { poll_wait: Duration::from_secs(2), ..Options::default() };
    let (server, site) = (RedisServer::start().await, Site::new(options).await);
    let bridge = Box::pin(TestBridge::at(&site, &keeping(&server, ""))).await;
    let polls = |agent| {
        let polls = asked(&site.gateway, Interface::Poll);
        polls.iter().filter(|poll| poll.agent == Some(agent)).count()
    };
    bridge.set_busy(1001).await.expect("signed in");
    let mut events = bridge.watch(&[1002], None).await;
    bridge.sign_in(1002).await.expect("signed in");
    events.event("AgentState_Ready").await;
    let before = polls(1002);
    until("a poll without an event", || polls(1002) > before).await;
    let unkept = async || entered(&bridge.scrape().await, SessionState::Unkept);
    let before = unkept().await;
    bridge.reload(&keeping(&server, "agent_ids = \"101-1001\"\n"));
    until_asked("it to be let go", async || unkept().await > before).await;
    turns(&server, 1001).await;
    assert_eq!(unkept().await.to_bits(), (before + 1.0).to_bits());
    let doubts = bridge.scrape().await;
    let doubts = doubts.iter().find(|(name, _)| name.contains("reason=\"agent_id\""));
    assert_eq!(doubts.expect("counted").1.to_bits(), 0_f64.to_bits(), "nobody else has written it");

    bridge.reload(&keeping(&server, ""));
    site.gateway.clear_journal();
    until("it to be polled again", || polls(1002) > 0).await;
    assert!(asked(&site.gateway, Interface::SignIn).is_empty());
}
