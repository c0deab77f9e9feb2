//! Changes that come from other people, from the platform or from a test, and not from the agent.

use std::time::Duration;

use tokio::time::Instant;

use super::Gateway;
use crate::{
    agent::Event,
    call::Call,
    record::AgentRecord,
    recovery::{Recovery, SwitchOver},
    session::Session,
    settings::Settings,
    sign_in::SignIn,
    view::AgentView,
};

/// The longest switch-over in real time; a longer one may not fit into an [`Instant`].
const LONGEST: Duration = Duration::from_secs(30 * 365 * 24 * 60 * 60);

// === impl Gateway ===

impl Gateway {
    pub(crate) fn view(&self, agent: u32) -> Option<AgentView> {
        self.with_known(agent, |record| record.view())
    }

    pub(crate) fn set_password(&self, agent: u32, password: &str) {
        self.lock().passwords.insert(agent, password.to_owned());
    }

    pub(crate) fn sign_in(&self, agent: u32) -> String {
        let mut records = self.lock();
        let sign_in = SignIn::of_other_client();
        let guid = records.begin_session(agent, &sign_in, &self.options).current().to_owned();
        records.record(agent).release(&self.options);
        guid
    }

    pub(crate) fn take_over(&self, agent: u32) -> Option<String> {
        self.with_session(agent, |_| ())?;
        Some(self.sign_in(agent))
    }

    pub(crate) fn switch_over(&self, agent: u32, time: Duration, recovery: Recovery) -> bool {
        let ends = Instant::now() + self.options.real(time).min(LONGEST);
        self.with_known(agent, |record| record.switch_over(SwitchOver { ends, recovery }))
            .unwrap_or(false)
    }

    pub(crate) fn sign_out(&self, agent: u32) {
        self.with_known(agent, |record| record.end_session(&self.options, true));
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

    pub(crate) fn tell(&self, agent: u32, kind: &str, content: Option<&str>) -> bool {
        let told = self.with_known(agent, |record| {
            let is_signed_in = record.session.is_some();
            if is_signed_in {
                let kind = kind.to_owned().into();
                record.hold(vec![Event { kind, content: content.map(Into::into) }]);
                record.release(&self.options);
            }
            is_signed_in
        });
        told.unwrap_or(false)
    }

    pub(crate) fn start_call(&self, agent: u32) -> bool {
        let started = self.with_known(agent, |record| {
            let settings = record.session.as_ref().map(|session| session.settings.clone());
            let Some(settings) = settings.filter(Settings::reachable) else {
                return false;
            };
            let events = record.state_machine.start_call();
            let started = !events.is_empty();
            record.hold(events);
            if started && self.options.call_events {
                let call = record.call.insert(Call::begin(agent));
                let begun = call.begun(settings.auto_answer);
                record.hold(begun);
            }
            record.release(&self.options);
            started
        });
        started.unwrap_or(false)
    }

    pub(crate) fn end_call(&self, agent: u32) {
        self.with_known(agent, |record| {
            let auto_idle = record.session.as_ref().is_none_or(|s| s.settings.auto_idle);
            let events = record.state_machine.end_call(auto_idle);
            if let Some(call) = record.call.take() {
                record.hold(call.ended());
            }
            record.hold(events);
            record.release(&self.options);
        });
    }

    pub(crate) fn force_busy(&self, agent: u32) -> bool {
        self.with_known(agent, |record| record.force_busy(&self.options).is_ok()).unwrap_or(false)
    }

    pub(crate) fn force_idle(&self, agent: u32) -> bool {
        self.with_known(agent, |record| record.force_idle(&self.options).is_ok()).unwrap_or(false)
    }

    fn with_known<T>(&self, agent: u32, act: impl FnOnce(&mut AgentRecord) -> T) -> Option<T> {
        let mut records = self.lock();
        let record = records.by_id.get_mut(&agent)?;
        record.apply_due(&self.options);
        Some(act(record))
    }

    fn with_session<T>(&self, agent: u32, act: impl FnOnce(&mut Session) -> T) -> Option<T> {
        self.with_known(agent, |record| record.session.as_mut().map(act))?
    }
}
