use std::{fmt, num::NonZeroUsize, time::Duration};

use super::{CallError, Unidentified};

/// Something that keeps a request from being sent, or from being sent again. It does not say by
/// itself what is known about the agent; [`Untouched`](super::Untouched) does.
#[derive(Clone, Debug, thiserror::Error)]
pub enum Obstacle {
    /// The request breaks a rule of the contract.
    #[error("the request has bad fields: {}", fields(.0))]
    Invalid(Vec<FieldViolation>),

    /// The request cannot be read.
    #[error("the request cannot be read: {0}")]
    Unreadable(Unreadable),

    /// Nobody knows who the caller is.
    #[error("the caller is not known: {0}")]
    CallerUnknown(Unidentified),

    /// The caller has no right to do this at the tenant, whether or not there is such a tenant.
    #[error("the caller may not do this at this tenant, or there is no such tenant")]
    CallerNotAllowed,

    /// No such tenant is configured.
    #[error("the tenant is not configured")]
    TenantUnknown,

    /// The request's id belongs to another request of this tenant.
    #[error("this request_id was sent lately with another request")]
    RequestIdReused,

    /// No change with this id is known.
    #[error("nothing was sent lately for a request with this request_id")]
    RequestIdUnknown,

    /// The edition of the tenant's gateway does not have the interface.
    #[error("the tenant's gateway is of edition {edition}, which has no {interface}")]
    InterfaceMissing {
        /// The interface's name in the gateway's own logs.
        interface: &'static str,
        /// The edition as the configuration spells it.
        edition: &'static str,
    },

    /// The agent has no session, and the bridge has no credentials to create one.
    #[error("the agent has no session; call AgentSession.SignIn or RegisterSession first")]
    SessionMissing,

    /// The bridge has no session of the agent that it could show.
    #[error("the bridge has no session of this agent; sign the agent in, or register its Guid")]
    SessionNotFound,

    /// A sign-in has no password, and none is configured.
    #[error("no password was given, and the tenant's credentials file has none for this agent")]
    CredentialsMissing,

    /// There is no connection to the gateway.
    #[error("the gateway could not be reached: {causes}")]
    Unreachable {
        /// The addresses, each with its cause.
        causes: String,
        /// The time until an address that is not asked now is probed; `None` if all were asked.
        retry_in: Option<Duration>,
    },

    /// The caller's deadline passed.
    #[error("the deadline passed {0}")]
    Deadline(Wait),

    /// A limit is used up.
    #[error("{share} is reached: {limit} {}", bound(*.share))]
    Overloaded {
        /// The limit.
        share: Share,
        /// Its size.
        limit: NonZeroUsize,
    },

    /// The agent has to be signed in, and its turn comes only after the caller's deadline. The
    /// agent keeps its place in the queue.
    #[error(
        "the agent waits in the queue of sign-ins; its turn comes in about {}",
        rounded(*.due_in)
    )]
    SignInsQueued {
        /// The estimated time until the agent's turn.
        due_in: Duration,
    },

    /// Another client has signed the agent in, and the bridge leaves it alone for a while.
    #[error(
        "the agent is signed in by another client, or by this bridge before its restart; a call \
         after {} makes the bridge try again",
        rounded(*.retry_in)
    )]
    TakenOver {
        /// The time after which a call makes the bridge try again.
        retry_in: Duration,
    },

    /// The gateway has a session of the bridge's own, whose Guid was lost with an answer.
    #[error(
        "an answer was lost that may have brought the agent's Guid: the agent is signed in, and nobody can \
         use the session; the gateway ends it about two minutes later; a call after {} makes the bridge \
         try again",
        rounded(*.retry_in)
    )]
    GuidLost {
        /// The time after which a call makes the bridge try again.
        retry_in: Duration,
    },

    /// Shortly before, the gateway accepted a sign-in of the agent without a Guid, and the bridge
    /// had to sign the agent out again. Another sign-in would end in the same way.
    #[error(
        "the gateway has accepted the agent's last sign-in without a usable Guid, and the bridge does \
         not try again for a while (keep.rejected_for)"
    )]
    SignInWithoutGuid,

    /// The bridge is shutting down.
    #[error("this replica is shutting down; another one will take the call")]
    ShuttingDown,

    /// The connection has got its GOAWAY. Its streams are over, and calls that come much later are
    /// refused.
    #[error("the connection has been asked to end")]
    ConnectionAged,

    /// A request is a stream, and nothing more of it has come for this long.
    #[error("nothing more of the stream of requests came for {}", rounded(*.0))]
    StreamIdle(Duration),

    /// The agent's session may be known to other replicas, and the store that they share cannot be
    /// asked.
    #[error(
        "the store that replicas share {0}, and this replica does not know the agent's session"
    )]
    StoreUnavailable(StoreTrouble),

    /// Another obstacle, after addresses of the gateway had been tried in vain.
    #[error("{then}; tried before: {causes}")]
    Tried {
        /// The addresses that were tried, each with its cause.
        causes: String,
        /// The obstacle that came then.
        then: Box<Obstacle>,
    },

    /// Something that had to come first, such as a sign-in, has failed.
    #[error(transparent)]
    Unprepared(Box<CallError>),
}

