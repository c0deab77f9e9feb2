//! Everything the gateway keeps about one agent: session, state, events, open calls.

use std::{collections::VecDeque, sync::Arc};

use tokio::{sync::Notify, time::Instant};

use super::{
    agent::{Event, Refused},
    call::Call,
    interface::Interface,
    monitor::{Inspectors, Notices},
    options::{Options, Polls},
    previous_session::PreviousSession,
    recovery::SwitchOver,
    retcode::Retcode,
    session::{Session, Standing},
    sign_in::SignIn,
    state_machine::{RestRequest, StateMachine},
    view::AgentView,
};

/// Everything that is kept about one agent.
#[derive(Debug)]
pub(super) struct AgentRecord {
    agent: u32,
    pub(super) state_machine: StateMachine,
    pub(super) session: Option<Session>,
    previous: Option<PreviousSession>,
    /// A switch-over in progress; while it lasts, every request for the agent is refused.
    switch_over: Option<SwitchOver>,
    /// Events of calls that have not been answered yet: events can be polled only after the answer.
    held: Vec<Event>,
    queue: VecDeque<Event>,
    /// What the agent's session is told as an inspector's.
    notices: Arc<Notices>,
    /// Who monitors the agent.
    pub(super) inspectors: Inspectors,
    /// The call that the agent is in.
    pub(super) call: Option<Call>,
    /// Calls that have not been answered yet.
    open: Vec<Interface>,
    /// Wakes the agent's waiting poll.
    pub(super) changed: Arc<Notify>,
    /// Wakes a poll for all agents.
    any_changed: Arc<Notify>,
}

/// How a poll names the session that it asks for, and that may have ended.
#[derive(Clone, Copy, Debug)]
pub(super) enum Ended<'a> {
    Guid(&'a str),
    Session(u64),
    /// The agent's last one.
    Any,
}

// === impl AgentRecord ===

impl AgentRecord {
    pub(super) fn new(agent: u32, any_changed: Arc<Notify>) -> Self {
        let changed = Arc::<Notify>::default();
        Self {
            agent,
            state_machine: StateMachine::signed_out(),
            session: None,
            previous: None,
            switch_over: None,
            held: Vec::new(),
            queue: VecDeque::new(),
            notices: Notices::new([changed.clone(), any_changed.clone()]),
            inspectors: Inspectors::default(),
            call: None,
            open: Vec::new(),
            changed,
            any_changed,
        }
    }

    pub(super) fn view(&self) -> AgentView {
        let waiting = self.queue.len() + self.notices.len();
        AgentView::new(&self.state_machine, self.session.as_ref(), waiting)
    }

    /// Does everything that is due by now: ends a switch-over, reminds of the end of a rest, signs an
    /// idle agent out. Every access to a record calls it, since the gateway has no timers.
    pub(super) fn apply_due(&mut self, options: &Options) {
        let now = Instant::now();
        if let Some(over) = self.switch_over.take_if(|over| over.ends <= now) {
            self.recover(over);
        }
        if let Some(event) = self.state_machine.rest_timeout(now) {
            self.hold(vec![event]);
            self.release(options);
        }
        let limit = options.idle_sign_out.map(|limit| options.real(limit));
        let idle = self.switch_over.is_none()
            && self.session.as_ref().is_some_and(|session| {
                limit.is_some_and(|limit| now - session.last_heartbeat >= limit)
            });
        if idle {
            self.end_session(options, true);
        }
    }

    /// The standing of a request's Guid for this agent.
    pub(super) fn standing(&self, guid: &str, options: &Options) -> Standing {
        let now = self.session.as_ref();
        match now.map_or(Standing::Unknown, |s| s.standing(guid, options)) {
            Standing::Unknown => self.previous_standing(guid, options),
            standing => standing,
        }
    }

    /// Starts a session in place of the present one, if any. Its events are held back.
    pub(super) fn begin_session(
        &mut self,
        number: u64,
        sign_in: &SignIn,
        options: &Options,
    ) -> &Session {
        if !options.keep_events {
            self.queue.clear();
            self.held.clear();
        }
        if let Some(previous) = self.session.take() {
            let event = options.take_over_event.then(|| Event::shutdown(&previous.login_time));
            // A poll for all agents may have any agent's Guid, so the event is queued as usual.
            let (final_event, queued) =
                if options.polls == Polls::All { (None, event) } else { (event, None) };
            self.held.extend(queued);
            self.previous = Some(PreviousSession::taken_over(previous, final_event));
        }
        let (state_machine, events) = StateMachine::begin(sign_in.status);
        self.state_machine = state_machine;
        self.call = None;
        self.held.extend(events);
        self.switch_over = None;
        self.stop_monitoring();
        // The previous session's poll has to end. It must not conflict with the next session's poll.
        self.open.retain(|interface| *interface != Interface::Poll);
        self.wake();
        self.session.insert(Session::begin(number, sign_in, options))
    }

    /// Ends the session; if `announced`, with the event that reports it (`cec_07_1402`).
    pub(super) fn end_session(&mut self, options: &Options, announced: bool) {
        let Some(session) = self.session.take() else {
            return;
        };
        self.state_machine = StateMachine::signed_out();
        self.call = None;
        self.stop_monitoring();
        let event = Event::shutdown(&session.login_time);
        if announced {
            self.hold(vec![event]);
        } else {
            self.inspectors.tell(self.agent, &event.kind, options.event_queue);
        }
        self.previous = Some(PreviousSession::signed_out(session));
        self.release(options);
    }

