//! Which of a gateway's addresses a request goes to.

use std::{
    sync::{
        Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering},
    },
    time::Duration,
};

use tokio::{sync::Notify, time::Instant};
use tracing::{info, warn};

use super::{
    AddressState, AddressView,
    breaker::{Breaker, Change, Outcome, State, WHOLE},
    endpoint::Endpoint,
    interface::TimeoutClass,
    reply::Reply,
    transport_failure::Failure,
};
use crate::{
    call::Untouched,
    config,
    id::{AgentId, TenantId},
};

/// A gateway's addresses, in the configured order of preference, and what is known of each.
#[derive(Debug)]
pub(super) struct Route {
    tenant: TenantId,
    addresses: Box<[Routed]>,
    /// When a request may go to a tripped address again, since there is no other.
    last_resort: Mutex<Instant>,
    /// The pause between two such requests.
    last_resort_pause: Duration,
}

/// An address with its breaker.
#[derive(Debug)]
pub(super) struct Routed {
    endpoint: Endpoint,
    breaker: Mutex<Breaker>,
    /// Signalled when the address has tripped, so that it will be probed.
    pub(super) tripped: Notify,
    /// Nothing is known against the address, so the breaker need not be asked.
    is_calm: AtomicBool,
    /// The breaker's epoch.
    epoch: AtomicU32,
    /// How many good answers it has given to requests that are neither polls nor sign-ins.
    answers: AtomicU64,
    /// How many good answers it has given to anything.
    good: AtomicU64,
}

/// The address that a request goes to.
#[derive(Clone, Copy, Debug)]
pub(super) struct Pick {
    /// Index of the address.
    pub(super) index: usize,
    /// The breaker's epoch, by which the request's result is judged.
    epoch: u32,
    /// How many good answers the address had given by then.
    good: u64,
}

/// The addresses that a request has been tried at, by their bits.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Tried(u64);

/// How a request goes to an address while all are tripped.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum LastResort {
    /// In turn: [`LAST_RESORTS`] in a pause.
    InTurn,
    /// Always, for requests that are few: polls have pauses of their own, and questions follow other requests.
    Always,
}

/// So many requests a pause of `breaker.pause` go to addresses that are all tripped. They find out that the gateway
/// is back, and few callers wait at once for an address that takes long to fail.
const LAST_RESORTS: u32 = 5;

// === impl Route ===

impl Route {
    pub(super) fn new(
        tenant: TenantId,
        endpoints: impl Iterator<Item = Endpoint>,
        settings: config::Breaker,
    ) -> Self {
        let now = Instant::now();
        Self {
            tenant,
            addresses: endpoints.map(|endpoint| Routed::new(endpoint, settings, now)).collect(),
            last_resort: Mutex::new(now),
            last_resort_pause: settings.pause / LAST_RESORTS,
        }
    }

    /// The address at this index.
    pub(super) fn endpoint(&self, index: usize) -> Option<&Endpoint> {
        self.addresses.get(index).map(|address| &address.endpoint)
    }

    /// All addresses, each with its index.
    pub(super) fn addresses(&self) -> impl Iterator<Item = (usize, &Routed)> {
        self.addresses.iter().enumerate()
    }

    /// Index of the address that most requests go to now.
    pub(super) fn preferred(&self) -> usize {
        self.first_for_part(WHOLE / 2)
    }

    /// Index of the address that the next request for this agent goes to first.
    pub(super) fn first_for(&self, agent: AgentId) -> usize {
        self.first_for_part(part_of(agent))
    }

    fn first_for_part(&self, part: u32) -> usize {
        let none = Tried::default();
        let chosen = self.choose(part, none).or_else(|| self.least_bad(none));
        chosen.map_or(0, |(index, _)| index)
    }

    /// Whether the requests for all agents go to the first address, unless it cannot be reached.
    pub(super) fn is_at_first(&self) -> bool {
        let [first, _, ..] = &*self.addresses else { return true };
        first.is_calm.load(Ordering::Relaxed) || first.breaker().share(Instant::now()) == WHOLE
    }

    /// The next address for a request for this agent that has been tried at these. `None`: there is none, or not now.
    pub(super) fn pick(
        &self,
        agent: AgentId,
        tried: Tried,
        last_resort: LastResort,
    ) -> Option<Pick> {
        let chosen = self.choose(part_of(agent), tried).or_else(|| {
            let is_let_through = || last_resort == LastResort::Always || self.is_in_turn();
            self.least_bad(tried).filter(|_| is_let_through())
        });
        chosen.map(|(index, address)| address.pick(index))
    }

