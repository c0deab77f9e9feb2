//! Which service answers the requests of which method.

use std::convert::Infallible;

use bytes::Bytes;
use http::{Request, Response};
use tonic::{
    body::Body,
    codegen::{Body as HttpBody, BoxFuture, Service as _, StdError},
};

use super::{
    Method,
    agent_events::AgentEventsRpc,
    agent_session::AgentSessionRpc,
    agent_state::AgentStateRpc,
    proto::{
        agent_events_server::AgentEventsServer,
        agent_session_server::AgentSessionServer,
        agent_state_server::AgentStateServer,
        health::health_server::{Health, HealthServer},
    },
    reflection::reflect,
};

/// The services, as tonic generates them.
#[derive(Clone, Debug)]
pub struct Dispatch<H> {
    pub(super) state: AgentStateServer<AgentStateRpc>,
    pub(super) session: AgentSessionServer<AgentSessionRpc>,
    pub(super) events: AgentEventsServer<AgentEventsRpc>,
    pub(super) health: HealthServer<H>,
}

impl<H: Health> Dispatch<H> {
    /// Passes a request of `method`, which its path names, to the method's service.
    pub fn call<B>(
        &self,
        method: Method,
        request: Request<B>,
    ) -> BoxFuture<Response<Body>, Infallible>
    where
        B: HttpBody<Data = Bytes> + Send + 'static,
        B::Error: Into<StdError> + Send,
    {
        match method {
            Method::BatchSetBusy
            | Method::CancelAfterCallWork
            | Method::CancelBusy
            | Method::CancelResting
            | Method::GetState
            | Method::GetStateChange
            | Method::SetAfterCallWork
            | Method::SetBusy
            | Method::SetIdle
            | Method::SetResting => self.state.clone().call(request),
            Method::GetSession | Method::RegisterSession | Method::SignIn | Method::SignOut => {
                self.session.clone().call(request)
            }
            Method::WatchEvents => self.events.clone().call(request),
            Method::CheckHealth | Method::ListHealth | Method::WatchHealth => {
                self.health.clone().call(request)
            }
            Method::Reflect | Method::ReflectAlpha => reflect(request.map(Body::new)),
        }
    }
}
