//! What the bridge counts and measures, for `/metrics` on the admin port.
//!
//! Labels have few values that nobody outside can choose: methods of the contract, gRPC codes,
//! tenants of the configuration, interfaces of the gateway. Never an agent.

mod calls;
mod process;
mod server;
mod sign_ins;
mod spans;
mod tenant;
mod window;

use std::fmt;

use prometheus_client::{
    encoding::text::encode,
    metrics::{histogram::Histogram, info::Info},
    registry::Registry,
};

use crate::version;

pub use self::{
    calls::{CallMetrics, Calls},
    process::Process,
    server::Server,
    sign_ins::{SignIns, TakeOver},
    spans::SpanMetrics,
    tenant::{TenantMetrics, Tenants},
    window::Counts,
};

/// Everything that is counted and measured.
#[derive(Debug)]
pub struct Metrics {
    registry: Registry,
    /// Of the gRPC side.
    pub calls: Calls,
    /// Of the tenants.
    pub tenants: Tenants,
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
    /// Metrics of these methods, such as `ccgateway.agent.v1.AgentState/SetBusy`.
    pub fn new(methods: &[Method]) -> Self {
        let mut registry = Registry::default();
        let build = Info::new(vec![("version", version::NUMBER), ("commit", version::COMMIT)]);
        registry.register("ccgw_build", "The program", build);
        Self {
            calls: Calls::new(methods, &mut registry),
            tenants: Tenants::new(&mut registry),
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

fn seconds() -> Histogram {
    Histogram::new(SECONDS)
}
