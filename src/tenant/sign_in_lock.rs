//! The lock in the store by which one replica at a time signs an agent in.
//!
//! The lock can be lost during a sign-in: the store may forget it, or its holder may not reach the
//! store in time to renew it. So the lock only avoids useless sign-ins, and the gateway decides: of
//! two concurrent sign-ins it refuses the later one. The replica that was refused then waits for
//! the session that the other one makes. It keeps the lock meanwhile, so that no third replica
//! tries.

use std::{sync::Arc, time::Duration};

use tokio::time::sleep;
use tokio_util::sync::CancellationToken;

use super::{Attempt, Grant, Lock, SharedSignIns};
use crate::{
    call::Tasks,
    id::AgentId,
    session::{Claim, StoreError},
};

/// Keeps other replicas from signing the same agent in; released when dropped.
pub(super) struct SignInLock {
    pub(super) held: Arc<Held>,
    pub(super) claim: Claim,
    /// The grant under which the sign-in began.
    grant: Option<Grant>,
    /// Cancelled when the sign-in is done.
    done: CancellationToken,
}

/// An attempt to sign an agent in, as the store knows it.
pub(super) struct Held {
    shared: Arc<dyn SharedSignIns>,
    agent: AgentId,
    attempt: Attempt,
}

// === impl Held ===

impl Held {
    /// An attempt that takes at most `longest`.
    pub(super) fn new(
        shared: &Arc<dyn SharedSignIns>,
        agent: AgentId,
        longest: Duration,
    ) -> Arc<Self> {
        let (shared, attempt) = (shared.clone(), Attempt::lasting(longest));
        Arc::new(Self { shared, agent, attempt })
    }

    pub(super) async fn renew(&self) -> Result<Lock, StoreError> {
        self.shared.lock_sign_in(self.agent, self.attempt).await
    }
}

// === impl Asking ===

/// Releases the lock if the call stops waiting for the store's answer: the store may have given the
/// lock all the same, and other replicas would wait until it expires.
pub(super) struct Asking<'a> {
    pub(super) held: &'a Arc<Held>,
    pub(super) tasks: &'a Tasks,
    pub(super) is_answered: bool,
}

impl Drop for Asking<'_> {
    fn drop(&mut self) {
        if self.is_answered {
            return;
        }
        let held = self.held.clone();
        self.tasks.spawn(async move {
            let _unavailable = held.shared.unlock_sign_in(held.agent, held.attempt).await;
        });
    }
}

// === impl SignInLock ===

impl SignInLock {
    /// Holds the lock, and renews it in one of these tasks until it is dropped.
    pub(super) fn new(held: &Arc<Held>, tasks: &Tasks) -> Self {
        let (held, done) = (held.clone(), CancellationToken::new());
        let (renewed, over) = (held.clone(), done.clone());
        tasks.spawn(async move {
            let renewing = async {
                loop {
                    sleep(renewed.shared.lock_time() / 3).await;
                    let _unavailable = renewed.renew().await;
                }
            };
            over.run_until_cancelled(renewing).await;
            let _unavailable = renewed.shared.unlock_sign_in(renewed.agent, renewed.attempt).await;
        });
        Self { held, claim: Claim::default(), grant: None, done }
    }

    /// Begins a sign-in by this grant of the lock. `claim` is what it may replace in the store.
    pub(super) fn begin(&mut self, grant: Grant, claim: Claim) {
        (self.grant, self.claim) = (Some(grant), claim);
    }

    /// Whether the lock is still held by the grant by which the sign-in was begun.
    pub(super) fn has(&self, now: Option<Grant>) -> bool {
        now.is_some() && now == self.grant
    }
}

impl Drop for SignInLock {
    fn drop(&mut self) {
        self.done.cancel();
    }
}
