//! When turns begin, and what a roster does and tells while the store is away, step by step.

use std::{
    collections::HashMap,
    future::ready,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use tokio::time::{Instant, advance, sleep};

use super::world::{LEASE, agents, many_agents, new_world, start};
use crate::{
    cluster::{LeaseRequest, Leases, Membership, ReplicaId, Roster, roster::held::Ended},
    config::WhenAway,
    id::{AgentId, TenantId},
    session::{StoreError, StoreFuture},
    telemetry::log::captured::Captured,
    tenant::{Claimed, PollOwnership as _, Polls as _},
};

const ME: ReplicaId = ReplicaId(1);
const OTHER: ReplicaId = ReplicaId(2);
const MOMENT: Duration = Duration::from_millis(1);

/// A store that answers at once, and has given all leases to another replica.
#[derive(Debug, Default)]
struct Prompt {
    /// When it was asked who is there.
    turns: Mutex<Vec<Instant>>,
    /// When the last heartbeats were received.
    heard: Mutex<HashMap<ReplicaId, Instant>>,
    /// Whether it gives no leases, not even to another replica.
    is_away: AtomicBool,
}

impl Leases for Prompt {
    fn time(&self) -> Duration {
        LEASE
    }

    fn last_request(&self) -> LeaseRequest {
        LeaseRequest(0)
    }

    fn membership(&self) -> StoreFuture<'_, Membership> {
        self.turns.lock().unwrap().push(Instant::now());
        self.read_membership()
    }

    fn read_membership(&self) -> StoreFuture<'_, Membership> {
        Box::pin(ready(Ok(Membership { replicas: vec![ME, OTHER], agents: Vec::new() })))
    }

    fn list(&self, _: Vec<AgentId>) -> StoreFuture<'_, ()> {
        Box::pin(ready(Ok(())))
    }

    fn disbelieve_agents(&self, _: usize) {}

    fn send_heartbeat(&self) -> StoreFuture<'_, ()> {
        Box::pin(ready(Ok(())))
    }

    fn heartbeats(&self) -> HashMap<ReplicaId, Instant> {
        self.heard.lock().unwrap().clone()
    }

    fn hold(&self, _: Vec<AgentId>, _: LeaseRequest) -> StoreFuture<'_, Vec<AgentId>> {
        let away = || StoreError::Unavailable("away".into());
        let is_away = self.is_away.load(Ordering::Relaxed);
        Box::pin(ready(if is_away { Err(away()) } else { Ok(Vec::new()) }))
    }

    fn held_by_others(&self, agents: Vec<AgentId>) -> StoreFuture<'_, Vec<(AgentId, ReplicaId)>> {
        Box::pin(ready(Ok(agents.into_iter().map(|agent| (agent, OTHER)).collect())))
    }

    fn release(&self, _: Vec<AgentId>, _: LeaseRequest) -> StoreFuture<'_, ()> {
        Box::pin(ready(Ok(())))
    }

    fn leave(&self) -> StoreFuture<'_, ()> {
        Box::pin(ready(Ok(())))
    }
}

fn roster(when_away: WhenAway) -> (Roster, Arc<Prompt>) {
    let (tenant, store) = (TenantId::parse("acme").unwrap(), Arc::<Prompt>::default());
    (Roster::new(tenant, ME, store.clone(), when_away, Arc::default()), store)
}

#[tokio::test(start_paused = true)]
async fn a_roster_that_is_stirred_takes_its_next_turn_half_a_second_after_the_last() {
    let ((roster, store), world) = (roster(WhenAway::Stop), new_world());
    let (begun, running) = (Instant::now(), start(1, &world));
    running.stops_turning();
    let stirring = async {
        for _ in 0..100 {
            roster.stir();
            sleep(Duration::from_millis(19)).await;
        }
    };
    tokio::select! {
        () = roster.run(&*running.poller) => panic!("it goes on"),
        () = stirring => {}
    }
    let turns = store.turns.lock().unwrap();
    let seconds: Vec<_> = turns.iter().map(|at| (*at - begun).as_secs_f64()).collect();
    assert!(seconds.windows(2).all(|two| (0.5..0.52).contains(&(two[1] - two[0]))), "{seconds:?}");
    assert_eq!(seconds.len(), 4);
}

#[tokio::test(start_paused = true)]
async fn an_agent_whose_lease_another_replica_has_is_not_polled_here() {
    let ((roster, _), world) = (roster(WhenAway::Keep), new_world());
    let running = start(1, &world);
    running.stops_turning();
    let agent = agents()[0];
    assert_eq!(roster.claim(agent, &*running.poller).await, Claimed::Elsewhere);
    assert!(!roster.may_poll(agent) && !running.poller.is_polling(agent));
}

