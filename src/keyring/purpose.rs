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
    /// What became of a change with an id.
    Change,
    /// The word that a sign-out may have ended a session, and when it was asked for.
    SignOut,
    /// The word of a replica that it lives.
    Heartbeat,
    /// The lock of an agent's sign-in, and who holds it.
    Lock,
    /// The lease of an agent's polls, and whose it is. Nothing is sealed but for what it is.
    Lease,
}

/// The length to which most values are filled up at least. The longest password fits in, and a Guid with the cookies
/// of one load balancer.
const LEAST: usize = 256;
/// The same for leases, which have no content. There are many of them.
const LEAST_OF_LEASES: usize = 16;

impl Purpose {
    /// All purposes.
    pub const ALL: [Self; 9] = [
        Self::Session,
        Self::Event,
        Self::Credentials,
        Self::Rejection,
        Self::Change,
        Self::SignOut,
        Self::Heartbeat,
        Self::Lock,
        Self::Lease,
    ];

    /// The name that keys are derived with. No two purposes have the same.
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Session => "session",
            Self::Event => "event",
            Self::Credentials => "credentials",
            Self::Rejection => "rejection",
            Self::Change => "change",
            Self::SignOut => "sign-out",
            Self::Heartbeat => "heartbeat",
            Self::Lock => "lock",
            Self::Lease => "lease",
        }
    }

    /// The length to which values are filled up at least.
    pub(super) fn least_length(self) -> usize {
        if self == Self::Lease { LEAST_OF_LEASES } else { LEAST }
    }
}
