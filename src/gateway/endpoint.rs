//! One address of a gateway, with its pool of connections.
use std::{
    fmt,
    sync::{Arc, Mutex, MutexGuard, PoisonError, Weak},
    time::Duration,
};

use http::Uri;
use prometheus_client::metrics::gauge::Gauge;
use tokio::time::{Instant, sleep};
use tokio_util::task::AbortOnDropHandle;

use super::{
    address::Address,
    answer::End,
    connection::{Connection, LIFE},
    connector::Connector,
    health::Health,
    reply::Reply,
    request::Request,
    transport_failure::Failure,
};
use crate::call::{Abandoned, CallerWait, Untouched, Wait};

/// One address of a gateway, with its idle connections.
///
/// There are never more connections than requests and polls at once, since a new one is opened only
/// if none is idle. Only those of probes come in addition, and now and then one that takes the place of an old one. A library's pool has no such
/// bound: it may open one while another is about to become idle, or drop a half-open one because its caller left.
#[derive(Debug)]
pub(super) struct Endpoint {
    address: Address,
    connector: Connector,
    idle: Arc<Idle>,
    /// Counts the open connections.
    open: Gauge,
    health: Health,
}

#[derive(Debug)]
struct Idle {
    kept: Mutex<Kept>,
    timeout: Duration,
    /// When the next old one may be replaced.
    next_replacement: Mutex<Instant>,
}

#[derive(Debug, Default)]
struct Kept {
    /// The connection that was used last is taken first, so that surplus ones become old.
    connections: Vec<Connection>,
    /// Closes them in time; `None` while there are none. An endpoint that is not used has no task.
    closing: Option<AbortOnDropHandle<()>>,
}

/// The longest time between two looks for connections that have been idle for too long.
const LOOK_MAX: Duration = Duration::from_secs(60);

/// Between two replacements of old connections, where there are fewer than a hundred.
const REPLACEMENT_PAUSE: Duration = Duration::from_secs(1);

/// Why there is no connection.
enum Unconnected {
    /// None could be opened. Has the cause as a text.
    Failed(String),
    /// Nobody waited for it any more. Has the cause as a text if it could not be opened.
    Abandoned(Abandoned, Option<String>),
}

impl Endpoint {
    /// `None` for a URL without a host. The configuration does not allow one.
    pub(super) fn new(base_url: &Uri, connector: Connector, timeout: Duration) -> Option<Self> {
        let address = Address::new(base_url)?;
        let (timeout, next_replacement) = (timeout.min(LIFE), Mutex::new(Instant::now()));
        let idle = Arc::new(Idle { kept: Mutex::default(), timeout, next_replacement });
        let (open, health) = (Gauge::default(), Health::default());
        Some(Self { address, connector, idle, open, health })
    }

    /// The same, with its open connections counted in `open`.
    pub(super) fn counted(self, open: Gauge) -> Self {
        Self { open, ..self }
    }

    /// How the address is doing.
    pub(super) fn health(&self) -> &Health {
        &self.health
    }

    /// The address that requests go to.
    pub(super) fn address(&self) -> &Address {
        &self.address
    }

    /// Sends a request on an idle connection, or else on a new one.
    pub(super) async fn exchange(
        &self,
        request: &Request<'_>,
        limit: Duration,
        caller_wait: &mut CallerWait,
        mut untouched: Untouched,
    ) -> Result<Reply, Failure> {
        loop {
            let connection = match self.connection(caller_wait, &untouched).await {
                Ok(connection) => connection,
                Err(Unconnected::Failed(cause)) => return Err(Failure::NotSent(untouched, cause)),
                Err(Unconnected::Abandoned(abandoned, cause)) => {
                    let error = untouched.because(abandoned.before(Wait::Connection));
                    return Err(Failure::Prevented(error, cause));
                }
            };
            if let Err(late) = caller_wait.may_start() {
                self.idle.keep(Some(connection));
                return Err(Failure::Prevented(untouched.because(late), None));
            }
            let (was_idle, http) =
                (connection.rest.is_some(), request.to_http(&self.address, connection.version()));
            let mut exchange = match connection.begin(http, untouched) {
                Ok(exchange) => exchange,
                // A gateway may close an idle connection just when it is used again. Not a byte was
                // written, so the request is sent on the next connection. The loop ends with a new
                // connection, or with none, at the latest.
                Err((still, _)) if was_idle => {
                    untouched = still;
                    continue;
                }
                Err((still, cause)) => return Err(Failure::NotSent(still, cause)),
            };
            let due = exchange.sent() + limit;
            let end = tokio::select! {
                biased;
                end = exchange.run() => Ok(end),
                abandoned = caller_wait.abandoned_before(due) => Err(abandoned),
            };
            let end = match end {
                Ok(end) => end,
                Err(None) => End::Late(limit),
                Err(Some(abandoned)) => {
                    caller_wait.answer(abandoned.after_sending(request.stage));
                    exchange.run_for(limit).await
                }
            };
            let finished = exchange.finish(end);
            if was_idle && matches!(finished, Err(Failure::Late(..))) {
                // The peer may have vanished without a word, from all connections of that time.
                self.idle.close_idle_for(limit);
            }
            return finished.map(|(reply, connection)| {
                self.idle.keep(connection);
                reply
            });
        }
    }

