//! How often a lost session may be made anew, and an agent taken back from another client: pauses
//! that grow, and an end.

use std::{mem, time::Duration};

use tokio::time::Instant;

use super::{
    AgentRecord, AgentRecords, Known,
    sweep::{Found, Ticket},
};
use crate::{config, id::AgentId};

/// The part of a record that counts an agent's lost sessions since the last calm time.
#[derive(Clone, Copy, Debug)]
pub(super) struct Losses {
    /// How often the keeper has had the session made anew, whatever ended it.
    recoveries: u32,
    /// How many of the bridge's sign-ins found the agent signed in by another client.
    contested: u32,
    /// How many in a row found a session of the bridge's own, whose Guid was lost.
    guidless: u32,
    /// When any of them was last counted.
    last: Instant,
    /// The gateway has said that somebody signed the agent out, and no sign-in has been tried
    /// since.
    is_signed_out: bool,
    /// When an answer was lost that may have brought the Guid of a session of the bridge's own.
    guid_lost: Option<Instant>,
    /// How many such answers in a row.
    guids_lost: u32,
    /// The session that a call has asked the gateway to end, by its [`made`](crate::session::Session::made), and when that
    /// request came to nothing that is known.
    sign_out: Option<(u64, Instant)>,
    ticket: Option<Ticket>,
}

/// What [`AgentRecords::lost`] counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::tenant) enum Loss {
    /// The gateway says that somebody other than the bridge has signed the agent out.
    SignedOut,
    /// An answer was lost, or could not be read, that may have brought the Guid of a session of the
    /// bridge's own. A sign-in then finds the agent signed in, although no other client is there.
    Guid,
    /// The answer to a sign-out was lost. The session was `made` with this version.
    SignOut { made: u64 },
    /// A keeper is about to have its agent's session made anew.
    Recovering,
    /// The bridge has tried to sign the agent in. `with_another`: another client had signed it in.
    /// `asked`: a call needed the sign-in.
    Attempted { with_another: bool, asked: bool },
}

/// Why calls must not have an agent signed in yet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::tenant) enum Pause {
    /// For so long the agent is left to another client.
    Another(Duration),
    /// For so long the gateway is not asked again whether it has ended a session whose Guid was lost.
    Guidless(Duration),
}

/// What a sign-in has found at the gateway.
enum Present {
    Nobody,
    /// A session of the bridge's own, whose Guid was lost.
    Own,
    Another,
}

/// When a keeper may have its agent signed in again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::tenant) enum Permission {
    Now,
    /// After this long.
    After(Duration),
    /// Not before a caller asks for the agent.
    GivenUp,
}

/// How often an agent is taken back, and after which pauses.
#[derive(Clone, Copy, Debug)]
pub(in crate::tenant) struct TakeBacks {
    pub(in crate::tenant) most: u32,
    pub(in crate::tenant) first_pause: Duration,
}

/// An agent that another client has taken over from the bridge.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TakenOver {
    /// The agent.
    pub agent: AgentId,
    /// How many of the bridge's sign-ins found the agent signed in by another client.
    pub attempts: u32,
    /// Whether the bridge has given the agent up, until a caller asks for it.
    pub given_up: bool,
}

/// The longest pause, as a multiple of the first pause: 60 s by default. Six attempts then take two
/// minutes. After that time a gateway has ended a session that nobody uses (cec_07_1202).
const PAUSE_MAX: u32 = 12;
/// After this time without a loss (or [`CALM_PAUSES`] first pauses, if that is longer) the counts
/// begin at zero again.
pub(in crate::tenant) const CALM: Duration = Duration::from_secs(600);
const CALM_PAUSES: u32 = 120;
/// If no other client was found, a session is given up after this many times `keep.take_backs`
/// recoveries in a row that did not last.
const RECOVERIES_FACTOR: u32 = 4;

/// How long the gateway may keep a session that nobody uses, as one whose Guid was lost: it ends two minutes after its last
/// request (cec_07_1202), and the gateway need not notice at once.
pub(in crate::tenant) const GUIDLESS_MAX: Duration = Duration::from_secs(150);