/// Why a request cannot be read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Unreadable {
    /// There is no such method.
    MethodUnknown,
    /// The request is compressed in this way, which the bridge cannot read.
    Compressed(String),
    /// The message is longer than allowed.
    TooLarge,
    /// The message cannot be decoded. Has the decoder's text.
    Malformed(String),
    /// The caller or its connection ended before the message was complete.
    BrokenOff,
    /// HTTP/2 refused the request, or its connection ended before anything was known of it. Has the
    /// cause, if HTTP/2 has told it.
    RefusedByHttp2(Option<String>),
    /// The request's content type is this one, and not that of gRPC. Empty if it has none.
    ContentType(String),
    /// The request has this HTTP method, and gRPC uses POST.
    HttpMethod(String),
    /// The connection speaks HTTP/1, and gRPC is HTTP/2.
    Http1,
}

impl From<Unreadable> for Obstacle {
    fn from(why: Unreadable) -> Self {
        Self::Unreadable(why)
    }
}

impl fmt::Display for Unreadable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::MethodUnknown => f.write_str("there is no such method"),
            Self::Compressed(encoding) => {
                write!(f, "it is compressed with {encoding:?}, and the bridge reads only gzip")
            }
            Self::TooLarge => f.write_str("its message is larger than server.limits.message_size"),
            Self::Malformed(cause) => f.write_str(cause),
            Self::BrokenOff => f.write_str("it ended before its message was complete"),
            Self::RefusedByHttp2(Some(cause)) => {
                write!(f, "it has reached no method: HTTP/2 has refused it for its headers ({cause})")
            }
            Self::RefusedByHttp2(None) => f.write_str(
                "it has reached no method: HTTP/2 has refused it, since its headers are malformed or \
                 larger than 16 KiB, or since there were more requests at once than the listener's \
                 http2.max_concurrent_streams; or its connection ended too early",
            ),
            Self::ContentType(given) if given.is_empty() => {
                f.write_str("it has no content-type, and that of gRPC is application/grpc")
            }
            Self::ContentType(given) => {
                write!(f, "its content-type is {given:?}, and that of gRPC is application/grpc")
            }
            Self::HttpMethod(method) => {
                write!(f, "its HTTP method is {method:?}, and that of gRPC is POST")
            }
            Self::Http1 => f.write_str("it is HTTP/1, and gRPC is HTTP/2"),
        }
    }
}

/// Why the store that replicas share cannot be asked about an agent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StoreTrouble {
    /// It does not answer.
    Silent,
    /// It answers, but refuses to be read.
    RefusesReads,
    /// It answers, but refuses to be written to, so other replicas cannot report what they know.
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
    /// The field's name in the proto.
    pub field: &'static str,
    /// What is wrong and what would be right. It has a limited length, and leaves out the value of
    /// a field that is secret.
    pub description: String,
}

/// What the call was waiting for before anything was sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Wait {
    /// The rest of the caller's request.
    Request,
    /// Other calls for this agent, or a place among the tenant's requests.
    Queue,
    /// The session store, for the agent's session and the data that belong to it.
    Store,
    /// A connection to the gateway.
    Connection,
    /// Events. No gateway is asked for those.
    Watching,
}

/// A limit of the bridge that calls share.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Share {
    /// All calls in the bridge. Each tenant has a part for itself.
    ServerCalls,
    /// Requests whose message is incomplete.
    ServerReading,
    /// Streams of the reflection service.
    ServerReflection,
    /// Requests that one connection brings in a second.
    ConnectionRequests,
    /// All calls of the tenant.
    TenantCalls,
    /// The calls of the tenant that one caller may have, while all others have few.
    CallerCalls,
    /// Requests that are open at the tenant's gateway.
    TenantRequests,
    /// Requests that are open at the gateway's host, over all tenants.
    HostRequests,
    /// Calls waiting for one agent.
    AgentQueue,
    /// The tenant's sessions.
    TenantSessions,
    /// Callers who watch the tenant's events.
    TenantWatches,
}

