use ccgateway_bridge::{gateway::AgentStatus, state::AgentState};
use serde_json::Value;

/// The `result` of agentstatus: a number that is read is the one that a plain reading finds.
pub fn agent_status(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else { return };
    let Some(status) = AgentStatus::read(text) else { return };
    assert_eq!(status.state, AgentState::from_code(status.code));

    let json: Value = serde_json::from_str(text).expect("what is read is JSON");
    let object = json.as_array().and_then(|array| array.first()).unwrap_or(&json);
    let plain = match &object["agentState"] {
        Value::String(text) => text.parse().ok(),
        number => number.as_i64().and_then(|number| i32::try_from(number).ok()),
    };
    // JSON has a negative zero, which is a float to serde_json.
    assert_eq!(plain.unwrap_or_default(), status.code, "{text}");
}
