//! A store that does as a test wants.

use std::{
    collections::HashMap,
    num::NonZeroUsize,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, AtomicUsize, Ordering::Relaxed},
    },
    time::Duration,
};

use futures_util::future::BoxFuture;
use tokio::{sync::Semaphore, time::Instant};

use crate::{
    config,
    id::{AgentId, TenantId},
    keyring::{EncryptionKey, Keyring},
    session::{
        ChangeRecords, Claim, EmbeddedStore, EndOf, Guid, LastOutage, NewSession, Owner,
        Reservation, SealedKind, SealedValueStore, SealedValues, Session, SessionFuture,
        SessionStore, SharedStores, StoreError, StoreFuture, StoreState, StoreView,
    },
};

/// Where a tenant's sessions are, and what replicas tell each other of passwords.
#[derive(Clone, Debug)]
pub(super) struct TestStores {
    pub(super) store: Arc<TestStore>,
    pub(super) drawers: TestDrawers,
    pub(super) credentials: bool,
}

/// Sessions of this process. What is known of them is known at once.
#[derive(Debug)]
pub(super) struct TestStore {
    sessions: EmbeddedStore,
    /// Fails whatever it is asked for.
    pub(super) is_away: AtomicBool,
    /// When it was away, though it answers all the time.
    pub(super) outage: Mutex<Option<LastOutage>>,
    /// Knows of every agent that it has been signed out.
    pub(super) all_signed_out: AtomicBool,
    /// What it is asked for waits for a permit while it has none.
    pub(super) gate: Semaphore,
    /// Those whom the process before has left.
    pub(super) found: Mutex<Vec<AgentId>>,
    /// Those whom it finds later.
    pub(super) later: Mutex<Vec<AgentId>>,
    pub(super) finds_later: AtomicBool,
}

/// What is in a drawer, and for how long it was put there.
type Sealed = (Vec<u8>, Duration);

/// What is in each drawer.
#[derive(Clone, Debug, Default)]
pub(super) struct TestDrawers {
    pub(super) sealed: Arc<Mutex<HashMap<(SealedKind, AgentId), Sealed>>>,
    pub(super) puts: Arc<AtomicUsize>,
    /// Whether nothing can be read.
    pub(super) is_away: Arc<AtomicBool>,
    /// The drawer that cannot be read, if there is one.
    stuck: Arc<Mutex<Option<SealedKind>>>,
}

impl TestStores {
    pub(super) fn new(credentials: bool) -> Self {
        let store = TestStore {
            sessions: EmbeddedStore::new(NonZeroUsize::new(100).expect("not zero")),
            is_away: AtomicBool::new(false),
            outage: Mutex::default(),
            all_signed_out: AtomicBool::new(false),
            gate: Semaphore::new(Semaphore::MAX_PERMITS),
            found: Mutex::default(),
            later: Mutex::default(),
            finds_later: AtomicBool::new(false),
        };
        Self { store: Arc::new(store), drawers: TestDrawers::default(), credentials }
    }

    pub(super) fn sealed_values(&self) -> SealedValues {
        let keyring = Keyring::new("test", &[EncryptionKey::new([7; 32])]);
        let tenant = TenantId::parse("acme").expect("an id");
        let drawers = Box::new(self.drawers.clone());
        SealedValues::new(tenant, drawers, Arc::new(keyring), self.credentials)
    }
}

impl TestStore {
    /// Whatever it is asked for from now on waits.
    pub(super) fn hang(&self) {
        self.gate.forget_permits(Semaphore::MAX_PERMITS);
    }

    /// It was away until now, for so long.
    pub(super) fn is_back_after(&self, length: Duration) {
        let (until, attempt) = (Instant::now(), Duration::ZERO);
        *lock(&self.outage) = Some(LastOutage { until, length, attempt });
    }

    /// It is away again and again, for so long each time, so that it is never known to be back. An attempt to ask it may
    /// take so long.
    pub(super) fn is_away_again_and_again(&self, length: Duration, attempt: Duration) {
        let until = Instant::now() + Duration::from_secs(60 * 60);
        *lock(&self.outage) = Some(LastOutage { until, length, attempt });
    }

    /// It goes on.
    pub(super) fn go_on(&self) {
        self.gate.add_permits(1_000);
    }

    async fn answer<T>(
        &self,
        answer: impl Future<Output = Result<T, StoreError>>,
    ) -> Result<T, StoreError> {
        let _place = self.gate.acquire().await;
        if self.is_away.load(Relaxed) {
            return Err(StoreError::Unavailable("away".into()));
        }
        answer.await
    }
}

