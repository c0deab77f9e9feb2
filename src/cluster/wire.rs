//! The JSON form of an event in the shared store.

use std::{
    borrow::Cow,
    time::{Duration, UNIX_EPOCH},
};

use serde::{Deserialize, Deserializer, Serialize};
use serde_json::value::RawValue;

use crate::{
    event::{GatewayEvent, SessionChange, What},
    session::SessionState,
};

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
        #[serde(default, skip_serializing_if = "Option::is_none")]
        origin: Option<Origin>,
    },
    Session {
        #[serde(borrow)]
        state: Cow<'a, str>,
        #[serde(borrow)]
        cause: Cow<'a, str>,
    },
}

/// Which process fetched an event, and when. Times are in microseconds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Origin {
    /// A random number of the process.
    pub by: u64,
    /// When the event was fetched, since a moment that only that process knows, by its clock.
    pub at: u64,
    /// The time from fetching the event to asking the store to take it.
    pub age: u64,
}

/// Writes an event as text. `None` if its content is not valid JSON. No gateway has sent such an
/// event yet.
pub fn encode(what: &What, origin: Option<Origin>) -> Option<String> {
    let wire = match what {
        What::Gateway(event) => {
            let since = event.generated_at.and_then(|at| at.duration_since(UNIX_EPOCH).ok());
            Wire::Gateway {
                kind: Cow::Borrowed(&event.kind),
                work_no: Cow::Borrowed(&event.work_no),
                content: event.content.as_deref().map(serde_json::from_str).transpose().ok()?,
                generated_ms: since.and_then(|since| u64::try_from(since.as_millis()).ok()),
                origin,
            }
        }
        What::Session(change) => Wire::Session {
            state: Cow::Borrowed(change.state.as_str()),
            cause: Cow::Borrowed(&change.cause),
        },
    };
    serde_json::to_string(&wire).ok()
}

/// Reads a value that is there, also null, which `Option` would take for absent.
fn present<'de: 'a, 'a, D: Deserializer<'de>>(wire: D) -> Result<Option<&'a RawValue>, D::Error> {
    <&RawValue>::deserialize(wire).map(Some)
}

/// Reads what [`encode`] writes. `None` for text that this version does not understand. Changes of
/// sessions have no origin, and neither have events of earlier versions.
pub fn decode(text: &str) -> Option<(What, Option<Origin>)> {
    Some(match serde_json::from_str(text).ok()? {
        Wire::Gateway { kind, work_no, content, generated_ms, origin } => {
            let event = GatewayEvent {
                kind: kind.into(),
                work_no: work_no.into(),
                content: content.map(|content| content.get().into()),
                generated_at: generated_ms
                    .and_then(|millis| UNIX_EPOCH.checked_add(Duration::from_millis(millis))),
            };
            (What::Gateway(event), origin)
        }
        Wire::Session { state, cause } => {
            let known = SessionState::ALL.into_iter().find(|known| known.as_str() == state);
            let change = SessionChange { state: known?, cause: cause.into_owned().into() };
            (What::Session(change), None)
        }
    })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn what_is_told_is_read_again(
            kind in "\\PC{1,20}",
            work_no in "[0-9]{0,6}",
            content in prop::option::of("[a-z\\\\\"\u{e9}]{0,20}"),
            millis in prop::option::of(0..4_000_000_000_000_u64),
            origin in prop::option::of(any::<[u64; 3]>()),
        ) {
            let origin = origin.map(|[by, at, age]| Origin { by, at, age });
            let content = content.map(|text| serde_json::json!({ "text": text }).to_string().into());
            let generated_at = millis.map(|millis| UNIX_EPOCH + Duration::from_millis(millis));
            let event = What::Gateway(GatewayEvent {
                kind: kind.into(),
                work_no: work_no.into(),
                content,
                generated_at,
            });
            prop_assert_eq!(decode(&encode(&event, origin).unwrap()), Some((event, origin)));
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
            let event = What::Gateway(GatewayEvent {
                kind: "AgentEvent_Hold".into(),
                work_no: "1001".into(),
                content: content.map(Into::into),
                generated_at: None,
            });
            assert_eq!(decode(&encode(&event, None).unwrap()), Some((event, None)));
        }
    }

    #[test]
    fn changes_of_sessions_are_told_too() {
        for state in SessionState::ALL {
            let change = What::Session(SessionChange { state, cause: "because".into() });
            assert_eq!(decode(&encode(&change, None).unwrap()), Some((change, None)));
        }
        let former = r#"{"gateway":{"kind":"a","work_no":"1","then":"some"}}"#;
        assert!(decode(former).is_some_and(|(_, origin)| origin.is_none()));
        assert_eq!(decode(r#"{"session":{"state":"asleep","cause":""}}"#), None);
    }
}
