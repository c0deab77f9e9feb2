//! The link to a Redis or Valkey that the replicas share.
//!
//! [`Link`] connects when it is first used, and again after the connection has broken. So the
//! bridge starts and goes on while Redis is down. Every wait has a limit. This module does not know
//! what Redis stores.

mod backoff;
mod dial;
mod keys;
mod keys_outage;
mod names;
mod probe;
mod read;
mod refusal;
mod script;
mod slot;
mod state;
mod subscription;

use std::{
    sync::{
        Arc, Mutex,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use ::redis::{Arg, Cmd, FromRedisValue, Pipeline, RedisError, RedisResult};
use tokio::{
    sync::{Mutex as AsyncMutex, watch},
    time::timeout,
};

pub(crate) use self::backoff::LONGEST_PAUSE;
use self::{
    dial::{Connection, Dialer, longest_attempt},
    keys_outage::KeysOutage,
    refusal::Cure,
    slot::{Attempts, Open, Slot, Wanted},
    state::Health,
};
pub use self::{
    keys::Keys,
    probe::Probe,
    read::Place,
    refusal::Refusal,
    script::{Call, Script},
    state::LinkState,
    subscription::{Notice, Subscription},
};
use crate::{
    config::{self, Topology},
    session::{LastOutage, Scope, StoreError},
};

/// Sends commands to Redis. Clones share one connection.
#[derive(Clone, Debug)]
pub struct Link {
    inner: Arc<Inner>,
    keys_outage: Arc<KeysOutage>,
}

#[derive(Debug)]
struct Inner {
    dialer: Dialer,
    timeouts: config::RedisTimeouts,
    /// Not among the attempts, so that whoever uses a connection or gives it up does not wait for the next one.
    slot: Mutex<Slot>,
    /// Locked while a connection is being opened.
    attempts: Arc<AsyncMutex<Attempts>>,
    /// Grows when commands get a connection to another server, or a new one after a search for another server.
    moves: watch::Sender<u64>,
    health: Health,
    commands: AtomicU64,
    failures: AtomicU64,
}

/// Whether a command may be sent again after its connection broke. Nobody knows then whether Redis
/// has carried it out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Repeat {
    /// Not repeated, since doing it twice is not the same as once.
    Never,
    /// Repeated once: the command only reads, or doing it twice changes nothing.
    Once,
}

/// Why a request to Redis failed. Never contains what was sent.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum LinkError {
    /// There is no connection: trying failed, or it is too early to try again.
    #[error("no connection to Redis: {0}")]
    Down(String),
    /// No answer came in time. The command may have been carried out.
    #[error("Redis did not answer within {}", humantime::format_duration(*.0))]
    Silent(Duration),
    /// The connection broke. The command may have been carried out.
    #[error("the connection to Redis broke: {0}")]
    Broken(String),
    /// Redis answered with an error.
    #[error("Redis refuses {scope}: {0}", scope = .0.scope())]
    Refused(Refusal),
    /// The command could not be built. Nothing was sent.
    #[error("nothing was sent to Redis: {0}")]
    Unsent(String),
}

