//! Other clients that sign the bridge's agents in.
//!
//! Whoever signs an agent in by force ends the other's session. Two clients that both do so by
//! themselves would take the agent from each other for ever, so the bridge gives way: it waits
//! longer before each attempt, and after some attempts it leaves the agent to the other client
//! until a caller asks for it.

use std::{
    collections::HashMap,
    sync::{Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use tokio::time::Instant;

use super::Tenant;
use crate::{config, id::AgentId};

/// The agents whom another client has signed in lately.
#[derive(Debug)]
pub(super) struct TakeOvers {
    contests: Mutex<HashMap<AgentId, Contest>>,
    attempts_max: u32,
    first_pause: Duration,
}

#[derive(Clone, Copy, Debug)]
struct Contest {
    /// Sign-ins of the bridge that found the agent with another client, one after the other.
    attempts: u32,
    last: Instant,
    /// The gateway has said that somebody signed the agent out, and there was no attempt since.
    signed_out: bool,
}

/// When the bridge may sign an agent in by itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Permission {
    Now,
    /// After this long.
    After(Duration),
    /// Not before somebody asks for the agent, and then not before this long.
    GivenUp(Duration),
}

/// An agent that another client has taken from the bridge.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TakenOver {
    /// The agent.
    pub agent: AgentId,
    /// How often the bridge has tried to take the agent back.
    pub attempts: u32,
    /// Whether the bridge has given the agent up, until a caller asks for it.
    pub given_up: bool,
}

/// The longest pause, in first pauses: 60 s by default. Six attempts then take two minutes, after
/// which a gateway has ended a session that nobody uses (cec_07_1202).
const PAUSE_MAX: u32 = 12;
/// After this many first pauses without another attempt all is forgotten: ten minutes by default.
const CALM: u32 = 120;

impl Tenant {
    /// The agents whom another client has taken from the bridge lately.
    pub fn taken_over(&self) -> Vec<TakenOver> {
        self.take_overs.all(Instant::now())
    }
}

impl TakeOvers {
    pub(super) fn new(keep: &config::Keep) -> Self {
        Self {
            contests: Mutex::default(),
            attempts_max: keep.take_backs,
            first_pause: keep.take_back_pause,
        }
    }

    /// The gateway says that somebody or something else has signed the agent out.
    pub(super) fn signed_out(&self, agent: AgentId, now: Instant) {
        let fresh = Contest { attempts: 0, last: now, signed_out: true };
        self.contests().entry(agent).and_modify(|c| c.signed_out = true).or_insert(fresh);
    }

    /// The bridge has tried to sign the agent in, and found it `with_another` client or not. Gives
    /// whether the agent had been taken from the bridge.
    pub(super) fn attempted(&self, agent: AgentId, with_another: bool, now: Instant) -> bool {
        let mut contests = self.contests();
        contests.retain(|_, contest| !self.is_over(contest, now));
        let known = contests.get(&agent).copied();
        let taken = with_another || known.is_some_and(|contest| contest.signed_out);
        if taken {
            let attempts = known.map_or(0, |contest| contest.attempts).saturating_add(1);
            contests.insert(agent, Contest { attempts, last: now, signed_out: false });
        }
        taken
    }

    /// Whether the bridge may sign the agent in by itself.
    pub(super) fn permission(&self, agent: AgentId, now: Instant) -> Permission {
        let contests = self.contests();
        let Some(contest) = contests.get(&agent).filter(|contest| !self.is_over(contest, now))
        else {
            return Permission::Now;
        };
        let Some(doublings) = contest.attempts.checked_sub(1) else { return Permission::Now };
        let pauses = 1_u32.checked_shl(doublings).unwrap_or(PAUSE_MAX).min(PAUSE_MAX);
        let given_up = contest.attempts >= self.attempts_max;
        let pauses = if given_up { PAUSE_MAX } else { pauses };
        let left = (contest.last + self.first_pause * pauses).saturating_duration_since(now);
        match left {
            left if given_up => Permission::GivenUp(left),
            Duration::ZERO => Permission::Now,
            left => Permission::After(left),
        }
    }

