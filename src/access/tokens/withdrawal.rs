use std::sync::{
    Arc,
    atomic::{AtomicBool, Ordering},
};

use tokio_util::sync::CancellationToken;

/// Whether an issuer has withdrawn a key: it was in the issuer's key set, and is no more. Clones are about
/// the same key.
#[derive(Clone, Debug, Default)]
pub struct Withdrawal(Arc<Inner>);

#[derive(Debug, Default)]
struct Inner {
    /// Read for each call: `CancellationToken::is_cancelled` takes a lock.
    is_made: AtomicBool,
    made: CancellationToken,
}

impl Withdrawal {
    /// Notes that the key is withdrawn.
    pub(super) fn make(&self) {
        self.0.is_made.store(true, Ordering::Release);
        self.0.made.cancel();
    }

    /// Whether the key is withdrawn.
    pub fn is_made(&self) -> bool {
        self.0.is_made.load(Ordering::Acquire)
    }

    /// Waits until the key is withdrawn.
    pub async fn made(&self) {
        self.0.made.cancelled().await;
    }
}

impl PartialEq for Withdrawal {
    fn eq(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.0, &other.0)
    }
}

impl Eq for Withdrawal {}
