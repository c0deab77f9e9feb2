//! One connection to a gateway.

use std::time::Duration;

use http::Version;
use prometheus_client::metrics::gauge::Gauge;
use rand::RngExt as _;
use tokio::{
    task::JoinHandle,
    time::{Instant, sleep, timeout},
};

use super::{
    address::Address, connector::Connector, exchange::Exchange, keep_alive::KeepAlive,
    outgoing::Outgoing, wire::Wire,
};
use crate::call::Untouched;

/// A connection to a gateway. It carries one request at a time. Dropping it closes it.
#[derive(Debug)]
pub(super) struct Connection {
    pub(super) wire: Wire,
    /// That of the last answer: a gateway of HTTP/1.0 gets requests of HTTP/1.0.
    version: Version,
    keep_alive: KeepAlive,
    /// From when on it is old.
    old_from: Instant,
    /// Since when the connection has been idle.
    pub(super) idle_since: Instant,
    /// For how long the connection was idle before its next request. `None` if it is new: only one that was idle
    /// may have been closed for that by the gateway.
    pub(super) rest: Option<Duration>,
}

/// A connection that is being closed while the gateway may still work on its request.
#[derive(Debug)]
pub struct Closing(JoinHandle<()>);

/// After this time, less up to a half at random, a connection is old, and replaced by a new one. A busy one would otherwise
/// live for ever, and a gateway that moves by DNS would not be followed.
pub(super) const LIFE: Duration = Duration::from_secs(5 * 60);
/// How long to wait for a connection to close whose peer does not answer.
const CLOSE_LIMIT: Duration = Duration::from_secs(1);
/// How long a gateway may take to notice that a connection was closed, and to stop its work.
const NOTICE: Duration = Duration::from_millis(100);

impl Connection {
    /// Opens a connection, within the connector's time limit. `open` counts it until it is closed.
    pub(super) async fn open(
        connector: Connector,
        address: &Address,
        open: &Gauge,
    ) -> Result<Self, String> {
        let wire = Wire::new(connector.connect(address.uri().clone()).await?, open);
        let (version, keep_alive) = (Version::HTTP_11, KeepAlive::default());
        let (old_from, idle_since) = (old_after(LIFE), Instant::now());
        Ok(Self { wire, version, keep_alive, old_from, idle_since, rest: None })
    }

    /// The connection for another request after this rest.
    pub(super) fn after(self, rest: Duration) -> Self {
        Self { rest: Some(rest), ..self }
    }

    /// The connection once it has carried an answer. `None` if the gateway takes no further request.
    pub(super) fn after_answer(
        self,
        version: Version,
        said: KeepAlive,
        answered: Instant,
    ) -> Option<Self> {
        let keep_alive = self.keep_alive.after(said);
        let next = Self { version, keep_alive, idle_since: answered, rest: None, ..self };
        keep_alive.allows(Duration::ZERO).then_some(next)
    }

    /// The version of HTTP that a request has to have.
    pub(super) fn version(&self) -> Version {
        self.version
    }

    /// Whether it is to be replaced.
    pub(super) fn is_old(&self, now: Instant) -> bool {
        now >= self.old_from
    }

    /// Whether the gateway has not closed it. Of many that are looked at in one go, tokio says of no more than some 128 that
    /// they are closed, so the kernel is asked.
    pub(super) fn is_open(&mut self) -> bool {
        self.wire.unusable(true).is_none()
    }

    /// For how long the connection has been idle. `None` if it can carry no further request, since it
    /// has been idle for `limit` or for as long as the gateway keeps it.
    pub(super) fn idle_time(&self, limit: Duration, now: Instant) -> Option<Duration> {
        let time = now.saturating_duration_since(self.idle_since);
        (time < limit && self.keep_alive.allows(time)).then_some(time)
    }

    /// Begins to send a request. From then on it may have been carried out.
    ///
    /// # Errors
    ///
    /// If the gateway has closed the connection, or has sent what nobody asked for: not a byte of the request was written.
    pub(super) fn begin(
        mut self,
        request: Outgoing,
        untouched: Untouched,
    ) -> Result<Exchange, (Untouched, String)> {
        match self.wire.unusable(self.rest.is_some()) {
            Some(cause) => Err((untouched, cause)),
            None => Ok(Exchange::begin(self, request)),
        }
    }

    /// Closes the connection while its gateway may still work.
    pub(super) fn close(self) -> Closing {
        Closing::of(self.wire.close())
    }
}

impl Closing {
    /// Of a connection that is closed when this is done.
    pub(crate) fn of(closing: impl Future<Output = ()> + Send + 'static) -> Self {
        Self(tokio::spawn(async {
            let _closed = timeout(CLOSE_LIMIT, closing).await;
        }))
    }

    /// Waits until the connection is closed and the gateway has had time to notice.
    pub async fn noticed(self) {
        let _closed = self.0.await;
        sleep(NOTICE).await;
    }
}

/// When a connection is old that is so after this time at the latest. Many may have been opened at once.
fn old_after(time: Duration) -> Instant {
    Instant::now() + time.mul_f64(rand::rng().random_range(0.5..=1.0))
}

#[cfg(test)]
mod tests;
