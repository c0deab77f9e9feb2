//! Converts values of the gateway and of other modules into messages of the contract. Has no side
//! effects.

mod events;

use std::time::SystemTime;

use prost_types::{ListValue, Struct, Timestamp, Value, value::Kind};
use serde_json::Value as Json;
use tokio::time::Instant;

pub(super) use self::events::{batch, begin, progress};
use super::{check::Subject, proto};
use crate::{
    call::CallError,
    gateway::{AgentStatus, Envelope},
    retcode::ACCEPTED,
    session::{Origin, Session, SessionState},
    state::AgentState,
    tenant::{Answer, Confirmation, Did, Unconfirmed},
};

/// Deepest JSON value that can be sent. Each level takes three levels of protobuf, and readers stop
/// at 100.
const DEPTH_MAX: usize = 24;

/// Message, retcode and result of an accepted request.
pub(super) fn envelope(envelope: Envelope) -> (String, String, Option<Value>) {
    let Envelope { message, result, .. } = envelope;
    (message, ACCEPTED.to_owned(), result.as_deref().and_then(json))
}

/// The answer to an accepted change of state.
pub(super) fn changed(answer: Answer, confirmation: Option<Confirmation>) -> proto::StateChange {
    let confirmation = confirmation.map(self::confirmation);
    match answer {
        Answer::Envelope(accepted) => {
            let (message, retcode, result) = envelope(accepted);
            proto::StateChange { message, retcode, result, confirmation, ..<_>::default() }
        }
        Answer::Observed(state) => {
            let observed_state = activity(state).into();
            proto::StateChange { observed_state, confirmation, ..<_>::default() }
        }
    }
}

/// What a request with an id has done, as a change.
pub(super) fn done(did: Did) -> proto::StateChange {
    match did {
        Did::Changed(answer) => changed(answer, None),
        Did::SignedIn(envelope, ..) | Did::SignedOut(envelope) => {
            changed(Answer::Envelope(envelope), None)
        }
    }
}

fn confirmation(confirmation: Confirmation) -> proto::Confirmation {
    use proto::confirmation::{Reason, Status};
    let why = match confirmation {
        Confirmation::Confirmed { sequence, at } => {
            return proto::Confirmation {
                status: Status::Confirmed.into(),
                event_time: Some(Timestamp::from(at)),
                event_sequence: sequence,
                ..<_>::default()
            };
        }
        Confirmation::Accepted(why) => why,
    };
    let reason = match why {
        Unconfirmed::NotKept => Reason::NotKept,
        Unconfirmed::Talking => Reason::Talking,
        Unconfirmed::AfterCallWork => Reason::AfterCallWork,
        Unconfirmed::OtherState => Reason::OtherState,
        Unconfirmed::NoEvent => Reason::NoEvent,
        Unconfirmed::ShuttingDown => Reason::ShuttingDown,
    };
    let (status, reason) = (Status::Accepted.into(), reason.into());
    proto::Confirmation { status, reason, ..<_>::default() }
}

/// The answer with an agent's state.
pub(super) fn agent_status(status: AgentStatus) -> proto::GetStateResponse {
    let AgentStatus { state, code, in_call } = status;
    proto::GetStateResponse { state: activity(state).into(), code, in_call }
}

/// What an agent is doing.
pub(super) fn activity(state: AgentState) -> proto::ActivityState {
    use proto::ActivityState;
    match state {
        // No agent is known to be in state 1 (`SignedIn`).
        AgentState::Unknown | AgentState::SignedIn => ActivityState::Unspecified,
        AgentState::SignedOut => ActivityState::SignedOut,
        AgentState::Busy => ActivityState::Busy,
        AgentState::Idle => ActivityState::Idle,
        AgentState::AfterCallWork => ActivityState::AfterCallWork,
        AgentState::Talking => ActivityState::Talking,
        AgentState::Resting => ActivityState::Resting,
        AgentState::PreRest => ActivityState::PreRest,
    }
}

/// The result of the reset of skill queues after a sign-in.
pub(super) fn skill_reset(verdict: &Result<Envelope, CallError>) -> proto::SkillReset {
    match verdict {
        Ok(_) => proto::SkillReset { retcode: ACCEPTED.to_owned(), error: String::new() },
        Err(error) => {
            let retcode = error.last_refusal().map(|refusal| refusal.retcode.to_string());
            proto::SkillReset { retcode: retcode.unwrap_or_default(), error: error.to_string() }
        }
    }
}

/// JSON as a protobuf value. `None` if it cannot be sent: an accepted request must not fail because
/// of what the gateway adds to its answer.
fn json(text: &str) -> Option<Value> {
    // The usual result of an accepted request.
    if text == "{}" {
        return Some(Value { kind: Some(Kind::StructValue(Struct::default())) });
    }
    value(serde_json::from_str(text).ok()?, DEPTH_MAX + 1)
}

