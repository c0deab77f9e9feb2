//! A tenant whose agents several replicas share.

use std::{sync::Arc, time::Duration};

use tokio::time::sleep;
use tokio_util::sync::CancellationToken;

use super::{Tenant, underway::Underway};
use crate::{
    call::CallError,
    event::What,
    id::AgentId,
    replica::{Leases, Polls},
    session::{Origin, Session, SessionState},
};

/// Whose turn it is to sign an agent in.
pub(super) enum Locked {
    /// Ours, until this is dropped.
    Ours(Option<SignInLock>),
    /// Nobody's: there is a newer session by now.
    Newer(Arc<Session>),
}

/// Keeps other replicas from signing the same agent in.
pub(super) struct SignInLock {
    /// Cancelled when the sign-in is done.
    done: CancellationToken,
}

/// Between two looks at whether another replica has signed the agent in.
const LOOK_PAUSE: Duration = Duration::from_millis(50);

// === impl Tenant ===

impl Tenant {
    /// Keeps a session that was made here, unless another replica does, or nobody shall.
    pub(super) async fn begin_to_keep(self: &Arc<Self>, agent: AgentId, cause: &'static str) {
        if !self.config.keep.enabled {
            self.enter(agent, SessionState::Unpolled, "keep.enabled is false");
            return;
        }
        if let Some(roster) = &self.roster
            && !roster.claim(agent).await
        {
            self.states.forget(agent);
            return;
        }
        self.enter(agent, SessionState::Kept, cause);
        self.keepers.start(self, agent);
    }

    /// Whether an agent's events come in, here or at another replica.
    pub(super) async fn is_polled(&self, agent: AgentId) -> bool {
        if let Some(state) = self.session_state(agent) {
            return state.is_polled();
        }
        let session = self.session(agent).await.ok().flatten();
        self.roster.is_some()
            && self.config.keep.enabled
            && session.is_some_and(|session| session.origin == Origin::SignedIn)
    }

    /// Tells an event to whoever watches, here and at other replicas.
    pub(super) fn publish(&self, agent: AgentId, what: What) {
        let untold = match &self.relay {
            Some(relay) => relay.publish(agent, what).err(),
            None => Some(what),
        };
        if let Some(what) = untold {
            self.events.publish(agent, what);
        }
    }

    /// Decides with the other replicas who polls whom, until the bridge begins to stop.
    pub fn share_polls(self: &Arc<Self>) {
        if self.roster.is_none() || !self.config.keep.enabled {
            return;
        }
        let tenant = self.clone();
        self.work.tasks.spawn(async move {
            if let Some(roster) = &tenant.roster {
                tenant.stopping().run_until_cancelled(roster.run(&tenant)).await;
            }
        });
    }

    /// Hands the agents over to other replicas, once the polls under way have been answered.
    pub async fn hand_over(self: &Arc<Self>) {
        if let Some(roster) = &self.roster {
            roster.leave(self).await;
        }
    }

    /// Whether there are other replicas to hand agents over to.
    pub fn is_shared(&self) -> bool {
        self.roster.is_some()
    }
}

impl Polls for Arc<Tenant> {
    async fn begin(&self, agent: AgentId) {
        let session = self.session(agent).await.ok().flatten();
        if session.is_some_and(|session| session.origin == Origin::SignedIn) {
            self.enter(agent, SessionState::Kept, "kept here from now on");
            self.keepers.start(self, agent);
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

// === impl Underway ===

impl Underway {
    /// Waits until no other replica is signing the agent in.
    pub(super) async fn sign_in_lock(&mut self, refused: u64) -> Result<Locked, CallError> {
        let tenant = self.tenant.clone();
        let Some(roster) = &tenant.roster else { return Ok(Locked::Ours(None)) };
        let leases = roster.leases();
        loop {
            match leases.lock_sign_in(self.agent).await {
                Ok(true) => return Ok(Locked::Ours(Some(SignInLock::new(leases, self)))),
                // Signing in twice is harmless; not being signed in is not.
                Err(_unavailable) => return Ok(Locked::Ours(None)),
                Ok(false) => {}
            }
            tokio::select! {
                biased;
                loss = self.patience.lost() => return Err(loss.before_sending()),
                () = sleep(LOOK_PAUSE) => {}
            }
            if let Some(newer) = self.stored_since(refused).await {
                return Ok(Locked::Newer(newer));
            }
        }
    }
}

// === impl SignInLock ===

impl SignInLock {
    /// Renews the lock for as long as it is held.
    fn new(leases: &Arc<dyn Leases>, call: &Underway) -> Self {
        let done = CancellationToken::new();
        let (leases, agent, held) = (leases.clone(), call.agent, done.clone());
        call.tenant.work.tasks.spawn(async move {
            let renewing = async {
                loop {
                    sleep(leases.time() / 3).await;
                    let _unavailable = leases.lock_sign_in(agent).await;
                }
            };
            held.run_until_cancelled(renewing).await;
            let _unavailable = leases.unlock_sign_in(agent).await;
        });
        Self { done }
    }
}

impl Drop for SignInLock {
    fn drop(&mut self) {
        self.done.cancel();
    }
}
