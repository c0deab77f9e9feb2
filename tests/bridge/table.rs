//! The documented facts about each change, in one row per change.

use ccgateway_sim::Interface;
use ccgateway_test_support::{AGENT, changes::Change};

/// A change and what is documented of it.
pub(crate) struct Row {
    pub(crate) method: &'static str,
    pub(crate) change: Change,
    pub(crate) interface: Interface,
    /// What follows the agent's id in the address.
    pub(crate) target: &'static str,
    /// What brings an idle agent where the gateway allows it, and where it refuses it.
    pub(crate) allowed_after: &'static [Change],
    pub(crate) refused_after: &'static [Change],
    /// What tells of it.
    pub(crate) event: &'static str,
    /// Whether agentstatus may say this number after it.
    pub(crate) fits: fn(i32) -> bool,
}

pub(crate) const BUSY: Change = Change::SetBusy { reason: Some(201), prolong: None };
pub(crate) const REST: Change = Change::SetResting { seconds: 600, reason: 0, prolong: None };

pub(crate) const ROWS: &[Row] = &[
    Row {
        method: "SetBusy",
        change: Change::SetBusy { reason: Some(250), prolong: Some(false) },
        interface: Interface::SayBusy,
        target: "/saybusy?reason=250&prolong=false",
        allowed_after: &[],
        refused_after: &[REST],
        event: "AgentState_SetNotReady_Success",
        fits: |code| code == 3,
    },
    Row {
        method: "CancelBusy",
        change: Change::CancelBusy,
        interface: Interface::CancelBusy,
        target: "/cancelbusy",
        allowed_after: &[BUSY],
        refused_after: &[],
        event: "AgentState_CancelNotReady_Success",
        fits: |code| code != 3,
    },
    Row {
        method: "SetIdle",
        change: Change::SetIdle,
        interface: Interface::SayFree,
        target: "/sayfree",
        allowed_after: &[BUSY],
        refused_after: &[],
        event: "AgentState_CancelNotReady_Success",
        fits: |code| code != 3 && code != 5,
    },
    Row {
        method: "SetIdle",
        change: Change::SetIdle,
        interface: Interface::SayFree,
        target: "/sayfree",
        allowed_after: &[Change::SetAfterCallWork],
        refused_after: &[REST],
        event: "AgentState_CancelWork_Success",
        fits: |code| code != 3 && code != 5,
    },
    Row {
        method: "SetAfterCallWork",
        change: Change::SetAfterCallWork,
        interface: Interface::Work,
        target: "/work",
        allowed_after: &[BUSY],
        refused_after: &[REST],
        event: "AgentState_SetWork_Success",
        fits: |code| code == 5,
    },
    Row {
        method: "CancelAfterCallWork",
        change: Change::CancelAfterCallWork,
        interface: Interface::CancelWork,
        target: "/cancelwork",
        allowed_after: &[Change::SetAfterCallWork],
        refused_after: &[BUSY],
        event: "AgentState_CancelWork_Success",
        fits: |code| code != 5,
    },
    Row {
        method: "SetResting",
        change: Change::SetResting { seconds: 86_399, reason: 255, prolong: Some(true) },
        interface: Interface::Rest,
        target: "/rest/86399/255?prolong=true",
        allowed_after: &[REST],
        refused_after: &[Change::SetAfterCallWork],
        event: "AgentState_SetRest_Success",
        fits: |code| code == 8,
    },
    Row {
        method: "SetResting",
        change: Change::SetResting { seconds: 1, reason: 0, prolong: None },
        interface: Interface::Rest,
        target: "/rest/1/0",
        allowed_after: &[],
        refused_after: &[REST],
        event: "AgentState_SetRest_Success",
        fits: |code| code == 8,
    },
    Row {
        method: "CancelResting",
        change: Change::CancelResting,
        interface: Interface::CancelRest,
        target: "/cancelrest",
        allowed_after: &[REST],
        refused_after: &[BUSY],
        event: "AgentState_CancelRest_Success",
        fits: |code| code != 8,
    },
];

/// The rows, each with an agent of its own.
pub(crate) fn rows() -> impl Iterator<Item = (u32, &'static Row)> {
    (AGENT..).zip(ROWS)
}

/// The method's full name.
pub(crate) fn method(name: &str) -> String {
    format!("ccgateway.agent.v1.AgentState/{name}")
}
