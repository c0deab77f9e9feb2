//! Sessions in a file, so that they outlive the process. No other process shares the file.

use std::{
    collections::{BTreeMap, HashMap, HashSet},
    future::ready,
    io,
    num::NonZeroUsize,
    path::{Path, PathBuf},
    sync::{
        Arc, Mutex, MutexGuard, PoisonError, RwLock,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::Duration,
};

use futures_util::future::BoxFuture;
use tokio::{
    sync::{Notify, watch},
    task::spawn_blocking,
    time::timeout,
};
use tokio_util::{sync::CancellationToken, task::AbortOnDropHandle};

use super::{
    ChangeRecords, Claim, EmbeddedStore, EndOf, Guid, NewSession, Origin, Owner, Reservation,
    SealedKind, SealedValueStore, SealedValues, Session, SessionFuture, SessionStore, StoreFuture,
    local::Local,
};
use crate::{
    config,
    id::{AgentId, TenantId},
    keyring::{EncryptionKey, Keyring},
};

mod change_records;
mod database;
mod found;
pub(super) mod fuzzing;
mod place;
mod replace;
mod rows;
mod sealed_table;
mod volume;
mod writer;

#[cfg(test)]
mod tests;

use self::{
    change_records::FileChangeRecords,
    database::{DatabaseError, Kind},
    found::Reading,
    sealed_table::SealedTable,
    volume::Volume,
    writer::{Item, Start},
};

/// The file with the sessions of all tenants. A task writes it.
///
/// Sessions are in memory, as in [`EmbeddedStore`], and the file is read only at the start. While
/// it cannot be written, sessions are in memory only.
#[derive(Clone, Debug)]
pub struct SessionFile(Arc<Open>);

#[derive(Debug)]
struct Open {
    inner: Arc<Inner>,
    _writer: AbortOnDropHandle<()>,
}

#[derive(Debug)]
struct Inner {
    volume: Volume,
    /// `None`: sessions are stored without encryption.
    keyring: Option<Arc<Keyring>>,
    credentials: bool,
    parts: RwLock<Parts>,
    queue: Mutex<Queue>,
    changed: Notify,
    closing: CancellationToken,
    progress: watch::Sender<Progress>,
    /// Whether the keys were replaced, so that the file has to be written anew.
    is_outdated: AtomicBool,
    failures: AtomicU64,
    bytes: AtomicU64,
}

/// One tenant's part of the file.
#[derive(Debug)]
struct Slot {
    tenant: TenantId,
    local: Arc<Local>,
    sealed: SealedTable,
    /// Agents whose sessions, made by the bridge, were found in the file, and that
    /// [`SessionStore::found`] has not returned yet.
    found: Mutex<Vec<AgentId>>,
    /// Whether a tenant has used it. If that was removed and comes again, its sessions are found here.
    is_used: AtomicBool,
}

type Slots = Vec<Arc<Slot>>;

/// The parts of all tenants.
#[derive(Debug)]
struct Parts {
    /// One for each tenant; an index never changes its meaning.
    slots: Slots,
    indexes: HashMap<TenantId, usize>,
}

/// What has to be written; bounded by the number of agents.
#[derive(Debug)]
struct Queue {
    items: HashSet<Item>,
    /// The number of the batch in which they will be written.
    number: u64,
}

#[derive(Debug, Default)]
struct Progress {
    /// The number of the last batch that is on the disk.
    written: u64,
    /// Why nothing can be written now.
    down: Option<Arc<str>>,
    /// Whether the file could not be read at the start. It may then have sessions that are not
    /// known yet.
    is_unread: bool,
    closed: bool,
}

/// One tenant's sessions in a [`SessionFile`].
#[derive(Debug)]
pub struct FileStore {
    memory: EmbeddedStore,
    part: FilePart,
}

/// A tenant's part of the file.
#[derive(Clone, Debug)]
struct FilePart {
    file: SessionFile,
    index: usize,
    slot: Arc<Slot>,
}

/// Whether a file can be written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum FileState {
    /// It can be written.
    Up,
    /// It cannot be written, for this reason. Sessions are in memory only.
    Down(String),
}

