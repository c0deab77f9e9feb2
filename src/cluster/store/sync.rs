//! Applies the changes of other replicas, and reconciles with Redis what was missed.

mod plan;

use std::sync::Arc;

use futures_util::{StreamExt as _, TryStreamExt as _, stream};
use tokio::time::sleep_until;
use tracing::{debug, info};

use self::plan::{Plan, Task};
use super::{
    ATTEMPTS_MAX, Inner,
    write::{Stored, Written},
};
use crate::{
    cluster::ROSTER_NEWS,
    cluster::redis::{LinkError, Notice, Place, Probe},
    id::AgentId,
    session::{Entry, RECORD_MAX, Taken},
};

/// How many records are read in one round trip.
const READ_AT_ONCE: usize = 256;
const WRITES_AT_ONCE: usize = 32;

/// Syncs a store with Redis. Never returns.
pub(super) async fn run(store: Arc<Inner>) {
    let mut subscription = store.link.subscribe(store.keys.changed());
    let probe = Probe::new(&store.keys);
    let mut keys = store.seals.keyring().changes();
    let mut plan = Plan::new();
    loop {
        tokio::select! {
            notice = subscription.next() => match notice {
                Notice::Message(record) => {
                    store.apply(&record);
                    continue;
                }
                Notice::Gap => plan.add(Task::Reconcile),
            },
            () = store.unsynced.notified() => plan.add(Task::Push),
            () = store.passwords.due() => plan.add(Task::Push),
            () = keys.next() => plan.add(Task::Reconcile),
            () = store.link.worse() => plan.add(Task::Push),
            () = sleep_until(plan.due()) => plan.is_due(),
        }
        // Probe first, so that nothing is read or written in vain.
        let able = if !plan.has_failed() && store.link.state_for_keys().is_good() {
            Ok(())
        } else {
            probe.ask(&store.link).await
        };
        let done = match (able, plan.task()) {
            (Err(error), _) => Err(error),
            (Ok(()), Task::Nothing) => Ok(()),
            (Ok(()), Task::Push) => push(&store).await,
            (Ok(()), Task::Reconcile) => reconcile(&store).await,
        };
        match done {
            Ok(()) => plan.done(store.link.state_for_keys().is_good()),
            Err(error) => {
                debug!(ccgw.tenant.id = %store.seals.tenant(), %error, "sessions cannot be compared with Redis yet");
                plan.failed();
            }
        }
    }
}

async fn push(store: &Inner) -> Result<(), LinkError> {
    store.compare(&store.local.unsynced()).await?;
    if store.passwords.take_due() {
        // Redis takes them later. Nobody is woken for that: what has failed is tried again anyway.
        store.share_passwords().await.inspect_err(|_| store.passwords.set_due())?;
    }
    store.seal_noted().await
}

async fn reconcile(store: &Inner) -> Result<(), LinkError> {
    store.reconcile().await?;
    store.share_passwords().await?;
    store.seal_anew().await
}

impl Inner {
    pub(super) fn apply(&self, record: &[u8]) {
        if record == ROSTER_NEWS.as_bytes() {
            self.news.stirred.notify_one();
            return;
        }
        if self.news.heartbeats.receive(record) {
            return;
        }
        if let Some((agent, entry)) = self.seals.session(None, record)
            && self.is_believed(self.local.entry(agent).is_some(), &entry)
        {
            self.take(agent, &entry);
        }
    }

    /// Compares all known sessions with Redis.
    async fn reconcile(&self) -> Result<(), LinkError> {
        self.local.tidy();
        let told = self.compare(&self.local.agents()).await?;
        if told > 0 {
            info!(ccgw.tenant.id = %self.seals.tenant(), sessions = told, "wrote sessions to Redis that it did not have");
        }
        Ok(())
    }

    /// Has all replicas hear once more what is known of an agent. It is compared first, as everywhere: right after an outage,
    /// what Redis has may be the sign-out that ends it.
    pub(super) async fn tell_again(&self, agent: AgentId) -> Result<(), LinkError> {
        if let Some(error) = self.is_down() {
            return Err(error);
        }
        if self.compare(&[agent]).await? > 0 {
            return Ok(());
        }
        let Some(entry) = self.local.entry(agent) else { return Ok(()) };
        let written = self.write(agent, &entry, Stored::Exactly(entry.version)).await?;
        if let Written::Overtaken(newer) = written {
            self.take_in(agent, newer);
        }
        Ok(())
    }

