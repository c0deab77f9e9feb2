//! Several replicas, each a process of its own, with one Redis and one simulated gateway; and a
//! single process that starts again.

#![cfg(feature = "cluster")]
#![expect(
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test fails by panicking"
)]

mod events;
mod morning;
mod polls;
mod proxy;
mod redis_outage;
mod restart;
mod sign_ins;
mod support;
mod when_away;
