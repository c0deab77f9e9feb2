//! One call: how long its caller waits, and what can come of it.
//!
//! Knows neither gRPC nor HTTP. [`CallError`] is the whole list of ways in which a call can fail;
//! its variants differ in what is known about the agent. [`Obstacle`] is what may keep a request from
//! being sent, and only an [`Untouched`] makes a `CallError` of it: so nothing that may have been
//! written is called unsent.

mod cutoff;
mod deadline;
mod detached;
mod obstacle;
mod untouched;

use std::{fmt, time::Duration};

pub use self::{
    cutoff::Cutoff,
    deadline::{Caller, Deadline, Leaving},
    detached::{Abandoned, CallerWait, detached},
    obstacle::{FieldViolation, Obstacle, Share, StoreTrouble, Unreadable, Wait},
    untouched::{Unsent, Untouched},
};
use crate::retcode::{Kind, Retcode};

/// Why a call was not carried out, or not known to be.
#[derive(Clone, Debug, thiserror::Error)]
pub enum CallError {
    /// Nothing of the request was written. The agent is as it was.
    #[error(transparent)]
    NotSent(Unsent),

    /// The gateway answered no. The agent is as it was.
    #[error(transparent)]
    Refused(Refusal),

    /// The gateway refused the request, so that nothing was done; then this kept it from being sent
    /// again.
    #[error("the gateway refused a first attempt with retcode {}, and then: {}", .0.retcode, .1)]
    AfterRefusal(Box<Refusal>, Unsent),

    /// The request left and no whole answer came. The agent may have changed.
    #[error("the request was sent and no answer came: {0}")]
    NoAnswer(String),

    /// The caller's deadline passed when the gateway had been asked. The agent may have changed.
    #[error("the deadline passed {0}")]
    Deadline(Stage),

    /// The answer has an HTTP status other than 2xx and no envelope. Mostly somebody between the
    /// bridge and the gateway says so, who need not know what the gateway has done.
    #[error("the gateway, or something before it, answered with HTTP status {status}")]
    HttpStatus {
        /// The status.
        status: u16,
    },

    /// The answer has no envelope, and an HTTP status which says that the request was not carried
    /// out and may be later.
    #[error("the gateway, or something before it, is busy: HTTP status {status}")]
    GatewayBusy {
        /// The status.
        status: u16,
        /// What its `Retry-After` header asks for.
        retry_after: Option<Duration>,
    },

    /// The answer has a 2xx status and no readable envelope. The agent may have changed.
    #[error("the gateway's answer is not readable: {0}")]
    BadReply(String),

    /// A bug in the bridge. The agent may have changed.
    #[error("the bridge failed inside; its log says where")]
    Internal,
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

/// What was being waited for when something had been sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stage {
    /// The gateway's answer to the sign-in that had to come first.
    SignIn,
    /// The gateway's answer.
    Answer,
    /// The session store's, which no gateway has to do with.
    Store,
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
    /// Why a call ended that no gateway is ever asked for, or not yet.
    pub(crate) fn unasked(obstacle: Obstacle) -> Self {
        Untouched::at_the_start().because(obstacle)
    }

    /// What is known about the agent.
    pub fn outcome(&self) -> Outcome {
        match self {
            Self::NotSent(_) => Outcome::NotSent,
            // "No such interface" is as good as a refusal; other statuses leave it open.
            Self::Refused(_)
            | Self::AfterRefusal(..)
            | Self::GatewayBusy { .. }
            | Self::HttpStatus { status: 404 | 405 } => Outcome::Refused,
            Self::NoAnswer(_)
            | Self::Deadline(_)
            | Self::HttpStatus { .. }
            | Self::BadReply(_)
            | Self::Internal => Outcome::Unknown,
        }
    }

    /// What kept the request from being sent, or from being sent again.
    pub fn obstacle(&self) -> Option<&Obstacle> {
        match self {
            Self::NotSent(unsent) | Self::AfterRefusal(_, unsent) => Some(unsent.obstacle().last()),
            _ => None,
        }
    }

    /// Whether the gateway rejected the password, or has locked the account: in both cases another
    /// attempt with the same password makes it worse.
    pub fn is_credentials_rejected(&self) -> bool {
        let kind = self.refusal().map(|refusal| refusal.retcode.kind());
        matches!(kind, Some(Kind::CredentialsRejected | Kind::AccountLocked))
    }

    /// Whether the gateway says that another client has signed the agent in.
    pub fn is_signed_in_elsewhere(&self) -> bool {
        self.refusal().is_some_and(|r| r.retcode.kind().is_signed_in_elsewhere())
    }

    /// The gateway's refusal, if that is what the call has failed for.
    pub fn refusal(&self) -> Option<&Refusal> {
        match self {
            Self::Refused(refusal) => Some(refusal),
            _ => None,
        }
    }

    /// What the gateway refused last, also where something else then kept the request from being sent
    /// again.
    pub fn last_refusal(&self) -> Option<&Refusal> {
        match self {
            Self::AfterRefusal(refusal, _) => Some(refusal),
            error => error.refusal(),
        }
    }
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
            Self::SignIn => "while the gateway was signing the agent in",
            Self::Answer => "while waiting for the gateway's answer; the agent may have changed",
            Self::Store => "while the session was being stored; it may have been",
        })
    }
}

// === impl Outcome ===

impl Outcome {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::NotSent, Self::Refused, Self::Unknown];

    /// The outcome that is spelled like this.
    pub fn find(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|known| known.as_str() == name)
    }

    /// As error metadata and logs spell it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::NotSent => "not_sent",
            Self::Refused => "refused",
            Self::Unknown => "unknown",
        }
    }
}
