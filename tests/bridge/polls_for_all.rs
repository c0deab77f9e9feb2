//! One poll brings the events of all agents of a node, and keeps their sessions alive (`keep.poll = "all"`).

use std::{collections::BTreeSet, time::Duration};

use ccgateway_bridge::rpc::proto::{SessionState, watch_events_response::What};
use ccgateway_sim::{AuthMode, Fault, Interface, Misbehaviour, Options, Polls};
use ccgateway_test_support::{AGENT, Setup, TestBridge, until, until_asked};
use tokio::time::Instant;

/// Fifty of the gateway's seconds pass in one of ours.
const SCALE: u32 = 50;
const BUSY: &str = "AgentState_SetNotReady_Success";
const POLL_ALL: &str = "keep.pause_min = \"5ms\"\nkeep.pause_max = \"10ms\"\nkeep.poll = \"all\"\n";
const POLL_EACH: &str = "keep.pause_min = \"5ms\"\nkeep.pause_max = \"10ms\"\n";

fn setup(gateway: Options, tenant: &str) -> Setup {
    Setup { gateway, tenant: tenant.to_owned(), keep: true, ..<_>::default() }
}

fn all() -> Options {
    Options { polls: Polls::All, ..<_>::default() }
}

/// A bridge with so many agents, whose first events have come.
async fn polling(gateway: Options, tenant: &str, agents: u32) -> TestBridge {
    let bridge = TestBridge::with(setup(gateway, &format!("{POLL_ALL}{tenant}"))).await;
    for agent in AGENT..AGENT + agents {
        let mut watching = bridge.watch(&[agent], None).await;
        bridge.sign_in(agent).await.expect("signed in");
        watching.event("AgentState_Ready").await;
    }
    bridge
}

/// Makes an agent busy, and waits for its event.
async fn busy(bridge: &TestBridge, agent: u32) {
    let mut watching = bridge.watch(&[agent], None).await;
    bridge.set_busy(agent).await.expect("busy");
    let event = watching.event(BUSY).await;
    assert_eq!(event.agent_id, agent.to_string());
}

fn is_signed_in(bridge: &TestBridge, agent: u32) -> bool {
    bridge.gateway.agent(agent).is_some_and(|agent| agent.signed_in)
}

#[tokio::test]
async fn events_of_many_agents_come_over_one_connection_to_the_agents_they_are_about() {
    let bridge = polling(all(), "", 30).await;
    let mut watching = bridge.watch(&[], None).await;
    for agent in AGENT..AGENT + 30 {
        bridge.set_busy(agent).await.expect("busy");
        assert_eq!(watching.event(BUSY).await.agent_id, agent.to_string());
        assert_eq!(bridge.session(agent).await.state(), SessionState::Kept);
    }
    assert!(bridge.asked(Interface::Poll).is_empty(), "no agent is polled for alone");
    // One for the poll, and one for what else is asked, one request after the other. Connections may have been replaced.
    let connections = bridge.gateway.connections();
    assert!(connections <= 6, "{connections} connections for 30 agents");
}

#[tokio::test]
async fn each_node_is_polled() {
    let bridge = polling(Options { nodes: 2, ..all() }, "", 6).await;
    for agent in AGENT..AGENT + 6 {
        busy(&bridge, agent).await;
    }
    let guids = bridge.asked(Interface::PollAll);
    let nodes = guids.iter().filter_map(|poll| Some(poll.header("guid")?.rsplit_once('.')?.1));
    assert_eq!(nodes.collect::<BTreeSet<_>>().len(), 2, "a poll for each node");
}

