//! Waits in the queue until an agent may be signed in.

use std::{future::pending, sync::Arc, time::Duration};

use tokio::{
    sync::oneshot,
    time::{Instant, sleep},
};

use super::{
    Grant, Settled, SignIns,
    queue::{Lane, Standing},
};
use crate::{
    call::{Abandoned, CallError, Obstacle, Untouched, Wait},
    id::AgentId,
    session::Session,
    tenant::{Tenant, admitted_call::AdmittedCall},
};

/// The result of waiting in the queue.
pub(in crate::tenant) enum Moment {
    /// The agent may be signed in.
    Ours(Grant),
    /// There is a session by now.
    Newer(Arc<Session>),
}

/// The pause between two checks whether another replica has signed the agent in.
const LOOK_PAUSE: Duration = Duration::from_millis(100);

impl AdmittedCall {
    /// Waits until the agent may be signed in. If that cannot be before the caller's deadline, fails at
    /// once; the agent keeps its place.
    pub(in crate::tenant) async fn sign_in_moment(
        &mut self,
        refused: u64,
        untouched: &Untouched,
    ) -> Result<Moment, Obstacle> {
        loop {
            let mut granted = match self.join_queue(refused)? {
                Joined::Granted(grant) => return Ok(Moment::Ours(grant)),
                Joined::Waiting(granted) => granted,
            };
            let waited = self.until_granted(&mut granted, refused).await;
            self.turn.expect_sign_in(None);
            granted.close();
            // A grant that came at the last moment is used, even if the caller has left.
            match (granted.try_recv(), waited) {
                (Ok(grant), _) | (Err(_), Ok(Some(Moment::Ours(grant)))) => {
                    return Ok(Moment::Ours(grant));
                }
                (Err(_), Ok(Some(newer))) => return Ok(newer),
                (Err(_), Err(error)) => return Err(error),
                (Err(_), Ok(None)) => {
                    let newer = self.tenant.stored_since(self.agent, refused);
                    let newer =
                        self.caller_wait.before_sending(untouched, Wait::Store, newer).await?;
                    if let Some(newer) = newer {
                        return Ok(Moment::Newer(newer));
                    }
                }
            }
        }
    }

    fn join_queue(&mut self, refused: u64) -> Result<Joined, Obstacle> {
        let (tenant, agent, now) = (self.tenant.clone(), self.agent, Instant::now());
        let mut state = tenant.sign_ins.lock_to_estimate();
        let standing = state.queue.ask(agent, Lane::Calls, refused, now);
        let Some(entry) = state.queue.entry(agent) else { return Err(CallError::Internal.into()) };
        let is_withdrawn = entry.waiters.grant.as_ref().is_some_and(|grant| grant.is_withdrawn);
        if is_withdrawn && self.call.is_none() {
            return Err(Obstacle::SessionMissing);
        }
        let joined = match standing {
            // A grant is for the call that has the agent's turn, and that is this call.
            Standing::Due => entry.waiters.grant.take().map(Joined::Granted),
            Standing::Waiting(due) if !self.caller_wait.lasts_until(due.earliest) => {
                drop(state);
                tenant.drive_sign_ins();
                return Err(Obstacle::SignInsQueued { due_in: due.expected - now });
            }
            Standing::Waiting(due) => {
                let (call, granted) = oneshot::channel();
                entry.waiters.call = Some(call);
                self.turn.expect_sign_in(Some(due));
                Some(Joined::Waiting(granted))
            }
        };
        drop(state);
        tenant.drive_sign_ins();
        joined.ok_or_else(|| CallError::Internal.into())
    }

    /// Waits for a grant or a newer session. `None`: the agent is no longer in the queue.
    async fn until_granted(
        &mut self,
        granted: &mut oneshot::Receiver<Grant>,
        refused: u64,
    ) -> Result<Option<Moment>, Obstacle> {
        let tenant = self.tenant.clone();
        let newer = async {
            if tenant.sign_ins.shared().is_none() {
                return pending().await;
            }
            loop {
                sleep(LOOK_PAUSE).await;
                let known = tenant.sessions.cached(self.agent);
                if let Some(newer) = known.filter(|known| known.version > refused) {
                    return newer;
                }
            }
        };
        tokio::select! {
            biased;
            grant = granted => Ok(grant.ok().map(Moment::Ours)),
            newer = newer => Ok(Some(Moment::Newer(newer))),
            abandoned = self.caller_wait.abandoned() => Err(match abandoned {
                Abandoned::Cutoff => abandoned.before(Wait::Queue),
                Abandoned::Deadline | Abandoned::Gone => tenant.sign_ins.queued(self.agent),
            }),
        }
    }
}

enum Joined {
    Granted(Grant),
    Waiting(oneshot::Receiver<Grant>),
}

impl SignIns {
    /// The error for a caller who stops waiting.
    fn queued(&self, agent: AgentId) -> Obstacle {
        let now = Instant::now();
        let due_in = match self.lock().queue.standing(agent, now) {
            Standing::Waiting(due) => due.expected.saturating_duration_since(now),
            Standing::Due => Duration::ZERO,
        };
        Obstacle::SignInsQueued { due_in }
    }

    /// Puts an agent whose session is lost in the queue, for its keeper.
    fn ask_for_keeper(&self, agent: AgentId, lost: u64) -> oneshot::Receiver<Settled> {
        let (keeper, settled) = oneshot::channel();
        let mut state = self.lock_to_estimate();
        state.queue.ask(agent, Lane::Keepers, lost, Instant::now());
        if let Some(entry) = state.queue.entry(agent) {
            entry.waiters.keeper = Some(keeper);
        }
        settled
    }
}

impl Tenant {
    /// Has a lost session made anew through the queue, and waits for the result.
    pub(in crate::tenant) async fn make_anew(
        self: &Arc<Self>,
        agent: AgentId,
        lost: u64,
    ) -> Settled {
        loop {
            if let Some(result) = self.needs_no_sign_in(agent, lost).await {
                return Settled { result, queued: Duration::ZERO };
            }
            let settled = self.sign_ins.ask_for_keeper(agent, lost);
            self.drive_sign_ins();
            // An error: the agent left the queue because of a session made in another way. Look
            // again.
            if let Ok(settled) = settled.await {
                return settled;
            }
        }
    }

    /// The result if no sign-in is needed or possible; `None`: the agent has to join the queue.
    async fn needs_no_sign_in(&self, agent: AgentId, lost: u64) -> Option<Result<(), Obstacle>> {
        let newest = self.newest_session(agent).await;
        if newest.is_some_and(|newest| newest.version > lost) {
            return Some(Ok(()));
        }
        match self.usable_credentials(agent).await {
            Ok(Some(_)) => None,
            Ok(None) => Some(Err(Obstacle::SessionMissing)),
            Err(error) => Some(Err(error)),
        }
    }
}