/// Why a process cannot start with this file.
#[derive(Debug, thiserror::Error)]
pub enum FileError {
    /// Another process has it open.
    #[error(
        "another process has {} open; stop that one first, or give each its own file", .0.display()
    )]
    Taken(PathBuf),
    /// It cannot be opened or created.
    #[error(
        "cannot open {} ({source}); give the path of a file in a folder that exists and that the \
         bridge may write to", path.display()
    )]
    Denied {
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
}

/// The installation for files. It contains a space, which no `store.key_prefix` can.
const INSTALLATION: &str = "a file";
/// How long a caller waits for the disk. The session works even if it is not on the disk.
const DISK_PATIENCE: Duration = Duration::from_secs(1);
const CLOSE_WITHIN: Duration = Duration::from_secs(5);
/// How long a start waits for the disk. A file with a hundred thousand sessions takes less than
/// that.
const OPEN_WITHIN: Duration = Duration::from_secs(10);

// === impl SessionFile ===

impl SessionFile {
    /// Opens the file for these tenants, each with its limit of sessions, and reads it. Must be
    /// called within a runtime.
    ///
    /// A file that is broken is set aside, and a new one is created. If the file fails only for
    /// now, for instance because the disk is full or does not answer within ten seconds, it is
    /// tried again later.
    ///
    /// # Errors
    ///
    /// [`FileError`] if the operator has to change something.
    pub async fn open(
        config: &config::FileStore,
        tenants: BTreeMap<TenantId, NonZeroUsize>,
    ) -> Result<Self, FileError> {
        Self::open_at(Volume::at(config.path.clone()), config, tenants).await
    }

    async fn open_at(
        volume: Volume,
        config: &config::FileStore,
        tenants: BTreeMap<TenantId, NonZeroUsize>,
    ) -> Result<Self, FileError> {
        let keyring = match config.encryption_keys.as_slice() {
            [] => None,
            keys => Some(Arc::new(Keyring::new(INSTALLATION, keys))),
        };
        let (same_volume, keys, credentials) =
            (volume.clone(), keyring.clone(), config.credentials);
        let same = tenants.clone();
        let mut opening = spawn_blocking(move || {
            let reading = Reading { keyring: keys.as_deref(), credentials };
            found::open(&same_volume, reading, same)
        });
        let (slots, opened) = match timeout(OPEN_WITHIN, &mut opening).await {
            Ok(Ok((slots, database))) => (slots, Some(database)),
            Ok(Err(_panicked)) => {
                let failed = DatabaseError::Broken("reading it failed".to_owned());
                (found::slots(tenants), Some(Err(failed)))
            }
            Err(_late) => (found::slots(tenants), None),
        };
        let is_unread = !matches!(opened, Some(Ok(_)));
        let inner = Arc::new(Inner {
            volume,
            keyring,
            credentials,
            parts: RwLock::new(Parts::of(slots)),
            queue: Mutex::new(Queue { items: HashSet::new(), number: 1 }),
            changed: Notify::new(),
            closing: CancellationToken::new(),
            progress: watch::Sender::new(Progress { is_unread, ..Progress::default() }),
            is_outdated: AtomicBool::default(),
            failures: AtomicU64::new(0),
            bytes: AtomicU64::new(0),
        });
        let start = if let Some(opened) = opened {
            Start::Opened(inner.usable(opened)?)
        } else {
            inner.stands_still();
            Start::Opening(opening)
        };
        let writer = tokio::spawn(writer::run(inner.clone(), start));
        Ok(Self(Arc::new(Open { inner, _writer: AbortOnDropHandle::new(writer) })))
    }

