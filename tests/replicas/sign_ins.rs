//! An agent is signed in once, however many replicas get calls for it.

use std::time::Duration;

use ccgateway_bridge::rpc::proto::SetBusyResponse;
use ccgateway_sim::{Fault, Interface, Misbehaviour};
use ccgateway_test_support::{Clients, refused, set_busy};
use tokio::{
    task::JoinSet,
    time::{interval, sleep},
};
use tokio_util::task::AbortOnDropHandle;
use tonic::{Code, Status};

use crate::{
    proxy::Wire,
    support::{Centre, Replica, eventually},
};

const AGENT: u32 = 1001;
/// Whose credentials say to take the agent over where it is signed in elsewhere.
const FORCED: u32 = 1601;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_thousand_first_calls_at_three_replicas_need_one_sign_in() {
    let centre = Centre::open().await;
    let replicas =
        [centre.replica(None).await, centre.replica(None).await, centre.replica(None).await];
    let slow = Fault::DelayBefore(Duration::from_millis(500));
    centre.gateway.misbehave(Misbehaviour::always(slow).on(Interface::SignIn));
    let mut leaving = JoinSet::new();
    let mut staying = JoinSet::new();
    for call in 0..1_000 {
        // On connections of their own: so many resets end one.
        let replica = &replicas[call % 3];
        let (calls, states) = if call < 500 {
            (&mut leaving, Clients::of(replica.grpc).states)
        } else {
            (&mut staying, replica.states.clone())
        };
        calls.spawn(async move { set_busy(&states, 1001).await });
    }
    eventually("a sign-in", || centre.asked(Interface::SignIn) > 0).await;
    leaving.shutdown().await;
    all_are_served(staying).await;
    assert_eq!(centre.asked(Interface::SignIn), 1);
}

type Calls = JoinSet<Result<SetBusyResponse, Status>>;

/// First calls at each of these replicas.
fn first_calls(replicas: &[Replica], agent: u32) -> Calls {
    let states = replicas.iter().cycle().map(|replica| replica.states.clone());
    states.take(300).map(|states| async move { set_busy(&states, agent).await }).collect()
}

async fn all_are_served(calls: Calls) {
    for answer in calls.join_all().await {
        answer.expect("served");
    }
}

/// Signing in was not asked for more than twice, and the Guid that counts is the gateway's newest.
async fn two_sign_ins_at_most(centre: &Centre, agent: u32) {
    let asked = centre.asked(Interface::SignIn);
    assert!(asked <= 2, "{asked}");
    assert_eq!(centre.asked(Interface::ForceSignIn), 0);
    the_newest_guid_counts(centre, agent).await;
}

/// Polls renew it meanwhile, so that it may take two looks.
async fn the_newest_guid_counts(centre: &Centre, agent: u32) {
    for _ in 0..100 {
        let newest = centre.gateway.agent(agent).and_then(|agent| agent.guid);
        if newest.is_some() && centre.stored(agent).await == newest {
            return;
        }
        sleep(Duration::from_millis(20)).await;
    }
    panic!("an older Guid is stored");
}

