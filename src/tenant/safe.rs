//! What a tenant's replicas tell each other of passwords, encrypted under the keys that only they
//! have.

use std::{fmt, sync::Arc, time::Duration};

use secrecy::zeroize::Zeroizing;
use serde::{Deserialize, Serialize};
use tracing::debug;

use crate::{
    id::{AgentId, TenantId},
    keyring::{Keyring, Sealed, hex, unhex},
    redis::{Keys, Link, LinkError, LinkState, Repeat},
    session::Shared,
};

/// A tenant's safe in the Redis that its replicas share. What cannot be read is as if it were not
/// there, and what cannot be written is not missed: it only saves work, or a locked account.
pub(super) struct Safe {
    tenant: TenantId,
    link: Link,
    keys: Keys,
    keyring: Arc<Keyring>,
    /// Whether what sign-ins need may be in it.
    pub(super) has_credentials: bool,
}

/// What there may be in it of each agent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Drawer {
    /// A password that the gateway rejected, as a digest.
    Rejected,
    /// What the sign-in that worked last was made with.
    Credentials,
}

#[derive(Serialize, Deserialize)]
struct Content {
    key: String,
    nonce: String,
    data: String,
}

impl Safe {
    pub(super) fn new(shared: &Shared, tenant: &TenantId) -> Self {
        Self {
            tenant: tenant.clone(),
            link: shared.link().clone(),
            keys: shared.keys(tenant),
            keyring: shared.keyring().clone(),
            has_credentials: shared.has_credentials(),
        }
    }

    /// Puts something in for a time, in the place of what is there.
    pub(super) async fn put(
        &self,
        drawer: Drawer,
        agent: AgentId,
        plain: &[u8],
        time: Duration,
    ) -> Option<()> {
        let sealed = self.keyring.seal(&self.about(drawer, agent), plain).ok()?;
        let Sealed { key_id, nonce, data } = sealed;
        let content = Content { key: key_id, nonce: hex(&nonce), data: hex(&data) };
        let millis = u64::try_from(time.as_millis()).unwrap_or(u64::MAX);
        let mut set = ::redis::cmd("SET");
        set.arg(self.key(drawer, agent)).arg(serde_json::to_vec(&content).ok()?);
        set.arg("PX").arg(millis);
        self.asked(self.link.command::<()>(&set, Repeat::Once)).await
    }

    /// What is there.
    pub(super) async fn get(&self, drawer: Drawer, agent: AgentId) -> Option<Zeroizing<Vec<u8>>> {
        let mut get = ::redis::cmd("GET");
        get.arg(self.key(drawer, agent));
        let found = self.asked(self.link.command::<Option<Vec<u8>>>(&get, Repeat::Once)).await??;
        let Content { key, nonce, data } = serde_json::from_slice(&found).ok()?;
        let nonce = unhex(&nonce)?.try_into().ok()?;
        let sealed = Sealed { key_id: key, nonce, data: unhex(&data)? };
        self.keyring.open(&self.about(drawer, agent), &sealed).map(Zeroizing::new)
    }

    /// Takes out what is there.
    pub(super) async fn empty(&self, drawer: Drawer, agent: AgentId) {
        let mut delete = ::redis::cmd("DEL");
        delete.arg(self.key(drawer, agent));
        self.asked(self.link.command::<u64>(&delete, Repeat::Once)).await;
    }

    /// The answer, unless Redis is known to be down: nobody is to wait for it then.
    async fn asked<T>(&self, question: impl Future<Output = Result<T, LinkError>>) -> Option<T> {
        if matches!(self.link.state(), LinkState::Down(_)) {
            return None;
        }
        let unavailable = |error: &LinkError| {
            debug!(tenant.id = %self.tenant, %error, "what replicas share of passwords is not at hand");
        };
        question.await.inspect_err(unavailable).ok()
    }

    fn key(&self, drawer: Drawer, agent: AgentId) -> String {
        match drawer {
            Drawer::Rejected => self.keys.of(drawer.name(), agent),
            Drawer::Credentials => self.keys.credentials(agent),
        }
    }

    /// What comes out of another drawer, or is another agent's, is not believed.
    fn about(&self, drawer: Drawer, agent: AgentId) -> String {
        format!("{}|{agent}|{}", self.tenant, drawer.name())
    }
}

impl Drawer {
    fn name(self) -> &'static str {
        match self {
            Self::Rejected => "rejected",
            Self::Credentials => "credentials",
        }
    }
}

impl fmt::Debug for Safe {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Safe").field("tenant", &self.tenant).finish_non_exhaustive()
    }
}