    /// A tenant's store of up to `capacity` sessions.
    pub fn store(&self, tenant: &TenantId, capacity: NonZeroUsize) -> FileStore {
        let part = self.part(tenant).unwrap_or_else(|| self.add(tenant, capacity));
        part.slot.begin(capacity);
        FileStore { memory: EmbeddedStore::of(part.slot.local.clone()), part }
    }

    /// The sealed values of a tenant's agents. `None` without encryption keys, or if the tenant has no
    /// [store](Self::store).
    pub fn sealed_values(&self, tenant: &TenantId) -> Option<SealedValues> {
        let Inner { keyring, credentials, .. } = &*self.0.inner;
        let (store, keyring) = (self.part(tenant)?, keyring.clone()?);
        Some(SealedValues::new(tenant.clone(), Box::new(store), keyring, *credentials))
    }

    /// The records of a tenant's changes. `None` as for [`sealed_values`](Self::sealed_values).
    pub fn change_records(&self, tenant: &TenantId) -> Option<Arc<dyn ChangeRecords>> {
        let (part, values) = (self.part(tenant)?, self.sealed_values(tenant)?);
        Some(Arc::new(FileChangeRecords::new(part, values)))
    }

    fn part(&self, tenant: &TenantId) -> Option<FilePart> {
        let parts = self.0.inner.parts.read().unwrap_or_else(PoisonError::into_inner);
        let index = *parts.indexes.get(tenant)?;
        let slot = parts.slots.get(index)?.clone();
        Some(FilePart { file: self.clone(), index, slot })
    }

    /// Makes room for a tenant that was not there when the file was opened. The file has none of its
    /// sessions: those of tenants that are not configured are left out at the start.
    fn add(&self, tenant: &TenantId, capacity: NonZeroUsize) -> FilePart {
        let slot = Arc::new(Slot::new(tenant.clone(), capacity));
        let mut parts = self.0.inner.parts.write().unwrap_or_else(PoisonError::into_inner);
        let index = parts.slots.len();
        parts.slots.push(slot.clone());
        parts.indexes.insert(tenant.clone(), index);
        FilePart { file: self.clone(), index, slot }
    }

    /// Whether what is stored is encrypted.
    pub fn is_encrypted(&self) -> bool {
        self.0.inner.keyring.is_some()
    }

    /// Whether these keys open what is stored.
    pub fn is_opened_by(&self, keys: &[EncryptionKey]) -> bool {
        self.0.inner.keyring.as_ref().is_none_or(|keyring| keyring.is_opened_by(keys))
    }

    /// Encrypts with these keys from now on, if they are others and the file is encrypted: has the file
    /// written anew.
    pub fn change_keys(&self, keys: &[EncryptionKey]) {
        let inner = &self.0.inner;
        let Some(keyring) = inner.keyring.as_ref().filter(|keyring| !keyring.has(keys)) else {
            return;
        };
        keyring.replace(keys);
        for slot in inner.slots() {
            slot.sealed.seal_anew(keyring, &slot.tenant);
        }
        inner.is_outdated.store(true, Ordering::Release);
        inner.changed.notify_one();
    }

    /// Whether the file can be written.
    pub fn state(&self) -> FileState {
        match &self.0.inner.progress.borrow().down {
            None => FileState::Up,
            Some(error) => FileState::Down(error.to_string()),
        }
    }

    /// How many attempts to write have failed.
    pub fn failures(&self) -> u64 {
        self.0.inner.failures.load(Ordering::Relaxed)
    }

    /// The length of the file in bytes, after the last write.
    pub fn bytes(&self) -> u64 {
        self.0.inner.bytes.load(Ordering::Relaxed)
    }

    /// Writes what is left and closes the file, so that another process can open it. Waits at most
    /// five seconds. If the disk takes longer, the file stays open until it is done or the process
    /// ends.
    pub async fn close(&self) {
        let inner = &self.0.inner;
        inner.closing.cancel();
        let mut progress = inner.progress.subscribe();
        let _late = timeout(CLOSE_WITHIN, progress.wait_for(|progress| progress.closed)).await;
    }
}

