//! The poll for the events of all agents of a node (client).

use tokio::time::Instant;

use super::{
    Gateway, Records,
    poll::{Step, announce, wait, wrong_kind},
};
use crate::{
    agent::{Event, Refused},
    options::{AuthMode, Options, Polls},
    reply::Reply,
    session::Standing,
};

/// A waiting poll for all agents; it is checked again at each wake-up.
struct PollAll<'a> {
    guid: Option<&'a str>,
    deadline: Instant,
    /// The session of the Guid that the poll was sent with.
    caller: Option<Caller>,
}

#[derive(Clone, Copy, PartialEq, Eq)]
struct Caller {
    agent: u32,
    session: u64,
    node: u64,
}

// === impl Gateway ===

impl Gateway {
    /// Answers with all events that wait, or without any after the poll's waiting time.
    pub(super) async fn poll_all(&self, guid: Option<&str>) -> Reply {
        let deadline = Instant::now() + self.options.real(self.options.poll_wait);
        let mut poll = PollAll { guid, deadline, caller: None };
        let changed = self.lock().changed.clone();
        wait(&changed, || self.step_all(&mut poll)).await
    }

    fn step_all(&self, poll: &mut PollAll<'_>) -> Step {
        let options = &self.options;
        let mut records = self.lock();
        let caller = match records.admit_all(poll, options) {
            Ok(caller) => caller,
            Err(refused) => return Step::Answer(Reply::refusal(options, &refused.0)),
        };
        let events = records.gather(caller.node);
        if events.is_empty() && Instant::now() < poll.deadline {
            let rests = records.by_id.values().filter_map(|record| record.state_machine.rest_ends);
            return Step::WaitUntil(rests.chain([poll.deadline]).min().unwrap_or(poll.deadline));
        }
        let mut reply = Reply::events(options, &events);
        if let Some(session) = &mut records.record(caller.agent).session {
            announce(&mut reply, session, (poll.guid, options));
        }
        Step::Answer(reply)
    }
}

// === impl Records ===

impl Records {
    /// Checks whether a poll may begin or go on waiting. It may begin with any agent's Guid, and go on
    /// while that agent's session lasts. It keeps all agents of the node signed in.
    fn admit_all(&mut self, poll: &mut PollAll<'_>, options: &Options) -> Result<Caller, Refused> {
        for record in self.by_id.values_mut() {
            record.apply_due(options);
        }
        let caller = match poll.caller.filter(|caller| self.lasts(*caller)) {
            Some(caller) => caller,
            None => self.caller(poll.guid, options)?,
        };
        self.record(caller.agent).check_no_switch_over()?;
        if options.polls != Polls::All {
            return Err(wrong_kind());
        }
        poll.caller = Some(caller);
        for session in self.by_id.values_mut().filter_map(|record| record.session.as_mut()) {
            if session.node() == caller.node && !session.push {
                session.last_heartbeat = Instant::now();
            }
        }
        Ok(caller)
    }

    /// The session that a Guid belongs to.
    fn caller(&mut self, guid: Option<&str>, options: &Options) -> Result<Caller, Refused> {
        let codes = &options.codes;
        if options.auth_mode == AuthMode::None {
            return self.any_session().ok_or_else(|| Refused(codes.not_signed_in.clone()));
        }
        let guid = guid.ok_or_else(|| Refused(codes.guid_missing.clone()))?;
        let knows = |agent: &u32| {
            self.by_id.get(agent).is_some_and(|d| d.standing(guid, options) != Standing::Unknown)
        };
        let agent = self.by_id.keys().copied().find(knows);
        let agent = agent.ok_or_else(|| Refused(codes.guid_unknown.clone()))?;
        self.authenticate(agent, Some(guid), options)?;
        let session = self.record(agent).signed_in(options)?;
        Ok(Caller { agent, session: session.number, node: session.node() })
    }

    /// Some session, for a poll that names none.
    fn any_session(&self) -> Option<Caller> {
        let sessions = self.by_id.iter().filter_map(|(agent, record)| {
            let session = record.session.as_ref()?;
            Some(Caller { agent: *agent, session: session.number, node: session.node() })
        });
        sessions.min_by_key(|caller| caller.agent)
    }

    fn lasts(&self, caller: Caller) -> bool {
        let session = self.by_id.get(&caller.agent).and_then(|record| record.session.as_ref());
        session.map(|session| session.number) == Some(caller.session)
    }

    /// Takes the events of all agents of a node, except for agents in push mode. They are sorted by
    /// agent; those of one agent keep their order.
    fn gather(&mut self, node: u64) -> Vec<(u32, Event)> {
        let mut gathered = Vec::new();
        for (agent, record) in &mut self.by_id {
            let pushed = record.session.as_ref().is_some_and(|session| session.push);
            if record.node() == Some(node) && !pushed {
                gathered.extend(record.take_events().map(|event| (*agent, event)));
            }
        }
        // The sort is stable, so each agent's events keep their order.
        gathered.sort_by_key(|(agent, _)| *agent);
        gathered
    }
}
