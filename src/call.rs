//! One call: how long its caller waits, and what can come of it.
//!
//! Knows neither gRPC nor HTTP. [`CallError`] is the whole list of ways in which a call can fail;
//! its variants differ in what is known about the agent.

mod context;
mod deadline;
mod detached;

use std::{fmt, num::NonZeroUsize, time::Duration};

pub use self::{
    context::Context,
    deadline::{Caller, Deadline, StreamOver},
    detached::{Loss, Patience, detached},
};
use crate::retcode::{Kind, Retcode};

/// Why a call was not carried out, or not known to be.
#[derive(Clone, Debug, thiserror::Error)]
pub enum CallError {
    /// The request breaks a rule of the contract; nothing was sent.
    #[error("the request has bad fields: {}", fields(.0))]
    Invalid(Vec<FieldViolation>),

    /// No such tenant is configured.
    #[error("the tenant is not configured")]
    TenantUnknown,

    /// The agent has no session, and the bridge has no credentials to make one.
    #[error("the agent has no session; call AgentSession.SignIn or RegisterSession first")]
    SessionMissing,

    /// A sign-in without a password, where none is configured.
    #[error("no password was given, and the tenant's credentials file has none for this agent")]
    CredentialsMissing,

    /// The gateway answered no. The agent is as it was.
    #[error(transparent)]
    Refused(Refusal),

    /// The request never left the bridge. The agent is as it was.
    #[error("the gateway could not be reached: {0}")]
    Unreachable(String),

    /// The request left and no whole answer came. The agent may have changed.
    #[error("the request was sent and no answer came: {0}")]
    NoAnswer(String),

    /// The caller's deadline passed.
    #[error("the deadline passed {0}")]
    Deadline(Stage),

    /// The answer has an HTTP status other than 2xx and no envelope.
    #[error("the gateway answered with HTTP status {status}")]
    HttpStatus {
        /// The status.
        status: u16,
        /// What its `Retry-After` header asks for.
        retry_after: Option<Duration>,
    },

    /// The answer has a 2xx status and no readable envelope. The agent may have changed.
    #[error("the gateway's answer is not readable: {0}")]
    BadReply(String),

    /// A share is used up. Nothing was sent.
    #[error("{share} is used up: {limit} {}", .share.unit())]
    Overloaded {
        /// Which one.
        share: Share,
        /// How much it holds.
        limit: NonZeroUsize,
    },

    /// The agent has to be signed in, and its turn comes after the caller's deadline. Nothing was
    /// sent; the agent keeps its place in the queue.
    #[error(
        "the agent waits to be signed in, behind others; its turn comes in about {}",
        rounded(*.due_in)
    )]
    SignInsQueued {
        /// Until the agent's turn, as far as can be told.
        due_in: Duration,
    },

    /// Another client has signed the agent in, and the bridge gives way to it for a while. Nothing was
    /// sent.
    #[error(
        "the agent is signed in by another client, or by this bridge before its restart; a call \
         after {} makes the bridge try again",
        rounded(*.retry_in)
    )]
    TakenOver {
        /// Until a call makes the bridge try again.
        retry_in: Duration,
    },

    /// The gateway refused the agent's Guid, so that nothing was done; then this kept the request
    /// from being repeated with another one.
    #[error("the gateway refused the agent's Guid, and then: {0}")]
    AfterRefusal(Box<CallError>),

    /// The bridge is going away. Nothing was sent.
    #[error("this replica is shutting down; another one will take the call")]
    ShuttingDown,

    /// The connection has been asked to end, so that streams are over, and calls that come much later
    /// are refused. Nothing was sent.
    #[error("the connection has been asked to end")]
    ConnectionAged,

    /// The agent's session may be known to other replicas, and the store that they share cannot
    /// tell. Nothing was sent.
    #[error("the store that replicas share {0}, and this replica does not know the agent")]
    StoreUnavailable(StoreTrouble),

    /// A bug in the bridge. The agent may have changed.
    #[error("the bridge failed inside; its log says where")]
    Internal,
}

