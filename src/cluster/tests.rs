//! What replicas agree on, by a Redis of the test's own.

mod leasing;
mod linking;
mod locking;
mod storing;
mod telling;
pub(super) mod world;
