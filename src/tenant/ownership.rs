//! Which of a tenant's agents this process polls.

use std::{fmt, future::ready, time::Duration};

use futures_util::future::BoxFuture;

use crate::id::AgentId;

/// Decides which of a tenant's agents this process polls: a gateway wants an agent polled by exactly
/// one client.
pub trait PollOwnership: fmt::Debug + Send + Sync {
    /// Asks for the right to poll for an agent who was signed in here just now, and begins to poll if
    /// it is granted.
    fn claim<'a>(&'a self, agent: AgentId, polls: &'a dyn Polls) -> BoxFuture<'a, Claimed>;

    /// Begins to poll again for an agent whose polls have just ended by themselves, if that is up
    /// to this process.
    fn resume(&self, agent: AgentId, polls: &dyn Polls);

    /// Notes that the polls for an agent have ended by themselves.
    fn polls_ended(&self, agent: AgentId, polls: &dyn Polls);

    /// Whether this process may poll for an agent at this moment.
    fn may_poll(&self, agent: AgentId) -> bool;

    /// Whether no other process can poll for this agent at this moment.
    fn is_sole_owner(&self, agent: AgentId) -> bool;

    /// How the leases on the tenant's agents are doing.
    fn counts(&self) -> LeaseCounts;

    /// How long a lease lasts.
    fn lease(&self) -> Duration;

    /// Whether there may be others to poll for an agent.
    fn is_shared(&self) -> bool;

    /// Decides who polls whom for as long as there are others.
    fn run<'a>(&'a self, polls: &'a dyn Polls) -> BoxFuture<'a, ()>;

    /// Hands everything over to the others: waits for the polls under way to be answered. Dropping
    /// the future leaves the rest as it is.
    fn leave<'a>(&'a self, polls: &'a dyn Polls) -> BoxFuture<'a, ()>;
}

/// What an owner of polls starts and ends: the polls of a tenant's agents.
///
/// The owner calls everything but [`is_wanted`](Self::is_wanted) while it holds its own lock, so
/// that a start and an end of polls for the same agent cannot cross. These methods therefore must
/// return at once and must not call the owner.
pub trait Polls: Send + Sync {
    /// Whether there is a session of the agent's to be kept. May ask the store.
    fn is_wanted(&self, agent: AgentId) -> BoxFuture<'_, bool>;

    /// Begins to poll for an agent; where that is done already, polls at once.
    fn begin(&self, agent: AgentId, cause: Cause);

    /// Polls no more for an agent once the poll that is under way has been answered, so that no
    /// event is lost; tells whether that has happened.
    fn finish(&self, agent: AgentId) -> bool;

    /// Polls no more for an agent from this moment on.
    fn stop(&self, agent: AgentId);

    /// Whether the agent is polled for.
    fn is_polling(&self, agent: AgentId) -> bool;
}

/// Why polls for an agent begin.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cause {
    /// The agent was signed in here.
    SignedIn,
    /// The agent's lease was free. Many agents may come at once.
    TakenOver,
}

/// Who polls for an agent whom this process has claimed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Claimed {
    /// This process, from now on.
    Here,
    /// Another replica, which has the lease.
    Elsewhere,
    /// Nobody yet, since the store did not answer in time. It is found out later.
    Unknown,
}

/// How the leases of this process are doing.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct LeaseCounts {
    /// Agents who are polled here although their leases have ended, since the store cannot be
    /// asked.
    pub overdue: usize,
    /// Agents who are polled here no more for that reason.
    pub dropped: usize,
}

/// Of a process that is the only one: it polls for all agents.
#[derive(Debug)]
pub(super) struct Alone;

impl PollOwnership for Alone {
    fn claim<'a>(&'a self, agent: AgentId, polls: &'a dyn Polls) -> BoxFuture<'a, Claimed> {
        polls.begin(agent, Cause::SignedIn);
        Box::pin(ready(Claimed::Here))
    }

    fn resume(&self, agent: AgentId, polls: &dyn Polls) {
        polls.begin(agent, Cause::SignedIn);
    }

    fn polls_ended(&self, _: AgentId, _: &dyn Polls) {}

    fn may_poll(&self, _: AgentId) -> bool {
        true
    }

    fn is_sole_owner(&self, _: AgentId) -> bool {
        true
    }

    fn counts(&self) -> LeaseCounts {
        LeaseCounts::default()
    }

    fn lease(&self) -> Duration {
        Duration::ZERO
    }

    fn is_shared(&self) -> bool {
        false
    }

    fn run<'a>(&'a self, _: &'a dyn Polls) -> BoxFuture<'a, ()> {
        Box::pin(ready(()))
    }

    fn leave<'a>(&'a self, _: &'a dyn Polls) -> BoxFuture<'a, ()> {
        Box::pin(ready(()))
    }
}
