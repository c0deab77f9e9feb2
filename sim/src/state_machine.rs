//! The state machine of an agent: which requests each state allows, and the events that they cause.

mod others;

use std::time::Duration;

use tokio::time::Instant;

use super::{
    agent::{AgentState, Event, Refused},
    options::Options,
};

/// An agent's state, with a request that waits for the end of that state.
#[derive(Debug)]
pub(super) struct StateMachine {
    pub(super) state: AgentState,
    /// Why the agent is busy; 0 means that no reason was given.
    pub(super) busy_reason: u16,
    /// The request that begins when the present state ends; the last one, if there were several.
    pending: Option<Pending>,
    /// When the agent is reminded that the rest is over.
    pub(super) rest_ends: Option<Instant>,
}

/// A waiting request.
#[derive(Clone, Copy, Debug)]
enum Pending {
    Busy(u16),
    Rest(RestRequest),
}

/// The parameters of a saybusy (`cec_07_1211`).
#[derive(Clone, Copy, Debug)]
pub(super) struct BusyRequest {
    pub(super) reason: u16,
    pub(super) prolong: bool,
}

/// The parameters of a rest (`cec_07_1213`).
#[derive(Clone, Copy, Debug)]
pub(super) struct RestRequest {
    /// How long to rest, in real time.
    pub(super) time: Duration,
    pub(super) cause: u16,
    pub(super) prolong: bool,
}

type Events = Result<Vec<Event>, Refused>;

// === impl StateMachine ===

impl StateMachine {
    pub(super) fn signed_out() -> Self {
        Self { state: AgentState::SignedOut, busy_reason: 0, pending: None, rest_ends: None }
    }

    /// Begins a session with the sign-in's `status`. The Ready event comes before that of the requested
    /// state; this is documented for loginex (`cec_07_1224`) and inferred for the other sign-ins.
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
        let state_machine = Self { state, ..Self::signed_out() };
        (state_machine, events)
    }

    /// The state that agentstatus shows.
    pub(super) fn shown(&self) -> AgentState {
        match self.pending {
            Some(Pending::Rest(_)) => AgentState::PreRest,
            _ => self.state,
        }
    }

    /// Whether a busy request waits.
    pub(super) fn busy_pends(&self) -> bool {
        matches!(self.pending, Some(Pending::Busy(_)))
    }

    /// A busy agent can be made busy again only with both a reason and prolong (`cec_07_1211`). While
    /// the agent is talking or in after-call work the request waits (client). While it is resting the
    /// request is refused (inferred).
    pub(super) fn say_busy(&mut self, request: BusyRequest, options: &Options) -> Events {
        match self.state {
            AgentState::Busy if request.reason == 0 || !request.prolong => {
                Err(Refused(options.codes.busy_again.clone()))
            }
            AgentState::Idle | AgentState::Busy => Ok(vec![self.become_busy(request.reason)]),
            AgentState::Talking | AgentState::Working => {
                Ok(self.wait(Pending::Busy(request.reason)))
            }
            AgentState::Resting if options.busy_waits_for_rest => {
                Ok(self.wait(Pending::Busy(request.reason)))
            }
            _ => Err(state_refused(options)),
        }
    }

    /// Ends busy; allowed only for a busy agent (`cec_07_1212`).
    pub(super) fn cancel_busy(&mut self, options: &Options) -> Events {
        self.leave(AgentState::Busy, "AgentState_CancelNotReady_Success", options)
    }

    /// Ends busy and after-call work (`cec_07_1210`). While the agent is talking it only drops a waiting
    /// request, without an event (client).
    pub(super) fn say_free(&mut self, options: &Options) -> Events {
        match self.state {
            AgentState::Resting if !options.say_free_ends_rest => Err(state_refused(options)),
            AgentState::Idle => match &options.codes.free_while_idle {
                Some(code) => Err(Refused(code.clone())),
                None => Ok(Vec::new()),
            },
            _ => {
                self.pending = None;
                self.free(options)
            }
        }
    }

    fn free(&mut self, options: &Options) -> Events {
        match self.state {
            AgentState::Busy => self.cancel_busy(options),
            AgentState::Working => self.cancel_work(options),
            AgentState::Resting => self.cancel_rest(options),
            AgentState::Talking => Ok(Vec::new()),
            _ => Err(state_refused(options)),
        }
    }

    /// Begins after-call work from idle or busy (`cec_07_1215`); in other states it is refused
    /// (inferred).
    pub(super) fn work(&mut self, options: &Options) -> Events {
        match self.state {
            AgentState::Idle | AgentState::Busy => {
                self.state = AgentState::Working;
                Ok(vec![Event::bare("AgentState_SetWork_Success")])
            }
            _ => Err(state_refused(options)),
        }
    }

    /// Ends after-call work (`cec_07_1216`); a waiting request then begins (client).
    pub(super) fn cancel_work(&mut self, options: &Options) -> Events {
        self.leave(AgentState::Working, "AgentState_CancelWork_Success", options)
    }

    /// Begins a rest. A resting agent needs prolong (`cec_07_1213`). While the agent is talking or in
    /// after-call work the request is refused or waits, by the options: the state pre-rest exists
    /// (`cec_07_1431`), but its rules are undocumented.
    pub(super) fn rest(&mut self, request: RestRequest, options: &Options) -> Events {
        match self.state {
            AgentState::Idle | AgentState::Busy => Ok(vec![self.become_resting(request)]),
            AgentState::Resting if request.prolong => Ok(vec![self.become_resting(request)]),
            AgentState::Talking | AgentState::Working if options.rest_waits => {
                Ok(self.wait(Pending::Rest(request)))
            }
            _ => Err(state_refused(options)),
        }
    }

    /// Ends rest; allowed only for a resting agent (`cec_07_1214`).
    pub(super) fn cancel_rest(&mut self, options: &Options) -> Events {
        let events = self.leave(AgentState::Resting, "AgentState_CancelRest_Success", options)?;
        self.rest_ends = None;
        Ok(events)
    }

    fn leave(&mut self, from: AgentState, event: &'static str, options: &Options) -> Events {
        if self.state != from {
            return Err(state_refused(options));
        }
        self.state = AgentState::Idle;
        if options.cancel_drops_pending {
            self.pending = None;
        }
        Ok([Event::bare(event)].into_iter().chain(self.begin_pending()).collect())
    }

    fn wait(&mut self, request: Pending) -> Vec<Event> {
        self.pending = Some(request);
        Vec::new()
    }

    fn begin_pending(&mut self) -> Option<Event> {
        Some(match self.pending.take()? {
            Pending::Busy(reason) => self.become_busy(reason),
            Pending::Rest(request) => self.become_resting(request),
        })
    }

    fn become_busy(&mut self, reason: u16) -> Event {
        self.state = AgentState::Busy;
        self.busy_reason = reason;
        Event::busy(reason)
    }

    fn become_resting(&mut self, request: RestRequest) -> Event {
        self.state = AgentState::Resting;
        self.rest_ends = Some(Instant::now() + request.time);
        Event::resting(request.cause)
    }
}

