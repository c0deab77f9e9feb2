//! A tenant whose agents several replicas share.

use std::{future::ready, sync::Arc, time::Duration};

use futures_util::future::BoxFuture;
use tokio::time::Instant;

use super::{Cause, Claimed, LeaseCounts, Polls, Tenant};
use crate::{
    event::What,
    id::AgentId,
    session::{Origin, SessionState},
};

/// Of a lease, the part in which the first polls for agents taken over are begun.
const SPREAD: u32 = 8;
/// Between the first polls for agents whose sessions outlived the process: each opens a connection,
/// and calls come at once too.
const RESUMED_EVERY: Duration = Duration::from_millis(5);
/// But all are begun within this time: the gateway signs out whoever was not polled for two minutes,
/// and a part of those has passed.
const RESUMED_WITHIN: Duration = Duration::from_secs(20);

// === impl Tenant ===

impl Tenant {
    /// Keeps a session that was made here, unless another replica does, or nobody shall.
    pub(super) async fn begin_to_keep(self: &Arc<Self>, agent: AgentId) {
        if !self.config.keep.enabled {
            self.enter(agent, SessionState::Unkept, "keep.enabled is false");
            return;
        }
        match self.polls.claim(agent, self).await {
            Claimed::Here => {}
            Claimed::Elsewhere => self.states.forget(agent),
            Claimed::Unknown => {
                self.enter(agent, SessionState::Unkept, "the store does not say who polls");
            }
        }
    }

    /// Keeps a session again whose keeper has just ended, unless that is up to another replica.
    pub(super) fn keep_again(self: &Arc<Self>, agent: AgentId) {
        self.polls.resume(agent, self);
    }

    /// Notes that an agent's keeper has ended by itself.
    pub(super) fn keeper_ended(self: &Arc<Self>, agent: AgentId) {
        self.polls.polls_ended(agent, self);
    }

    /// Whether this replica may begin a poll for an agent whom it keeps.
    pub(super) fn may_poll(&self, agent: AgentId) -> bool {
        self.polls.may_poll(agent)
    }

    /// Whether one of several replicas keeps each session that they have made, so that agents are
    /// handed over between them.
    pub fn is_kept_by_replicas(&self) -> bool {
        self.polls.is_shared()
    }

    /// Whether it is certain that no other replica keeps the agent's session.
    pub(super) fn is_sole_keeper(&self, agent: AgentId) -> bool {
        self.polls.is_sole_owner(agent)
    }

    /// How the leases on the tenant's agents are doing.
    pub fn lease_counts(&self) -> LeaseCounts {
        self.polls.counts()
    }

    /// Whether an agent's events come in, here or at another replica.
    pub(super) async fn is_polled(&self, agent: AgentId) -> bool {
        if let Some(state) = self.session_state(agent) {
            return state.is_polled();
        }
        let session = self.session(agent).await.ok().flatten();
        self.is_kept_by_replicas()
            && session.is_some_and(|session| session.origin == Origin::SignedIn)
    }

    /// Tells an event that was fetched then to whoever watches, here and at other replicas.
    pub(super) fn publish(&self, agent: AgentId, what: What, fetched: Instant) {
        if let Err(what) = self.relay.publish(agent, what, fetched) {
            self.events.publish(agent, what, fetched);
        }
    }

    /// Decides with the other replicas who polls whom, until the bridge begins to stop.
    pub fn share_polls(self: &Arc<Self>) {
        let tenant = self.clone();
        self.work.tasks.spawn(async move {
            tenant.stopping().run_until_cancelled(tenant.polls.run(&tenant)).await;
        });
    }

    /// Goes on with the sessions that the process before this one made and left in its file.
    pub fn resume(self: &Arc<Self>) {
        self.keep_found();
        // A file that cannot be read at the start may be read later.
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
        let spread = RESUMED_EVERY.saturating_mul(found.len().try_into().unwrap_or(u32::MAX));
        for agent in found {
            if self.config.keep.enabled {
                self.enter(agent, SessionState::Kept, "found in the file of store.file");
                self.keepers.take_over(self, agent, spread.min(RESUMED_WITHIN));
            } else {
                self.enter(agent, SessionState::Unkept, "keep.enabled is false");
            }
        }
    }

    /// Hands the agents over to other replicas, once the polls under way have been answered.
    pub async fn hand_over(self: &Arc<Self>) {
        self.polls.leave(self).await;
    }
}

impl Polls for Arc<Tenant> {
    fn is_wanted(&self, agent: AgentId) -> BoxFuture<'_, bool> {
        Box::pin(async move {
            let session = self.session(agent).await.ok().flatten();
            session.is_some_and(|session| session.origin == Origin::SignedIn)
        })
    }

    fn begin(&self, agent: AgentId, cause: Cause) {
        match cause {
            Cause::SignedIn => {
                self.enter(agent, SessionState::Kept, "signed in");
                self.keepers.start(self, agent);
            }
            Cause::TakenOver => {
                self.enter(agent, SessionState::Kept, "kept here from now on");
                // Hundreds come from a replica that is gone, each with a connection to open.
                self.keepers.take_over(self, agent, self.polls.lease() / SPREAD);
            }
        }
    }

    fn finish(&self, agent: AgentId) -> bool {
        self.keepers.finish(agent)
    }

    fn stop(&self, agent: AgentId) {
        self.keepers.stop(agent);
        self.states.forget(agent);
    }

    fn is_polling(&self, agent: AgentId) -> bool {
        self.keepers.is_keeping(agent)
    }
}
