//! Metrics of sign-ins that the bridge makes by itself, and of agents whom other clients sign in.

use std::{
    sync::{Arc, atomic::AtomicU64},
    time::Duration,
};

use prometheus_client::{
    encoding::EncodeLabelSet,
    metrics::{counter::Counter, gauge::Gauge},
    registry::{Registry, Unit},
};

use super::{Counters, Label, family::Family, label::TenantLabels, set};

/// The metrics of all tenants.
#[derive(Clone, Debug, Default)]
pub(super) struct Families {
    queued: Family<TenantLabels, Gauge>,
    oldest: Family<TenantLabels, Seconds>,
    take_overs: Family<ResultLabels, Counter>,
    given_up: Family<TenantLabels, Gauge>,
}

/// One tenant's part. `T` is the result of a sign-in that found the agent with another client.
#[derive(Debug)]
pub struct SignIns<T> {
    queued: Gauge,
    oldest: Seconds,
    take_overs: Counters<T>,
    given_up: Gauge,
}

type Seconds = Gauge<f64, AtomicU64>;

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ResultLabels {
    tenant: Arc<str>,
    result: &'static str,
}

impl Families {
    pub(super) fn register(&self, registry: &mut Registry) {
        let help = "Agents that wait to be signed in by the bridge";
        registry.register("ccgw_sign_ins_queued", help, self.queued.clone());
        registry.register_with_unit(
            "ccgw_sign_ins_oldest_wait",
            "How long the agent that has waited longest has been waiting",
            Unit::Seconds,
            self.oldest.clone(),
        );
        let help =
            "Sign-ins of agents whom another client had signed in, or somebody had signed out";
        registry.register("ccgw_take_overs", help, self.take_overs.clone());
        let help = "Agents that the bridge has given up to another client";
        registry.register("ccgw_agents_given_up", help, self.given_up.clone());
    }

    pub(super) fn of<T: Label + PartialEq>(
        &self,
        tenant: &Arc<str>,
        take_overs: &[T],
    ) -> SignIns<T> {
        let labels = TenantLabels { tenant: tenant.clone() };
        let take_over = |result| {
            let labels = ResultLabels { tenant: tenant.clone(), result };
            self.take_overs.get_or_create(&labels)
        };
        SignIns {
            queued: self.queued.get_or_create(&labels),
            oldest: self.oldest.get_or_create(&labels),
            take_overs: Counters::new(take_overs, take_over),
            given_up: self.given_up.get_or_create(&labels),
        }
    }
}

impl<T: Label + PartialEq> SignIns<T> {
    /// Counts a sign-in that found the agent with another client.
    pub fn take_over(&self, result: T) {
        self.take_overs.inc(result);
    }

    /// Sets how many agents wait, and how long the first of them has waited.
    pub fn set_queue(&self, waiting: usize, oldest: Duration) {
        set(&self.queued, waiting);
        self.oldest.set(oldest.as_secs_f64());
    }

    /// Sets how many agents are given up.
    pub fn set_given_up(&self, agents: usize) {
        set(&self.given_up, agents);
    }
}
