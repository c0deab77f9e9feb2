//! Metrics of requests to gateways.

use std::{
    iter,
    marker::PhantomData,
    sync::{Arc, OnceLock},
    time::Duration,
};

use prometheus_client::{
    encoding::EncodeLabelSet,
    metrics::{counter::Counter, family::Family, gauge::Gauge, histogram::Histogram},
    registry::{Registry, Unit},
};

use super::{Numbered, label::TenantLabels, seconds};

/// Metrics of requests and connections to gateways, of all tenants.
#[derive(Clone, Debug)]
pub struct Requests {
    answered: Family<RequestLabels, Counter>,
    seconds: Family<InterfaceLabels, Histogram>,
    connections: Family<TenantLabels, Gauge>,
}

/// One tenant's part. `I` is an interface of the gateway, and `R` is the result of a request.
#[derive(Debug)]
pub struct RequestMetrics<I, R> {
    tenant: Arc<str>,
    families: Requests,
    connections: Gauge,
    /// By the number of the interface.
    found: Box<[Found]>,
    labels: PhantomData<fn(I, R)>,
}

/// The metrics of one interface. Each is looked up by its labels when it is used for the first time, so
/// that results which never occurred are not exported.
#[derive(Debug)]
struct Found {
    /// By the number of the result.
    answered: Box<[OnceLock<Counter>]>,
    seconds: OnceLock<Histogram>,
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
            "From the start of a request, with its wait for a connection, to its answer",
            Unit::Seconds,
            seconds.clone(),
        );
        families
    }

    /// A tenant's part. The results in `from_the_start` get a series at once, with the value 0.
    /// Alerts use the increase of some of them, and a series that begins with 1 shows no increase.
    pub fn of<I: Numbered, R: Numbered>(
        &self,
        tenant: &str,
        from_the_start: impl IntoIterator<Item = (I, R)>,
    ) -> RequestMetrics<I, R> {
        let tenant: Arc<str> = tenant.into();
        let connections = TenantLabels { tenant: tenant.clone() };
        let connections = self.connections.get_or_create(&connections).clone();
        let families = self.clone();
        let found = iter::repeat_with(|| Found::of(R::COUNT)).take(I::COUNT).collect();
        let metrics = RequestMetrics { tenant, families, connections, found, labels: PhantomData };
        for (interface, result) in from_the_start {
            metrics.answered(interface, result);
        }
        metrics
    }
}

impl<I: Numbered, R: Numbered> RequestMetrics<I, R> {
    /// Counts a request with its result and the time that it took.
    pub fn request(&self, interface: I, result: R, took: Duration) {
        if let Some(answered) = self.answered(interface, result) {
            answered.inc();
        }
        if let Some(seconds) = self.seconds(interface) {
            seconds.observe(took.as_secs_f64());
        }
    }

    fn answered(&self, interface: I, result: R) -> Option<&Counter> {
        let found = self.found.get(interface.number())?.answered.get(result.number())?;
        let find = || self.families.answered.get_or_create(&self.labels(interface, result)).clone();
        Some(found.get_or_init(find))
    }

    fn seconds(&self, interface: I) -> Option<&Histogram> {
        let found = &self.found.get(interface.number())?.seconds;
        let (tenant, name) = (&self.tenant, interface.as_str());
        let labels = || InterfaceLabels { tenant: tenant.clone(), interface: name };
        Some(found.get_or_init(|| self.families.seconds.get_or_create(&labels()).clone()))
    }

    /// The gauge of open connections to the tenant's gateway.
    pub fn connections(&self) -> &Gauge {
        &self.connections
    }

    fn labels(&self, interface: I, result: R) -> RequestLabels {
        let (interface, result) = (interface.as_str(), result.as_str());
        RequestLabels { tenant: self.tenant.clone(), interface, result }
    }
}

impl Found {
    fn of(results: usize) -> Self {
        let answered = iter::repeat_with(OnceLock::new).take(results).collect();
        Self { answered, seconds: OnceLock::new() }
    }
}
