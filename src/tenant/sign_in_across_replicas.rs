//! How a call gets the lock on its agent's sign-in, and waits for another replica's sign-in.

use std::{sync::Arc, time::Duration};

use tokio::time::{Instant, sleep};

use super::{
    Lock, Tenant,
    admitted_call::AdmittedCall,
    sign_in_lock::{Asking, Held, SignInLock},
};
use crate::{
    call::{Abandoned, CallError, Obstacle, Refusal, Untouched, Wait},
    id::AgentId,
    session::{NewSession, Session, StoreError},
};

/// The result of waiting for the lock.
pub(super) enum Locked {
    /// This call has to sign the agent in.
    Ours(SignInLock),
    /// The same, and there are no other replicas.
    Alone,
    /// The store does not say what the other replicas do.
    Unknown(StoreError),
    /// Nobody has to: there is a newer session by now.
    Newer(Arc<Session>),
}

/// The pause between two checks whether another replica has signed the agent in.
const LOOK_PAUSE: Duration = Duration::from_millis(50);
/// How many sign-ins of other replicas may be under way when another one begins: one, whose lock
/// was lost. So there are never more than two at once, whatever happens to locks.
const OTHERS_MAX: usize = 1;
/// How often storing a session is tried while others change it.
const STORE_ATTEMPTS: usize = 8;

// === impl AdmittedCall ===

impl AdmittedCall {
    /// Waits until no other replica is signing the agent in.
    pub(super) async fn sign_in_lock(
        &mut self,
        refused: u64,
        untouched: &Untouched,
    ) -> Result<Locked, Obstacle> {
        let tenant = self.tenant.clone();
        let Some(shared) = tenant.sign_ins.shared() else { return Ok(Locked::Alone) };
        let held = Held::new(shared, self.agent, tenant.sign_in_max());
        let mut ours: Option<SignInLock> = None;
        loop {
            let lock = match self.asked_for_lock(&held, untouched).await? {
                Ok(lock) => lock,
                Err(error) => return Ok(ours.map_or(Locked::Unknown(error), Locked::Ours)),
            };
            if let Some(grant) = lock.grant {
                let claim = tenant.sessions.claim(lock.stored);
                let ours = ours.get_or_insert_with(|| SignInLock::new(&held, &tenant.work.tasks));
                ours.begin(grant, claim);
            }
            let newer = tenant.newer_than(self.agent, refused, lock.stored);
            let newer = self.caller_wait.before_sending(untouched, Wait::Store, newer).await?;
            if let Some(newer) = newer {
                return Ok(Locked::Newer(newer));
            }
            if lock.grant.is_some()
                && lock.others <= OTHERS_MAX
                && let Some(ours) = ours.take()
            {
                return Ok(Locked::Ours(ours));
            }
            self.caller_wait.before_sending(untouched, Wait::Queue, sleep(LOOK_PAUSE)).await?;
        }
    }

    async fn asked_for_lock(
        &mut self,
        held: &Arc<Held>,
        untouched: &Untouched,
    ) -> Result<Result<Lock, StoreError>, Obstacle> {
        let mut asking = Asking { held, tasks: &self.tenant.work.tasks, is_answered: false };
        let asked = self.caller_wait.before_sending(untouched, Wait::Store, held.renew()).await;
        asking.is_answered = asked.is_ok();
        asked
    }

    /// Whether another replica has signed the agent in, or is about to. Then a forcible sign-in
    /// would end that replica's session. `None`: the store does not say.
    pub(super) async fn is_a_replicas(
        &mut self,
        untouched: &Untouched,
    ) -> Result<Option<bool>, Obstacle> {
        let Some(lock) = &self.lock else {
            return Ok(self.tenant.sign_ins.shared().is_none().then_some(false));
        };
        let renewal = lock.held.renew();
        let now = self.caller_wait.before_sending(untouched, Wait::Store, renewal).await?;
        Ok(now.ok().map(|now| now.others > 0 || now.stored > lock.claim.replaces))
    }

