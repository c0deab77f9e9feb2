//! Sessions that are lost again and again, mostly to another client.
//!
//! Whoever signs an agent in by force ends the other's session. Two clients that both do so by
//! themselves would take the agent from each other for ever, so the bridge gives way: it waits
//! longer before each attempt, and after some attempts it leaves the agent to the other client
//! until a caller asks for it.

use std::{
    collections::HashMap,
    mem,
    sync::{Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use tokio::time::Instant;

use super::Tenant;
use crate::{config, id::AgentId, session::SessionState};

/// The agents whose sessions were lost lately, and those whom another client has signed in.
#[derive(Debug)]
pub(super) struct TakeOvers {
    losses: Mutex<HashMap<AgentId, Losses>>,
    take_backs: u32,
    first_pause: Duration,
}

/// What has happened to one agent's session, since it was calm.
#[derive(Clone, Copy, Debug)]
struct Losses {
    /// Sessions that the bridge's keeper has had made anew, whatever ended them.
    recoveries: u32,
    /// Sign-ins of the bridge that found the agent with another client.
    contested: u32,
    /// The last of either.
    last: Instant,
    /// The gateway has said that somebody signed the agent out, and there was no sign-in since.
    signed_out: bool,
}

/// What came of a sign-in that found the agent with another client.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TakeOver {
    /// The bridge has the agent.
    TakenBack,
    /// The other client keeps it.
    Refused,
}

/// When a keeper may have its agent signed in again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Permission {
    Now,
    /// After this long.
    After(Duration),
    /// Not before somebody asks for the agent.
    GivenUp,
}

/// An agent that another client has taken from the bridge.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TakenOver {
    /// The agent.
    pub agent: AgentId,
    /// Sign-ins of the bridge that found the agent with another client.
    pub attempts: u32,
    /// Whether the bridge has given the agent up, until a caller asks for it.
    pub given_up: bool,
}

/// The longest pause, in first pauses: 60 s by default. Six attempts then take two minutes, after
/// which a gateway has ended a session that nobody uses (cec_07_1202).
const PAUSE_MAX: u32 = 12;
/// Without another loss for this time, and for this many first pauses, all is forgotten.
const CALM: Duration = Duration::from_secs(600);
const CALM_PAUSES: u32 = 120;
/// A session that was lost is given up after this many times `keep.take_backs` recoveries in a row
/// that did not last, although no other client was found.
const RECOVERIES_FACTOR: u32 = 4;

impl Tenant {
    /// The agents whom another client has taken from the bridge lately.
    pub fn taken_over(&self) -> Vec<TakenOver> {
        let mut all = self.take_overs.all(Instant::now());
        for one in &mut all {
            // A call may have had the agent signed in since.
            let state = self.session_state(one.agent);
            one.given_up &= !state.is_some_and(SessionState::is_polled);
        }
        all
    }
}

impl TakeOvers {
    pub(super) fn new(keep: &config::Keep) -> Self {
        Self {
            losses: Mutex::default(),
            take_backs: keep.take_backs,
            first_pause: keep.take_back_pause,
        }
    }

    /// The gateway says that somebody or something else has signed the agent out.
    pub(super) fn signed_out(&self, agent: AgentId, now: Instant) {
        self.update(agent, now, |losses| losses.signed_out = true);
    }

    /// A keeper is about to have its agent's session made anew.
    pub(super) fn recovering(&self, agent: AgentId, now: Instant) {
        self.update(agent, now, |losses| {
            losses.recoveries = losses.recoveries.saturating_add(1);
            losses.last = now;
        });
    }

    /// The bridge has tried to sign the agent in, and found it `with_another` client or not;
    /// `asked`: for a call. Gives whether the agent had been taken from the bridge.
    pub(super) fn attempted(
        &self,
        agent: AgentId,
        with_another: bool,
        asked: bool,
        now: Instant,
    ) -> bool {
        let mut taken = with_another;
        self.update(agent, now, |losses| {
            taken |= mem::take(&mut losses.signed_out);
            if !taken {
                // The other client has left.
                losses.contested = 0;
                return;
            }
            // Whoever asks for an agent that was given up gives the keeper one more attempt.
            let before =
                if asked { losses.contested.min(self.take_backs - 1) } else { losses.contested };
            losses.contested = before.saturating_add(1);
            losses.last = now;
        });
        taken
    }

    /// Whether a keeper may have its agent signed in.
    pub(super) fn permission(&self, agent: AgentId, now: Instant) -> Permission {
        let Some(losses) = self.get(agent, now) else { return Permission::Now };
        if losses.contested >= self.take_backs
            || losses.recoveries >= self.take_backs * RECOVERIES_FACTOR
        {
            return Permission::GivenUp;
        }
        match self.left(&losses, losses.contested.max(losses.recoveries), now) {
            Duration::ZERO => Permission::Now,
            left => Permission::After(left),
        }
    }

    /// How long a call has to leave the agent to another client that has it.
    pub(super) fn pause(&self, agent: AgentId, now: Instant) -> Option<Duration> {
        let losses = self.get(agent, now)?;
        Some(self.left(&losses, losses.contested, now)).filter(|left| !left.is_zero())
    }

    /// A caller has decided whose the agent is.
    pub(super) fn decided(&self, agent: AgentId) {
        self.losses().remove(&agent);
    }

    /// All whom another client has, or had lately.
    fn all(&self, now: Instant) -> Vec<TakenOver> {
        let losses = self.losses();
        let lately = losses.iter().filter(|(_, losses)| !self.is_over(losses, now));
        let taken_over = |(agent, losses): (&AgentId, &Losses)| TakenOver {
            agent: *agent,
            attempts: losses.contested,
            given_up: losses.contested >= self.take_backs,
        };
        let mut all: Vec<_> = lately.map(taken_over).filter(|one| one.attempts > 0).collect();
        all.sort_unstable_by_key(|one| one.agent);
        all
    }

