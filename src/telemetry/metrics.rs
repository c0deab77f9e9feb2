//! What the bridge counts and measures, for `/metrics` on the admin port.
//!
//! Labels have few values that nobody outside can choose: methods of the contract, gRPC codes,
//! tenants of the configuration, interfaces of the gateway. Never an agent. Which values there are is
//! told by the rooms that count ([`Method`], [`Code`], [`Label`], [`Vocabulary`]).

mod calls;
mod label;
mod process;
mod requests;
mod server;
mod sign_ins;
mod spans;
mod tenant;

use std::fmt;

use prometheus_client::{
    encoding::text::encode,
    metrics::{gauge::Gauge, histogram::Histogram, info::Info},
    registry::Registry,
};

use crate::version;

pub use self::{
    calls::{CallMetrics, Calls},
    label::{Counters, Label, Numbered},
    process::Process,
    requests::{RequestMetrics, Requests},
    server::Server,
    sign_ins::SignIns,
    spans::SpanMetrics,
    tenant::{TenantMetrics, Tenants, Vocabulary},
};

/// Everything that is counted and measured.
#[derive(Debug)]
pub struct Metrics {
    registry: Registry,
    /// Of the gRPC side.
    pub calls: Calls,
    /// Of the tenants.
    pub tenants: Tenants,
    /// Of requests to their gateways.
    pub requests: Requests,
    /// Of traces.
    pub spans: SpanMetrics,
    /// Of the bridge as a whole.
    pub server: Server,
    /// Of the process.
    pub process: Process,
}

/// The content type of [`Metrics::text`].
pub const CONTENT_TYPE: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

/// Up to the longest deadlines that make sense, and fine where a fast gateway answers.
const SECONDS: [f64; 15] =
    [0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0];

impl Metrics {
    /// Metrics of these methods, such as `ccgateway.agent.v1.AgentState/SetBusy`, and of the codes that
    /// their calls can end with, in the order of their numbers.
    pub fn new(methods: &[Method], codes: &'static [Code]) -> Self {
        let mut registry = Registry::default();
        let build = Info::new(vec![("version", version::NUMBER), ("commit", version::COMMIT)]);
        registry.register("ccgw_build", "The program", build);
        Self {
            calls: Calls::new(methods, codes, &mut registry),
            tenants: Tenants::new(codes, &mut registry),
            requests: Requests::new(&mut registry),
            spans: SpanMetrics::new(&mut registry),
            server: Server::new(&mut registry),
            process: Process::new(&mut registry),
            registry,
        }
    }

    /// All of it, in the `OpenMetrics` text format.
    ///
    /// # Errors
    ///
    /// None in practice: writing to a `String` does not fail.
    pub fn text(&self) -> Result<String, fmt::Error> {
        self.process.read();
        let mut text = String::new();
        encode(&mut text, &self.registry)?;
        Ok(text)
    }
}

/// A method of the contract.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Method {
    /// Such as `ccgateway.agent.v1.AgentState`.
    pub service: String,
    /// Such as `SetBusy`.
    pub name: String,
    /// Whether its answer is a stream.
    pub streams: bool,
}

/// A code that calls end with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Code {
    /// As dashboards for gRPC spell it, such as `DeadlineExceeded`.
    pub name: &'static str,
    /// Whether such a call has failed through the fault of a gateway or of the bridge.
    pub is_failure: bool,
}

fn seconds() -> Histogram {
    Histogram::new(SECONDS)
}

fn set(gauge: &Gauge, value: usize) {
    gauge.set(value.try_into().unwrap_or(i64::MAX));
}
