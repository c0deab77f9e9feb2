//! Rosters of several replicas on one store, in a world where time is ours to pass.

use std::collections::{BTreeMap, BTreeSet};

use proptest::prelude::*;
use tokio::{task::JoinHandle, time::advance};

use super::*;
use crate::{
    replica::{Attempt, Holder, Lock, Moments},
    session::StoreFuture,
};

const LEASE: Duration = Duration::from_secs(16);
const AGENTS: u32 = 12;

/// What all replicas see, and who polls for whom.
#[derive(Debug, Default)]
struct World {
    alive: BTreeMap<ReplicaId, Instant>,
    leases: BTreeMap<AgentId, (ReplicaId, Instant)>,
    /// Cut off from the store.
    cut: BTreeSet<ReplicaId>,
    polling: BTreeMap<AgentId, BTreeSet<ReplicaId>>,
    overlaps: Vec<AgentId>,
}

type Shared = Arc<Mutex<World>>;

#[derive(Debug)]
struct Store {
    me: ReplicaId,
    world: Shared,
}

struct Poller {
    me: ReplicaId,
    world: Shared,
}

fn agents() -> Vec<AgentId> {
    (0..AGENTS).map(|id| AgentId::parse(&(101 + id).to_string(), &(1..=999)).unwrap()).collect()
}

fn open(world: &Shared) -> MutexGuard<'_, World> {
    world.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Store {
    /// What the store answers, after a while on the way.
    fn answer<T: Send + 'static>(
        &self,
        act: impl FnOnce(&mut World, Instant) -> T + Send + 'static,
    ) -> StoreFuture<'_, T> {
        let world = self.world.clone();
        Box::pin(async move {
            sleep(Duration::from_millis(300)).await;
            if open(&world).cut.contains(&self.me) {
                sleep(Duration::from_secs(2)).await;
                return Err(StoreError::Unavailable("cut".into()));
            }
            let done = act(&mut open(&world), Instant::now());
            sleep(Duration::from_millis(300)).await;
            Ok(done)
        })
    }
}

impl Leases for Store {
    fn sign_in_moments(&self, count: u32, _: Duration) -> StoreFuture<'_, Moments> {
        Box::pin(async move { Ok(Moments { count, wait: Duration::ZERO }) })
    }

    fn replicas(&self) -> u32 {
        1
    }

    fn time(&self) -> Duration {
        LEASE
    }

    fn census(&self) -> StoreFuture<'_, Census> {
        let me = self.me;
        self.answer(move |world, now| {
            world.alive.insert(me, now + LEASE);
            world.alive.retain(|_, until| *until > now);
            Census { replicas: world.alive.keys().copied().collect(), agents: agents() }
        })
    }

    fn hold(&self, agents: Vec<AgentId>) -> StoreFuture<'_, Vec<AgentId>> {
        let me = self.me;
        self.answer(move |world, now| {
            world.leases.retain(|_, (_, until)| *until > now);
            let mut holding = Vec::new();
            for agent in agents {
                if world.leases.get(&agent).is_none_or(|(owner, _)| *owner == me) {
                    world.leases.insert(agent, (me, now + LEASE));
                    holding.push(agent);
                }
            }
            holding
        })
    }

    fn release(&self, agents: Vec<AgentId>) -> StoreFuture<'_, ()> {
        let me = self.me;
        self.answer(move |world, _| {
            world.leases.retain(|agent, (owner, _)| *owner != me || !agents.contains(agent));
        })
    }

    fn lock_sign_in(&self, _: AgentId, _: Attempt) -> StoreFuture<'_, Lock> {
        self.answer(|_, _| Lock { holder: Holder::New, others: 0, stored: 0 })
    }

    fn unlock_sign_in(&self, _: AgentId, _: Attempt) -> StoreFuture<'_, ()> {
        self.answer(|_, _| ())
    }

    fn leave(&self) -> StoreFuture<'_, ()> {
        let me = self.me;
        self.answer(move |world, _| {
            world.alive.remove(&me);
        })
    }
}

impl Poller {
    fn end(&self, agent: AgentId) {
        if let Some(replicas) = open(&self.world).polling.get_mut(&agent) {
            replicas.remove(&self.me);
        }
    }
}

impl Polls for Poller {
    async fn begin(&self, agent: AgentId) {
        let mut world = open(&self.world);
        let replicas = world.polling.entry(agent).or_default();
        replicas.insert(self.me);
        if replicas.len() > 1 {
            world.overlaps.push(agent);
        }
    }

    fn finish(&self, agent: AgentId) -> bool {
        self.end(agent);
        true
    }

    fn stop(&self, agent: AgentId) {
        self.end(agent);
    }

    fn is_polling(&self, agent: AgentId) -> bool {
        open(&self.world).polling.get(&agent).is_some_and(|polling| polling.contains(&self.me))
    }
}

/// A replica that runs.
struct Running {
    roster: Arc<Roster>,
    poller: Arc<Poller>,
    task: JoinHandle<()>,
}

