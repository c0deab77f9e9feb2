//! Everything that exists only because there are several replicas of the bridge.
//!
//! [`Shared`] is what [`server`](crate::server) makes of `[store]` where it has `urls`. It gives
//! [`session`](crate::session), [`event`](crate::event) and [`tenant`](crate::tenant) what replicas
//! share, by the traits of these rooms: [`SharedStores`](crate::session::SharedStores),
//! [`Relay`](crate::event::Relay) and [`Replicas`](crate::tenant::Replicas). No other room names this
//! one, which a test holds them to; without the feature `cluster` it is not there.
//!
//! A gateway wants an agent polled by exactly one client. The live replica with the highest score
//! for an agent ([`preferred`]) is the one that should; a lease in the shared store decides which
//! one may ([`Leases`]). A [`Roster`] brings the two together.

mod drawers;
mod events;
mod leases;
pub mod redis;
mod relay;
mod replica;
mod roster;
mod shared;
mod store;
#[cfg(test)]
mod tests;
mod voices;
mod wire;

use self::leases::ROSTER_NEWS;
pub use self::{
    events::RedisEvents,
    leases::RedisLeases,
    relay::{EventStream, StreamRelay},
    replica::{LEASES_AT_ONCE, LeaseRequest, Leases, Membership, ReplicaId, preferred},
    roster::Roster,
    shared::Shared,
    store::SharedStore,
    voices::Voices,
    wire::{Origin, decode, encode},
};
