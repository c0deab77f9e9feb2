//! What a tenant's replicas tell each other of passwords, or one process the next, encrypted under
//! the keys that only they have.

use std::{fmt, sync::Arc, time::Duration};

use futures_util::future::BoxFuture;
use secrecy::zeroize::Zeroizing;

use super::Drawer;
use crate::{
    id::{AgentId, TenantId},
    keyring::Keyring,
};

/// A tenant's safe. What cannot be read is as if it were not there, and what cannot be written is
/// not missed: it only saves work, or a locked account.
pub struct Safe {
    tenant: TenantId,
    drawers: Box<dyn Drawers>,
    keyring: Arc<Keyring>,
    has_credentials: bool,
}

/// Where the drawers of a tenant's agents are. What is in them is sealed.
///
/// None of these fails: a store that cannot be asked has nothing, and takes nothing.
pub trait Drawers: Send + Sync {
    /// Puts something in for a time, in the place of what is there.
    fn put(
        &self,
        drawer: Drawer,
        agent: AgentId,
        sealed: Vec<u8>,
        time: Duration,
    ) -> BoxFuture<'_, ()>;

    /// What is there.
    fn get(&self, drawer: Drawer, agent: AgentId) -> BoxFuture<'_, Option<Vec<u8>>>;

    /// Takes out what is there.
    fn remove(&self, drawer: Drawer, agent: AgentId) -> BoxFuture<'_, ()>;
}

impl Safe {
    /// The safe of a tenant, whose drawers these are. `has_credentials`: what sign-ins need may be in
    /// it.
    pub fn new(
        tenant: TenantId,
        drawers: Box<dyn Drawers>,
        keyring: Arc<Keyring>,
        has_credentials: bool,
    ) -> Self {
        Self { tenant, drawers, keyring, has_credentials }
    }

    /// Whether what sign-ins need may be in it.
    pub fn has_credentials(&self) -> bool {
        self.has_credentials
    }

    /// Puts something in for a time, in the place of what is there.
    pub async fn put(&self, drawer: Drawer, agent: AgentId, plain: &[u8], time: Duration) {
        if let Ok(sealed) = drawer.seal(&self.keyring, &self.tenant, agent, plain) {
            self.drawers.put(drawer, agent, sealed, time).await;
        }
    }

    /// What is there.
    pub async fn get(&self, drawer: Drawer, agent: AgentId) -> Option<Zeroizing<Vec<u8>>> {
        let sealed = self.drawers.get(drawer, agent).await?;
        drawer.open(&self.keyring, &self.tenant, agent, &sealed)
    }

    /// Takes out what is there.
    pub async fn empty(&self, drawer: Drawer, agent: AgentId) {
        self.drawers.remove(drawer, agent).await;
    }
}

impl fmt::Debug for Safe {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Safe").field("tenant", &self.tenant).finish_non_exhaustive()
    }
}
