//! Replaces an encryption key: values that are not sealed with the first key are sealed again with
//! it, so that the old key can be removed.

use std::{
    collections::BTreeSet,
    mem,
    sync::{MutexGuard, PoisonError},
};

use tracing::info;

use super::{
    Inner,
    write::{Stored, Written},
};
use crate::{
    cluster::{
        members::KEPT_MAX,
        redis::{LinkError, Place, Repeat},
    },
    id::{AGENT_IDS_ANY, AgentId},
    keyring::Renewal,
    session::{Entry, SEALED_MAX, SealedKind, StoredSession},
};

/// Replaces a value if it is still the one that was read, and keeps its time to live.
pub(super) const REPLACE: &str = "
if look('GET', KEYS[1]) ~= ARGV[1] then return 0 end
redis.call('SET', KEYS[1], ARGV[2], 'KEEPTTL')
return 1
";
/// The agents who were signed in by any replica.
pub(super) const MEMBERS: &str = "
local kept = members(KEYS[1], ARGV[1])
return kept
";
/// How many agents are processed in one round trip.
const AT_ONCE: usize = 128;

/// How many values were sealed again.
#[derive(Clone, Copy, Debug, Default)]
struct Count {
    sessions: usize,
    beside: usize,
}

impl Inner {
    /// Seals again with the first key: all that this replica knows, and all of agents who were
    /// signed in. Every replica does this, since none can know that another one has.
    pub(super) async fn seal_anew(&self) -> Result<(), LinkError> {
        if !self.seals.keyring().is_being_replaced() {
            return Ok(());
        }
        let agents: BTreeSet<AgentId> =
            self.local.agents().into_iter().chain(self.kept().await?).collect();
        self.seal_anew_of(agents).await
    }

    /// Notes an agent whose session was read, if it is not sealed with the first key.
    pub(super) fn note_sealed(&self, agent: AgentId, bytes: &[u8]) {
        if self.seals.keyring().is_being_replaced()
            && StoredSession::parse(bytes)
                .is_ok_and(|record| !record.is_sealed_with(Some(self.seals.keyring())))
        {
            self.outdated().insert(agent);
            self.unsynced.notify_one();
        }
    }

    /// Like [`seal_anew`](Self::seal_anew), for the agents that were noted.
    pub(super) async fn seal_noted(&self) -> Result<(), LinkError> {
        let agents = mem::take(&mut *self.outdated());
        self.seal_anew_of(agents.clone()).await.inspect_err(|_| self.outdated().extend(agents))
    }

    fn outdated(&self) -> MutexGuard<'_, BTreeSet<AgentId>> {
        self.outdated.lock().unwrap_or_else(PoisonError::into_inner)
    }

    async fn seal_anew_of(&self, agents: BTreeSet<AgentId>) -> Result<(), LinkError> {
        let mut count = Count::default();
        let agents: Vec<AgentId> = agents.into_iter().collect();
        for some in agents.chunks(AT_ONCE) {
            for (agent, record) in some.iter().zip(self.records(some).await?) {
                if let Some(record) = record {
                    count.sessions += usize::from(self.seal_session(*agent, &record).await?);
                }
            }
            for sealed_kind in SealedKind::ALL {
                count.beside += self.seal_values(sealed_kind, some).await?;
            }
        }
        let Count { sessions, beside } = count;
        if sessions + beside > 0 {
            info!(ccgw.tenant.id = %self.seals.tenant(), sessions, passwords = beside, "values that were sealed with another key are sealed with the first key of store.encryption_key_files now");
        }
        Ok(())
    }

    /// Returns how many values were sealed again.
    async fn seal_values(
        &self,
        sealed_kind: SealedKind,
        agents: &[AgentId],
    ) -> Result<usize, LinkError> {
        let keys: Vec<String> =
            agents.iter().map(|agent| self.keys.of(sealed_kind.name(), agent)).collect();
        let values = self.link.read(&keys, Place::Whole, SEALED_MAX).await?;
        let mut count = 0;
        for ((agent, key), value) in agents.iter().zip(&keys).zip(values) {
            if let Some(value) = value {
                count += usize::from(self.seal(sealed_kind, *agent, key, &value).await?);
            }
        }
        Ok(count)
    }

    /// The agents who were signed in by any replica.
    async fn kept(&self) -> Result<Vec<AgentId>, LinkError> {
        let call = self.members.on(self.keys.kept()).arg(KEPT_MAX);
        let kept: Vec<String> = self.link.script(&call, Repeat::Once).await?;
        Ok(kept.iter().filter_map(|id| AgentId::parse(id, &AGENT_IDS_ANY).ok()).collect())
    }

    /// Returns whether the session was sealed again.
    async fn seal_session(&self, agent: AgentId, bytes: &[u8]) -> Result<bool, LinkError> {
        let record = StoredSession::parse(bytes).ok();
        let outdated = record.filter(|record| {
            record.agent() == Some(agent) && !record.is_sealed_with(Some(self.seals.keyring()))
        });
        let entry =
            outdated.and_then(|record| record.open(self.seals.tenant(), self.seals.keyring()).ok());
        let is_of_use = |entry: &Entry| entry.session.is_none() || entry.live().is_some();
        let Some(entry) = entry.filter(is_of_use) else { return Ok(false) };
        let version = Stored::Exactly(entry.version);
        Ok(matches!(self.write(agent, &entry, version).await?, Written::Done))
    }

    async fn seal(
        &self,
        sealed_kind: SealedKind,
        agent: AgentId,
        key: &str,
        sealed: &[u8],
    ) -> Result<bool, LinkError> {
        let renewal = sealed_kind.renewal(self.seals.keyring(), self.seals.tenant(), agent, sealed);
        let Renewal::Anew(anew) = renewal else { return Ok(false) };
        let call = self.replace.on(key).arg(sealed).arg(anew.encode());
        let replaced: u8 = self.link.script(&call, Repeat::Once).await?;
        Ok(replaced == 1)
    }
}

#[cfg(test)]
mod tests;