    /// Sends a request that belongs to no call on a connection of its own, so that it shows whether one can be made. It is
    /// closed then: an address may be probed many times before calls use as many connections.
    pub(super) async fn probe(
        &self,
        request: &Request<'_>,
        limit: Duration,
    ) -> Result<Reply, Failure> {
        let untouched = Untouched::at_the_start;
        let unsent = |cause| Failure::NotSent(untouched(), cause);
        let opening = Connection::open(self.connector.clone(), &self.address, &self.open);
        let connection = opening.await.map_err(unsent)?;
        let http = request.to_http(&self.address, connection.version());
        let begun = connection.begin(http, untouched());
        let mut exchange = begun.map_err(|(still, cause)| Failure::NotSent(still, cause))?;
        let end = exchange.run_for(limit).await;
        exchange.finish(end).map(|(reply, _closed)| reply)
    }

    /// Gets an idle connection or a new one. If nobody waits any more while one is being
    /// opened, the opening continues, and the next call can use it.
    async fn connection(
        &self,
        caller_wait: &mut CallerWait,
        untouched: &Untouched,
    ) -> Result<Connection, Unconnected> {
        if let Some(young) = self.idle.take(|known, now| !known.is_old(now)) {
            return Ok(young);
        }
        while let Some(mut old) = self.idle.take(|_, _| true) {
            if old.is_open() {
                self.replace_one();
                return Ok(old);
            }
        }
        // Boxed, since it is large, and most calls find an idle connection.
        let mut opening =
            Box::pin(Connection::open(self.connector.clone(), &self.address, &self.open));
        tokio::select! {
            biased;
            opened = &mut opening => opened.map_err(Unconnected::Failed),
            abandoned = caller_wait.abandoned() => {
                if caller_wait.goes_on(abandoned, Wait::Connection, untouched) {
                    return opening.await.map_err(Unconnected::Failed);
                }
                caller_wait.answer(untouched.because(abandoned.before(Wait::Connection)));
                // The next call can use it, or learns that there is none.
                let opened = opening.await;
                let cause = opened.as_ref().err().cloned();
                self.idle.keep(opened.ok());
                Err(Unconnected::Abandoned(abandoned, cause))
            }
        }
    }

    /// Opens a connection in place of an old one, beside the requests: none waits for it, and none fails if it cannot be
    /// opened. The address would otherwise be taken for a dead one, because of a connection that was not needed yet.
    fn replace_one(&self) {
        if !self.idle.may_replace(self.open.get()) {
            return;
        }
        let (connector, open, idle) =
            (self.connector.clone(), self.open.clone(), Arc::downgrade(&self.idle));
        let address = self.address.clone();
        tokio::spawn(async move {
            let opened = Connection::open(connector, &address, &open).await;
            let Some(idle) = idle.upgrade() else { return };
            match opened {
                Ok(new) => {
                    drop(idle.take(Connection::is_old));
                    idle.keep(Some(new));
                }
                Err(cause) => {
                    tracing::debug!(cause, "an old connection to a gateway could not be replaced");
                }
            }
        });
    }
}

impl Idle {
    /// Of the connections like this, the one that was used last. Closes those that can carry no further request.
    fn take(&self, is_wanted: impl Fn(&Connection, Instant) -> bool) -> Option<Connection> {
        let (mut kept, now) = (self.kept(), Instant::now());
        while let Some(at) = kept.connections.iter().rposition(|known| is_wanted(known, now)) {
            let connection = kept.connections.remove(at);
            if let Some(rest) = connection.idle_time(self.timeout, now) {
                return Some(connection.after(rest));
            }
        }
        None
    }

    /// Whether an old connection may be replaced now that there are so many. If so, no other one is until the next pause. All
    /// are replaced in a few minutes, however many there are.
    fn may_replace(&self, open: i64) -> bool {
        let now = Instant::now();
        let mut next = self.next_replacement.lock().unwrap_or_else(PoisonError::into_inner);
        let may = now >= *next;
        if may {
            let hundreds = u32::try_from(open / 100).unwrap_or_default();
            *next = now + REPLACEMENT_PAUSE / (1 + hundreds);
        }
        may
    }

    fn keep(self: &Arc<Self>, connection: Option<Connection>) {
        let Some(connection) = connection else { return };
        let (mut kept, now) = (self.kept(), connection.idle_since);
        let is_replaced =
            connection.is_old(now) && kept.connections.iter().any(|known| !known.is_old(now));
        if !is_replaced {
            kept.connections.push(connection);
            let close = || AbortOnDropHandle::new(tokio::spawn(close_old(Arc::downgrade(self))));
            kept.closing.get_or_insert_with(close);
        }
    }

    /// Closes the connections that have been idle for this long, and those that the gateway has closed.
    fn close_idle_for(&self, time: Duration) {
        let (mut kept, now) = (self.kept(), Instant::now());
        kept.connections
            .retain_mut(|known| known.idle_time(time, now).is_some() && known.is_open());
        if kept.connections.is_empty() {
            kept.closing = None;
        }
    }

    fn kept(&self) -> MutexGuard<'_, Kept> {
        self.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Closes idle connections in time even if no calls come. Aborted when there are none.
async fn close_old(idle: Weak<Idle>) {
    while let Some(timeout) = idle.upgrade().map(|idle| idle.timeout) {
        sleep(LOOK_MAX.min(timeout / 2)).await;
        let Some(idle) = idle.upgrade() else { return };
        idle.close_idle_for(timeout);
    }
}

impl fmt::Display for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.address.fmt(f)
    }
}

#[cfg(test)]
mod tests;
