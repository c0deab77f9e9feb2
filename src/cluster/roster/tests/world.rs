//! A store that can be slow, late or forgetful, and the replicas that use it.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use futures_util::future::BoxFuture;
use rand::{RngExt as _, SeedableRng as _, rngs::StdRng};
use tokio::{
    task::JoinHandle,
    time::{Instant, sleep, timeout},
};

use super::random::UNPOLLED_MAX;
use crate::{
    cluster::{LeaseRequest, Leases, Membership, ReplicaId, Roster},
    config::WhenAway,
    id::{AgentId, TenantId},
    session::{StoreError, StoreFuture},
    tenant::{Cause, LeaseCounts, PollOwnership as _, Polls},
};

pub(super) const LEASE: Duration = Duration::from_secs(16);
pub(super) const AGENTS: u32 = 12;
/// How many agents there are in a world where much happens.
pub(super) const FEW: usize = 3;
/// How long a replica waits for the answer to a request.
pub(super) const ANSWER_MAX: Duration = Duration::from_millis(500);

/// How long two replicas may poll for an agent after one of them could not reach the store: until
/// the next turn of the one without the lease.
const DOUBLED_MAX: Duration = Duration::from_secs(8);
/// How long an agent may be without a poller: a turn, a lease and another turn, with sessions that
/// are slow to read.
const KEPT_UNPOLLED_MAX: Duration = Duration::from_secs(4 + 16 + 4 + 8);

/// By this time a store has carried out a request, if it ever does.
pub(super) const LATE_MAX_MS: u64 = 6_000;

/// The store that all replicas see, and who polls for whom.
#[derive(Debug)]
pub(super) struct World {
    began: Instant,
    pub(super) agents: Vec<AgentId>,
    pub(super) alive: BTreeMap<ReplicaId, Instant>,
    /// For each agent, who has the lease, by which request, and until when.
    pub(super) leases: BTreeMap<AgentId, (ReplicaId, LeaseRequest, Instant)>,
    /// For each receiver, when it received the last heartbeat of each replica.
    pub(super) heard: BTreeMap<ReplicaId, HashMap<ReplicaId, Instant>>,
    /// Replicas that are cut off from the store.
    pub(super) cut: BTreeSet<ReplicaId>,
    /// Whether the store can only be read.
    pub(super) refuses_writes: bool,
    /// How long it takes to send a heartbeat.
    pub(super) heartbeat_time: Duration,
    /// Replicas that receive no heartbeats, not even their own.
    pub(super) deaf: BTreeSet<ReplicaId>,
    /// The shortest time that polls stay open.
    pub(super) polls_last: Duration,
    /// Whether the store answers late or not at all.
    pub(super) bad_weather: bool,
    /// What happens to every request for the lease of this agent.
    pub(super) fortunes: BTreeMap<AgentId, Fortune>,
    /// How long it takes to read an agent's session.
    pub(super) reading_time: Option<Duration>,
    /// How long it takes to read leases.
    pub(super) looking_time: Duration,
    rng: StdRng,
    pub(super) polling: BTreeMap<AgentId, BTreeSet<ReplicaId>>,
    /// Agents whose sessions nobody polls, as a replica believes.
    pub(super) unkept: BTreeSet<(AgentId, ReplicaId)>,
    /// Since when two replicas poll for an agent.
    doubled: BTreeMap<AgentId, Instant>,
    /// Agents that nobody can be expected to know: they have not been polled yet, or the replica
    /// that polled for them has died or gone away.
    left: BTreeSet<AgentId>,
    /// Whether replicas that do not reach the store go on polling.
    pub(super) keeps: bool,
    /// Polls that end when they are answered.
    finishing: BTreeSet<(AgentId, ReplicaId)>,
    /// Since when nobody polls for an agent.
    unpolled: BTreeMap<AgentId, Instant>,
    /// When something last went wrong.
    trouble: Instant,
    pub(super) wrong: Vec<String>,
    pub(super) history: Vec<(Duration, String)>,
}