/// Why the store that replicas share cannot tell of an agent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StoreTrouble {
    /// It does not answer.
    Silent,
    /// It answers, and refuses to be read.
    RefusesReads,
    /// It answers, and refuses to be written to, so that other replicas cannot tell what they know.
    RefusesWrites,
}

impl fmt::Display for StoreTrouble {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Silent => "does not answer",
            Self::RefusesReads => "refuses reads",
            Self::RefusesWrites => "refuses writes",
        })
    }
}

/// A field of a request that breaks a rule.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FieldViolation {
    /// As the proto names it.
    pub field: &'static str,
    /// What is wrong and what would be right; bounded, and free of the field's value where that is
    /// a secret.
    pub description: String,
}

/// The gateway's no: an answer whose retcode is not "0".
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refusal {
    /// The retcode.
    pub retcode: Retcode,
    /// The gateway's own text, as it came; may be empty.
    pub message: String,
    /// The node that owns the session which was used.
    pub node: Option<Box<str>>,
}

/// What was being waited for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stage {
    /// The rest of the caller's request.
    Request,
    /// Other calls for this agent, or a place among the tenant's requests.
    Queue,
    /// A connection to the gateway.
    Connection,
    /// The gateway's answer to the sign-in that had to come first.
    SignIn,
    /// The gateway's answer.
    Answer,
    /// Events, which no gateway is asked for.
    Watching,
}

/// A bounded share of the bridge.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Share {
    /// All calls in the bridge, of which each tenant has a part.
    ServerCalls,
    /// Requests whose message is not there yet.
    ServerReading,
    /// Streams that describe the services to tools.
    ServerReflection,
    /// All calls of the tenant.
    TenantCalls,
    /// Requests to the tenant's gateway at once.
    TenantRequests,
    /// Requests to the gateway's host at once, over all tenants.
    HostRequests,
    /// Calls waiting for one agent.
    AgentQueue,
    /// The tenant's sessions.
    TenantSessions,
    /// Callers who watch the tenant's events.
    TenantWatches,
}

/// What is known about the agent after a call that failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// The gateway was not asked.
    NotSent,
    /// The gateway said no.
    Refused,
    /// The gateway was asked, and what it did is not known.
    Unknown,
}

// === impl CallError ===

impl CallError {
    /// What is known about the agent.
    pub fn outcome(&self) -> Outcome {
        match self {
            Self::Invalid(_)
            | Self::TenantUnknown
            | Self::SessionMissing
            | Self::CredentialsMissing
            | Self::Unreachable(_)
            | Self::Overloaded { .. }
            | Self::SignInsQueued { .. }
            | Self::TakenOver { .. }
            | Self::ShuttingDown
            | Self::ConnectionAged
            | Self::StoreUnavailable(_)
            | Self::Deadline(Stage::Request | Stage::Queue | Stage::Connection | Stage::Watching) => {
                Outcome::NotSent
            }
            // Both statuses mean "not now" by their definition; the others leave it open.
            Self::Refused(_)
            | Self::AfterRefusal(_)
            | Self::HttpStatus { status: 429 | 503, .. } => Outcome::Refused,
            Self::NoAnswer(_)
            | Self::Deadline(Stage::SignIn | Stage::Answer)
            | Self::HttpStatus { .. }
            | Self::BadReply(_)
            | Self::Internal => Outcome::Unknown,
        }
    }

    /// Whether the gateway rejected the password.
    pub fn is_credentials_rejected(&self) -> bool {
        self.refusal().is_some_and(|r| r.retcode.kind() == Kind::CredentialsRejected)
    }

    /// Whether the gateway says that another client has signed the agent in.
    pub fn is_signed_in_elsewhere(&self) -> bool {
        self.refusal().is_some_and(|r| r.retcode.kind() == Kind::AlreadySignedIn)
    }