/// For each agent with a first loss, up to `LOOKS_MAX` older entries are checked, and removed if
/// they have ended. The check stops after `LIVE_LOOKS` entries that have not ended.
const LOOKS_MAX: usize = 16;
const LIVE_LOOKS: usize = 2;

// === impl AgentRecords ===

impl AgentRecords {
    /// Counts a loss. Returns whether another client had taken the agent from the bridge.
    pub(in crate::tenant) fn lost(&self, agent: AgentId, loss: Loss, now: Instant) -> bool {
        let (rules, mut known) = (self.take_backs(), self.known());
        let losses = known.losses(agent).filter(|losses| !rules.is_over(losses, now));
        let mut losses = losses.unwrap_or_else(|| Losses::none(now));
        let was_taken = losses.on(loss, now, rules);
        if losses.ticket.is_none() && !losses.is_none() {
            known.drop_old_losses(now, rules);
            losses.ticket = Some(known.lossy.add(agent));
        }
        known.set_losses(agent, Some(losses).filter(|losses| !losses.is_none()));
        was_taken
    }

    /// Resets an agent's counts, because a caller has decided who uses the agent.
    pub(in crate::tenant) fn decided(&self, agent: AgentId) {
        let mut known = self.known();
        if known.losses(agent).is_some() {
            known.set_losses(agent, None);
        }
    }

    /// Notes that the Guid of the agent's newest session is known: the gateway was asked at this time, and has
    /// brought it, or taken it for good.
    pub(in crate::tenant) fn guid_known(&self, agent: AgentId, asked: Instant) {
        let mut known = self.known();
        let was_lost = |losses: &Losses| losses.guid_lost.is_some_and(|at| at <= asked);
        if let Some(losses) = known.losses(agent).filter(was_lost) {
            let losses = Losses { guid_lost: None, guids_lost: 0, guidless: 0, ..losses };
            known.set_losses(agent, Some(losses).filter(|losses| !losses.is_none()));
        }
    }

    /// When the answer to a sign-out was lost that may have ended the session which was `made` with this version.
    pub(in crate::tenant) fn unclear_sign_out(&self, agent: AgentId, made: u64) -> Option<Instant> {
        let (of, at) = self.known().losses(agent)?.sign_out?;
        (of == made).then_some(at)
    }

    /// Notes that the gateway was asked at this time, and has taken the agent's session for good: no sign-out from before
    /// has ended it.
    pub(in crate::tenant) fn was_good(&self, agent: AgentId, asked: Instant) {
        self.with(agent, |record| record.was_good(asked));
    }

    /// Whether a keeper may have its agent signed in, and when.
    pub(in crate::tenant) fn permission(&self, agent: AgentId, now: Instant) -> Permission {
        let rules = self.take_backs();
        let losses = self.known().losses(agent).filter(|losses| !rules.is_over(losses, now));
        losses.map_or(Permission::Now, |losses| rules.permission(&losses, now))
    }

    /// Why, and how long, calls must not have the agent signed in; `None` if they may.
    pub(in crate::tenant) fn pause(&self, agent: AgentId, now: Instant) -> Option<Pause> {
        let rules = self.take_backs();
        let losses = self.known().losses(agent).filter(|losses| !rules.is_over(losses, now))?;
        let pause = match losses.found(true, now, rules) {
            Present::Own if losses.guidless > 0 => {
                let left = rules.left(&losses, losses.contested.max(losses.guidless), now);
                Pause::Guidless(left.min(losses.own_left(now)))
            }
            _ => Pause::Another(rules.left(&losses, losses.contested, now)),
        };
        Some(pause).filter(|pause| !pause.left().is_zero())
    }

    /// All agents that another client has, or had lately, in the order of their ids.
    pub(in crate::tenant) fn taken_over(&self, now: Instant) -> Vec<TakenOver> {
        let (rules, known) = (self.take_backs(), self.known());
        let losses =
            known.contested.iter().filter_map(|agent| Some((*agent, known.losses(*agent)?)));
        let lately = losses.filter(|(_, losses)| !rules.is_over(losses, now));
        let taken_over = lately.map(|(agent, losses)| {
            // A call may have had the agent signed in since then.
            let record = known.records.get(&agent);
            let status = record.and_then(|record| record.session.status());
            let is_polled = status.is_some_and(crate::session::SessionState::is_polled);
            TakenOver {
                agent,
                attempts: losses.contested,
                given_up: losses.contested >= rules.most && !is_polled,
            }
        });
        taken_over.collect()
    }
}

