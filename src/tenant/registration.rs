//! How the owner of a session hands its Guid to the bridge.

use std::{sync::Arc, time::Duration};

use tokio::time::timeout_at;

use super::{Tenant, agents::Event};
use crate::{
    call::{CallError, Deadline, Stage},
    id::AgentId,
    session::{Cookies, Guid, NewSession, Origin, Session},
};

impl Tenant {
    /// Stores the Guid of an agent whom its owner signed in without the bridge. It replaces any
    /// other session.
    ///
    /// # Errors
    ///
    /// [`Obstacle::Overloaded`](crate::call::Obstacle::Overloaded) if the tenant has reached its limit of sessions;
    /// [`CallError::Deadline`] if the store has not answered by the deadline. It may then have
    /// stored the Guid nevertheless.
    pub async fn register(
        self: &Arc<Self>,
        agent: AgentId,
        guid: Guid,
        ttl: Option<Duration>,
        deadline: Deadline,
    ) -> Result<Arc<Session>, CallError> {
        // The load balancer's cookies name a node, so they stay valid while the Guid names the same
        // node.
        let cookies = match self.sessions.cached(agent) {
            Some(known) if known.guid.node() == guid.node() => known.cookies.clone(),
            _ => Cookies::default(),
        };
        // The owner polls from now on, so the bridge has to stop: the gateway refuses two polls at
        // once (000-007).
        self.note(agent, Event::Registering);
        let ttl = Some(ttl.unwrap_or(self.config.registered_ttl));
        let session = NewSession { guid, origin: Origin::Registered, ttl, cookies };
        let tenant = self.clone();
        // In a task of its own: a caller who leaves must not stop it halfway.
        let storing = self.work.tasks.spawn(async move {
            let stored = tenant.sessions.put(agent, session).await;
            match &stored {
                // A sign-in has replaced it meanwhile, and has published its own change.
                Ok(session) if !tenant.is_newest(agent, session.version) => {}
                Ok(_) => {
                    // From now on the agent is its owner's, and a caller's password is of no more use.
                    tenant.credentials.forget_here(agent);
                    tenant.note(agent, Event::Registered);
                    tenant.credentials.forget(agent).await;
                }
                Err(_) => tenant.note(agent, Event::Unregistered),
            }
            tenant.agents.decided(agent);
            tenant.sign_ins.settle(agent);
            stored.map_err(|error| CallError::unasked(tenant.store_failed(&error)))
        });
        match timeout_at(deadline.answer_by(), storing).await {
            Ok(stored) => stored.unwrap_or(Err(CallError::Internal)),
            Err(_elapsed) => Err(CallError::Deadline(Stage::Store)),
        }
    }
}
