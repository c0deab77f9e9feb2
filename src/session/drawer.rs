//! What is kept of an agent beside the session, sealed for the tenant, the agent and the purpose.

use secrecy::zeroize::Zeroizing;

use crate::{
    cluster::redis::Keys,
    id::{AgentId, TenantId},
    keyring::{Keyring, Renewal, SealError, Sealed},
};

/// What there may be of each agent.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Drawer {
    /// A password that the gateway rejected, as a digest.
    Rejected,
    /// What the sign-in that worked last was made with. Goes when the session does.
    Credentials,
}

impl Drawer {
    pub(crate) const ALL: [Self; 2] = [Self::Rejected, Self::Credentials];

    /// The kind of row that it is in a file, and the kind of key in Redis.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Rejected => "rejected",
            Self::Credentials => "credentials",
        }
    }

    pub(crate) fn named(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|drawer| drawer.name() == name)
    }

    /// Its key in Redis.
    pub(crate) fn key(self, keys: &Keys, agent: AgentId) -> String {
        match self {
            Self::Rejected => keys.of(self.name(), agent),
            Self::Credentials => keys.credentials(agent),
        }
    }

    pub(crate) fn seal(
        self,
        keyring: &Keyring,
        tenant: &TenantId,
        agent: AgentId,
        plain: &[u8],
    ) -> Result<Vec<u8>, SealError> {
        keyring.seal(&self.about(tenant, agent), plain).map(|sealed| sealed.encode())
    }

    /// What is in it; `None` if it cannot be read, or was another agent's or another drawer's.
    pub(crate) fn open(
        self,
        keyring: &Keyring,
        tenant: &TenantId,
        agent: AgentId,
        sealed: &[u8],
    ) -> Option<Zeroizing<Vec<u8>>> {
        let sealed = Sealed::parse(sealed)?;
        keyring.open(&self.about(tenant, agent), &sealed).map(Zeroizing::new)
    }

    /// What there is to do so that the first key seals it.
    pub(crate) fn renewal(
        self,
        keyring: &Keyring,
        tenant: &TenantId,
        agent: AgentId,
        sealed: &[u8],
    ) -> Renewal {
        let renewal = Sealed::parse(sealed)
            .map(|sealed| keyring.renewal(&self.about(tenant, agent), &sealed));
        match renewal {
            Some(Ok(renewal)) => renewal,
            // It is good as it is.
            Some(Err(SealError)) => Renewal::Current,
            None => Renewal::Unreadable,
        }
    }

    fn about(self, tenant: &TenantId, agent: AgentId) -> String {
        format!("{tenant}|{agent}|{}", self.name())
    }
}