impl AgentRecord {
    /// See [`AgentRecords::was_good`].
    pub(super) fn was_good(&mut self, asked: Instant) {
        let is_older = |losses: &Losses| losses.sign_out.is_some_and(|(_, at)| at <= asked);
        if let Some(losses) = self.losses.as_mut().filter(|losses| is_older(losses)) {
            losses.sign_out = None;
        }
        self.losses.take_if(|losses| losses.is_none());
    }
}

impl Known {
    fn losses(&self, agent: AgentId) -> Option<Losses> {
        self.records.get(&agent)?.losses.as_deref().copied()
    }

    fn set_losses(&mut self, agent: AgentId, losses: Option<Losses>) {
        if losses.is_some_and(|losses| losses.contested > 0) {
            self.contested.insert(agent);
        } else {
            self.contested.remove(&agent);
        }
        self.records.entry(agent).or_default().losses = losses.map(Box::new);
        self.tidy(agent);
    }

    /// Checks a few agents and removes losses that have ended, so that memory does not grow. The
    /// queue is in no order of time, since each loss prolongs the time of its entry.
    fn drop_old_losses(&mut self, now: Instant, rules: TakeBacks) {
        let mut live = 0;
        for _ in 0..LOOKS_MAX {
            let Some((agent, ticket)) = self.lossy.pop() else { return };
            match self.losses_at(agent, ticket, now, rules) {
                Found::Ended => self.set_losses(agent, None),
                Found::Stale => {}
                Found::Live => {
                    self.lossy.rotate(agent, ticket);
                    live += 1;
                }
            }
            if live == LIVE_LOOKS {
                return;
            }
        }
    }

    fn losses_at(&self, agent: AgentId, ticket: Ticket, now: Instant, rules: TakeBacks) -> Found {
        match self.losses(agent).filter(|losses| losses.ticket == Some(ticket)) {
            Some(losses) if rules.is_over(&losses, now) => Found::Ended,
            Some(_) => Found::Live,
            None => Found::Stale,
        }
    }
}

// === impl Losses ===

impl Losses {
    fn none(now: Instant) -> Self {
        Self {
            recoveries: 0,
            contested: 0,
            guidless: 0,
            last: now,
            is_signed_out: false,
            guid_lost: None,
            guids_lost: 0,
            sign_out: None,
            ticket: None,
        }
    }

    fn is_none(&self) -> bool {
        self.recoveries == 0
            && self.contested == 0
            && self.guidless == 0
            && !self.is_signed_out
            && self.guid_lost.is_none()
            && self.sign_out.is_none()
    }

    /// For how long the gateway may still keep a session whose Guid was lost.
    fn own_left(&self, now: Instant) -> Duration {
        let end = self.guid_lost.map(|at| at + GUIDLESS_MAX);
        end.map_or(Duration::ZERO, |end| end.saturating_duration_since(now))
    }

    /// Whose the session is that a sign-in has found.
    fn found(&self, with_another: bool, now: Instant, rules: TakeBacks) -> Present {
        let may_last = !self.own_left(now).is_zero();
        match with_another {
            false => Present::Nobody,
            // With a limit: another client may take the agent from each session whose Guid is lost.
            true if self.guids_lost <= rules.most && may_last => Present::Own,
            true => Present::Another,
        }
    }

