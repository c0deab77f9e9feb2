//! What the gateway remembers of a session after its end.

use super::{
    agent::Event,
    options::Options,
    retcode::Retcode,
    session::{Session, Standing},
};

/// An agent's last session before the present one. It is kept to tell its Guids from unknown ones.
#[derive(Debug)]
pub(super) struct PreviousSession {
    session: Session,
    /// The standing of its Guids now.
    standing: Standing,
    /// An event for the next poll with one of its Guids: that the session was taken over.
    final_event: Option<Event>,
}

// === impl PreviousSession ===

impl PreviousSession {
    /// A session that was signed out.
    pub(super) fn signed_out(session: Session) -> Self {
        Self { session, standing: Standing::Ended, final_event: None }
    }

    /// A session that ended because another client signed the agent in by force.
    pub(super) fn taken_over(session: Session, final_event: Option<Event>) -> Self {
        Self { session, standing: Standing::TakenOver, final_event }
    }

    /// A session that a switch-over has lost; its Guids are refused with `code`.
    pub(super) fn lost(session: Session, code: Retcode) -> Self {
        Self { session, standing: Standing::Lost(code), final_event: None }
    }

    /// The standing of a Guid of this session; [`Standing::Unknown`] for any other.
    pub(super) fn standing(&self, guid: &str, options: &Options) -> Standing {
        match self.session.standing(guid, options) {
            Standing::Unknown => Standing::Unknown,
            _ => self.standing,
        }
    }

    /// The standing of the session with this number; [`Standing::Unknown`] for any other.
    pub(super) fn standing_of(&self, number: u64) -> Standing {
        if self.session.number == number { self.standing } else { Standing::Unknown }
    }

    pub(super) fn node(&self) -> u64 {
        self.session.node()
    }

    /// The event that reports the take-over; it is returned only once.
    pub(super) fn take_final_event(&mut self) -> Option<Event> {
        self.final_event.take()
    }
}