// === impl Parts ===

impl Parts {
    fn of(slots: Slots) -> Self {
        let index = |(index, slot): (usize, &Arc<Slot>)| (slot.tenant.clone(), index);
        let indexes = slots.iter().enumerate().map(index).collect();
        Self { slots, indexes }
    }
}

// === impl FilePart ===

impl SealedValueStore for FilePart {
    fn put(
        &self,
        sealed_kind: SealedKind,
        Owner { agent, session }: Owner,
        sealed: Vec<u8>,
        time: Duration,
    ) -> BoxFuture<'_, ()> {
        let is_its = |stored: &Arc<Session>| {
            stored.origin == Origin::SignedIn && Some(stored.made) == session
        };
        let has_session = || self.slot.local.get(agent).as_ref().is_some_and(is_its);
        let is_its_time = sealed_kind != SealedKind::Credentials || has_session();
        if !is_its_time || !self.slot.sealed.put(sealed_kind, agent, sealed, time) {
            return Box::pin(ready(()));
        }
        Box::pin(self.store(Kind::Sealed(sealed_kind), agent))
    }

    fn get(&self, sealed_kind: SealedKind, agent: AgentId) -> StoreFuture<'_, Option<Vec<u8>>> {
        Box::pin(async move { Ok(self.slot.sealed.get(sealed_kind, agent)) })
    }

    fn remove(&self, sealed_kind: SealedKind, agent: AgentId) -> BoxFuture<'_, ()> {
        Box::pin(async move {
            if self.slot.sealed.remove(sealed_kind, agent) {
                self.store(Kind::Sealed(sealed_kind), agent).await;
            }
        })
    }
}

impl FilePart {
    /// Whether the file has not been read yet.
    fn is_unread(&self) -> bool {
        self.file.0.inner.progress.borrow().is_unread
    }

    /// Queues a change. Returns the number of its batch.
    fn note(&self, kind: Kind, agent: AgentId) -> u64 {
        let inner = &self.file.0.inner;
        let mut queue = inner.queue();
        queue.items.insert((self.index, kind, agent));
        inner.changed.notify_one();
        queue.number
    }

    /// Queues a change, and waits until it is on the disk, the disk fails, or [`DISK_PATIENCE`] is
    /// over.
    async fn store(&self, kind: Kind, agent: AgentId) {
        let number = self.note(kind, agent);
        let inner = &self.file.0.inner;
        let mut progress = inner.progress.subscribe();
        let stored =
            progress.wait_for(|now| now.written >= number || now.down.is_some() || now.closed);
        let _late = timeout(DISK_PATIENCE, stored).await;
    }
}

// === impl FileStore ===

impl FileStore {
    async fn end(&self, agent: AgentId, version: u64) {
        // The end is remembered while the file is unread, so that its rows do not bring the session
        // back.
        let is_unread = self.part.file.0.inner.progress.borrow().is_unread;
        let has_ended = if is_unread {
            self.memory.end(agent, version)
        } else {
            self.memory.forget(agent, version)
        };
        if !has_ended {
            return;
        }
        if self.part.slot.sealed.remove(SealedKind::Credentials, agent) {
            self.part.note(Kind::Sealed(SealedKind::Credentials), agent);
        }
        // Otherwise a process that starts after a crash would go on with a session that has ended.
        self.part.store(Kind::Session, agent).await;
    }
}

impl SessionStore for FileStore {
    fn cached(&self, agent: AgentId) -> Option<Arc<Session>> {
        self.memory.cached(agent)
    }

    fn signed_in_alone(&self) -> Vec<AgentId> {
        self.memory.signed_in_alone()
    }

    fn reserve(&self, agent: AgentId) -> Option<Reservation> {
        self.memory.reserve(agent)
    }

