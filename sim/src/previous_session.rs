//! What is remembered of a session after its end.

use super::{
    agent::Event,
    options::Options,
    retcode::Retcode,
    session::{Session, Standing},
};

/// An agent's last session before the present one, whose Guids can be told from unknown ones.
#[derive(Debug)]
pub(super) struct PreviousSession {
    session: Session,
    /// What its Guids are now.
    standing: Standing,
    /// What a poll with one of its Guids has yet to be told, although a new session has begun.
    farewell: Option<Event>,
}

// === impl PreviousSession ===

impl PreviousSession {
    /// A session that was signed out.
    pub(super) fn signed_out(session: Session) -> Self {
        Self { session, standing: Standing::Ended, farewell: None }
    }

    /// A session whose agent has been signed in by force by somebody else.
    pub(super) fn taken_over(session: Session, farewell: Option<Event>) -> Self {
        Self { session, standing: Standing::TakenOver, farewell }
    }

    /// A session that a switch-over has lost; its Guids get `code`.
    pub(super) fn lost(session: Session, code: Retcode) -> Self {
        Self { session, standing: Standing::Lost(code), farewell: None }
    }

    /// What a Guid is, if it was this session's.
    pub(super) fn standing(&self, guid: &str, options: &Options) -> Standing {
        match self.session.standing(guid, options) {
            Standing::Unknown => Standing::Unknown,
            _ => self.standing,
        }
    }

    pub(super) fn node(&self) -> u64 {
        self.session.node()
    }

    /// The event that tells of a take-over, once.
    pub(super) fn take_farewell(&mut self) -> Option<Event> {
        self.farewell.take()
    }
}
