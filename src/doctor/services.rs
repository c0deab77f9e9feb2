//! What the bridge uses beside its gateways: the store of sessions, the keys of issuers, and the collector
//! of traces.

use super::{Finding, Level};
use crate::{
    access::tokens::KeySource,
    config::{Issuer, Traces},
    telemetry::trace::{CollectorProblem, ask_collector},
    tls,
};

/// What was found about the store.
///
/// `asked` is the answer of the store: what it can do, or what is wrong and what to do about it.
pub fn store(asked: Result<String, (String, String)>) -> Finding {
    match asked {
        Ok(found) => Finding::ok("store", found),
        Err((found, remedy)) => Finding { level: Level::Problem, check: "store", found, remedy },
    }
}

/// Reads the keys of an issuer of callers' tokens.
pub async fn issuer(name: &str, issuer: &Issuer) -> Finding {
    let read = match KeySource::of(&issuer.keys) {
        Ok(source) => source.read().await,
        Err(error) => Err(error),
    };
    match read {
        Ok(keys) => {
            let count = match keys.len() {
                1 => "1 key".to_owned(),
                count => format!("{count} keys"),
            };
            let found = format!("{count} of {} can be read", issuer.issuer);
            Finding::ok("keys", found)
        }
        Err(error) => {
            let remedy = format!(
                "check jwks_url, jwks_ca_file and jwks_token_file, or jwks_file, in [issuers.{name}]; without its keys no \
                 token of this issuer is taken"
            );
            Finding { level: Level::Problem, check: "keys", found: error, remedy }
        }
    }
}

/// Asks the collector whether it takes spans. It takes at most the time limit of an export, and must be
/// called within a Tokio runtime.
pub async fn collector(traces: &Traces) -> Finding {
    let endpoint = &traces.collector.endpoint;
    let tls = match tls::client_config(&traces.tls) {
        Ok(tls) => tls,
        Err(error) => return problem(error, "set traces.tls.ca_file"),
    };
    match ask_collector(&traces.collector, tls).await {
        Ok(()) => Finding::ok("traces", format!("the collector at {endpoint} takes spans")),
        Err(error) => {
            let remedy = match error {
                CollectorProblem::NoAnswer(_) => {
                    "check traces.endpoint and traces.tls, and that the collector runs; calls do not \
                     wait for it, but their traces are lost"
                }
                CollectorProblem::NoCollector(_) => {
                    "give the collector's port for OTLP over gRPC in traces.endpoint, 4317 as a rule; 4318 \
                     is for HTTP"
                }
                CollectorProblem::Refused(_) => {
                    "check traces.headers_file; the headers of OTEL_EXPORTER_OTLP_HEADERS were not sent \
                     here, other than by a bridge that serves"
                }
            };
            problem(format!("the collector at {endpoint}: {error}"), remedy)
        }
    }
}

/// The bridge works without its collector.
fn problem(found: String, remedy: &str) -> Finding {
    Finding::warning("traces", found, remedy)
}
