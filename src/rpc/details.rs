//! The details of a status: `google.rpc` messages within a budget, and what gRPC's own retries
//! read.

use std::{collections::HashMap, time::Duration};

use tonic::{
    Status,
    metadata::{MetadataMap, MetadataValue},
};
use tonic_types::{ErrorDetails, StatusExt as _};

use super::{
    record::{About, visible},
    status::{More, Row, SHORTLY},
};
use crate::call::{CallError, Outcome, Share};

/// `ErrorInfo.domain` of every error of the bridge.
pub const ERROR_DOMAIN: &str = "cc-gateway";

/// gRPC clients are advised to take 8 KiB of trailers. With these limits every client gets the
/// error whole, base64 and a proxy's own additions included.
pub(super) const MESSAGE_MAX: usize = 512;
/// See [`MESSAGE_MAX`]. A test holds every error to it.
#[cfg(test)]
pub(super) const DETAILS_MAX: usize = 3 * 1024;
const VIOLATIONS_MAX: usize = 8;
const DESCRIPTION_MAX: usize = 160;
const CAUSE_MAX: usize = 300;
const GATEWAY_TEXT_MAX: usize = 256;

/// A pushback of 0 means "at once", but gRPC's C core (seen in 1.85, under Python) then waits for
/// ever and never tries again.
const SHORTEST_DELAY: Duration = Duration::from_millis(1);

/// What an attempt needs beside the pause before it: a caller that has less left after the pause would
/// hear of its deadline alone.
const LAST_ATTEMPT: Duration = Duration::from_millis(100);

/// A status with all its details; `left` is what its caller has left, if it says so.
pub(super) fn status(
    message: String,
    error: &CallError,
    about: &About,
    row: &Row<'_>,
    left: Option<Duration>,
) -> Status {
    let mut details = ErrorDetails::new();
    details.set_error_info(row.reason, ERROR_DOMAIN, metadata(error, about));
    add(&mut details, row.more, error, about);
    let pushback = pushback(error, row.more, left);
    Status::with_error_details_and_metadata(row.code, message, details, pushback)
}

fn add(details: &mut ErrorDetails, more: More<'_>, error: &CallError, about: &About) {
    let agent = || format!("tenants/{}/agents/{}", about.tenant_id, about.agent_id);
    match more {
        More::BadRequest(fields) => {
            for violation in fields.iter().take(VIOLATIONS_MAX) {
                let description = visible(&violation.description, DESCRIPTION_MAX);
                details.add_bad_request_violation(violation.field, description);
            }
        }
        More::Precondition(kind) => {
            let description = visible(&error.to_string(), CAUSE_MAX);
            details.add_precondition_failure_violation(kind, agent(), description);
        }
        More::NotBefore(delay) => {
            details.set_retry_info(Some(delay.max(SHORTEST_DELAY)));
        }
        // Where the outcome is unknown, "try again in a second" would be a lie.
        More::RetryAfter(delay) if error.outcome() != Outcome::Unknown => {
            details.set_retry_info(Some(delay.max(SHORTEST_DELAY)));
        }
        More::UnknownTenant => {
            let name = about.tenant_id.as_str();
            details.set_resource_info("tenant", name, "", "no tenant of this id is configured");
        }
        More::Quota(share) => {
            let subject = match share {
                Share::ServerCalls | Share::ServerReading | Share::ServerReflection => {
                    "server".to_owned()
                }
                Share::AgentQueue => agent(),
                _ => format!("tenants/{}", about.tenant_id),
            };
            details.add_quota_failure_violation(subject, error.to_string());
            details.set_retry_info(Some(SHORTLY));
        }
        More::RetryAfter(_) | More::Nothing => {}
    }
}

/// Keys stay for ever once released. They are the names of the log fields.
fn metadata(error: &CallError, about: &About) -> HashMap<String, String> {
    let mut metadata = HashMap::from([
        ("method".to_owned(), about.method.to_owned()),
        ("tenant_id".to_owned(), about.tenant_id.clone()),
        ("agent_id".to_owned(), about.agent_id.clone()),
        ("outcome".to_owned(), error.outcome().as_str().to_owned()),
    ]);
    if let Some(refusal) = error.refusal() {
        let message = visible(&refusal.message, GATEWAY_TEXT_MAX);
        metadata.insert("retcode".to_owned(), refusal.retcode.to_string());
        metadata.insert("gateway_message".to_owned(), message);
        if let Some(node) = &refusal.node {
            metadata.insert("gateway_node".to_owned(), node.to_string());
        }
    }
    if let CallError::HttpStatus { status } | CallError::GatewayBusy { status, .. } = error {
        metadata.insert("http_status".to_owned(), status.to_string());
    }
    metadata
}

/// What gRPC's own retries go by: when to try again, or -1 for never. A library that knows nothing
/// of agents must not repeat a call whose outcome is unknown. One that waits beyond its caller's
/// deadline ends with a bare `DEADLINE_EXCEEDED`, and the cause is lost.
fn pushback(error: &CallError, more: More<'_>, left: Option<Duration>) -> MetadataMap {
    let in_time = |delay: Duration| {
        let delay = delay.max(SHORTEST_DELAY);
        let fits = left.is_none_or(|left| delay + LAST_ATTEMPT <= left);
        i64::try_from(delay.as_millis()).ok().filter(|_| fits).unwrap_or(-1)
    };
    let delay = match more {
        _ if error.outcome() == Outcome::Unknown => Some(-1),
        More::NotBefore(_) => Some(-1),
        More::RetryAfter(delay) => Some(in_time(delay)),
        More::Quota(_) => Some(in_time(SHORTLY)),
        _ => None,
    };
    let mut metadata = MetadataMap::new();
    if let Some(delay) = delay {
        metadata.insert("grpc-retry-pushback-ms", MetadataValue::from(delay));
    }
    metadata
}
