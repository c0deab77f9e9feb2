use std::{marker::PhantomData, sync::Arc, time::Duration};

use prometheus_client::{
    encoding::EncodeLabelSet,
    metrics::{counter::Counter, family::Family, gauge::Gauge, histogram::Histogram},
    registry::{Registry, Unit},
};

use super::{Label, label::TenantLabels, seconds};

/// Requests to gateways, and the connections to them, of all tenants.
#[derive(Clone, Debug)]
pub struct Requests {
    answered: Family<RequestLabels, Counter>,
    seconds: Family<InterfaceLabels, Histogram>,
    connections: Family<TenantLabels, Gauge>,
}

/// One tenant's part. `I` is an interface of its gateway, and `R` the result of a request.
#[derive(Debug)]
pub struct RequestMetrics<I, R> {
    tenant: Arc<str>,
    families: Requests,
    connections: Gauge,
    labels: PhantomData<fn(I, R)>,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct InterfaceLabels {
    tenant: Arc<str>,
    interface: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct RequestLabels {
    tenant: Arc<str>,
    interface: &'static str,
    result: &'static str,
}

impl Requests {
    pub(super) fn new(registry: &mut Registry) -> Self {
        let families = Self {
            answered: Family::default(),
            seconds: Family::new_with_constructor(seconds),
            connections: Family::default(),
        };
        let Self { answered, seconds, connections } = &families;
        let help = "Connections to gateways that are open";
        registry.register("ccgw_gateway_connections", help, connections.clone());
        registry.register("ccgw_gateway_requests", "Requests to gateways", answered.clone());
        registry.register_with_unit(
            "ccgw_gateway_request_duration",
            "From the first byte towards a gateway to its whole answer",
            Unit::Seconds,
            seconds.clone(),
        );
        families
    }

    /// The part of a tenant of the configuration. The results in `from_the_start` are told of before
    /// there are any: alerts take the increase of some, and a series that begins at 1 has not increased.
    pub fn of<I: Label, R: Label>(
        &self,
        tenant: &str,
        from_the_start: impl IntoIterator<Item = (I, R)>,
    ) -> RequestMetrics<I, R> {
        let tenant: Arc<str> = tenant.into();
        let connections = TenantLabels { tenant: tenant.clone() };
        let connections = self.connections.get_or_create(&connections).clone();
        let families = self.clone();
        let metrics = RequestMetrics { tenant, families, connections, labels: PhantomData };
        for (interface, result) in from_the_start {
            drop(self.answered.get_or_create(&metrics.labels(interface, result)));
        }
        metrics
    }
}

impl<I: Label, R: Label> RequestMetrics<I, R> {
    /// A request was answered, or not, so long after it was begun.
    pub fn request(&self, interface: I, result: R, took: Duration) {
        self.families.answered.get_or_create(&self.labels(interface, result)).inc();
        let labels = InterfaceLabels { tenant: self.tenant.clone(), interface: interface.as_str() };
        self.families.seconds.get_or_create(&labels).observe(took.as_secs_f64());
    }

    /// The connections to the tenant's gateway that are open.
    pub fn connections(&self) -> &Gauge {
        &self.connections
    }

    fn labels(&self, interface: I, result: R) -> RequestLabels {
        let (interface, result) = (interface.as_str(), result.as_str());
        RequestLabels { tenant: self.tenant.clone(), interface, result }
    }
}
