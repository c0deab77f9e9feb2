//! Sessions: an agent's Guid, who made it, and how long it is good.
//!
//! [`SessionStore`] is the interface to the places where sessions are stored. [`EmbeddedStore`]
//! keeps them in this process, [`FileStore`] also in a file, and [`SharedStores`] share them with
//! other processes. In every store, an older Guid never replaces a newer one: each change names the
//! version that it replaces.

mod change_records;
mod cookies;
mod doubt;
mod embedded;
mod file;
#[doc(hidden)]
pub mod fuzzing;
mod guid;
mod health;
mod local;
mod sealed_kind;
mod sealed_values;
mod state;
mod stored_session;
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
    change_records::{ChangeRecords, KnownRecord},
    cookies::Cookies,
    doubt::Doubt,
    embedded::EmbeddedStore,
    file::{FileError, FileState, FileStore, SessionFile},
    guid::{Guid, InvalidGuid, without_guids},
    health::{LastOutage, Scope, StoreRefusal, StoreState, StoreView},
    local::{Entry, Local, Reservation, Taken},
    sealed_kind::{SEALED_MAX, SealedKind},
    sealed_values::{Owner, SealedValueStore, SealedValues},
    state::SessionState,
    stored_session::{CLOCKS_APART_MAX, RECORD_MAX, StoredSession, Unreadable},
    stores::{SharedStores, Stores},
};
use crate::id::AgentId;

/// One agent's session with the gateway.
#[derive(Debug)]
pub struct Session {
    /// The secret that the gateway requires with every call.
    pub guid: Guid,
    /// Who made the session.
    pub origin: Origin,
    /// Grows with every Guid that is stored for the tenant, also over restarts and replicas, so
    /// that an agent's newer Guid always has the higher version. Begins with the time in
    /// microseconds.
    pub version: u64,
    /// The version with which the session began; renewals keep it. A stored password names it, and counts only
    /// for that session.
    pub made: u64,
    /// When the Guid was stored.
    pub renewed_at: SystemTime,
    /// When the session is forgotten unless it is renewed; `None` if never.
    pub expires_at: Option<Instant>,
    /// The cookies of the gateway's load balancer; kept over renewals.
    pub cookies: Cookies,
}

/// Who made a session.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Origin {
    /// Its owner, who registered the Guid.
    Registered,
    /// The bridge.
    SignedIn,
}

/// A session to be stored.
#[derive(Clone, Debug)]
pub struct NewSession {
    /// The Guid.
    pub guid: Guid,
    /// Who made the session.
    pub origin: Origin,
    /// How long it is good without a renewal; `None`: until the gateway refuses it.
    pub ttl: Option<Duration>,
    /// The cookies of the gateway's load balancer.
    pub cookies: Cookies,
}

/// What has ended, as far as is known, when an agent was to be signed out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum EndOf {
    /// The session, whatever its Guid is by now: the agent is signed out.
    Session,
    /// Only this version of it: the gateway has refused its Guid, and may take one that is newer.
    Version,
}

/// The right to store a session that is being made. It replaces only what was stored when the
/// session was requested.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Claim {
    /// The version that was stored then; 0 if none was.
    pub replaces: u64,
    /// The version that the session will have. It shows when the session was requested, not when
    /// the answer came.
    pub version: u64,
}

/// A store for a tenant's sessions.
///
/// Every implementation guarantees two things. Versions only grow. A change that names a version
/// happens only if that version is still the stored one.
pub trait SessionStore: fmt::Debug + Send + Sync {
    /// The session, if this process knows it. Does not ask the store.
    fn cached(&self, agent: AgentId) -> Option<Arc<Session>>;

    /// Reserves a place for the session of an agent who is about to be signed in, so that there is
    /// room for it when the gateway has made it. `None`: the store is full.
    fn reserve(&self, agent: AgentId) -> Option<Reservation>;

    /// How many sessions this process knows, expired ones too until they are forgotten. May forget some.
    fn len(&self) -> usize;

    /// Whether this process knows none.
    fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The session. Asks the store if another process may have stored a newer one.
    ///
    /// # Errors
    ///
    /// [`StoreError::Unavailable`], [`StoreError::Refused`].
    fn load(&self, agent: AgentId) -> SessionFuture<'_>;

    /// Stores a session. It replaces any other.
    ///
    /// # Errors
    ///
    /// [`StoreError::Full`], [`StoreError::Unavailable`], [`StoreError::Refused`].
    fn put(&self, agent: AgentId, session: NewSession) -> StoreFuture<'_, Arc<Session>>;

    /// The right to store a session that is requested now. It may replace the version `replaces`
    /// and older ones.
    fn claim(&self, replaces: u64) -> Claim;

    /// Stores a session that has been made. Returns `None` if another one has been stored since it
    /// was requested.
    ///
    /// # Errors
    ///
    /// As [`put`](Self::put).
    fn put_claimed(&self, agent: AgentId, session: NewSession, claim: Claim) -> SessionFuture<'_>;

    /// Replaces the Guid of `old` by one that a reply to a call with it brought. Returns `None` if
    /// `old` is no longer the stored session, so that a late reply does not bring back an old Guid.
    ///
    /// # Errors
    ///
    /// [`StoreError::Unavailable`], [`StoreError::Refused`].
    fn renew<'a>(&'a self, agent: AgentId, old: &'a Session, guid: Guid) -> SessionFuture<'a>;

