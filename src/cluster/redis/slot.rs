//! The connection of a link: who uses it, who gives it up, and the attempts to open the next one.

use std::{
    fmt, mem,
    sync::{MutexGuard, PoisonError},
    time::Duration,
};

use tokio::{
    sync::OwnedMutexGuard,
    task::JoinHandle,
    time::{Instant, timeout},
};

use super::{Link, LinkError, backoff::Backoff, dial::Connection, loggable_text};
use crate::config::RedisNode;

/// The connection, if there is one.
#[derive(Debug, Default)]
pub(super) struct Slot {
    pub(super) open: Option<Open>,
    /// `None`: the connection is to one server.
    cluster: Option<Heard>,
    search: ServerSearch,
}

/// When the nodes of a cluster have answered by the connection that there is.
#[derive(Clone, Copy, Debug)]
struct Heard {
    first: Instant,
    last: Instant,
}

/// What is known of earlier connections, and when the next one may be tried.
#[derive(Debug, Default)]
pub(super) struct Attempts {
    backoff: Backoff,
    last_number: u64,
    failed: Option<Failed>,
    /// The server of the last connection.
    server: Option<RedisNode>,
}

/// Attempts to find a server that does what the present one refuses. Each attempt asks the
/// sentinels or the nodes, so the pauses grow while no other server is found.
#[derive(Debug, Default)]
struct ServerSearch {
    backoff: Backoff,
    next: Option<Instant>,
    /// Whether a connection was given up for it, and none has been opened since.
    is_open: bool,
}

/// An open connection.
#[derive(Clone)]
pub(super) struct Open {
    pub(super) connection: Connection,
    /// Tells a connection that has broken from the one that replaced it.
    pub(super) number: u64,
}

#[derive(Debug)]
struct Failed {
    at: Instant,
    pause: Duration,
    error: LinkError,
}

/// For whom a connection is wanted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Wanted {
    /// A request that somebody waits for. It waits for a connection no longer than for an answer.
    ForRequest,
    /// A probe, which is to find out whether Redis is back. It waits until the attempt is over.
    ForProbe,
}

/// The pauses between attempts to find another server become short again when the next attempt is
/// made this much later than it was allowed.
const SEARCH_RESET_AFTER: Duration = Duration::from_secs(10);
/// How long after a failed attempt a probe makes the next one, if the pause is longer. Probes come about once a second.
const PROBE_PAUSE_MAX: Duration = Duration::from_millis(500);
/// After this time a cluster has mostly put a replica in the place of a node that hangs (cluster-node-timeout is 15 s by default).
/// A new connection knows it.
const FAIL_OVER: Duration = Duration::from_secs(20);

impl Link {
    /// Returns the connection, or has one opened. There is one attempt at a time, and the others wait for the result.
    pub(super) async fn open(&self, wanted: Wanted) -> Result<Open, LinkError> {
        if let Some(open) = self.slot().open.clone() {
            return Ok(open);
        }
        let opening = Box::pin(self.open_anew(wanted));
        if wanted == Wanted::ForProbe {
            return opening.await;
        }
        let limit = self.inner.timeouts.command;
        timeout(limit, opening).await.unwrap_or_else(|_elapsed| {
            let limit = humantime::format_duration(limit);
            Err(LinkError::Down(format!("none within {limit}; the attempt goes on")))
        })
    }

    async fn open_anew(&self, wanted: Wanted) -> Result<Open, LinkError> {
        let attempts = self.inner.attempts.clone().lock_owned().await;
        // Another attempt may have worked meanwhile.
        if let Some(open) = self.slot().open.clone() {
            return Ok(open);
        }
        if let Some(error) = attempts.too_early(wanted) {
            return Err(error);
        }
        let opened = self.start_dialing(attempts).await;
        opened.unwrap_or_else(|_| Err(LinkError::Down("the attempt was cut off".into())))
    }

    /// Opens a connection, in a task of its own: others need it too if whoever wanted it leaves.
    pub(super) fn start_dialing(
        &self,
        mut attempts: OwnedMutexGuard<Attempts>,
    ) -> JoinHandle<Result<Open, LinkError>> {
        let link = self.clone();
        tokio::spawn(async move { link.dial(&mut attempts).await })
    }

