//! How a change is recorded in a store, for other replicas.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::{Asked, Did, Made};
use crate::{
    call::{CallError, Refusal, Stage},
    event::SentBy,
    gateway::{Envelope, INTERFACES, Interface, short, shorten},
    id::{AGENT_IDS_ANY, AgentId},
    retcode::Retcode,
    state::AgentState,
    tenant::Answer,
};

/// A change, and what it came to.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Record {
    agent: String,
    interface: String,
    arguments: String,
    /// When it is over at the latest, in milliseconds since 1970.
    until: u64,
    /// `None` while it is under way.
    ended: Option<End>,
    /// The number of the tenant's newest event when the change was sent. Earlier versions do not write it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    after: Option<u64>,
}

/// What it came to.
#[derive(Debug, Serialize, Deserialize)]
enum End {
    Accepted {
        message: String,
        result: Option<Box<str>>,
    },
    /// The number of agentstatus for the state that shows that it was made.
    Made(i32),
    SignedIn {
        message: String,
        result: Option<Box<str>>,
    },
    SignedOut {
        message: String,
        result: Option<Box<str>>,
    },
    Refused {
        retcode: String,
        message: String,
        node: Option<Box<str>>,
        http_status: u16,
    },
    NoSuchInterface {
        interface: String,
        answer: Box<Self>,
    },
    Busy {
        status: u16,
        retry_after: Option<Duration>,
    },
    NoAnswer(String),
    TooLate,
    HttpStatus(u16),
    BadReply(String),
    Observed {
        state: i32,
        not_applied: bool,
        cause: Box<Self>,
    },
    BridgeFailed,
}

impl Record {
    /// For a change that is under way until this time at the latest.
    pub(super) fn under_way(asked: &Asked, until: u64) -> Self {
        Self {
            agent: asked.agent.to_string(),
            interface: asked.interface.log_name.to_owned(),
            arguments: asked.arguments.clone(),
            until,
            ended: None,
            after: None,
        }
    }

    /// For a change that has come to this. `None`: it cannot be recorded, and another attempt may act.
    pub(super) fn ended(asked: &Asked, ended: &Result<Made, CallError>) -> Option<Self> {
        // A replica that has just started has not read its tenants' events yet.
        let after = ended.as_ref().ok().and_then(|made| made.after).map(SentBy::newest);
        let after = after.filter(|newest| *newest > 0);
        let ended = Some(End::of(ended)?);
        Some(Self { ended, after, ..Self::under_way(asked, 0) })
    }

    pub(super) fn encode(&self) -> Vec<u8> {
        // Serializing these fields cannot fail.
        serde_json::to_vec(self).unwrap_or_default()
    }

    /// `None` for what no version of the bridge that is known here has written.
    pub(super) fn decode(plain: &[u8]) -> Option<Self> {
        serde_json::from_slice(plain).ok()
    }

    /// When the change is over at the latest, in milliseconds since 1970.
    pub(super) fn until(&self) -> u64 {
        self.until
    }

    /// What was asked for.
    pub(super) fn asked(&self) -> Option<Asked> {
        let agent = AgentId::parse(&self.agent, &AGENT_IDS_ANY).ok()?;
        let interface = interface(&self.interface)?;
        Some(Asked { agent, interface, arguments: self.arguments.clone() })
    }

    /// What it came to; `None` while it is under way.
    pub(super) fn end(&self) -> Option<Result<Made, CallError>> {
        let after = self.after.map(SentBy::Another);
        let told = self.ended.as_ref()?.told()?;
        Some(told.map(|did| Made { did, after }))
    }
}

impl End {
    fn of(ended: &Result<Made, CallError>) -> Option<Self> {
        let error = match ended {
            Ok(made) => return Some(Self::of_made(&made.did)),
            Err(error) => error,
        };
        Some(match error {
            CallError::NotSent(_) | CallError::AfterRefusal(..) => return None,
            CallError::Refused(Refusal { retcode, message, node, http_status }) => Self::Refused {
                retcode: retcode.to_string(),
                message: short(message).to_owned(),
                node: node.clone(),
                http_status: *http_status,
            },
            CallError::NoSuchInterface { interface, answer } => {
                let answer = Self::of(&Err((**answer).clone()))?.into();
                Self::NoSuchInterface { interface: (*interface).to_owned(), answer }
            }
            CallError::GatewayBusy { status, retry_after } => {
                Self::Busy { status: *status, retry_after: *retry_after }
            }
            CallError::NoAnswer(cause) => Self::NoAnswer(short(cause).to_owned()),
            CallError::Deadline(_) => Self::TooLate,
            CallError::HttpStatus { status } => Self::HttpStatus(*status),
            CallError::BadReply(cause) => Self::BadReply(short(cause).to_owned()),
            CallError::Observed { state, not_applied, cause } => {
                let cause = Self::of(&Err((**cause).clone()))?.into();
                Self::Observed { state: state.code(), not_applied: *not_applied, cause }
            }
            CallError::Internal => Self::BridgeFailed,
        })
    }

