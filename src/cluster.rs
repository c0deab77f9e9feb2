//! Everything that exists only because there are several replicas of the bridge.
//!
//! [`server`](crate::server) makes a [`Shared`] if `[store]` has `urls`. Through it,
//! [`session`](crate::session), [`event`](crate::event) and [`tenant`](crate::tenant) get what
//! replicas share, by traits of their own: [`SharedStores`](crate::session::SharedStores),
//! [`Relay`](crate::event::Relay) and [`Replicas`](crate::tenant::Replicas). No other room may name
//! this one (a test checks it). Without the feature `cluster` it is not compiled.
//!
//! The gateway requires that exactly one client polls for an agent. The live replica with the
//! highest score for an agent ([`preferred_replica`]) should poll for it. A lease in the shared
//! store decides which replica may ([`Leases`]). A [`Roster`] brings the two together.

mod ask;
mod change_records;
mod doubts;
mod events;
mod freshness;
#[doc(hidden)]
pub mod fuzzing;
mod heartbeats;
mod leases;
mod members;
mod preferred_replica;
pub mod redis;
mod relay;
mod replica;
mod roster;
mod sealed_values;
mod seals;
mod shared;
mod shared_passwords;
mod sign_in_locks;
mod sign_in_moments;
mod store;
#[cfg(test)]
mod tests;
mod wire;

use self::leases::ROSTER_NEWS;
pub use self::{
    ask::ask,
    doubts::Doubts,
    events::RedisEvents,
    heartbeats::Heartbeats,
    leases::RedisLeases,
    preferred_replica::preferred_replica,
    relay::StreamRelay,
    replica::{LEASES_AT_ONCE, LeaseRequest, Leases, Membership, ReplicaId},
    roster::Roster,
    shared::Shared,
    store::SharedStore,
    wire::{Origin, Told, decode, encode},
};
