use std::{fmt, num::NonZeroUsize, time::Duration};

use super::CallError;

/// What keeps a request from being sent, or from being sent again. By itself it says nothing about
/// the agent: see [`Untouched`](super::Untouched).
#[derive(Clone, Debug, thiserror::Error)]
pub enum Obstacle {
    /// The request breaks a rule of the contract.
    #[error("the request has bad fields: {}", fields(.0))]
    Invalid(Vec<FieldViolation>),

    /// The request cannot be read.
    #[error("the request cannot be read: {0}")]
    Unreadable(Unreadable),

    /// No such tenant is configured.
    #[error("the tenant is not configured")]
    TenantUnknown,

    /// The agent has no session, and the bridge has no credentials to make one.
    #[error("the agent has no session; call AgentSession.SignIn or RegisterSession first")]
    SessionMissing,

    /// A sign-in without a password, where none is configured.
    #[error("no password was given, and the tenant's credentials file has none for this agent")]
    CredentialsMissing,

    /// There is no connection to the gateway.
    #[error("the gateway could not be reached: {0}")]
    Unreachable(String),

    /// The caller's deadline passed.
    #[error("the deadline passed {0}")]
    Deadline(Wait),

    /// A share is used up.
    #[error("{share} is used up: {limit} {}", .share.unit())]
    Overloaded {
        /// Which one.
        share: Share,
        /// How much it holds.
        limit: NonZeroUsize,
    },

    /// The agent has to be signed in, and its turn comes after the caller's deadline. The agent keeps
    /// its place in the queue.
    #[error(
        "the agent waits to be signed in, behind others; its turn comes in about {}",
        rounded(*.due_in)
    )]
    SignInsQueued {
        /// Until the agent's turn, as far as can be told.
        due_in: Duration,
    },

    /// Another client has signed the agent in, and the bridge gives way to it for a while.
    #[error(
        "the agent is signed in by another client, or by this bridge before its restart; a call \
         after {} makes the bridge try again",
        rounded(*.retry_in)
    )]
    TakenOver {
        /// Until a call makes the bridge try again.
        retry_in: Duration,
    },

    /// The gateway has accepted a sign-in of the agent without a Guid a short while ago, so that the
    /// bridge had to sign the agent out again. Another sign-in would end in the same way.
    #[error(
        "the gateway has accepted the agent's last sign-in without a usable Guid, and the bridge does \
         not try again for a while (keep.rejected_for)"
    )]
    SignInWithoutGuid,

    /// The bridge is going away.
    #[error("this replica is shutting down; another one will take the call")]
    ShuttingDown,

    /// The connection has been asked to end, so that streams are over, and calls that come much later
    /// are refused.
    #[error("the connection has been asked to end")]
    ConnectionAged,

    /// The agent's session may be known to other replicas, and the store that they share cannot
    /// tell.
    #[error("the store that replicas share {0}, and this replica does not know the agent")]
    StoreUnavailable(StoreTrouble),

    /// Something else, after other addresses of the gateway had been tried and not reached.
    #[error("{then}; tried before: {causes}")]
    Tried {
        /// The addresses, each with its cause.
        causes: String,
        /// What came then.
        then: Box<Obstacle>,
    },

    /// What had to be done first, such as a sign-in, has failed.
    #[error(transparent)]
    Unprepared(Box<CallError>),
}

/// Why a request cannot be read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Unreadable {
    /// There is no such method.
    MethodUnknown,
    /// It is compressed.
    Compressed,
    /// It is larger than it may be.
    TooLarge,
    /// It is no message of the method's; in words.
    Malformed(String),
    /// Its caller has ended it in the middle, or its connection has ended.
    BrokenOff,
    /// The HTTP/2 layer has refused it, or its connection has ended before anything was known of it.
    RefusedByHttp2,
    /// It is no request of gRPC's and is answered with this HTTP status.
    NotGrpc(u16),
}

impl fmt::Display for Unreadable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::MethodUnknown => f.write_str("there is no such method"),
            Self::Compressed => f.write_str("it is compressed, and only identity is taken"),
            Self::TooLarge => {
                f.write_str("its message is larger than server.http2.max_message_size")
            }
            Self::Malformed(cause) => f.write_str(cause),
            Self::BrokenOff => f.write_str("it was broken off before its message was there whole"),
            Self::RefusedByHttp2 => f.write_str(
                "it has reached no method: HTTP/2 has refused it, since its headers are malformed or \
                 larger than server.http2.max_header_list_size, or since there were more than \
                 server.http2.max_concurrent_streams at once; or its connection ended too early",
            ),
            Self::NotGrpc(status) => {
                write!(f, "it is not gRPC, and is answered with HTTP {status}")
            }
        }
    }
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

/// What was being waited for before anything was sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Wait {
    /// The rest of the caller's request.
    Request,
    /// Other calls for this agent, or a place among the tenant's requests.
    Queue,
    /// The session store, for the agent's session and what belongs to it.
    Store,
    /// A connection to the gateway.
    Connection,
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

// === impl Obstacle ===

impl Obstacle {
    /// A request with one bad field.
    pub fn invalid(field: &'static str, description: String) -> Self {
        Self::Invalid(vec![FieldViolation { field, description }])
    }

    /// The obstacle itself, without what came before it.
    pub fn last(&self) -> &Self {
        match self {
            Self::Tried { then, .. } => then.last(),
            obstacle => obstacle,
        }
    }

    /// Whether the gateway rejected the password, or has locked the account.
    pub fn is_credentials_rejected(&self) -> bool {
        matches!(self, Self::Unprepared(error) if error.is_credentials_rejected())
    }

    /// Whether the gateway says that another client has signed the agent in.
    pub fn is_signed_in_elsewhere(&self) -> bool {
        matches!(self, Self::Unprepared(error) if error.is_signed_in_elsewhere())
    }
}

impl From<CallError> for Obstacle {
    fn from(error: CallError) -> Self {
        match error {
            CallError::NotSent(unsent) => unsent.into_obstacle(),
            error => Self::Unprepared(error.into()),
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

// === impl Wait ===

impl fmt::Display for Wait {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Request => "before the request was there whole",
            Self::Queue => "while the call waited for its turn",
            Self::Store => "while the session store was asked for the agent's session",
            Self::Connection => "before there was a connection to the gateway",
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
