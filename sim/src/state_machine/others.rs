//! Changes of an agent's state that the agent did not request.

use tokio::time::Instant;

use super::{Events, Pending, RestRequest, StateMachine};
use crate::{
    agent::{AgentState, Event, FORCED, Refused},
    options::Options,
};

// === impl StateMachine ===

impl StateMachine {
    /// An inspector makes the agent busy (`cec_07_2405`). While the agent is talking or in after-call
    /// work this waits, as the agent's own request does (inferred).
    pub(crate) fn force_busy(&mut self, options: &Options) -> Events {
        match self.state {
            AgentState::Idle => Ok(vec![self.become_busy(FORCED)]),
            AgentState::Talking | AgentState::Working => Ok(self.wait(Pending::Busy(FORCED))),
            _ => Err(Refused(options.codes.target_state.clone())),
        }
    }

    /// An inspector makes the agent rest (client). While the agent is talking or in after-call work this
    /// waits or is refused, as the agent's own request (inferred).
    pub(crate) fn force_rest(&mut self, request: RestRequest, options: &Options) -> Events {
        match self.state {
            AgentState::Idle | AgentState::Busy => Ok(vec![self.become_resting(request)]),
            AgentState::Talking | AgentState::Working if options.rest_waits => {
                Ok(self.wait(Pending::Rest(request)))
            }
            _ => Err(Refused(options.codes.target_state.clone())),
        }
    }

    /// An inspector makes the agent idle (`cec_07_2406`). A waiting request is dropped.
    pub(crate) fn force_idle(&mut self, options: &Options) -> Events {
        match self.state {
            AgentState::Busy | AgentState::Working | AgentState::Resting => {
                *self = Self { state: AgentState::Idle, ..Self::signed_out() };
                Ok(vec![Event::bare("AgentState_Force_Ready")])
            }
            _ => Err(Refused(options.codes.target_state.clone())),
        }
    }

    /// A call reaches the agent (`cec_07_1343`). An agent who was busy is busy again after it
    /// (inferred).
    pub(crate) fn start_call(&mut self) -> Vec<Event> {
        if matches!(self.state, AgentState::SignedOut | AgentState::Talking) {
            return Vec::new();
        }
        if self.state == AgentState::Busy {
            self.pending = Some(Pending::Busy(self.busy_reason));
        }
        self.state = AgentState::Talking;
        self.rest_ends = None;
        vec![Event::bare("AgentState_Busy")]
    }

    /// The call ends. The agent is then in after-call work, or idle, or a waiting request begins
    /// (client).
    pub(crate) fn end_call(&mut self, auto_idle: bool) -> Vec<Event> {
        if self.state != AgentState::Talking {
            return Vec::new();
        }
        if !auto_idle {
            self.state = AgentState::Working;
            return vec![Event::bare("AgentState_Work")];
        }
        self.state = AgentState::Idle;
        let event = self.begin_pending().unwrap_or_else(|| Event::bare("AgentState_Ready"));
        vec![event]
    }

    /// The event that reminds the agent of the end of its rest. The agent goes on resting
    /// (`cec_07_1350`).
    pub(crate) fn rest_timeout(&mut self, now: Instant) -> Option<Event> {
        self.rest_ends.take_if(|ends| *ends <= now)?;
        Some(Event::bare("AgentState_Rest_Timeout"))
    }
}
