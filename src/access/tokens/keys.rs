use std::{
    fmt,
    sync::{
        Arc, PoisonError, RwLock, Weak,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use tokio::{
    sync::watch,
    time::{Instant, timeout},
};
use tracing::{info, warn};

use super::{
    fetch::{Fetcher, KEY_SET_MAX},
    key_set::KeySet,
    read_file::ReadFile,
};
use crate::config::KeysPlace;

/// Where the keys of an issuer come from.
#[derive(Debug)]
pub enum KeySource {
    /// A file.
    File(ReadFile),
    /// A URL.
    Url(Box<Fetcher>),
}

impl KeySource {
    /// The source that the configuration names.
    ///
    /// # Errors
    ///
    /// A text, if TLS cannot be set up.
    pub fn of(place: &KeysPlace) -> Result<Self, String> {
        Ok(match place {
            KeysPlace::File(path) => Self::File(ReadFile::new(path.clone())),
            KeysPlace::Url { url, trust, token_file } => {
                Self::Url(Box::new(Fetcher::new(url.clone(), trust.clone(), token_file.clone())?))
            }
        })
    }

    /// Reads the keys, within a few seconds. The error is a text.
    pub async fn read(&self) -> Result<KeySet, String> {
        let (json, place) = match self {
            Self::File(file) => (file.read(KEY_SET_MAX as u64).await?, file.to_string()),
            Self::Url(fetcher) => {
                (fetcher.fetch().await?.to_vec().into(), "what was fetched".to_owned())
            }
        };
        KeySet::parse(&json).map_err(|error| format!("{place} {error}"))
    }
}

/// From where keys are read, and how often.
#[derive(Clone, Debug)]
pub struct Reading {
    /// From where.
    pub source: Arc<KeySource>,
    /// The time between two readings.
    pub interval: Duration,
}

/// The keys of an issuer, as they were read last. One task reads them, for all who wait.
pub struct Keys {
    issuer: Box<str>,
    /// Sent anew when they are to be read at once.
    reading: watch::Sender<Reading>,
    current: RwLock<Arc<KeySet>>,
    /// When they were read last, or when that was tried; `None` while they are being read.
    tried: watch::Sender<Option<Instant>>,
    is_failing: AtomicBool,
}

/// Keys are read again no sooner than this after the last time, however many tokens name keys that are
/// not known.
const PAUSE: Duration = Duration::from_secs(10);

impl Keys {
    /// The keys of an issuer. None are there before they are [put](Self::put) or [read](Self::follow).
    pub fn new(issuer: &str, reading: Reading) -> Arc<Self> {
        Arc::new(Self {
            issuer: issuer.into(),
            reading: watch::Sender::new(reading),
            current: RwLock::default(),
            tried: watch::Sender::new(None),
            is_failing: AtomicBool::default(),
        })
    }

    /// Reads them so from now on: at once, and after each interval, as long as somebody has them. Those
    /// that are there stay until others have been read.
    pub fn follow(self: &Arc<Self>, reading: Reading) {
        self.reading.send_replace(reading);
        if self.reading.receiver_count() == 0 {
            tokio::spawn(read_again(Arc::downgrade(self), self.reading.subscribe()));
        }
    }

    /// Takes keys that somebody else has read.
    pub fn put(&self, keys: KeySet) {
        self.take(keys, None);
    }

    /// The keys. Empty if they have never been read.
    pub fn current(&self) -> Arc<KeySet> {
        self.current.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Whether they could not be read the last time.
    pub fn is_failing(&self) -> bool {
        self.is_failing.load(Ordering::Relaxed)
    }

    /// The keys, read again if that was not tried within the last ten seconds.
    pub async fn newer(&self) -> Arc<KeySet> {
        let mut tried = self.tried.subscribe();
        self.tried.send_if_modified(|tried| {
            let is_due = tried.is_some_and(|at| at.elapsed() >= PAUSE);
            if is_due {
                *tried = None;
                self.reading.send_modify(|_as_before| {});
            }
            is_due
        });
        let _read = tried.wait_for(Option::is_some).await;
        self.current()
    }

    fn begin(&self) -> Arc<KeySet> {
        self.tried.send_replace(None);
        self.current()
    }

    fn end(&self, read: Result<KeySet, String>, before: &Arc<KeySet>) {
        match read {
            Ok(keys) => self.take(keys, Some(before)),
            Err(error) => {
                if !self.is_failing.swap(true, Ordering::Relaxed) {
                    warn!(
                        issuer = &*self.issuer,
                        error,
                        "an issuer's keys cannot be read; those that were read before stay in use"
                    );
                }
            }
        }
        self.tried.send_replace(Some(Instant::now()));
    }

    /// Takes these keys, unless there are others than `before`: those were put meanwhile, and are newer.
    fn take(&self, keys: KeySet, before: Option<&Arc<KeySet>>) {
        let mut current = self.current.write().unwrap_or_else(PoisonError::into_inner);
        if before.is_none_or(|before| Arc::ptr_eq(before, &current)) {
            *current = Arc::new(keys.in_place_of(&current));
        }
        drop(current);
        if self.is_failing.swap(false, Ordering::Relaxed) {
            info!(issuer = &*self.issuer, "an issuer's keys can be read again");
        }
    }
}

async fn read_again(keys: Weak<Keys>, mut reading: watch::Receiver<Reading>) {
    // The order matters: who finds that they are being read must not have asked for another reading.
    while let Some(before) = keys.upgrade().map(|keys| keys.begin()) {
        let Reading { source, interval } = reading.borrow_and_update().clone();
        let read = tokio::select! {
            biased;
            _otherwise_or_nobody_has_them = reading.changed() => continue,
            read = source.read() => read,
        };
        let Some(keys) = keys.upgrade() else { return };
        keys.end(read, &before);
        drop(keys);
        let _due = timeout(interval, reading.changed()).await;
    }
}

impl fmt::Debug for Keys {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Keys")
            .field("issuer", &self.issuer)
            .field("reading", &*self.reading.borrow())
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use std::{fs, sync::mpsc};

    use futures_util::{FutureExt as _, future::join_all};
    use tempfile::TempDir;
    use tokio::{net::TcpListener, runtime::Handle, task::spawn_blocking, time::advance};

    use super::*;
    use crate::config::Trust;

    const ONE: &str = "11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo";
    const OTHER: &str = "PUAXw-hDiVqStwqnTRt-vJyYLM8uxJaMwM1V8Sr0Zgw";
    const DAY: Duration = Duration::from_secs(24 * 60 * 60);

    fn text(x: &str) -> String {
        format!(r#"{{"keys":[{{"kty":"OKP","crv":"Ed25519","x":"{x}"}}]}}"#)
    }

    async fn until(mut is_so: impl FnMut() -> bool) {
        while !is_so() {
            tokio::task::yield_now().await;
        }
    }

    fn followed(place: &KeysPlace) -> Arc<Keys> {
        let source = Arc::new(KeySource::of(place).expect("a source"));
        let reading = Reading { source, interval: DAY };
        let keys = Keys::new("k8s", reading.clone());
        keys.follow(reading);
        keys
    }

    #[tokio::test(start_paused = true)]
    async fn keys_are_read_to_the_end_although_the_caller_has_left() {
        let folder = TempDir::new().expect("a folder");
        let file = folder.path().join("keys.json");
        let keys = followed(&KeysPlace::File(file.clone()));
        until(|| keys.tried.borrow().is_some() && keys.is_failing()).await;
        fs::write(&file, text(ONE)).expect("written");
        advance(PAUSE).await;
        assert!(keys.newer().now_or_never().is_none());
        until(|| keys.current().len() == 1).await;
    }

    #[tokio::test(start_paused = true)]
    async fn however_many_wait_for_keys_that_do_not_come_one_task_reads_them() {
        let server = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let url = format!("http://{}/", server.local_addr().expect("an address"));
        let url = url.parse().expect("a URL");
        let place = KeysPlace::Url { url, trust: Trust::SystemRoots, token_file: None };
        // The clock does not move by itself while a thread is blocked.
        let (moves, stands) = mpsc::channel::<()>();
        let _blocked = spawn_blocking(move || stands.recv());
        let keys = followed(&place);
        let (_never_answers, _) = server.accept().await.expect("asked");
        let tasks = || Handle::current().metrics().num_alive_tasks();
        let before = tasks();
        let mut waiting: Vec<_> = (0..1000).map(|_| Box::pin(keys.newer())).collect();
        assert!(waiting.iter_mut().all(|waiting| waiting.now_or_never().is_none()));
        assert_eq!(tasks(), before);
        drop(moves);
        let told = join_all(waiting).await;
        assert!(keys.is_failing() && told.iter().all(|keys| keys.is_empty()));
        assert!(server.accept().now_or_never().is_none(), "asked once");
        drop(keys);
        until(|| tasks() == 0).await;
    }

    #[tokio::test]
    async fn keys_that_were_put_while_others_were_read_stay() {
        let set = |x: &str| KeySet::parse(text(x).as_bytes()).expect("a set");
        let place = KeysPlace::File("/nothing/there".into());
        let source = Arc::new(KeySource::of(&place).expect("a source"));
        let keys = Keys::new("k8s", Reading { source, interval: DAY });
        let before = keys.begin();
        keys.put(set(ONE));
        let put = keys.current();
        keys.end(Ok(set(OTHER)), &before);
        assert!(Arc::ptr_eq(&keys.current(), &put));
        let before = keys.begin();
        keys.end(Ok(set(OTHER)), &before);
        assert!(!Arc::ptr_eq(&keys.current(), &put));
    }
}
