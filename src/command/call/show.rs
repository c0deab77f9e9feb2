//! Prints answers as text and as JSON.

use std::{fmt, time::SystemTime};

use prost_types::{Timestamp, value::Kind};
use serde_json::{Map, Number, Value, json};

use super::{ending::Ending, failure};
use crate::{
    command::text::write_fields,
    rpc::proto::{
        self, ActivityState, CancelAfterCallWorkResponse, CancelBusyResponse,
        CancelRestingResponse, Confirmation, GetSessionResponse, GetStateChangeResponse,
        GetStateResponse, RegisterSessionResponse, Session, SessionState, SetAfterCallWorkResponse,
        SetBusyResponse, SetIdleResponse, SetRestingResponse, SignInResponse, SignOutResponse,
        StateChange, WatchEventsResponse,
        confirmation::{self, Status},
        get_state_change_response::What as Became,
        session::Origin,
        watch_events_response::What,
    },
};

/// An answer, ready to be printed.
pub(super) struct Shown {
    /// The answer in one line.
    pub(super) headline: String,
    /// The result for each agent, if the answer is about several.
    pub(super) parts: Vec<String>,
    /// All fields, by their names in the proto files.
    pub(super) fields: Value,
    /// How the call has ended for a user who wanted a confirmation; others apply
    /// [`Ending::if_confirmation_wanted`].
    pub(super) ending: Ending,
}

impl Shown {
    fn done(headline: String, fields: Value) -> Self {
        Self { headline, parts: Vec::new(), fields, ending: Ending::Done }
    }
}

impl fmt::Display for Shown {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.headline)?;
        if self.parts.is_empty() {
            return write_fields(f, "", &self.fields);
        }
        self.parts.iter().try_for_each(|part| write!(f, "\n{part}"))
    }
}

/// For a change whose answer was lost.
const OBSERVED: &str = "OK: made, as the agent's state shows; the gateway's answer was lost";

/// The name of the state that shows that a change was made; `None` if the gateway has answered itself.
fn observed(state: ActivityState) -> Option<&'static str> {
    Some(state)
        .filter(|state| *state != ActivityState::Unspecified)
        .map(|state| state.as_str_name())
}

macro_rules! changes {
    ($($response:ident),+) => {$(
        impl From<$response> for Shown {
            fn from(response: $response) -> Self {
                let observed_state = observed(response.observed_state());
                let $response { message, retcode, result, confirmation, .. } = response;
                let headline = match &confirmation {
                    Some(confirmation) => confirmed(confirmation),
                    None if observed_state.is_some() => OBSERVED.to_owned(),
                    None => "OK: accepted".to_owned(),
                };
                let is_confirmed =
                    confirmation.as_ref().is_some_and(|told| told.status() == Status::Confirmed);
                let ending = if is_confirmed { Ending::Done } else { Ending::Unconfirmed };
                let fields = json!({
                    "message": message,
                    "retcode": retcode,
                    "result": result.map(json_value),
                    "confirmation": confirmation.map(confirmation_fields),
                    "observed_state": observed_state,
                });
                Self { ending, ..Self::done(headline, fields) }
            }
        }
    )+};
}

changes!(
    SetBusyResponse,
    CancelBusyResponse,
    SetIdleResponse,
    SetAfterCallWorkResponse,
    CancelAfterCallWorkResponse,
    SetRestingResponse,
    CancelRestingResponse,
    StateChange
);

impl From<GetStateChangeResponse> for Shown {
    fn from(response: GetStateChangeResponse) -> Self {
        let (headline, name, value, ending) = match response.what {
            Some(Became::Change(change)) => {
                let shown = Self::from(change);
                (shown.headline, "change", shown.fields, Ending::Done)
            }
            Some(Became::Error(error)) => {
                let failure = failure::of_answer(&error);
                let headline = format!("the change failed: {}", failure.headline());
                (headline, "error", failure.fields(), failure.ending)
            }
            // A newer bridge may say something else.
            Some(Became::UnderWay(_)) | None => {
                ("the change is under way".to_owned(), "under_way", json!({}), Ending::Unknown)
            }
        };
        let fields = json!({ "agent_id": response.agent_id, name: value });
        Self { ending, ..Self::done(headline, fields) }
    }
}

