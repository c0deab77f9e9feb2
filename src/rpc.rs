//! The gRPC side: the services that callers use.
//!
//! There is one file per service. `status` has the table that turns an error into a gRPC status.

mod about;
mod agent_events;
mod agent_session;
mod agent_state;
mod audited;
mod batch;
mod call_log;
mod check;
mod codec;
mod details;
mod dispatch;
mod error_report;
mod failures;
#[doc(hidden)]
pub mod fuzzing;
mod known_change;
mod method;
mod observed;
pub mod proto;
mod reflection;
mod request_head;
mod respond;
mod status;
mod stream_end;
mod timeout;
mod tonic_errors;
mod translate;
mod unhandled;

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

pub use self::details::ERROR_DOMAIN;
pub(crate) use self::details::{KEY_OBSERVED_STATE, KEY_OUTCOME, KEY_RETCODE};
pub use self::dispatch::Dispatch;
pub(crate) use self::error_report::code_name;
pub use self::failures::{AgentFailure, Failure, FailureGroup, Failures};
pub use self::method::{Method, methods};
pub use self::observed::Observed;
pub use self::request_head::{ENCODING, Encoding, RequestHead};
pub use self::stream_end::StreamEnd;
pub use self::unhandled::{Unhandled, WHAT_IS_SPOKEN};
use self::{
    agent_events::AgentEventsRpc,
    agent_session::AgentSessionRpc,
    agent_state::AgentStateRpc,
    proto::{
        agent_events_server::AgentEventsServer,
        agent_session_server::AgentSessionServer,
        agent_state_server::AgentStateServer,
        health::health_server::{Health, HealthServer},
    },
};
use crate::{
    config::{self, Overrides},
    telemetry::log::LogInterval,
    tenant::Tenants,
    time::millis,
};

/// What every method of every service needs.
#[derive(Debug)]
struct Shared {
    tenants: Tenants,
    overrides: Overrides,
    observed: Arc<Observed>,
    default_deadline: Arc<DefaultDeadline>,
    /// When it was last told that h2 has refused a request.
    refusals: LogInterval,
    /// When a request of a caller whom nobody knows was last told.
    strangers: LogInterval,
}

/// The deadline of calls whose callers set none, in whole milliseconds. If none was given when the bridge started, it changes
/// with the tenants.
#[derive(Debug)]
pub struct DefaultDeadline {
    given: Option<Duration>,
    derived_ms: AtomicU64,
}

impl DefaultDeadline {
    fn new(server: &config::Server) -> Self {
        let this = Self { given: server.default_deadline, derived_ms: AtomicU64::default() };
        this.follow(server);
        this
    }

    /// Follows the tenants of a changed configuration, for the calls that come from now on.
    pub fn follow(&self, server: &config::Server) {
        self.derived_ms.store(millis(server.derived_deadline), Ordering::Relaxed);
    }

    /// The one that was given.
    pub fn given(&self) -> Option<Duration> {
        self.given
    }

    /// The deadline of calls that come now.
    pub fn get(&self) -> Duration {
        let derived = || Duration::from_millis(self.derived_ms.load(Ordering::Relaxed));
        self.given.unwrap_or_else(derived)
    }
}

/// Builds the services of the contract, beside that of health. Also returns what answers the requests that
/// reach no method.
pub fn services<H: Health>(
    tenants: Tenants,
    overrides: Overrides,
    server: &config::Server,
    health: HealthServer<H>,
    observed: Arc<Observed>,
) -> (Dispatch<H>, Unhandled) {
    let shared = Arc::new(Shared {
        tenants,
        overrides,
        observed,
        default_deadline: Arc::new(DefaultDeadline::new(server)),
        refusals: LogInterval::default(),
        strangers: LogInterval::default(),
    });
    let unhandled = Unhandled::new(shared.clone());
    let limit = server.limits.message_size;
    let state = AgentStateServer::new(AgentStateRpc(shared.clone()));
    let session = AgentSessionServer::new(AgentSessionRpc(shared.clone()));
    let events = AgentEventsServer::new(AgentEventsRpc(shared));
    let dispatch = Dispatch {
        state: state.max_decoding_message_size(limit),
        session: session.max_decoding_message_size(limit),
        events: events.max_decoding_message_size(limit),
        health,
    };
    (dispatch, unhandled)
}
