//! The long poll (`cec_07_1274`).

use tokio::{
    sync::Notify,
    time::{Instant, sleep_until},
};

use super::{Gateway, Records};
use crate::{
    agent::Refused,
    options::{AuthMode, Options, Polls},
    record::Ended,
    reply::Reply,
    retcode::Retcode,
    session::Session,
};

/// A waiting poll; it is checked again at each wake-up.
struct Poll<'a> {
    agent: u32,
    guid: Option<&'a str>,
    deadline: Instant,
    /// The session that it began with.
    session: Option<u64>,
}

pub(super) enum Step {
    Answer(Reply),
    WaitUntil(Instant),
}

// === impl Poll ===

impl Poll<'_> {
    /// Whether another session has begun since the poll did.
    fn is_of_former_session(&self, present: Option<u64>) -> bool {
        present.is_some() && self.session.is_some_and(|session| present != Some(session))
    }

    /// How the session is known that the poll asked for. Without Guids, a poll belongs to the session
    /// that it has found.
    fn guid_of_ended(&self, options: &Options) -> Option<Ended<'_>> {
        match options.auth_mode {
            AuthMode::None => Some(self.session.map_or(Ended::Any, Ended::Session)),
            _ => self.guid.map(Ended::Guid),
        }
    }
}

// === impl Gateway ===

impl Gateway {
    /// Answers with the next event, or without one after the poll's waiting time.
    pub(super) async fn poll(&self, agent: u32, guid: Option<&str>) -> Reply {
        let mut poll = Poll {
            agent,
            guid,
            deadline: Instant::now() + self.options.real(self.options.poll_wait),
            session: None,
        };
        let changed = self.lock().record(agent).changed.clone();
        wait(&changed, || self.step(&mut poll)).await
    }

    fn step(&self, poll: &mut Poll<'_>) -> Step {
        let options = &self.options;
        let mut records = self.lock();
        if let Err(refused) = records.admit(poll, self) {
            let ended =
                if options.polls == Polls::Agent { poll.guid_of_ended(options) } else { None };
            let event =
                ended.and_then(|ended| records.record(poll.agent).final_event(ended, options));
            return Step::Answer(match event {
                Some(event) => Reply::event(options, poll.agent, Some(&event)),
                None => Reply::refusal(options, &refused.0),
            });
        }

        let now = Instant::now();
        let record = records.record(poll.agent);
        let event = record.next_event();
        if event.is_none() && now < poll.deadline {
            let rest_ends = record.state_machine.rest_ends;
            return Step::WaitUntil(
                rest_ends.map_or(poll.deadline, |ends| ends.min(poll.deadline)),
            );
        }
        let mut reply = Reply::event(options, poll.agent, event.as_ref());
        if let Some(session) = &mut record.session {
            session.last_heartbeat = now;
            announce(&mut reply, session, (poll.guid, options));
        }
        Step::Answer(reply)
    }
}

// === impl Records ===

impl Records {
    /// Checks whether a poll may begin or go on waiting. Its Guid is checked once, its session at every
    /// step.
    fn admit(&mut self, poll: &mut Poll<'_>, gateway: &Gateway) -> Result<(), Refused> {
        let options = &gateway.options;
        self.record(poll.agent).apply_due(options);
        self.record(poll.agent).check_no_switch_over()?;
        let present = self.record(poll.agent).session.as_ref().map(|s| s.number);
        if options.auth_mode == AuthMode::None && poll.is_of_former_session(present) {
            return Err(Refused(options.codes.guid_taken_over.clone()));
        }
        if present.is_none() || poll.session != present {
            self.authenticate(poll.agent, poll.guid, options)?;
        }
        poll.session = present;
        let Some(session) = &mut self.record(poll.agent).session else {
            return Ok(());
        };
        if session.push || options.polls != Polls::Agent {
            return Err(wrong_kind());
        }
        session.last_heartbeat = Instant::now();
        Ok(())
    }
}

/// Repeats `step` until it answers: at each change, and at the time that the last step named.
pub(super) async fn wait(changed: &Notify, mut step: impl FnMut() -> Step) -> Reply {
    loop {
        // Wait for changes before looking, so that no event is missed in between.
        let mut notified = std::pin::pin!(changed.notified());
        notified.as_mut().enable();
        match step() {
            Step::Answer(reply) => return reply,
            Step::WaitUntil(until) => tokio::select! {
                () = notified => {}
                () = sleep_until(until) => {}
            },
        }
    }
}

/// Adds a new Guid to a poll's answer, if one is due.
pub(super) fn announce(
    reply: &mut Reply,
    session: &mut Session,
    (presented, options): (Option<&str>, &Options),
) {
    let asked_for = session.announce_anywhere(options);
    let presented = presented.unwrap_or_default();
    if let Some(guid) = asked_for.or_else(|| session.announce(presented, options)) {
        reply.set_guid(&guid);
    }
}

/// The refusal of a poll of the kind that is switched off, or of an agent in push mode
/// (`cec_07_0580`).
pub(super) fn wrong_kind() -> Refused {
    Refused(Retcode::OtherEventMethod.into())
}
