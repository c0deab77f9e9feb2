//! The records of a tenant's agents: one for each, all under one lock.
//!
//! A record has small parts that do not know each other, each in a file of its own: [`turn_queue`]
//! (whose turn it is), [`session_status`] (what is being done for the agent's session),
//! [`rejected_passwords`] and [`take_backs`]. [`AgentRecords::apply`] is the one place where the
//! status of a session changes. It counts and publishes each change under the lock, so that events
//! come in the order of the changes. It writes log lines and signals keepers after the lock is
//! released, so the log lines of two concurrent changes may be in the other order.

mod activity;
mod agent_record;
mod nodes;
mod rejected_passwords;
mod session_status;
mod sweep;
mod take_backs;
mod turn_queue;

use std::{
    collections::{BTreeSet, hash_map::Entry},
    num::{NonZeroU64, NonZeroUsize},
    ops::Bound,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, AtomicUsize, Ordering},
    },
};

use prometheus_client::metrics::counter::Counter;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tracing::{debug, info, warn};

pub use self::take_backs::TakenOver;
pub(super) use self::{
    activity::Activity,
    nodes::Node,
    rejected_passwords::{REJECTED_MAX, Rejection},
    session_status::{Attempt, Event, Health, Keeper},
    take_backs::{GUIDLESS_MAX, Loss, Pause, Permission},
    turn_queue::{Due, Turn},
};
use self::{
    agent_record::AgentRecord,
    nodes::Nodes,
    session_status::{Change, Effects},
    sweep::Sweep,
    take_backs::TakeBacks,
};
use super::announcer::Announcer;
use crate::{
    config,
    event::{SessionChange, What},
    id::{AgentId, AgentMap, Parts, TenantId},
    session::SessionState,
};

/// The records of one tenant's agents. An agent of whom nothing is known has no record.
#[derive(Debug)]
pub(super) struct AgentRecords {
    tenant: TenantId,
    known: Mutex<Known>,
    announcer: Announcer,
    /// Counts how often each status was entered, in the order of [`SessionState::ALL`].
    entered: [Counter; SessionState::ALL.len()],
    last_keeper: AtomicU64,
    /// How many calls may wait for one agent.
    queue_limit: AtomicUsize,
    /// How many passwords may be held. Rejected ones have a limit of the same size.
    capacity: NonZeroUsize,
    take_backs: Mutex<TakeBacks>,
}

/// The records, with counts and indexes over them.
#[derive(Debug)]
struct Known {
    records: Parts<AgentMap<AgentRecord>>,
    totals: Totals,
    /// Rejected passwords, by their agents.
    rejections: Sweep,
    /// Agents with lost sessions.
    lossy: Sweep,
    /// Agents that another client has taken over from the bridge.
    contested: BTreeSet<AgentId>,
    /// Agents whose sessions nobody polls, as far as is known here.
    unkept: BTreeSet<AgentId>,
    /// Agents whose sessions are kept by the polls of their nodes.
    nodes: Nodes,
}

/// Sums over all records, so that nobody has to go through them.
#[derive(Debug, Default)]
struct Totals {
    /// Sessions in each status, in the order of [`SessionState::ALL`].
    statuses: [usize; SessionState::ALL.len()],
    keepers: usize,
    held: usize,
    rejected: usize,
}

/// How many sessions have one status.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct StateCount {
    /// The status.
    pub state: SessionState,
    /// How many sessions have it.
    pub now: usize,
    /// How often it has been entered since the bridge started.
    pub entered: u64,
}

/// The result of [`AgentRecords::apply`].
#[derive(Debug, Default)]
#[must_use]
pub(super) struct Applied {
    /// A new keeper whose task the caller has to start.
    pub(super) start: Option<Keeper>,
    /// Whether the agent has a keeper after the event, or is a member of its node's poll.
    pub(super) is_kept: bool,
    /// Whether the poll of the node that the agent has joined has to begin.
    pub(super) node_begins: bool,
}

// === impl AgentRecords ===

impl AgentRecords {
    pub(super) fn new(
        tenant: TenantId,
        config: &config::Tenant,
        announcer: Announcer,
        entered: [Counter; SessionState::ALL.len()],
    ) -> Self {
        Self {
            tenant,
            known: Known::for_agents(config.limits.sessions).into(),
            announcer,
            entered,
            last_keeper: AtomicU64::new(0),
            queue_limit: config.limits.agent_queue.get().into(),
            capacity: config.limits.sessions,
            take_backs: TakeBacks::new(&config.keep).into(),
        }
    }

