//! Polls that are refused because another poll for the agent is open (000-007), again and again.
//!
//! The other poll may be one of another replica that this one cannot reach; then the session is good. Or
//! another client has taken the agent over. A gateway that looks at open polls before it looks at the Guid
//! says 000-007 in both cases. Then one request that is not a poll tells whose the agent is.

use std::time::Duration;

use tokio::time::{Instant, sleep};

use super::{Tenant, single_poll::Finding};
use crate::{config::AuthMode, gateway::AGENT_STATUS, id::AgentId, session::Session};

/// The polls of one agent that were refused because another one was open, since the last good one.
#[derive(Debug, Default)]
pub(super) struct ContestedPolls {
    count: u32,
    checks: u32,
    /// Not before this time it is asked again whose the agent is.
    next_check: Option<Instant>,
}

/// How many such polls are taken for a coincidence: two of this bridge's polls may have crossed.
const COINCIDENCES: u32 = 1;
/// The pause after a check. It doubles with each check that finds the session good.
const PAUSE_FIRST: Duration = Duration::from_secs(5);
/// How often the pause is doubled: up to 80 s.
const DOUBLINGS_MAX: u32 = 4;

/// How long a new Guid may take to be stored that an answer to a call has brought.
pub(super) const CROSSING: Duration = Duration::from_secs(1);

impl ContestedPolls {
    /// Notes such a poll. Returns whether it is time to ask whose the agent is.
    pub(super) fn note(&mut self, now: Instant) -> bool {
        self.count = self.count.saturating_add(1);
        let is_too_early = self.next_check.is_some_and(|next| now < next);
        self.count > COINCIDENCES && !is_too_early
    }

    /// Notes what a check found.
    pub(super) fn checked(&mut self, found: Option<Finding>, now: Instant) {
        self.next_check = Some(now + PAUSE_FIRST * 2_u32.pow(self.checks.min(DOUBLINGS_MAX)));
        self.checks = self.checks.saturating_add(u32::from(found == Some(Finding::Alive)));
    }
}

impl Tenant {
    /// Asks for the agent's status with this session, to find out whether the session is good. `None`:
    /// that is not known. A check takes the place of its agent's poll, so there are never more requests
    /// than polls, and at most a quarter of `limits.requests` are checks.
    ///
    /// An answer to a call may bring a new Guid while a check with the former one is under way. So a Guid
    /// counts as refused only if the newest one is, too.
    pub(super) async fn check_session(&self, agent: AgentId, session: &Session) -> Option<Finding> {
        match self.check_once(agent, session).await {
            Some(Finding::GuidRefused) => {
                sleep(CROSSING).await;
                let newest = self.newest_session(agent).await?;
                self.check_once(agent, &newest).await
            }
            found => found,
        }
    }

    async fn check_once(&self, agent: AgentId, session: &Session) -> Option<Finding> {
        let config = &self.config;
        // Without a Guid, every client gets the same answer.
        if config.auth_mode == AuthMode::None || !AGENT_STATUS.is_in(config.edition) {
            return None;
        }
        let _place = self.renewals.try_acquire().ok()?;
        let mut reply = self.ask_unasked(&AGENT_STATUS, agent, session).await.ok()?;
        let answered_by = reply.answered_by;
        self.store_renewals(agent, session, &mut reply).await;
        match reply.into_verdict(session.guid.node()) {
            Ok(_) => Some(Finding::Alive),
            Err(_) if self.may_be_good_elsewhere(session, answered_by) => None,
            Err(error) => Some(Finding::of(&error)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn an_agent_is_checked_after_the_second_such_poll_and_then_ever_more_rarely() {
        let (mut polls, begin) = (ContestedPolls::default(), Instant::now());
        let mut checked = Vec::new();
        for half_second in 0..2 * 400 {
            let now = begin + Duration::from_millis(500) * half_second;
            if polls.note(now) {
                checked.push(now - begin);
                polls.checked(Some(Finding::Alive), now);
            }
        }
        let seconds: Vec<_> = checked.iter().map(Duration::as_secs_f64).collect();
        assert_eq!(seconds, [0.5, 5.5, 15.5, 35.5, 75.5, 155.5, 235.5, 315.5, 395.5]);
    }

    #[tokio::test(start_paused = true)]
    async fn a_check_that_found_nothing_is_made_again_soon() {
        let (mut polls, mut now) = (ContestedPolls::default(), Instant::now());
        assert!(!polls.note(now));
        for _ in 0..10 {
            assert!(polls.note(now));
            polls.checked(None, now);
            assert!(!polls.note(now));
            now += PAUSE_FIRST;
        }
    }
}
