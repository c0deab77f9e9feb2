//! The result of the gateway's interface `agentstatus`.

use std::borrow::Cow;

use serde::Deserialize;
use serde_json::value::RawValue;

use crate::state::AgentState;

/// What `agentstatus` says about an agent (cec_07_1222).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AgentStatus {
    /// What the agent is doing.
    pub state: AgentState,
    /// The gateway's number for the state.
    pub code: i32,
    /// Whether the agent is in a call. `None` if the gateway does not say.
    pub in_call: Option<bool>,
}

#[derive(Deserialize)]
struct Wire<'a> {
    #[serde(rename = "agentState", borrow)]
    state: &'a RawValue,
    #[serde(rename = "isWorking", borrow, default)]
    in_call: Option<&'a RawValue>,
}

impl AgentStatus {
    /// Reads the `result` of `agentstatus`. It is an object in the documentation's sample, and an
    /// array in its table.
    pub fn read(result: &str) -> Option<Self> {
        let object = match result.strip_prefix('[') {
            None => serde_json::from_str(result).ok()?,
            Some(_) => *serde_json::from_str::<Vec<&RawValue>>(result).ok()?.first()?,
        };
        // serde would also read a struct from an array, by the order of its elements.
        let object = Some(RawValue::get(object)).filter(|object| object.starts_with('{'))?;
        let wire: Wire<'_> = serde_json::from_str(object).ok()?;
        let code = unquoted(wire.state)?.parse().ok()?;
        let in_call = wire.in_call.and_then(unquoted).and_then(|text| text.parse().ok());
        Some(Self { state: AgentState::from_code(code), code, in_call })
    }
}

/// A number or boolean, with or without quotes.
fn unquoted(raw: &RawValue) -> Option<Cow<'_, str>> {
    let raw = raw.get();
    if raw.starts_with('"') { serde_json::from_str(raw).ok() } else { Some(raw.into()) }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn objects_and_arrays_of_one_are_read() {
        let idle = AgentStatus { state: AgentState::Idle, code: 4, in_call: Some(false) };
        for result in [
            r#"{"agentState":4,"isWorking":false}"#,
            r#"{"agentState":"4","isWorking":"false"}"#,
            r#"[{"agentState":4,"isWorking":false}]"#,
        ] {
            assert_eq!(AgentStatus::read(result), Some(idle), "{result}");
        }
        let odd = AgentStatus { state: AgentState::Unknown, code: 77, in_call: None };
        assert_eq!(AgentStatus::read(r#"{"agentState":77}"#), Some(odd));
        for nothing in
            ["{}", "[]", "\"\"", r#"{"agentState":null}"#, r#"{"agentState":4.5}"#, "[[4]]"]
        {
            assert_eq!(AgentStatus::read(nothing), None, "{nothing}");
        }
    }

    proptest! {
        #[test]
        fn any_text_is_read_or_refused(result in "\\PC*") {
            let _read = AgentStatus::read(&result);
        }
    }
}
