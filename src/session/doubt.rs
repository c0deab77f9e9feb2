//! Why something in a store that others can write to is not believed.

use std::fmt;

/// Why something in the shared store is not believed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Doubt {
    /// An event that no key opens.
    EventSeal,
    /// An event whose number is far ahead of the clock.
    EventNumber,
    /// An event that was published before, under another number.
    EventRepeated,
    /// A session, or the end of one, that no key opens.
    SessionSeal,
    /// A session whose version is far ahead of the clock.
    SessionVersion,
    /// A session that nobody has used for more than a day, where nothing else is known of its agent.
    SessionOld,
    /// A password, or the digests of rejected ones, that no key opens.
    PasswordSeal,
    /// What became of a change with an id, which no key opens.
    Change,
    /// A heartbeat that no key opens, or that is not from now.
    Heartbeat,
    /// A lock on a sign-in that no key opens, or that lasts for longer than a sign-in.
    SignInLock,
    /// A time of sign-ins that no replica can have stored.
    SignInMoments,
    /// An agent whom the tenant cannot have.
    AgentId,
    /// A lease that no key opens, or of a replica that does not live.
    Lease,
    /// A key of a type that the bridge does not write.
    KeyType,
}

impl Doubt {
    /// All reasons.
    pub const ALL: [Self; 14] = [
        Self::EventSeal,
        Self::EventNumber,
        Self::EventRepeated,
        Self::SessionSeal,
        Self::SessionVersion,
        Self::SessionOld,
        Self::PasswordSeal,
        Self::Change,
        Self::Heartbeat,
        Self::SignInLock,
        Self::SignInMoments,
        Self::AgentId,
        Self::Lease,
        Self::KeyType,
    ];

    /// The name in metrics.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::EventSeal => "event_seal",
            Self::EventNumber => "event_number",
            Self::EventRepeated => "event_repeated",
            Self::SessionSeal => "session_seal",
            Self::SessionVersion => "session_version",
            Self::SessionOld => "session_old",
            Self::PasswordSeal => "password_seal",
            Self::Change => "change",
            Self::Heartbeat => "heartbeat",
            Self::SignInLock => "sign_in_lock",
            Self::SignInMoments => "sign_in_moments",
            Self::AgentId => "agent_id",
            Self::Lease => "lease",
            Self::KeyType => "key_type",
        }
    }
}

impl fmt::Display for Doubt {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::EventSeal => "no key in store.encryption_key_files opens an event",
            Self::EventNumber => "the number of an event is more than a day ahead of the clock",
            Self::EventRepeated => "an event was published again under another number",
            Self::SessionSeal => "no key in store.encryption_key_files opens a session, or its end",
            Self::SessionVersion => "the version of a session is more than a day ahead of the clock",
            Self::SessionOld => "nobody has used a session for more than a day, so it may have ended since",
            Self::PasswordSeal => {
                "no key in store.encryption_key_files opens a password, or the digests of rejected ones"
            }
            Self::Change => "no key in store.encryption_key_files opens what became of a change",
            Self::Heartbeat => {
                "no key in store.encryption_key_files opens the heartbeat of a replica, or it is an old one"
            }
            Self::SignInLock => {
                "no key in store.encryption_key_files opens a lock on a sign-in, or it is an old one"
            }
            Self::SignInMoments => {
                "the time of the next sign-in is none, or more than a minute ahead of the store's clock"
            }
            Self::AgentId => "a session is to be kept for an agent outside of the tenant's agent_ids",
            Self::Lease => {
                "no key in store.encryption_key_files opens a lease, or it is that of a replica that does not live"
            }
            Self::KeyType => "a key has a type that the bridge does not write, and is set aside for an hour",
        })
    }
}
