//! What is kept of an agent beside the session, sealed for the tenant, the agent and the purpose.

use secrecy::zeroize::Zeroizing;

use crate::{
    id::{AgentId, TenantId},
    keyring::{Keyring, Renewal, SealError, Sealed},
};

/// What there may be of each agent.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Drawer {
    /// A password that the gateway rejected, as a digest.
    Rejected,
    /// What the sign-in that worked last was made with. Goes when the session does.
    Credentials,
}

impl Drawer {
    /// Both.
    pub const ALL: [Self; 2] = [Self::Rejected, Self::Credentials];

    /// The kind of row that it is in a file, and the kind of key in a shared store.
    pub fn name(self) -> &'static str {
        match self {
            Self::Rejected => "rejected",
            Self::Credentials => "credentials",
        }
    }

    /// The one with this [`name`](Self::name).
    pub fn named(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|drawer| drawer.name() == name)
    }

    /// Seals what is to be put into it.
    pub fn seal(
        self,
        keyring: &Keyring,
        tenant: &TenantId,
        agent: AgentId,
        plain: &[u8],
    ) -> Result<Vec<u8>, SealError> {
        keyring.seal(&self.about(tenant, agent), plain).map(|sealed| sealed.encode())
    }

    /// What is in it; `None` if it cannot be read, or was another agent's or another drawer's.
    pub fn open(
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
    pub fn renewal(
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
