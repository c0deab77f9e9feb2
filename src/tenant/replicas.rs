//! The interface through which a tenant works with other replicas of the bridge.

use std::{fmt, sync::Arc};

use futures_util::future::BoxFuture;

use super::{DetachedWork, PollOwnership, SharedSignIns, ownership::Alone};
use crate::{
    config,
    event::{Events, NoRelay, Relay},
    id::TenantId,
};

/// The replicas of the bridge that share a store.
pub trait Replicas: fmt::Debug + Send + Sync {
    /// What the replicas coordinate for one tenant.
    fn of(&self, tenant: &TenantId) -> Peers;

    /// Makes the relay for a tenant's events, and the future that does its work while it is polled.
    /// Published events come back through `events`, in the order that all replicas share. About
    /// `kept` events are stored.
    fn relay(
        &self,
        tenant: &TenantId,
        events: Arc<Events>,
        kept: usize,
    ) -> (Arc<dyn Relay>, BoxFuture<'static, ()>);
}

/// What replicas coordinate for one tenant.
#[derive(Debug)]
pub struct Peers {
    /// Decides which replica polls an agent.
    pub polls: Arc<dyn PollOwnership>,
    /// Decides which replica signs an agent in, and when.
    pub sign_ins: Arc<dyn SharedSignIns>,
}

/// The parts of a tenant that depend on whether there are other replicas. Only [`Sharing::of`] asks
/// whether there are.
pub(super) struct Sharing {
    pub(super) events: Arc<Events>,
    pub(super) relay: Arc<dyn Relay>,
    pub(super) polls: Arc<dyn PollOwnership>,
    pub(super) sign_ins: Option<Arc<dyn SharedSignIns>>,
}

impl Sharing {
    /// The parts for this tenant. Starts their background task among `work`.
    pub(super) fn of(
        replicas: Option<&dyn Replicas>,
        tenant: &TenantId,
        config: &config::Tenant,
        work: &DetachedWork,
    ) -> Self {
        let limits = config.events.clone();
        let peers = replicas.map(|replicas| (replicas, replicas.of(tenant)));
        match peers {
            // Without polls there are no events to relay, and no polls to share.
            Some((replicas, Peers { polls, sign_ins })) if config.keep.enabled => {
                let kept = limits.kept.get();
                let events = Arc::new(Events::numbered_elsewhere(limits));
                let (relay, relaying) = replicas.relay(tenant, events.clone(), kept);
                // Not one of the tasks: it has no request under way, and tells what comes of the last one.
                let ends = work.relaying.clone();
                tokio::spawn(async move { ends.run_until_cancelled(relaying).await });
                Self { events, relay, polls, sign_ins: Some(sign_ins) }
            }
            peers => Self {
                events: Arc::new(Events::new(limits)),
                relay: Arc::new(NoRelay),
                polls: Arc::new(Alone),
                sign_ins: peers.map(|(_, peers)| peers.sign_ins),
            },
        }
    }
}
