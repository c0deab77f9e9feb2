//! Sessions: which Guid is an agent's, who made it, and how long it is good.
//!
//! [`SessionStore`] is the seam at which replicas will share sessions; [`EmbeddedStore`] keeps
//! them in this process. Whatever stores them, a newer Guid is never undone by an older one: each
//! change names the version that it replaces.

mod cookies;
mod embedded;
mod guid;
mod state;

use std::{
    fmt,
    future::Future,
    num::NonZeroUsize,
    pin::Pin,
    sync::Arc,
    time::{Duration, SystemTime},
};

use tokio::time::Instant;

pub use self::{
    cookies::Cookies,
    embedded::EmbeddedStore,
    guid::{Guid, InvalidGuid},
    state::SessionState,
};
use crate::id::AgentId;

/// One agent's session with the gateway.
#[derive(Debug)]
pub struct Session {
    /// The secret that the gateway asks for on every call.
    pub guid: Guid,
    /// Who made the session.
    pub origin: Origin,
    /// Grows with every Guid that is stored for the tenant, so that an agent's newer Guid always
    /// has the higher one.
    pub version: u64,
    /// When the Guid was stored.
    pub renewed_at: SystemTime,
    /// When the session is forgotten unless it is renewed; `None`: never.
    pub expires_at: Option<Instant>,
    /// What the gateway's balancer wants to see again; kept over renewals.
    pub cookies: Arc<Cookies>,
}

/// Who made a session.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Origin {
    /// Its owner, who handed the Guid in.
    Registered,
    /// The bridge.
    SignedIn,
}

/// A session to be stored.
#[derive(Debug)]
pub struct NewSession {
    /// The Guid.
    pub guid: Guid,
    /// Who made it.
    pub origin: Origin,
    /// How long it is good without a renewal; `None`: until the gateway says otherwise.
    pub ttl: Option<Duration>,
    /// What the gateway's balancer wants to see again.
    pub cookies: Arc<Cookies>,
}

/// Where a tenant's sessions are.
///
/// Every implementation keeps two promises. Versions only grow. A change that names a version
/// happens only if that version is still the one stored.
pub trait SessionStore: fmt::Debug + Send + Sync {
    /// The session, if this process knows it without asking anybody.
    fn warm(&self, agent: AgentId) -> Option<Arc<Session>>;

    /// Whether [`put`](Self::put) would find room for this agent's session.
    fn has_room(&self, agent: AgentId) -> bool;

    /// How many sessions this process knows.
    fn len(&self) -> usize;

    /// Whether this process knows none.
    fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The session, wherever it is kept.
    ///
    /// # Errors
    ///
    /// [`StoreError::Unavailable`].
    fn load(&self, agent: AgentId) -> StoreFuture<'_, Option<Arc<Session>>>;

    /// Stores a session in the place of any other.
    ///
    /// # Errors
    ///
    /// [`StoreError::Full`], [`StoreError::Unavailable`].
    fn put(&self, agent: AgentId, session: NewSession) -> StoreFuture<'_, Arc<Session>>;

    /// Replaces the Guid of `old` by one that a reply to a call with it brought. `None` if `old`
    /// is no longer the session: a reply that was overtaken must not bring an old Guid back.
    ///
    /// # Errors
    ///
    /// [`StoreError::Unavailable`].
    fn renew<'a>(
        &'a self,
        agent: AgentId,
        old: &'a Session,
        guid: Guid,
    ) -> StoreFuture<'a, Option<Arc<Session>>>;

    /// Forgets the session if it still is the one of this version.
    ///
    /// # Errors
    ///
    /// [`StoreError::Unavailable`].
    fn remove(&self, agent: AgentId, version: u64) -> StoreFuture<'_, ()>;
}

/// What a [`SessionStore`] answers.
pub type StoreFuture<'a, T> = Pin<Box<dyn Future<Output = Result<T, StoreError>> + Send + 'a>>;

/// Why a store did not do as it was asked.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum StoreError {
    /// It holds as many sessions as it may.
    #[error("the store holds its {0} sessions")]
    Full(NonZeroUsize),
    /// It could not be asked.
    #[error("the store is not available: {0}")]
    Unavailable(String),
}

impl Session {
    /// Whether the session is forgotten by now.
    pub fn is_expired(&self) -> bool {
        self.expires_at.is_some_and(|expires_at| expires_at <= Instant::now())
    }
}
