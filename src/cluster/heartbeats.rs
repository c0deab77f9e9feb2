//! Heartbeats of a tenant's replicas, by which they know each other.

use std::{
    collections::HashMap,
    sync::{
        Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
};

use serde::{Deserialize, Serialize};
use tokio::time::Instant;

use super::{
    ReplicaId,
    freshness::Freshness,
    seals::{CLOCKS_APART_MAX, Seals, millis_now},
};
use crate::{keyring::Purpose, session::Doubt};

/// When the last heartbeat of each replica of a tenant was received, by this replica's clock.
///
/// The list of replicas in the store is one of heartbeats. A store that takes no writes still carries
/// messages. So replicas that cannot renew their entry in the list publish heartbeats instead. Each receives
/// those of all, including its own.
#[derive(Debug)]
pub struct Heartbeats {
    seals: Seals,
    /// How many heartbeats this process has made.
    made: AtomicU64,
    heard: Mutex<Freshness<ReplicaId>>,
}

/// A heartbeat before it is sealed.
#[derive(Serialize, Deserialize)]
struct Heartbeat {
    replica: u64,
    /// How many the replica had made before.
    nth: u64,
    /// When it was made, in milliseconds since 1970.
    made: u64,
}

/// The beginning of a heartbeat message; the sealed heartbeat follows.
const ALIVE: &[u8] = b"alive:";

impl Heartbeats {
    pub(super) fn new(seals: Seals) -> Self {
        Self { seals, made: AtomicU64::new(0), heard: Mutex::new(Freshness::new()) }
    }

    /// What seals the heartbeats.
    pub(super) fn seals(&self) -> &Seals {
        &self.seals
    }

    /// The next heartbeat of this replica, sealed; `None` if it cannot be sealed.
    pub(super) fn next(&self, ReplicaId(replica): ReplicaId) -> Option<Vec<u8>> {
        let nth = self.made.fetch_add(1, Ordering::Relaxed);
        let plain = serde_json::to_vec(&Heartbeat { replica, nth, made: millis_now() }).ok()?;
        self.seals.seal(Purpose::Heartbeat, "", &plain).ok()
    }

    /// The message with a heartbeat.
    pub(super) fn message(sealed: &[u8]) -> Vec<u8> {
        [ALIVE, sealed].concat()
    }

    /// Notes a heartbeat that was published. Returns whether the message was one.
    pub(crate) fn receive(&self, message: &[u8]) -> bool {
        let Some(sealed) = message.strip_prefix(ALIVE) else { return false };
        self.read(sealed);
        true
    }

    /// Reads a heartbeat: whose it is, and when that replica's last one was received. `None` if no replica has
    /// sealed it, or it is not from now.
    pub(super) fn read(&self, sealed: &[u8]) -> Option<(ReplicaId, Instant)> {
        let plain = self.seals.open(Purpose::Heartbeat, "", sealed);
        let heartbeat = plain.and_then(|plain| serde_json::from_slice::<Heartbeat>(&plain).ok());
        let is_of_now = |heartbeat: &Heartbeat| {
            u128::from(millis_now().abs_diff(heartbeat.made)) <= CLOCKS_APART_MAX.as_millis()
        };
        let Some(Heartbeat { replica, nth, .. }) = heartbeat.filter(is_of_now) else {
            self.seals.doubt(Doubt::Heartbeat);
            return None;
        };
        let replica = ReplicaId(replica);
        Some((replica, self.heard().note(replica, nth)))
    }

    /// When the last heartbeat of each replica was received.
    pub(super) fn last_received(&self) -> HashMap<ReplicaId, Instant> {
        self.heard().all()
    }

    fn heard(&self) -> MutexGuard<'_, Freshness<ReplicaId>> {
        self.heard.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use std::{sync::Arc, time::Duration};

    use super::*;
    use crate::{
        cluster::Doubts,
        id::TenantId,
        keyring::{EncryptionKey, Keyring},
    };

    fn of(tenant: &str, key: u8) -> Heartbeats {
        let keyring = Keyring::new("test:", &[EncryptionKey::new([key; 32])]);
        let tenant = TenantId::parse(tenant).expect("an id");
        Heartbeats::new(Seals::new(tenant, Arc::new(keyring), Arc::new(Doubts::none())))
    }

    fn message(of: &Heartbeats, replica: u64) -> Vec<u8> {
        Heartbeats::message(&of.next(ReplicaId(replica)).expect("sealed"))
    }

    #[tokio::test(start_paused = true)]
    async fn only_heartbeats_that_a_replica_of_the_tenant_has_sealed_are_received() {
        let heartbeats = of("acme", 1);
        assert!(heartbeats.receive(&message(&of("acme", 1), 7)));
        for forged in [b"alive:".to_vec(), b"alive:0000000000000008".to_vec()] {
            assert!(heartbeats.receive(&forged));
        }
        for other in [of("acme", 2), of("other", 1)] {
            assert!(heartbeats.receive(&message(&other, 8)));
        }
        for other in [&b"roster"[..], b"", b"\xff\xfe"] {
            assert!(!heartbeats.receive(other), "{other:?}");
        }
        assert_eq!(heartbeats.last_received(), [(ReplicaId(7), Instant::now())].into());
    }

    #[tokio::test(start_paused = true)]
    async fn each_replica_is_known_by_its_latest_heartbeat_and_not_by_an_old_one() {
        let (heartbeats, begun) = (of("acme", 1), Instant::now());
        let moment = Duration::from_secs(1);
        let sent = [7, 8, 7].map(|id| message(&heartbeats, id));
        for at in [0, 1, 2, 0, 1] {
            assert!(heartbeats.receive(&sent[at]));
            tokio::time::advance(moment).await;
        }
        let expected = [(ReplicaId(7), begun + 2 * moment), (ReplicaId(8), begun + moment)];
        assert_eq!(heartbeats.last_received(), expected.into());
    }
}
