//! Asks the collector whether it takes spans, for the doctor.

use std::error::Error;

use rustls::ClientConfig;
use tonic::{Code, Request, Status, TimeoutExpired, client::Grpc};
use tonic_prost::ProstCodec;

use super::{
    Collector,
    export::{channel, own_headers},
};

/// An export without spans: its message is empty (opentelemetry/proto/collector/trace/v1).
const EXPORT: &str = "/opentelemetry.proto.collector.trace.v1.TraceService/Export";

/// Why a collector takes no spans.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CollectorProblem {
    /// It cannot be reached, or does not answer.
    #[error("no answer: {0}")]
    NoAnswer(String),
    /// It answers, but not as a collector.
    #[error("it answers, but is no collector that takes OTLP over gRPC: {0}")]
    NoCollector(String),
    /// It refuses.
    #[error("it refuses: {0}")]
    Refused(String),
}

/// Sends an export without spans, with the configured headers, and waits for the answer. Must be called
/// within a tokio runtime.
///
/// # Errors
///
/// [`CollectorProblem`] if the collector did not take it.
pub async fn ask_collector(
    collector: &Collector,
    tls: ClientConfig,
) -> Result<(), CollectorProblem> {
    let mut client = Grpc::new(channel(collector, tls));
    let request = own_headers(collector.headers.clone())(Request::new(()));
    let request = request.map_err(|status| problem(&status))?;
    client.ready().await.map_err(|error| of_connection(&error))?;
    let codec = ProstCodec::<(), ()>::default();
    let path = http::uri::PathAndQuery::from_static(EXPORT);
    client.unary(request, path, codec).await.map(drop).map_err(|status| problem(&status))
}

fn problem(status: &Status) -> CollectorProblem {
    let Some(source) = status.source() else {
        let text = status.message().to_owned();
        return match status.code() {
            Code::Unimplemented | Code::Internal | Code::Unknown => {
                CollectorProblem::NoCollector(text)
            }
            Code::Unavailable | Code::DeadlineExceeded | Code::Cancelled => {
                CollectorProblem::NoAnswer(text)
            }
            _ => CollectorProblem::Refused(text),
        };
    };
    of_connection(source)
}

/// An error of the network, no answer in time, or a connection that did not carry HTTP/2.
fn of_connection(error: &(dyn Error + 'static)) -> CollectorProblem {
    let mut causes = std::iter::successors(Some(error), |&error| error.source());
    let is_of_the_network =
        causes.any(|error| error.is::<std::io::Error>() || error.is::<TimeoutExpired>());
    if is_of_the_network {
        CollectorProblem::NoAnswer(bottom(error))
    } else {
        CollectorProblem::NoCollector(bottom(error))
    }
}

/// The error at the bottom, which a person can act on.
fn bottom(error: &(dyn Error + 'static)) -> String {
    let mut bottom = error;
    while let Some(source) = bottom.source() {
        bottom = source;
    }
    bottom.to_string()
}
