//! What a tenant's replicas tell each other of passwords, or one process the next, encrypted under
//! the keys that only they have.

use std::{fmt, sync::Arc, time::Duration};

use secrecy::zeroize::Zeroizing;
use tracing::debug;

pub(super) use crate::session::Drawer;
use crate::{
    cluster::redis::{Keys, Link, LinkError, LinkState, Repeat},
    id::{AgentId, TenantId},
    keyring::Keyring,
    session::{FileShelf, Stores},
};

/// A tenant's safe. What cannot be read is as if it were not there, and what cannot be written is
/// not missed: it only saves work, or a locked account.
pub(super) struct Safe {
    tenant: TenantId,
    room: Room,
    keyring: Arc<Keyring>,
    /// Whether what sign-ins need may be in it.
    pub(super) has_credentials: bool,
}

/// Where a safe is.
enum Room {
    /// In the Redis that replicas share.
    Redis(Link, Keys),
    /// In the file that the next process opens.
    File(FileShelf),
}

impl Safe {
    /// A tenant's safe, if there is a store with keys.
    pub(super) fn of(stores: &Stores, tenant: &TenantId) -> Option<Self> {
        let (room, keyring, has_credentials) = match stores {
            Stores::Embedded => return None,
            Stores::Shared(shared) => (
                Room::Redis(shared.link().clone(), shared.keys(tenant)),
                shared.keyring().clone(),
                shared.has_credentials(),
            ),
            Stores::File(file) => {
                (Room::File(file.shelf(tenant)?), file.keyring()?.clone(), file.has_credentials())
            }
        };
        Some(Self { tenant: tenant.clone(), room, keyring, has_credentials })
    }

    /// Puts something in for a time, in the place of what is there.
    pub(super) async fn put(
        &self,
        drawer: Drawer,
        agent: AgentId,
        plain: &[u8],
        time: Duration,
    ) -> Option<()> {
        let content = drawer.seal(&self.keyring, &self.tenant, agent, plain).ok()?;
        match &self.room {
            Room::File(file) => {
                file.put(drawer, agent, content, time).await;
                Some(())
            }
            Room::Redis(link, keys) => {
                let millis = u64::try_from(time.as_millis()).unwrap_or(u64::MAX);
                let mut set = ::redis::cmd("SET");
                set.arg(drawer.key(keys, agent)).arg(content).arg("PX").arg(millis);
                self.asked(link, link.command::<()>(&set, Repeat::Once)).await
            }
        }
    }

    /// What is there.
    pub(super) async fn get(&self, drawer: Drawer, agent: AgentId) -> Option<Zeroizing<Vec<u8>>> {
        let found = match &self.room {
            Room::File(file) => file.get(drawer, agent)?,
            Room::Redis(link, keys) => {
                let mut get = ::redis::cmd("GET");
                get.arg(drawer.key(keys, agent));
                let asking = link.command::<Option<Vec<u8>>>(&get, Repeat::Once);
                self.asked(link, asking).await??
            }
        };
        drawer.open(&self.keyring, &self.tenant, agent, &found)
    }

    /// Takes out what is there.
    pub(super) async fn empty(&self, drawer: Drawer, agent: AgentId) {
        match &self.room {
            Room::File(file) => file.remove(drawer, agent).await,
            Room::Redis(link, keys) => {
                let mut delete = ::redis::cmd("DEL");
                delete.arg(drawer.key(keys, agent));
                self.asked(link, link.command::<u64>(&delete, Repeat::Once)).await;
            }
        }
    }

    /// The answer, unless Redis is known to be down: nobody is to wait for it then.
    async fn asked<T>(
        &self,
        link: &Link,
        question: impl Future<Output = Result<T, LinkError>>,
    ) -> Option<T> {
        if matches!(link.state(), LinkState::Down(_)) {
            return None;
        }
        let unavailable = |error: &LinkError| {
            debug!(ccgw.tenant.id = %self.tenant, %error, "what replicas share of passwords is not at hand");
        };
        question.await.inspect_err(unavailable).ok()
    }
}

impl fmt::Debug for Safe {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Safe").field("tenant", &self.tenant).finish_non_exhaustive()
    }
}