#[tokio::test(start_paused = true)]
async fn without_the_store_an_agent_who_is_signed_in_is_polled_if_polls_are_kept() {
    for (when_away, claimed, is_polled) in
        [(WhenAway::Keep, Claimed::Here, true), (WhenAway::Stop, Claimed::Unknown, false)]
    {
        let ((roster, store), world) = (roster(when_away), new_world());
        let running = start(1, &world);
        running.stops_turning();
        store.is_away.store(true, Ordering::Relaxed);
        let agent = agents()[0];
        assert_eq!(roster.claim(agent, &*running.poller).await, claimed);
        assert_eq!(running.poller.is_polling(agent), is_polled, "{when_away:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn polls_that_ended_by_themselves_begin_again_only_under_a_lease() {
    let world = new_world();
    let running = start(1, &world);
    sleep(LEASE).await;
    running.stops_turning();
    let (roster, poller) = (&running.roster, &*running.poller);
    let (held, unheld) = (agents()[0], many_agents(13)[12]);
    assert_eq!((roster.lease(), roster.is_shared()), (LEASE, true));
    for (agent, begins) in [(held, true), (unheld, false)] {
        poller.stop(agent);
        roster.resume(agent, poller);
        assert_eq!((roster.may_poll(agent), poller.is_polling(agent)), (begins, begins));
    }
}

#[tokio::test(start_paused = true)]
async fn after_an_outage_of_a_lease_others_have_their_longest_pause_and_two_turns_to_come_back() {
    let longest_pause = Duration::from_millis(3_200);
    let ((keeping, _), (stopping, _)) = (roster(WhenAway::Keep), roster(WhenAway::Stop));
    assert!(!keeping.is_settling());
    advance(LEASE.saturating_sub(MOMENT)).await;
    assert!(!keeping.is_settling(), "shorter than a lease");
    assert!(!stopping.is_settling());
    advance(LEASE).await;
    assert!(keeping.is_settling());
    assert!(!stopping.is_settling(), "nobody has polled on");
    advance((longest_pause + LEASE / 2).saturating_sub(MOMENT)).await;
    assert!(keeping.is_settling());
    advance(MOMENT).await;
    assert!(!keeping.is_settling());
}

#[tokio::test(start_paused = true)]
async fn an_outage_lasts_from_its_first_failure_until_the_store_answers() {
    let (roster, _) = roster(WhenAway::Keep);
    assert_eq!(roster.note_failure(), Duration::ZERO);
    advance(LEASE).await;
    assert_eq!(roster.note_failure(), LEASE);
    roster.is_settling();
    assert_eq!(roster.note_failure(), Duration::ZERO);
}

#[tokio::test(start_paused = true)]
async fn replicas_count_as_gone_that_were_not_heard_for_a_lease_while_this_one_heard_itself() {
    let (roster, store) = roster(WhenAway::Keep);
    let left = || {
        let mut replicas = vec![ME, OTHER];
        roster.remove_silent(&mut replicas);
        replicas
    };
    let hear = |replica| store.heard.lock().unwrap().insert(replica, Instant::now());
    hear(OTHER);
    for _ in 0..4 {
        hear(ME);
        assert_eq!(left(), [ME, OTHER], "it has not listened for long enough");
        advance(LEASE / 4).await;
    }
    hear(ME);
    assert_eq!(left(), [ME]);
    hear(OTHER);
    advance((LEASE / 2).saturating_sub(MOMENT)).await;
    assert_eq!(left(), [ME, OTHER]);
    advance(LEASE).await;
    assert_eq!(left(), [ME, OTHER], "it does not hear itself either");
    for is_readable in [true, false] {
        hear(OTHER);
        for _ in 0..4 {
            hear(ME);
            assert_eq!(left(), [ME, OTHER], "it listens anew");
            advance(LEASE / 4).await;
        }
        hear(ME);
        if is_readable {
            assert_eq!(left(), [ME]);
            advance(LEASE).await;
        } else {
            roster.note_unreadable();
        }
        assert_eq!(left(), [ME, OTHER]);
    }
}

#[tokio::test(start_paused = true)]
async fn leases_that_ended_are_told_once_an_outage_with_how_many_agents_it_is_about() {
    let log = Captured::start();
    let (late, silent) = ("did not renew in time", "the store cannot be asked for new ones");
    for (when_away, word) in [(WhenAway::Keep, "keep"), (WhenAway::Stop, "stop")] {
        let (roster, _) = roster(when_away);
        let before = log.with("leases").len();
        roster.log_ended(&Ended { coming: 7, ..Ended::default() });
        assert_eq!(log.with("leases").len(), before, "nothing has ended");
        let stopped = many_agents(5);
        roster.log_ended(&Ended { stopped, unanswered: 2, overdue: 10, coming: 100 });
        assert!(log.with(late).last().is_some_and(|line| line.ends_with("agents=3")));
        let told = log.with(silent);
        assert!(told.last().is_some_and(|line| line.ends_with("agents=112")), "{told:?}");
        assert!(told.last().is_some_and(|line| line.contains(&format!("is \"{word}\""))));
        let (lines, stopped) = (log.with("leases").len(), many_agents(1));
        roster.log_ended(&Ended { stopped, unanswered: 1, ..Ended::default() });
        assert_eq!(log.with("leases").len(), lines, "it is known");
        assert_eq!(roster.outage().dropped, 3);
        let (again, outages) = (log.with("gives leases again").len(), log.with(silent).len());
        for _ in 0..2 {
            roster.note_recovery();
            assert_eq!(log.with("gives leases again").len(), again + 1, "told once");
            assert_eq!(roster.outage().dropped, 0);
        }
        roster.log_ended(&Ended { overdue: 1, ..Ended::default() });
        assert_eq!(log.with(silent).len(), outages + 1, "another outage");
    }
}
