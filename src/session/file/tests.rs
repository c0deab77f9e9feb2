//! Tests with a disk that does not answer, or is full. Tests with a good disk are in
//! `tests/stores`.

use std::{
    collections::BTreeMap,
    fs::{self, File},
    io,
    num::NonZeroUsize,
    path::PathBuf,
    sync::{
        Arc, Condvar, Mutex,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use futures_util::FutureExt as _;
use redb::{StorageBackend, backends::FileBackend};
use tempfile::TempDir;
use tokio::{
    task::yield_now,
    time::{Instant, advance, sleep},
};

use super::{DISK_PATIENCE, FileState, FileStore, OPEN_WITHIN, SessionFile, Volume};
use crate::{
    config,
    id::{AgentId, DEFAULT_AGENT_IDS, TenantId},
    keyring::EncryptionKey,
    session::{Cookies, EndOf, Guid, NewSession, Origin, Owner, SealedKind, SessionStore as _},
    telemetry::log::captured::Captured,
};

/// A disk that can be stopped or filled, and its file.
struct Disk {
    folder: TempDir,
    gate: Gate,
}

/// How many more reads and writes the disk answers, if not all, and whether it is full.
#[derive(Clone, Debug, Default)]
struct Gate(Arc<(Mutex<Option<usize>>, Condvar)>, Arc<AtomicBool>);

#[derive(Debug)]
struct Gated {
    file: FileBackend,
    gate: Gate,
}

impl Disk {
    fn new() -> Self {
        Self { folder: TempDir::new().unwrap(), gate: Gate::default() }
    }

    fn path(&self) -> PathBuf {
        self.folder.path().join("sessions.redb")
    }

    fn volume(&self) -> Volume {
        let gate = self.gate.clone();
        Volume::opened_by(self.path(), move |file: File| {
            let file = FileBackend::new(file)?;
            Ok(Box::new(Gated { file, gate: gate.clone() }))
        })
    }

    async fn open(&self) -> SessionFile {
        open(self.volume()).await
    }

    fn answers(&self, does: bool) {
        self.answers_to(if does { None } else { Some(0) });
    }

    fn answers_to(&self, count: Option<usize>) {
        *self.gate.0.0.lock().unwrap() = count;
        self.gate.0.1.notify_all();
    }

    /// Files on a full disk can be made, but nothing can be written to them.
    fn is_full(&self, is: bool) {
        self.gate.1.store(is, Ordering::Relaxed);
    }

    fn names(&self) -> Vec<String> {
        let entries = fs::read_dir(self.folder.path()).unwrap();
        entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect()
    }
}

impl Drop for Disk {
    /// Releases waiting threads, which would keep the test from ending.
    fn drop(&mut self) {
        self.answers(true);
    }
}

impl Gate {
    fn pass(&self) {
        let (left, opened) = &*self.0;
        let mut left = opened.wait_while(left.lock().unwrap(), |left| *left == Some(0)).unwrap();
        if let Some(left) = &mut *left {
            *left -= 1;
        }
    }

    fn pass_to_write(&self) -> io::Result<()> {
        self.pass();
        let is_full = self.1.load(Ordering::Relaxed);
        if is_full { Err(io::ErrorKind::StorageFull.into()) } else { Ok(()) }
    }
}

impl StorageBackend for Gated {
    fn len(&self) -> io::Result<u64> {
        self.gate.pass();
        self.file.len()
    }

    fn read(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        self.gate.pass();
        self.file.read(offset, out)
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        self.gate.pass_to_write()?;
        self.file.set_len(len)
    }

    fn sync_data(&self) -> io::Result<()> {
        self.gate.pass();
        self.file.sync_data()
    }

    fn write(&self, offset: u64, data: &[u8]) -> io::Result<()> {
        self.gate.pass_to_write()?;
        self.file.write(offset, data)
    }
}

async fn open(volume: Volume) -> SessionFile {
    open_with(volume, &[]).await
}

async fn open_with(volume: Volume, keys: &[u8]) -> SessionFile {
    let path = volume.path().to_owned();
    let encryption_keys = keys.iter().map(|byte| EncryptionKey::new([*byte; 32])).collect();
    let config = config::FileStore { path, encryption_keys, credentials: false };
    let tenants = BTreeMap::from([(tenant(), NonZeroUsize::new(100).unwrap())]);
    SessionFile::open_at(volume, &config, tenants).await.unwrap()
}

fn tenant() -> TenantId {
    TenantId::parse("acme").unwrap()
}

fn store(file: &SessionFile) -> FileStore {
    file.store(&tenant(), NonZeroUsize::new(100).unwrap())
}

fn agent(id: u32) -> AgentId {
    AgentId::parse(&id.to_string(), &DEFAULT_AGENT_IDS).unwrap()
}

fn made(guid: &str) -> NewSession {
    let guid = Guid::parse(guid).unwrap();
    NewSession { guid, origin: Origin::SignedIn, ttl: None, cookies: Cookies::default() }
}

/// Waits for a state. Sleeps meanwhile: the test's clock stands still while a thread is busy with
/// the file.
async fn until(file: &SessionFile, is_so: impl Fn(&FileState) -> bool) {
    while !is_so(&file.state()) {
        sleep(Duration::from_millis(1)).await;
    }
}

/// Lets time pass while the disk keeps a thread waiting.
async fn pass(time: Duration) {
    let end = Instant::now() + time;
    while Instant::now() < end {
        yield_now().await;
        advance(Duration::from_millis(50)).await;
    }
}

#[tokio::test(start_paused = true)]
async fn a_disk_that_stands_still_is_noticed_and_keeps_nobody_waiting() {
    let log = Captured::start();
    let disk = Disk::new();
    let file = disk.open().await;
    let running = store(&file);
    running.put(agent(1001), made("before")).await.unwrap();
    disk.answers(false);
    let waiting = {
        let store = store(&file);
        tokio::spawn(async move { store.put(agent(1002), made("waits")).await })
    };
    pass(DISK_PATIENCE * 3).await;
    waiting.await.unwrap().unwrap();
    let FileState::Down(problem) = file.state() else { panic!("it is noticed") };
    assert!(problem.contains("does not answer"), "{problem}");
    assert_eq!(file.failures(), 1, "it is counted once");
    let [line] = &log.with("does not answer")[..] else { panic!("it is said once") };
    assert!(line.contains(disk.path().to_str().unwrap()), "{line}");

    for id in 1003..1013 {
        let put = running.put(agent(id), made("during")).now_or_never();
        put.expect("nobody waits for the disk").unwrap();
    }
    let first = running.cached(agent(1001)).unwrap();
    running.remove(agent(1001), first.version).now_or_never().expect("nor here").unwrap();

    disk.answers(true);
    until(&file, |state| *state == FileState::Up).await;
    assert_eq!(log.with("can be written again").len(), 1);
    assert_eq!(log.with("does not answer").len(), 1);
    file.close().await;
    let next = open(Volume::at(disk.path())).await;
    assert_eq!(store(&next).len(), 11);
    assert!(store(&next).cached(agent(1001)).is_none());
}

#[tokio::test(start_paused = true)]
async fn a_disk_that_answers_slowly_does_not_stand_still() {
    let disk = Disk::new();
    let file = disk.open().await;
    disk.answers(false);
    let put = {
        let store = store(&file);
        tokio::spawn(async move { store.put(agent(1001), made("slowly")).await })
    };
    // A whole transaction takes longer than `STANDSTILL`.
    let mut steps = 0;
    let inner = &file.0.inner;
    let is_written = || inner.progress.borrow().written > 0;
    while !is_written() {
        let before = inner.volume.answers();
        disk.answers_to(Some(1));
        while inner.volume.answers() == before && !is_written() {
            yield_now().await;
        }
        pass(Duration::from_millis(1500)).await;
        assert_eq!(file.state(), FileState::Up, "after {steps} steps");
        steps += 1;
    }
    assert!(steps >= 3, "{steps}");
    assert_eq!(file.failures(), 0);
    put.await.unwrap().unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_start_goes_on_without_a_disk_that_does_not_answer_and_reads_the_file_later() {
    let disk = Disk::new();
    let file = disk.open().await;
    store(&file).put(agent(1001), made("old")).await.unwrap();
    store(&file).put(agent(1002), made("kept")).await.unwrap();
    store(&file).put(agent(1003), made("ended")).await.unwrap();
    file.close().await;
    disk.answers(false);
    let opening = tokio::spawn(open(disk.volume()));
    pass(OPEN_WITHIN + Duration::from_secs(1)).await;
    assert!(opening.is_finished(), "the start waits for the disk");
    let file = opening.await.unwrap();
    assert!(matches!(file.state(), FileState::Down(_)), "{:?}", file.state());
    let running = store(&file);
    let put = running.put(agent(1001), made("new")).now_or_never();
    let new = put.expect("nobody waits for the disk").unwrap();
    let again = running.put(agent(1003), made("again")).await.unwrap();
    running.sign_out(agent(1003), &again, EndOf::Session).await.unwrap();
    assert_eq!(running.found(), []);
    let finding = running.finding().expect("the file is not read yet");

    disk.answers(true);
    until(&file, |state| *state == FileState::Up).await;
    finding.await;
    assert_eq!(running.cached(agent(1001)).unwrap().version, new.version);
    assert!(running.cached(agent(1002)).is_some());
    assert!(running.cached(agent(1003)).is_none(), "it was signed out meanwhile");
    assert_eq!(running.found(), [agent(1002)], "it is to be kept from now on");
    assert_eq!(running.found(), []);
    assert!(running.finding().is_none());
    file.close().await;
    assert_eq!(store(&open(Volume::at(disk.path())).await).len(), 2);
}

#[tokio::test(start_paused = true)]
async fn a_file_on_a_disk_that_does_not_answer_is_closed_in_time() {
    let disk = Disk::new();
    let file = disk.open().await;
    disk.answers(false);
    let put = {
        let store = store(&file);
        tokio::spawn(async move { store.put(agent(1001), made("waits")).await })
    };
    pass(DISK_PATIENCE * 3).await;
    put.await.unwrap().unwrap();
    let closing = tokio::spawn(async move { file.close().await });
    pass(super::CLOSE_WITHIN * 2).await;
    assert!(closing.is_finished());
}

#[tokio::test(start_paused = true)]
async fn a_full_disk_is_left_no_half_file_and_has_every_session_when_there_is_room() {
    for keys in [&[][..], &[1]] {
        let disk = Disk::new();
        let file = disk.open().await;
        store(&file).put(agent(1001), made("before")).await.unwrap();
        file.close().await;
        // With a key, the start makes a new file.
        disk.is_full(!keys.is_empty());
        let file = open_with(disk.volume(), keys).await;
        disk.is_full(true);
        store(&file).put(agent(1002), made("during")).await.unwrap();
        let first = file.failures();
        while file.failures() < first + 3 {
            sleep(Duration::from_millis(100)).await;
        }
        assert_eq!(disk.names(), ["sessions.redb"], "with keys {keys:?}");

        disk.is_full(false);
        until(&file, |state| *state == FileState::Up).await;
        file.close().await;
        let next = open_with(Volume::at(disk.path()), keys).await;
        assert_eq!(store(&next).len(), 2);
    }
}

/// A new file is needed only if the old one may hold data under another key.
#[cfg(unix)]
#[tokio::test(start_paused = true)]
async fn a_file_that_has_failed_is_written_where_it_is() {
    use std::os::unix::fs::MetadataExt as _;

    let disk = Disk::new();
    let file = disk.open().await;
    let inode = || fs::metadata(disk.path()).unwrap().ino();
    let before = inode();
    disk.is_full(true);
    store(&file).put(agent(1001), made("during")).await.unwrap();
    until(&file, |state| *state != FileState::Up).await;
    disk.is_full(false);
    until(&file, |state| *state == FileState::Up).await;
    assert_eq!(inode(), before);
}

/// For instance a folder that this user may write to but not read.
#[tokio::test(start_paused = true)]
async fn a_folder_that_cannot_be_synced_loses_nothing_of_a_file_that_was_replaced() {
    let disk = Disk::new();
    let file = disk.open().await;
    store(&file).put(agent(1001), made("before")).await.unwrap();
    file.close().await;
    let unsynced = disk.volume().synced_by(|_| Err(io::ErrorKind::PermissionDenied.into()));
    let file = open_with(unsynced, &[1]).await;
    assert_eq!(file.state(), FileState::Up);
    store(&file).put(agent(1002), made("after")).await.unwrap();
    file.close().await;
    assert_eq!(disk.names(), ["sessions.redb"]);
    assert_eq!(store(&open_with(Volume::at(disk.path()), &[1]).await).len(), 2);
}

/// Two changes of one agent are stored in the order in which they were made, whoever waits for the disk first.
#[tokio::test]
async fn a_value_is_known_before_anybody_waits_for_the_disk() {
    let disk = Disk::new();
    let file = open_with(disk.volume(), &[1]).await;
    let _running = store(&file);
    let values = file.sealed_values(&tenant()).expect("there are keys");
    let owner = Owner { agent: agent(1001), session: None };
    let hour = Duration::from_secs(60 * 60);
    let first = values.put(SealedKind::Changes, owner, b"first", hour);
    let second = values.put(SealedKind::Changes, owner, b"second", hour);
    second.await;
    first.await;
    let found = values.get(SealedKind::Changes, owner).await.expect("read");
    assert_eq!(found.as_deref().map(Vec::as_slice), Some(&b"second"[..]));
}
