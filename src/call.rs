//! What can come of one call, and how long its caller waits.
//!
//! This module knows neither gRPC nor HTTP. [`CallError`] lists all ways in which a call can fail.
//! Its variants differ in what is known about the agent. An [`Obstacle`] keeps a request from being
//! sent. Only an [`Untouched`] can turn an obstacle into a `CallError`. Therefore a request of
//! which something may have been written is never reported as unsent.

mod cutoff;
mod deadline;
mod detached;
#[doc(hidden)]
pub mod fuzzing;
mod obstacle;
mod tasks;
mod unidentified;
mod untouched;

use std::{fmt, time::Duration};

pub use self::{
    cutoff::Cutoff,
    deadline::{ConnectionEnding, Deadline},
    detached::{Abandoned, CallerWait, detached},
    obstacle::{FieldViolation, Obstacle, Share, StoreTrouble, Unreadable, Wait},
    tasks::Tasks,
    unidentified::Unidentified,
    untouched::{Unsent, Untouched},
};
use crate::{
    retcode::{Kind, Retcode},
    state::AgentState,
};

/// Why a call was not carried out, or why it is not known whether it was.
#[derive(Clone, Debug, thiserror::Error)]
pub enum CallError {
    /// Nothing of the request was written. The agent is unchanged.
    #[error(transparent)]
    NotSent(Unsent),

    /// The gateway refused. The agent is unchanged.
    #[error(transparent)]
    Refused(Refusal),

    /// The gateway refused the request, so nothing was done. Then an obstacle kept the bridge from
    /// sending it again.
    #[error("the gateway refused a first attempt with retcode {}, and then: {}", .0.retcode, .1)]
    AfterRefusal(Box<Refusal>, Unsent),

    /// The request was sent and no complete answer came. The agent may have changed.
    #[error("the request was sent and no answer came: {0}")]
    NoAnswer(String),

    /// The caller's deadline passed after the gateway had been asked. The agent may have changed.
    #[error("the deadline passed {0}")]
    Deadline(Stage),

    /// The answer has an HTTP status other than 2xx and no envelope. Usually something between the
    /// bridge and the gateway sent it, and does not know what the gateway has done.
    #[error("the gateway, or something in front of it, answered with HTTP status {status}")]
    HttpStatus {
        /// The HTTP status.
        status: u16,
    },

    /// The gateway's answer says that it has no such interface, so it did nothing.
    #[error("this gateway has no such interface, {interface}: {answer}")]
    NoSuchInterface {
        /// The interface's name in the gateway's own logs.
        interface: &'static str,
        /// What the answer would mean otherwise: a refusal, or an HTTP status.
        answer: Box<Self>,
    },

    /// The answer has no envelope, and an HTTP status that says that the request was not carried
    /// out and may be tried again later.
    #[error("the gateway, or something in front of it, is busy: HTTP status {status}")]
    GatewayBusy {
        /// The HTTP status.
        status: u16,
        /// The value of its `Retry-After` header.
        retry_after: Option<Duration>,
    },

    /// The answer has a 2xx status and no readable envelope. The agent may have changed.
    #[error("the gateway's answer is not readable: {0}")]
    BadReply(String),

    /// What the gateway did was unknown. It was then asked what the agent is doing.
    #[error("{cause}; asked afterwards, the gateway says that the agent is {state}{}", shows(*.not_applied))]
    Observed {
        /// What the agent is doing.
        state: AgentState,
        /// Whether that shows that the change was not made. If not, it shows nothing.
        not_applied: bool,
        /// Why the outcome was unknown.
        cause: Box<Self>,
    },

    /// A bug in the bridge. The agent may have changed.
    #[error("the bridge has failed internally; its log says where")]
    Internal,
}

/// A refusal by the gateway: an answer whose retcode is not "0".
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refusal {
    /// The retcode.
    pub retcode: Retcode,
    /// The gateway's own text, unchanged. May be empty.
    pub message: String,
    /// The node that owns the session that was used.
    pub node: Option<Box<str>>,
    /// The answer's HTTP status, which is usually 200.
    pub http_status: u16,
}

/// What the call was waiting for after something had been sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stage {
    /// The gateway's answer to a sign-in that had to come first.
    SignIn,
    /// The gateway's answer.
    Answer,
    /// The gateway's answer to the question what the agent is doing, after an answer was lost.
    ReadBack,
    /// The session store. No gateway takes part in this.
    Store,
}

