//! What an agent is doing, as the gateway counts it and as its events tell it.

use std::fmt;

/// What an agent is doing (cec_07_1431).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AgentState {
    /// The gateway does not know, or gave a number that is in no public list.
    Unknown,
    /// Signed in; listed as unused.
    SignedIn,
    /// Signed out.
    SignedOut,
    /// Busy (not ready), at the agent's wish.
    Busy,
    /// Idle (ready).
    Idle,
    /// In after-call work.
    AfterCallWork,
    /// Handling a call.
    Talking,
    /// Resting.
    Resting,
    /// About to rest when what it does now has ended.
    PreRest,
}

impl AgentState {
    /// The state behind a number of agentstatus (cec_07_1431).
    pub fn from_code(code: i32) -> Self {
        match code {
            1 => Self::SignedIn,
            2 => Self::SignedOut,
            3 => Self::Busy,
            // 6 is listed as "same as idle".
            4 | 6 => Self::Idle,
            5 => Self::AfterCallWork,
            7 => Self::Talking,
            8 => Self::Resting,
            9 => Self::PreRest,
            _ => Self::Unknown,
        }
    }

    /// The number of agentstatus for it; that of "idle" for what is listed as the same.
    pub fn code(self) -> i32 {
        match self {
            Self::Unknown => 0,
            Self::SignedIn => 1,
            Self::SignedOut => 2,
            Self::Busy => 3,
            Self::Idle => 4,
            Self::AfterCallWork => 5,
            Self::Talking => 7,
            Self::Resting => 8,
            Self::PreRest => 9,
        }
    }

    /// The state that an event of this type tells of, if it tells of one.
    ///
    /// Mind `AgentState_Busy`: it means "handling a call" (cec_07_1343), which several public
    /// clients take for not-ready. Not-ready is `SetNotReady`.
    pub fn after(event_type: &str) -> Option<Self> {
        Some(match event_type {
            "AgentState_Ready"
            | "AgentState_Force_Ready"
            | "AgentState_CancelNotReady_Success"
            | "AgentState_CancelRest_Success"
            | "AgentState_CancelWork_Success" => Self::Idle,
            "AgentState_SetNotReady_Success" | "AgentState_Force_SetNotReady" => Self::Busy,
            "AgentState_SetRest_Success" => Self::Resting,
            "AgentState_SetWork_Success" | "AgentState_Work" => Self::AfterCallWork,
            "AgentState_Busy" => Self::Talking,
            "AgentOther_ShutdownService" => Self::SignedOut,
            _ => return None,
        })
    }
}

impl fmt::Display for AgentState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Unknown => "in a state that it does not know",
            Self::SignedIn => "signed in",
            Self::SignedOut => "signed out",
            Self::Busy => "busy",
            Self::Idle => "idle",
            Self::AfterCallWork => "in after-call work",
            Self::Talking => "in a call",
            Self::Resting => "resting",
            Self::PreRest => "about to rest",
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn busy_in_an_events_name_means_handling_a_call() {
        assert_eq!(AgentState::after("AgentState_Busy"), Some(AgentState::Talking));
        assert_eq!(AgentState::after("AgentState_SetNotReady_Success"), Some(AgentState::Busy));
        assert_eq!(AgentState::after("AgentState_Rest_Timeout"), None, "the agent stays in rest");
        assert_eq!(AgentState::after("AgentOther_InService"), None);
    }

    #[test]
    fn numbers_that_nobody_lists_are_unknown() {
        assert_eq!(AgentState::from_code(7), AgentState::Talking);
        assert_eq!(AgentState::from_code(6), AgentState::Idle);
        for code in (1..=9).filter(|code| *code != 6) {
            assert_eq!(AgentState::from_code(code).code(), code);
        }
        for unlisted in [-1, 0, 10, i32::MAX] {
            assert_eq!(AgentState::from_code(unlisted), AgentState::Unknown);
        }
    }
}