    /// An inspector makes the agent busy; the event does not wait for the inspector's answer.
    pub(super) fn force_busy(&mut self, options: &Options) -> Result<(), Refused> {
        let events = self.state_machine.force_busy(options)?;
        self.hold(events);
        self.release(options);
        Ok(())
    }

    /// An inspector makes the agent idle.
    pub(super) fn force_idle(&mut self, options: &Options) -> Result<(), Refused> {
        let events = self.state_machine.force_idle(options)?;
        self.hold(events);
        self.release(options);
        Ok(())
    }

    /// An inspector makes the agent rest.
    pub(super) fn force_rest(
        &mut self,
        request: RestRequest,
        options: &Options,
    ) -> Result<(), Refused> {
        let events = self.state_machine.force_rest(request, options)?;
        self.hold(events);
        self.release(options);
        Ok(())
    }

    /// Begins a switch-over. Returns false if there is no session.
    pub(super) fn switch_over(&mut self, over: SwitchOver) -> bool {
        if self.session.is_none() {
            return false;
        }
        self.switch_over = Some(over);
        // The waiting poll has to end.
        self.wake();
        true
    }

    fn recover(&mut self, over: SwitchOver) {
        let Some(mut session) = self.session.take() else {
            return;
        };
        if let Some(code) = over.recovery.code() {
            self.state_machine = StateMachine::signed_out();
            self.stop_monitoring();
            self.previous = Some(PreviousSession::lost(session, code));
            return;
        }
        // Polls were refused until now, so the time does not count as idle.
        session.last_heartbeat = over.ends;
        self.session = Some(session);
    }

    /// Refuses a request during a switch-over (`cec_07_0580`).
    pub(super) fn check_no_switch_over(&self) -> Result<(), Refused> {
        match self.switch_over {
            Some(_) => Err(Refused(Retcode::SwitchingOver.into())),
            None => Ok(()),
        }
    }

    /// Holds events back until their call is answered.
    pub(super) fn hold(&mut self, events: Vec<Event>) {
        self.held.extend(events);
    }

    /// Moves the held events to the queue, so that they can be polled.
    pub(super) fn release(&mut self, options: &Options) {
        for event in self.held.drain(..) {
            self.inspectors.tell(self.agent, &event.kind, options.event_queue);
            self.queue.push_back(event);
        }
        while self.queue.len() > options.event_queue {
            tracing::warn!("an agent's event queue is full, the oldest event is dropped");
            self.queue.pop_front();
        }
        self.wake();
    }

    pub(super) fn next_event(&mut self) -> Option<Event> {
        self.queue.pop_front().or_else(|| self.notices.next())
    }

    /// Takes all events that wait, in order.
    pub(super) fn take_events(&mut self) -> impl Iterator<Item = Event> + '_ {
        std::iter::from_fn(|| self.next_event())
    }

    /// What the agent's session is told as an inspector's.
    pub(super) fn notices(&self) -> Arc<Notices> {
        self.notices.clone()
    }

    fn stop_monitoring(&mut self) {
        self.notices = Notices::new([self.changed.clone(), self.any_changed.clone()]);
    }

    /// The node of the present session, or of the last one.
    pub(super) fn node(&self) -> Option<u64> {
        let previous = || self.previous.as_ref().map(PreviousSession::node);
        self.session.as_ref().map(Session::node).or_else(previous)
    }

    /// An event for a poll whose session has ended. Without it the client would not learn why
    /// (inferred).
    pub(super) fn final_event(&mut self, of: Ended<'_>, options: &Options) -> Option<Event> {
        let previous = self.previous.as_ref();
        let standing = match of {
            Ended::Guid(guid) => self.previous_standing(guid, options),
            Ended::Session(number) => {
                previous.map_or(Standing::Unknown, |previous| previous.standing_of(number))
            }
            Ended::Any if self.session.is_none() => Standing::Ended,
            Ended::Any => Standing::Unknown,
        };
        match standing {
            Standing::TakenOver => self.previous.as_mut()?.take_final_event(),
            Standing::Ended if self.session.is_none() => self.next_event(),
            _ => None,
        }
    }

    /// The open call that conflicts with a new call of `interface` (`cec_07_1202`, `cec_07_1219`).
    pub(super) fn conflicting_call(&self, interface: Interface) -> Option<Interface> {
        let polls = interface == Interface::Poll;
        self.open.iter().copied().find(|open| {
            (interface.changes_state() && open.changes_state())
                || (polls && *open == Interface::Poll)
        })
    }

    pub(super) fn open(&mut self, interface: Interface) {
        self.open.push(interface);
    }

    pub(super) fn close(&mut self, interface: Interface) {
        if let Some(at) = self.open.iter().position(|open| *open == interface) {
            self.open.swap_remove(at);
        }
    }

    /// The present session, or the refusal for an agent that has none.
    pub(super) fn signed_in(&mut self, options: &Options) -> Result<&mut Session, Refused> {
        let refused = || Refused(options.codes.not_signed_in.clone());
        self.session.as_mut().ok_or_else(refused)
    }

    fn wake(&self) {
        self.changed.notify_waiters();
        self.any_changed.notify_waiters();
    }

    fn previous_standing(&self, guid: &str, options: &Options) -> Standing {
        let previous = self.previous.as_ref();
        previous.map_or(Standing::Unknown, |previous| previous.standing(guid, options))
    }
}