fn start(id: u64, world: &Shared) -> Running {
    let me = ReplicaId(id);
    let leases = Arc::new(Store { me, world: world.clone() });
    let roster = Arc::new(Roster::new(me, leases));
    let poller = Arc::new(Poller { me, world: world.clone() });
    let (running, polls) = (roster.clone(), poller.clone());
    let task = tokio::spawn(async move { running.run(&*polls).await });
    Running { roster, poller, task }
}

/// A process that is gone: nothing of it runs, and its polls end with it.
fn kill(replica: &Running) {
    replica.task.abort();
    for agent in agents() {
        replica.poller.end(agent);
    }
}

async fn pass(time: Duration) {
    // In small steps, so that every task sees its moment.
    for _ in 0..time.as_millis() / 100 {
        advance(Duration::from_millis(100)).await;
        for _ in 0..8 {
            tokio::task::yield_now().await;
        }
    }
}

#[track_caller]
fn check_each_is_polled_once(world: &Shared) {
    let world = open(world);
    assert_eq!(world.overlaps, [], "polled by two at once");
    for agent in agents() {
        let polling = world.polling.get(&agent).map_or(0, BTreeSet::len);
        assert_eq!(polling, 1, "{agent}: {world:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn each_agent_is_polled_by_one_replica_and_each_replica_has_some() {
    let world = Shared::default();
    let _running: Vec<_> = (1..4).map(|id| start(id, &world)).collect();
    pass(LEASE * 3).await;
    check_each_is_polled_once(&world);
    let polling: BTreeSet<_> = open(&world).polling.values().flatten().copied().collect();
    assert_eq!(polling.len(), 3);
}

#[tokio::test(start_paused = true)]
async fn the_agents_of_a_replica_that_dies_are_polled_by_others_soon_after_its_leases() {
    let world = Shared::default();
    let running: Vec<_> = (1..4).map(|id| start(id, &world)).collect();
    pass(LEASE * 3).await;
    kill(&running[0]);
    pass(LEASE + LEASE / 2).await;
    check_each_is_polled_once(&world);
}

#[tokio::test(start_paused = true)]
async fn a_replica_that_leaves_hands_over_before_it_goes() {
    let world = Shared::default();
    let running: Vec<_> = (1..4).map(|id| start(id, &world)).collect();
    pass(LEASE * 3).await;
    running[0].task.abort();
    let leaving = running[0].roster.leave(&*running[0].poller);
    leaving.await;
    for replica in &running[1..] {
        replica.roster.stir();
    }
    pass(Duration::from_secs(2)).await;
    check_each_is_polled_once(&world);
}

#[tokio::test(start_paused = true)]
async fn a_replica_that_is_cut_off_stops_before_another_may_begin() {
    let world = Shared::default();
    let _running: Vec<_> = (1..4).map(|id| start(id, &world)).collect();
    pass(LEASE * 3).await;
    open(&world).cut.insert(ReplicaId(1));
    pass(LEASE / 2).await;
    let one = ReplicaId(1);
    assert!(open(&world).polling.values().any(|polling| polling.contains(&one)), "too early");
    pass(LEASE * 2).await;
    check_each_is_polled_once(&world);
    assert!(!open(&world).polling.values().any(|polling| polling.contains(&one)));
    open(&world).cut.clear();
    pass(LEASE * 2).await;
    check_each_is_polled_once(&world);
}

#[derive(Clone, Copy, Debug)]
enum Step {
    Cut(u64),
    Heal(u64),
    Restart(u64),
    Pass(u64),
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let replica = || 1..4_u64;
    let step = prop_oneof![
        replica().prop_map(Step::Cut),
        replica().prop_map(Step::Heal),
        replica().prop_map(Step::Restart),
        (1..40_u64).prop_map(Step::Pass),
        (1..40_u64).prop_map(Step::Pass),
    ];
    prop::collection::vec(step, 1..24)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    #[test]
    fn whatever_happens_no_agent_is_polled_twice_and_in_the_end_each_is_once(steps in steps()) {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_time()
            .start_paused(true)
            .build()
            .unwrap();
        runtime.block_on(async {
            let world = Shared::default();
            let mut running: BTreeMap<u64, Running> =
                (1..4).map(|id| (id, start(id, &world))).collect();
            for step in steps {
                match step {
                    Step::Cut(id) => drop(open(&world).cut.insert(ReplicaId(id))),
                    Step::Heal(id) => drop(open(&world).cut.remove(&ReplicaId(id))),
                    Step::Restart(id) => {
                        if let Some(old) = running.insert(id, start(id, &world)) {
                            kill(&old);
                        }
                    }
                    Step::Pass(seconds) => pass(Duration::from_secs(seconds)).await,
                }
            }
            open(&world).cut.clear();
            pass(LEASE * 4).await;
            check_each_is_polled_once(&world);
        });
    }
}
