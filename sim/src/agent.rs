//! The states of an agent, and the events that report them.

use std::borrow::Cow;

use serde_json::{Value, json};

/// What an agent is doing (`cec_07_1431`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AgentState {
    /// Not signed in.
    SignedOut,
    /// Waiting for calls.
    Idle,
    /// Taking no calls, because the agent or an inspector said so.
    Busy,
    /// In after-call work.
    Working,
    /// In a call.
    Talking,
    /// Resting.
    Resting,
    /// In a call or in after-call work; a rest begins when that ends.
    PreRest,
}

/// An event as the poll delivers it (`cec_07_1274`).
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Event {
    pub(super) kind: Cow<'static, str>,
    /// JSON text, which is sent as it is. `None`: the event has no such member.
    pub(super) content: Option<String>,
}

/// A request that the gateway refuses with this retcode.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Refused(pub(super) String);

/// The name of an agent. It is made up.
pub(super) fn name(agent: u32) -> String {
    format!("agent {agent}")
}

/// The busy reason of an agent that an inspector has made busy (`cec_07_1346`).
pub(super) const FORCED: u16 = 3;

// === impl AgentState ===

impl AgentState {
    /// The state's number in the answer of agentstatus (`cec_07_1431`).
    pub fn code(self) -> u8 {
        match self {
            Self::SignedOut => 2,
            Self::Busy => 3,
            Self::Idle => 4,
            Self::Working => 5,
            Self::Talking => 7,
            Self::Resting => 8,
            Self::PreRest => 9,
        }
    }

    /// The state's number at the platform, which the monitoring interfaces show (`cec_07_0581`). It has
    /// none for a rest that is to come.
    pub(super) fn cti_code(self) -> u8 {
        match self {
            Self::SignedOut => 0,
            Self::Idle => 1,
            Self::Talking | Self::PreRest => 5,
            Self::Working => 6,
            Self::Busy => 7,
            Self::Resting => 8,
        }
    }

    /// The state's name, for people.
    pub fn name(self) -> &'static str {
        match self {
            Self::SignedOut => "signed-out",
            Self::Idle => "idle",
            Self::Busy => "busy",
            Self::Working => "after-call-work",
            Self::Talking => "talking",
            Self::Resting => "rest",
            Self::PreRest => "pre-rest",
        }
    }
}

// === impl Event ===

impl Event {
    pub(super) fn bare(kind: &'static str) -> Self {
        Self::with(kind, &Value::Null)
    }

    pub(super) fn with(kind: &'static str, content: &Value) -> Self {
        Self { kind: kind.into(), content: Some(content.to_string()) }
    }

    /// The agent is busy. If an inspector made it busy, the event has a type of its own (client).
    pub(super) fn busy(reason: u16) -> Self {
        let kind = match reason {
            FORCED => "AgentState_Force_SetNotReady",
            _ => "AgentState_SetNotReady_Success",
        };
        Self::with(kind, &json!({ "reason": reason.to_string() }))
    }

    /// The agent is resting. The page's sample has the cause, although its table says "none"
    /// (`cec_07_1348`).
    pub(super) fn resting(cause: u16) -> Self {
        Self::with("AgentState_SetRest_Success", &json!({ "reason": cause.to_string() }))
    }

    /// Somebody or something other than the agent has signed it out (`cec_07_1402`).
    pub(super) fn shutdown(login_time: &str) -> Self {
        Self::with("AgentOther_ShutdownService", &json!({ "loginTime": login_time }))
    }
}
