//! The statuses of a session, as logs, metrics and events spell them.

use std::fmt;

/// The status of an agent's session.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SessionState {
    /// A sign-in is under way.
    SigningIn,
    /// It is polled, and the gateway answers.
    Kept,
    /// It exists, but the bridge does not poll for it: polls are switched off, or the gateway
    /// allows none for one agent (000-001).
    Unkept,
    /// The gateway gives no usable answer, or does not know the Guid.
    Doubtful,
    /// It is lost and being made anew.
    Recovering,
    /// A sign-out is under way.
    SigningOut,
    /// It was lost and could not be made anew.
    Lost,
    /// It has ended.
    Gone,
    /// An owner has registered its Guid, and keeps it.
    Registered,
}

impl SessionState {
    /// All statuses.
    pub const ALL: [Self; 9] = [
        Self::SigningIn,
        Self::Kept,
        Self::Unkept,
        Self::Doubtful,
        Self::Recovering,
        Self::SigningOut,
        Self::Lost,
        Self::Gone,
        Self::Registered,
    ];

    /// The index in [`SessionState::ALL`].
    pub fn index(self) -> Option<usize> {
        Self::ALL.iter().position(|known| *known == self)
    }

    /// The name in logs, metrics and on the admin port.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::SigningIn => "signing_in",
            Self::Kept => "kept",
            Self::Unkept => "unkept",
            Self::Doubtful => "doubtful",
            Self::Recovering => "recovering",
            Self::SigningOut => "signing_out",
            Self::Lost => "lost",
            Self::Gone => "gone",
            Self::Registered => "registered",
        }
    }

    /// Whether the bridge polls for such a session, or will soon again.
    pub fn is_polled(self) -> bool {
        matches!(self, Self::Kept | Self::Doubtful | Self::Recovering)
    }

    /// Whether the bridge no longer keeps such a session.
    pub fn is_end(self) -> bool {
        matches!(self, Self::Lost | Self::Gone | Self::Registered)
    }
}

impl fmt::Display for SessionState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}
