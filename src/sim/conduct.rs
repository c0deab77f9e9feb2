//! Which requests an agent's state allows, and the events that follow.

use serde_json::json;
use tokio::time::Instant;

use super::{
    agent::{AgentState, Event, Refused},
    options::{Codes, Options},
};

/// An agent's state with what has been asked for but cannot begin yet.
#[derive(Debug)]
pub(super) struct Conduct {
    pub(super) state: AgentState,
    /// Why the agent is busy; 0 is "none given".
    pub(super) busy_reason: u16,
    /// A busy request that waits for the end of a call or of after-call work (client).
    pub(super) pending_busy: Option<u16>,
    /// When the agent is reminded that the rest is over.
    pub(super) rest_ends: Option<Instant>,
}

/// What a request to be busy says (`cec_07_1211`).
#[derive(Clone, Copy, Debug)]
pub(super) struct BusyRequest {
    pub(super) reason: u16,
    pub(super) prolong: bool,
}

/// What a request to rest says (`cec_07_1213`).
#[derive(Clone, Copy, Debug)]
pub(super) struct RestRequest {
    pub(super) ends: Instant,
    pub(super) cause: u16,
    pub(super) prolong: bool,
}

type Events = Result<Vec<Event>, Refused>;

// === impl Conduct ===

impl Conduct {
    pub(super) fn signed_out() -> Self {
        Self { state: AgentState::SignedOut, busy_reason: 0, pending_busy: None, rest_ends: None }
    }

    /// Begins a session with the sign-in's `status`. Ready comes before the state asked for: stated
    /// for loginex (`cec_07_1224`), inferred for the other sign-ins.
    pub(super) fn begin(status: u8) -> (Self, Vec<Event>) {
        let mut events = vec![Event::bare("AgentOther_InService"), Event::bare("AgentState_Ready")];
        let state = match status {
            3 => {
                events.push(Event::busy(0));
                AgentState::Busy
            }
            5 => {
                events.push(Event::bare("AgentState_Work"));
                AgentState::Working
            }
            _ => AgentState::Idle,
        };
        let conduct = Self { state, ..Self::signed_out() };
        (conduct, events)
    }

    /// Busy while busy needs both a reason and prolong (`cec_07_1211`). While talking and in
    /// after-call work the request waits (client); while resting it is refused (inferred).
    pub(super) fn say_busy(&mut self, request: BusyRequest, codes: &Codes) -> Events {
        match self.state {
            AgentState::Busy if request.reason == 0 || !request.prolong => {
                Err(Refused(codes.busy_again.clone()))
            }
            AgentState::Idle | AgentState::Busy => Ok(vec![self.become_busy(request.reason)]),
            AgentState::Talking | AgentState::Working => {
                self.pending_busy = Some(request.reason);
                Ok(Vec::new())
            }
            _ => Err(Refused(codes.state_refused.clone())),
        }
    }

    /// Only a busy agent can (`cec_07_1212`).
    pub(super) fn cancel_busy(&mut self, codes: &Codes) -> Events {
        self.leave(AgentState::Busy, "AgentState_CancelNotReady_Success", codes)
    }

    /// Ends busy and after-call work (`cec_07_1210`); while talking it withdraws a busy request
    /// that waits, without an event (client).
    pub(super) fn say_free(&mut self, options: &Options) -> Events {
        let codes = &options.codes;
        self.pending_busy = None;
        match self.state {
            AgentState::Busy => self.cancel_busy(codes),
            AgentState::Working => self.cancel_work(codes),
            AgentState::Talking => Ok(Vec::new()),
            AgentState::Resting if options.say_free_ends_rest => self.cancel_rest(codes),
            AgentState::Idle => match &codes.free_while_idle {
                Some(code) => Err(Refused(code.clone())),
                None => Ok(Vec::new()),
            },
            _ => Err(Refused(codes.state_refused.clone())),
        }
    }

    /// From idle and busy (`cec_07_1215`); elsewhere it is refused (inferred).
    pub(super) fn work(&mut self, codes: &Codes) -> Events {
        match self.state {
            AgentState::Idle | AgentState::Busy => {
                self.state = AgentState::Working;
                Ok(vec![Event::bare("AgentState_SetWork_Success")])
            }
            _ => Err(Refused(codes.state_refused.clone())),
        }
    }

    /// Only from after-call work (`cec_07_1216`); a busy request that waited begins then (client).
    pub(super) fn cancel_work(&mut self, codes: &Codes) -> Events {
        self.leave(AgentState::Working, "AgentState_CancelWork_Success", codes)
    }