impl From<GetStateResponse> for Shown {
    fn from(response: GetStateResponse) -> Self {
        let name = response.state().as_str_name();
        let doing = match response.state() {
            ActivityState::Unspecified => {
                format!("in a state that no document lists ({})", response.code)
            }
            _ => in_words(name, "ACTIVITY_STATE_"),
        };
        let fields = json!({
            "state": name,
            "code": response.code,
            "in_call": response.in_call,
        });
        Self::done(format!("OK: the agent is {doing}"), fields)
    }
}

impl From<SignInResponse> for Shown {
    fn from(response: SignInResponse) -> Self {
        let SignInResponse { message, retcode, result, session, skill_reset } = response;
        let headline = match &skill_reset {
            Some(reset) if reset.retcode != "0" => {
                format!("OK: signed in, but the skill queues were not reset: {}", reset.error)
            }
            _ => "OK: signed in".to_owned(),
        };
        let skills =
            |reset: proto::SkillReset| json!({ "retcode": reset.retcode, "error": reset.error });
        let fields = json!({
            "message": message,
            "retcode": retcode,
            "result": result.map(json_value),
            "session": session.as_ref().map(session_fields),
            "skill_reset": skill_reset.map(skills),
        });
        Self::done(headline, fields)
    }
}

impl From<SignOutResponse> for Shown {
    fn from(response: SignOutResponse) -> Self {
        let SignOutResponse { message, retcode } = response;
        let fields = json!({ "message": message, "retcode": retcode });
        Self::done("OK: signed out".to_owned(), fields)
    }
}

impl From<RegisterSessionResponse> for Shown {
    fn from(response: RegisterSessionResponse) -> Self {
        let fields = json!({ "session": response.session.as_ref().map(session_fields) });
        Self::done("OK: the session is registered".to_owned(), fields)
    }
}

impl From<GetSessionResponse> for Shown {
    fn from(response: GetSessionResponse) -> Self {
        let session = response.session.unwrap_or_default();
        let doing = match session.state() {
            SessionState::Unspecified => {
                "this program does not know the session's state".to_owned()
            }
            SessionState::Registered => "its owner keeps the session".to_owned(),
            SessionState::KeptElsewhere => "another replica keeps the session".to_owned(),
            state => format!("the session is {}", in_words(state.as_str_name(), "SESSION_STATE_")),
        };
        let fields = json!({ "session": session_fields(&session) });
        Self::done(format!("OK: {doing}"), fields)
    }
}

impl From<WatchEventsResponse> for Shown {
    fn from(response: WatchEventsResponse) -> Self {
        let WatchEventsResponse { sequence, receive_time, agent_id, what } = response;
        let mut fields = Map::new();
        fields.insert("sequence".to_owned(), json!(sequence));
        if let Some(moment) = receive_time {
            fields.insert("receive_time".to_owned(), json!(time(&moment)));
            fields.insert("agent_id".to_owned(), json!(agent_id));
        }
        let (name, said, content) = event_parts(what);
        fields.insert(name.to_owned(), content);
        let moment = receive_time.as_ref().map(time).unwrap_or_default();
        let parts = [sequence.to_string(), moment, agent_id, said];
        let parts: Vec<_> = parts.into_iter().filter(|part| !part.is_empty()).collect();
        let headline = parts.join("  ").replace(char::is_control, " ");
        Self::done(headline, Value::Object(fields))
    }
}

