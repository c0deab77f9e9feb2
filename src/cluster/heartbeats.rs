//! Heartbeats of replicas, for the time when the store cannot keep a list of the live ones.

use std::{
    collections::HashMap,
    sync::{Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use tokio::time::Instant;

use super::ReplicaId;

/// When the last heartbeat of each replica of a tenant was received, by this replica's clock.
///
/// A store that takes no writes still carries messages. So replicas that cannot renew their entry
/// in the list of replicas publish heartbeats instead. Each receives those of all, including its
/// own.
#[derive(Debug, Default)]
pub struct Heartbeats {
    heard: Mutex<HashMap<ReplicaId, Instant>>,
}

/// The beginning of a heartbeat message; the replica's id follows.
const ALIVE: &str = "alive:";
/// Replicas without a heartbeat for this time are forgotten.
const REMEMBERED: Duration = Duration::from_secs(3600);

impl Heartbeats {
    /// The heartbeat message of a replica.
    pub(super) fn message(me: ReplicaId) -> String {
        format!("{ALIVE}{me}")
    }

    /// Notes a heartbeat. Returns whether the message was one.
    pub(crate) fn receive(&self, message: &[u8]) -> bool {
        let id = str::from_utf8(message).ok().and_then(|message| message.strip_prefix(ALIVE));
        let Some(replica) = id.and_then(ReplicaId::parse) else { return false };
        let mut heard = self.heard();
        heard.retain(|_, at| at.elapsed() < REMEMBERED);
        heard.insert(replica, Instant::now());
        true
    }

    /// When the last heartbeat of each replica was received.
    pub(super) fn last_received(&self) -> HashMap<ReplicaId, Instant> {
        self.heard().clone()
    }

    fn heard(&self) -> MutexGuard<'_, HashMap<ReplicaId, Instant>> {
        self.heard.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn only_heartbeats_are_received_and_they_are_remembered_for_a_while() {
        let heartbeats = Heartbeats::default();
        assert!(heartbeats.receive(Heartbeats::message(ReplicaId(7)).as_bytes()));
        for other in [&b"roster"[..], b"alive:", b"alive:x", b"\xff\xfe"] {
            assert!(!heartbeats.receive(other), "{other:?}");
        }
        assert_eq!(heartbeats.last_received(), [(ReplicaId(7), Instant::now())].into());
        tokio::time::advance(REMEMBERED).await;
        heartbeats.receive(Heartbeats::message(ReplicaId(8)).as_bytes());
        assert_eq!(heartbeats.last_received(), [(ReplicaId(8), Instant::now())].into());
    }

    #[tokio::test(start_paused = true)]
    async fn each_replica_is_known_by_its_latest_heartbeat() {
        let (heartbeats, begun) = (Heartbeats::default(), Instant::now());
        let moment = Duration::from_secs(1);
        for id in [7, 8, 7] {
            assert!(heartbeats.receive(Heartbeats::message(ReplicaId(id)).as_bytes()));
            tokio::time::advance(moment).await;
        }
        let expected = [(ReplicaId(7), begun + 2 * moment), (ReplicaId(8), begun + moment)];
        assert_eq!(heartbeats.last_received(), expected.into());
    }
}