/// Takes the lock from whoever holds it, again and again once somebody signs in.
async fn lose_locks(centre: &Centre, agent: u32) -> AbortOnDropHandle<()> {
    eventually("a sign-in", || centre.asked(Interface::SignIn) > 0).await;
    let mut redis = centre.redis.connection().await;
    let losing = tokio::spawn(async move {
        let mut ticks = interval(Duration::from_millis(5));
        loop {
            ticks.tick().await;
            let mut delete = ::redis::cmd("DEL");
            delete.arg(format!("ccgw:{{acme}}:sign-in:{agent}"));
            let _: u64 = delete.query_async(&mut redis).await.expect("deleted");
        }
    });
    AbortOnDropHandle::new(losing)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn locks_lost_in_the_middle_cost_one_sign_in_and_no_call() {
    let centre = Centre::open().await;
    let replicas =
        [centre.replica(None).await, centre.replica(None).await, centre.replica(None).await];
    let slow = Fault::DelayBefore(Duration::from_secs(2));
    centre.gateway.misbehave(Misbehaviour::always(slow).on(Interface::SignIn));
    let calls = first_calls(&replicas, AGENT);
    let _losing = lose_locks(&centre, AGENT).await;
    all_are_served(calls).await;
    two_sign_ins_at_most(&centre, AGENT).await;
}

/// Nothing says for sure that a sign-in is refused while another one is open.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn locks_lost_in_the_middle_cost_no_call_where_the_gateway_calls_the_agent_signed_in() {
    let centre = Centre::open_with(|options| options.refuse_repeated = false).await;
    let replicas =
        [centre.replica(None).await, centre.replica(None).await, centre.replica(None).await];
    for agent in [AGENT, FORCED] {
        centre.gateway.clear_journal();
        let slow = Fault::Delay(Duration::from_secs(2));
        centre.gateway.misbehave(Misbehaviour::once(slow).on(Interface::SignIn));
        let calls = first_calls(&replicas, agent);
        let _losing = lose_locks(&centre, agent).await;
        all_are_served(calls).await;
        two_sign_ins_at_most(&centre, agent).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_replica_cut_off_while_it_signs_in_costs_one_sign_in_and_no_call() {
    let centre = Centre::open().await;
    let wire = Wire::to(centre.redis.port()).await;
    let first = centre.replica_with(None, &wire.url()).await;
    let others = [centre.replica(None).await, centre.replica(None).await];
    // Longer than a lock lasts.
    let slow = Fault::DelayBefore(Duration::from_secs(4));
    centre.gateway.misbehave(Misbehaviour::once(slow).on(Interface::SignIn));
    let at_first = first_calls(std::slice::from_ref(&first), AGENT);
    eventually("a sign-in", || centre.asked(Interface::SignIn) > 0).await;
    wire.cut();
    let at_others = first_calls(&others, AGENT);
    all_are_served(at_first).await;
    wire.mend();
    all_are_served(at_others).await;
    two_sign_ins_at_most(&centre, AGENT).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_replica_cut_off_does_not_take_another_replica_for_another_client() {
    let centre = Centre::open_with(|gateway| gateway.old_guid_lives = false).await;
    let wire = Wire::to(centre.redis.port()).await;
    let (first, other) = (centre.replica_with(None, &wire.url()).await, centre.replica(None).await);
    first.set_busy(AGENT).await.expect("signed in");
    other.set_busy(AGENT).await.expect("accepted");
    wire.cut();
    centre.gateway.set_guid_on_next_reply(AGENT);
    other.set_busy(AGENT).await.expect("accepted, with a new Guid");
    // The first replica knows the former Guid, and its sign-in finds the agent signed in.
    let call = first.set_busy(AGENT).await;
    refused(call, Code::Unavailable, "STORE_UNAVAILABLE", "refused");
    assert_eq!(centre.asked(Interface::ForceSignIn), 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_guid_that_comes_late_does_not_replace_the_one_made_meanwhile() {
    let centre = Centre::open().await;
    let [first, other] = [centre.replica(None).await, centre.replica(None).await];
    let slow = Fault::Delay(Duration::from_millis(500));
    centre.gateway.misbehave(Misbehaviour::once(slow).on(Interface::SignIn));
    let late = first_calls(std::slice::from_ref(&first), AGENT);
    eventually("a sign-in", || centre.asked(Interface::SignIn) > 0).await;
    first.signal("-STOP");
    let answered = || centre.gateway.journal().iter().any(|entry| entry.answer.is_some());
    eventually("its answer", answered).await;
    centre.gateway.sign_out(AGENT);
    other.set_busy(AGENT).await.expect("signed in when the lock had ended");
    first.signal("-CONT");
    all_are_served(late).await;
    two_sign_ins_at_most(&centre, AGENT).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_agent_who_is_lost_with_a_replica_is_recovered_by_the_next_with_the_shared_password() {
    let mut centre = Centre::open().await;
    centre.store = "credentials = true";
    let mut first = centre.replica(None).await;
    // In no file.
    let agents = 2001..2011;
    for agent in agents.clone() {
        first.sign_in(agent).await.expect("signed in");
    }
    first.kill().await;
    agents.clone().for_each(|agent| centre.gateway.sign_out(agent));
    let _second = centre.replica(None).await;
    eventually("all to be signed in again", || centre.has(agents.clone())).await;
    assert_eq!(centre.asked(Interface::SignIn), 2 * agents.len());
}