    /// What is left of the pause after so many sign-ins in a row.
    fn left(&self, losses: &Losses, sign_ins: u32, now: Instant) -> Duration {
        let Some(doublings) = sign_ins.checked_sub(1) else { return Duration::ZERO };
        let pauses = 1_u32.checked_shl(doublings).unwrap_or(PAUSE_MAX).min(PAUSE_MAX);
        (losses.last + self.first_pause * pauses).saturating_duration_since(now)
    }

    fn get(&self, agent: AgentId, now: Instant) -> Option<Losses> {
        let losses = self.losses();
        losses.get(&agent).filter(|losses| !self.is_over(losses, now)).copied()
    }

    fn update(&self, agent: AgentId, now: Instant, change: impl FnOnce(&mut Losses)) {
        let mut all = self.losses();
        all.retain(|_, losses| !self.is_over(losses, now));
        let none = Losses { recoveries: 0, contested: 0, last: now, signed_out: false };
        let mut losses = all.get(&agent).copied().unwrap_or(none);
        change(&mut losses);
        if losses.recoveries > 0 || losses.contested > 0 || losses.signed_out {
            all.insert(agent, losses);
        } else {
            all.remove(&agent);
        }
    }

    fn is_over(&self, losses: &Losses, now: Instant) -> bool {
        let calm = CALM.max(self.first_pause * CALM_PAUSES);
        now.saturating_duration_since(losses.last) >= calm
    }

    fn losses(&self) -> MutexGuard<'_, HashMap<AgentId, Losses>> {
        self.losses.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::id::DEFAULT_AGENT_IDS;

    const SECOND: Duration = Duration::from_secs(1);

    fn agent() -> AgentId {
        AgentId::parse("1001", &DEFAULT_AGENT_IDS).unwrap()
    }

    fn take_overs() -> TakeOvers {
        TakeOvers { losses: Mutex::default(), take_backs: 6, first_pause: 5 * SECOND }
    }

    /// The pauses before a keeper's attempts in seconds, until the agent is given up.
    fn pauses(
        take_overs: &TakeOvers,
        now: &mut Instant,
        mut attempt: impl FnMut(Instant),
    ) -> Vec<u64> {
        let mut seconds = Vec::new();
        loop {
            match take_overs.permission(agent(), *now) {
                Permission::Now => attempt(*now),
                Permission::After(pause) => {
                    seconds.push(pause.as_secs());
                    *now += pause;
                }
                Permission::GivenUp => return seconds,
            }
        }
    }

    #[test]
    fn pauses_double_over_attempts_until_the_agent_is_given_up() {
        let (take_overs, mut now) = (take_overs(), Instant::now());
        let seconds = pauses(&take_overs, &mut now, |now| {
            assert!(take_overs.attempted(agent(), true, false, now));
        });
        assert_eq!(seconds, [5, 10, 20, 40, 60]);
        let expected = TakenOver { agent: agent(), attempts: 6, given_up: true };
        assert_eq!(take_overs.all(now), [expected]);
        assert_eq!(take_overs.pause(agent(), now), Some(60 * SECOND));

        // A caller's attempt a minute later is one, and starts no new series of a keeper's.
        now += 60 * SECOND;
        assert_eq!(take_overs.pause(agent(), now), None);
        take_overs.attempted(agent(), true, true, now);
        assert_eq!(take_overs.pause(agent(), now), Some(60 * SECOND));
        assert_eq!(take_overs.permission(agent(), now), Permission::GivenUp);
        take_overs.decided(agent());
        assert_eq!(take_overs.permission(agent(), now), Permission::Now);
    }

    #[test]
    fn sessions_that_are_lost_again_and_again_are_made_anew_ever_more_slowly() {
        let (take_overs, mut now) = (take_overs(), Instant::now());
        let seconds = pauses(&take_overs, &mut now, |now| {
            take_overs.recovering(agent(), now);
            assert!(!take_overs.attempted(agent(), false, false, now));
        });
        assert_eq!(seconds[..6], [5, 10, 20, 40, 60, 60]);
        assert_eq!(seconds.len(), 23);
        assert_eq!(take_overs.all(now), [], "no other client was seen");
        assert_eq!(take_overs.pause(agent(), now), None, "a call need not wait");
    }

    #[test]
    fn an_attempt_that_finds_no_other_client_counts_only_after_a_foreign_sign_out() {
        let (take_overs, now) = (take_overs(), Instant::now());
        assert!(!take_overs.attempted(agent(), false, false, now));
        assert_eq!(take_overs.all(now), []);

        take_overs.signed_out(agent(), now);
        assert_eq!(take_overs.permission(agent(), now), Permission::Now);
        assert!(take_overs.attempted(agent(), false, false, now));
        assert_eq!(take_overs.permission(agent(), now), Permission::After(5 * SECOND));
        assert!(!take_overs.attempted(agent(), false, false, now), "one sign-out, one attempt");
        assert_eq!(take_overs.all(now), [], "the other client has left");
    }

    #[test]
    fn ten_calm_minutes_end_it() {
        let (take_overs, now) = (take_overs(), Instant::now());
        for _ in 0..6 {
            take_overs.attempted(agent(), true, false, now);
        }
        let later = now + CALM;
        assert_eq!(take_overs.permission(agent(), later), Permission::Now);
        assert_eq!(take_overs.all(later), []);
        take_overs.signed_out(agent(), later);
        assert!(take_overs.attempted(agent(), false, false, later));
        assert_eq!(take_overs.permission(agent(), later), Permission::After(5 * SECOND));
    }
}
