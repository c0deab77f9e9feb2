//! How many calls each caller of a tenant has open.

use std::{
    num::NonZeroUsize,
    sync::{
        Arc, LazyLock,
        atomic::{AtomicU32, Ordering},
    },
};

use crate::{
    call::{Obstacle, Share},
    tenant::CallerId,
};

/// Counts the open calls of each caller. Callers are told apart by a part of their number only, so that the counts take
/// no lock and little memory, however many there are. So any two are taken for one with a chance of one in 512. There are
/// no counts before the first call.
#[derive(Debug)]
pub(super) struct CallerParts(LazyLock<Box<[AtomicU32]>>);

/// An open call of a caller; counted until it is dropped.
#[derive(Debug)]
pub(super) struct CallerPart {
    of: Arc<CallerParts>,
    index: usize,
}

const COUNTS: usize = 512;
/// One place in this many is kept for callers who have no more calls open than there are such places.
const KEPT: usize = 16;

impl CallerParts {
    pub(super) fn new() -> Arc<Self> {
        Arc::new(Self(LazyLock::new(|| (0..COUNTS).map(|_| AtomicU32::default()).collect())))
    }

    /// Counts a call.
    pub(super) fn count(self: &Arc<Self>, caller: CallerId) -> CallerPart {
        let index = caller.index(COUNTS);
        if let Some(count) = self.0.get(index) {
            count.fetch_add(1, Ordering::Relaxed);
        }
        CallerPart { of: self.clone(), index }
    }
}

impl CallerPart {
    /// Checks whether this call may have one of `free` places out of `limit`. The last ones are not for callers who
    /// have many.
    pub(super) fn check(&self, free: usize, limit: usize) -> Result<(), Obstacle> {
        let kept = limit / KEPT;
        // If no place is free, the call is refused for that, whatever its caller has.
        if free == 0 || free > kept || self.own() <= kept {
            return Ok(());
        }
        let limit = NonZeroUsize::new(limit - kept).unwrap_or(NonZeroUsize::MIN);
        Err(Obstacle::Overloaded { share: Share::CallerCalls, limit })
    }

    /// How many calls the caller has open, with this one.
    fn own(&self) -> usize {
        let own = self.of.0.get(self.index).map_or(0, |count| count.load(Ordering::Relaxed));
        usize::try_from(own).unwrap_or(usize::MAX)
    }
}

impl Drop for CallerPart {
    fn drop(&mut self) {
        if let Some(count) = self.of.0.get(self.index) {
            count.fetch_sub(1, Ordering::Relaxed);
        }
    }
}
