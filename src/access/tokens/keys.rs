use std::{
    fmt,
    path::PathBuf,
    sync::{
        Arc, PoisonError, RwLock, Weak,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use tokio::{
    sync::Mutex,
    time::{Instant, sleep},
};
use tracing::{info, warn};

use super::{
    fetch::{Fetcher, KEY_SET_MAX},
    key_set::KeySet,
    read_file,
};
use crate::config::KeysPlace;

/// Where the keys of an issuer come from.
#[derive(Debug)]
pub enum KeySource {
    /// A file.
    File(PathBuf),
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
            KeysPlace::File(path) => Self::File(path.clone()),
            KeysPlace::Url { url, trust, token_file } => {
                Self::Url(Box::new(Fetcher::new(url.clone(), trust.clone(), token_file.clone())?))
            }
        })
    }

    /// Reads the keys. The error is a text.
    pub async fn read(&self) -> Result<KeySet, String> {
        let (json, place) = match self {
            Self::File(path) => {
                (read_file(path.clone(), KEY_SET_MAX as u64).await?, path.display().to_string())
            }
            Self::Url(fetcher) => {
                (fetcher.fetch().await?.to_vec().into(), "what was fetched".to_owned())
            }
        };
        KeySet::parse(&json).map_err(|error| format!("{place} {error}"))
    }
}

/// The keys of an issuer, as they were read last.
pub struct Keys {
    issuer: Box<str>,
    source: KeySource,
    current: RwLock<Arc<KeySet>>,
    /// When they were read last, or when that was tried.
    tried: Mutex<Option<Instant>>,
    is_failing: AtomicBool,
}

/// Keys are read again no sooner than this after the last time, however many tokens name keys that are
/// not known.
const PAUSE: Duration = Duration::from_secs(10);

impl Keys {
    /// Reads the keys of an issuer, and again after each `interval`, as long as somebody has them.
    pub fn follow(issuer: &str, source: KeySource, interval: Duration) -> Arc<Self> {
        let keys = Arc::new(Self {
            issuer: issuer.into(),
            source,
            current: RwLock::default(),
            tried: Mutex::default(),
            is_failing: AtomicBool::default(),
        });
        tokio::spawn(read_again(Arc::downgrade(&keys), interval));
        keys
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
    pub async fn newer(self: &Arc<Self>) -> Arc<KeySet> {
        // In a task of its own: callers who leave early must neither stop the reading nor begin it again
        // and again.
        let keys = self.clone();
        let _read = tokio::spawn(async move { keys.read_unless_tried_within(PAUSE).await }).await;
        self.current()
    }

    async fn read_unless_tried_within(&self, pause: Duration) {
        // Others wait here meanwhile, and then find that it was tried.
        let mut tried = self.tried.lock().await;
        if tried.is_some_and(|at| at.elapsed() < pause) {
            return;
        }
        let read = self.source.read().await;
        *tried = Some(Instant::now());
        match read {
            Ok(keys) => {
                let mut current = self.current.write().unwrap_or_else(PoisonError::into_inner);
                *current = Arc::new(keys.in_place_of(&current));
                drop(current);
                if self.is_failing.swap(false, Ordering::Relaxed) {
                    info!(issuer = &*self.issuer, "an issuer's keys can be read again");
                }
            }
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
    }
}

async fn read_again(keys: Weak<Keys>, interval: Duration) {
    while let Some(keys) = keys.upgrade() {
        keys.read_unless_tried_within(Duration::ZERO).await;
        drop(keys);
        sleep(interval).await;
    }
}

impl fmt::Debug for Keys {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Keys")
            .field("issuer", &self.issuer)
            .field("source", &self.source)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use futures_util::poll;
    use tempfile::TempDir;
    use tokio::time::advance;

    use super::*;

    const KEYS: &str = r#"{"keys":[{"kty":"OKP","crv":"Ed25519","x":"11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo"}]}"#;

    async fn until(mut is_so: impl FnMut() -> bool) {
        while !is_so() {
            tokio::task::yield_now().await;
        }
    }

    #[tokio::test(start_paused = true)]
    async fn keys_are_read_to_the_end_although_the_caller_has_left() {
        let folder = TempDir::new().expect("a folder");
        let file = folder.path().join("keys.json");
        let interval = Duration::from_secs(24 * 60 * 60);
        let keys = Keys::follow("k8s", KeySource::File(file.clone()), interval);
        until(|| keys.is_failing.load(Ordering::Relaxed)).await;
        fs::write(&file, KEYS).expect("written");
        advance(PAUSE).await;
        {
            let mut newer = Box::pin(keys.newer());
            assert!(poll!(newer.as_mut()).is_pending());
        }
        until(|| keys.current().len() == 1).await;
    }
}
