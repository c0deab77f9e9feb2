//! The task that takes agents from the queue, as fast as the tenant's rate of sign-ins allows.

use std::sync::{Arc, MutexGuard};

use tokio::{sync::OwnedSemaphorePermit, time::Instant};

use super::{Grant, Settled, State, Waiters, queue::Entry};
use crate::{
    call::{CallError, Obstacle, StoreTrouble},
    id::AgentId,
    tenant::Tenant,
};

impl Tenant {
    /// Starts the task that takes agents from the queue, unless it runs already.
    pub(super) fn drive_sign_ins(self: &Arc<Self>) {
        let mut state = self.sign_ins.lock();
        self.sign_ins.count(&state);
        if state.is_driven {
            return;
        }
        state.is_driven = true;
        drop(state);
        let (tenant, cutoff) = (self.clone(), self.work.cutoff.clone());
        let drive = async move {
            tokio::select! {
                biased;
                () = cutoff.given() => {}
                () = tenant.drive() => {}
            }
        };
        self.work.tasks.spawn(drive);
    }

    /// Takes agents from the queue until it is empty.
    async fn drive(self: &Arc<Self>) {
        let sign_ins = &self.sign_ins;
        // The semaphore is never closed.
        while let Ok(place) = sign_ins.places.clone().acquire_owned().await {
            let Some(waiting) = self.waiting_sign_ins() else { return };
            sign_ins.rate.moment(waiting).await;
            if !self.grant_next(place) {
                return;
            }
        }
    }

    /// How many agents wait. If none does, returns `None`, and the task has to end. It must not
    /// take a moment that nobody needs, since replicas share the moments.
    fn waiting_sign_ins(&self) -> Option<usize> {
        let mut state = self.lock_without_keepers_too_early(Instant::now());
        let waiting = state.queue.waiting();
        state.is_driven = waiting > 0;
        state.is_driven.then_some(waiting)
    }

    /// Grants the next agent its sign-in. Returns `false` if no agent waits.
    fn grant_next(self: &Arc<Self>, place: OwnedSemaphorePermit) -> bool {
        let now = Instant::now();
        let mut state = self.lock_without_keepers_too_early(now);
        let next = state.queue.pop(now, |agent, entry| self.is_wanted(agent, entry, now));
        self.sign_ins.count(&state);
        state.is_driven = next.is_some();
        let Some(agent) = next else { return false };
        let Some(entry) = state.queue.entry(agent) else { return true };
        let refused = entry.refused;
        let grant = Grant {
            is_withdrawn: false,
            is_for_caller: entry.is_asked_for(now),
            sign_ins: self.sign_ins.clone(),
            agent,
            ticket: entry.ticket,
            queued: entry.waited(now),
            // The result if the holder of the grant panics.
            result: Err(CallError::Internal.into()),
            _place: place,
        };
        let unheard = match entry.waiters.call.take() {
            Some(call) => call.send(grant).err(),
            None => Some(grant),
        };
        if unheard.is_some() {
            entry.waiters.grant = unheard;
            let tenant = self.newest();
            self.work.tasks.spawn(async move { tenant.sign_in_by_itself(agent, refused).await });
        }
        true
    }

    /// The queue, without the agents whom no call wants while other replicas may still have to tell the store whom they have
    /// signed out. Their keepers may not sign them in yet, and all replicas share the moments. They are told so, and come
    /// again when they may; the others in the queue do not wait for that.
    fn lock_without_keepers_too_early(&self, now: Instant) -> MutexGuard<'_, State> {
        let is_too_early = !self.store_settles_in().is_zero();
        let mut state = self.sign_ins.lock();
        if !is_too_early {
            return state;
        }
        let is_gone =
            |entry: &Entry<Waiters>| !entry.is_asked_for(now) && !entry.waiters.has_call();
        let gone = state.queue.remove_waiting(is_gone);
        self.sign_ins.count(&state);
        for entry in gone {
            let queued = entry.waited(now);
            let result = Err(Obstacle::StoreUnavailable(StoreTrouble::Silent));
            if let Some(keeper) = entry.waiters.keeper {
                // A keeper that has been stopped meanwhile does not receive it.
                let _unheard = keeper.send(Settled { result, queued });
            }
        }
        state
    }

    /// Whether somebody still needs the sign-in. While the bridge stops, only those who wait count.
    fn is_wanted(&self, agent: AgentId, entry: &Entry<Waiters>, now: Instant) -> bool {
        let stops = self.work.stopping.is_cancelled();
        let is_asked_for = entry.is_asked_for(now) && !stops;
        let newer = |version| version > entry.refused;
        (entry.waiters.are_there() || is_asked_for)
            && !self.sessions.cached(agent).is_some_and(|session| newer(session.version))
    }

    /// Signs in an agent that no call waits for. If a call gets the agent's turn first, it takes
    /// the grant and signs the agent in.
    async fn sign_in_by_itself(self: &Arc<Self>, agent: AgentId, refused: u64) {
        let result = self.recover(agent, refused).await;
        let mut state = self.sign_ins.lock();
        // The grant and the entry are removed together, so that others find both or none.
        let is_unclaimed = state.queue.entry(agent).is_some_and(|e| e.waiters.grant.is_some());
        let entry = is_unclaimed.then(|| state.queue.remove(agent)).flatten();
        self.sign_ins.count(&state);
        drop(state);
        if let Some(Waiters { grant: Some(mut grant), keeper, .. }) = entry.map(|e| e.waiters) {
            grant.result = result.map(drop).map_err(Obstacle::from);
            grant.tell(keeper);
        }
    }
}

impl Waiters {
    fn are_there(&self) -> bool {
        self.has_call() || self.keeper.as_ref().is_some_and(|keeper| !keeper.is_closed())
    }

    fn has_call(&self) -> bool {
        self.call.as_ref().is_some_and(|call| !call.is_closed())
    }
}