    /// A caller has decided whose the agent is.
    pub(super) fn decided(&self, agent: AgentId) {
        self.contests().remove(&agent);
    }

    /// All that go on.
    pub(super) fn all(&self, now: Instant) -> Vec<TakenOver> {
        let contests = self.contests();
        let going_on = contests.iter().filter(|(_, contest)| !self.is_over(contest, now));
        let taken_over = |(agent, contest): (&AgentId, &Contest)| TakenOver {
            agent: *agent,
            attempts: contest.attempts,
            given_up: contest.attempts >= self.attempts_max,
        };
        let mut all: Vec<_> = going_on.map(taken_over).filter(|one| one.attempts > 0).collect();
        all.sort_unstable_by_key(|one| one.agent);
        all
    }

    fn is_over(&self, contest: &Contest, now: Instant) -> bool {
        now.saturating_duration_since(contest.last) >= self.first_pause * CALM
    }

    fn contests(&self) -> MutexGuard<'_, HashMap<AgentId, Contest>> {
        self.contests.lock().unwrap_or_else(PoisonError::into_inner)
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
        TakeOvers { contests: Mutex::default(), attempts_max: 6, first_pause: 5 * SECOND }
    }

    #[test]
    fn pauses_double_over_attempts_until_the_agent_is_given_up() {
        let (take_overs, mut now) = (take_overs(), Instant::now());
        let mut seconds = Vec::new();
        let given_up = loop {
            match take_overs.permission(agent(), now) {
                Permission::Now => {}
                Permission::After(pause) => {
                    seconds.push(pause.as_secs());
                    now += pause;
                    assert_eq!(take_overs.permission(agent(), now), Permission::Now);
                }
                Permission::GivenUp(pause) => break pause,
            }
            assert!(take_overs.attempted(agent(), true, now));
        };
        assert_eq!(seconds, [5, 10, 20, 40, 60]);
        assert_eq!(given_up, 60 * SECOND);
        let expected = TakenOver { agent: agent(), attempts: 6, given_up: true };
        assert_eq!(take_overs.all(now), [expected]);

        // A caller's attempt a minute later starts another minute, and no new series of attempts.
        now += given_up;
        assert_eq!(take_overs.permission(agent(), now), Permission::GivenUp(Duration::ZERO));
        take_overs.attempted(agent(), true, now);
        assert_eq!(take_overs.permission(agent(), now), Permission::GivenUp(60 * SECOND));
        take_overs.decided(agent());
        assert_eq!(take_overs.permission(agent(), now), Permission::Now);
    }

    #[test]
    fn an_attempt_that_finds_no_other_client_counts_only_after_a_foreign_sign_out() {
        let (take_overs, now) = (take_overs(), Instant::now());
        assert!(!take_overs.attempted(agent(), false, now));
        assert_eq!(take_overs.all(now), []);

        take_overs.signed_out(agent(), now);
        assert_eq!(take_overs.permission(agent(), now), Permission::Now);
        assert!(take_overs.attempted(agent(), false, now));
        assert!(!take_overs.attempted(agent(), false, now), "one sign-out, one attempt");
        assert_eq!(take_overs.permission(agent(), now), Permission::After(5 * SECOND));
    }

    #[test]
    fn ten_calm_minutes_end_it() {
        let (take_overs, now) = (take_overs(), Instant::now());
        for _ in 0..6 {
            take_overs.attempted(agent(), true, now);
        }
        let later = now + 600 * SECOND;
        assert_eq!(take_overs.permission(agent(), later), Permission::Now);
        assert_eq!(take_overs.all(later), []);
        take_overs.attempted(agent(), true, later);
        assert_eq!(take_overs.permission(agent(), later), Permission::After(5 * SECOND));
    }
}
