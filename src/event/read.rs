use std::{
    borrow::Cow,
    collections::HashMap,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use serde_json::value::RawValue;

use super::GatewayEvent;

/// The members of an event. If a member comes twice, the last one counts.
type Members<'a> = HashMap<Cow<'a, str>, &'a RawValue>;

/// The longest event type or agent id that is read; known ones are less than half as long.
const TEXT_MAX: usize = 128;

/// Reads the `event` field of a poll's answer: one object (cec_07_1274), or an array of objects, which
/// gateways send whose polls bring the events of all agents (client). An event without a readable type
/// is left out.
pub fn read(json: &str) -> Vec<GatewayEvent> {
    if json.starts_with('[') {
        let items: Vec<&RawValue> = serde_json::from_str(json).unwrap_or_default();
        return items.into_iter().filter_map(|item| one(item.get())).collect();
    }
    one(json).into_iter().collect()
}

fn one(json: &str) -> Option<GatewayEvent> {
    let members: Members<'_> = serde_json::from_str(json).ok()?;
    let member = |name| members.get(name).copied();
    Some(GatewayEvent {
        kind: text(member("eventType")?).filter(|kind| !kind.is_empty())?,
        work_no: member("workNo").and_then(text).unwrap_or_default(),
        content: member("content").map(|content| content.get().into()),
        generated_at: member("eventGenTime").and_then(time),
    })
}

/// Reads a text, or a number as text.
fn text(raw: &RawValue) -> Option<Box<str>> {
    let raw = raw.get();
    let text = if raw.starts_with('"') {
        serde_json::from_str::<Cow<'_, str>>(raw).ok()?
    } else {
        raw.parse::<i64>().ok()?.to_string().into()
    };
    let text = text.trim();
    (text.len() <= TEXT_MAX && !text.contains(char::is_control)).then(|| text.into())
}

/// Reads milliseconds since 1970 (cec_07_1346).
fn time(raw: &RawValue) -> Option<SystemTime> {
    let millis = text(raw)?.parse().ok()?;
    UNIX_EPOCH.checked_add(Duration::from_millis(millis))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn kinds(json: &str) -> Vec<String> {
        read(json).into_iter().map(|event| event.kind.into()).collect()
    }

    #[test]
    fn one_event_or_an_array_is_read() {
        let ready = r#"{"eventType":"AgentState_Ready","workNo":"8052","content":null}"#;
        assert_eq!(kinds(ready), ["AgentState_Ready"]);
        assert_eq!(kinds(&format!("[{ready},{ready}]")).len(), 2);
        assert_eq!(kinds(&format!("[{ready},7,{{}},{ready}]")).len(), 2);
        for nothing in ["[]", "{}", "7", "\"\"", r#"{"eventType":""}"#, r#"{"eventType":null}"#] {
            assert_eq!(kinds(nothing), Vec::<String>::new(), "{nothing}");
        }
        let long = format!(r#"{{"eventType":"{}"}}"#, "x".repeat(TEXT_MAX + 1));
        assert_eq!(kinds(&long), Vec::<String>::new());
    }

    #[test]
    fn every_field_is_kept_as_it_came() {
        let json = r#"{"eventType":"AgentState_SetNotReady_Success","eventGenTime":1471585949806,
            "workNo":291,"content":{"reason":"200"}}"#;
        let event = read(json).remove(0);
        assert_eq!(&*event.work_no, "291");
        assert_eq!(event.content.as_deref(), Some(r#"{"reason":"200"}"#));
        let since = event.generated_at.and_then(|at| at.duration_since(UNIX_EPOCH).ok());
        assert_eq!(since, Some(Duration::from_millis(1_471_585_949_806)));
    }

    #[test]
    fn content_is_kept_as_it_came_whatever_json_it_is() {
        for content in [
            r#""1478661212-6""#,
            "147866121200000000001",
            "1e999",
            r#"[ 1, {"b":2,"a":1} ]"#,
            r#""\ud800""#,
            "false",
            "null",
        ] {
            let json = format!(r#"{{"eventType":"AgentEvent_Hold","content":{content}}}"#);
            assert_eq!(read(&json)[0].content.as_deref(), Some(content));
        }
        assert_eq!(read(r#"{"eventType":"AgentEvent_Hold"}"#)[0].content, None);
        let twice = r#"{"eventType":"AgentEvent_Hold","content":null,"content":"7"}"#;
        assert_eq!(read(twice)[0].content.as_deref(), Some("\"7\""));
    }

    proptest! {
        #[test]
        fn any_text_is_read_or_left_out(json in "\\PC*") {
            for event in read(&json) {
                prop_assert!(!event.kind.is_empty() && event.kind.len() <= TEXT_MAX);
            }
        }
    }
}
