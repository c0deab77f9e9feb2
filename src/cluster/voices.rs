//! Which replicas have said that they are alive, where the store cannot keep a list of them.

use std::{
    collections::HashMap,
    sync::{Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use tokio::time::Instant;

use super::ReplicaId;

/// When each replica of a tenant was heard last, by this replica's clock.
///
/// A store that takes no writes still carries messages. So replicas whose lease on their own place in
/// the list cannot be renewed call out instead, and hear each other and themselves.
#[derive(Debug, Default)]
pub struct Voices {
    heard: Mutex<HashMap<ReplicaId, Instant>>,
}

/// What a replica calls out, before its id.
const ALIVE: &str = "alive:";
/// Replicas that have not been heard for this time are forgotten.
const REMEMBERED: Duration = Duration::from_secs(3600);

impl Voices {
    /// What a replica calls out.
    pub(super) fn words(me: ReplicaId) -> String {
        format!("{ALIVE}{me}")
    }

    /// Takes a message in; whether it was a replica that called out.
    pub(crate) fn hear(&self, message: &[u8]) -> bool {
        let id = str::from_utf8(message).ok().and_then(|message| message.strip_prefix(ALIVE));
        let Some(replica) = id.and_then(ReplicaId::parse) else { return false };
        let mut heard = self.heard();
        heard.retain(|_, at| at.elapsed() < REMEMBERED);
        heard.insert(replica, Instant::now());
        true
    }

    /// When each was heard last.
    pub(super) fn last(&self) -> HashMap<ReplicaId, Instant> {
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
    async fn only_what_replicas_call_out_is_heard_and_remembered_for_a_while() {
        let voices = Voices::default();
        assert!(voices.hear(Voices::words(ReplicaId(7)).as_bytes()));
        for other in [&b"roster"[..], b"alive:", b"alive:x", b"\xff\xfe"] {
            assert!(!voices.hear(other), "{other:?}");
        }
        assert_eq!(voices.last(), [(ReplicaId(7), Instant::now())].into());
        tokio::time::advance(REMEMBERED).await;
        voices.hear(Voices::words(ReplicaId(8)).as_bytes());
        assert_eq!(voices.last(), [(ReplicaId(8), Instant::now())].into());
    }
}
