//! The status that a session can have, as logs, metrics and events spell it.

use std::fmt;

/// How the session of an agent is doing, as far as the bridge has to do with it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SessionState {
    /// A sign-in is under way.
    SigningIn,
    /// It is polled, and the gateway answers.
    Kept,
    /// It is there, and the bridge does not poll it: that is switched off, or the gateway hands
    /// events out in another way (000-001).
    Unkept,
    /// The gateway does not answer as it should, or does not know the Guid.
    Doubtful,
    /// It is lost and being made anew.
    Recovering,
    /// A sign-out is under way.
    SigningOut,
    /// It was lost and could not be made anew.
    Lost,
    /// It has ended.
    Gone,
    /// Its Guid was handed in by an owner who keeps it.
    Registered,
}

impl SessionState {
    /// All of them.
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

    /// Its place in [`SessionState::ALL`].
    pub fn index(self) -> Option<usize> {
        Self::ALL.iter().position(|known| *known == self)
    }

    /// As logs and the admin port spell it.
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

    /// Whether the bridge polls such a session, or is about to again.
    pub fn is_polled(self) -> bool {
        matches!(self, Self::Kept | Self::Doubtful | Self::Recovering)
    }

    /// Whether the bridge has nothing more to do with such a session.
    pub fn is_end(self) -> bool {
        matches!(self, Self::Lost | Self::Gone | Self::Registered)
    }
}

impl fmt::Display for SessionState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}
