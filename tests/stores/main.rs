//! Where sessions are kept: what every store promises, and what replicas that share one promise,
//! each with a Redis of its own (see `redis`).

#![cfg(feature = "cluster")]
#![expect(
    clippy::expect_used,
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test fails by panicking"
)]

mod access;
mod attacker;
mod bridge;
mod callee;
mod changes;
mod cluster;
mod contract;
mod drains;
mod events;
mod fake;
mod file;
mod keeping;
mod key_change;
mod model;
mod moments;
mod redis_outage;
mod refusals;
mod replay;
mod request_ids;
mod secrets;
mod sharing;
mod sign_outs;
mod slow;
mod support;
mod topologies;
