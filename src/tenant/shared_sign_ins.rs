//! What replicas agree on before one of them signs an agent in.

use std::{fmt, time::Duration};

use crate::{id::AgentId, session::StoreFuture};

/// By which the replicas of a tenant sign an agent in one at a time, and all together no faster than
/// they may.
pub trait SharedSignIns: fmt::Debug + Send + Sync {
    /// How long the right to sign an agent in lasts unless it is renewed.
    fn lock_time(&self) -> Duration;

    /// Takes or renews the right to sign an agent in, and tells what there is to know before.
    ///
    /// # Errors
    ///
    /// [`StoreError::Unavailable`](crate::session::StoreError::Unavailable) and
    /// [`StoreError::Refused`](crate::session::StoreError::Refused), here and below.
    fn lock_sign_in(&self, agent: AgentId, attempt: Attempt) -> StoreFuture<'_, Lock>;

    /// Gives that right back, and says that this sign-in is over.
    fn unlock_sign_in(&self, agent: AgentId, attempt: Attempt) -> StoreFuture<'_, ()>;

    /// Takes up to `count` of the moments at which replicas may sign agents in by themselves. All
    /// replicas together get one each `interval`, by the store's clock, and none is saved up.
    fn sign_in_moments(&self, count: u32, interval: Duration) -> StoreFuture<'_, Moments>;

    /// How many replicas there were when they were counted last; at least one.
    fn replicas(&self) -> u32;
}

/// One sign-in, among those of all replicas. A new one for each: a lock is given back beside what
/// comes next, and must not take that one's lock with it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Attempt {
    id: u64,
    time: Duration,
}

/// The right to sign an agent in, as a sign-in that asks for it finds it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Lock {
    /// Who has it now.
    pub holder: Holder,
    /// Sign-ins of the agent that have begun elsewhere and not ended, whoever has the lock: a
    /// holder that loses it may still be waiting for the gateway.
    pub others: usize,
    /// The version of the agent's session in the store; 0: none.
    pub stored: u64,
}

/// Who has the right to sign an agent in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Holder {
    /// This sign-in, from now on.
    New,
    /// This sign-in, as before.
    Same,
    /// Another one.
    Other,
}

/// Moments that a process has taken from what all share.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Moments {
    /// How many; 0: the others have taken those of the near future.
    pub count: u32,
    /// Until the first of them; with none, until some may be free.
    pub wait: Duration,
}
impl Attempt {
    /// A new one, which is over after this `time` at the latest.
    pub fn lasting(time: Duration) -> Self {
        Self { id: rand::random(), time }
    }

    /// How long it may take.
    pub fn time(self) -> Duration {
        self.time
    }
}

impl fmt::Display for Attempt {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:016x}", self.id)
    }
}