/// What happens to a request.
#[derive(Clone, Copy, Debug)]
pub(super) enum Fortune {
    /// It is carried out after the first duration, and the answer takes the second.
    Answered(Duration, Duration),
    /// It is carried out after this time, perhaps too late for the replica.
    Unanswered(Duration),
    Lost,
}

pub(super) type Shared = Arc<Mutex<World>>;

#[derive(Debug)]
pub(super) struct Store {
    me: ReplicaId,
    world: Shared,
}

#[derive(Clone)]
pub(super) struct Poller {
    me: ReplicaId,
    world: Shared,
}

pub(super) fn agents() -> Vec<AgentId> {
    many_agents(AGENTS as usize)
}

pub(super) fn many_agents(count: usize) -> Vec<AgentId> {
    (101..).take(count).map(|id| AgentId::parse(&id.to_string(), &(1..=9999)).unwrap()).collect()
}

pub(super) fn open(world: &Shared) -> MutexGuard<'_, World> {
    world.lock().unwrap_or_else(PoisonError::into_inner)
}

pub(super) fn world_of(count: usize, seed: u64) -> Shared {
    let agents = many_agents(count);
    Arc::new(Mutex::new(World {
        unpolled: agents.iter().map(|agent| (*agent, Instant::now())).collect(),
        began: Instant::now(),
        alive: BTreeMap::new(),
        leases: BTreeMap::new(),
        heard: BTreeMap::new(),
        cut: BTreeSet::new(),
        refuses_writes: false,
        heartbeat_time: Duration::ZERO,
        deaf: BTreeSet::new(),
        bad_weather: false,
        fortunes: BTreeMap::new(),
        reading_time: None,
        looking_time: Duration::ZERO,
        rng: StdRng::seed_from_u64(seed),
        polling: BTreeMap::new(),
        unkept: BTreeSet::new(),
        doubled: BTreeMap::new(),
        left: agents.iter().copied().collect(),
        agents,
        keeps: false,
        polls_last: Duration::ZERO,
        finishing: BTreeSet::new(),
        trouble: Instant::now(),
        wrong: Vec::new(),
        history: Vec::new(),
    }))
}

pub(super) fn new_world() -> Shared {
    world_of(AGENTS as usize, 0)
}

impl World {
    pub(super) fn note(&mut self, what: String, is_trouble: bool) {
        let now = Instant::now();
        if is_trouble {
            self.trouble = now;
        }
        self.history.push((now.duration_since(self.began), what));
    }

    fn fortune(&mut self) -> Fortune {
        let mut some = |max| Duration::from_millis(self.rng.random_range(0..max));
        let (there, back, late) = (some(250), some(250), some(LATE_MAX_MS));
        if !self.bad_weather {
            return Fortune::Answered(there, back);
        }
        match self.rng.random_range(0..4) {
            0 => Fortune::Answered(there, back),
            1 => Fortune::Unanswered(there),
            2 => Fortune::Unanswered(late),
            _ => Fortune::Lost,
        }
    }

    fn begins(&mut self, agent: AgentId, me: ReplicaId) {
        self.note(format!("{me} begins to poll for {agent}"), false);
        let polling = self.polling.entry(agent).or_default();
        polling.insert(me);
        let count = polling.len();
        if count > 1 && (!self.keeps || self.is_calm_for(DOUBLED_MAX)) {
            self.wrong.push(format!("{agent} has two pollers at {:?}", self.began.elapsed()));
        }
        if count > 1 {
            self.doubled.entry(agent).or_insert_with(Instant::now);
        }
        if let Some(since) = self.unpolled.remove(&agent) {
            self.check_unpolled(agent, since);
        }
        self.left.remove(&agent);
    }

    /// Whether nothing has gone wrong for some time.
    fn is_calm_for(&self, time: Duration) -> bool {
        self.cut.is_empty() && !self.bad_weather && self.trouble.elapsed() > time
    }