    /// Takes what it can from a changed configuration.
    pub(super) fn change(&self, config: &config::Tenant) {
        self.queue_limit.store(config.limits.agent_queue.get(), Ordering::Relaxed);
        let mut take_backs = self.take_backs.lock().unwrap_or_else(PoisonError::into_inner);
        *take_backs = TakeBacks::new(&config.keep);
    }

    fn take_backs(&self) -> TakeBacks {
        *self.take_backs.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Makes a keeper for [`Event::Kept`]. It stops when `until` is cancelled.
    pub(super) fn new_keeper(&self, until: &CancellationToken) -> Keeper {
        Keeper {
            number: self.last_keeper.fetch_add(1, Ordering::Relaxed),
            stop: until.child_token(),
            finish: CancellationToken::new(),
            wake: Arc::default(),
        }
    }

    /// Applies an event to an agent's session; counts, publishes and logs the change of status.
    pub(super) fn apply(&self, agent: AgentId, event: Event) -> Applied {
        let mut known = self.known();
        let record = known.records.of_mut(agent).entry(agent).or_default();
        if event.is_of_another_session() {
            record.activity = None;
        }
        let (before, was_kept) = (record.session.status(), record.session.is_kept());
        let was_member = record.session.node().cloned();
        let Effects { change, entered, start, signals } = record.session.on(event);
        let (after, is_kept) = (record.session.status(), record.session.is_kept());
        let is_member = record.session.node().cloned();
        if start.is_some() && was_member.is_none() {
            // Whoever has polled until now may have had events that did not come here.
            record.activity = None;
        }
        known.totals.count(before, after);
        known.note_unkept(agent, after);
        let node_begins = known.nodes.note(agent, was_member.as_ref(), is_member.as_ref());
        known.totals.keepers = known.totals.keepers + usize::from(is_kept) - usize::from(was_kept);
        known.tidy(agent);
        if let Some(counter) = entered.and_then(|entered| self.entered.get(entered.index()?)) {
            counter.inc();
        }
        // Under the lock, so that changes are published in their order.
        if let Some(Change { to, cause, .. }) = change {
            let change = What::Session(SessionChange { state: to, cause: cause.into() });
            self.announcer.publish(agent, change, Instant::now());
        }
        drop(known);
        if let Some(change) = change {
            self.log(agent, change);
        }
        signals.send();
        Applied { start, is_kept, node_begins }
    }

    /// The status of an agent's session; `None` if the bridge does not keep it and no call is
    /// changing it.
    pub(super) fn status(&self, agent: AgentId) -> Option<SessionState> {
        self.look(agent, |record| record.session.status()).flatten()
    }

    /// Whether the agent has a keeper here, or is a member of its node's poll.
    pub(super) fn is_kept(&self, agent: AgentId) -> bool {
        self.look(agent, |record| record.session.is_kept()).unwrap_or_default()
    }

    /// Forgets what the agent was doing, since events may have been missed.
    pub(super) fn forget_activity(&self, agent: AgentId) {
        self.with(agent, |record| record.activity = None);
    }

    /// Notes that the gateway allows no polls for this version of an agent's session.
    pub(super) fn allows_no_polls(&self, agent: AgentId, version: u64) {
        self.with(agent, |record| record.unpollable = NonZeroU64::new(version));
    }

    /// Whether the gateway has refused polls for this version of an agent's session.
    pub(super) fn has_no_polls(&self, agent: AgentId, version: u64) -> bool {
        let unpollable = self.look(agent, |record| record.unpollable).flatten();
        unpollable.is_some_and(|unpollable| unpollable.get() == version)
    }

    /// The agents whose sessions nobody polls, as far as is known here.
    pub(super) fn unkept(&self) -> Vec<AgentId> {
        self.known().unkept.iter().copied().collect()
    }

    /// The first `most` members of a node's poll, in a circle that begins here.
    pub(super) fn members(&self, node: &Node, begin: Bound<AgentId>, most: usize) -> Vec<AgentId> {
        self.known().nodes.members(node, begin).take(most).collect()
    }

    /// How many members a node's poll has.
    pub(super) fn member_count(&self, node: &Node) -> usize {
        self.known().nodes.count(node)
    }

    /// Ends a node's poll unless it has members. Returns whether its task has to end.
    pub(super) fn end_node(&self, node: &Node) -> bool {
        self.known().nodes.end(node)
    }

    /// How many agents have a keeper here, or are members of a node's poll.
    pub(super) fn kept_count(&self) -> usize {
        self.known().totals.keepers
    }

    /// The agents who have a keeper here, or are members of a node's poll.
    pub(super) fn kept(&self) -> Vec<AgentId> {
        let known = self.known();
        let records = known.records.all().flatten();
        let kept = records.filter(|(_, record)| record.session.is_kept());
        kept.map(|(agent, _)| *agent).collect()
    }

    /// How many sessions have each status.
    pub(super) fn status_counts(&self) -> Vec<StateCount> {
        let now = self.known().totals.statuses;
        let states = SessionState::ALL.into_iter().zip(now).zip(&self.entered);
        states
            .map(|((state, now), entered)| StateCount { state, now, entered: entered.get() })
            .collect()
    }

    /// Reads an agent's record, if there is one.
    fn look<T>(&self, agent: AgentId, look: impl FnOnce(&AgentRecord) -> T) -> Option<T> {
        self.known().record(agent).map(look)
    }

    /// Changes a part of an agent's record that is not in the totals. Removes the record if it is
    /// unused then.
    fn with<T>(&self, agent: AgentId, change: impl FnOnce(&mut AgentRecord) -> T) -> T {
        match self.known().records.of_mut(agent).entry(agent) {
            Entry::Occupied(mut record) => {
                let changed = change(record.get_mut());
                if record.get().is_unused() {
                    record.remove();
                }
                changed
            }
            Entry::Vacant(place) => {
                let mut record = AgentRecord::default();
                let changed = change(&mut record);
                if !record.is_unused() {
                    place.insert(record);
                }
                changed
            }
        }
    }

    fn known(&self) -> MutexGuard<'_, Known> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn log(&self, agent: AgentId, Change { from, to, cause }: Change) {
        let (tenant, from_name) = (&self.tenant, from.map(SessionState::as_str));
        macro_rules! line {
            ($write:ident) => {
                $write!(ccgw.tenant.id = %tenant, ccgw.agent.id = %agent, from = from_name, to = %to, cause, "session")
            };
        }
        match (from, to) {
            (_, SessionState::Doubtful | SessionState::Recovering | SessionState::Lost) => {
                line!(warn);
            }
            (Some(SessionState::Doubtful | SessionState::Recovering), _)
            | (_, SessionState::Unkept | SessionState::Gone | SessionState::Registered) => {
                line!(info);
            }
            _ => line!(debug),
        }
    }
}