    /// Compares what is known of these agents with Redis, and copies the newer version of each to where the older one is.
    /// Returns how many were written. Changes that only this replica knows are compared too, and not just written: the older
    /// one may be the sign-out that ends the newer. So each is written only over what it was compared with.
    async fn compare(&self, agents: &[AgentId]) -> Result<usize, LinkError> {
        let mut told = 0;
        for some in agents.chunks(READ_AT_ONCE) {
            let records = self.records(some).await?;
            let mut older = Vec::new();
            for (agent, record) in some.iter().zip(records) {
                let stored = record.and_then(|record| self.seals.session(Some(*agent), &record));
                let stored = stored.map(|(_, stored)| stored);
                let compared = stored.as_ref().map(|stored| stored.version);
                if !self.is_as_new(*agent, stored) {
                    older.push((*agent, compared));
                }
            }
            told += self.push(older).await?;
        }
        Ok(told)
    }

    /// Takes in what Redis has of an agent. Returns whether Redis is as new as this replica.
    fn is_as_new(&self, agent: AgentId, stored: Option<Entry>) -> bool {
        let (Some(stored), Some(known)) = (stored, self.local.entry(agent)) else { return false };
        let version = stored.version;
        let taken = self.local.offer(agent, &stored);
        version >= known.version && matches!(taken, Taken::Yes | Taken::Older)
    }

    /// Shares passwords again that Redis does not have.
    async fn share_passwords(&self) -> Result<(), LinkError> {
        for some in self.passwords.of_sessions(&self.local).chunks(READ_AT_ONCE) {
            let keys: Vec<_> = some.iter().map(|agent| self.keys.credentials(*agent)).collect();
            // Only whether there is one is of interest.
            let stored = self.link.read(&keys, Place::Whole, 0).await?;
            let missing = some.iter().zip(stored).filter(|(_, stored)| stored.is_none());
            for (agent, _) in missing {
                match self.passwords.write(*agent).await {
                    // Another application uses one of its keys. The others do not wait.
                    Err(LinkError::Refused(refusal)) if refusal.is_about_one_key() => {}
                    written => {
                        written?;
                    }
                }
            }
        }
        Ok(())
    }

    /// The records of these agents in Redis.
    pub(super) async fn records(
        &self,
        agents: &[AgentId],
    ) -> Result<Vec<Option<Vec<u8>>>, LinkError> {
        let keys: Vec<String> = agents.iter().map(|agent| self.keys.session(*agent)).collect();
        self.link.read(&keys, Place::Field("record"), RECORD_MAX).await
    }

    /// Writes what is known of these agents to Redis, unless Redis has something newer. Each comes with the version that it
    /// was compared with, if there was one. Returns how many were written.
    async fn push(&self, agents: Vec<(AgentId, Option<u64>)>) -> Result<usize, LinkError> {
        let told = stream::iter(agents).map(|(agent, compared)| self.push_one(agent, compared));
        let told = told.buffer_unordered(WRITES_AT_ONCE);
        told.try_fold(0, async |sum, news| Ok(sum + usize::from(news))).await
    }

    async fn push_one(&self, agent: AgentId, mut compared: Option<u64>) -> Result<bool, LinkError> {
        for _ in 0..ATTEMPTS_MAX {
            let Some(entry) = self.local.entry(agent) else { return Ok(false) };
            // An expired session need not be written. The end of a session has to be: if Redis has lost
            // it, a replica that missed the end may write the session again.
            if entry.is_old_end() || (entry.session.is_some() && entry.live().is_none()) {
                self.local.shared(agent, entry.version);
                return Ok(false);
            }
            let stored = match compared {
                Some(version) if version < entry.version => Stored::Exactly(version),
                _ => Stored::Below(entry.version),
            };
            let Written::Overtaken(found) = self.write(agent, &entry, stored).await? else {
                self.local.shared(agent, entry.version);
                return Ok(true);
            };
            compared = found.as_ref().map(|found| found.version);
            // Before it counts as shared: two replicas may have given one version while Redis was away, and then only what is
            // not shared gives way to what is stored.
            self.take_in(agent, found);
            if compared >= Some(entry.version) {
                self.local.shared(agent, entry.version);
                return Ok(false);
            }
        }
        // Others keep changing it. It is compared again before it counts as shared.
        Ok(false)
    }
}

#[cfg(test)]
mod tests;