/// The name of the event's field, its text, and its content.
fn event_parts(what: Option<What>) -> (&'static str, String, Value) {
    match what {
        Some(What::GatewayEvent(event)) => {
            let content = event.content.clone().map(json_value);
            let shown = match (event.content_json.as_str(), &content) {
                // A bridge of an earlier version does not send the text.
                ("", Some(content)) => format!(" {content}"),
                ("" | "null", _) => String::new(),
                (text, _) => format!(" {text}"),
            };
            let fields = json!({
                "type": event.r#type().as_str_name(),
                "type_name": event.type_name,
                "work_no": event.work_no,
                "content": content,
                "content_json": event.content_json,
                "event_time": event.event_time.as_ref().map(time),
            });
            ("gateway_event", format!("{}{shown}", event.type_name), fields)
        }
        Some(What::SessionChange(change)) => {
            let name = change.state().as_str_name();
            let description = match change.description.as_str() {
                "" => String::new(),
                description => format!(": {description}"),
            };
            let said = format!("session {}{description}", in_words(name, "SESSION_STATE_"));
            ("session_change", said, json!({ "state": name, "description": change.description }))
        }
        Some(What::Gap(gap)) => {
            let missed = gap.missed.map_or_else(String::new, |missed| format!(" {missed}"));
            let said = format!("events are missing here:{missed}");
            ("gap", said.trim_end_matches(':').to_owned(), json!({ "missed": gap.missed }))
        }
        Some(What::Progress(_)) => {
            ("progress", "all events up to here have been sent".to_owned(), json!({}))
        }
        Some(What::Begin(_)) => ("begin", "watching".to_owned(), json!({})),
        None => ("unknown", "something that this program does not know".to_owned(), Value::Null),
    }
}

fn confirmed(confirmation: &Confirmation) -> String {
    use confirmation::Reason;
    if confirmation.status() == Status::Confirmed {
        return "OK: confirmed".to_owned();
    }
    let why = match confirmation.reason() {
        Reason::NotKept => "the bridge does not poll this agent's events",
        Reason::Talking => "the agent is talking; the change comes when the call ends",
        Reason::AfterCallWork => "the agent is in after-call work; the change comes after it",
        Reason::OtherState => "the agent is in another state now",
        Reason::NoEvent => "no event came in time",
        Reason::ShuttingDown => "the replica is shutting down",
        Reason::Unspecified => "no cause is given",
    };
    format!("OK: accepted, not confirmed: {why}")
}

fn confirmation_fields(confirmation: Confirmation) -> Value {
    let sequence = Some(confirmation.event_sequence).filter(|sequence| *sequence > 0);
    json!({
        "status": confirmation.status().as_str_name(),
        "reason": confirmation.reason().as_str_name(),
        "event_time": confirmation.event_time.as_ref().map(time),
        "event_sequence": sequence,
    })
}

fn session_fields(session: &Session) -> Value {
    let origin = Origin::try_from(session.origin).unwrap_or_default();
    json!({
        "tenant_id": session.tenant_id,
        "agent_id": session.agent_id,
        "origin": origin.as_str_name(),
        "guid_version": session.guid_version,
        "gateway_node": session.gateway_node,
        "renew_time": session.renew_time.as_ref().map(time),
        "expire_time": session.expire_time.as_ref().map(time),
        "state": session.state().as_str_name(),
    })
}

/// `ACTIVITY_STATE_AFTER_CALL_WORK` as "after call work".
fn in_words(name: &str, prefix: &str) -> String {
    name.trim_start_matches(prefix).to_lowercase().replace('_', " ")
}

fn time(time: &Timestamp) -> String {
    let moment = SystemTime::try_from(*time).ok();
    moment.map(|moment| humantime::format_rfc3339_millis(moment).to_string()).unwrap_or_default()
}

fn json_value(value: prost_types::Value) -> Value {
    match value.kind {
        None | Some(Kind::NullValue(_)) => Value::Null,
        Some(Kind::NumberValue(number)) => json_number(number),
        Some(Kind::StringValue(text)) => Value::String(text),
        Some(Kind::BoolValue(truth)) => Value::Bool(truth),
        Some(Kind::StructValue(object)) => Value::Object(
            object.fields.into_iter().map(|(name, value)| (name, json_value(value))).collect(),
        ),
        Some(Kind::ListValue(list)) => {
            Value::Array(list.values.into_iter().map(json_value).collect())
        }
    }
}

/// A whole number is shown without a fraction, although protobuf's `Value` has only `double`.
fn json_number(number: f64) -> Value {
    let text = format!("{number}");
    let number = text.parse::<i64>().ok().map(Number::from).or_else(|| Number::from_f64(number));
    number.map_or(Value::Null, Value::Number)
}