    fn len(&self) -> usize {
        self.memory.len()
    }

    fn load(&self, agent: AgentId) -> SessionFuture<'_> {
        self.memory.load(agent)
    }

    fn put(&self, agent: AgentId, session: NewSession) -> StoreFuture<'_, Arc<Session>> {
        Box::pin(async move {
            let stored = self.memory.put(agent, session).await?;
            self.part.store(Kind::Session, agent).await;
            Ok(stored)
        })
    }

    fn claim(&self, replaces: u64) -> Claim {
        self.memory.claim(replaces)
    }

    fn put_claimed(&self, agent: AgentId, session: NewSession, claim: Claim) -> SessionFuture<'_> {
        Box::pin(async move {
            let stored = self.memory.put_claimed(agent, session, claim).await?;
            if stored.is_some() {
                self.part.store(Kind::Session, agent).await;
            }
            Ok(stored)
        })
    }

    /// Does not wait for the disk, since a call may be waiting. If the process crashes within these
    /// milliseconds, the next one has the previous Guid. The gateway still accepts it for a while,
    /// and the next process asks for a new one with it.
    fn renew<'a>(&'a self, agent: AgentId, old: &'a Session, guid: Guid) -> SessionFuture<'a> {
        Box::pin(async move {
            let renewed = self.memory.renew(agent, old, guid).await?;
            if renewed.is_some() {
                self.part.note(Kind::Session, agent);
            }
            Ok(renewed)
        })
    }

    fn remove(&self, agent: AgentId, version: u64) -> StoreFuture<'_, ()> {
        Box::pin(async move {
            self.end(agent, version).await;
            Ok(())
        })
    }

    fn sign_out<'a>(
        &'a self,
        agent: AgentId,
        session: &'a Session,
        _: EndOf,
    ) -> StoreFuture<'a, ()> {
        self.remove(agent, session.version)
    }

    fn is_let_go(&self, agent: AgentId) -> bool {
        self.memory.is_let_go(agent)
    }

    fn found(&self) -> Vec<AgentId> {
        self.part.slot.take_found()
    }

    fn finding(&self) -> Option<BoxFuture<'_, ()>> {
        let mut progress = self.part.file.0.inner.progress.subscribe();
        let is_unread = progress.borrow_and_update().is_unread;
        is_unread.then(|| -> BoxFuture<'_, ()> {
            Box::pin(async move {
                let _closed = progress.wait_for(|progress| !progress.is_unread).await;
            })
        })
    }
}

// === impl Inner ===

impl Inner {
    /// The opened file; `None` if it has to be tried again later. An error: the operator has to
    /// act.
    fn usable(
        &self,
        opened: Result<database::Database, DatabaseError>,
    ) -> Result<Option<database::Database>, FileError> {
        use io::ErrorKind::{
            IsADirectory, NotADirectory, NotFound, PermissionDenied, ReadOnlyFilesystem,
        };

        let path = self.path().to_owned();
        let error = match opened {
            Ok(database) => {
                self.measure();
                return Ok(Some(database));
            }
            Err(error) => error,
        };
        let kinds = [IsADirectory, NotADirectory, NotFound, PermissionDenied, ReadOnlyFilesystem];
        match error {
            DatabaseError::Taken => Err(FileError::Taken(path)),
            DatabaseError::Io(source) if kinds.contains(&source.kind()) => {
                Err(FileError::Denied { path, source })
            }
            DatabaseError::Io(_) | DatabaseError::Broken(_) => {
                self.failed(&error);
                Ok(None)
            }
        }
    }

    /// All slots so far.
    fn slots(&self) -> Slots {
        self.parts.read().unwrap_or_else(PoisonError::into_inner).slots.clone()
    }

    fn path(&self) -> &Path {
        self.volume.path()
    }

    fn queue(&self) -> MutexGuard<'_, Queue> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