/// What is known about the agent after a call that failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// The gateway was not asked.
    NotSent,
    /// The gateway refused, so it did nothing.
    Refused,
    /// The gateway was asked and its answer was lost. What the agent is doing now shows that the change was not
    /// made.
    NotApplied,
    /// The gateway was asked, or may have been, and it is not known what it did.
    Unknown,
}

/// What a state that was asked for afterwards says about the change.
fn shows(not_applied: bool) -> &'static str {
    if not_applied {
        ", so the change was not made"
    } else {
        ", which does not show whether the change was made"
    }
}

// === impl CallError ===

impl CallError {
    /// The error of a call that ended before any gateway was asked.
    pub(crate) fn unasked(obstacle: Obstacle) -> Self {
        Untouched::at_the_start().because(obstacle)
    }

    /// What is known about the agent.
    pub fn outcome(&self) -> Outcome {
        match self {
            Self::NotSent(_) => Outcome::NotSent,
            // "No such interface" counts as a refusal. Other statuses leave open what was done.
            Self::Refused(_)
            | Self::NoSuchInterface { .. }
            | Self::AfterRefusal(..)
            | Self::GatewayBusy { .. }
            | Self::HttpStatus { status: 404 | 405 } => Outcome::Refused,
            Self::Observed { not_applied: true, .. } => Outcome::NotApplied,
            Self::NoAnswer(_)
            | Self::Deadline(_)
            | Self::HttpStatus { .. }
            | Self::BadReply(_)
            | Self::Observed { .. }
            | Self::Internal => Outcome::Unknown,
        }
    }

    /// The obstacle that kept the request from being sent, or from being sent again.
    pub fn obstacle(&self) -> Option<&Obstacle> {
        match self {
            Self::NotSent(unsent) | Self::AfterRefusal(_, unsent) => Some(unsent.obstacle().last()),
            _ => None,
        }
    }

    /// Whether the call was refused for who its caller is.
    pub fn is_about_the_caller(&self) -> bool {
        matches!(self.obstacle(), Some(Obstacle::CallerUnknown(_) | Obstacle::CallerNotAllowed))
    }

    /// Whether the gateway rejected the password or the account is locked. In both cases another
    /// attempt with the same password would make it worse.
    pub fn is_credentials_rejected(&self) -> bool {
        let kind = self.refusal().map(|refusal| refusal.retcode.kind());
        matches!(kind, Some(Kind::CredentialsRejected | Kind::AccountLocked))
    }

    /// Whether the gateway says that another client has signed the agent in.
    pub fn is_signed_in_elsewhere(&self) -> bool {
        self.refusal().is_some_and(|r| r.retcode.kind().is_signed_in_elsewhere())
    }

    /// The gateway's refusal, if the call failed because of it.
    pub fn refusal(&self) -> Option<&Refusal> {
        match self {
            Self::Refused(refusal) => Some(refusal),
            Self::NoSuchInterface { answer, .. } => answer.refusal(),
            _ => None,
        }
    }

    /// The HTTP status of the gateway's answer, if the call failed because of it.
    pub fn http_status(&self) -> Option<u16> {
        match self {
            Self::HttpStatus { status } | Self::GatewayBusy { status, .. } => Some(*status),
            Self::NoSuchInterface { answer: error, .. } | Self::Observed { cause: error, .. } => {
                error.http_status()
            }
            Self::Refused(refusal) => Some(refusal.http_status).filter(|status| *status != 200),
            _ => None,
        }
    }

    /// What the agent was doing when the gateway was asked after an outcome that was unknown.
    pub fn observed(&self) -> Option<AgentState> {
        match self {
            Self::Observed { state, .. } => Some(*state),
            _ => None,
        }
    }

    /// The gateway's last refusal. There may be one even if an obstacle then kept the request from
    /// being sent again.
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
            Self::Answer | Self::ReadBack => {
                "while waiting for the gateway's answer; the agent may have changed"
            }
            Self::Store => "while the session was being stored; it may have been",
        })
    }
}

// === impl Outcome ===

impl Outcome {
    /// All of them.
    pub const ALL: [Self; 4] = [Self::NotSent, Self::Refused, Self::NotApplied, Self::Unknown];

    /// The outcome with this spelling.
    pub fn find(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|known| known.as_str() == name)
    }

    /// The spelling in error metadata and logs.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::NotSent => "not_sent",
            Self::Refused => "refused",
            Self::NotApplied => "not_applied",
            Self::Unknown => "unknown",
        }
    }
}

#[cfg(test)]
mod tests;
