use std::sync::{
    Arc, PoisonError, RwLock,
    atomic::{AtomicU64, Ordering},
};

use super::ListenerPolicy;

/// The policy of a listener, which may be replaced while its connections last.
#[derive(Debug)]
pub struct CurrentPolicy {
    policy: RwLock<Arc<ListenerPolicy>>,
    /// How often it was replaced.
    generation: AtomicU64,
}

impl CurrentPolicy {
    /// Begins with this policy.
    pub fn new(policy: ListenerPolicy) -> Arc<Self> {
        Arc::new(Self { policy: RwLock::new(Arc::new(policy)), generation: AtomicU64::default() })
    }

    /// Replaces the policy. Streams that were opened under the one before find out whether they may go
    /// on.
    pub fn replace(&self, policy: ListenerPolicy) {
        let policy = Arc::new(policy);
        let mut current = self.policy.write().unwrap_or_else(PoisonError::into_inner);
        let before = std::mem::replace(&mut *current, policy);
        self.generation.fetch_add(1, Ordering::Release);
        drop(current);
        before.superseded.cancel();
    }

    /// The policy, and its generation.
    pub fn get(&self) -> (u64, Arc<ListenerPolicy>) {
        let policy = self.policy.read().unwrap_or_else(PoisonError::into_inner);
        (self.generation(), policy.clone())
    }

    /// Changes with each replacement.
    pub fn generation(&self) -> u64 {
        self.generation.load(Ordering::Acquire)
    }
}
