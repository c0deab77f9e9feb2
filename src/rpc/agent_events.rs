use std::{collections::VecDeque, pin::Pin, sync::Arc};

use futures_util::{Stream, stream::unfold};
use tokio::{
    sync::OwnedSemaphorePermit,
    time::{Instant, sleep_until},
};
use tokio_util::sync::CancellationToken;
use tonic::{Request, Response, Status};

use super::{
    Shared,
    check::Checker,
    proto::{WatchEventsRequest, WatchEventsResponse, agent_events_server::AgentEvents},
    record::Record,
    respond::Arrival,
    translate,
};
use crate::{
    call::{CallError, Obstacle, Wait},
    event::Watch,
};

/// `AgentEvents`: what happens to agents.
#[derive(Debug)]
pub(super) struct AgentEventsRpc(pub(super) Arc<Shared>);

type Responses = Pin<Box<dyn Stream<Item = Result<WatchEventsResponse, Status>> + Send>>;

/// One caller's stream.
struct Telling {
    shared: Arc<Shared>,
    watch: Watch,
    /// To be told before the watch is asked for more.
    ready: VecDeque<WatchEventsResponse>,
    end: End,
    /// Until the stream has ended.
    record: Option<Record>,
    _place: OwnedSemaphorePermit,
}

/// What ends a stream, if its caller does not.
struct End {
    deadline: Option<Instant>,
    connection: CancellationToken,
    bridge: CancellationToken,
}

#[tonic::async_trait]
impl AgentEvents for AgentEventsRpc {
    type WatchEventsStream = Responses;

    async fn watch_events(
        &self,
        request: Request<WatchEventsRequest>,
    ) -> Result<Response<Responses>, Status> {
        let method = "ccgateway.agent.v1.AgentEvents/WatchEvents";
        let (arrival, record, message) = self.0.arrival(method, request);
        match self.telling(&arrival, &message).await {
            Ok((watch, end, place)) => {
                let ready = [translate::begin(watch.position())].into();
                let (shared, record) = (self.0.clone(), Some(record));
                let telling = Telling { shared, watch, ready, end, record, _place: place };
                Ok(Response::new(Box::pin(unfold(telling, Telling::next))))
            }
            Err(error) => Err(record.refuse(&error, &self.0)),
        }
    }
}

impl AgentEventsRpc {
    async fn telling(
        &self,
        arrival: &Arrival,
        request: &WatchEventsRequest,
    ) -> Result<(Watch, End, OwnedSemaphorePermit), CallError> {
        let timeout = arrival.timeout()?;
        let mut checker = Checker::default();
        let tenant = checker.tenant(&self.0.tenants, &request.tenant_id)?;
        let agents = checker.agents(tenant, &request.agent_ids);
        let (tenant, agents) = checker.done(tenant.zip(agents))?;

        let (watch, place) =
            tenant.watch(agents, request.after_sequence).await.map_err(CallError::unasked)?;
        let end = End {
            deadline: timeout.and_then(|timeout| arrival.at.checked_add(timeout)),
            connection: arrival.leaving.clone(),
            bridge: tenant.stopping(),
        };
        Ok((watch, end, place))
    }
}

// === impl Telling ===

impl Telling {
    async fn next(mut self) -> Option<(Result<WatchEventsResponse, Status>, Self)> {
        loop {
            self.record.as_ref()?;
            if let Some(response) = self.ready.pop_front() {
                return Some((Ok(response), self));
            }
            tokio::select! {
                biased;
                error = self.end.came() => {
                    let status = self.record.take()?.refuse(&error, &self.shared);
                    return Some((Err(status), self));
                }
                batch = self.watch.more() => {
                    if batch.missed.is_some() {
                        self.record.as_ref()?.gap();
                    }
                    self.ready.extend(translate::batch(&batch));
                }
            }
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
        CallError::unasked(tokio::select! {
            biased;
            // A bridge that stops ends its connections too.
            () = self.bridge.cancelled() => Obstacle::ShuttingDown,
            () = self.connection.cancelled() => Obstacle::ConnectionAged,
            () = deadline => Obstacle::Deadline(Wait::Watching),
        })
    }
}
