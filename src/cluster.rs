//! Everything that exists only because there are several replicas of the bridge.

mod events;
mod leases;
pub mod redis;
mod relay;
mod replica;
mod roster;
mod store;
mod voices;
mod wire;

pub(crate) use self::leases::ROSTER_NEWS;
pub use self::{
    events::RedisEvents,
    leases::RedisLeases,
    relay::{EventStream, Relay},
    replica::{
        Attempt, Census, Holder, LEASES_AT_ONCE, LeaseRequest, Leases, Lock, Moments, ReplicaId,
        preferred,
    },
    roster::{Cause, Claimed, LeaseCounts, Polls, Roster},
    store::{Shared, SharedStore},
    voices::Voices,
    wire::{Origin, decode, encode},
};