    /// Counts a loss. Returns whether another client had taken the agent from the bridge.
    fn on(&mut self, loss: Loss, now: Instant, rules: TakeBacks) -> bool {
        match loss {
            Loss::SignedOut => {
                self.is_signed_out = true;
                (self.guid_lost, self.guids_lost, self.guidless) = (None, 0, 0);
                false
            }
            Loss::Guid => {
                (self.guid_lost, self.last) = (Some(now), now);
                self.guids_lost = self.guids_lost.saturating_add(1);
                false
            }
            Loss::SignOut { made } => {
                (self.sign_out, self.last) = (Some((made, now)), now);
                false
            }
            Loss::Recovering => {
                self.recoveries = self.recoveries.saturating_add(1);
                self.last = now;
                false
            }
            Loss::Attempted { with_another, asked } => {
                let found = self.found(with_another, now, rules);
                let is_signed_out = mem::take(&mut self.is_signed_out);
                match found {
                    Present::Own if !is_signed_out => {
                        (self.guidless, self.last) = (self.guidless.saturating_add(1), now);
                        return false;
                    }
                    Present::Nobody if !is_signed_out => {
                        // The other client has left.
                        (self.guid_lost, self.guids_lost, self.guidless) = (None, 0, 0);
                        self.contested = 0;
                        return false;
                    }
                    Present::Own | Present::Another | Present::Nobody => {}
                }
                // Attempts for callers count up to the point of giving up, and not beyond it.
                let most = if asked { rules.most - 1 } else { u32::MAX };
                self.contested = self.contested.min(most).saturating_add(1);
                self.last = now;
                true
            }
        }
    }
}

// === impl Pause ===

impl Pause {
    /// How much of it is left.
    fn left(self) -> Duration {
        match self {
            Self::Another(left) | Self::Guidless(left) => left,
        }
    }
}

// === impl TakeBacks ===

impl TakeBacks {
    pub(in crate::tenant) fn new(keep: &config::Keep) -> Self {
        Self { most: keep.take_backs, first_pause: keep.take_back_pause }
    }

    fn permission(self, losses: &Losses, now: Instant) -> Permission {
        if losses.contested >= self.most || losses.recoveries >= self.most * RECOVERIES_FACTOR {
            return Permission::GivenUp;
        }
        let sign_ins = losses.contested.max(losses.recoveries).max(losses.guidless);
        match self.left(losses, sign_ins, now) {
            Duration::ZERO => Permission::Now,
            left => Permission::After(left),
        }
    }

    /// What is left of the pause after this many sign-ins in a row.
    fn left(self, losses: &Losses, sign_ins: u32, now: Instant) -> Duration {
        let Some(doublings) = sign_ins.checked_sub(1) else { return Duration::ZERO };
        let pauses = 1_u32.checked_shl(doublings).unwrap_or(PAUSE_MAX).min(PAUSE_MAX);
        (losses.last + self.first_pause * pauses).saturating_duration_since(now)
    }

