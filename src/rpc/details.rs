//! The details of a status: `google.rpc` messages within a budget, and what gRPC's own retries
//! read.

use std::{collections::HashMap, time::Duration};

use tonic::{
    Status,
    metadata::{MetadataMap, MetadataValue},
};
use tonic_types::{ErrorDetails, StatusExt as _};

use super::{
    about::{About, visible},
    row::{Recipient, Row},
};
use crate::{
    call::{CallError, Obstacle, Outcome, Share},
    reason::{Details, Retry},
};

/// `ErrorInfo.domain` of every error: who says so, which is not the gateway.
pub const ERROR_DOMAIN: &str = "ccgateway-bridge";

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
/// No name of a host is longer.
const HOST_MAX: usize = 253;

/// A pushback of 0 means "at once", but gRPC's C core (seen in 1.85, under Python) then waits for
/// ever and never tries again.
const SHORTEST_DELAY: Duration = Duration::from_millis(1);

/// What an attempt needs beside the pause before it: a caller that has less left after the pause would
/// hear of its deadline alone.
const LAST_ATTEMPT: Duration = Duration::from_millis(100);

/// A status with all its details.
pub(super) fn status(
    message: String,
    error: &CallError,
    to: &Recipient<'_>,
    row: &Row<'_>,
) -> Status {
    let mut details = ErrorDetails::new();
    details.set_error_info(row.reason, ERROR_DOMAIN, metadata(error, to));
    add(&mut details, row.details, error, to.about);
    // Where the outcome is unknown, "try again in a second" would be a lie.
    if row.retry != Retry::No && error.outcome() != Outcome::Unknown {
        details.set_retry_info(Some(row.delay.max(SHORTEST_DELAY)));
    }
    let pushback = pushback(error, row, to.left);
    Status::with_error_details_and_metadata(row.code, message, details, pushback)
}

fn add(details: &mut ErrorDetails, kind: Details, error: &CallError, about: &About) {
    let agent = || format!("tenants/{}/agents/{}", about.tenant_id, about.agent_id);
    match (kind, error.obstacle()) {
        (Details::BadRequest, Some(Obstacle::Invalid(fields))) => {
            for violation in fields.iter().take(VIOLATIONS_MAX) {
                let description = visible(&violation.description, DESCRIPTION_MAX);
                details.add_bad_request_violation(violation.field, description);
            }
        }
        (Details::Quota, Some(Obstacle::Overloaded { share, .. })) => {
            let subject = match share {
                Share::ServerCalls | Share::ServerReading | Share::ServerReflection => {
                    "server".to_owned()
                }
                Share::AgentQueue => agent(),
                _ => format!("tenants/{}", about.tenant_id),
            };
            details.add_quota_failure_violation(subject, error.to_string());
        }
        (Details::Precondition(kind), _) => {
            let description = visible(&error.to_string(), CAUSE_MAX);
            details.add_precondition_failure_violation(kind, agent(), description);
        }
        (Details::Resource(kind), obstacle) => {
            let name = match obstacle {
                Some(Obstacle::TenantUnknown) => about.tenant_id.clone(),
                _ => agent(),
            };
            details.set_resource_info(kind, name, "", visible(&error.to_string(), CAUSE_MAX));
        }
        (Details::None | Details::BadRequest | Details::Quota, _) => {}
    }
}

/// Keys stay for ever once released.
fn metadata(error: &CallError, to: &Recipient<'_>) -> HashMap<String, String> {
    let about = to.about;
    let mut metadata = HashMap::from([
        ("method".to_owned(), about.method.to_owned()),
        ("tenant_id".to_owned(), about.tenant_id.clone()),
        ("agent_id".to_owned(), about.agent_id.clone()),
        ("outcome".to_owned(), error.outcome().as_str().to_owned()),
    ]);
    if let Some(gateway) = to.gateway {
        metadata.insert("gateway".to_owned(), visible(gateway, HOST_MAX));
    }
    if let Some(Obstacle::Overloaded { share, limit }) = error.obstacle() {
        metadata.insert("share".to_owned(), share.as_str().to_owned());
        metadata.insert("limit".to_owned(), limit.to_string());
    }
    if let Some(refusal) = error.last_refusal() {
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
fn pushback(error: &CallError, row: &Row<'_>, left: Option<Duration>) -> MetadataMap {
    let in_time = |delay: Duration| {
        let delay = delay.max(SHORTEST_DELAY);
        let fits = left.is_none_or(|left| delay + LAST_ATTEMPT <= left);
        i64::try_from(delay.as_millis()).ok().filter(|_| fits).unwrap_or(-1)
    };
    let delay = match row.retry {
        _ if error.outcome() == Outcome::Unknown => Some(-1),
        Retry::No => None,
        Retry::After => Some(in_time(row.delay)),
        Retry::AfterDeadline => Some(-1),
    };
    let mut metadata = MetadataMap::new();
    if let Some(delay) = delay {
        metadata.insert("grpc-retry-pushback-ms", MetadataValue::from(delay));
    }
    metadata
}
