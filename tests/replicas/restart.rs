//! A single process without a Redis starts again with the sessions in its file.

use std::{
    collections::BTreeMap,
    net::SocketAddr,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use ccgateway_bridge::rpc::proto::{
    GetStateChangeRequest, Session, SetBusyRequest, get_state_change_response::What,
};
use ccgateway_sim::{Fault, Interface, Misbehaviour};
use ccgateway_test_support::{Refusal, set_busy};
use futures_util::StreamExt as _;
use tokio::{
    task::{AbortHandle, JoinSet},
    time::{Instant, interval},
};
use tonic::Code;

use crate::support::{Centre, Replica, SCALE, eventually, limit_files};

const AGENTS: std::ops::Range<u32> = 1001..1501;

/// Callers who make 200 calls a second between them, whatever becomes of those.
struct Callers {
    calling: AbortHandle,
    seen: Arc<Mutex<Vec<(Instant, Code)>>>,
}

impl Callers {
    fn of(replica: &Replica) -> Self {
        let seen = Arc::new(Mutex::new(Vec::new()));
        let (states, noted) = (replica.states.clone(), seen.clone());
        let calling = tokio::spawn(async move {
            let (mut calls, mut next) = (interval(Duration::from_millis(5)), AGENTS.cycle());
            let mut open = JoinSet::new();
            loop {
                calls.tick().await;
                let (states, noted) = (states.clone(), noted.clone());
                let agent = next.next().expect("without end");
                open.spawn(async move {
                    let code =
                        set_busy(&states, agent).await.map_or_else(|s| s.code(), |_| Code::Ok);
                    let mut noted = noted.lock().unwrap_or_else(PoisonError::into_inner);
                    noted.push((Instant::now(), code));
                });
                while open.try_join_next().is_some() {}
            }
        });
        Self { calling: calling.abort_handle(), seen }
    }

    fn count(&self, code: Code) -> usize {
        self.since(None, code).len()
    }

    fn since(&self, start: Option<Instant>, code: Code) -> Vec<Instant> {
        let seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        let fits = |(at, seen): &&(Instant, Code)| start.is_none_or(|s| *at >= s) && *seen == code;
        seen.iter().filter(fits).map(|(at, _)| *at).collect()
    }

    fn counts(&self) -> BTreeMap<String, usize> {
        let seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        let mut counts = BTreeMap::new();
        for (_, code) in seen.iter() {
            *counts.entry(format!("{code:?}")).or_default() += 1;
        }
        counts
    }
}

impl Drop for Callers {
    fn drop(&mut self) {
        self.calling.abort();
    }
}

/// Signs all agents in, and waits until each is polled.
async fn all_kept(centre: &Centre, replica: &Replica) {
    let sign_ins: Vec<_> = AGENTS.map(|agent| replica.sign_in(agent)).collect();
    let mut sign_ins = futures_util::stream::iter(sign_ins).buffer_unordered(16);
    while let Some(done) = sign_ins.next().await {
        done.expect("signed in");
    }
    centre.all_are_polled(AGENTS).await;
}

fn sign_ins(centre: &Centre) -> usize {
    [Interface::SignIn, Interface::ForceSignIn].map(|asked| centre.asked(asked)).iter().sum()
}

/// What is true of a restart, however the process ended.
async fn a_restart_costs_nothing<E>(end: impl FnOnce(Replica) -> E) -> String
where
    E: Future<Output = SocketAddr>,
{
    let centre = Centre::open().await;
    let first = centre.alone(None).await;
    all_kept(&centre, &first).await;
    let callers = Callers::of(&first);
    eventually("calls to be answered", || callers.count(Code::Ok) > 200).await;
    centre.gateway.clear_journal();

    let addr = end(first).await;
    let started = Instant::now();
    let _second = centre.alone(Some(addr)).await;
    eventually("a call to be answered", || !callers.since(Some(started), Code::Ok).is_empty())
        .await;
    let first_answer = callers.since(Some(started), Code::Ok)[0] - started;

    // Longer than the gateway waits for a poll.
    let end = Instant::now() + Duration::from_secs(150) / SCALE;
    let mut turns = interval(Duration::from_millis(100));
    while Instant::now() < end {
        turns.tick().await;
    }
    let counts = callers.counts();
    assert!(centre.has(AGENTS), "an agent was signed out");
    assert_eq!(sign_ins(&centre), 0, "the Guids of before are good");
    for blaming in [Code::AlreadyExists, Code::FailedPrecondition, Code::NotFound, Code::Internal] {
        assert_eq!(callers.count(blaming), 0, "{blaming:?}");
    }
    assert_eq!(centre.gateway.violations(), Vec::<String>::new());
    format!("first answer {first_answer:?} after the start, in all {counts:?}")
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_process_that_is_killed_costs_no_agent_and_no_sign_in() {
    let kill = async |mut replica: Replica| {
        replica.kill().await;
        replica.grpc
    };
    println!("{}", a_restart_costs_nothing(kill).await);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_process_that_is_stopped_costs_no_agent_and_no_sign_in() {
    println!("{}", a_restart_costs_nothing(Replica::stop).await);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_kill_right_after_a_renewal_costs_no_agent() {
    let centre = Centre::open().await;
    let mut replica = centre.alone(None).await;
    replica.sign_in(1001).await.expect("signed in");
    centre.gateway.clear_journal();
    for _ in 0..5 {
        let before = replica.session(1001).await.guid_version;
        while replica.session(1001).await.guid_version == before {
            tokio::task::yield_now().await;
        }
        replica.kill().await;
        replica = centre.alone(Some(replica.grpc)).await;
        replica.set_busy(1001).await.expect("with the new Guid, or the one before it");
    }
    centre.all_are_polled(1001..1002).await;
    assert_eq!(sign_ins(&centre), 0);
    assert!(centre.has([1001]));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn registered_sessions_and_ends_outlive_a_kill_too() {
    let centre = Centre::open().await;
    let mut first = centre.alone(None).await;
    for agent in [1001, 1002] {
        first.sign_in(agent).await.expect("signed in");
    }
    let guid = centre.gateway.take_over(1001).expect("signed in");
    first.register(1001, &guid).await.expect("registered");
    first.sign_out(1002).await.expect("signed out");
    let before = first.session(1001).await;
    first.kill().await;

    let second = centre.alone(None).await;
    let after = second.session(1001).await;
    assert_eq!((after.origin, after.guid_version), (before.origin, before.guid_version));
    let seconds = |session: &Session| session.expire_time.expect("registered").seconds;
    assert!(seconds(&after) <= seconds(&before), "a restart makes no session longer");
    assert_eq!(second.find_session(1002).await.expect_err("ended").code(), Code::NotFound);
    second.set_busy(1001).await.expect("with the Guid that was handed in");
}

/// A change with an id that belongs to this place.
fn busy(place: u8) -> SetBusyRequest {
    let request_id = format!("f81d4fae-7dec-41d0-a765-00a0c91e6b{place:02x}");
    SetBusyRequest { agent_id: "1001".into(), request_id, ..<_>::default() }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn changes_with_ids_are_made_once_also_after_a_kill() {
    let centre = Centre::open().await;
    let mut first = centre.alone(None).await;
    first.sign_in(1001).await.expect("signed in");
    let made = first.call(busy(1)).await.expect("accepted");
    let refused = first.call(busy(2)).await.expect_err("it is busy already");
    centre.gateway.misbehave(Misbehaviour::once(Fault::Hang).on(Interface::SayBusy));
    let states = first.states.clone();
    let under_way = tokio::spawn(async move { states.clone().set_busy(busy(3)).await.map(drop) });
    eventually("the request to be sent", || centre.asked(Interface::SayBusy) == 3).await;
    first.kill().await;
    under_way.await.expect("ended").expect_err("its bridge is gone");

    let second = centre.alone(None).await;
    assert_eq!(second.call(busy(1)).await.expect("accepted"), made);
    let again = second.call(busy(2)).await.expect_err("as before");
    assert_eq!(Refusal::from(again).reason, Refusal::from(refused).reason);
    let lost = Refusal::from(second.call(busy(3)).await.expect_err("nobody knows"));
    assert_eq!((&*lost.reason, &*lost.metadata["outcome"]), ("GATEWAY_NO_ANSWER", "unknown"));
    let request = GetStateChangeRequest { request_id: busy(1).request_id, ..<_>::default() };
    let found = second.states.clone().get_state_change(request).await.expect("known").into_inner();
    assert!(matches!(found.what, Some(What::Change(_))), "{found:?}");
    assert_eq!(centre.asked(Interface::SayBusy), 3);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_password_is_stored_where_the_operator_wants_it_and_only_there() {
    for (store, recovered) in [("credentials = true", true), ("", false)] {
        let mut centre = Centre::open().await;
        centre.store = store;
        let mut first = centre.alone(None).await;
        // In no file.
        first.sign_in(2001).await.expect("signed in");
        first.kill().await;
        centre.gateway.sign_out(2001);
        let second = centre.alone(None).await;
        if recovered {
            eventually("the agent to be signed in again", || centre.has([2001])).await;
            second.sign_out(2001).await.expect("signed out");
            second.stop().await;
            let third = centre.alone(None).await;
            let missing = third.set_busy(2001).await.expect_err("it went with the session");
            assert_eq!(missing.code(), Code::FailedPrecondition);
        } else {
            let mut turns = interval(Duration::from_millis(20));
            while second.find_session(2001).await.is_ok() {
                turns.tick().await;
            }
            assert!(!centre.has([2001]), "nobody knows the password");
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn without_a_store_a_stop_signs_agents_out_and_a_kill_leaves_them_to_the_gateway() {
    let centre = Centre::open().await;
    let first = centre.process(None, String::new()).await;
    first.sign_in(1001).await.expect("signed in");
    first.stop().await;
    assert!(!centre.has([1001]), "the next process could not sign it in");

    let mut second = centre.process(None, String::new()).await;
    second.sign_in(1001).await.expect("signed in");
    second.kill().await;
    let third = centre.process(None, String::new()).await;
    let refused = third.set_busy(1001).await.expect_err("the gateway has it signed in");
    assert_eq!(refused.code(), Code::AlreadyExists);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_disk_that_takes_no_more_costs_no_call() {
    let mut centre = Centre::open().await;
    // It comes with the error that is wanted, and ends the process as a rule.
    centre.ignored = Some("XFSZ");
    let first = centre.alone(None).await;
    first.sign_in(1001).await.expect("signed in");
    limit_files(&first, "1000").await;
    for agent in 1002..1052 {
        first.sign_in(agent).await.expect("the session is kept in memory");
    }
    first.set_busy(1051).await.expect("known");
    limit_files(&first, "unlimited").await;
    first.stop().await;

    let second = centre.alone(None).await;
    for agent in 1001..1052 {
        assert!(second.find_session(agent).await.is_ok(), "{agent}");
    }
    assert!(centre.has(1001..1052));
    let folder = std::fs::read_dir(centre.file("")).expect("readable");
    let mut names = folder.map(|entry| entry.expect("readable").file_name());
    assert!(names.all(|name| !name.to_string_lossy().contains("broken")));
}
