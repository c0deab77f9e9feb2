//! The interface to whatever decides which of a tenant's agents this process polls.

use std::{fmt, future::ready, time::Duration};

use futures_util::future::BoxFuture;

use crate::id::AgentId;

/// Decides which of a tenant's agents this process polls. The gateway requires that exactly one
/// client polls for an agent.
pub trait PollOwnership: fmt::Debug + Send + Sync {
    /// Asks for the right to poll for an agent who has just been signed in here. Begins to poll if
    /// it is granted.
    fn claim<'a>(&'a self, agent: AgentId, polls: &'a dyn Polls) -> BoxFuture<'a, Claimed>;

    /// Begins to poll again for an agent whose polls have just ended by themselves, unless another
    /// process has to. Returns whether they begin.
    fn resume(&self, agent: AgentId, polls: &dyn Polls) -> bool;

    /// Notes that the polls for an agent have ended by themselves.
    fn polls_ended(&self, agent: AgentId, polls: &dyn Polls);

    /// Whether this process may now begin a poll for an agent.
    fn may_poll(&self, agent: AgentId) -> bool;

    /// Whether it is certain that no other process polls for this agent now.
    fn is_sole_owner(&self, agent: AgentId) -> bool;

    /// Counts of the leases on the tenant's agents.
    fn counts(&self, polls: &dyn Polls) -> LeaseCounts;

    /// How long a lease lasts; zero if there are no leases.
    fn lease(&self) -> Duration;

    /// Whether other processes may poll for the tenant's agents.
    fn is_shared(&self) -> bool;

    /// Shares the polls with other processes for as long as the future is polled.
    fn run<'a>(&'a self, polls: &'a dyn Polls) -> BoxFuture<'a, ()>;

    /// Hands all agents over to the other processes, each after its poll under way has been
    /// answered. If the future is dropped, the agents that are left are not handed over.
    fn leave<'a>(&'a self, polls: &'a dyn Polls) -> BoxFuture<'a, ()>;
}

/// The polls of a tenant's agents, as their owner starts and ends them.
///
/// The owner calls those of these methods that begin and end polls, and [`is_polling`](Self::is_polling), while it holds its own
/// lock, so that a start and an end of polls for the same agent cannot cross. Therefore they must
/// return at once and must not call the owner.
pub trait Polls: Send + Sync {
    /// Whether the tenant's gateway can have such an agent.
    fn can_have(&self, agent: AgentId) -> bool;

    /// Whether the agent has a session that is to be kept: the tenant can have such an agent, and its gateway has not said that
    /// it allows no polls for this session. May ask the store.
    fn is_wanted(&self, agent: AgentId) -> BoxFuture<'_, bool>;

    /// Whether the agent has a session, as far as the store tells, also if the tenant can have no such agent any more.
    fn may_have_session(&self, _: AgentId) -> BoxFuture<'_, bool> {
        Box::pin(ready(false))
    }

    /// The agents of whom this process knows, without asking the store, that they have sessions that are to be kept.
    fn known(&self) -> Vec<AgentId> {
        Vec::new()
    }

    /// The agents whose sessions nobody polls, as far as this process knows.
    fn unkept(&self) -> Vec<AgentId> {
        Vec::new()
    }

    /// Leaves it to another process to say whether the unkept session of this agent is polled.
    fn leave_to_others(&self, _: AgentId) {}

    /// Tells the other replicas once more of an agent's session.
    fn tell_again(&self, _: AgentId) -> BoxFuture<'_, ()> {
        Box::pin(ready(()))
    }

    /// Begins to poll for an agent. If it is polled already, its next poll begins at once.
    fn begin(&self, agent: AgentId, cause: Cause);

    /// Ends the polls for an agent, after the poll under way has been answered, so that no event is
    /// lost. Returns whether they have ended by now.
    fn finish(&self, agent: AgentId) -> bool;

    /// Ends the polls for an agent at once.
    fn stop(&self, agent: AgentId);

    /// Whether this process polls for the agent.
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
    /// Another replica. It has the lease.
    Elsewhere,
    /// Not known, since the store did not answer in time. The owner finds it out later.
    Unknown,
}

/// Counts of this process's leases.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct LeaseCounts {
    /// Agents who are polled here although their leases have ended, because the store does not
    /// answer.
    pub overdue: usize,
    /// Agents whose polls here have ended for that reason.
    pub dropped: usize,
}

/// The owner in a process without replicas: it polls for all agents.
#[derive(Debug)]
pub(super) struct Alone;

impl PollOwnership for Alone {
    fn claim<'a>(&'a self, agent: AgentId, polls: &'a dyn Polls) -> BoxFuture<'a, Claimed> {
        polls.begin(agent, Cause::SignedIn);
        Box::pin(ready(Claimed::Here))
    }

    fn resume(&self, agent: AgentId, polls: &dyn Polls) -> bool {
        polls.begin(agent, Cause::SignedIn);
        true
    }

    fn polls_ended(&self, _: AgentId, _: &dyn Polls) {}

    fn may_poll(&self, _: AgentId) -> bool {
        true
    }

    fn is_sole_owner(&self, _: AgentId) -> bool {
        true
    }

    fn counts(&self, _: &dyn Polls) -> LeaseCounts {
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
