//! How a change is recorded in a store, for other replicas.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::{Asked, Made};
use crate::{
    call::{CallError, Refusal, Stage},
    gateway::{Envelope, INTERFACES, Interface},
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

/// The longest text of a gateway that is recorded, in bytes. What is longer is left out.
const TEXT_MAX: usize = 2 * 1024;

impl Record {
    /// For a change that is under way until this time at the latest.
    pub(super) fn under_way(asked: &Asked, until: u64) -> Self {
        Self {
            agent: asked.agent.to_string(),
            interface: asked.interface.log_name.to_owned(),
            arguments: asked.arguments.clone(),
            until,
            ended: None,
        }
    }

    /// For a change that has come to this. `None`: it cannot be recorded, and another attempt may act.
    pub(super) fn ended(asked: &Asked, ended: &Result<Made, CallError>) -> Option<Self> {
        let ended = Some(End::of(ended)?);
        Some(Self { ended, ..Self::under_way(asked, 0) })
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
        self.ended.as_ref()?.told()
    }
}

impl End {
    fn of(ended: &Result<Made, CallError>) -> Option<Self> {
        let error = match ended {
            Ok(Made { answer: Answer::Observed(state), .. }) => {
                return Some(Self::Made(state.code()));
            }
            Ok(Made { answer: Answer::Envelope(envelope), .. }) => {
                let result = envelope.result.clone().filter(|result| result.len() <= TEXT_MAX);
                return Some(Self::Accepted { message: short(&envelope.message), result });
            }
            Err(error) => error,
        };
        Some(match error {
            CallError::NotSent(_) | CallError::AfterRefusal(..) => return None,
            CallError::Refused(Refusal { retcode, message, node, http_status }) => Self::Refused {
                retcode: retcode.to_string(),
                message: short(message),
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
            CallError::NoAnswer(cause) => Self::NoAnswer(short(cause)),
            CallError::Deadline(_) => Self::TooLate,
            CallError::HttpStatus { status } => Self::HttpStatus(*status),
            CallError::BadReply(cause) => Self::BadReply(short(cause)),
            CallError::Observed { state, not_applied, cause } => {
                let cause = Self::of(&Err((**cause).clone()))?.into();
                Self::Observed { state: state.code(), not_applied: *not_applied, cause }
            }
            CallError::Internal => Self::BridgeFailed,
        })
    }

    fn told(&self) -> Option<Result<Made, CallError>> {
        let answer = match self {
            Self::Accepted { message, result } => Answer::Envelope(Envelope {
                refused: None,
                message: message.clone(),
                result: result.clone(),
                event: None,
            }),
            Self::Made(code) => Answer::Observed(AgentState::from_code(*code)),
            failed => return failed.error().map(Err),
        };
        Some(Ok(Made { answer, after: None }))
    }

    fn error(&self) -> Option<CallError> {
        Some(match self {
            Self::Accepted { .. } | Self::Made(_) => return None,
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

fn interface(log_name: &str) -> Option<&'static Interface> {
    INTERFACES.into_iter().find(|interface| interface.log_name == log_name)
}

/// As much of a text as is recorded.
fn short(text: &str) -> String {
    let end = (0..=TEXT_MAX.min(text.len())).rfind(|end| text.is_char_boundary(*end));
    text[..end.unwrap_or_default()].to_owned()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::{
        call::{Obstacle, Untouched},
        gateway::say_busy,
        id::DEFAULT_AGENT_IDS,
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
        for answer in [Answer::Envelope(envelope), Answer::Observed(AgentState::Busy)] {
            let read = read_again(&Ok(Made { answer: answer.clone(), after: None })).expect("made");
            assert_eq!(format!("{:?}", read.answer), format!("{answer:?}"));
        }
    }

    #[test]
    fn what_was_not_sent_is_not_recorded() {
        let unsent = Untouched::at_the_start().because(Obstacle::ShuttingDown);
        assert!(Record::ended(&asked(), &Err(unsent)).is_none());
    }

    #[test]
    fn long_texts_of_a_gateway_are_cut() {
        let long = "\u{e9}".repeat(TEXT_MAX);
        let error = Err(CallError::BadReply(long));
        assert!(Record::ended(&asked(), &error).expect("recorded").encode().len() < TEXT_MAX + 256);
    }

    proptest! {
        #[test]
        fn any_bytes_are_read_or_left(bytes in any::<Vec<u8>>()) {
            let _record = Record::decode(&bytes).map(|record| (record.asked(), record.end().is_some()));
        }
    }
}
