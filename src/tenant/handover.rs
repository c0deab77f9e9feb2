//! How polls for an agent begin here, go on from another process, and are handed over.

use std::{future::ready, sync::Arc, time::Duration};

use futures_util::future::BoxFuture;

use super::{Cause, Claimed, LeaseCounts, Polls, Tenant, agents::Event, keeper::FirstPoll};
use crate::{id::AgentId, session::Origin};

const KEEPING_IS_OFF: &str = "keep.enabled is false";

/// The first polls for agents taken over are spread over this fraction of a lease (an eighth).
const SPREAD_DIVISOR: u32 = 8;
/// The mean pause between the first polls for agents whose sessions were found in the file, or whose node is not polled any
/// more. They are spread because each opens a connection, and calls come at once too.
const RESUMED_EVERY: Duration = Duration::from_millis(5);
/// All first polls begin within this time: the gateway signs out an agent that was not polled for
/// two minutes, and part of those has passed.
const RESUMED_WITHIN: Duration = Duration::from_secs(20);

// === impl Tenant ===

impl Tenant {
    /// Keeps a session that was made here, unless another replica keeps it or `keep.enabled` is
    /// false.
    pub(super) async fn begin_to_keep(self: &Arc<Self>, agent: AgentId) {
        if !self.config.keep.enabled {
            self.note(agent, Event::Unkept(KEEPING_IS_OFF));
            return;
        }
        match self.polls.claim(agent, self).await {
            Claimed::Here => {}
            Claimed::Elsewhere => self.note(agent, Event::Elsewhere),
            Claimed::Unknown => {
                self.note(agent, Event::Unkept("the store does not say who polls"));
            }
        }
    }

    /// Keeps a session whose keeper has just ended, unless another replica has to keep it. Returns whether it is kept here.
    pub(super) fn keep_again(self: &Arc<Self>, agent: AgentId) -> bool {
        self.polls.resume(agent, self)
    }

    /// Notes that an agent's keeper has ended by itself.
    pub(super) fn keeper_ended(self: &Arc<Self>, agent: AgentId) {
        self.polls.polls_ended(agent, self);
    }

    /// Whether this replica may begin a poll for an agent whom it keeps.
    pub(super) fn may_poll(&self, agent: AgentId) -> bool {
        self.polls.may_poll(agent)
    }

    /// Whether replicas share the polls, so that agents are handed over between them.
    pub fn is_kept_by_replicas(&self) -> bool {
        self.polls.is_shared()
    }

    /// Whether it is certain that no other replica keeps the agent's session.
    pub(super) fn is_sole_keeper(&self, agent: AgentId) -> bool {
        self.polls.is_sole_owner(agent)
    }

    /// Counts of the leases on the tenant's agents.
    pub fn lease_counts(self: &Arc<Self>) -> LeaseCounts {
        self.polls.counts(self)
    }

    /// Whether somebody polls for an agent's events, here or at another replica.
    pub(super) async fn is_polled(&self, agent: AgentId) -> bool {
        if let Some(state) = self.session_state(agent) {
            return state.is_polled();
        }
        let session = self.session(agent).await.ok().flatten();
        self.is_kept_by_replicas()
            && session.is_some_and(|session| session.origin == Origin::SignedIn)
    }

    /// Starts the task that decides with the other replicas, if there are any, who polls for which agent. It
    /// runs until the bridge begins to stop.
    pub fn share_polls(self: &Arc<Self>) {
        if !self.is_kept_by_replicas() {
            return;
        }
        let tenant = self.clone();
        self.work.tasks.spawn(async move {
            tenant.stopping().run_until_cancelled(tenant.polls.run(&tenant)).await;
        });
    }

    /// Keeps the sessions that the process before this one has left in the file of `store.file`.
    pub fn resume(self: &Arc<Self>) {
        self.keep_found();
        // If the file cannot be read at the start, wait until it can.
        let tenant = self.clone();
        if self.sessions.finding().is_some() {
            self.work.tasks.spawn(async move {
                let finding = tenant.sessions.finding().unwrap_or_else(|| Box::pin(ready(())));
                if tenant.stopping().run_until_cancelled(finding).await.is_some() {
                    tenant.keep_found();
                }
            });
        }
    }

    fn keep_found(self: &Arc<Self>) {
        let found = self.sessions.found();
        let spread = spread_of(found.len());
        for agent in found {
            if self.config.keep.enabled {
                let first_poll = FirstPoll::OfAnother(spread);
                self.keep(agent, "found in the file of store.file", first_poll);
            } else {
                self.note(agent, Event::Unkept(KEEPING_IS_OFF));
            }
        }
    }

    /// Hands the agents over to other replicas, after the polls under way have been answered.
    pub async fn hand_over(self: &Arc<Self>) {
        self.polls.leave(self).await;
    }
}

/// Within which time the first polls for so many agents begin who come at once.
pub(super) fn spread_of(agents: usize) -> Duration {
    RESUMED_EVERY.saturating_mul(agents.try_into().unwrap_or(u32::MAX)).min(RESUMED_WITHIN)
}

impl Polls for Arc<Tenant> {
    fn can_have(&self, agent: AgentId) -> bool {
        self.newest().config.agent_ids.contains(&agent.get())
    }

    fn known(&self) -> Vec<AgentId> {
        self.sessions.signed_in()
    }

    fn unkept(&self) -> Vec<AgentId> {
        self.agents.unkept()
    }

    fn leave_to_others(&self, agent: AgentId) {
        let version = self.sessions.cached(agent).map(|session| session.version);
        // Where the gateway allows no polls, no other replica polls either.
        if version.is_none_or(|version| !self.agents.has_no_polls(agent, version)) {
            self.note(agent, Event::Elsewhere);
        }
    }

    fn tell_again(&self, agent: AgentId) -> BoxFuture<'_, ()> {
        self.sessions.tell_again(agent)
    }

    fn is_wanted(&self, agent: AgentId) -> BoxFuture<'_, bool> {
        Box::pin(async move {
            if !self.can_have(agent) {
                return false;
            }
            let session = self.session(agent).await.ok().flatten();
            let session = session.filter(|session| session.origin == Origin::SignedIn);
            session.is_some_and(|session| !self.agents.has_no_polls(agent, session.version))
        })
    }

    fn may_have_session(&self, agent: AgentId) -> BoxFuture<'_, bool> {
        Box::pin(async move { !matches!(self.session(agent).await, Ok(None)) })
    }

    fn begin(&self, agent: AgentId, cause: Cause) {
        match cause {
            Cause::SignedIn => self.keep(agent, "signed in", FirstPoll::AtOnce),
            Cause::TakenOver => {
                // A replica that is gone leaves hundreds of agents, and each first poll opens a
                // connection.
                let first_poll = FirstPoll::OfAnother(self.polls.lease() / SPREAD_DIVISOR);
                self.keep(agent, "kept here from now on", first_poll);
            }
        }
    }

    fn finish(&self, agent: AgentId) -> bool {
        !self.agents.apply(agent, Event::Finish).is_kept
    }

    fn stop(&self, agent: AgentId) {
        self.note(agent, Event::Stopped);
    }

    fn is_polling(&self, agent: AgentId) -> bool {
        self.agents.is_kept(agent)
    }
}