    async fn dial(&self, attempts: &mut Attempts) -> Result<Open, LinkError> {
        let (connection, server) = match self.inner.dialer.connect().await {
            Ok(connected) => connected,
            Err(error) => {
                let error = LinkError::Down(loggable_text(&error));
                let (at, pause) = (Instant::now(), attempts.backoff.next_pause());
                attempts.failed = Some(Failed { at, pause, error: error.clone() });
                return Err(error);
            }
        };
        attempts.backoff.reset();
        attempts.failed = None;
        attempts.last_number += 1;
        let before = mem::replace(&mut attempts.server, server);
        let is_another = before.is_some() && before != attempts.server;
        let open = Open { connection, number: attempts.last_number };
        let mut slot = self.slot();
        if mem::take(&mut slot.search.is_open) || is_another {
            // Only now: whoever asks where the server is gets an answer that is no older than this connection's.
            self.inner.moves.send_modify(|moves| *moves += 1);
        }
        let now = Instant::now();
        let is_cluster = matches!(open.connection, Connection::Cluster(_));
        slot.cluster = is_cluster.then_some(Heard { first: now, last: now });
        slot.open = Some(open.clone());
        Ok(open)
    }

    pub(super) fn slot(&self) -> MutexGuard<'_, Slot> {
        self.inner.slot.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Gives up the connection with this number, unless it has been replaced.
    pub(super) fn discard(&self, number: u64) {
        let mut slot = self.slot();
        if slot.open.as_ref().is_some_and(|open| open.number == number) {
            slot.open = None;
        }
    }

    /// Notes that there was an answer.
    pub(super) fn heard(&self) {
        if let Some(heard) = &mut self.slot().cluster {
            heard.last = Instant::now();
        }
    }

    /// Whether there is a connection to a cluster.
    pub(super) fn is_connected_to_cluster(&self) -> bool {
        let slot = self.slot();
        slot.open.is_some() && slot.cluster.is_some()
    }

    /// Whether nodes of a cluster answer by the connection with this number, though that of these keys does not. A new
    /// connection waits for the node that hangs, and all tenants with it, so it is opened only now and then.
    pub(super) fn answers_for_other_keys(&self, number: u64) -> bool {
        let silent_for = self.keys_outage.silent_for();
        let slot = self.slot();
        let is_it = slot.open.as_ref().is_some_and(|open| open.number == number);
        slot.cluster.filter(|_| is_it).is_some_and(|Heard { first, last }| {
            last.elapsed() < self.inner.timeouts.heartbeat
                && first.elapsed().min(silent_for) < FAIL_OVER
        })
    }

    /// Gives up a connection, to look for a server that does what this one refuses. Returns whether
    /// it is time for that.
    pub(super) fn give_up_connection(&self, number: u64) -> bool {
        let mut slot = self.slot();
        if slot.open.as_ref().is_none_or(|open| open.number != number) {
            // Another request has given it up already, for the same reason.
            return true;
        }
        let now = Instant::now();
        if slot.search.next.is_some_and(|next| now < next) {
            return false;
        }
        if slot.search.next.is_some_and(|next| now >= next + SEARCH_RESET_AFTER) {
            slot.search.backoff.reset();
        }
        slot.search.next = Some(now + slot.search.backoff.next_pause());
        (slot.open, slot.search.is_open) = (None, true);
        true
    }
}

impl Attempts {
    /// The error of the last attempt, while it is too early for the next.
    pub(super) fn too_early(&self, wanted: Wanted) -> Option<LinkError> {
        let Failed { at, pause, error } = self.failed.as_ref()?;
        let pause = match wanted {
            Wanted::ForRequest => *pause,
            Wanted::ForProbe => (*pause).min(PROBE_PAUSE_MAX),
        };
        (at.elapsed() < pause).then(|| error.clone())
    }
}

impl fmt::Debug for Open {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Open").field("number", &self.number).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use tokio::time::advance;

    use super::*;
    use crate::cluster::redis::LONGEST_PAUSE;

    #[tokio::test(start_paused = true)]
    async fn a_probe_makes_the_next_attempt_soon_however_long_the_pause_is() {
        let error = LinkError::Down("gone".into());
        let failed = Failed { at: Instant::now(), pause: LONGEST_PAUSE, error: error.clone() };
        let attempts = Attempts { failed: Some(failed), ..Attempts::default() };
        assert_eq!(attempts.too_early(Wanted::ForProbe), Some(error.clone()));
        advance(PROBE_PAUSE_MAX).await;
        assert_eq!(attempts.too_early(Wanted::ForProbe), None);
        assert_eq!(attempts.too_early(Wanted::ForRequest), Some(error));
        advance(LONGEST_PAUSE.saturating_sub(PROBE_PAUSE_MAX)).await;
        assert_eq!(attempts.too_early(Wanted::ForRequest), None);
    }
}