    /// Checks that no agent whose poller lives is without polls for long, if replicas go on
    /// polling.
    pub(super) fn check_kept(&mut self) {
        if !self.keeps {
            return;
        }
        let unpolled: Vec<_> = self.unpolled.iter().map(|(agent, at)| (*agent, *at)).collect();
        for (agent, since) in unpolled {
            if !self.left.contains(&agent) && since.max(self.trouble).elapsed() > KEPT_UNPOLLED_MAX
            {
                self.wrong.push(format!("nobody keeps {agent} at {:?}", self.began.elapsed()));
            }
        }
    }

    /// Notes that a replica goes away, and which agents it polled for.
    fn leaves_behind(&mut self, me: ReplicaId) {
        let polling = self.polling.iter().filter(|(_, polling)| polling.contains(&me));
        self.left.extend(polling.map(|(agent, _)| *agent));
    }

    pub(super) fn is_polling(&self, agent: AgentId, me: ReplicaId) -> bool {
        self.polling.get(&agent).is_some_and(|polling| polling.contains(&me))
    }

    /// Polls that end when they are answered.
    pub(super) fn finishing(&self) -> &BTreeSet<(AgentId, ReplicaId)> {
        &self.finishing
    }

    /// How long it takes to read an agent's session.
    fn reading_time(&mut self) -> Duration {
        let max = if self.bad_weather { 2_000 } else { 250 };
        let random = Duration::from_millis(self.rng.random_range(0..max));
        self.reading_time.unwrap_or(random)
    }

    fn poll_time(&mut self) -> Duration {
        let some = Duration::from_millis(self.rng.random_range(0..2_000));
        some.max(self.polls_last)
    }

    fn check_unpolled(&mut self, agent: AgentId, since: Instant) {
        if since.max(self.trouble).elapsed() > UNPOLLED_MAX {
            self.wrong.push(format!("{agent} had no poller until {:?}", self.began.elapsed()));
        }
    }

    fn ends(&mut self, agent: AgentId, me: ReplicaId) {
        self.finishing.remove(&(agent, me));
        let Some(polling) = self.polling.get_mut(&agent) else { return };
        if !polling.remove(&me) {
            return;
        }
        if polling.is_empty() {
            self.unpolled.insert(agent, Instant::now());
        }
        let is_one = polling.len() == 1;
        if let Some(since) = self.doubled.remove(&agent).filter(|_| is_one)
            && since.elapsed() > DOUBLED_MAX
            && self.is_calm_for(DOUBLED_MAX)
        {
            let now = self.began.elapsed();
            self.wrong.push(format!("{agent} had two pollers until {now:?}"));
        }
        self.note(format!("{me} polls no more for {agent}"), false);
    }
}

impl Store {
    /// The store's answer, after a delay.
    fn answer<T: Send + 'static>(
        &self,
        agents: &[AgentId],
        act: impl FnOnce(&mut World, Instant) -> T + Send + 'static,
    ) -> StoreFuture<'_, T> {
        let world = self.world.clone();
        let known = {
            let world = open(&world);
            agents.iter().find_map(|agent| world.fortunes.get(agent)).copied()
        };
        Box::pin(async move {
            let fortune = {
                let mut world = open(&world);
                let is_cut = world.cut.contains(&self.me);
                let random = known.unwrap_or_else(|| world.fortune());
                let fortune = if is_cut { Fortune::Lost } else { random };
                if !matches!(fortune, Fortune::Answered(..)) && !is_cut {
                    world.note(format!("{fortune:?} for {}", self.me), true);
                }
                fortune
            };
            if let Fortune::Answered(there, back) = fortune {
                sleep(there).await;
                let done = act(&mut open(&world), Instant::now());
                sleep(back).await;
                return Ok(done);
            }
            if let Fortune::Unanswered(there) = fortune {
                let world = world.clone();
                tokio::spawn(async move {
                    sleep(there).await;
                    let mut world = open(&world);
                    act(&mut world, Instant::now());
                    world.note("a request is carried out late".into(), true);
                });
            }
            sleep(ANSWER_MAX).await;
            Err(StoreError::Unavailable("no answer".into()))
        })
    }
}

