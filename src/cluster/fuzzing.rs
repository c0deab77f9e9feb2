//! Readers of what replicas tell each other, for the fuzz targets alone.

use std::{sync::Arc, time::Duration};

use super::{Doubts, Heartbeats, ReplicaId, seals::Seals, sign_in_locks};
use crate::{
    id::{AgentId, TenantId},
    keyring::Keyring,
};

/// What a replica knows that has got nothing yet but what it is given here.
#[derive(Debug)]
pub struct Replica {
    heartbeats: Heartbeats,
}

impl Replica {
    /// A replica with this id.
    pub fn new(id: u64, tenant: TenantId, keyring: Arc<Keyring>) -> Self {
        let seals = Seals::new(tenant, keyring, Arc::new(Doubts::none()));
        Self { heartbeats: Heartbeats::new(ReplicaId(id), Duration::from_secs(60), seals) }
    }

    /// Whose a heartbeat is, if it counts.
    pub fn heartbeat(&self, sealed: &[u8]) -> Option<u64> {
        self.heartbeats.read(sealed).map(|ReplicaId(id)| id)
    }

    /// Takes a message. Returns whether it was one of a heartbeat.
    pub fn receive(&self, message: &[u8]) -> bool {
        self.heartbeats.receive(message)
    }

    /// Whether a replica is heard, and whether it lives.
    pub fn hears(&self, id: u64) -> [bool; 2] {
        [self.heartbeats.is_heard(ReplicaId(id)), self.heartbeats.is_alive(ReplicaId(id))]
    }

    /// The number of a sign-in whose lock a replica has asked for with this.
    pub fn lock(&self, agent: AgentId, attempt: &[u8], sealed: &[u8]) -> Option<u64> {
        sign_in_locks::opened(self.heartbeats.seals(), agent, attempt, sealed).map(|(id, _)| id)
    }
}
