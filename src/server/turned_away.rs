//! Why connections of callers are ended, or not begun, for want of time or room.

use std::fmt;

/// Why a connection was ended or not begun.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum TurnedAway {
    /// Its handshake took too long.
    HandshakeLate,
    /// Its handshake was given up for a newer one.
    HandshakesFull,
    /// It was idle, and was closed for a new one.
    Idle,
    /// No place among all connections became free in time.
    ConnectionsFull,
    /// No place among the connections of its address became free in time.
    PerPeerFull,
    /// It had ended, and was closed for a newer one before its peer had read everything.
    LingeringFull,
    /// Its peer did not read an answer, or the end of a stream, in time.
    UnreadAnswerLate,
    /// Too much was unread, and most of it was of its address.
    UnreadAnswersFull,
}

impl TurnedAway {
    /// As metrics and the admin port spell it.
    pub(super) const fn as_str(self) -> &'static str {
        match self {
            Self::HandshakeLate => "handshake_late",
            Self::HandshakesFull => "handshakes_full",
            Self::Idle => "idle",
            Self::ConnectionsFull => "connections_full",
            Self::PerPeerFull => "per_peer_full",
            Self::LingeringFull => "lingering_full",
            Self::UnreadAnswerLate => "unread_answer_late",
            Self::UnreadAnswersFull => "unread_answers_full",
        }
    }
}

impl fmt::Display for TurnedAway {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}
