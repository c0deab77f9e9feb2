//! The link to a Redis or Valkey that the replicas share.
//!
//! [`Link`] opens nothing by itself: it connects when it is first used, and again after the
//! connection has broken, so the bridge starts and goes on while Redis is down. Every wait has its
//! limit. What Redis holds is not known here.

mod dial;
mod keys;
mod pace;
mod script;
mod subscription;

use std::{
    fmt,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use ::redis::{Cmd, FromRedisValue, Pipeline, RedisError, RedisResult};
use tokio::{
    sync::Mutex as AsyncMutex,
    time::{Instant, timeout},
};
use tracing::{info, warn};

use self::{
    dial::{Connection, Dialer},
    pace::Pace,
};
pub use self::{
    keys::Keys,
    script::{Call, Script},
    subscription::{Notice, Subscription},
};
use crate::config;

/// Commands to Redis; clones share one connection.
#[derive(Clone, Debug)]
pub struct Link(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    dialer: Dialer,
    timeouts: config::RedisTimeouts,
    slot: AsyncMutex<Slot>,
    /// Beside the slot, which is locked while a connection is being opened.
    state: Mutex<LinkState>,
    commands: AtomicU64,
    failures: AtomicU64,
}

/// The connection, or when the next one may be tried.
#[derive(Debug, Default)]
struct Slot {
    open: Option<Open>,
    pace: Pace,
    last_number: u64,
    failed: Option<Failed>,
}

#[derive(Clone)]
struct Open {
    connection: Connection,
    /// Tells a connection that has broken from the one that has taken its place.
    number: u64,
}

#[derive(Debug)]
struct Failed {
    retry_at: Instant,
    error: LinkError,
}

/// How the link is doing.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum LinkState {
    /// Nothing has been asked yet.
    #[default]
    Unused,
    /// Redis answered last time.
    Up,
    /// It did not, or could not be reached.
    Down(LinkError),
}

/// Whether a command may be sent again when its connection breaks and nobody knows whether Redis
/// has carried it out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Repeat {
    /// Twice is not the same as once.
    Never,
    /// It reads, or doing it twice changes nothing.
    Once,
}

/// Why Redis did not do as it was asked. Holds nothing of what was sent.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum LinkError {
    /// There is no connection, and it is not yet time to try again or trying failed.
    #[error("no connection to Redis: {0}")]
    Down(String),
    /// No answer came in time. The command may have been carried out.
    #[error("Redis did not answer within {}", humantime::format_duration(*.0))]
    Silent(Duration),
    /// The connection broke. The command may have been carried out.
    #[error("the connection to Redis broke: {0}")]
    Broken(String),
    /// Redis said no.
    #[error("Redis refused the command: {0}")]
    Refused(String),
}

