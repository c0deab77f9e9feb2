//! The service `AgentEvents`.
mod feed;

use std::{
    net::{IpAddr, Ipv4Addr},
    pin::Pin,
    sync::Arc,
};

use futures_util::{Stream, stream::unfold};
use tokio::time::{Instant, sleep_until};
use tokio_util::sync::CancellationToken;
use tonic::{Request, Response, Status};

use self::feed::Feed;
use super::{
    Shared,
    call_log::CallLog,
    check::Checker,
    proto::{
        WatchEventsRequest, WatchEventsResponse, agent_events_server::AgentEvents,
        watch_events_response::What,
    },
    respond::Arrival,
    stream_end::StreamEnd,
    translate,
};
use crate::{
    access::{Access, Right},
    call::{CallError, ConnectionEnding, Deadline, Obstacle, Wait},
    tenant::{PeerPlace, Tenant},
};

/// `AgentEvents`: streams of what happens to agents.
#[derive(Debug)]
pub(super) struct AgentEventsRpc(pub(super) Arc<Shared>);

type Responses = Pin<Box<dyn Stream<Item = Result<WatchEventsResponse, Status>> + Send>>;

/// One caller's stream of events.
struct EventStream {
    shared: Arc<Shared>,
    feed: Feed,
    end: End,
    /// Why the stream ends. Messages that the feed still has are sent before.
    ended: Option<CallError>,
    over: StreamEnd,
    /// Set until the stream has ended.
    record: Option<CallLog>,
}

/// What ends a stream, if its caller does not.
struct End {
    deadline: Option<Instant>,
    access: Option<Arc<Access>>,
    connection: CancellationToken,
    stopping: CancellationToken,
    place: PeerPlace,
    tenant: Arc<Tenant>,
}

#[tonic::async_trait]
impl AgentEvents for AgentEventsRpc {
    type WatchEventsStream = Responses;

    async fn watch_events(
        &self,
        request: Request<WatchEventsRequest>,
    ) -> Result<Response<Responses>, Status> {
        let method = "ccgateway.agent.v1.AgentEvents/WatchEvents";
        let ending = request.extensions().get().cloned();
        let connection =
            ending.map_or_else(CancellationToken::new, |ConnectionEnding(token)| token);
        let (arrival, record, message) = self.0.arrival(Right::Watch, method, request);
        match self.open(arrival, connection, &message).await {
            Ok((feed, end)) => {
                let (shared, record) = (self.0.clone(), Some(record));
                let over = StreamEnd::new(end.place.lost_token());
                let events =
                    EventStream { shared, feed, end, ended: None, over: over.clone(), record };
                let stream: Responses = Box::pin(unfold(events, EventStream::next));
                let mut response = Response::new(stream);
                response.extensions_mut().insert(over);
                Ok(response)
            }
            Err(error) => Err(record.refuse(&error, &self.0)),
        }
    }
}

impl AgentEventsRpc {
    async fn open(
        &self,
        arrival: Arrival,
        connection: CancellationToken,
        request: &WatchEventsRequest,
    ) -> Result<(Feed, End), CallError> {
        let Arrival { timeout, peer, at, access, tenant } = arrival;
        let tenant = tenant.map_err(CallError::unasked)?;
        let mut checker = Checker::default();
        let tenant = checker.tenant(tenant.as_ref(), &request.tenant_id)?;
        let agents = checker.agents(tenant, &request.agent_ids);
        let (tenant, agents) = checker.done(tenant.zip(agents))?;

        // Callers without an address share one, so that they are limited too.
        let peer = peer.map_or(IpAddr::V4(Ipv4Addr::UNSPECIFIED), |peer| peer.ip());
        let place = tenant.enter_watches(peer).map_err(CallError::unasked)?;
        let last_report = timeout.map(|timeout| Deadline::new(at, timeout).answer_by());
        let end = End {
            deadline: timeout.and_then(|timeout| at.checked_add(timeout)),
            access,
            connection,
            stopping: tenant.stopping(),
            place,
            tenant: tenant.clone(),
        };
        tokio::select! {
            biased;
            error = end.reached() => Err(error),
            watch = tenant.watch(agents, request.after_sequence) => {
                Ok((Feed::new(watch, last_report), end))
            }
        }
    }
}

// === impl EventStream ===

impl EventStream {
    async fn next(mut self) -> Option<(Result<WatchEventsResponse, Status>, Self)> {
        self.record.as_ref()?;
        if self.ended.is_none() {
            tokio::select! {
                biased;
                error = self.end.reached() => {
                    self.feed.close();
                    self.ended = Some(error);
                }
                message = self.feed.next() => return Some(self.deliver(message)),
            }
        }
        if let Some(message) = self.feed.pop() {
            return Some(self.deliver(message));
        }
        let status = self.record.take()?.refuse(&self.ended.take()?, &self.shared);
        Some((Err(status), self))
    }

    fn deliver(self, message: WatchEventsResponse) -> (Result<WatchEventsResponse, Status>, Self) {
        if let (Some(What::Gap(_)), Some(record)) = (&message.what, &self.record) {
            record.gap();
        }
        (Ok(message), self)
    }
}

impl Drop for EventStream {
    /// The stream may be dropped after its end, because its caller did not read that far. Then it
    /// has ended for that reason, and the caller is told if it reads on in time.
    fn drop(&mut self) {
        if let Some(record) = self.record.take()
            && let Some(error) = self.end.reason()
        {
            self.over.tell(record.refuse(&error, &self.shared));
        }
    }
}

// === impl End ===

impl End {
    /// Waits for the end. Returns its reason.
    async fn reached(&self) -> CallError {
        let earlier = self.deadline.into_iter().chain(self.until()).min();
        let lost = async {
            match &self.access {
                Some(access) => access.lost(self.tenant.id().as_str(), Right::Watch).await,
                None => std::future::pending().await,
            }
        };
        let key_withdrawn = async {
            match &self.access {
                Some(access) => access.key_withdrawn().await,
                None => std::future::pending().await,
            }
        };
        let deadline = async {
            match earlier {
                Some(earlier) => sleep_until(earlier).await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            () = self.stopping.cancelled() => {}
            () = self.connection.cancelled() => {}
            () = deadline => {}
            () = lost => {}
            () = key_withdrawn => {}
            () = self.place.lost() => {}
        }
        self.reason().unwrap_or_else(|| CallError::unasked(Obstacle::ConnectionAged))
    }

    /// When the caller's certificate or token expires.
    fn until(&self) -> Option<Instant> {
        self.access.as_ref().and_then(|access| access.until())
    }

    /// Why the caller may watch no more.
    fn taken_back(&self) -> Option<Obstacle> {
        self.access.as_ref()?.taken_back(self.tenant.id().as_str(), Right::Watch)
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
            self.place.is_lost().then(|| self.tenant.watches_used_up())
        };
        obstacle.map(CallError::unasked)
    }
}
