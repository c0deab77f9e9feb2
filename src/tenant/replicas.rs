//! What a tenant has to do with other replicas of the bridge.

use std::{fmt, sync::Arc};

use futures_util::future::BoxFuture;

use super::{PollOwnership, SharedSignIns, Work, ownership::Alone};
use crate::{
    config,
    event::{Events, NoRelay, Relay},
    id::TenantId,
};

/// The replicas of the bridge that share a store.
pub trait Replicas: fmt::Debug + Send + Sync {
    /// What they agree on for a tenant.
    fn of(&self, tenant: &TenantId) -> Peers;

    /// By which they tell each other of a tenant's events, about `kept` of which are kept, and what
    /// it does for as long as it is run. Events that are told come to `events`.
    fn relay(
        &self,
        tenant: &TenantId,
        events: Arc<Events>,
        kept: usize,
    ) -> (Arc<dyn Relay>, BoxFuture<'static, ()>);
}

/// What replicas agree on for one tenant.
#[derive(Debug)]
pub struct Peers {
    /// Which of them polls an agent.
    pub polls: Arc<dyn PollOwnership>,
    /// Which of them signs an agent in, and when.
    pub sign_ins: Arc<dyn SharedSignIns>,
}

/// How a tenant is shared with other replicas, if there are any. The one place that asks whether there
/// are.
pub(super) struct Sharing {
    pub(super) events: Arc<Events>,
    pub(super) relay: Arc<dyn Relay>,
    pub(super) polls: Arc<dyn PollOwnership>,
    pub(super) sign_ins: Option<Arc<dyn SharedSignIns>>,
}

impl Sharing {
    /// Of this tenant; what it does in the background is among `work`.
    pub(super) fn of(
        replicas: Option<&dyn Replicas>,
        tenant: &TenantId,
        config: &config::Tenant,
        work: &Work,
    ) -> Self {
        let limits = config.events.clone();
        let peers = replicas.map(|replicas| (replicas, replicas.of(tenant)));
        match peers {
            // Without polls there is nothing to tell of, and nobody to agree with on them.
            Some((replicas, Peers { polls, sign_ins })) if config.keep.enabled => {
                let kept = limits.kept.get();
                let events = Arc::new(Events::numbered_elsewhere(limits));
                let (relay, relaying) = replicas.relay(tenant, events.clone(), kept);
                let ends = work.keeping.clone();
                work.tasks.spawn(async move { ends.run_until_cancelled(relaying).await });
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
