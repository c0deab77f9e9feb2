//! The kinds of sealed values that are stored beside an agent's session. Each value is sealed for
//! the tenant, the agent and the kind.

use secrecy::zeroize::Zeroizing;

use crate::{
    id::{AgentId, TenantId},
    keyring::{Keyring, Purpose, Renewal, SealError, Sealed},
};

/// The longest sealed value. As many rejections as are remembered are shorter, with the longest
/// texts of a gateway.
pub const SEALED_MAX: usize = 2 * 1024 * 1024;

/// A kind of sealed value. There may be one of each kind for each agent.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum SealedKind {
    /// Passwords that the gateway has rejected, as digests.
    Rejected,
    /// The password of the last sign-in that worked. Removed when the session ends.
    Credentials,
    /// What became of the agent's changes that had ids. Only in a file.
    Changes,
    /// That a sign-out may have ended the session, since its answer was lost.
    SignOut,
}

impl SealedKind {
    /// All kinds.
    pub const ALL: [Self; 4] = [Self::Rejected, Self::Credentials, Self::Changes, Self::SignOut];

    /// The name, as rows of a file and keys of a shared store have it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Rejected => "rejected",
            Self::Credentials => "credentials",
            Self::Changes => "changes",
            Self::SignOut => "signed-out",
        }
    }

    /// The kind with this [`name`](Self::name).
    pub fn named(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|sealed_kind| sealed_kind.name() == name)
    }

    /// Seals a value of this kind.
    pub fn seal(
        self,
        keyring: &Keyring,
        tenant: &TenantId,
        agent: AgentId,
        plain: &[u8],
    ) -> Result<Vec<u8>, SealError> {
        let sealer = keyring.sealer(self.purpose(), tenant);
        sealer.seal(&agent.to_string(), plain).map(|sealed| sealed.encode())
    }

    /// Opens a sealed value. `None` if no key opens it, or it was sealed for another agent or kind.
    pub fn open(
        self,
        keyring: &Keyring,
        tenant: &TenantId,
        agent: AgentId,
        sealed: &[u8],
    ) -> Option<Zeroizing<Vec<u8>>> {
        let sealed = Sealed::parse(sealed)?;
        keyring.sealer(self.purpose(), tenant).open(&agent.to_string(), &sealed)
    }

    /// What has to be done so that the value is sealed with the first key.
    pub fn renewal(
        self,
        keyring: &Keyring,
        tenant: &TenantId,
        agent: AgentId,
        sealed: &[u8],
    ) -> Renewal {
        let renewal = Sealed::parse(sealed).map(|sealed| {
            keyring.sealer(self.purpose(), tenant).renewal(&agent.to_string(), &sealed)
        });
        match renewal {
            Some(Ok(renewal)) => renewal,
            // Sealing failed, but the old value is still good.
            Some(Err(SealError)) => Renewal::Current,
            None => Renewal::Unreadable,
        }
    }

    fn purpose(self) -> Purpose {
        match self {
            Self::Rejected => Purpose::Rejection,
            Self::Credentials => Purpose::Credentials,
            Self::Changes => Purpose::Change,
            Self::SignOut => Purpose::SignOut,
        }
    }
}
