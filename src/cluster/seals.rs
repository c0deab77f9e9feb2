//! Sealing of what a tenant's replicas share, and what of it is believed.

use std::{fmt::Display, sync::Arc};

use secrecy::zeroize::Zeroizing;

use super::doubts::Doubts;
pub(super) use crate::session::CLOCKS_APART_MAX;
use crate::{
    id::{AgentId, TenantId},
    keyring::{Keyring, Purpose, SealError, Sealed},
    session::{Doubt, Entry, StoredSession, Unreadable},
    time::{millis, millis_now},
};

/// Seals and opens what a tenant's replicas share. Everybody can write into the store; only replicas have the
/// keys.
#[derive(Clone, Debug)]
pub(super) struct Seals {
    tenant: TenantId,
    keyring: Arc<Keyring>,
    doubts: Arc<Doubts>,
}

impl Seals {
    pub(super) fn new(tenant: TenantId, keyring: Arc<Keyring>, doubts: Arc<Doubts>) -> Self {
        Self { tenant, keyring, doubts }
    }

    pub(super) fn tenant(&self) -> &TenantId {
        &self.tenant
    }

    pub(super) fn keyring(&self) -> &Arc<Keyring> {
        &self.keyring
    }

    pub(super) fn seal(
        &self,
        purpose: Purpose,
        subject: impl Display,
        plain: &[u8],
    ) -> Result<Vec<u8>, SealError> {
        let sealer = self.keyring.sealer(purpose, &self.tenant);
        Ok(sealer.seal(&subject.to_string(), plain)?.encode())
    }

    /// What was sealed for this; `None` if no key opens it.
    pub(super) fn open(
        &self,
        purpose: Purpose,
        subject: impl Display,
        sealed: &[u8],
    ) -> Option<Zeroizing<Vec<u8>>> {
        let sealed = Sealed::parse(sealed)?;
        self.keyring.sealer(purpose, &self.tenant).open(&subject.to_string(), &sealed)
    }

    /// Reads the record of a session, or of its end: the agent and the entry. If `agent` is given, it has to be
    /// of that agent. One that is not believed is counted and left out.
    pub(super) fn session(
        &self,
        agent: Option<AgentId>,
        record: &[u8],
    ) -> Option<(AgentId, Entry)> {
        let opened = StoredSession::parse(record).and_then(|record| {
            let named = record.agent().ok_or(Unreadable::Malformed)?;
            if agent.is_some_and(|agent| agent != named) {
                return Err(Unreadable::Malformed);
            }
            Ok((named, record.open(&self.tenant, &self.keyring)?))
        });
        let doubt = match opened {
            Ok(opened) => return Some(opened),
            Err(Unreadable::Malformed | Unreadable::Sealed) => Doubt::SessionSeal,
            Err(Unreadable::Ahead) => Doubt::SessionVersion,
        };
        self.doubt(doubt);
        None
    }

    /// Counts keys of types that no replica writes.
    pub(super) fn set_aside(&self, keys: u64) {
        self.doubts.note(&self.tenant, Doubt::KeyType, keys);
    }

    /// Counts agents whom the tenant cannot have.
    pub(super) fn other_agents(&self, count: usize) {
        let count = u64::try_from(count).unwrap_or(u64::MAX);
        self.doubts.note(&self.tenant, Doubt::AgentId, count);
    }

    /// Counts something that is not believed.
    pub(super) fn doubt(&self, doubt: Doubt) {
        self.doubts(doubt, 1);
    }

    /// Counts so many things that are not believed.
    pub(super) fn doubts(&self, doubt: Doubt, times: u64) {
        self.doubts.note(&self.tenant, doubt, times);
    }
}

/// Whether this time, in milliseconds since 1970, is not too far ahead.
pub(super) fn is_believable(moment: u64) -> bool {
    moment <= millis_now().saturating_add(millis(CLOCKS_APART_MAX))
}