    fn of_made(did: &Did) -> Self {
        let mut envelope = match did {
            Did::Changed(Answer::Observed(state)) => return Self::Made(state.code()),
            Did::Changed(Answer::Envelope(envelope))
            | Did::SignedIn(envelope, ..)
            | Did::SignedOut(envelope) => envelope.clone(),
        };
        envelope.shorten();
        let Envelope { message, result, .. } = envelope;
        match did {
            Did::Changed(_) => Self::Accepted { message, result },
            Did::SignedIn(..) => Self::SignedIn { message, result },
            Did::SignedOut(_) => Self::SignedOut { message, result },
        }
    }

    fn told(&self) -> Option<Result<Did, CallError>> {
        let did = match self {
            Self::Accepted { message, result } => {
                Did::Changed(Answer::Envelope(envelope(message, result.as_deref())))
            }
            Self::Made(code) => Did::Changed(Answer::Observed(AgentState::from_code(*code))),
            Self::SignedIn { message, result } => {
                Did::SignedIn(envelope(message, result.as_deref()), None, None)
            }
            Self::SignedOut { message, result } => {
                Did::SignedOut(envelope(message, result.as_deref()))
            }
            failed => return failed.error().map(Err),
        };
        Some(Ok(did))
    }

    fn error(&self) -> Option<CallError> {
        Some(match self {
            Self::Accepted { .. }
            | Self::Made(_)
            | Self::SignedIn { .. }
            | Self::SignedOut { .. } => return None,
            Self::Refused { retcode, message, node, http_status } => CallError::Refused(Refusal {
                retcode: Retcode::refusal(retcode)?,
                message: message.clone(),
                node: node.clone(),
                http_status: *http_status,
            }),
            Self::NoSuchInterface { interface: name, answer } => CallError::NoSuchInterface {
                interface: interface(name)?.log_name,
                answer: answer.error()?.into(),
            },
            Self::Busy { status, retry_after } => {
                CallError::GatewayBusy { status: *status, retry_after: *retry_after }
            }
            Self::NoAnswer(cause) => CallError::NoAnswer(cause.clone()),
            Self::TooLate => CallError::Deadline(Stage::Answer),
            Self::HttpStatus(status) => CallError::HttpStatus { status: *status },
            Self::BadReply(cause) => CallError::BadReply(cause.clone()),
            Self::Observed { state, not_applied, cause } => CallError::Observed {
                state: AgentState::from_code(*state),
                not_applied: *not_applied,
                cause: cause.error()?.into(),
            },
            Self::BridgeFailed => CallError::Internal,
        })
    }
}

/// The same, without what is too long to be remembered for a while.
pub(super) fn bounded(mut ended: Result<Made, CallError>) -> Result<Made, CallError> {
    match &mut ended {
        Ok(Made { did: Did::SignedIn(envelope, _, Some(skills)), .. }) => {
            envelope.shorten();
            match skills {
                Ok(envelope) => envelope.shorten(),
                Err(error) => cut_error(error),
            }
        }
        Ok(Made { did, .. }) => match did {
            Did::Changed(Answer::Envelope(envelope))
            | Did::SignedIn(envelope, ..)
            | Did::SignedOut(envelope) => envelope.shorten(),
            Did::Changed(Answer::Observed(_)) => {}
        },
        Err(error) => cut_error(error),
    }
    ended
}

fn cut_error(error: &mut CallError) {
    match error {
        CallError::Refused(refusal) => shorten(&mut refusal.message),
        CallError::AfterRefusal(refusal, _) => shorten(&mut refusal.message),
        CallError::NoSuchInterface { answer: error, .. }
        | CallError::Observed { cause: error, .. } => cut_error(error),
        CallError::NoAnswer(text) | CallError::BadReply(text) => shorten(text),
        _ => {}
    }
}

fn envelope(message: &str, result: Option<&str>) -> Envelope {
    Envelope {
        refused: None,
        message: message.to_owned(),
        result: result.map(Into::into),
        event: None,
    }
}

