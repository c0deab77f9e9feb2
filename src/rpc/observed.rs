use super::{Failures, methods};
use crate::{
    config,
    telemetry::{
        metrics::{Code, Metrics},
        trace::{Tracer, TracerError},
    },
    tls,
};

/// What can be seen of calls from outside.
#[derive(Debug)]
pub struct Observed {
    /// What is counted.
    pub metrics: Metrics,
    /// What their traces go through.
    pub tracer: Tracer,
    /// The last ones that failed.
    pub failures: Failures,
}

/// As dashboards for gRPC spell them, by number.
const CODES: [Code; 17] = [
    fine("OK"),
    fine("Canceled"),
    failure("Unknown"),
    fine("InvalidArgument"),
    failure("DeadlineExceeded"),
    fine("NotFound"),
    fine("AlreadyExists"),
    fine("PermissionDenied"),
    failure("ResourceExhausted"),
    fine("FailedPrecondition"),
    fine("Aborted"),
    fine("OutOfRange"),
    fine("Unimplemented"),
    failure("Internal"),
    failure("Unavailable"),
    fine("DataLoss"),
    fine("Unauthenticated"),
];

/// A code of calls that went well, or failed through their caller or for the agent's state.
const fn fine(name: &'static str) -> Code {
    Code { name, is_failure: false }
}

/// A code of calls that failed through the fault of a gateway or of the bridge.
const fn failure(name: &'static str) -> Code {
    Code { name, is_failure: true }
}

impl Observed {
    /// Of a server that has no calls yet. Must be called within a runtime.
    ///
    /// # Errors
    ///
    /// [`TracerError`].
    pub fn new(traces: Option<&config::Traces>) -> Result<Self, TracerError> {
        let metrics = Metrics::new(&methods(), &CODES);
        let tracer = match traces {
            Some(config::Traces { collector, tls }) => {
                let tls = tls::client_config(tls).map_err(TracerError::new)?;
                Tracer::new(collector, tls, metrics.spans.clone())?
            }
            None => Tracer::default(),
        };
        Ok(Self { metrics, tracer, failures: Failures::default() })
    }
}
