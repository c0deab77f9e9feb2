//! What the gateway and the core say, as messages of the contract. Pure.

mod events;

use std::time::SystemTime;

use prost_types::{ListValue, Struct, Timestamp, Value, value::Kind};
use serde_json::Value as Json;
use tokio::time::Instant;

pub(super) use self::events::{batch, begin};
use super::{check::Subject, proto};
use crate::{
    call::CallError,
    gateway::{AgentStatus, Envelope},
    session::{Origin, Session, SessionState},
    state::AgentState,
    tenant::{Confirmation, Unconfirmed},
};

/// Deeper objects cannot be sent: a level takes three of protobuf's, and readers stop at 100.
const DEPTH_MAX: usize = 24;

/// Message, retcode and result of an accepted request.
pub(super) fn envelope(envelope: Envelope) -> (String, String, Option<Struct>) {
    let Envelope { message, retcode, result, .. } = envelope;
    (message, retcode.into(), result.as_deref().and_then(object))
}

/// What a change of state is answered with.
pub(super) struct Changed {
    pub(super) message: String,
    pub(super) retcode: String,
    pub(super) result: Option<Struct>,
    pub(super) confirmation: Option<proto::Confirmation>,
}

/// The answer to an accepted change of state.
pub(super) fn changed(accepted: Envelope, confirmation: Option<Confirmation>) -> Changed {
    let (message, retcode, result) = envelope(accepted);
    Changed { message, retcode, result, confirmation: confirmation.map(self::confirmation) }
}

fn confirmation(confirmation: Confirmation) -> proto::Confirmation {
    use proto::confirmation::{Obstacle, Status};
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
    let obstacle = match why {
        Unconfirmed::NotKept => Obstacle::NotKept,
        Unconfirmed::Talking => Obstacle::Talking,
        Unconfirmed::AfterCallWork => Obstacle::AfterCallWork,
        Unconfirmed::OtherState => Obstacle::OtherState,
        Unconfirmed::NoEvent => Obstacle::NoEvent,
        Unconfirmed::ShuttingDown => Obstacle::ShuttingDown,
    };
    let (status, obstacle) = (Status::Accepted.into(), obstacle.into());
    proto::Confirmation { status, obstacle, ..<_>::default() }
}

/// What an agent is doing.
pub(super) fn agent_status(status: AgentStatus) -> proto::GetStateResponse {
    use proto::get_state_response::State;
    let state = match status.state {
        AgentState::Unknown => State::Unspecified,
        AgentState::SignedIn => State::SignedIn,
        AgentState::SignedOut => State::SignedOut,
        AgentState::Busy => State::Busy,
        AgentState::Idle => State::Idle,
        AgentState::AfterCallWork => State::AfterCallWork,
        AgentState::Talking => State::Talking,
        AgentState::Resting => State::Resting,
        AgentState::PreRest => State::PreRest,
    };
    let AgentStatus { code, is_working, .. } = status;
    proto::GetStateResponse { state: state.into(), code, is_working }
}

/// What became of the reset of skill queues after a sign-in.
pub(super) fn skill_reset(verdict: &Result<Envelope, CallError>) -> proto::SkillReset {
    match verdict {
        Ok(envelope) => {
            proto::SkillReset { retcode: envelope.retcode.to_string(), error: String::new() }
        }
        Err(error) => {
            let retcode = error.last_refusal().map(|refusal| refusal.retcode.to_string());
            proto::SkillReset { retcode: retcode.unwrap_or_default(), error: error.to_string() }
        }
    }
}

/// A JSON object as a message; `None` for anything else. What the gateway adds to an accepted
/// request must not make it fail, so an object that cannot be sent is left out.
fn object(json: &str) -> Option<Struct> {
    if json == "{}" {
        return Some(Struct::default());
    }
    match serde_json::from_str(json).ok()? {
        Json::Object(fields) => message(fields, DEPTH_MAX),
        _ => None,
    }
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

/// As the contract numbers it.
pub(super) fn session_state(state: SessionState) -> i32 {
    let state = match state {
        SessionState::SigningIn => proto::SessionState::SigningIn,
        SessionState::Kept => proto::SessionState::Kept,
        SessionState::Unpolled => proto::SessionState::Unpolled,
        SessionState::Doubtful => proto::SessionState::Doubtful,
        SessionState::Recovering => proto::SessionState::Recovering,
        SessionState::SigningOut => proto::SessionState::SigningOut,
        SessionState::Lost => proto::SessionState::Lost,
        SessionState::Gone => proto::SessionState::Gone,
    };
    state.into()
}

/// A session without its Guid.
pub(super) fn session(subject: &Subject, session: &Session) -> proto::Session {
    let origin = match session.origin {
        Origin::Registered => proto::session::Origin::Registered,
        Origin::SignedIn => proto::session::Origin::SignedIn,
    };
    let left = |expires_at: Instant| expires_at.saturating_duration_since(Instant::now());
    proto::Session {
        tenant_id: subject.tenant.id().to_string(),
        agent_id: subject.agent.to_string(),
        origin: origin.into(),
        version: session.version,
        gateway_node: session.guid.node().unwrap_or_default().to_owned(),
        renew_time: Some(Timestamp::from(session.renewed_at)),
        expire_time: session.expires_at.map(|at| Timestamp::from(SystemTime::now() + left(at))),
        state: subject.tenant.session_state(subject.agent).map(session_state).unwrap_or_default(),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use prost::Message as _;

    use super::*;

    #[test]
    fn results_that_are_objects_are_kept_and_others_left_out() {
        assert_eq!(object("{}"), Some(Struct::default()));
        for left_out in ["\"\"", "[]", "[{}]", "7", "true", "{", ""] {
            assert_eq!(object(left_out), None, "{left_out}");
        }
        let sign_in = object(r#"{"vdnid":1,"workno":"1001","x":{"y":[null,true]}}"#).unwrap();
        assert_eq!(sign_in.fields["workno"].kind, Some(Kind::StringValue("1001".into())));
        assert_eq!(sign_in.fields["vdnid"].kind, Some(Kind::NumberValue(1.0)));
        assert!(matches!(sign_in.fields["x"].kind, Some(Kind::StructValue(_))));
    }

    #[test]
    fn objects_too_deep_for_readers_are_left_out() {
        let nested = |depth: usize| format!("{}{}", r#"{"a":"#.repeat(depth), "}".repeat(depth));
        let nested = |depth| nested(depth).replace(":}", ":1}");
        let deepest = object(&nested(DEPTH_MAX)).expect("within the limit");
        assert!(Struct::decode(&*deepest.encode_to_vec()).is_ok());
        assert_eq!(object(&nested(DEPTH_MAX + 1)), None);
        assert_eq!(object(&nested(5000)), None);
    }

    proptest! {
        #[test]
        fn any_text_is_translated_or_left_out(text in "\\PC*") {
            let _translated = object(&text);
        }
    }
}
