//! How the service of a stream tells the server about the stream's end.
use std::{
    future::pending,
    sync::{Arc, OnceLock},
};

use tokio::time::{Instant, sleep_until};
use tokio_util::sync::CancellationToken;
use tonic::Status;

use crate::{
    access::{Access, Right},
    call::{CallError, Obstacle, Wait},
    tenant::Tenant,
};

/// Travels with the answer from a stream's service to the server, and says when and how the stream
/// ends. The server uses it when the caller does not read: hyper does not ask for the stream's next
/// message then, so the service alone would go on for as long as the connection lasts.
#[derive(Clone, Debug)]
pub struct StreamEnd(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    end: End,
    /// Why the stream ends, once it does. What has been taken back may be given again before the
    /// caller reads the end.
    why: OnceLock<CallError>,
    status: OnceLock<Status>,
}

/// What ends a stream of events, if its caller does not.
#[derive(Debug)]
pub(super) struct End {
    pub(super) deadline: Option<Instant>,
    pub(super) access: Option<Arc<Access>>,
    pub(super) connection: CancellationToken,
    pub(super) stopping: CancellationToken,
    /// Cancelled when a newcomer takes the stream's place.
    pub(super) displaced: CancellationToken,
    pub(super) tenant: Arc<Tenant>,
}

// === impl StreamEnd ===

impl StreamEnd {
    pub(super) fn new(end: End) -> Self {
        Self(Arc::new(Inner { end, why: OnceLock::new(), status: OnceLock::new() }))
    }

    /// Waits for the end. Returns its reason.
    pub async fn reached(&self) -> CallError {
        let Inner { end, why, .. } = &*self.0;
        // Once it is reached it is reached for ever, also if a right is given back.
        if let Some(why) = why.get() {
            return why.clone();
        }
        end.reached().await;
        let why = why.get_or_init(|| {
            end.reason().unwrap_or_else(|| CallError::unasked(Obstacle::ConnectionAged))
        });
        why.clone()
    }

    /// Why the stream has ended, or has to end now; `None`: it may go on.
    pub(super) fn why(&self) -> Option<CallError> {
        self.0.why.get().cloned().or_else(|| self.0.end.reason())
    }

    /// Sets the status that the server sends, if the service's own end has not been read.
    pub(super) fn tell(&self, status: Status) {
        // Only the first status counts.
        let _said_before = self.0.status.set(status);
    }

    /// The status to send. It is known once the stream has been dropped after its end.
    pub fn status(&self) -> Option<&Status> {
        self.0.status.get()
    }
}

// === impl End ===

impl End {
    async fn reached(&self) {
        let until = self.access.as_ref().and_then(|access| access.until());
        let earlier = self.deadline.into_iter().chain(until).min();
        let lost = async {
            match &self.access {
                Some(access) => access.lost(self.tenant.id().as_str(), Right::Watch).await,
                None => pending().await,
            }
        };
        let key_withdrawn = async {
            match &self.access {
                Some(access) => access.key_withdrawn().await,
                None => pending().await,
            }
        };
        let deadline = async {
            match earlier {
                Some(earlier) => sleep_until(earlier).await,
                None => pending().await,
            }
        };
        tokio::select! {
            () = self.stopping.cancelled() => {}
            () = self.connection.cancelled() => {}
            () = deadline => {}
            () = lost => {}
            () = key_withdrawn => {}
            () = self.displaced.cancelled() => {}
        }
    }

    /// Why the stream has to end, if it has to.
    fn reason(&self) -> Option<CallError> {
        // Checked first, since a bridge that stops also ends its connections.
        let obstacle = if self.stopping.is_cancelled() {
            Some(self.tenant.why_it_stops())
        } else if self.connection.is_cancelled() {
            Some(Obstacle::ConnectionAged)
        } else if self.deadline.is_some_and(|deadline| deadline <= Instant::now()) {
            Some(Obstacle::Deadline(Wait::Watching))
        } else if let Some(why) = self.taken_back() {
            Some(why)
        } else {
            self.displaced.is_cancelled().then(|| self.tenant.watches_used_up())
        };
        obstacle.map(CallError::unasked)
    }

    /// Why the caller may watch no more.
    fn taken_back(&self) -> Option<Obstacle> {
        self.access.as_ref()?.taken_back(self.tenant.id().as_str(), Right::Watch)
    }
}
