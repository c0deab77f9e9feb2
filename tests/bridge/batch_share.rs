//! The share of a batch: never more than half of its tenant's requests, and nothing after its
//! caller has left.

use std::time::Duration;

use ccgateway_bridge::{
    client::Channel,
    rpc::proto::{
        BatchSetBusyRequest,
        agent_state_client::AgentStateClient,
        batch_set_busy_response::result::Result as Became,
        confirmation::{Reason, Status},
    },
};
use ccgateway_sim::{Entry, Fault, Interface, Misbehaviour, Options};
use ccgateway_test_support::{AGENT, Setup, changes::Change, keeping, refused, until, until_asked};
use tokio::task::JoinSet;
use tonic::Code;

use crate::{
    batch::{batch, outcomes, registered, request},
    overload::stranger,
};

const LONG: Duration = Duration::from_secs(30);
const SHORT: Duration = Duration::from_millis(500);

fn places(count: usize) -> String {
    format!("limits.requests = {count}\n")
}

/// How many requests of batches were open at once.
fn open_at_once(journal: &[Entry]) -> i32 {
    let of_batch = [Interface::SayBusy, Interface::AgentStatus].map(Some);
    let mut moments = Vec::new();
    for entry in journal.iter().filter(|entry| of_batch.contains(&entry.interface)) {
        moments.push((entry.at, 1));
        moments.push((entry.answer.as_ref().expect("answered").at, -1));
    }
    // Ends come before beginnings of the same moment.
    moments.sort_unstable();
    let mut open = 0;
    let each = moments.into_iter().map(|(_, change)| {
        open += change;
        open
    });
    each.max().unwrap_or_default()
}

#[tokio::test]
async fn two_batches_together_take_half_of_the_requests() {
    let gateway = Options { latency: Duration::from_millis(20), ..<_>::default() };
    let agents = AGENT..AGENT + 80;
    let bridge =
        registered(Setup { gateway, tenant: places(8), ..<_>::default() }, agents.clone()).await;
    let (half, rest) = (request(agents.clone().take(40)), request(agents.skip(40)));
    let (one, two) = tokio::join!(batch(&bridge, half, LONG), batch(&bridge, rest, LONG));
    assert_eq!(one.expect("an answer").error_count + two.expect("an answer").error_count, 0);
    assert_eq!(open_at_once(&bridge.gateway.journal()), 4, "all of the share, and no more");
}

#[tokio::test]
async fn a_caller_with_many_batches_keeps_no_others_batch_from_its_turn() {
    let bridge = registered(Setup { tenant: places(2), ..<_>::default() }, AGENT..AGENT + 21).await;
    bridge.gateway.freeze();
    let batches_open = async || {
        let series = bridge.scrape().await;
        series["ccgw_server_places_in_use{share=\"server_calls\"}"]
    };
    let ask = |states: &AgentStateClient<Channel>, agents| {
        let (mut states, request) = (states.clone(), request(agents));
        async move { states.batch_set_busy(request).await.expect("an answer").into_inner() }
    };
    let mut answers = JoinSet::new();
    for agent in AGENT..AGENT + 20 {
        answers.spawn(ask(&bridge.states, agent..agent + 1));
    }
    until_asked("twenty batches", async || batches_open().await > 19.5).await;
    answers.spawn(ask(&stranger(&bridge), AGENT + 20..AGENT + 21));
    until_asked("one more", async || batches_open().await > 20.5).await;
    bridge.gateway.thaw();
    for answer in answers.join_all().await {
        assert_eq!(answer.error_count, 0);
    }
    let asked = bridge.asked(Interface::SayBusy);
    let place = asked.iter().position(|entry| entry.agent == Some(AGENT + 20));
    assert!(place.is_some_and(|place| place <= 3), "{place:?} of {}", asked.len());
}

#[tokio::test]
async fn a_batchs_confirmations_are_within_its_share_too() {
    let gateway = Options { latency: Duration::from_millis(20), ..<_>::default() };
    let agents = AGENT..AGENT + 24;
    let setup = Setup { gateway, tenant: places(8), ..<_>::default() };
    let bridge = keeping(setup, agents.clone()).await;
    bridge.gateway.clear_journal();
    let confirmed = |agents: Vec<u32>| {
        let confirm_within = Some(LONG.try_into().expect("a duration"));
        let request = BatchSetBusyRequest { confirm_within, ..request(agents) };
        batch(&bridge, request, 2 * LONG)
    };
    let (half, rest) = (agents.clone().take(12).collect(), agents.skip(12).collect());
    let (one, two) = tokio::join!(confirmed(half), confirmed(rest));
    for answer in [one, two] {
        for result in answer.expect("an answer").results {
            let Some(Became::Accepted(accepted)) = result.result else { panic!("{result:?}") };
            let told = accepted.confirmation.expect("asked for");
            assert_eq!(told.status(), Status::Confirmed, "{told:?}");
        }
    }
    let journal = bridge.gateway.journal();
    let answered: Vec<_> = journal.into_iter().filter(|entry| entry.answer.is_some()).collect();
    let at_once = open_at_once(&answered);
    assert!(at_once <= 4, "{at_once} requests at once");
}

