//! Makes the rows of the file from what is known.

use std::sync::Arc;

use tracing::warn;

use super::{
    Slot,
    database::{Changes, Key, Kind},
};
use crate::{id::AgentId, keyring::Keyring, session::stored_session::StoredSession};

/// All rows that the file should have.
pub(super) fn everything(slots: &[Arc<Slot>], keyring: Option<&Keyring>) -> Changes {
    let mut changes = Changes::default();
    for slot in slots {
        let sessions = slot.local.agents().into_iter().map(|agent| (Kind::Session, agent));
        let others = slot.sealed.all().into_iter();
        let others = others.map(|(sealed_kind, agent)| (Kind::Sealed(sealed_kind), agent));
        for (kind, agent) in sessions.chain(others) {
            let row = slot.row(kind, agent, keyring);
            changes.rows.extend(row.map(|row| (slot.key(kind, agent), Some(row))));
        }
        changes.versions.push(slot.version());
    }
    changes
}

impl Slot {
    /// The row to be stored; `None` if there is nothing to store.
    pub(super) fn row(
        &self,
        kind: Kind,
        agent: AgentId,
        keyring: Option<&Keyring>,
    ) -> Option<Vec<u8>> {
        if let Kind::Sealed(sealed_kind) = kind {
            return self.sealed.row(sealed_kind, agent);
        }
        let entry = self.local.entry(agent).filter(|entry| entry.live().is_some())?;
        match StoredSession::of(&self.tenant, agent, &entry, keyring) {
            Ok(record) => Some(record.encode()),
            Err(error) => {
                warn!(ccgw.tenant.id = %self.tenant, ccgw.agent.id = %agent, %error, "a session cannot be stored");
                None
            }
        }
    }

    pub(super) fn key(&self, kind: Kind, agent: AgentId) -> Key {
        let (tenant, kind) = (self.tenant.to_string(), kind.name().to_owned());
        Key { tenant, kind, agent: agent.get() }
    }

    pub(super) fn version(&self) -> (String, u64) {
        (self.tenant.to_string(), self.local.last_version())
    }
}

impl Key {
    /// The agent of the row, if the number is a valid id.
    pub(super) fn agent(&self) -> Option<AgentId> {
        AgentId::parse(&self.agent.to_string(), &crate::id::AGENT_IDS_ANY).ok()
    }
}