fn message(fields: serde_json::Map<String, Json>, depth: usize) -> Option<Struct> {
    let field = |(name, json)| Some((name, value(json, depth)?));
    Some(Struct { fields: fields.into_iter().map(field).collect::<Option<_>>()? })
}

fn value(json: Json, depth: usize) -> Option<Value> {
    let depth = depth.checked_sub(1)?;
    let kind = match json {
        Json::Null => Kind::NullValue(0),
        Json::Bool(value) => Kind::BoolValue(value),
        Json::Number(number) => Kind::NumberValue(number.as_f64()?),
        Json::String(text) => Kind::StringValue(text),
        Json::Object(fields) => Kind::StructValue(message(fields, depth)?),
        Json::Array(items) => {
            let values = items.into_iter().map(|item| value(item, depth)).collect::<Option<_>>()?;
            Kind::ListValue(ListValue { values })
        }
    };
    Some(Value { kind: Some(kind) })
}

/// The state's number in the contract.
pub(super) fn session_state(state: SessionState) -> i32 {
    let state = match state {
        SessionState::SigningIn => proto::SessionState::SigningIn,
        SessionState::Kept => proto::SessionState::Kept,
        SessionState::Unkept => proto::SessionState::Unkept,
        SessionState::Doubtful => proto::SessionState::Doubtful,
        SessionState::Recovering => proto::SessionState::Recovering,
        SessionState::SigningOut => proto::SessionState::SigningOut,
        SessionState::Lost => proto::SessionState::Lost,
        SessionState::Gone => proto::SessionState::Gone,
        SessionState::Registered => proto::SessionState::Registered,
    };
    state.into()
}

/// A session without its Guid.
pub(super) fn session(subject: &Subject<'_>, session: &Session) -> proto::Session {
    let origin = match session.origin {
        Origin::Registered => proto::session::Origin::Registered,
        Origin::SignedIn => proto::session::Origin::SignedIn,
    };
    let left = |expires_at: Instant| expires_at.saturating_duration_since(Instant::now());
    proto::Session {
        tenant_id: subject.tenant.id().to_string(),
        agent_id: subject.agent.to_string(),
        origin: origin.into(),
        guid_version: session.version,
        gateway_node: session.guid.node().unwrap_or_default().to_owned(),
        renew_time: Some(Timestamp::from(session.renewed_at)),
        expire_time: session.expires_at.map(|at| Timestamp::from(SystemTime::now() + left(at))),
        state: state_of(subject, session),
    }
}

fn state_of(subject: &Subject<'_>, session: &Session) -> i32 {
    match (subject.tenant.session_state(subject.agent), session.origin) {
        (Some(state), _) => session_state(state),
        (None, Origin::Registered) => session_state(SessionState::Registered),
        (None, Origin::SignedIn) if subject.tenant.is_kept_by_replicas() => {
            proto::SessionState::KeptElsewhere.into()
        }
        (None, Origin::SignedIn) => session_state(SessionState::Unkept),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use prost::Message as _;

    use super::*;

    #[test]
    fn results_are_kept_whatever_json_they_are() {
        let kind = |text: &str| json(text).and_then(|value| value.kind);
        assert_eq!(kind("{}"), Some(Kind::StructValue(Struct::default())));
        assert_eq!(kind("\"22-1\""), Some(Kind::StringValue("22-1".into())));
        assert_eq!(kind("7"), Some(Kind::NumberValue(7.0)));
        assert_eq!(kind("true"), Some(Kind::BoolValue(true)));
        assert_eq!(kind("null"), Some(Kind::NullValue(0)));
        let Some(Kind::ListValue(list)) = kind("[{},1]") else { panic!("a list") };
        assert_eq!(list.values.len(), 2);
        let sign_in = kind(r#"{"vdnid":1,"workno":"1001","x":{"y":[null,true]}}"#);
        let Some(Kind::StructValue(sign_in)) = sign_in else { panic!("an object") };
        assert_eq!(sign_in.fields["workno"].kind, Some(Kind::StringValue("1001".into())));
        assert_eq!(sign_in.fields["vdnid"].kind, Some(Kind::NumberValue(1.0)));
        assert!(matches!(sign_in.fields["x"].kind, Some(Kind::StructValue(_))));
        for left_out in ["{", "", "x", "1e999"] {
            assert_eq!(json(left_out), None, "{left_out}");
        }
    }

    #[test]
    fn values_too_deep_for_readers_are_left_out() {
        for (open, close) in [(r#"{"a":"#, "}"), ("[", "]")] {
            let nested = |depth| format!("{}1{}", open.repeat(depth), close.repeat(depth));
            let deepest = json(&nested(DEPTH_MAX)).expect("within the limit");
            assert!(Value::decode(&*deepest.encode_to_vec()).is_ok());
            assert_eq!(json(&nested(DEPTH_MAX + 1)), None);
            assert_eq!(json(&nested(5000)), None);
        }
    }

    proptest! {
        #[test]
        fn any_text_is_translated_or_left_out(text in "\\PC*") {
            let _translated = json(&text);
        }
    }
}