#[tokio::test]
async fn agents_whose_busy_waits_delay_no_others() {
    let agents = AGENT..AGENT + 6;
    let setup = Setup { tenant: places(4), ..<_>::default() };
    let bridge = keeping(setup, agents.clone()).await;
    let mut watching = bridge.watch(&[], None).await;
    for agent in agents.clone().take(4) {
        bridge.gateway.start_call(agent);
        watching.event("AgentState_Busy").await;
    }
    let within = Duration::from_secs(3);
    let confirm_within = Some(within.try_into().expect("a duration"));
    let request = BatchSetBusyRequest { confirm_within, ..request(agents) };
    let answer = batch(&bridge, request, 2 * within).await.expect("an answer");
    let told: Vec<_> = answer
        .results
        .into_iter()
        .map(|result| {
            let Some(Became::Accepted(accepted)) = result.result else { panic!("{result:?}") };
            let told = accepted.confirmation.expect("asked for");
            (told.status(), told.reason())
        })
        .collect();
    let (talking, busy) =
        ((Status::Accepted, Reason::Talking), (Status::Confirmed, Reason::Unspecified));
    assert_eq!(told, [talking, talking, talking, talking, busy, busy]);
}

#[tokio::test]
async fn requests_that_outlive_their_batch_stay_in_its_share() {
    let agents = AGENT..AGENT + 21;
    let bridge = registered(Setup { tenant: places(4), ..<_>::default() }, agents.clone()).await;
    for agent in agents.clone().take(20) {
        bridge.gateway.misbehave(Misbehaviour::always(Fault::Hang).of(agent));
    }
    for (agents, asked) in [(AGENT..AGENT + 10, 2), (AGENT + 10..AGENT + 20, 0)] {
        let answer = batch(&bridge, request(agents), SHORT).await.expect("an answer");
        assert_eq!(answer.error_count, 10);
        let unknown = outcomes(answer).into_iter().filter(|(agent, result)| {
            let refusal = result.as_ref().expect_err("not in time");
            let seen = (refusal.code, &*refusal.reason);
            assert_eq!(seen, (Code::DeadlineExceeded, "DEADLINE"), "{agent}");
            refusal.metadata["outcome"] == "unknown"
        });
        assert_eq!(unknown.count(), asked);
    }
    assert_eq!(bridge.asked(Interface::SayBusy).len(), 2);
    bridge.set_busy(AGENT + 20).await.expect("half of the places are left");
}

#[tokio::test]
async fn agents_without_a_place_get_the_deadline_as_their_result() {
    let (stuck, waiting) = (AGENT..AGENT + 20, AGENT + 20..AGENT + 40);
    let tenant = format!("{}timeouts.request = \"1min\"\n", places(20));
    let bridge = registered(Setup { tenant, ..<_>::default() }, AGENT..AGENT + 40).await;
    bridge.gateway.freeze();
    let calls: Vec<_> =
        stuck.map(|agent| tokio::spawn(Change::SetIdle.ask_alone(&bridge.states, agent))).collect();
    until("every place is taken", || bridge.asked(Interface::SayFree).len() == calls.len()).await;

    let answer = batch(&bridge, request(waiting), SHORT).await.expect("an answer");
    for (agent, result) in outcomes(answer) {
        let refusal = result.expect_err("no place");
        let seen = (refusal.code, &*refusal.reason, &*refusal.metadata["outcome"]);
        assert_eq!(seen, (Code::DeadlineExceeded, "DEADLINE", "not_sent"), "{agent}");
    }
    for call in calls {
        call.abort();
    }
}

#[tokio::test]
async fn a_caller_who_leaves_takes_the_agents_along_that_were_not_begun() {
    let agents = AGENT..AGENT + 20;
    let bridge = registered(Setup { tenant: places(4), ..<_>::default() }, agents.clone()).await;
    bridge.gateway.freeze();
    let leaving = batch(&bridge, request(agents.clone()), LONG);
    let begun = until("as many as there may be", || bridge.asked(Interface::SayBusy).len() == 2);
    tokio::select! {
        answer = leaving => panic!("{answer:?}"),
        () = begun => {}
    }
    // Whatever comes on the same connection is read after the caller's leave.
    for _ in 0..3 {
        bridge.session(AGENT).await;
    }
    bridge.gateway.thaw();
    let unanswered = || bridge.gateway.journal().iter().any(|entry| entry.answer.is_none());
    until("every answer", || !unanswered()).await;
    // Both were carried out, and the share is free again.
    for agent in agents.clone().take(2) {
        let again = batch(&bridge, request([agent]), LONG).await.expect("an answer");
        assert_eq!(again.error_count, 1, "busy already");
    }
    let asked = bridge.asked(Interface::SayBusy);
    assert!(asked.iter().all(|entry| entry.agent.is_some_and(|agent| agent < AGENT + 2)));

    let missing = batch(&bridge, request([]), LONG).await;
    refused(missing, Code::InvalidArgument, "INVALID_REQUEST", "not_sent");
}
