//! Why connections of callers are closed or rejected because of a limit.

use std::fmt;

/// Why a connection was closed or rejected.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum TurnedAway {
    /// Its handshake took too long.
    HandshakeLate,
    /// Its handshake was given up to make room for a newer connection.
    HandshakesFull,
    /// It was idle, and was closed to make room for a new connection.
    Idle,
    /// No slot became free in time: `server.connections.max`.
    ConnectionsFull,
    /// No slot of its address became free in time: `server.connections.per_peer`.
    PerPeerFull,
    /// It had ended, and was closed to make room before its peer had read everything.
    LingeringFull,
    /// Its peer did not read an answer, or the end of a stream, in time.
    UnreadAnswerLate,
    /// Its peer sent too many frames without progress.
    Flood,
    /// Its peer reset too many streams: `server.connections.resets_per_second`.
    ResetFlood,
    /// All connections together held too many unread answers, and those of its address held most.
    UnreadAnswersFull,
}

impl TurnedAway {
    /// The spelling in metrics and on the admin port.
    pub(super) const fn as_str(self) -> &'static str {
        match self {
            Self::HandshakeLate => "handshake_late",
            Self::HandshakesFull => "handshakes_full",
            Self::Idle => "idle",
            Self::ConnectionsFull => "connections_full",
            Self::PerPeerFull => "per_peer_full",
            Self::LingeringFull => "lingering_full",
            Self::UnreadAnswerLate => "unread_answer_late",
            Self::Flood => "flood",
            Self::ResetFlood => "reset_flood",
            Self::UnreadAnswersFull => "unread_answers_full",
        }
    }
}

impl fmt::Display for TurnedAway {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}