impl Share {
    /// Whether it is the part of one caller alone: whoever uses it up hurts nobody else.
    pub fn is_callers_own(self) -> bool {
        matches!(self, Self::ConnectionRequests | Self::CallerCalls | Self::AgentQueue)
    }
}

// === impl Obstacle ===

impl Obstacle {
    /// A request with one bad field.
    pub fn invalid(field: &'static str, description: String) -> Self {
        Self::Invalid(vec![FieldViolation { field, description }])
    }

    /// The obstacle itself, without addresses that were tried before.
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

/// Rounded up to whole seconds, and at least one.
fn rounded(time: Duration) -> humantime::FormattedDuration {
    let up = time + Duration::from_nanos(999_999_999);
    humantime::format_duration(Duration::from_secs(up.as_secs().max(1)))
}

/// What a limit counts, and the key that sets it.
fn bound(share: Share) -> String {
    match share.key() {
        Some(key) => format!("{} ({key})", share.unit()),
        None => share.unit().to_owned(),
    }
}

fn fields(violations: &[FieldViolation]) -> String {
    let names: Vec<_> = violations.iter().map(|violation| violation.field).collect();
    names.join(", ")
}

// === impl Wait ===

impl fmt::Display for Wait {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Request => "before the request was complete",
            Self::Queue => "while the call waited for its turn",
            Self::Store => "while the session store was asked for the agent's session",
            Self::Connection => "before there was a connection to the gateway",
            Self::Watching => "while the caller was watching events",
        })
    }
}

// === impl Share ===

impl Share {
    /// All limits.
    pub const ALL: [Self; 11] = [
        Self::ServerCalls,
        Self::ServerReading,
        Self::ServerReflection,
        Self::ConnectionRequests,
        Self::TenantCalls,
        Self::CallerCalls,
        Self::TenantRequests,
        Self::HostRequests,
        Self::AgentQueue,
        Self::TenantSessions,
        Self::TenantWatches,
    ];

    /// The spelling in metrics: the last part of the key, if there is one. A limit that is not the
    /// tenant's own starts with `server`, `connection` or `host`.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::ServerCalls => "server_calls",
            Self::ServerReading => "unfinished_requests",
            Self::ServerReflection => "reflection_streams",
            Self::ConnectionRequests => "connection_requests_per_second",
            Self::TenantCalls => "calls",
            Self::CallerCalls => "caller_calls",
            Self::TenantRequests => "requests",
            Self::HostRequests => "host_requests",
            Self::AgentQueue => "agent_queue",
            Self::TenantSessions => "sessions",
            Self::TenantWatches => "watches",
        }
    }

    /// The key that sets the limit. For limits of a tenant it is relative to the tenant's section.
    /// `None` if operators cannot set it.
    pub const fn key(self) -> Option<&'static str> {
        match self {
            Self::ServerCalls => Some("server.limits.calls"),
            Self::ConnectionRequests => Some("server.connections.requests_per_second"),
            Self::TenantCalls => Some("limits.calls"),
            Self::TenantRequests => Some("limits.requests"),
            Self::HostRequests => Some("gateway.host_requests"),
            Self::TenantSessions => Some("limits.sessions"),
            Self::TenantWatches => Some("events.watches"),
            Self::ServerReading | Self::ServerReflection | Self::CallerCalls | Self::AgentQueue => {
                None
            }
        }
    }

    /// What the limit counts.
    pub const fn unit(self) -> &'static str {
        match self {
            Self::ServerCalls | Self::TenantCalls => "calls at once",
            Self::CallerCalls => "calls at once of one caller",
            Self::ServerReading => "unfinished requests at once",
            Self::ServerReflection => "reflection streams at once",
            Self::ConnectionRequests => "requests a second",
            Self::TenantRequests | Self::HostRequests => "requests at once",
            Self::AgentQueue => "calls waiting for one agent",
            Self::TenantSessions => "sessions",
            Self::TenantWatches => "watches at once",
        }
    }
}

impl fmt::Display for Share {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::ServerCalls => "the tenant's part of the server's limit",
            Self::ServerReading | Self::ServerReflection => "the server's limit",
            Self::ConnectionRequests => "the connection's limit",
            Self::TenantCalls
            | Self::TenantRequests
            | Self::TenantSessions
            | Self::TenantWatches => "the tenant's limit",
            Self::CallerCalls => "the caller's part of the tenant's limit",
            Self::HostRequests => "the gateway host's limit",
            Self::AgentQueue => "the limit of the agent's queue",
        })
    }
}
