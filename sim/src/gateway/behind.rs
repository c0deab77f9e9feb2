//! What is done to agents from behind: by other people, by the platform, by a test.

use std::time::Duration;

use tokio::time::Instant;

use super::Gateway;
use crate::{
    desk::Desk,
    recovery::{Recovery, SwitchOver},
    session::Session,
    sign_in::SignIn,
    view::AgentView,
};

/// Real time that a switch-over may take; more would not fit an [`Instant`] everywhere.
const LONGEST: Duration = Duration::from_secs(30 * 365 * 24 * 60 * 60);

// === impl Gateway ===

impl Gateway {
    pub(crate) fn view(&self, agent: u32) -> Option<AgentView> {
        self.with_known(agent, |desk| desk.view())
    }

    pub(crate) fn sign_in(&self, agent: u32) -> String {
        let mut records = self.lock();
        let sign_in = SignIn::from_behind();
        let guid = records.begin_session(agent, &sign_in, &self.options).current().to_owned();
        records.desk(agent).release(&self.options);
        guid
    }

    pub(crate) fn take_over(&self, agent: u32) -> Option<String> {
        self.with_session(agent, |_| ())?;
        Some(self.sign_in(agent))
    }

    pub(crate) fn switch_over(&self, agent: u32, time: Duration, recovery: Recovery) -> bool {
        let ends = Instant::now() + self.options.real(time).min(LONGEST);
        self.with_known(agent, |desk| desk.switch_over(SwitchOver { ends, recovery }))
            .unwrap_or(false)
    }

    pub(crate) fn sign_out(&self, agent: u32) {
        self.with_known(agent, |desk| desk.end_session(&self.options, true));
    }

    pub(crate) fn renew_guid(&self, agent: u32) -> Option<String> {
        self.with_session(agent, |session| session.renew(&self.options))
    }

    pub(crate) fn renew_on_next_reply(&self, agent: u32) {
        self.with_session(agent, Session::renew_on_next_reply);
    }

    pub(crate) fn expire_guids(&self, agent: u32) {
        self.with_session(agent, Session::expire);
    }

    pub(crate) fn start_call(&self, agent: u32) -> bool {
        let started = self.with_known(agent, |desk| {
            if !desk.session.as_ref().is_some_and(|s| s.settings.reachable()) {
                return false;
            }
            let events = desk.conduct.start_call();
            let started = !events.is_empty();
            desk.hold(events);
            desk.release(&self.options);
            started
        });
        started.unwrap_or(false)
    }

    pub(crate) fn end_call(&self, agent: u32) {
        self.with_known(agent, |desk| {
            let auto_idle = desk.session.as_ref().is_none_or(|s| s.settings.auto_idle);
            let events = desk.conduct.end_call(auto_idle);
            desk.hold(events);
            desk.release(&self.options);
        });
    }

    pub(crate) fn force_busy(&self, agent: u32) -> bool {
        self.with_known(agent, |desk| desk.force_busy(&self.options).is_ok()).unwrap_or(false)
    }

    pub(crate) fn force_idle(&self, agent: u32) -> bool {
        self.with_known(agent, |desk| desk.force_idle(&self.options).is_ok()).unwrap_or(false)
    }

    fn with_known<T>(&self, agent: u32, act: impl FnOnce(&mut Desk) -> T) -> Option<T> {
        let mut records = self.lock();
        let desk = records.desks.get_mut(&agent)?;
        desk.settle(&self.options);
        Some(act(desk))
    }

    fn with_session<T>(&self, agent: u32, act: impl FnOnce(&mut Session) -> T) -> Option<T> {
        self.with_known(agent, |desk| desk.session.as_mut().map(act))?
    }
}
