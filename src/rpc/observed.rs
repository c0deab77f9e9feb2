//! What is recorded of all calls: metrics, traces and the last failures.
use super::{Failures, methods};
use crate::{
    config,
    telemetry::{
        audit::Audit,
        metrics::{Code, CodeClass, Metrics},
        trace::{Tracer, TracerError},
    },
    tls,
};

/// Metrics, traces and the last failures of all calls.
#[derive(Debug)]
pub struct Observed {
    /// The metrics of the process.
    pub metrics: Metrics,
    /// Makes the traces of calls.
    pub tracer: Tracer,
    /// The last calls that failed.
    pub failures: Failures,
    /// Notes calls that may change something; `None`: nothing is noted.
    pub audit: Option<Audit>,
}

/// gRPC codes by number, spelled as dashboards for gRPC do.
const CODES: [Code; 17] = [
    Code { name: "OK", class: CodeClass::Success },
    Code { name: "Canceled", class: CodeClass::Cancelled },
    failure("Unknown"),
    refusal("InvalidArgument"),
    failure("DeadlineExceeded"),
    refusal("NotFound"),
    refusal("AlreadyExists"),
    refusal("PermissionDenied"),
    failure("ResourceExhausted"),
    refusal("FailedPrecondition"),
    refusal("Aborted"),
    refusal("OutOfRange"),
    refusal("Unimplemented"),
    failure("Internal"),
    failure("Unavailable"),
    refusal("DataLoss"),
    refusal("Unauthenticated"),
];

/// Whether a call with this code was refused because of the caller or the agent's state.
pub(super) fn is_refusal(code: tonic::Code) -> bool {
    let number = usize::try_from(i32::from(code)).unwrap_or(CODES.len());
    CODES.get(number).is_some_and(|code| code.class == CodeClass::Refusal)
}

/// A code for calls that were refused because of the caller or the agent's state.
const fn refusal(name: &'static str) -> Code {
    Code { name, class: CodeClass::Refusal }
}

/// A code for calls that failed because of a gateway or the bridge.
const fn failure(name: &'static str) -> Code {
    Code { name, class: CodeClass::Failure }
}

impl Observed {
    /// For a server without calls yet. Must be called within a tokio runtime.
    ///
    /// # Errors
    ///
    /// [`TracerError`] if the exporter of traces cannot be built.
    pub fn new(
        exported: Option<&config::Traces>,
        audit: Option<Audit>,
    ) -> Result<Self, TracerError> {
        let metrics = Metrics::new(&methods(), &CODES);
        let tracer = match exported {
            Some(config::Traces { collector, tls }) => {
                let tls = tls::client_config(tls).map_err(TracerError::new)?;
                Tracer::new(collector, tls, metrics.spans.clone())?
            }
            None => Tracer::default(),
        };
        Ok(Self { metrics, tracer, failures: Failures::default(), audit })
    }
}
