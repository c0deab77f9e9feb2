//! Clients of a bridge.

use std::net::SocketAddr;

use ccgateway_bridge::{
    client::{self, Channel},
    rpc::proto::{
        GetSessionRequest, RegisterSessionRequest, Session, SetBusyRequest, SetBusyResponse,
        SignInRequest, SignInResponse, SignOutRequest, WatchEventsRequest,
        agent_events_client::AgentEventsClient, agent_session_client::AgentSessionClient,
        agent_state_client::AgentStateClient, watch_events_response::What,
    },
};
use http::Uri;
use tonic::{Response, Status};

use crate::{PASSWORD, Watching};

/// A client of each service; all of them share one connection.
#[derive(Clone, Debug)]
pub struct Clients {
    /// The client of the service AgentState.
    pub states: AgentStateClient<Channel>,
    /// The client of the service AgentSession.
    pub sessions: AgentSessionClient<Channel>,
    /// The client of the service AgentEvents.
    pub events: AgentEventsClient<Channel>,
}

/// A bridge's address without TLS, as clients take it.
pub fn origin(addr: SocketAddr) -> Uri {
    format!("http://{addr}").parse().expect("an origin")
}

impl Clients {
    /// Clients of the bridge at this address. The first call connects.
    pub fn of(addr: SocketAddr) -> Self {
        let (channel, origin) = (client::channel(), origin(addr));
        Self {
            states: client::agent_state(channel.clone(), origin.clone()),
            sessions: client::agent_session(channel.clone(), origin.clone()),
            events: client::agent_events(channel, origin),
        }
    }

    /// Signs an agent in.
    pub async fn sign_in(&self, agent: u32) -> Result<SignInResponse, Status> {
        let password = Some(PASSWORD.into());
        let request = SignInRequest { agent_id: agent.to_string(), password, ..<_>::default() };
        self.sessions.clone().sign_in(request).await.map(Response::into_inner)
    }

    /// Signs an agent out.
    pub async fn sign_out(&self, agent: u32) -> Result<(), Status> {
        let request = SignOutRequest { agent_id: agent.to_string(), ..<_>::default() };
        self.sessions.clone().sign_out(request).await.map(drop)
    }

    /// Registers a session. Returns the version of its Guid.
    pub async fn register(&self, agent: u32, guid: &str) -> Result<u64, Status> {
        let (agent_id, guid) = (agent.to_string(), guid.to_owned());
        let request = RegisterSessionRequest { agent_id, guid, ..<_>::default() };
        let registered = self.sessions.clone().register_session(request).await?.into_inner();
        Ok(registered.session.expect("a session").guid_version)
    }

    /// What the bridge knows about an agent's session, which must exist.
    pub async fn session(&self, agent: u32) -> Session {
        self.find_session(agent).await.expect("a session")
    }

    /// What the bridge knows about an agent's session.
    pub async fn find_session(&self, agent: u32) -> Result<Session, Status> {
        let request = GetSessionRequest { agent_id: agent.to_string(), ..<_>::default() };
        let shown = self.sessions.clone().get_session(request).await?.into_inner();
        Ok(shown.session.expect("a session"))
    }

    /// Makes an agent busy.
    pub async fn set_busy(&self, agent: u32) -> Result<SetBusyResponse, Status> {
        set_busy(&self.states, agent).await
    }

    /// Makes an agent busy with this request.
    pub async fn call(&self, request: SetBusyRequest) -> Result<SetBusyResponse, Status> {
        self.states.clone().set_busy(request).await.map(Response::into_inner)
    }

    /// Watches agents' events. When it returns, the watch has begun.
    pub async fn watch(&self, agents: &[u32], after: Option<u64>) -> Watching {
        let agent_ids = agents.iter().map(u32::to_string).collect();
        let request = WatchEventsRequest { agent_ids, after_sequence: after, ..<_>::default() };
        let stream = self.events.clone().watch_events(request).await.expect("watching");
        let mut watching = Watching::of(stream.into_inner());
        let begin = watching.next().await;
        assert!(matches!(begin.what, Some(What::Begin(_))), "{begin:?}");
        watching
    }
}

/// Makes an agent busy, by a call that is also accepted if the agent is already busy.
pub async fn set_busy(
    states: &AgentStateClient<Channel>,
    agent: u32,
) -> Result<SetBusyResponse, Status> {
    let request = SetBusyRequest {
        agent_id: agent.to_string(),
        reason: Some(200),
        prolong: Some(true),
        ..<_>::default()
    };
    states.clone().set_busy(request).await.map(Response::into_inner)
}
