//! The passwords that this replica has shared, so that they are shared again if Redis loses them.

use std::{
    collections::HashMap,
    fmt,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use tokio::{sync::Notify, time::Instant};

use super::{
    redis::{Keys, Link, LinkError, Place, Repeat, Script},
    seals::Seals,
};
use crate::{
    id::AgentId,
    keyring::Renewal,
    session::{Local, Origin, RECORD_MAX, SealedKind, Session},
    time::millis,
};

/// A tenant's sealed passwords that this replica has shared. Each is stored only beside the session that was
/// made with it, and the script that ends the session deletes it.
pub(super) struct SharedPasswords {
    link: Link,
    keys: Keys,
    seals: Seals,
    put: Script,
    known: Mutex<HashMap<AgentId, Password>>,
    /// Whether one of them could not be written.
    is_due: AtomicBool,
    due: Notify,
}

/// A sealed password.
#[derive(Clone)]
struct Password {
    /// The session that was made with it, by its [`made`](crate::session::Session::made).
    session: u64,
    sealed: Vec<u8>,
    until: Instant,
}

/// Stores a password beside this record of a session.
const PUT: &str = "
if look('HGET', KEYS[2], 'record') ~= ARGV[3] then return 0 end
redis.call('SET', KEYS[1], ARGV[1], 'PX', ARGV[2])
return 1
";
/// How often that is tried if others renew the session meanwhile.
const ATTEMPTS_MAX: usize = 8;

impl SharedPasswords {
    pub(super) fn new(link: Link, keys: Keys, seals: Seals) -> Self {
        let (put, known) = (Script::new(PUT), Mutex::default());
        let (is_due, due) = (AtomicBool::new(false), Notify::new());
        Self { link, keys, seals, put, known, is_due, due }
    }

    /// Remembers a password of this session.
    pub(super) fn remember(&self, agent: AgentId, session: u64, sealed: Vec<u8>, time: Duration) {
        let until = Instant::now() + time;
        self.known().insert(agent, Password { session, sealed, until });
    }

    pub(super) fn forget(&self, agent: AgentId) {
        self.known().remove(&agent);
    }

    /// Has it written later, when Redis takes it.
    pub(super) fn write_later(&self) {
        self.set_due();
        self.due.notify_one();
    }

    /// Notes that one has to be written later.
    pub(super) fn set_due(&self) {
        self.is_due.store(true, Ordering::Relaxed);
    }

    /// Waits until one has to be written later.
    pub(super) async fn due(&self) {
        self.due.notified().await;
    }

    /// Whether one had to be written later, until now.
    pub(super) fn take_due(&self) -> bool {
        self.is_due.swap(false, Ordering::Relaxed)
    }

    /// The agents whose sessions were made with the passwords that are remembered. All others are forgotten.
    pub(super) fn of_sessions(&self, sessions: &Local) -> Vec<AgentId> {
        let now = Instant::now();
        let mut known = self.known();
        known.retain(|agent, password| {
            let session = sessions.get(*agent);
            let is_its = session.is_some_and(|session| session.made == password.session);
            let is_current = !self.seals.keyring().is_being_replaced();
            password.until > now && is_its && (is_current || self.seal_anew(*agent, password))
        });
        known.keys().copied().collect()
    }

    /// Writes the agent's password, if what is stored is the session that was made with it. Returns whether it was.
    pub(super) async fn write(&self, agent: AgentId) -> Result<bool, LinkError> {
        let known = self.known().get(&agent).cloned();
        let Some(Password { session, sealed, until }) = known else { return Ok(false) };
        let key = [self.keys.session(agent)];
        for _ in 0..ATTEMPTS_MAX {
            let record = self.link.read(&key, Place::Field("record"), RECORD_MAX).await?;
            let Some(record) = record.into_iter().next().flatten() else { return Ok(false) };
            let stored = self.seals.session(Some(agent), &record);
            let stored = stored.and_then(|(_, entry)| entry.session);
            let is_its =
                |stored: &Arc<Session>| stored.origin == Origin::SignedIn && stored.made == session;
            if !stored.as_ref().is_some_and(is_its) {
                return Ok(false);
            }
            let left = millis(until.saturating_duration_since(Instant::now())).max(1);
            let put = self.put.on(self.keys.credentials(agent)).key(self.keys.session(agent));
            let put = put.arg(&sealed).arg(left).arg(&record);
            if self.link.script(&put, Repeat::Once).await? {
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// Seals a password with the first key, while the one before is there that it may be sealed with. Returns whether a key
    /// opens it.
    fn seal_anew(&self, agent: AgentId, password: &mut Password) -> bool {
        let (keyring, tenant) = (self.seals.keyring(), self.seals.tenant());
        match SealedKind::Credentials.renewal(keyring, tenant, agent, &password.sealed) {
            Renewal::Current => true,
            Renewal::Anew(anew) => {
                password.sealed = anew.encode();
                true
            }
            Renewal::Unreadable => false,
        }
    }

    fn known(&self) -> MutexGuard<'_, HashMap<AgentId, Password>> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl fmt::Debug for SharedPasswords {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SharedPasswords").field("keys", &self.keys).finish_non_exhaustive()
    }
}