impl SharedStores for TestStores {
    fn open(&self, _: &TenantId, _: NonZeroUsize) -> Arc<dyn SessionStore> {
        self.store.clone()
    }

    fn change_records(&self, _: &TenantId) -> Option<Arc<dyn ChangeRecords>> {
        None
    }

    fn sealed_values(&self, _: &TenantId) -> SealedValues {
        self.sealed_values()
    }

    fn has_key_of(&self, _: &config::Store) -> bool {
        true
    }

    fn change(&self, _: &config::Store) {}

    fn view(&self) -> StoreView {
        let (kind, state) = ("test", StoreState::Unused);
        StoreView { kind, state, failures: 0, file_bytes: None, disbelieved: Vec::new() }
    }
}

impl SessionStore for TestStore {
    fn cached(&self, agent: AgentId) -> Option<Arc<Session>> {
        self.sessions.cached(agent)
    }

    fn reserve(&self, agent: AgentId) -> Option<Reservation> {
        self.sessions.reserve(agent)
    }

    fn len(&self) -> usize {
        self.sessions.len()
    }

    fn load(&self, agent: AgentId) -> SessionFuture<'_> {
        Box::pin(self.answer(self.sessions.load(agent)))
    }

    fn put(&self, agent: AgentId, session: NewSession) -> StoreFuture<'_, Arc<Session>> {
        Box::pin(self.answer(async move { self.sessions.put(agent, session).await }))
    }

    fn claim(&self, replaces: u64) -> Claim {
        self.sessions.claim(replaces)
    }

    fn put_claimed(&self, agent: AgentId, session: NewSession, claim: Claim) -> SessionFuture<'_> {
        Box::pin(self.answer(async move { self.sessions.put_claimed(agent, session, claim).await }))
    }

    fn renew<'a>(&'a self, agent: AgentId, old: &'a Session, guid: Guid) -> SessionFuture<'a> {
        Box::pin(self.answer(async move { self.sessions.renew(agent, old, guid).await }))
    }

    fn remove(&self, agent: AgentId, version: u64) -> StoreFuture<'_, ()> {
        Box::pin(self.answer(async move { self.sessions.remove(agent, version).await }))
    }

    fn sign_out<'a>(
        &'a self,
        agent: AgentId,
        session: &'a Session,
        what: EndOf,
    ) -> StoreFuture<'a, ()> {
        Box::pin(self.answer(async move { self.sessions.sign_out(agent, session, what).await }))
    }

    fn is_let_go(&self, agent: AgentId) -> bool {
        self.all_signed_out.load(Relaxed) || self.sessions.is_let_go(agent)
    }

    fn last_outage(&self) -> Option<LastOutage> {
        *lock(&self.outage)
    }

    fn found(&self) -> Vec<AgentId> {
        std::mem::take(&mut *lock(&self.found))
    }

    fn finding(&self) -> Option<BoxFuture<'_, ()>> {
        let finding = async {
            let later = std::mem::take(&mut *lock(&self.later));
            lock(&self.found).extend(later);
        };
        self.finds_later.load(Relaxed).then(|| -> BoxFuture<'_, ()> { Box::pin(finding) })
    }
}

impl TestDrawers {
    /// This drawer cannot be read any more.
    pub(super) fn gets_stuck(&self, drawer: SealedKind) {
        *lock(&self.stuck) = Some(drawer);
    }
}

impl SealedValueStore for TestDrawers {
    fn put(
        &self,
        drawer: SealedKind,
        Owner { agent, .. }: Owner,
        sealed: Vec<u8>,
        time: Duration,
    ) -> BoxFuture<'_, ()> {
        self.puts.fetch_add(1, Relaxed);
        lock(&self.sealed).insert((drawer, agent), (sealed, time));
        Box::pin(async {})
    }

    fn get(&self, drawer: SealedKind, agent: AgentId) -> StoreFuture<'_, Option<Vec<u8>>> {
        let found = lock(&self.sealed).get(&(drawer, agent)).map(|(sealed, _)| sealed.clone());
        let is_away = self.is_away.load(Relaxed) || *lock(&self.stuck) == Some(drawer);
        let away = || Err(StoreError::Unavailable("away".into()));
        Box::pin(async move { if is_away { away() } else { Ok(found) } })
    }

    fn remove(&self, drawer: SealedKind, agent: AgentId) -> BoxFuture<'_, ()> {
        lock(&self.sealed).remove(&(drawer, agent));
        Box::pin(async {})
    }
}

fn lock<T>(what: &Mutex<T>) -> MutexGuard<'_, T> {
    what.lock().unwrap_or_else(PoisonError::into_inner)
}
