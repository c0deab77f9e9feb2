//! A call that reaches an agent, and the events that tell of it besides those of the agent's state. Their
//! order and most of their contents are known from clients (client).

use serde_json::json;

use super::{agent::Event, session::epoch_ms};

/// An inbound call.
#[derive(Clone, Debug)]
pub(super) struct Call {
    id: String,
    agent: u32,
}

/// The number that the caller has called.
const CALLED: &str = "10086";
/// The caller's number.
const CALLER: &str = "13800138000";
/// The media type of an ordinary call (`cec_07_1206`).
const VOICE: u8 = 5;
/// The phone was hung up by the platform (`cec_07_1396`).
const BY_PLATFORM: u8 = 3;

// === impl Call ===

impl Call {
    /// A call that reaches this agent now. Its id has the form that clients show.
    pub(super) fn begin(agent: u32) -> Self {
        let (seconds, millis) = (epoch_ms() / 1000, epoch_ms() % 1000);
        Self { id: format!("{seconds}-{millis}"), agent }
    }

    /// The events after `AgentState_Busy`, until the agent is connected.
    pub(super) fn begun(&self, auto_answer: bool) -> Vec<Event> {
        let Self { id, agent } = self;
        let arrived = if auto_answer { "AgentEvent_Auto_Answer" } else { "AgentEvent_Ringing" };
        vec![
            Event::bare("AgentOther_PhoneAlerting"),
            Event::with("AgentOther_PhoneOffhook", &json!({ "type": "main" })),
            Event::with(
                arrived,
                &json!({
                    "caller": CALLER,
                    "transfer": "",
                    "callid": id,
                    "transfrom": "",
                    "called": CALLED,
                    "type": VOICE,
                }),
            ),
            Event::with(
                "AgentEvent_Talking",
                &json!({
                    "callid": id,
                    "caller": CALLER,
                    "called": agent.to_string(),
                    "feature": 0,
                }),
            ),
        ]
    }

    /// The events of its end by the customer, before that of the agent's state. The contents of the first
    /// two are made up.
    pub(super) fn ended(&self) -> Vec<Event> {
        let content = json!({ "callid": self.id });
        vec![
            Event::with("AgentEvent_Customer_Release", &content),
            Event::with("AgentEvent_Call_Release", &content),
            Event::with("AgentOther_PhoneRelease", &json!({ "phoneState": BY_PLATFORM })),
        ]
    }
}
