//! Sessions: which Guid is an agent's, who made it, and how long it is good.
//!
//! [`SessionStore`] is the seam at which replicas share sessions: [`EmbeddedStore`] keeps them in
//! this process, [`FileStore`] in a file too, and [`SharedStores`] are shared with other processes.
//! Whatever stores them, a newer Guid is never undone by an older one: each change names the version
//! that it replaces.

mod cookies;
mod drawer;
mod embedded;
mod file;
mod guid;
mod health;
mod local;
mod record;
mod safe;
mod state;
mod stores;

use std::{
    fmt,
    num::NonZeroUsize,
    sync::Arc,
    time::{Duration, SystemTime},
};

use futures_util::future::BoxFuture;
use tokio::time::Instant;

pub use self::{
    cookies::Cookies,
    drawer::Drawer,
    embedded::EmbeddedStore,
    file::{FileError, FileState, FileStore, SessionFile},
    guid::{Guid, InvalidGuid, without_guids},
    health::{Scope, StoreRefusal, StoreState, StoreView},
    local::{Entry, Local, Reservation, Taken},
    record::{Record, Unreadable},
    safe::{Drawers, Safe},
    state::SessionState,
    stores::{SharedStores, Stores},
};
use crate::id::AgentId;

/// One agent's session with the gateway.
#[derive(Debug)]
pub struct Session {
    /// The secret that the gateway asks for on every call.
    pub guid: Guid,
    /// Who made the session.
    pub origin: Origin,
    /// Grows with every Guid that is stored for the tenant, over restarts and replicas too, so that
    /// an agent's newer Guid always has the higher one. Begins with the time in microseconds.
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
#[derive(Clone, Debug)]
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

/// The right to store a session that is being made, in the place of what was stored when it was
/// asked for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Claim {
    /// The version that was stored then; 0: none.
    pub replaces: u64,
    /// The version that the session will have: it says when the session was asked for, not when
    /// the answer came.
    pub version: u64,
}

/// Where a tenant's sessions are.
///
/// Every implementation keeps two promises. Versions only grow. A change that names a version
/// happens only if that version is still the one stored.
pub trait SessionStore: fmt::Debug + Send + Sync {
    /// The session, if this process knows it without asking anybody.
    fn cached(&self, agent: AgentId) -> Option<Arc<Session>>;

    /// A place for the session of an agent who is about to be signed in, so that there is room for
    /// what the gateway will have made. `None`: the store is full.
    fn reserve(&self, agent: AgentId) -> Option<Reservation>;

    /// How many sessions this process knows.
    fn len(&self) -> usize;

    /// Whether this process knows none.
    fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The session, wherever it is kept: asks whoever else may know a newer one.
    ///
    /// # Errors
    ///
    /// [`StoreError::Unavailable`], [`StoreError::Refused`].
    fn load(&self, agent: AgentId) -> SessionFuture<'_>;

    /// Stores a session in the place of any other.
    ///
    /// # Errors
    ///
    /// [`StoreError::Full`], [`StoreError::Unavailable`], [`StoreError::Refused`].
    fn put(&self, agent: AgentId, session: NewSession) -> StoreFuture<'_, Arc<Session>>;

    /// The right to store a session that is asked for now, in the place of this version.
    fn claim(&self, replaces: u64) -> Claim;

    /// Stores a session that has been made, unless another one has been stored since it was asked
    /// for: then gives `None`.
    ///
    /// # Errors
    ///
    /// As [`put`](Self::put).
    fn put_claimed(&self, agent: AgentId, session: NewSession, claim: Claim) -> SessionFuture<'_>;

    /// Replaces the Guid of `old` by one that a reply to a call with it brought. `None` if `old`
    /// is no longer the session: a reply that was overtaken must not bring an old Guid back.
    ///
    /// # Errors
    ///
    /// [`StoreError::Unavailable`], [`StoreError::Refused`].
    fn renew<'a>(&'a self, agent: AgentId, old: &'a Session, guid: Guid) -> SessionFuture<'a>;

    /// Forgets the session if it still is the one of this version.
    ///
    /// # Errors
    ///
    /// [`StoreError::Unavailable`], [`StoreError::Refused`].
    fn remove(&self, agent: AgentId, version: u64) -> StoreFuture<'_, ()>;

    /// The same for an agent who was signed out, which whoever could sign the agent in again has to
    /// know.
    ///
    /// # Errors
    ///
    /// [`StoreError::Unavailable`], [`StoreError::Refused`].
    fn sign_out(&self, agent: AgentId, version: u64) -> StoreFuture<'_, ()>;

    /// Whether this process has heard that the agent was signed out, and of no session since.
    fn is_signed_out(&self, agent: AgentId) -> bool;

    /// Whether the last that this process has heard of the agent is that the session has ended. Another
    /// one may have been made elsewhere since, which only [`load`](Self::load) tells. Asks nobody.
    ///
    /// `false` in a store that knows everything by itself, since its `load` always answers.
    fn has_ended(&self, _: AgentId) -> bool {
        false
    }

    /// The agents whose sessions the bridge made before this process started, and which it is to
    /// keep by itself: nobody else does. Names each of them once.
    fn found(&self) -> Vec<AgentId> {
        Vec::new()
    }

    /// Waits until [`found`](Self::found) may name more; `None` if it will not.
    fn finding(&self) -> Option<BoxFuture<'_, ()>> {
        None
    }
}

/// What a [`SessionStore`] answers.
pub type StoreFuture<'a, T> = BoxFuture<'a, Result<T, StoreError>>;

/// The same for a session, if there is one.
pub type SessionFuture<'a> = StoreFuture<'a, Option<Arc<Session>>>;

/// Why a store did not do as it was asked.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum StoreError {
    /// It holds as many sessions as it may.
    #[error("the store holds its {0} sessions")]
    Full(NonZeroUsize),
    /// It could not be asked.
    #[error("the store is not available: {0}")]
    Unavailable(String),
    /// It was asked, and refused.
    #[error("the store refuses {scope}: {0}", scope = .0.scope)]
    Refused(StoreRefusal),
}

impl Session {
    /// A session that no store has taken. Its version is 0, so that nothing is stored in its place.
    pub fn unstored(new: NewSession) -> Self {
        let NewSession { guid, origin, ttl, cookies } = new;
        let expires_at = ttl.map(|ttl| Instant::now() + ttl);
        Self { guid, origin, version: 0, renewed_at: SystemTime::now(), expires_at, cookies }
    }

    /// Whether the session is forgotten by now.
    pub fn is_expired(&self) -> bool {
        self.expires_at.is_some_and(|expires_at| expires_at <= Instant::now())
    }

    /// The same session with another Guid, its time begun anew.
    pub fn renewed(&self, guid: Guid, ttl: Option<Duration>) -> NewSession {
        NewSession { guid, origin: self.origin, ttl, cookies: self.cookies.clone() }
    }
}
