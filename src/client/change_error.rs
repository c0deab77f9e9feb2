//! Why a change of an agent's state has failed, by what is known about the agent.

use std::{error::Error, fmt, iter::successors, time::Duration};

use hyper_util::client::legacy;
use prost::Message as _;
use tonic::{Code, Status};
use tonic_types::pb;

use super::Told;
use crate::{call::Outcome, reason, rpc::code_name};

/// When the next attempt is made where there was no connection.
const CONNECT_AGAIN: Duration = Duration::from_millis(250);

/// Why a change of an agent's state has failed, by what is known about the agent.
///
/// [`ChangeError::next_step`] says what its caller may do next. There will be no further variants: whatever this version does
/// not know, such as an outcome of a newer bridge or an error of a proxy, is [`ChangeError::Unknown`].
#[derive(Clone, Debug)]
pub enum ChangeError {
    /// The gateway was not asked: this request has left the agent as it was. It says nothing about an earlier request with
    /// the same `request_id`, so keep the id if that has ended as [`ChangeError::Unknown`].
    NotSent(Failed),
    /// The gateway refused: the agent is as it was.
    Refused(Failed),
    /// The request was lost, and the agent's state shows that the change was not made.
    NotApplied(Failed),
    /// The agent may have changed.
    Unknown(Failed),
}

/// A call that failed.
#[derive(Clone, Debug)]
pub struct Failed {
    status: Status,
    told: Option<Box<Told>>,
}

/// What may be done after a change that failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum NextStep {
    /// Send the request again after this time: it cannot act twice, and may succeed. It may keep its `request_id`. Where the
    /// operator has given a refusal a pause of his own (`[retcodes]`), the bridge may tell the same refusal again for the
    /// same id; after [`ChangeError::Refused`] a new id always makes a new attempt.
    SendAgain(Duration),
    /// Send the request again with more time: it cannot act twice.
    GiveMoreTime,
    /// Something has to be done first; [`ChangeError::advice`] says what. The same request cannot act twice, but
    /// fails again until then.
    ActFirst,
    /// Nobody has said what became of the request. If it had a `request_id`, send it again with the same one: the change is
    /// made once, and the answer is that of the first request. If it had none, this is [`NextStep::Look`].
    LearnOutcome,
    /// The bridge itself does not know what became of the request. Ask `GetState`, and make the change again, with a new
    /// `request_id`, only if the agent is not as it should be.
    Look,
}

impl ChangeError {
    /// The status, and what the bridge has told in it.
    pub fn failed(&self) -> &Failed {
        match self {
            Self::NotSent(failed)
            | Self::Refused(failed)
            | Self::NotApplied(failed)
            | Self::Unknown(failed) => failed,
        }
    }

    /// What the bridge has told; `None` if the error is not one of the bridge's.
    pub fn told(&self) -> Option<&Told> {
        self.failed().told.as_deref()
    }

    /// What is known about the agent, as the bridge spells it.
    pub fn outcome(&self) -> Outcome {
        match self {
            Self::NotSent(_) => Outcome::NotSent,
            Self::Refused(_) => Outcome::Refused,
            Self::NotApplied(_) => Outcome::NotApplied,
            Self::Unknown(_) => Outcome::Unknown,
        }
    }

    /// What its caller may do next.
    pub fn next_step(&self) -> NextStep {
        match (self, self.told()) {
            (Self::Unknown(_), None) => NextStep::LearnOutcome,
            (Self::Unknown(_), Some(_)) => NextStep::Look,
            (_, None) => NextStep::SendAgain(CONNECT_AGAIN),
            (_, Some(told)) => match told.retry_delay {
                Some(delay) => NextStep::SendAgain(delay),
                None if told.reason == reason::DEADLINE.name => NextStep::GiveMoreTime,
                None => NextStep::ActFirst,
            },
        }
    }

    /// What the bridge advises for this reason; empty for a reason that this version does not know.
    pub fn advice(&self) -> &'static str {
        self.told().and_then(Told::listed_reason).map_or("", |reason| reason.advice)
    }
}

impl Failed {
    /// The status.
    pub fn status(&self) -> &Status {
        &self.status
    }