fn interface(log_name: &str) -> Option<&'static Interface> {
    INTERFACES.into_iter().find(|interface| interface.log_name == log_name)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use tokio::time::Instant;

    use super::*;
    use crate::{
        call::{Obstacle, Untouched},
        event::Moment,
        gateway::{SHORT_MAX, say_busy},
        id::DEFAULT_AGENT_IDS,
        session::RECORD_MAX,
    };

    fn asked() -> Asked {
        let agent = AgentId::parse("1001", &DEFAULT_AGENT_IDS).expect("an id");
        Asked::new(agent, &say_busy(Some(201), None))
    }

    fn refusal() -> CallError {
        CallError::Refused(Refusal {
            retcode: Retcode::refusal("100-009").expect("a refusal"),
            message: "no".into(),
            node: Some("AgentGateway1".into()),
            http_status: 500,
        })
    }

    fn read_again(ended: &Result<Made, CallError>) -> Result<Made, CallError> {
        let record = Record::ended(&asked(), ended).expect("recorded").encode();
        let record = Record::decode(&record).expect("a record");
        assert!(record.asked().is_some_and(|found| found.is_same(&asked())));
        record.end().expect("ended")
    }

    #[test]
    fn every_outcome_is_read_as_it_was() {
        let no_answer = || CallError::NoAnswer("cut".into());
        for error in [
            refusal(),
            CallError::NoSuchInterface { interface: "sayBusy", answer: refusal().into() },
            CallError::GatewayBusy { status: 429, retry_after: Some(Duration::from_secs(3)) },
            no_answer(),
            CallError::Deadline(Stage::Answer),
            CallError::HttpStatus { status: 502 },
            CallError::BadReply("not JSON".into()),
            CallError::Observed {
                state: AgentState::Idle,
                not_applied: true,
                cause: no_answer().into(),
            },
            CallError::Internal,
        ] {
            let read = read_again(&Err(error.clone())).expect_err("an error");
            assert_eq!(format!("{read:?}"), format!("{error:?}"));
        }
        let envelope = Envelope {
            refused: None,
            message: "success".into(),
            result: Some("{}".into()),
            event: None,
        };
        for did in [
            Did::Changed(Answer::Envelope(envelope.clone())),
            Did::Changed(Answer::Observed(AgentState::Busy)),
            Did::SignedIn(envelope.clone(), None, None),
            Did::SignedOut(envelope),
        ] {
            let here = SentBy::This(Moment { newest: u64::MAX, at: Instant::now() });
            for (after, told) in [(None, None), (Some(here), Some(SentBy::Another(u64::MAX)))] {
                let read = read_again(&Ok(Made { did: did.clone(), after })).expect("made");
                assert_eq!(format!("{:?}", read.did), format!("{did:?}"));
                assert_eq!(read.after, told);
            }
        }
    }

    #[test]
    fn a_record_of_a_version_that_notes_no_position_is_read() {
        let plain = br#"{"agent":"1001","interface":"sayBusy","arguments":"","until":0,"ended":{"Made":5}}"#;
        let made =
            Record::decode(plain).and_then(|record| record.end()).expect("ended").expect("made");
        assert_eq!(made.after, None);
    }

    #[test]
    fn what_was_not_sent_is_not_recorded() {
        let unsent = Untouched::at_the_start().because(Obstacle::ShuttingDown);
        assert!(Record::ended(&asked(), &Err(unsent)).is_none());
    }

    #[test]
    fn long_texts_of_a_gateway_are_cut() {
        let long = "\u{e9}".repeat(SHORT_MAX);
        let error = Err(CallError::BadReply(long));
        assert!(
            Record::ended(&asked(), &error).expect("recorded").encode().len() < SHORT_MAX + 256
        );
    }

    #[test]
    fn a_record_is_short_enough_for_stores_whatever_the_gateway_says() {
        let envelope = Envelope {
            refused: None,
            message: "\u{1}".repeat(SHORT_MAX),
            result: Some(format!("\"{}\"", "\\".repeat(SHORT_MAX - 2)).into()),
            event: None,
        };
        let made = Made { did: Did::Changed(Answer::Envelope(envelope)), after: None };
        let record = Record::ended(&asked(), &Ok(made)).expect("recorded").encode();
        // When it is sealed, it is filled up to a power of two, and written in base64.
        let sealed = (record.len() + 64).next_power_of_two() / 3 * 4 + 256;
        assert!(sealed <= RECORD_MAX, "{} bytes are {sealed} when they are sealed", record.len());
    }

    proptest! {
        #[test]
        fn any_bytes_are_read_or_left(bytes in any::<Vec<u8>>()) {
            let _record = Record::decode(&bytes).map(|record| (record.asked(), record.end().is_some()));
        }
    }
}
