use std::fmt;

/// How the session of an agent whom the bridge signed in is doing.
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
    /// It has ended, or its Guid was handed in by an owner who keeps it.
    Gone,
}

impl SessionState {
    /// All of them.
    pub const ALL: [Self; 8] = [
        Self::SigningIn,
        Self::Kept,
        Self::Unkept,
        Self::Doubtful,
        Self::Recovering,
        Self::SigningOut,
        Self::Lost,
        Self::Gone,
    ];

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
        }
    }

    /// Whether the bridge polls such a session, or is about to again.
    pub fn is_polled(self) -> bool {
        matches!(self, Self::Kept | Self::Doubtful | Self::Recovering)
    }

    /// Whether there is no session any more.
    pub fn is_end(self) -> bool {
        matches!(self, Self::Lost | Self::Gone)
    }
}

impl fmt::Display for SessionState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}