    /// The address for a request for an agent of this part, if any is good or probing.
    fn choose(&self, part: u32, tried: Tried) -> Option<(usize, &Routed)> {
        let left = || self.left(tried);
        let (first, address) = left().next()?;
        if address.is_calm.load(Ordering::Relaxed) {
            return Some((first, address));
        }
        let now = Instant::now();
        let by_share = left().find(|(_, address)| part < address.breaker().share(now));
        // The rest of the agents stays where it has been, as long as all addresses get only parts. By their shares alone,
        // of two that have become good in one pause, each would have the larger one in turn.
        let good = || {
            left()
                .filter_map(|(index, address)| Some((address.good_since()?, index, address)))
                .min_by_key(|(since, ..)| *since)
                .map(|(_, index, address)| (index, address))
        };
        let probing = || left().find(|(_, address)| address.is_probing());
        by_share.or_else(good).or_else(probing)
    }

    /// The addresses that a request has not been tried at, each with its index.
    fn left(&self, tried: Tried) -> impl Iterator<Item = (usize, &Routed)> {
        self.addresses().filter(move |(index, _)| !tried.has(*index))
    }

    /// The tripped address whose next probe is due first.
    fn least_bad(&self, tried: Tried) -> Option<(usize, &Routed)> {
        self.left(tried).min_by_key(|(_, address)| address.next_probe())
    }

    /// Whether a request may go to an address now although all are tripped. It is the only one then until the next pause.
    fn is_in_turn(&self) -> bool {
        let now = Instant::now();
        let mut next = self.last_resort.lock().unwrap_or_else(PoisonError::into_inner);
        if now < *next {
            return false;
        }
        *next = now + self.last_resort_pause;
        true
    }

    /// Takes in what became of a request of this class for this agent, maybe for what the gateway does not have. Returns
    /// what that changes for its address.
    pub(super) fn judge(
        &self,
        pick: Pick,
        (class, agent): (TimeoutClass, AgentId),
        is_unknown_there: bool,
        asked: &Result<Reply, Failure>,
    ) -> Option<Change> {
        let address = self.addresses.get(pick.index)?;
        let health = address.endpoint.health();
        match asked {
            Ok(reply) => health.answered(reply, is_unknown_there),
            Err(
                Failure::NotSent(_, cause)
                | Failure::Sent(cause)
                | Failure::Late(cause, _)
                | Failure::Prevented(_, Some(cause)),
            ) => health.failed(cause),
            Err(Failure::Prevented(_, None)) => return None,
        }
        self.note(pick, outcome_of(class, agent, asked)?)
    }

    fn note(&self, pick: Pick, outcome: Outcome) -> Option<Change> {
        let address = self.addresses.get(pick.index)?;
        if matches!(outcome, Outcome::Answered) {
            address.answers.fetch_add(1, Ordering::Relaxed);
        }
        let is_good = matches!(outcome, Outcome::Answered | Outcome::Alive);
        let before = address.good.fetch_add(u64::from(is_good), Ordering::Relaxed);
        // Sign-ins that began together fail together. An address that has answered anything meanwhile is not to be left.
        if matches!(outcome, Outcome::Ailing(_)) && before != pick.good {
            return None;
        }
        if is_good && address.is_calm.load(Ordering::Relaxed) {
            return None;
        }
        let now = Instant::now();
        let mut others = self.addresses().filter(|(at, _)| *at != pick.index);
        // Where nobody can sign in at either of two addresses, they would take turns for ever if a part were enough.
        let least = if matches!(outcome, Outcome::Ailing(_)) { WHOLE } else { 1 };
        let has_other = others.any(|(_, other)| other.breaker().share(now) >= least);
        let change = address.note(pick.epoch, outcome, has_other, now)?;
        self.tell(change, address);
        Some(change)
    }

    fn tell(&self, change: Change, address: &Routed) {
        let endpoint = &address.endpoint;
        let (tenant, cause) = (&self.tenant, endpoint.health().last_cause());
        match change {
            Change::Tripped => {
                warn!(ccgw.tenant.id = %tenant, ccgw.gateway.address = %endpoint, cause, "an address of the gateway has tripped; it is only probed until it answers again");
                address.tripped.notify_one();
            }
            Change::Good => {
                info!(ccgw.tenant.id = %tenant, ccgw.gateway.address = %endpoint, "an address of the gateway is good again");
            }
        }
    }