fn state_refused(options: &Options) -> Refused {
    Refused(options.codes.state_refused.clone())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn kinds(events: Vec<Event>) -> Vec<String> {
        events.into_iter().map(|event| event.kind.into_owned()).collect()
    }

    fn busy(reason: u16, prolong: bool) -> BusyRequest {
        BusyRequest { reason, prolong }
    }

    fn rest() -> RestRequest {
        RestRequest { time: Duration::from_secs(60), cause: 0, prolong: false }
    }

    #[test]
    fn free_while_talking_drops_the_waiting_busy_request() {
        let options = Options::default();
        let (mut agent, _) = StateMachine::begin(4);
        agent.start_call();
        assert_eq!(agent.say_busy(busy(0, false), &options), Ok(vec![]));
        assert_eq!(agent.say_free(&options), Ok(vec![]));
        assert_eq!(kinds(agent.end_call(true)), ["AgentState_Ready"]);
    }

    #[test]
    fn busy_waits_for_the_end_of_after_call_work() {
        let options = Options::default();
        let (mut agent, _) = StateMachine::begin(5);
        assert_eq!(agent.say_busy(busy(210, false), &options), Ok(vec![]));
        let events = agent.cancel_work(&options).unwrap();
        assert_eq!(
            kinds(events),
            ["AgentState_CancelWork_Success", "AgentState_SetNotReady_Success"]
        );
        assert_eq!(agent.busy_reason, 210);
    }

    #[test]
    fn states_refuse_what_they_do_not_allow() {
        let options = Options::default();
        let (mut agent, _) = StateMachine::begin(4);
        let refused = Err(Refused("100-009".into()));
        assert_eq!(agent.cancel_busy(&options), refused);
        assert_eq!(agent.cancel_work(&options), refused);
        assert_eq!(agent.cancel_rest(&options), refused);
        assert_eq!(agent.say_free(&options), refused);
        agent.start_call();
        assert_eq!(agent.work(&options), refused);
    }

    #[test]
    fn rest_can_wait_for_the_end_of_the_call() {
        let options = Options { rest_waits: true, ..Options::default() };
        for (auto_idle, at_end) in
            [(true, "AgentState_SetRest_Success"), (false, "AgentState_Work")]
        {
            let (mut agent, _) = StateMachine::begin(4);
            agent.start_call();
            assert_eq!(agent.rest(rest(), &options), Ok(vec![]));
            assert_eq!((agent.shown(), agent.state), (AgentState::PreRest, AgentState::Talking));
            assert_eq!(agent.cancel_rest(&options), Err(Refused("100-009".into())));
            assert_eq!(kinds(agent.end_call(auto_idle)), [at_end]);
        }
    }

    #[test]
    fn the_last_waiting_request_replaces_the_earlier_ones() {
        let options = Options { rest_waits: true, ..Options::default() };
        let (mut agent, _) = StateMachine::begin(5);
        agent.say_busy(busy(0, false), &options).unwrap();
        agent.rest(rest(), &options).unwrap();
        assert_eq!(
            kinds(agent.cancel_work(&options).unwrap()),
            ["AgentState_CancelWork_Success", "AgentState_SetRest_Success"]
        );
        assert_eq!(agent.shown(), AgentState::Resting);
    }

    #[test]
    fn busy_can_wait_for_the_end_of_the_rest() {
        for (cancel_drops_pending, then) in [(false, AgentState::Busy), (true, AgentState::Idle)] {
            let options =
                Options { busy_waits_for_rest: true, cancel_drops_pending, ..Options::default() };
            let (mut agent, _) = StateMachine::begin(4);
            agent.rest(rest(), &options).unwrap();
            assert_eq!(agent.say_busy(busy(0, false), &options), Ok(vec![]));
            assert_eq!(agent.say_free(&options), Err(Refused("100-009".into())));
            agent.cancel_rest(&options).unwrap();
            assert_eq!(agent.state, then);
        }
    }
}