#[tokio::test]
async fn an_answer_with_many_events_is_read() {
    let bridge = polling(all(), "", 1).await;
    let mut watching = bridge.watch(&[], None).await;
    // Not more than one answer is under way meanwhile, so one of two has half of them, which are 100 kB.
    bridge.gateway.freeze();
    let content = format!("\"{}\"", "x".repeat(10_000));
    for _ in 0..20 {
        assert!(bridge.gateway.tell(AGENT, "AgentOther_Bulletin", Some(&content)));
    }
    bridge.gateway.thaw();
    for _ in 0..20 {
        watching.event("AgentOther_Bulletin").await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn sessions_outlive_their_guids_although_only_one_of_them_polls() {
    let gateway = Options { time_scale: SCALE, ..all() };
    // A Guid lives for two of the gateway's minutes, which are 2.4 s.
    let bridge = polling(gateway, "keep.guid_interval = \"400ms\"\n", 10).await;
    let end = Instant::now() + Duration::from_secs(400) / SCALE;
    while Instant::now() < end {
        for agent in AGENT..AGENT + 10 {
            bridge.set_busy(agent).await.expect("kept");
        }
    }
    assert_eq!(bridge.asked(Interface::SignIn).len(), 10);
    assert_eq!(bridge.gateway.violations(), Vec::<String>::new());
}

#[tokio::test]
async fn an_agent_who_was_signed_out_is_signed_in_again_and_nobody_else_is() {
    for (auth_mode, tenant) in
        [(AuthMode::Dynamic, ""), (AuthMode::Static, "auth_mode = \"static\"\n")]
    {
        let bridge = polling(Options { auth_mode, ..all() }, tenant, 3).await;
        // The first one carries the poll, the others are told of by their events.
        for (agent, sign_ins) in [(AGENT + 1, 4), (AGENT, 5), (AGENT + 2, 6)] {
            bridge.gateway.sign_out(agent);
            until("the agent is back", || bridge.asked(Interface::SignIn).len() == sign_ins).await;
            until_asked("it is kept", async || {
                bridge.session(agent).await.state() == SessionState::Kept
            })
            .await;
            for agent in AGENT..AGENT + 3 {
                busy(&bridge, agent).await;
                bridge.gateway.force_idle(agent);
            }
        }
        assert_eq!(bridge.asked(Interface::SignIn).len(), 6, "{auth_mode:?}");
    }
}

/// A sign-in by force makes the gateway say that somebody has signed the agent out. That is no reason for another one.
#[tokio::test]
async fn a_session_that_was_lost_without_a_word_is_found_in_its_turn_and_made_anew_once() {
    let agents = vec![AGENT, AGENT + 1, AGENT + 2];
    let tenant = format!("{POLL_ALL}keep.guid_interval = \"200ms\"\n");
    let setup =
        Setup { credentials: agents.clone(), forced: agents.clone(), ..setup(all(), &tenant) };
    let bridge = TestBridge::with(setup).await;
    for agent in &agents {
        bridge.sign_in(*agent).await.expect("signed in");
    }
    let fault = Fault::Retcode { retcode: "100-006".into(), message: String::new() };
    let refused = Misbehaviour { times: Some(2), ..Misbehaviour::always(fault).of(AGENT + 1) };
    bridge.gateway.misbehave(refused.on(Interface::UpdateGuid));
    until("a sign-in by force", || bridge.asked(Interface::ForceSignIn).len() == 1).await;
    let of_it = |asked: Interface| {
        bridge.asked(asked).iter().filter(|asked| asked.agent == Some(AGENT + 1)).count()
    };
    let before = of_it(Interface::UpdateGuid);
    until("two more looks", || of_it(Interface::UpdateGuid) >= before + 2).await;
    assert_eq!(bridge.session(AGENT + 1).await.state(), SessionState::Kept);
    busy(&bridge, AGENT + 1).await;
    assert_eq!(bridge.asked(Interface::ForceSignIn).len(), 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_gateway_that_forgets_all_sessions_gets_its_agents_back_once() {
    let bridge = polling(all(), "keep.sign_ins_per_second = 200\n", 30).await;
    bridge.gateway.stop().await;
    bridge.gateway.restart(true).await.expect("restarted");
    let all_are = || (AGENT..AGENT + 30).all(|agent| is_signed_in(&bridge, agent));
    until("every agent is back", all_are).await;
    for agent in AGENT..AGENT + 30 {
        busy(&bridge, agent).await;
    }
    assert_eq!(bridge.asked(Interface::SignIn).len(), 60);
    assert_eq!(bridge.gateway.violations(), Vec::<String>::new());
}

#[tokio::test]
async fn the_poll_goes_on_with_another_agent_if_its_carrier_signs_out() {
    let bridge = polling(all(), "", 3).await;
    for agent in AGENT..AGENT + 2 {
        bridge.sign_out(agent).await.expect("signed out");
        busy(&bridge, AGENT + 2).await;
        bridge.gateway.force_idle(AGENT + 2);
    }
    bridge.sign_out(AGENT + 2).await.expect("signed out");
    bridge.sign_in(AGENT).await.expect("signed in");
    busy(&bridge, AGENT).await;
    assert_eq!(bridge.asked(Interface::SignIn).len(), 4);
}

#[tokio::test]
async fn events_of_agents_of_other_clients_are_counted_and_told_to_nobody() {
    let bridge = polling(all(), "", 1).await;
    let mut watching = bridge.watch(&[], None).await;
    bridge.gateway.sign_in(AGENT + 1);
    let foreign =
        async || bridge.scrape().await["ccgw_foreign_events_total{tenant=\"acme\"}"] >= 2.0;
    until_asked("its events", foreign).await;
    bridge.set_busy(AGENT).await.expect("busy");
    loop {
        let message = watching.next().await;
        assert_ne!(message.agent_id, (AGENT + 1).to_string(), "{message:?}");
        if matches!(&message.what, Some(What::GatewayEvent(event)) if event.type_name == BUSY) {
            break;
        }
    }
}

#[tokio::test]
async fn where_the_gateway_is_not_configured_for_it_each_agent_is_polled_for() {
    let bridge = polling(Options::default(), "", 3).await;
    for agent in AGENT..AGENT + 3 {
        busy(&bridge, agent).await;
    }
    assert_eq!(bridge.asked(Interface::PollAll).len(), 1, "it is asked once");
    let polled: BTreeSet<_> = bridge.asked(Interface::Poll).iter().map(|poll| poll.agent).collect();
    assert_eq!(polled.len(), 3);
    assert_eq!(bridge.asked(Interface::SignIn).len(), 3);
}

#[tokio::test]
async fn a_reload_changes_the_kind_of_polls_and_no_session_is_lost() {
    for (auth_mode, mode) in
        [(AuthMode::Dynamic, ""), (AuthMode::Static, "auth_mode = \"static\"\n")]
    {
        let options = || Options { auth_mode, ..all() };
        let each = || setup(options(), &format!("{POLL_EACH}{mode}"));
        let bridge = TestBridge::with(each()).await;
        for agent in [AGENT, AGENT + 1] {
            bridge.sign_in(agent).await.expect("signed in");
            until_asked("no polls for one agent are allowed", async || {
                bridge.session(agent).await.state() == SessionState::Unkept
            })
            .await;
        }
        bridge.reload(&setup(options(), &format!("{POLL_ALL}{mode}")));
        for agent in [AGENT, AGENT + 1] {
            busy(&bridge, agent).await;
            assert_eq!(bridge.session(agent).await.state(), SessionState::Kept, "{auth_mode:?}");
        }
        bridge.gateway.clear_journal();
        bridge.reload(&each());
        // An event ends the poll that is under way.
        bridge.gateway.tell(AGENT, "AgentOther_Note", None);
        until("polls for each", || bridge.asked(Interface::Poll).len() >= 2).await;
        assert!(bridge.asked(Interface::SignIn).is_empty(), "{auth_mode:?}");
    }
}

#[tokio::test]
async fn agents_are_signed_out_when_the_bridge_stops() {
    let bridge = polling(all(), "", 3).await;
    let gateway = bridge.gateway.clone();
    bridge.stop().await;
    let left: Vec<_> = (AGENT..AGENT + 3)
        .filter(|agent| gateway.agent(*agent).is_some_and(|agent| agent.signed_in))
        .collect();
    assert_eq!(left, Vec::<u32>::new());
}
