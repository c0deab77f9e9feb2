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
    check::Checker,
    proto::{
        WatchEventsRequest, WatchEventsResponse, agent_events_server::AgentEvents,
        watch_events_response::What,
    },
    record::Record,
    respond::Arrival,
    stream_over::StreamOver,
    translate,
};
use crate::{
    call::{CallError, Deadline, Leaving, Obstacle, Wait},
    tenant::{PeerPlace, Tenant},
};

/// `AgentEvents`: what happens to agents.
#[derive(Debug)]
pub(super) struct AgentEventsRpc(pub(super) Arc<Shared>);

type Responses = Pin<Box<dyn Stream<Item = Result<WatchEventsResponse, Status>> + Send>>;

/// One caller's stream.
struct Telling {
    shared: Arc<Shared>,
    feed: Feed,
    end: End,
    /// Why the stream ends. What the feed still has goes first.
    ended: Option<CallError>,
    over: StreamOver,
    /// Until the stream has ended.
    record: Option<Record>,
}

/// What ends a stream, if its caller does not.
struct End {
    deadline: Option<Instant>,
    connection: CancellationToken,
    bridge: CancellationToken,
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
        let leaving = request.extensions().get().cloned();
        let connection = leaving.map_or_else(CancellationToken::new, |Leaving(token)| token);
        let (arrival, record, message) = self.0.arrival(method, request);
        match self.telling(&arrival, connection, &message).await {
            Ok((feed, end)) => {
                let (shared, record) = (self.0.clone(), Some(record));
                let over = StreamOver::new(end.place.lost_token());
                let telling =
                    Telling { shared, feed, end, ended: None, over: over.clone(), record };
                let stream: Responses = Box::pin(unfold(telling, Telling::next));
                let mut response = Response::new(stream);
                response.extensions_mut().insert(over);
                Ok(response)
            }
            Err(error) => Err(record.refuse(&error, &self.0)),
        }
    }
}

impl AgentEventsRpc {
    async fn telling(
        &self,
        arrival: &Arrival,
        connection: CancellationToken,
        request: &WatchEventsRequest,
    ) -> Result<(Feed, End), CallError> {
        let timeout = arrival.timeout()?;
        let mut checker = Checker::default();
        let tenant = checker.tenant(&self.0.tenants, &request.tenant_id)?;
        let agents = checker.agents(tenant, &request.agent_ids);
        let (tenant, agents) = checker.done(tenant.zip(agents))?;

        // Those without an address share one, so that none is without a bound.
        let peer = arrival.peer.map_or(IpAddr::V4(Ipv4Addr::UNSPECIFIED), |peer| peer.ip());
        let watch = tenant.watch(peer, agents, request.after_sequence).await;
        let (watch, place) = watch.map_err(CallError::unasked)?;
        let last_report = timeout.map(|timeout| Deadline::new(arrival.at, timeout).answer_by());
        let end = End {
            deadline: timeout.and_then(|timeout| arrival.at.checked_add(timeout)),
            connection,
            bridge: tenant.stopping(),
            place,
            tenant: tenant.clone(),
        };
        Ok((Feed::new(watch, last_report), end))
    }
}

// === impl Telling ===

impl Telling {
    async fn next(mut self) -> Option<(Result<WatchEventsResponse, Status>, Self)> {
        self.record.as_ref()?;
        if self.ended.is_none() {
            tokio::select! {
                biased;
                error = self.end.came() => {
                    self.feed.close();
                    self.ended = Some(error);
                }
                message = self.feed.next() => return Some(self.tell(message)),
            }
        }
        if let Some(message) = self.feed.pop() {
            return Some(self.tell(message));
        }
        let status = self.record.take()?.refuse(&self.ended.take()?, &self.shared);
        Some((Err(status), self))
    }

    fn tell(self, message: WatchEventsResponse) -> (Result<WatchEventsResponse, Status>, Self) {
        if let (Some(What::Gap(_)), Some(record)) = (&message.what, &self.record) {
            record.gap();
        }
        (Ok(message), self)
    }
}

impl Drop for Telling {
    /// A stream that is dropped after its end, since its caller did not read that far, has ended for
    /// that reason. The caller hears it if it reads on in time.
    fn drop(&mut self) {
        if let Some(record) = self.record.take()
            && let Some(error) = self.end.has_come()
        {
            self.over.tell(record.refuse(&error, &self.shared));
        }
    }
}

// === impl End ===

impl End {
    async fn came(&self) -> CallError {
        let deadline = async {
            match self.deadline {
                Some(deadline) => sleep_until(deadline).await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            () = self.bridge.cancelled() => {}
            () = self.connection.cancelled() => {}
            () = deadline => {}
            () = self.place.lost() => {}
        }
        self.has_come().unwrap_or_else(|| CallError::unasked(Obstacle::ConnectionAged))
    }

    /// Why the stream is over, if it is.
    fn has_come(&self) -> Option<CallError> {
        // A bridge that stops ends its connections too.
        let obstacle = if self.bridge.is_cancelled() {
            Some(Obstacle::ShuttingDown)
        } else if self.connection.is_cancelled() {
            Some(Obstacle::ConnectionAged)
        } else if self.deadline.is_some_and(|deadline| deadline <= Instant::now()) {
            Some(Obstacle::Deadline(Wait::Watching))
        } else {
            self.place.is_lost().then(|| self.tenant.watches_used_up())
        };
        obstacle.map(CallError::unasked)
    }
}
