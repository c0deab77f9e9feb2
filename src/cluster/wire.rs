//! The JSON form of an event, before it is sealed for the shared store.

use std::{
    borrow::Cow,
    time::{Duration, UNIX_EPOCH},
};

use serde::{Deserialize, Deserializer, Serialize};
use serde_json::value::RawValue;

use crate::{
    event::{GatewayEvent, SessionChange, What},
    id::{AGENT_IDS_ANY, AgentId},
    session::SessionState,
    time::millis_now,
};

/// An event with its origin.
#[derive(Serialize, Deserialize)]
struct Envelope<'a> {
    #[serde(borrow)]
    agent: Cow<'a, str>,
    origin: Origin,
    #[serde(borrow)]
    what: Wire<'a>,
}

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Wire<'a> {
    Gateway {
        #[serde(borrow)]
        kind: Cow<'a, str>,
        #[serde(borrow)]
        work_no: Cow<'a, str>,
        #[serde(
            borrow,
            default,
            deserialize_with = "present",
            skip_serializing_if = "Option::is_none"
        )]
        content: Option<&'a RawValue>,
        #[serde(default, skip_serializing_if = "Option::is_none")]
        generated_ms: Option<u64>,
    },
    Session {
        #[serde(borrow)]
        state: Cow<'a, str>,
        #[serde(borrow)]
        cause: Cow<'a, str>,
    },
    Missing,
}

/// Which process fetched an event, and when.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Origin {
    /// A random number of the process.
    pub by: u64,
    /// How many events of the tenant the process had sent before.
    pub nth: u64,
    /// When the process sent it, in milliseconds since 1970.
    pub sent: u64,
    /// When the event was fetched, in microseconds since a moment that only that process knows.
    pub at: u64,
    /// The time from fetching the event to asking the store to take it, in microseconds.
    pub age: u64,
}

/// An event as the store has it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Told {
    /// The agent that it is about.
    pub agent: AgentId,
    /// What happened. `None`: events of its process are missing before this one, of this agent and perhaps of others.
    pub what: Option<What>,
    /// Who fetched it, and when.
    pub origin: Origin,
}

impl Origin {
    /// The `nth` event of process `by`, sent now. It was fetched at `at`, `age` ago.
    pub fn now([by, nth]: [u64; 2], [at, age]: [Duration; 2]) -> Self {
        let micros = |time: Duration| u64::try_from(time.as_micros()).unwrap_or(u64::MAX);
        Self { by, nth, sent: millis_now(), at: micros(at), age: micros(age) }
    }
}

/// Writes an event as text. `None` if its content is not valid JSON. No gateway has sent such an
/// event yet.
pub fn encode(Told { agent, what, origin }: &Told) -> Option<String> {
    let what = match what {
        None => Wire::Missing,
        Some(What::Gateway(event)) => {
            let since = event.generated_at.and_then(|at| at.duration_since(UNIX_EPOCH).ok());
            Wire::Gateway {
                kind: Cow::Borrowed(&event.kind),
                work_no: Cow::Borrowed(&event.work_no),
                content: event.content.as_deref().map(serde_json::from_str).transpose().ok()?,
                generated_ms: since.and_then(|since| u64::try_from(since.as_millis()).ok()),
            }
        }
        Some(What::Session(change)) => Wire::Session {
            state: Cow::Borrowed(change.state.as_str()),
            cause: Cow::Borrowed(&change.cause),
        },
    };
    let agent = agent.to_string().into();
    serde_json::to_string(&Envelope { agent, origin: *origin, what }).ok()
}

/// Reads a value that is there, also null, which `Option` would take for absent.
fn present<'de: 'a, 'a, D: Deserializer<'de>>(wire: D) -> Result<Option<&'a RawValue>, D::Error> {
    <&RawValue>::deserialize(wire).map(Some)
}

/// Reads what [`encode`] writes. `None` for text that this version does not understand.
pub fn decode(text: &str) -> Option<Told> {
    let Envelope { agent, origin, what } = serde_json::from_str(text).ok()?;
    let what = match what {
        Wire::Missing => None,
        Wire::Gateway { kind, work_no, content, generated_ms } => {
            Some(What::Gateway(GatewayEvent {
                kind: kind.into(),
                work_no: work_no.into(),
                content: content.map(|content| content.get().into()),
                generated_at: generated_ms
                    .and_then(|millis| UNIX_EPOCH.checked_add(Duration::from_millis(millis))),
            }))
        }
        Wire::Session { state, cause } => {
            let known = SessionState::ALL.into_iter().find(|known| known.as_str() == state);
            Some(What::Session(SessionChange { state: known?, cause: cause.into_owned().into() }))
        }
    };
    Some(Told { agent: AgentId::parse(&agent, &AGENT_IDS_ANY).ok()?, what, origin })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn told(what: impl Into<Option<What>>) -> Told {
        let what = what.into();
        let agent = AgentId::parse("1001", &AGENT_IDS_ANY).unwrap();
        Told { agent, what, origin: Origin::now([1, 2], [Duration::from_micros(3); 2]) }
    }

    proptest! {
        #[test]
        fn what_is_told_is_read_again(
            kind in "\\PC{1,20}",
            work_no in "[0-9]{0,6}",
            content in prop::option::of("[a-z\\\\\"\u{e9}]{0,20}"),
            millis in prop::option::of(0..4_000_000_000_000_u64),
            [by, nth, sent, at, age]: [u64; 5],
        ) {
            let content = content.map(|text| serde_json::json!({ "text": text }).to_string().into());
            let generated_at = millis.map(|millis| UNIX_EPOCH + Duration::from_millis(millis));
            let event = GatewayEvent {
                kind: kind.into(),
                work_no: work_no.into(),
                content,
                generated_at,
            };
            let origin = Origin { by, nth, sent, at, age };
            let told = Told { origin, ..told(What::Gateway(event)) };
            prop_assert_eq!(decode(&encode(&told).unwrap()), Some(told));
        }

        #[test]
        fn any_text_is_read_or_left_out(text in "\\PC*") {
            let _read = decode(&text);
        }
    }

    #[test]
    fn content_is_told_as_it_came_whatever_json_it_is() {
        let contents = [r#""1478661212-6""#, "12345678901234567890123", "1e999", "[ {} ]", "null"];
        for content in contents.map(Some).into_iter().chain([None]) {
            let told = told(What::Gateway(GatewayEvent {
                kind: "AgentEvent_Hold".into(),
                work_no: "1001".into(),
                content: content.map(Into::into),
                generated_at: None,
            }));
            assert_eq!(decode(&encode(&told).unwrap()), Some(told));
        }
    }

    #[test]
    fn changes_of_sessions_and_gaps_are_told_too() {
        let gap = told(None);
        assert_eq!(decode(&encode(&gap).unwrap()), Some(gap));
        for state in SessionState::ALL {
            let change = told(What::Session(SessionChange { state, cause: "because".into() }));
            let text = encode(&change).unwrap();
            assert_eq!(decode(&text.replace(state.as_str(), "asleep")), None);
            assert_eq!(decode(&text), Some(change));
        }
    }
}
