//! What is known of one agent, for `/agent.json` and the page `/agent`.

use std::time::{Duration, SystemTime};

use serde::Serialize;

use super::{EVENTS, StatusSource, TakenOverStatus};
use crate::{
    event::{Event, What},
    id::AgentId,
    rpc::AgentFailure,
    session::{Origin, SessionState, without_guids},
    state::AgentState,
    tenant::{AgentView, SessionView},
    time::as_rfc3339,
};

/// What is known of one agent. As for [`Status`](super::Status), the field names stay, and others may be added.
#[derive(Debug, Serialize)]
pub(in crate::server) struct AgentStatus {
    pub(in crate::server) tenant: String,
    pub(in crate::server) agent: String,
    #[serde(serialize_with = "as_rfc3339")]
    pub(in crate::server) time: SystemTime,
    /// What the agent is doing according to its last events. None if they do not say.
    pub(in crate::server) state: Option<String>,
    /// The status of its session. None if the bridge does not keep it and no call is changing it.
    pub(in crate::server) session_state: Option<&'static str>,
    /// Its session. None if this process knows of none.
    pub(in crate::server) session: Option<SessionTimes>,
    /// Whether this process polls for it.
    pub(in crate::server) is_polled_here: bool,
    /// Whether the configuration has its credentials.
    pub(in crate::server) has_credentials: bool,
    /// Set if another client has lately taken it from the bridge.
    pub(in crate::server) taken_over: Option<TakenOverStatus>,
    /// Its last calls that failed or were refused, newest first. Others are in the log only.
    pub(in crate::server) failed_calls: Vec<AgentFailure>,
    /// Its last events, newest first.
    pub(in crate::server) events: Vec<EventStatus>,
}

/// An agent's session.
#[derive(Debug, Serialize)]
pub(in crate::server) struct SessionTimes {
    /// `sign_in` or `registered`.
    pub(in crate::server) origin: &'static str,
    /// When its Guid was stored last.
    #[serde(serialize_with = "as_rfc3339")]
    pub(in crate::server) renewed_time: SystemTime,
    /// When it is forgotten unless it is renewed. None if never.
    pub(in crate::server) expires_in_seconds: Option<u64>,
}

/// An event, without what the gateway says of a call.
#[derive(Clone, Debug, Serialize)]
pub(in crate::server) struct EventStatus {
    #[serde(serialize_with = "as_rfc3339")]
    pub(in crate::server) time: SystemTime,
    pub(in crate::server) agent: String,
    /// The gateway's name for it, or `session kept` and the like.
    pub(in crate::server) event: String,
    /// Why a session has changed, if there is more to say.
    pub(in crate::server) cause: Option<String>,
}

/// Why there is nothing to say of an agent.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(in crate::server) enum NotFound {
    /// There is no such tenant.
    #[error("there is no such tenant")]
    Tenant,
    /// The tenant can have no such agent.
    #[error("the agent's id {0}")]
    Agent(String),
}

impl StatusSource {
    /// What is known of an agent. Asks neither the gateway nor the store.
    ///
    /// # Errors
    ///
    /// [`NotFound`].
    pub(in crate::server) fn agent(
        &self,
        tenant: &str,
        agent: &str,
    ) -> Result<AgentStatus, NotFound> {
        let tenant = self.tenant(tenant).ok_or(NotFound::Tenant)?;
        let id = AgentId::parse(agent, &tenant.config().agent_ids);
        let id = id.map_err(|error| NotFound::Agent(error.to_string()))?;
        let failures = &self.exposition.common.observed.failures;
        let AgentView {
            state,
            session_state,
            session,
            is_polled_here,
            has_credentials,
            taken_over,
            events,
        } = tenant.agent_view(id, EVENTS);
        Ok(AgentStatus {
            tenant: tenant.id().to_string(),
            agent: id.to_string(),
            time: SystemTime::now(),
            state: state.as_ref().map(AgentState::to_string),
            session_state: session_state.map(SessionState::as_str),
            session: session.map(SessionTimes::from),
            is_polled_here,
            has_credentials,
            taken_over: taken_over.map(TakenOverStatus::from),
            failed_calls: failures.of_agent(tenant.id(), &id.to_string()),
            events: events.iter().map(|event| EventStatus::of(event)).collect(),
        })
    }
}

impl From<SessionView> for SessionTimes {
    fn from(SessionView { origin, renewed_at, expires_in }: SessionView) -> Self {
        let origin = match origin {
            Origin::SignedIn => "sign_in",
            Origin::Registered => "registered",
        };
        let expires_in_seconds = expires_in.as_ref().map(Duration::as_secs);
        Self { origin, renewed_time: renewed_at, expires_in_seconds }
    }
}

impl EventStatus {
    pub(super) fn of(event: &Event) -> Self {
        let (what, cause) = match &event.what {
            What::Gateway(event) => (without_guids(&event.kind).into_owned(), ""),
            What::Session(change) => (format!("session {}", change.state), &*change.cause),
        };
        Self {
            time: event.time(),
            agent: event.agent.to_string(),
            event: what,
            cause: Some(cause).filter(|cause| !cause.is_empty()).map(str::to_owned),
        }
    }
}
