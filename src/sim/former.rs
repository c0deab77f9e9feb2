//! What is remembered of a session after its end.

use super::{
    agent::Event,
    options::Options,
    session::{Session, Standing},
};

/// An agent's last session before the present one, whose Guids can be told from unknown ones.
#[derive(Debug)]
pub(super) struct Former {
    session: Session,
    end: End,
    /// What a poll with one of its Guids has yet to be told, although a new session has begun.
    farewell: Option<Event>,
}

/// How a session came to its end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum End {
    SignedOut,
    TakenOver,
}

// === impl Former ===

impl Former {
    /// A session that was signed out.
    pub(super) fn signed_out(session: Session) -> Self {
        Self { session, end: End::SignedOut, farewell: None }
    }

    /// A session whose agent has been signed in by force by somebody else.
    pub(super) fn taken_over(session: Session, options: &Options) -> Self {
        let farewell = options.take_over_event.then(|| Event::shutdown(&session.login_time));
        Self { session, end: End::TakenOver, farewell }
    }

    /// Whether a Guid was this session's; what it is good for now.
    pub(super) fn standing(&self, guid: &str, options: &Options) -> Standing {
        match (self.session.standing(guid, options), self.end) {
            (Standing::Unknown, _) => Standing::Unknown,
            (_, End::TakenOver) => Standing::TakenOver,
            (_, End::SignedOut) => Standing::Ended,
        }
    }

    /// The event that tells of a take-over, once.
    pub(super) fn take_farewell(&mut self) -> Option<Event> {
        self.farewell.take()
    }
}