    /// A request with one bad field.
    pub fn invalid(field: &'static str, description: String) -> Self {
        Self::Invalid(vec![FieldViolation { field, description }])
    }

    /// The same error of a request that the gateway had refused for its Guid before.
    #[must_use]
    pub fn after_refusal(self) -> Self {
        if self.outcome() == Outcome::NotSent { Self::AfterRefusal(self.into()) } else { self }
    }

    /// The error itself, without what came before it.
    pub fn plain(&self) -> &Self {
        match self {
            Self::AfterRefusal(error) => error,
            error => error,
        }
    }

    /// The gateway's refusal, if it is one.
    pub fn refusal(&self) -> Option<&Refusal> {
        match self {
            Self::Refused(refusal) => Some(refusal),
            _ => None,
        }
    }
}

/// In whole seconds, and never none.
fn rounded(time: Duration) -> humantime::FormattedDuration {
    let up = time + Duration::from_nanos(999_999_999);
    humantime::format_duration(Duration::from_secs(up.as_secs().max(1)))
}

fn fields(violations: &[FieldViolation]) -> String {
    let names: Vec<_> = violations.iter().map(|violation| violation.field).collect();
    names.join(", ")
}

// === impl Refusal ===

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "the gateway refused with retcode {}", self.retcode)?;
        match self.retcode.listed() {
            Some(listed) => write!(f, ": {}", listed.meaning),
            None => write!(f, ", which is in no public list"),
        }
    }
}

impl std::error::Error for Refusal {}

// === impl Stage ===

impl fmt::Display for Stage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Request => "before the request was there whole; nothing was sent",
            Self::Queue => "while the call waited for its turn; nothing was sent",
            Self::Connection => "before there was a connection to the gateway; nothing was sent",
            Self::SignIn => "while the gateway was signing the agent in",
            Self::Answer => "while waiting for the gateway's answer; the agent may have changed",
            Self::Watching => "while events were watched",
        })
    }
}

// === impl Share ===

impl Share {
    /// All of them.
    pub const ALL: [Self; 9] = [
        Self::ServerCalls,
        Self::ServerReading,
        Self::ServerReflection,
        Self::TenantCalls,
        Self::TenantRequests,
        Self::HostRequests,
        Self::AgentQueue,
        Self::TenantSessions,
        Self::TenantWatches,
    ];

    /// As metrics spell it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::ServerCalls => "server_calls",
            Self::ServerReading => "server_reading",
            Self::ServerReflection => "server_reflection",
            Self::TenantCalls => "calls",
            Self::TenantRequests => "requests",
            Self::HostRequests => "host_requests",
            Self::AgentQueue => "agent_queue",
            Self::TenantSessions => "sessions",
            Self::TenantWatches => "watches",
        }
    }

    /// What the share counts.
    pub fn unit(self) -> &'static str {
        match self {
            Self::ServerCalls | Self::TenantCalls => "calls at once",
            Self::ServerReading => "unfinished requests at once",
            Self::ServerReflection => "reflection streams at once",
            Self::TenantRequests | Self::HostRequests => "requests at once",
            Self::AgentQueue => "calls waiting for one agent",
            Self::TenantSessions => "sessions",
            Self::TenantWatches => "callers who watch events",
        }
    }
}

impl fmt::Display for Share {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::ServerCalls => "the tenant's part of the server's share",
            Self::ServerReading | Self::ServerReflection => "the server's share",
            Self::TenantCalls
            | Self::TenantRequests
            | Self::TenantSessions
            | Self::TenantWatches => "the tenant's share",
            Self::HostRequests => "the gateway host's share",
            Self::AgentQueue => "the agent's queue",
        })
    }
}

// === impl Outcome ===

impl Outcome {
    /// As error metadata and logs spell it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::NotSent => "not_sent",
            Self::Refused => "refused",
            Self::Unknown => "unknown",
        }
    }
}