fn refused<T>() -> StoreFuture<'static, T> {
    Box::pin(async { Err(StoreError::Unavailable("it takes no writes".into())) })
}

impl Leases for Store {
    fn time(&self) -> Duration {
        LEASE
    }

    fn last_request(&self) -> LeaseRequest {
        LeaseRequest(0)
    }

    fn membership(&self) -> StoreFuture<'_, Membership> {
        let me = self.me;
        if open(&self.world).refuses_writes {
            return refused();
        }
        self.answer(&[], move |world, now| {
            world.alive.insert(me, now + LEASE);
            world.alive.retain(|_, until| *until > now);
            Membership {
                replicas: world.alive.keys().copied().collect(),
                agents: world.agents.clone(),
            }
        })
    }

    fn read_membership(&self) -> StoreFuture<'_, Membership> {
        self.answer(&[], |world, _| Membership {
            replicas: world.alive.keys().copied().collect(),
            agents: world.agents.clone(),
        })
    }

    fn list(&self, _: Vec<AgentId>) -> StoreFuture<'_, ()> {
        self.answer(&[], |_, _| ())
    }

    fn disbelieve_agents(&self, _: usize) {}

    fn send_heartbeat(&self) -> StoreFuture<'_, ()> {
        let me = self.me;
        let calling = open(&self.world).heartbeat_time;
        let answer = self.answer(&[], move |world, now| {
            let World { heard, cut, deaf, .. } = world;
            let hears = |id: &ReplicaId| !cut.contains(id) && !deaf.contains(id);
            let hear = heard.iter_mut().filter(|(id, _)| hears(id));
            for (_, heard) in hear {
                heard.insert(me, now);
            }
        });
        Box::pin(async move {
            sleep(calling).await;
            answer.await
        })
    }

    fn heartbeats(&self) -> HashMap<ReplicaId, Instant> {
        open(&self.world).heard.entry(self.me).or_default().clone()
    }

    fn hold(&self, agents: Vec<AgentId>, request: LeaseRequest) -> StoreFuture<'_, Vec<AgentId>> {
        let me = self.me;
        if open(&self.world).refuses_writes {
            return refused();
        }
        self.answer(&agents.clone(), move |world, now| {
            world.leases.retain(|_, (_, _, until)| *until > now);
            let mut holding = Vec::new();
            for agent in agents {
                let since = match world.leases.get(&agent) {
                    Some((owner, ..)) if *owner != me => continue,
                    Some((_, since, _)) => request.max(*since),
                    None => request,
                };
                world.leases.insert(agent, (me, since, now + LEASE));
                holding.push(agent);
            }
            holding
        })
    }

    fn held_by_others(&self, agents: Vec<AgentId>) -> StoreFuture<'_, Vec<(AgentId, ReplicaId)>> {
        let me = self.me;
        let looking = open(&self.world).looking_time;
        let answer = self.answer(&[], move |world, now| {
            let owner = |agent: AgentId| {
                let (owner, _, until) = world.leases.get(&agent)?;
                (*owner != me && *until > now).then_some((agent, *owner))
            };
            agents.into_iter().filter_map(owner).collect()
        });
        Box::pin(async move {
            sleep(looking).await;
            answer.await
        })
    }

    fn release(&self, agents: Vec<AgentId>, request: LeaseRequest) -> StoreFuture<'_, ()> {
        let me = self.me;
        self.answer(&agents.clone(), move |world, _| {
            world.leases.retain(|agent, (owner, since, _)| {
                *owner != me || !agents.contains(agent) || *since > request
            });
        })
    }

    fn leave(&self) -> StoreFuture<'_, ()> {
        let me = self.me;
        self.answer(&[], move |world, _| {
            world.alive.remove(&me);
        })
    }
}

impl Polls for Poller {
    fn can_have(&self, _: AgentId) -> bool {
        true
    }

