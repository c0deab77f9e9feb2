/// What a value is sealed for. What is sealed for one purpose is never opened for another.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Purpose {
    /// An agent's session, or its end.
    Session,
    /// An event that replicas tell each other.
    Event,
    /// What an agent was signed in with.
    Credentials,
    /// A password that the gateway rejected, as a digest.
    Rejection,
    /// The word of a replica that it lives.
    Heartbeat,
    /// The lock of an agent's sign-in, and who holds it.
    Lock,
}

impl Purpose {
    /// All purposes.
    pub const ALL: [Self; 6] = [
        Self::Session,
        Self::Event,
        Self::Credentials,
        Self::Rejection,
        Self::Heartbeat,
        Self::Lock,
    ];

    /// The name that keys are derived with. No two purposes have the same.
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Session => "session",
            Self::Event => "event",
            Self::Credentials => "credentials",
            Self::Rejection => "rejection",
            Self::Heartbeat => "heartbeat",
            Self::Lock => "lock",
        }
    }
}
