//! How often a lost session may be made anew, and an agent taken back from another client: pauses
//! that grow, and an end.

mod losses;

use std::time::Duration;

use tokio::time::Instant;

pub(in crate::tenant) use self::losses::Loss;
pub(super) use self::losses::Losses;
use self::losses::Present;
use super::{
    AgentRecord, AgentRecords, Known,
    sweep::{Found, Ticket},
};
use crate::{config, id::AgentId};

/// Why calls must not have an agent signed in yet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::tenant) enum Pause {
    /// For so long the agent is left to another client.
    Another(Duration),
    /// For so long the gateway is not asked again whether it has ended a session whose Guid was lost.
    Guidless(Duration),
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

    /// The same where the agent is being signed out: what is known of a lost answer to a sign-out stays until the end of the
    /// session is stored.
    pub(in crate::tenant) fn decided_to_sign_out(&self, agent: AgentId, now: Instant) {
        let mut known = self.known();
        if let Some(Losses { sign_out, ticket, .. }) = known.losses(agent) {
            let losses = Losses { sign_out, ticket, ..Losses::none(now) };
            known.set_losses(agent, Some(losses).filter(|losses| !losses.is_none()));
        }
    }

    /// Notes that the end of the session is stored which was `made` with this version.
    pub(in crate::tenant) fn sign_out_stored(&self, agent: AgentId, made: u64) {
        self.with(agent, |record| record.drop_sign_out(|(of, _)| of == made));
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

    /// Whether the gateway has taken the agent's session for good since this time.
    pub(in crate::tenant) fn was_good_since(&self, agent: AgentId, time: Instant) -> bool {
        self.look(agent, |record| record.good_at.is_some_and(|at| at >= time)).unwrap_or_default()
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
            let record = known.record(agent);
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
        self.good_at = self.good_at.max(Some(asked));
        self.drop_sign_out(|(_, at)| at <= asked);
    }

    /// Forgets a lost answer to a sign-out, if it is such a one.
    fn drop_sign_out(&mut self, is_it: impl Fn((u64, Instant)) -> bool) {
        if let Some(losses) = &mut self.losses {
            losses.sign_out.take_if(|sign_out| is_it(*sign_out));
        }
        self.losses.take_if(|losses| losses.is_none());
    }
}

impl Known {
    fn losses(&self, agent: AgentId) -> Option<Losses> {
        self.record(agent)?.losses.as_deref().copied()
    }

    fn set_losses(&mut self, agent: AgentId, losses: Option<Losses>) {
        if losses.is_some_and(|losses| losses.contested > 0) {
            self.contested.insert(agent);
        } else {
            self.contested.remove(&agent);
        }
        self.records.of_mut(agent).entry(agent).or_default().losses = losses.map(Box::new);
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
        now.saturating_duration_since(losses.latest()) >= calm
    }
}

#[cfg(test)]
mod tests;