impl Known {
    /// Nothing, with tables for about so many agents.
    fn for_agents(count: NonZeroUsize) -> Self {
        Self {
            records: Parts::for_agents(count, AgentMap::default),
            totals: Totals::default(),
            rejections: Sweep::default(),
            lossy: Sweep::default(),
            contested: BTreeSet::new(),
            unkept: BTreeSet::new(),
            nodes: Nodes::default(),
        }
    }

    fn record(&self, agent: AgentId) -> Option<&AgentRecord> {
        self.records.of(agent).get(&agent)
    }

    fn note_unkept(&mut self, agent: AgentId, status: Option<SessionState>) {
        if status == Some(SessionState::Unkept) {
            self.unkept.insert(agent);
        } else {
            self.unkept.remove(&agent);
        }
    }

    /// Removes an agent's record if it is unused.
    fn tidy(&mut self, agent: AgentId) {
        if self.record(agent).is_some_and(AgentRecord::is_unused) {
            self.records.of_mut(agent).remove(&agent);
        }
    }
}

impl Totals {
    fn count(&mut self, before: Option<SessionState>, after: Option<SessionState>) {
        if let Some(count) = self.status(after) {
            *count += 1;
        }
        if let Some(count) = self.status(before) {
            *count -= 1;
        }
    }

    fn status(&mut self, status: Option<SessionState>) -> Option<&mut usize> {
        self.statuses.get_mut(status?.index()?)
    }
}

#[cfg(test)]
mod tests;