/// A request of one round trip.
enum Request<'a> {
    Command(&'a Cmd),
    /// A call of a script, and what it does.
    Script(&'a Cmd, Scope),
    Pipeline(&'a Pipeline),
}

/// A failed attempt.
struct Failure {
    error: LinkError,
    /// Whether a second attempt would go to another connection, and may be made.
    is_repeatable: bool,
}

// === impl Link ===

impl Link {
    /// Makes a link. It connects when it is first used.
    pub fn new(config: &config::Redis) -> Self {
        let inner = Inner {
            dialer: Dialer::new(config),
            timeouts: config.timeouts.clone(),
            slot: Mutex::default(),
            attempts: Arc::default(),
            moves: watch::Sender::default(),
            health: Health::new(longest_attempt(config)),
            commands: AtomicU64::new(0),
            failures: AtomicU64::new(0),
        };
        Self { inner: Arc::new(inner), keys_outage: Arc::default() }
    }

    /// The same link, for keys that share a slot: those of one tenant. In a cluster the servers of other keys may do what that
    /// of these keys refuses. A server alone refuses to all what it refuses to one.
    pub(super) fn for_keys(&self) -> Self {
        let inner = self.inner.clone();
        let keys_outage = match inner.dialer.config().topology {
            Topology::Cluster => Arc::default(),
            Topology::Standalone | Topology::Sentinel(_) => self.keys_outage.clone(),
        };
        Self { inner, keys_outage }
    }

    /// Opens new connections with the access that this configuration has. Connections that are open stay.
    pub fn change(&self, config: &config::Redis) {
        let dialer = &self.inner.dialer;
        dialer.change(dialer.config().with_access_of(config));
    }

    /// Carries out one command.
    ///
    /// # Errors
    ///
    /// [`LinkError`]. While Redis is known to be down and there is no connection, it comes at once.
    pub async fn command<T: FromRedisValue>(
        &self,
        command: &Cmd,
        repeat: Repeat,
    ) -> Result<T, LinkError> {
        self.request(&Request::Command(command), repeat).await
    }

    /// Carries out several commands in one round trip. In a cluster their keys have to share a
    /// slot. The keys of one [`Keys`] do.
    ///
    /// # Errors
    ///
    /// As [`Link::command`], even if only one of the commands failed.
    pub async fn pipeline<T: FromRedisValue>(
        &self,
        pipeline: &Pipeline,
        repeat: Repeat,
    ) -> Result<T, LinkError> {
        self.request(&Request::Pipeline(pipeline), repeat).await
    }

    /// Subscribes to a channel. Connects when the first message is awaited.
    pub fn subscribe(&self, channel: impl Into<String>) -> Subscription {
        Subscription::new(self.clone(), channel.into())
    }

    /// How many round trips were begun, without those of subscriptions.
    pub fn commands(&self) -> u64 {
        self.inner.commands.load(Ordering::Relaxed)
    }

    /// How many requests have failed, including their second attempt if there was one.
    pub fn failures(&self) -> u64 {
        self.inner.failures.load(Ordering::Relaxed)
    }

    /// The state of the link. It is down also while one server of a cluster does not answer.
    pub fn state(&self) -> LinkState {
        self.inner.health.shown()
    }

    /// The state of the link for these keys.
    pub(super) fn state_for_keys(&self) -> LinkState {
        let silence = self.keys_outage.silence();
        silence.map_or_else(|| self.inner.health.state(), LinkState::Down)
    }

    /// The last outage of Redis for these keys, as far as this process knows; `None`: there was none. One in which Redis
    /// answers, but takes no writes for a while, goes on with each refusal.
    pub fn last_outage(&self) -> Option<LastOutage> {
        self.inner.health.last_outage(&self.keys_outage)
    }

    /// What Redis refuses for these keys, or did a moment ago; `None`: nothing. In a cluster, others may refuse something.
    pub fn refusing(&self) -> Option<Refusal> {
        self.keys_outage.refusing()
    }

    /// Waits until Redis goes down or begins to refuse something.
    pub async fn worse(&self) {
        self.inner.health.worse().await;
    }

    async fn request<T: FromRedisValue>(
        &self,
        request: &Request<'_>,
        repeat: Repeat,
    ) -> Result<T, LinkError> {
        if let Some(error) = self.outage() {
            return Err(error);
        }
        // Boxed: the library's futures take kilobytes, in every task that may make a request.
        let answer = Box::pin(self.repeated(request, repeat, Wanted::ForRequest)).await;
        self.note(&answer, repeat);
        answer
    }

    /// The error while Redis, or the server of these keys, is known not to answer. Only a probe asks then.
    fn outage(&self) -> Option<LinkError> {
        let error = self.keys_outage.silence().or_else(|| self.common_outage())?;
        self.inner.failures.fetch_add(1, Ordering::Relaxed);
        // Whatever has happened to another request, nothing of this one was sent.
        Some(match error {
            LinkError::Down(_) => error,
            error => LinkError::Down(error.to_string()),
        })
    }

    /// The error while Redis is known to be down and there is no connection. One is opened for those who come later: an
    /// attempt may take seconds, and only a probe waits for it.
    fn common_outage(&self) -> Option<LinkError> {
        let LinkState::Down(error) = self.inner.health.state() else { return None };
        // If it is locked, somebody is opening one already.
        let attempts = self.inner.attempts.clone().try_lock_owned().ok();
        if self.slot().open.is_some() {
            return None;
        }
        if let Some(attempts) = attempts.filter(|it| it.too_early(Wanted::ForRequest).is_none()) {
            self.start_dialing(attempts);
        }
        Some(error)
    }

    /// Records what an answer says about the state of Redis.
    fn note<T>(&self, answer: &Result<T, LinkError>, repeat: Repeat) {
        let Inner { health, failures, .. } = &*self.inner;
        if matches!(answer, Ok(_) | Err(LinkError::Refused(_))) {
            health.heard(&self.keys_outage);
        }
        let Err(error) = answer else { return health.good() };
        failures.fetch_add(1, Ordering::Relaxed);
        match error {
            LinkError::Refused(refusal) => health.refused(refusal, &self.keys_outage),
            // Its connection was kept, since the nodes of other keys answer.
            LinkError::Silent(_) if self.is_connected_to_cluster() => {
                health.silent(error, &self.keys_outage);
            }
            // An idle connection may have been cut. That says nothing about Redis.
            LinkError::Broken(_) if repeat == Repeat::Never && health.state().is_good() => {}
            LinkError::Unsent(_) => {}
            LinkError::Down(_) | LinkError::Silent(_) | LinkError::Broken(_) => health.down(error),
        }
    }

    async fn repeated<T: FromRedisValue>(
        &self,
        request: &Request<'_>,
        repeat: Repeat,
        wanted: Wanted,
    ) -> Result<T, LinkError> {
        match self.attempt(request, repeat, wanted).await {
            Err(Failure { is_repeatable: true, .. }) => {
                self.attempt(request, repeat, wanted).await.map_err(|failure| failure.error)
            }
            answer => answer.map_err(|failure| failure.error),
        }
    }

    async fn attempt<T: FromRedisValue>(
        &self,
        request: &Request<'_>,
        repeat: Repeat,
        wanted: Wanted,
    ) -> Result<T, Failure> {
        let open = self.open(wanted).await.map_err(Failure::not_repeatable)?;
        let Open { mut connection, number } = open;
        self.inner.commands.fetch_add(1, Ordering::Relaxed);
        let limit = self.inner.timeouts.command;
        let Ok(answer) = timeout(limit, request.send(&mut connection)).await else {
            // The peer may be gone without closing the connection. A new connection will show it.
            if !self.answers_for_other_keys(number) {
                self.discard(number);
            }
            return Err(Failure::not_repeatable(LinkError::Silent(limit)));
        };
        let error = match answer {
            Ok(answer) => {
                self.heard();
                return Ok(answer);
            }
            Err(error) => error,
        };
        let Some(refusal) = Refusal::of(&error, request.scope()) else {
            self.discard(number);
            let error = LinkError::Broken(loggable_text(&error));
            return Err(Failure { error, is_repeatable: repeat == Repeat::Once });
        };
        self.heard();
        // Redis answers with these codes before it does anything, so any command may be repeated.
        let is_repeatable = refusal.cure() == Cure::Reconnect && self.give_up_connection(number);
        Err(Failure { error: LinkError::Refused(refusal), is_repeatable })
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
    /// A failure for which another connection would not help.
    fn not_repeatable(error: LinkError) -> Self {
        Self { error, is_repeatable: false }
    }
}

impl Request<'_> {
    async fn send<T: FromRedisValue>(&self, connection: &mut Connection) -> RedisResult<T> {
        match self {
            Self::Command(command) | Self::Script(command, _) => {
                command.query_async(connection).await
            }
            Self::Pipeline(pipeline) => pipeline.query_async(connection).await,
        }
    }

    /// Whether the request reads or writes. Pipelines only read.
    fn scope(&self) -> Scope {
        const READS: [&[u8]; 5] = [b"HGET", b"GET", b"SMEMBERS", b"XRANGE", b"XREVRANGE"];
        let reads = match self {
            Self::Command(command) => {
                matches!(command.args_iter().next(), Some(Arg::Simple(name)) if READS.contains(&name))
            }
            Self::Script(_, scope) => return *scope,
            Self::Pipeline(_) => true,
        };
        if reads { Scope::Reads } else { Scope::Writes }
    }
}

/// A text for a failure that is safe to log. The server's own text can repeat the command, and with
/// it what was to be stored.
fn loggable_text(error: &RedisError) -> String {
    match Refusal::of(error, Scope::Reads) {
        Some(refusal) => format!("{refusal}; {}", refusal.advice()),
        None if error.is_io_error() => error.to_string(),
        None => error.category().to_owned(),
    }
}

#[cfg(test)]
mod tests;