    /// Forgets the session if it still has this version. If it was its owner's, processes that could sign the agent in are
    /// told that they must not.
    ///
    /// # Errors
    ///
    /// [`StoreError::Unavailable`], [`StoreError::Refused`].
    fn remove(&self, agent: AgentId, version: u64) -> StoreFuture<'_, ()>;

    /// Like [`remove`](Self::remove), for an agent who was signed out. Processes that could sign
    /// the agent in again are told. In a store that others use as well, another process that has not heard of the sign-out may
    /// still renew the session; with [`EndOf::Session`], that renewed session ends too.
    ///
    /// # Errors
    ///
    /// [`StoreError::Unavailable`], [`StoreError::Refused`].
    fn sign_out<'a>(
        &'a self,
        agent: AgentId,
        session: &'a Session,
        what: EndOf,
    ) -> StoreFuture<'a, ()>;

    /// Whether this process knows that the agent was signed out, or that its owner has registered a
    /// Guid, and of no session that the bridge has made since then.
    fn is_let_go(&self, agent: AgentId) -> bool;

    /// Whether the newest thing this process knows of the agent is the end of its session. Another
    /// process may have made a new one since then; only [`load`](Self::load) shows that. Does not
    /// ask the store.
    ///
    /// `false` in a store that only this process uses, since its `load` always answers.
    fn has_ended(&self, _: AgentId) -> bool {
        false
    }

    /// The agents of whom this process knows that the bridge has made a session that goes on, at any replica. None in a
    /// store that only this process uses.
    fn signed_in(&self) -> Vec<AgentId> {
        Vec::new()
    }

    /// The agents with a session that the bridge has made, in a store that only this process uses. None in one that others
    /// use as well.
    fn signed_in_alone(&self) -> Vec<AgentId> {
        Vec::new()
    }

    /// When the store was last away; `None`: it never was. Shortly after that, other processes may not have told it yet what
    /// they did meanwhile. Does not ask the store.
    ///
    /// `None` in a store that only this process uses.
    fn last_outage(&self) -> Option<LastOutage> {
        None
    }

    /// Tells the other processes of this store once more what is known of the agent's session.
    fn tell_again(&self, _: AgentId) -> BoxFuture<'_, ()> {
        Box::pin(std::future::ready(()))
    }

    /// The agents whose sessions the bridge made before this process started. This process has to
    /// keep them, since no other does. Returns each of them once.
    fn found(&self) -> Vec<AgentId> {
        Vec::new()
    }

    /// Waits until [`found`](Self::found) may return more agents; `None` if it will not.
    fn finding(&self) -> Option<BoxFuture<'_, ()>> {
        None
    }
}

/// The answer of a [`SessionStore`].
pub type StoreFuture<'a, T> = BoxFuture<'a, Result<T, StoreError>>;

/// The answer of a [`SessionStore`] about a session, if there is one.
pub type SessionFuture<'a> = StoreFuture<'a, Option<Arc<Session>>>;

/// Why a request to a store failed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum StoreError {
    /// It has reached its limit of sessions.
    #[error("the store is full: it holds {0} sessions, its limit")]
    Full(NonZeroUsize),
    /// It could not be reached, or did not answer.
    #[error("the store is not available: {0}")]
    Unavailable(String),
    /// It answered with an error.
    #[error("the store refuses {scope}: {0}", scope = .0.scope)]
    Refused(StoreRefusal),
}

/// How often a session that the bridge made is stored anew, though its Guid stays the same.
const STORED_ANEW_AFTER: Duration = Duration::from_secs(60 * 60);
/// How long a session is believed that nobody has stored anew. The clocks of replicas may be up to a day apart.
const BELIEVED_FOR: Duration = Duration::from_secs(26 * 60 * 60);

impl Session {
    /// A session that no store has taken. Its version is 0, so it never replaces a stored one.
    pub fn unstored(new: NewSession) -> Self {
        let NewSession { guid, origin, ttl, cookies } = new;
        let (renewed_at, expires_at) = (SystemTime::now(), ttl.map(|ttl| Instant::now() + ttl));
        Self { guid, origin, version: 0, made: 0, renewed_at, expires_at, cookies }
    }

    /// Whether the session's time is over.
    pub fn is_expired(&self) -> bool {
        self.expires_at.is_some_and(|expires_at| expires_at <= Instant::now())
    }

    /// Whether the gateway's word that the session is good has to be stored, though its Guid stays the same. Otherwise it
    /// would be [too old](Self::is_too_old) some day.
    pub fn is_due_anew(&self) -> bool {
        self.is_unchanged_for(STORED_ANEW_AFTER)
    }

    /// Whether nothing has been heard of the session for so long that it may have ended, and somebody may have set it
    /// back.
    pub fn is_too_old(&self) -> bool {
        self.is_unchanged_for(BELIEVED_FOR)
    }

    fn is_unchanged_for(&self, time: Duration) -> bool {
        let since = SystemTime::now().duration_since(self.renewed_at).unwrap_or_default();
        self.origin == Origin::SignedIn && since >= time
    }

    /// Whether this Guid, which an answer brought, replaces the session's. None replaces one that is
    /// absent: then the tenant's gateway has no Guids.
    pub fn is_renewed_by(&self, guid: &Guid) -> bool {
        !self.guid.is_absent() && *guid != self.guid
    }
}