    /// The status' code. Where there was no connection it is [`Code::Unavailable`], as gRPC's own libraries have it.
    pub fn code(&self) -> Code {
        if is_unconnected(&self.status) { Code::Unavailable } else { self.status.code() }
    }

    /// The name of [`Failed::code`] in `google.rpc.Code`, such as `UNAVAILABLE`.
    pub fn code_name(&self) -> &'static str {
        code_name(self.code())
    }
}

impl From<Status> for ChangeError {
    fn from(status: Status) -> Self {
        let told = Told::of(&status).map(Box::new);
        let outcome = match &told {
            Some(told) => told.outcome(),
            None if is_unconnected(&status) => Outcome::NotSent,
            None => Outcome::Unknown,
        };
        let failed = Failed { status, told };
        match outcome {
            Outcome::NotSent => Self::NotSent(failed),
            Outcome::Refused => Self::Refused(failed),
            Outcome::NotApplied => Self::NotApplied(failed),
            Outcome::Unknown => Self::Unknown(failed),
        }
    }
}

/// From the error of one agent of a batch, or from that of `GetStateChange`.
impl From<&pb::Status> for ChangeError {
    fn from(error: &pb::Status) -> Self {
        let details = error.encode_to_vec().into();
        Status::with_details(Code::from(error.code), &*error.message, details).into()
    }
}

impl fmt::Display for ChangeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let failed = self.failed();
        write!(f, "{}, {}: ", self.outcome().as_str(), failed.code_name())?;
        if let Some(told) = self.told() {
            write!(f, "{}: ", told.reason)?;
        }
        f.write_str(failed.status.message())
    }
}

impl Error for ChangeError {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        self.failed().status.source()
    }
}

/// Whether there was no connection, so that no bridge has seen the request.
fn is_unconnected(status: &Status) -> bool {
    let mut causes = successors(status.source(), |&cause| cause.source());
    causes.any(|cause| {
        let error = cause.downcast_ref::<legacy::Error>();
        error.is_some_and(legacy::Error::is_connect)
    })
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use tonic_types::{ErrorDetails, StatusExt as _};

    use super::*;
    use crate::{
        client::{agent_state, channel},
        rpc::{ERROR_DOMAIN, proto::SetBusyRequest},
    };

    /// An error with this word for its outcome, of this domain.
    fn told_by(domain: &str, outcome: &str) -> ChangeError {
        let metadata = HashMap::from([("outcome".to_owned(), outcome.to_owned())]);
        let details = ErrorDetails::with_error_info("GATEWAY_UNREACHABLE", domain, metadata);
        Status::with_error_details(Code::Unavailable, "no route", details).into()
    }

    #[test]
    fn what_nobody_vouches_for_is_unknown() {
        let bare = ChangeError::from(Status::unavailable("reset"));
        assert_eq!(bare.to_string(), "unknown, UNAVAILABLE: reset");
        for error in [bare, told_by("proxy.example", "not_sent")] {
            assert!(matches!(error, ChangeError::Unknown(_)), "{error}");
            assert_eq!((error.told(), error.next_step()), (None, NextStep::LearnOutcome));
        }
        let newer = told_by(ERROR_DOMAIN, "postponed");
        assert!(matches!(newer, ChangeError::Unknown(_)), "{newer}");
        assert_eq!(newer.next_step(), NextStep::Look);
    }

    #[test]
    fn the_bridges_word_counts() {
        let error = told_by(ERROR_DOMAIN, "not_sent");
        assert_eq!(error.to_string(), "not_sent, UNAVAILABLE: GATEWAY_UNREACHABLE: no route");
        assert_eq!(error.advice(), reason::GATEWAY_UNREACHABLE.advice);
    }

    #[tokio::test]
    async fn without_a_connection_nothing_was_sent() {
        // Nobody can listen there.
        let origin = http::Uri::from_static("http://127.0.0.1:0");
        let mut states = agent_state(channel(), origin);
        let refused = states.set_busy(SetBusyRequest::default()).await.expect_err("no connection");
        let error = ChangeError::from(refused);
        assert!(matches!(error, ChangeError::NotSent(_)), "{error:?}");
        assert_eq!(error.failed().code(), Code::Unavailable);
        assert_eq!(error.next_step(), NextStep::SendAgain(CONNECT_AGAIN));
        assert!(error.source().is_some());
    }
}