    /// Waits for the session that another replica is making, after the gateway has refused this
    /// replica's sign-in for that reason. `None`: no replica is making one, or it failed.
    ///
    /// # Errors
    ///
    /// The store does not say whether the agent, who is signed in, is another replica's.
    pub(super) async fn made_elsewhere(
        &mut self,
        refusal: &Refusal,
        refused: u64,
    ) -> Result<Option<Arc<Session>>, StoreError> {
        let tenant = self.tenant.clone();
        let kind = refusal.retcode.kind();
        let elsewhere = kind.is_signed_in_elsewhere();
        let Some(held) = self.lock.as_ref().map(|lock| lock.held.clone()) else {
            // The store took no lock. It may answer all the same, such as when it has no memory.
            if !elsewhere || tenant.sign_ins.shared().is_none() {
                return Ok(None);
            }
            let known = || CallError::Refused(refusal.clone());
            let load = tenant.sessions.load(self.agent);
            let stored = self.caller_wait.answering(known, load).await?;
            return Ok(stored.filter(|stored| stored.version > refused));
        };
        let until = Instant::now() + tenant.config.timeouts.sign_in;
        while (elsewhere || kind.is_in_progress()) && Instant::now() < until {
            let look = async {
                let now = held.renew().await;
                let stored = now.as_ref().map_or(u64::MAX, |now| now.stored);
                (now, tenant.newer_than(self.agent, refused, stored).await)
            };
            let known = || CallError::Refused(refusal.clone());
            let (now, newer) = self.caller_wait.answering(known, look).await;
            if newer.is_some() {
                return Ok(newer);
            }
            // No replica is signing the agent in, so another client has the agent.
            if elsewhere && now?.others == 0 {
                return Ok(None);
            }
            if self.wait_on(refusal).await.is_none() {
                return Ok(None);
            }
        }
        Ok(None)
    }

    /// Pauses shortly. If the caller leaves, it is answered and the work goes on, since other calls
    /// wait for its result. `None`: the bridge is about to end.
    async fn wait_on(&mut self, refusal: &Refusal) -> Option<()> {
        // No request is open during the pause, so its place is free for others.
        self.request = None;
        let cutoff = self.tenant.work.cutoff.clone();
        tokio::select! {
            biased;
            () = cutoff.given() => return None,
            abandoned = self.caller_wait.abandoned() => {
                if abandoned == Abandoned::Cutoff {
                    return None;
                }
                self.caller_wait.answer(CallError::Refused(refusal.clone()));
            }
            () = sleep(LOOK_PAUSE) => {}
        }
        Some(())
    }
}

// === impl Tenant ===

impl Tenant {
    /// A session newer than the version `refused`, if there is one. `stored` is the version in the
    /// store.
    async fn newer_than(&self, agent: AgentId, refused: u64, stored: u64) -> Option<Arc<Session>> {
        let known = self.sessions.cached(agent).map_or(0, |known| known.version);
        if known.max(stored) <= refused {
            return None;
        }
        self.stored_since(agent, refused).await
    }

    /// Stores a session that was made, unless another replica has stored one that was requested
    /// later. Returns the session that is stored then.
    pub(super) async fn store_made(
        &self,
        agent: AgentId,
        made: NewSession,
        lock: Option<&SignInLock>,
    ) -> Result<Arc<Session>, StoreError> {
        let sessions = &self.sessions;
        let Some(lock) = lock else { return sessions.put(agent, made).await };
        let mut claim = lock.claim;
        for _ in 0..STORE_ATTEMPTS {
            if let Some(stored) = sessions.put_claimed(agent, made.clone(), claim).await? {
                return Ok(stored);
            }
            match lock.held.renew().await {
                // No other replica has signed in since, so the stored session is only a renewed
                // form of the old one.
                Ok(now) if lock.has(now.grant) => claim = sessions.claim(now.stored),
                _ => break,
            }
        }
        let stored = self.newest_session(agent).await;
        let gone = || StoreError::Unavailable("the session has been ended meanwhile".into());
        stored.ok_or_else(gone)
    }
}