    fn is_wanted(&self, agent: AgentId) -> BoxFuture<'_, bool> {
        Box::pin(async move {
            let time = open(&self.world).reading_time();
            sleep(time).await;
            open(&self.world).agents.contains(&agent)
        })
    }

    fn unkept(&self) -> Vec<AgentId> {
        let world = open(&self.world);
        let mine = world.unkept.iter().filter(|(_, replica)| *replica == self.me);
        mine.map(|(agent, _)| *agent).collect()
    }

    fn leave_to_others(&self, agent: AgentId) {
        open(&self.world).unkept.remove(&(agent, self.me));
    }

    fn begin(&self, agent: AgentId, _: Cause) {
        let mut world = open(&self.world);
        // A poller that has to end after its poll still ends.
        if !world.is_polling(agent, self.me) {
            world.begins(agent, self.me);
        }
    }

    fn finish(&self, agent: AgentId) -> bool {
        let mut world = open(&self.world);
        if !world.is_polling(agent, self.me) {
            return true;
        }
        if world.finishing.insert((agent, self.me)) {
            let (poller, time) = (self.clone(), world.poll_time());
            tokio::spawn(async move {
                sleep(time).await;
                let mut world = open(&poller.world);
                // Unless it was stopped and begun again meanwhile.
                if world.finishing.contains(&(agent, poller.me)) {
                    world.ends(agent, poller.me);
                }
            });
        }
        false
    }

    fn stop(&self, agent: AgentId) {
        open(&self.world).ends(agent, self.me);
    }

    fn is_polling(&self, agent: AgentId) -> bool {
        open(&self.world).is_polling(agent, self.me)
    }
}

/// A replica that runs.
pub(super) struct Running {
    pub(super) me: ReplicaId,
    pub(super) roster: Arc<Roster>,
    pub(super) poller: Arc<Poller>,
    task: JoinHandle<()>,
    calls: Mutex<Vec<JoinHandle<()>>>,
}

impl Running {
    /// Also runs this future, as long as the replica lives.
    pub(super) fn also(&self, call: impl Future<Output = ()> + Send + 'static) {
        self.calls.lock().unwrap().push(tokio::spawn(call));
    }

    pub(super) fn counts(&self) -> LeaseCounts {
        self.roster.counts(&*self.poller)
    }

    /// Stops its turns and its clock task.
    pub(super) fn stops_turning(&self) {
        self.task.abort();
    }

    /// Goes on, like a process whose machine was suspended.
    pub(super) fn turns_again(&mut self) {
        let (roster, poller) = (self.roster.clone(), self.poller.clone());
        self.task = tokio::spawn(async move { roster.run(&*poller).await });
    }

    /// Leaves like a process that is told to end, within a limited time.
    pub(super) async fn leaves(&self) {
        self.task.abort();
        open(&self.poller.world).leaves_behind(self.me);
        let leaving = self.roster.leave(&*self.poller);
        let _late = timeout(LEASE / 2, leaving).await;
    }
}

pub(super) fn start(id: u64, world: &Shared) -> Running {
    start_with(id, world, WhenAway::Stop)
}

pub(super) fn start_with(id: u64, world: &Shared, when_away: WhenAway) -> Running {
    let me = ReplicaId(id);
    open(world).keeps = when_away == WhenAway::Keep;
    open(world).heard.insert(me, HashMap::new());
    let leases = Arc::new(Store { me, world: world.clone() });
    let tenant = TenantId::parse("acme").unwrap();
    let roster = Arc::new(Roster::new(tenant, me, leases, when_away, Arc::default()));
    let poller = Arc::new(Poller { me, world: world.clone() });
    let (running, polls) = (roster.clone(), poller.clone());
    let task = tokio::spawn(async move { running.run(&*polls).await });
    Running { me, roster, poller, task, calls: Mutex::default() }
}

/// Kills a process: nothing of it runs, and its polls end with it.
pub(super) fn kill(replica: &Running) {
    replica.task.abort();
    replica.calls.lock().unwrap().iter().for_each(JoinHandle::abort);
    open(&replica.poller.world).leaves_behind(replica.me);
    for agent in agents() {
        replica.poller.stop(agent);
    }
}