    /// Notes in `untouched` why the rest of the addresses is not asked. Returns the time until that changes.
    pub(super) fn left_out(&self, tried: Tried, untouched: &mut Untouched) -> Option<Duration> {
        let mut next_probe = None;
        for (_, address) in self.left(tried) {
            let cause = address.endpoint.health().last_cause();
            untouched.tried(format!(
                "{}: not asked again so soon after a failure: {cause}",
                address.endpoint
            ));
            next_probe = next_probe.into_iter().chain(address.breaker().next_probe()).min();
        }
        let due_in = next_probe.map(|at| at.saturating_duration_since(Instant::now()));
        due_in.map(|due_in| due_in.max(self.last_resort_pause))
    }

    /// The state of each address, in the configured order.
    pub(super) fn views(&self) -> Vec<AddressView> {
        let preferred = self.preferred();
        let view = |(index, address): (usize, &Routed)| {
            let breaker = address.breaker();
            let state = (breaker.state().into(), breaker.epoch().into());
            address.endpoint.health().view(address.endpoint.to_string(), index == preferred, state)
        };
        self.addresses().map(view).collect()
    }
}

/// The agent's part, 0 to 9. An address with share n gets the agents of parts below n. Addresses need not know each
/// other's sessions. So while an address that is good again gets more and more of the requests, each agent goes there
/// once and stays.
fn part_of(agent: AgentId) -> u32 {
    // Fibonacci hashing, since the ids of a tenant may all end in the same digit.
    agent.get().wrapping_mul(0x9E37_79B1) / (u32::MAX / WHOLE + 1)
}

/// What the result of a request says about its address, if anything.
fn outcome_of(
    class: TimeoutClass,
    agent: AgentId,
    asked: &Result<Reply, Failure>,
) -> Option<Outcome> {
    let (answered, failed) = match class {
        TimeoutClass::Request => (Outcome::Answered, Some(Outcome::Failed(agent))),
        TimeoutClass::SignIn => (Outcome::Alive, Some(Outcome::Ailing(agent))),
        // Polls wait for events, so that time limits say little. And there are so many of them that one dead node of
        // several behind an address would have some fail in a row within seconds, although most calls are answered.
        TimeoutClass::Poll => (Outcome::Alive, None),
    };
    match asked {
        Err(Failure::NotSent(..) | Failure::Prevented(..)) => Some(Outcome::Unreached),
        Ok(reply) if !reply.is_of_broken_server() => Some(answered),
        Ok(_) | Err(Failure::Sent(_) | Failure::Late(..)) => failed,
    }
}

// === impl Routed ===

impl Routed {
    fn new(endpoint: Endpoint, settings: config::Breaker, now: Instant) -> Self {
        Self {
            endpoint,
            breaker: Mutex::new(Breaker::new(settings, now)),
            tripped: Notify::new(),
            is_calm: AtomicBool::new(true),
            epoch: AtomicU32::default(),
            answers: AtomicU64::default(),
            good: AtomicU64::default(),
        }
    }

    fn breaker(&self) -> MutexGuard<'_, Breaker> {
        self.breaker.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// When its next probe is due; `None` if it has not tripped.
    pub(super) fn next_probe(&self) -> Option<Instant> {
        self.breaker().next_probe()
    }

    fn good_since(&self) -> Option<Instant> {
        self.breaker().good_since()
    }

    pub(super) fn pick(&self, index: usize) -> Pick {
        let (epoch, good) = (&self.epoch, &self.good);
        Pick { index, epoch: epoch.load(Ordering::Relaxed), good: good.load(Ordering::Relaxed) }
    }

    fn is_probing(&self) -> bool {
        matches!(self.breaker().state(), State::Probing { .. })
    }

    fn note(&self, epoch: u32, outcome: Outcome, has_other: bool, now: Instant) -> Option<Change> {
        let answers = self.answers.load(Ordering::Relaxed);
        let mut breaker = self.breaker();
        let change = breaker.note(outcome, epoch, (answers, has_other), now);
        self.epoch.store(breaker.epoch(), Ordering::Relaxed);
        self.is_calm.store(breaker.is_calm(now), Ordering::Relaxed);
        change
    }
}

// === impl Tried ===

impl Tried {
    /// Notes an address. There are never more of them than bits (`base_urls`).
    pub(super) fn add(&mut self, index: usize) {
        self.0 |= 1 << index;
    }

    /// Whether there is any.
    pub(super) fn is_any(self) -> bool {
        self.0 != 0
    }

    fn has(self, index: usize) -> bool {
        self.0 & 1 << index != 0
    }
}

impl From<State> for AddressState {
    fn from(state: State) -> Self {
        match state {
            State::Good { .. } => Self::Good,
            State::Tripped { .. } => Self::Tripped,
            State::Probing { .. } => Self::Probing,
        }
    }
}

#[cfg(test)]
mod tests;
