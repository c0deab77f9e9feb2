//! What the bridge counts and measures, for `/metrics` on the admin port.
//!
//! Labels have few values, and nobody outside can choose them: methods of the contract, gRPC codes,
//! configured tenants, interfaces of the gateway. An agent is never a label value. The modules that
//! count supply the values ([`Method`], [`Code`], [`Label`], [`Vocabulary`]).

mod calls;
mod family;
mod label;
mod late;
mod own;
mod process;
mod requests;
mod server;
mod sign_ins;
mod spans;
mod tenant;
mod text_format;
mod times;

use std::{
    collections::BTreeSet,
    fmt,
    sync::{PoisonError, RwLock, RwLockWriteGuard},
};

use prometheus_client::{
    encoding::text::encode,
    metrics::{gauge::Gauge, info::Info},
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
    tenant::{CallCounts, TenantMetrics, Tenants, Vocabulary},
    text_format::Format,
    times::Times,
};

/// All metrics.
#[derive(Debug)]
pub struct Metrics {
    registry: Registry,
    /// Tenants that are not served any more. Their series are not shown.
    removed: RwLock<BTreeSet<String>>,
    /// Metrics of gRPC calls.
    pub calls: Calls,
    /// Metrics of tenants.
    pub tenants: Tenants,
    /// Metrics of requests to gateways.
    pub requests: Requests,
    /// Metrics of exported spans.
    pub spans: SpanMetrics,
    /// Metrics of the bridge as a whole.
    pub server: Server,
    /// Metrics of the operating system's process.
    pub process: Process,
}

impl Metrics {
    /// Metrics for these methods and for these codes, in the order of their numbers.
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
            removed: RwLock::default(),
        }
    }

    /// Does not show the series of this tenant from now on.
    pub fn hide_tenant(&self, tenant: &str) {
        self.removed().insert(tenant.to_owned());
    }

    /// Shows the series of this tenant again. Counters go on where they were.
    pub fn show_tenant(&self, tenant: &str) {
        self.removed().remove(tenant);
    }

    fn removed(&self) -> RwLockWriteGuard<'_, BTreeSet<String>> {
        self.removed.write().unwrap_or_else(PoisonError::into_inner)
    }

    /// Leaves out the lines of tenants that were removed.
    fn shown(&self, text: String) -> String {
        let removed = self.removed.read().unwrap_or_else(PoisonError::into_inner);
        if removed.is_empty() {
            return text;
        }
        let tenant =
            |line: &str| Some(line.split_once("tenant=\"")?.1.split_once('"')?.0.to_owned());
        let is_shown = |line: &&str| tenant(line).is_none_or(|id| !removed.contains(&id));
        text.split_inclusive('\n').filter(is_shown).collect()
    }

    /// All metrics in this format.
    ///
    /// # Errors
    ///
    /// None in practice, since writing to a `String` does not fail.
    pub fn text(&self, format: Format) -> Result<String, fmt::Error> {
        self.process.read();
        let mut text = String::new();
        encode(&mut text, &self.registry)?;
        let text = self.shown(text);
        Ok(match format {
            Format::OpenMetrics => text,
            Format::Prometheus => text_format::prometheus(&text),
        })
    }
}

/// A method of the contract.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Method {
    /// For example `ccgateway.agent.v1.AgentState`.
    pub service: &'static str,
    /// For example `SetBusy`.
    pub name: &'static str,
    /// Whether its answer is a stream.
    pub streams: bool,
}

/// A gRPC code.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Code {
    /// The spelling of dashboards for gRPC, for example `DeadlineExceeded`.
    pub name: &'static str,
    /// What became of a call with this code.
    pub class: CodeClass,
}

/// What became of a call, as far as its code says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CodeClass {
    /// It succeeded.
    Success,
    /// It was refused, because of what it asked for or because of the agent's state.
    Refusal,
    /// Its caller has left.
    Cancelled,
    /// It failed because of a gateway or the bridge.
    Failure,
}

fn set(gauge: &Gauge, value: usize) {
    gauge.set(value.try_into().unwrap_or(i64::MAX));
}
