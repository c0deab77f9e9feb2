//! The link to a Redis or Valkey that the replicas share.
//!
//! [`Link`] opens nothing by itself: it connects when it is first used, and again after the
//! connection has broken, so the bridge starts and goes on while Redis is down. Every wait has its
//! limit. What Redis holds is not known here.

mod backoff;
mod dial;
mod keys;
mod probe;
mod refusal;
mod script;
mod state;
mod subscription;

use std::{
    fmt,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use ::redis::{Arg, Cmd, FromRedisValue, Pipeline, RedisError, RedisResult};
use tokio::{
    sync::Mutex as AsyncMutex,
    time::{Instant, timeout},
};

pub(crate) use self::backoff::LONGEST_PAUSE;
use self::{
    backoff::Backoff,
    dial::{Connection, Dialer},
    refusal::Cure,
    state::Health,
};
pub use self::{
    keys::Keys,
    probe::Probe,
    refusal::Refusal,
    script::{Call, Script},
    state::LinkState,
    subscription::{Notice, Subscription},
};
use crate::{
    config,
    session::{Scope, StoreError},
};

/// Commands to Redis; clones share one connection.
#[derive(Clone, Debug)]
pub struct Link(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    dialer: Dialer,
    timeouts: config::RedisTimeouts,
    slot: AsyncMutex<Slot>,
    /// Beside the slot, which is locked while a connection is being opened.
    health: Health,
    commands: AtomicU64,
    failures: AtomicU64,
}

/// The connection, or when the next one may be tried.
#[derive(Debug, Default)]
struct Slot {
    open: Option<Open>,
    backoff: Backoff,
    last_number: u64,
    failed: Option<Failed>,
    looks: Looks,
}

/// Attempts to find a server that does what the present one refuses. Each asks the sentinels or the
/// nodes, so they get rarer and rarer where they find no other.
#[derive(Debug, Default)]
struct Looks {
    backoff: Backoff,
    next: Option<Instant>,
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
    #[error("Redis refuses {scope}: {0}", scope = .0.scope())]
    Refused(Refusal),
    /// The command could not be made. Nothing was sent.
    #[error("nothing was sent to Redis: {0}")]
    Unsent(String),
}

/// One round trip.
enum Request<'a> {
    Command(&'a Cmd),
    Pipeline(&'a Pipeline),
}

/// A failed attempt.
struct Failure {
    error: LinkError,
    /// Whether a second attempt would go to another connection, and may be made.
    is_repeatable: bool,
}

/// Where no server was found that does what was refused, the pauses between attempts to find one begin
/// anew after this time.
const LOOKS_FORGOTTEN: Duration = Duration::from_secs(10);

// === impl Link ===

impl Link {
    /// A link that will be opened when it is first used.
    pub fn new(config: &config::Redis) -> Self {
        Self(Arc::new(Inner {
            dialer: Dialer::new(config),
            timeouts: config.timeouts.clone(),
            slot: AsyncMutex::default(),
            health: Health::default(),
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
        self.0.health.state()
    }

    /// Waits until Redis goes down or begins to refuse something.
    pub async fn worse(&self) {
        self.0.health.worse().await;
    }

    async fn request<T: FromRedisValue>(
        &self,
        request: &Request<'_>,
        repeat: Repeat,
    ) -> Result<T, LinkError> {
        // In a box, since the library's futures take kilobytes, of every task that may come here.
        let answer = Box::pin(self.repeated(request, repeat)).await;
        self.note(&answer, repeat);
        answer
    }

    /// Takes down what an answer says about Redis.
    fn note<T>(&self, answer: &Result<T, LinkError>, repeat: Repeat) {
        let Inner { health, failures, .. } = &*self.0;
        let Err(error) = answer else { return health.good() };
        failures.fetch_add(1, Ordering::Relaxed);
        match error {
            LinkError::Refused(refusal) => health.refused(refusal),
            // An idle connection may have been cut, which says nothing about Redis.
            LinkError::Broken(_) if repeat == Repeat::Never && health.state().is_good() => {}
            LinkError::Unsent(_) => {}
            LinkError::Down(_) | LinkError::Silent(_) | LinkError::Broken(_) => health.down(error),
        }
    }

    async fn repeated<T: FromRedisValue>(
        &self,
        request: &Request<'_>,
        repeat: Repeat,
    ) -> Result<T, LinkError> {
        match self.attempt(request, repeat).await {
            Err(Failure { is_repeatable: true, .. }) => {
                self.attempt(request, repeat).await.map_err(|failure| failure.error)
            }
            answer => answer.map_err(|failure| failure.error),
        }
    }

    async fn attempt<T: FromRedisValue>(
        &self,
        request: &Request<'_>,
        repeat: Repeat,
    ) -> Result<T, Failure> {
        let Open { mut connection, number } = self.open().await.map_err(Failure::of_good)?;
        self.0.commands.fetch_add(1, Ordering::Relaxed);
        let limit = self.0.timeouts.command;
        let Ok(answer) = timeout(limit, request.send(&mut connection)).await else {
            // The peer may be gone without a word; a new connection will tell.
            self.discard(number).await;
            return Err(Failure::of_good(LinkError::Silent(limit)));
        };
        let error = match answer {
            Ok(answer) => return Ok(answer),
            Err(error) => error,
        };
        let Some(refusal) = Refusal::of(&error, request.scope()) else {
            self.discard(number).await;
            let error = LinkError::Broken(words(&error));
            return Err(Failure { error, is_repeatable: repeat == Repeat::Once });
        };
        // What asks for another server was not carried out, whatever it was.
        let is_repeatable = refusal.cure() == Cure::Reconnect && self.leave(number).await;
        Err(Failure { error: LinkError::Refused(refusal), is_repeatable })
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
                slot.backoff.reset();
                slot.failed = None;
                slot.last_number += 1;
                let open = Open { connection, number: slot.last_number };
                slot.open = Some(open.clone());
                Ok(open)
            }
            Err(error) => {
                let error = LinkError::Down(words(&error));
                let retry_at = Instant::now() + slot.backoff.next_pause();
                slot.failed = Some(Failed { retry_at, error: error.clone() });
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

    /// Gives a connection up, to look for a server that does what this one refuses; tells whether
    /// it is time for that.
    async fn leave(&self, number: u64) -> bool {
        let mut slot = self.0.slot.lock().await;
        if slot.open.as_ref().is_none_or(|open| open.number != number) {
            // Somebody else has, for the same reason.
            return true;
        }
        let now = Instant::now();
        if slot.looks.next.is_some_and(|next| now < next) {
            return false;
        }
        if slot.looks.next.is_some_and(|next| now >= next + LOOKS_FORGOTTEN) {
            slot.looks.backoff.reset();
        }
        slot.looks.next = Some(now + slot.looks.backoff.next_pause());
        slot.open = None;
        true
    }
}

impl From<LinkError> for StoreError {
    fn from(error: LinkError) -> Self {
        match error {
            LinkError::Refused(refusal) => Self::Refused(refusal.into()),
            error => Self::Unavailable(error.to_string()),
        }
    }
}

impl Failure {
    /// One that another connection would not spare.
    fn of_good(error: LinkError) -> Self {
        Self { error, is_repeatable: false }
    }
}

impl Request<'_> {
    async fn send<T: FromRedisValue>(&self, connection: &mut Connection) -> RedisResult<T> {
        match self {
            Self::Command(command) => command.query_async(connection).await,
            Self::Pipeline(pipeline) => pipeline.query_async(connection).await,
        }
    }

    /// What a refusal would keep from being done. Pipelines only read.
    fn scope(&self) -> Scope {
        const READS: [&[u8]; 5] = [b"HGET", b"GET", b"SMEMBERS", b"XRANGE", b"XREVRANGE"];
        let reads = match self {
            Self::Command(command) => {
                matches!(command.args_iter().next(), Some(Arg::Simple(name)) if READS.contains(&name))
            }
            Self::Pipeline(_) => true,
        };
        if reads { Scope::Reads } else { Scope::Writes }
    }
}

/// What may be told of a failure: a server's own text can repeat the command, and with it what was
/// to be stored.
fn words(error: &RedisError) -> String {
    match Refusal::of(error, Scope::Reads) {
        Some(refusal) => format!("{refusal}; {}", refusal.advice()),
        None if error.is_io_error() => error.to_string(),
        None => error.category().to_owned(),
    }
}

impl fmt::Debug for Open {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Open").field("number", &self.number).finish_non_exhaustive()
    }
}
