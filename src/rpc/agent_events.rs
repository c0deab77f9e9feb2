//! The service `AgentEvents`.
mod feed;

use std::{
    net::{IpAddr, Ipv4Addr},
    pin::Pin,
    sync::Arc,
};

use futures_util::{Stream, stream::unfold};
use tokio_util::sync::CancellationToken;
use tonic::{Request, Response, Status};

use self::feed::Feed;
use super::{
    Method, Shared,
    call_log::CallLog,
    check::Checker,
    proto::{
        WatchEventsRequest, WatchEventsResponse, agent_events_server::AgentEvents,
        watch_events_response::What,
    },
    respond::Arrival,
    stream_end::{End, StreamEnd},
    translate,
};
use crate::{
    access::Right,
    call::{CallError, ConnectionEnding, Deadline},
    tenant::PeerPlace,
};

/// `AgentEvents`: streams of what happens to agents.
#[derive(Debug)]
pub(super) struct AgentEventsRpc(pub(super) Arc<Shared>);

type Responses = Pin<Box<dyn Stream<Item = Result<WatchEventsResponse, Status>> + Send>>;

/// One caller's stream of events.
struct EventStream {
    shared: Arc<Shared>,
    feed: Feed,
    end: StreamEnd,
    /// Why the stream ends. Messages that the feed still has are sent before.
    ended: Option<CallError>,
    /// Set until the stream has ended.
    record: Option<CallLog>,
    _place: PeerPlace,
}

#[tonic::async_trait]
impl AgentEvents for AgentEventsRpc {
    type WatchEventsStream = Responses;

    async fn watch_events(
        &self,
        request: Request<WatchEventsRequest>,
    ) -> Result<Response<Responses>, Status> {
        let ending = request.extensions().get().cloned();
        let connection =
            ending.map_or_else(CancellationToken::new, |ConnectionEnding(token)| token);
        let (arrival, record, message) = self.0.arrival(Right::Watch, Method::WatchEvents, request);
        match self.open(arrival, connection, &message).await {
            Ok((feed, end, place)) => {
                let (shared, record) = (self.0.clone(), Some(record));
                let (to_server, ended) = (end.clone(), None);
                let events = EventStream { shared, feed, end, ended, record, _place: place };
                let stream: Responses = Box::pin(unfold(events, EventStream::next));
                let mut response = Response::new(stream);
                response.extensions_mut().insert(to_server);
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
    ) -> Result<(Feed, StreamEnd, PeerPlace), CallError> {
        let Arrival { timeout, peer, at, access, tenant } = arrival;
        let tenant = tenant.map_err(CallError::unasked)?;
        let mut checker = Checker::default();
        let tenant = checker.tenant(tenant.as_ref(), &request.tenant_id)?;
        let agents = checker.agents(tenant, &request.agent_ids);
        let (tenant, agents) = checker.done(tenant.zip(agents))?;

        // Callers without an address share one, so that they are limited too.
        let peer = peer.unwrap_or(IpAddr::V4(Ipv4Addr::UNSPECIFIED));
        let place = tenant.enter_watches(peer).map_err(CallError::unasked)?;
        let last_report = timeout.map(|timeout| Deadline::new(at, timeout).answer_by());
        let end = StreamEnd::new(End {
            deadline: timeout.and_then(|timeout| at.checked_add(timeout)),
            access,
            connection,
            stopping: tenant.stopping(),
            displaced: place.lost_token(),
            tenant: tenant.clone(),
        });
        tokio::select! {
            biased;
            error = end.reached() => Err(error),
            watch = tenant.watch(agents, request.after_sequence) => {
                Ok((Feed::new(watch, last_report), end, place))
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
                    self.feed.close(&error);
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
            && let Some(error) = self.end.why()
        {
            self.end.tell(record.refuse(&error, &self.shared));
        }
    }
}