    fn is_over(self, losses: &Losses, now: Instant) -> bool {
        let calm = CALM.max(self.first_pause * CALM_PAUSES);
        now.saturating_duration_since(losses.last) >= calm
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

    fn agents() -> AgentRecords {
        AgentRecords::of_test(8, 8)
    }

    fn attempted(with_another: bool, asked: bool) -> Loss {
        Loss::Attempted { with_another, asked }
    }

    /// The pauses before a keeper's attempts in seconds, until the agent is given up.
    fn pauses(
        agents: &AgentRecords,
        now: &mut Instant,
        mut attempt: impl FnMut(Instant),
    ) -> Vec<u64> {
        let mut seconds = Vec::new();
        loop {
            match agents.permission(agent(), *now) {
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
        let (agents, mut now) = (agents(), Instant::now());
        let seconds = pauses(&agents, &mut now, |now| {
            assert!(agents.lost(agent(), attempted(true, false), now));
        });
        assert_eq!(seconds, [5, 10, 20, 40, 60]);
        let expected = TakenOver { agent: agent(), attempts: 6, given_up: true };
        assert_eq!(agents.taken_over(now), [expected]);
        assert_eq!(agents.pause(agent(), now), Some(Pause::Another(60 * SECOND)));

        // An attempt for a caller a minute later restarts the pause, but gives the keeper no new
        // attempts.
        now += 60 * SECOND;
        assert_eq!(agents.pause(agent(), now), None);
        agents.lost(agent(), attempted(true, true), now);
        assert_eq!(agents.pause(agent(), now), Some(Pause::Another(60 * SECOND)));
        assert_eq!(agents.permission(agent(), now), Permission::GivenUp);
        agents.decided(agent());
        assert_eq!(agents.permission(agent(), now), Permission::Now);
    }

    #[test]
    fn sessions_that_are_lost_again_and_again_are_made_anew_ever_more_slowly() {
        let (agents, mut now) = (agents(), Instant::now());
        let seconds = pauses(&agents, &mut now, |now| {
            agents.lost(agent(), Loss::Recovering, now);
            assert!(!agents.lost(agent(), attempted(false, false), now));
        });
        assert_eq!(seconds[..6], [5, 10, 20, 40, 60, 60]);
        assert_eq!(seconds.len(), 23);
        assert_eq!(agents.taken_over(now), [], "no other client was seen");
        assert_eq!(agents.pause(agent(), now), None, "a call need not wait");
    }

    #[test]
    fn an_attempt_that_finds_no_other_client_counts_only_after_a_foreign_sign_out() {
        let (agents, now) = (agents(), Instant::now());
        assert!(!agents.lost(agent(), attempted(false, false), now));
        assert_eq!(agents.taken_over(now), []);

        agents.lost(agent(), Loss::SignedOut, now);
        assert_eq!(agents.permission(agent(), now), Permission::Now);
        assert!(agents.lost(agent(), attempted(false, false), now));
        assert_eq!(agents.permission(agent(), now), Permission::After(5 * SECOND));
        assert!(!agents.lost(agent(), attempted(false, false), now), "one sign-out, one attempt");
        assert_eq!(agents.taken_over(now), [], "the other client has left");
    }

    /// The gateway says that somebody signed the agent out, and the next sign-in finds that another
    /// client has it.
    #[test]
    fn a_sign_out_and_the_client_that_is_found_after_it_are_one_loss() {
        let (agents, now) = (agents(), Instant::now());
        agents.lost(agent(), Loss::SignedOut, now);
        assert!(agents.lost(agent(), attempted(true, false), now));
        assert_eq!(agents.taken_over(now)[0].attempts, 1);
        assert_eq!(agents.permission(agent(), now), Permission::After(5 * SECOND));
    }

    #[test]
    fn a_session_whose_guid_was_lost_is_nobody_elses_for_as_long_as_it_can_last() {
        let (agents, now) = (agents(), Instant::now());
        agents.lost(agent(), Loss::Guid, now);
        let late = now + 149 * SECOND;
        assert!(!agents.lost(agent(), attempted(true, false), late));
        assert_eq!(agents.taken_over(late), []);
        // The gateway is not asked again at once.
        assert_eq!(agents.permission(agent(), late), Permission::After(5 * SECOND));
        // No longer than it can last.
        assert_eq!(agents.pause(agent(), late), Some(Pause::Guidless(SECOND)));
        assert_eq!(agents.pause(agent(), late + SECOND), None, "nobody else was found");
        // However often it is asked.
        for second in 1..100 {
            assert!(!agents.lost(agent(), attempted(true, false), now + second * SECOND));
        }
        agents.decided(agent());
        agents.lost(agent(), Loss::Guid, now);
        assert!(!agents.lost(agent(), attempted(true, false), late));
        let later = now + 154 * SECOND;
        assert!(agents.lost(agent(), attempted(true, false), later));
        assert_eq!(agents.taken_over(later)[0].attempts, 1);
        assert_eq!(agents.pause(agent(), later), Some(Pause::Another(5 * SECOND)));
    }

    #[test]
    fn a_sign_in_or_a_sign_out_ends_a_session_whose_guid_was_lost() {
        let (agents, now) = (agents(), Instant::now());
        agents.lost(agent(), Loss::Guid, now);
        agents.guid_known(agent(), now - SECOND);
        assert_eq!(agents.len(), 1, "it was asked before that");
        agents.guid_known(agent(), now);
        assert_eq!(agents.len(), 0);
        assert!(agents.lost(agent(), attempted(true, false), now));
        agents.decided(agent());
        agents.lost(agent(), Loss::Guid, now);
        agents.lost(agent(), Loss::SignedOut, now);
        assert!(agents.lost(agent(), attempted(true, false), now));
        assert_eq!(agents.taken_over(now)[0].attempts, 1);
    }

    #[test]
    fn a_sign_out_whose_answer_was_lost_may_have_ended_that_session_until_it_is_known_to_be_good() {
        let (agents, now) = (agents(), Instant::now());
        for end in [
            |agents: &AgentRecords, _| agents.decided(agent()),
            |agents: &AgentRecords, now| {
                agents.was_good(agent(), now - SECOND);
                assert_eq!(agents.len(), 1, "it was asked before");
                agents.was_good(agent(), now);
            },
        ] {
            agents.lost(agent(), Loss::SignOut { made: 7 }, now);
            assert_eq!(agents.taken_over(now), []);
            assert_eq!(agents.permission(agent(), now), Permission::Now);
            let unclear = [7, 8].map(|made| agents.unclear_sign_out(agent(), made));
            assert_eq!(unclear, [Some(now), None]);
            end(&agents, now);
            assert_eq!(agents.unclear_sign_out(agent(), 7), None);
            assert_eq!(agents.len(), 0);
        }
    }

    #[test]
    fn a_fight_in_which_every_guid_is_lost_ends_all_the_same() {
        let (agents, mut now) = (agents(), Instant::now());
        let seconds = pauses(&agents, &mut now, |now| {
            agents.lost(agent(), attempted(true, false), now);
            agents.lost(agent(), Loss::Guid, now);
        });
        assert!(seconds.len() <= 12, "{seconds:?}");
    }

    #[test]
    fn attempts_for_callers_do_not_add_up_beyond_the_point_of_giving_up() {
        let (agents, now) = (agents(), Instant::now());
        for asked in [true; 9] {
            agents.lost(agent(), attempted(true, asked), now);
        }
        assert_eq!(agents.taken_over(now)[0].attempts, 6);
        agents.lost(agent(), attempted(true, false), now);
        assert_eq!(agents.taken_over(now)[0].attempts, 7);
        agents.decided(agent());
        assert_eq!((agents.taken_over(now), agents.len()), (vec![], 0));
        agents.lost(agent(), attempted(true, false), now);
        assert_eq!(
            agents.taken_over(now),
            [TakenOver { agent: agent(), attempts: 1, given_up: false }]
        );
    }

    #[test]
    fn ten_calm_minutes_end_it() {
        let (agents, now) = (agents(), Instant::now());
        for _ in 0..6 {
            agents.lost(agent(), attempted(true, false), now);
        }
        let later = now + CALM;
        assert_eq!(agents.permission(agent(), later), Permission::Now);
        assert_eq!(agents.taken_over(later), []);
        agents.lost(agent(), Loss::SignedOut, later);
        assert!(agents.lost(agent(), attempted(false, false), later));
        assert_eq!(agents.permission(agent(), later), Permission::After(5 * SECOND));
    }

    #[test]
    fn two_records_that_still_count_are_looked_at_for_each_new_one() {
        let (agents, now) = (agents(), Instant::now());
        let id = |id: u32| AgentId::parse(&id.to_string(), &DEFAULT_AGENT_IDS).unwrap();
        for number in 1001..=1004 {
            agents.lost(id(number), attempted(true, false), now);
        }
        let mut known = agents.known();
        let queue = std::iter::from_fn(|| known.lossy.pop());
        let order: Vec<_> = queue.map(|(agent, _)| agent).collect();
        assert_eq!(order, [1003, 1001, 1002, 1004].map(id));
    }

    #[test]
    fn where_pauses_are_long_the_calm_that_ends_it_is_long_too() {
        let (agents, now) = (agents(), Instant::now());
        agents.take_backs.lock().unwrap().first_pause = 10 * SECOND;
        agents.lost(agent(), attempted(true, false), now);
        for (seconds, taken_over) in [(1_199, 1), (1_200, 0)] {
            assert_eq!(agents.taken_over(now + seconds * SECOND).len(), taken_over);
        }
    }

    #[test]
    fn one_record_is_kept_for_all_losses_of_an_agent() {
        let (agents, now) = (agents(), Instant::now());
        for _ in 0..3 {
            agents.lost(agent(), attempted(true, false), now);
        }
        assert_eq!(agents.known().lossy.len(), 1);
    }
}