    /// Resting already, it needs prolong (`cec_07_1213`). While talking and in after-call work it
    /// is refused: the rules of a rest that waits are undocumented.
    pub(super) fn rest(&mut self, request: RestRequest, codes: &Codes) -> Events {
        let allowed = match self.state {
            AgentState::Idle | AgentState::Busy => true,
            AgentState::Resting => request.prolong,
            _ => false,
        };
        if !allowed {
            return Err(Refused(codes.state_refused.clone()));
        }
        self.state = AgentState::Resting;
        self.rest_ends = Some(request.ends);
        Ok(vec![Event {
            kind: "AgentState_SetRest_Success",
            // The page's sample has the reason, though its table says "none" (cec_07_1348).
            content: json!({ "reason": request.cause.to_string() }),
        }])
    }

    /// Only a resting agent can (`cec_07_1214`).
    pub(super) fn cancel_rest(&mut self, codes: &Codes) -> Events {
        let events = self.leave(AgentState::Resting, "AgentState_CancelRest_Success", codes)?;
        self.rest_ends = None;
        Ok(events)
    }

    /// A call reaches the agent (`cec_07_1343`). An agent who was busy is busy again after it
    /// (inferred).
    pub(super) fn start_call(&mut self) -> Vec<Event> {
        if matches!(self.state, AgentState::SignedOut | AgentState::Talking) {
            return Vec::new();
        }
        if self.state == AgentState::Busy {
            self.pending_busy = Some(self.busy_reason);
        }
        self.state = AgentState::Talking;
        self.rest_ends = None;
        vec![Event::bare("AgentState_Busy")]
    }

    /// The call ends: into after-call work, or idle, or the busy that waited (client).
    pub(super) fn end_call(&mut self, auto_idle: bool) -> Vec<Event> {
        if self.state != AgentState::Talking {
            return Vec::new();
        }
        if !auto_idle {
            self.state = AgentState::Working;
            return vec![Event::bare("AgentState_Work")];
        }
        self.state = AgentState::Idle;
        let event = match self.pending_busy.take() {
            Some(reason) => self.become_busy(reason),
            None => Event::bare("AgentState_Ready"),
        };
        vec![event]
    }

    /// The reminder at the end of the rest; the agent goes on resting (`cec_07_1350`).
    pub(super) fn rest_timeout(&mut self, now: Instant) -> Option<Event> {
        self.rest_ends.take_if(|ends| *ends <= now)?;
        Some(Event::bare("AgentState_Rest_Timeout"))
    }

    fn leave(&mut self, from: AgentState, event: &'static str, codes: &Codes) -> Events {
        if self.state != from {
            return Err(Refused(codes.state_refused.clone()));
        }
        self.state = AgentState::Idle;
        let pending = self.pending_busy.take();
        let next = pending.map(|reason| self.become_busy(reason));
        Ok([Event::bare(event)].into_iter().chain(next).collect())
    }

    fn become_busy(&mut self, reason: u16) -> Event {
        self.state = AgentState::Busy;
        self.busy_reason = reason;
        Event::busy(reason)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn kinds(events: Vec<Event>) -> Vec<&'static str> {
        events.into_iter().map(|event| event.kind).collect()
    }

    fn busy(reason: u16, prolong: bool) -> BusyRequest {
        BusyRequest { reason, prolong }
    }

    #[test]
    fn free_while_talking_withdraws_the_busy_that_waits() {
        let options = Options::default();
        let (mut agent, _) = Conduct::begin(4);
        agent.start_call();
        assert_eq!(agent.say_busy(busy(0, false), &options.codes), Ok(vec![]));
        assert_eq!(agent.say_free(&options), Ok(vec![]));
        assert_eq!(kinds(agent.end_call(true)), ["AgentState_Ready"]);
    }

    #[test]
    fn busy_waits_for_the_end_of_after_call_work() {
        let codes = Codes::default();
        let (mut agent, _) = Conduct::begin(5);
        assert_eq!(agent.say_busy(busy(210, false), &codes), Ok(vec![]));
        let events = agent.cancel_work(&codes).unwrap();
        assert_eq!(
            kinds(events),
            ["AgentState_CancelWork_Success", "AgentState_SetNotReady_Success"]
        );
        assert_eq!(agent.busy_reason, 210);
    }

    #[test]
    fn states_refuse_what_they_do_not_allow() {
        let options = Options::default();
        let codes = &options.codes;
        let (mut agent, _) = Conduct::begin(4);
        let refused = Err(Refused("100-009".into()));
        assert_eq!(agent.cancel_busy(codes), refused);
        assert_eq!(agent.cancel_work(codes), refused);
        assert_eq!(agent.cancel_rest(codes), refused);
        assert_eq!(agent.say_free(&options), refused);
        agent.start_call();
        assert_eq!(agent.work(codes), refused);
    }
}
