//! The roster as a tenant's [`PollOwnership`].

use std::time::Duration;

use futures_util::future::BoxFuture;

use super::Roster;
use crate::{
    id::AgentId,
    tenant::{Claimed, LeaseCounts, PollOwnership, Polls},
};

impl PollOwnership for Roster {
    fn claim<'a>(&'a self, agent: AgentId, polls: &'a dyn Polls) -> BoxFuture<'a, Claimed> {
        Box::pin(self.claim(agent, polls))
    }

    fn resume(&self, agent: AgentId, polls: &dyn Polls) {
        self.resume(agent, polls);
    }

    fn polls_ended(&self, agent: AgentId, polls: &dyn Polls) {
        self.polls_ended(agent, polls);
    }

    fn may_poll(&self, agent: AgentId) -> bool {
        self.may_poll(agent)
    }

    fn is_sole_owner(&self, agent: AgentId) -> bool {
        self.has_lease(agent)
    }

    fn counts(&self) -> LeaseCounts {
        self.counts()
    }

    fn lease(&self) -> Duration {
        self.leases.time()
    }

    fn is_shared(&self) -> bool {
        true
    }

    fn run<'a>(&'a self, polls: &'a dyn Polls) -> BoxFuture<'a, ()> {
        Box::pin(self.run(polls))
    }

    fn leave<'a>(&'a self, polls: &'a dyn Polls) -> BoxFuture<'a, ()> {
        Box::pin(self.leave(polls))
    }
}
