//! Metrics of requests to gateways.

use std::{
    iter,
    marker::PhantomData,
    sync::{Arc, OnceLock},
    time::Duration,
};

use prometheus_client::{
    encoding::EncodeLabelSet,
    metrics::{counter::Counter, gauge::Gauge},
    registry::{Registry, Unit},
};

use super::{
    Numbered,
    family::Family,
    label::TenantLabels,
    times::{Histogram, Times},
};

/// Metrics of requests and connections to gateways, of all tenants.
#[derive(Clone, Debug)]
pub struct Requests {
    answered: Family<RequestLabels, Counter>,
    seconds: Family<InterfaceLabels, Histogram>,
    connections: Family<TenantLabels, Gauge>,
}

/// One tenant's part. `I` is an interface of the gateway, and `R` is the result of a request.
#[derive(Debug)]
pub struct RequestMetrics<I, R: 'static> {
    tenant: Arc<str>,
    families: Requests,
    connections: Gauge,
    /// Once an interface is used, it has a series for each of these results.
    results: &'static [R],
    /// By the number of the interface. Nothing is exported of one that was never used.
    found: Box<[OnceLock<Found>]>,
    interfaces: PhantomData<fn(I)>,
}

/// The metrics of one interface.
#[derive(Debug)]
struct Found {
    /// By the number of the result. Each is looked up by its labels when it occurs for the first time, so that results
    /// which never occurred are not exported.
    answered: Box<[OnceLock<Counter>]>,
    seconds: Histogram,
    /// What the histogram had before, if anything: the series of a tenant that was removed and comes back go on.
    before: Option<Box<Times>>,
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
            seconds: Family::default(),
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

    /// A tenant's part. An interface gets a series for each of `results` with its first request, and those in
    /// `from_the_start` are there at once, with the value 0. Alerts use the increase of some of them, and a
    /// series that begins with 1 shows no increase.
    pub fn of<I: Numbered, R: Numbered>(
        &self,
        tenant: &str,
        results: &'static [R],
        from_the_start: impl IntoIterator<Item = (I, R)>,
    ) -> RequestMetrics<I, R> {
        let tenant: Arc<str> = tenant.into();
        let connections = TenantLabels { tenant: tenant.clone() };
        let connections = self.connections.get_or_create(&connections);
        let (families, interfaces) = (self.clone(), PhantomData);
        let found = iter::repeat_with(OnceLock::new).take(I::COUNT).collect();
        let metrics = RequestMetrics { tenant, families, connections, results, found, interfaces };
        for (interface, result) in from_the_start {
            metrics.counter(interface, result);
        }
        metrics
    }
}

impl Found {
    fn times(&self) -> Times {
        self.seconds.times() - self.before.as_deref().copied().unwrap_or_default()
    }
}

impl<I: Numbered, R: Numbered> RequestMetrics<I, R> {
    /// Counts a request with its result and the time that it took.
    pub fn request(&self, interface: I, result: R, took: Duration) {
        let Some(found) = self.found.get(interface.number()) else { return };
        let found = found.get_or_init(|| self.begin(interface));
        if let Some(answered) = found.answered.get(result.number()) {
            answered.get_or_init(|| self.counter(interface, result)).inc();
        }
        found.seconds.observe(took);
    }

    /// How long this tenant's requests to an interface have taken so far.
    pub fn times(&self, interface: I) -> Times {
        let found = self.found.get(interface.number()).and_then(OnceLock::get);
        found.map(Found::times).unwrap_or_default()
    }

    /// The metrics of an interface that is used for the first time.
    fn begin(&self, interface: I) -> Found {
        for result in self.results {
            self.counter(interface, *result);
        }
        let answered = iter::repeat_with(OnceLock::new).take(R::COUNT).collect();
        let labels = InterfaceLabels { tenant: self.tenant.clone(), interface: interface.as_str() };
        let seconds = self.families.seconds.get_or_create(&labels);
        let before = Some(seconds.times()).filter(|times| *times != Times::default());
        Found { answered, seconds, before: before.map(Box::new) }
    }

    /// The counter of a result, which is exported from now on.
    fn counter(&self, interface: I, result: R) -> Counter {
        let (interface, result) = (interface.as_str(), result.as_str());
        let labels = RequestLabels { tenant: self.tenant.clone(), interface, result };
        self.families.answered.get_or_create(&labels)
    }

    /// The gauge of open connections to the tenant's gateway.
    pub fn connections(&self) -> &Gauge {
        &self.connections
    }
}
