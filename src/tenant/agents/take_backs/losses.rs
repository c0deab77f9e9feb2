//! What a record counts of an agent's lost sessions.

use std::{mem, time::Duration};

use tokio::time::Instant;

use super::{GUIDLESS_MAX, TakeBacks};
use crate::tenant::agents::sweep::Ticket;

/// The part of a record that counts an agent's lost sessions since the last calm time.
#[derive(Clone, Copy, Debug)]
pub(in crate::tenant::agents) struct Losses {
    /// How often the keeper has had the session made anew, whatever ended it.
    pub(super) recoveries: u32,
    /// How many of the bridge's sign-ins found the agent signed in by another client.
    pub(super) contested: u32,
    /// How many in a row found a session of the bridge's own, whose Guid was lost.
    pub(super) guidless: u32,
    /// When any of them was last counted.
    pub(super) last: Instant,
    /// The gateway has said that somebody signed the agent out, and no sign-in has been tried
    /// since.
    pub(super) is_signed_out: bool,
    /// When an answer was lost that may have brought the Guid of a session of the bridge's own.
    pub(super) guid_lost: Option<Instant>,
    /// How many such answers in a row.
    pub(super) guids_lost: u32,
    /// The session that a call has asked the gateway to end, by its [`made`](crate::session::Session::made), and when that
    /// request came to nothing that is known.
    pub(super) sign_out: Option<(u64, Instant)>,
    pub(super) ticket: Option<Ticket>,
}

/// What [`AgentRecords::lost`](super::AgentRecords::lost) counts.
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

/// What a sign-in has found at the gateway.
pub(super) enum Present {
    Nobody,
    /// A session of the bridge's own, whose Guid was lost.
    Own,
    Another,
}

impl Losses {
    pub(super) fn none(now: Instant) -> Self {
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

    pub(super) fn is_none(&self) -> bool {
        self.recoveries == 0
            && self.contested == 0
            && self.guidless == 0
            && !self.is_signed_out
            && self.guid_lost.is_none()
            && self.sign_out.is_none()
    }

    /// When any of them was last counted or noted.
    pub(super) fn latest(&self) -> Instant {
        self.sign_out.map_or(self.last, |(_, at)| at.max(self.last))
    }

    /// For how long the gateway may still keep a session whose Guid was lost.
    pub(super) fn own_left(&self, now: Instant) -> Duration {
        let end = self.guid_lost.map(|at| at + GUIDLESS_MAX);
        end.map_or(Duration::ZERO, |end| end.saturating_duration_since(now))
    }

    /// Whose the session is that a sign-in has found.
    pub(super) fn found(&self, with_another: bool, now: Instant, rules: TakeBacks) -> Present {
        let may_last = !self.own_left(now).is_zero();
        match with_another {
            false => Present::Nobody,
            // With a limit: another client may take the agent from each session whose Guid is lost.
            true if self.guids_lost <= rules.most && may_last => Present::Own,
            true => Present::Another,
        }
    }

    /// Counts a loss. Returns whether another client had taken the agent from the bridge.
    pub(super) fn on(&mut self, loss: Loss, now: Instant, rules: TakeBacks) -> bool {
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
                self.sign_out = Some((made, now));
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