/// One round trip.
enum Request<'a> {
    Command(&'a Cmd),
    Pipeline(&'a Pipeline),
}

/// What a failed command says about its connection.
enum Fate {
    /// It is good: Redis has answered.
    Good,
    /// It leads to a server that takes no writes, so nothing was done.
    ReadOnly,
    /// It is of no use any more.
    Broken,
}

// === impl Link ===

impl Link {
    /// A link that will be opened when it is first used.
    pub fn new(config: &config::Redis) -> Self {
        Self(Arc::new(Inner {
            dialer: Dialer::new(config),
            timeouts: config.timeouts.clone(),
            slot: AsyncMutex::default(),
            state: Mutex::default(),
            commands: AtomicU64::new(0),
            failures: AtomicU64::new(0),
        }))
    }

    /// Carries one command out.
    ///
    /// # Errors
    ///
    /// [`LinkError`]; at once while it is known that there is no connection.
    pub async fn command<T: FromRedisValue>(
        &self,
        command: &Cmd,
        repeat: Repeat,
    ) -> Result<T, LinkError> {
        self.request(&Request::Command(command), repeat).await
    }

    /// Carries several commands out in one round trip. In a cluster their keys have to share a
    /// slot, as those of one [`Keys`] do.
    ///
    /// # Errors
    ///
    /// As [`Link::command`]; also if a single one of the commands failed.
    pub async fn pipeline<T: FromRedisValue>(
        &self,
        pipeline: &Pipeline,
        repeat: Repeat,
    ) -> Result<T, LinkError> {
        self.request(&Request::Pipeline(pipeline), repeat).await
    }

    /// Messages on a channel from now on; connects when it is first asked for one.
    pub fn subscribe(&self, channel: impl Into<String>) -> Subscription {
        Subscription::new(self.clone(), channel.into())
    }

    /// How many round trips were begun. What a subscription does by itself is not counted.
    pub fn commands(&self) -> u64 {
        self.0.commands.load(Ordering::Relaxed)
    }

    /// How many requests have failed, also with a second attempt.
    pub fn failures(&self) -> u64 {
        self.0.failures.load(Ordering::Relaxed)
    }

    /// How the link is doing.
    pub fn state(&self) -> LinkState {
        self.0.state.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    async fn request<T: FromRedisValue>(
        &self,
        request: &Request<'_>,
        repeat: Repeat,
    ) -> Result<T, LinkError> {
        // In a box, since the library's futures take kilobytes, of every task that may come here.
        let answer = Box::pin(self.repeated(request, repeat)).await;
        if answer.is_err() {
            self.0.failures.fetch_add(1, Ordering::Relaxed);
        }
        answer
    }

    async fn repeated<T: FromRedisValue>(
        &self,
        request: &Request<'_>,
        repeat: Repeat,
    ) -> Result<T, LinkError> {
        match self.attempt(request).await {
            Err((error, fate)) => {
                // A server that takes no writes has done nothing, whatever the command was.
                let again = match fate {
                    Some(Fate::ReadOnly) => true,
                    Some(Fate::Broken) => repeat == Repeat::Once,
                    Some(Fate::Good) | None => false,
                };
                if !again {
                    return Err(error);
                }
                self.attempt(request).await.map_err(|(error, _)| error)
            }
            Ok(answer) => Ok(answer),
        }
    }

    /// No fate: the command was not sent, or had its time.
    async fn attempt<T: FromRedisValue>(
        &self,
        request: &Request<'_>,
    ) -> Result<T, (LinkError, Option<Fate>)> {
        let Open { mut connection, number } = self.open().await.map_err(|error| (error, None))?;
        self.0.commands.fetch_add(1, Ordering::Relaxed);
        let limit = self.0.timeouts.command;
        let Ok(answer) = timeout(limit, request.send(&mut connection)).await else {
            // The peer may be gone without a word; a new connection will tell.
            let error = LinkError::Silent(limit);
            self.discard(number).await;
            self.enter(LinkState::Down(error.clone()));
            return Err((error, None));
        };
        match answer {
            Ok(answer) => {
                self.enter(LinkState::Up);
                Ok(answer)
            }
            Err(error) => {
                let fate = fate(&error);
                let error = match fate {
                    Fate::Broken => LinkError::Broken(words(&error)),
                    Fate::Good | Fate::ReadOnly => LinkError::Refused(words(&error)),
                };
                if !matches!(fate, Fate::Good) {
                    // Whether Redis is down will be seen by whoever connects next.
                    self.discard(number).await;
                }
                Err((error, Some(fate)))
            }
        }
    }

    /// The connection; opens one where there is none. One caller at a time opens, the others wait
    /// for what comes of it.
    async fn open(&self) -> Result<Open, LinkError> {
        let mut slot = self.0.slot.lock().await;
        if let Some(open) = &slot.open {
            return Ok(open.clone());
        }
        if let Some(failed) = slot.failed.as_ref().filter(|failed| Instant::now() < failed.retry_at)
        {
            return Err(failed.error.clone());
        }
        match self.0.dialer.connect().await {
            Ok(connection) => {
                slot.pace.reset();
                slot.failed = None;
                slot.last_number += 1;
                let open = Open { connection, number: slot.last_number };
                slot.open = Some(open.clone());
                Ok(open)
            }
            Err(error) => {
                let error = LinkError::Down(words(&error));
                let retry_at = Instant::now() + slot.pace.next_pause();
                slot.failed = Some(Failed { retry_at, error: error.clone() });
                self.enter(LinkState::Down(error.clone()));
                Err(error)
            }
        }
    }

    async fn discard(&self, number: u64) {
        let mut slot = self.0.slot.lock().await;
        if slot.open.as_ref().is_some_and(|open| open.number == number) {
            slot.open = None;
        }
    }

    /// Notes how the link is doing; a line in the log when it goes down or comes back.
    fn enter(&self, state: LinkState) {
        let mut now = self.0.state.lock().unwrap_or_else(PoisonError::into_inner);
        match (&*now, &state) {
            (LinkState::Down(_), LinkState::Up) => info!("Redis answers again"),
            (LinkState::Unused | LinkState::Up, LinkState::Down(error)) => {
                warn!(%error, "Redis does not answer; sessions known here go on without it");
            }
            _ => {}
        }
        if *now != state {
            *now = state;
        }
    }
}

impl Request<'_> {
    async fn send<T: FromRedisValue>(&self, connection: &mut Connection) -> RedisResult<T> {
        match self {
            Self::Command(command) => command.query_async(connection).await,
            Self::Pipeline(pipeline) => pipeline.query_async(connection).await,
        }
    }
}

/// What a failure says about the connection it came from.
fn fate(error: &RedisError) -> Fate {
    match error.code() {
        Some("READONLY") => Fate::ReadOnly,
        None if error.is_io_error() || error.is_unrecoverable_error() => Fate::Broken,
        _ => Fate::Good,
    }
}

/// What may be told of a failure: a server's own text can repeat the command, and with it what was
/// to be stored.
fn words(error: &RedisError) -> String {
    match error.code() {
        Some(code) => code.to_owned(),
        None if error.is_io_error() => error.to_string(),
        None => error.category().to_owned(),
    }
}

impl fmt::Debug for Open {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Open").field("number", &self.number).finish_non_exhaustive()
    }
}
