//! The interface through which replicas agree on sign-ins: who signs an agent in, and at what rate.

use std::{fmt, time::Duration};

use crate::{id::AgentId, session::StoreFuture};

/// Ensures that only one replica at a time signs an agent in, and that all together keep to the
/// rate.
pub trait SharedSignIns: fmt::Debug + Send + Sync {
    /// How long the lock on an agent's sign-in lasts unless it is renewed.
    fn lock_time(&self) -> Duration;

    /// Takes or renews the lock on an agent's sign-in. Returns who holds it, and what is known of
    /// other sign-ins.
    ///
    /// # Errors
    ///
    /// [`StoreError::Unavailable`](crate::session::StoreError::Unavailable) and
    /// [`StoreError::Refused`](crate::session::StoreError::Refused); so do the methods below.
    fn lock_sign_in(&self, agent: AgentId, attempt: Attempt) -> StoreFuture<'_, Lock>;

    /// Releases the lock, and says that this sign-in is over.
    fn unlock_sign_in(&self, agent: AgentId, attempt: Attempt) -> StoreFuture<'_, ()>;

    /// Takes up to `count` moments at which a replica may begin automatic sign-ins. All replicas
    /// together get one per `interval`, by the store's clock. Unused moments are not saved up.
    fn sign_in_moments(&self, count: u32, interval: Duration) -> StoreFuture<'_, Moments>;

    /// The number of replicas at the last count; at least one.
    fn replicas(&self) -> u32;
}

/// Identifies one sign-in among those of all replicas. Each sign-in needs a new one: its lock is
/// released concurrently with the next sign-in, and must not release that one's lock.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Attempt {
    id: u64,
    time: Duration,
}

/// The lock on an agent's sign-in, as the attempt that asked for it finds it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Lock {
    /// The grant by which this attempt holds it; `None`: another attempt holds it.
    pub grant: Option<Grant>,
    /// How many sign-ins of the agent have begun elsewhere and not ended. They may not hold the
    /// lock: a holder that has lost it may still be waiting for the gateway.
    pub others: usize,
    /// The version of the agent's session in the store; 0 if there is none.
    pub stored: u64,
}

/// One period for which an attempt holds the lock. While the grant is the same, nobody else has held it, even
/// if answers were lost.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Grant(pub u64);

/// Moments that a process has taken from those of all replicas.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Moments {
    /// How many; 0 if the other replicas have taken all of the near future.
    pub count: u32,
    /// The time until the first of them; if there are none, until some may be free.
    pub wait: Duration,
}
impl Attempt {
    /// A new attempt, which ends after this `time` at the latest.
    pub fn lasting(time: Duration) -> Self {
        Self { id: rand::random(), time }
    }

    /// How long the attempt may take.
    pub fn time(self) -> Duration {
        self.time
    }
}

impl fmt::Display for Attempt {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:016x}", self.id)
    }
}
