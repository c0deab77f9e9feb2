//! The details of a status: `google.rpc` messages of limited size, and the pushback for gRPC's own
//! retries.

use std::{
    collections::{BTreeMap, HashMap},
    time::Duration,
};

use bytes::Bytes;
use prost::Message as _;
use tonic::{
    Status,
    metadata::{MetadataMap, MetadataValue},
};
use tonic_types::{ErrorDetails, StatusExt as _, pb};

use super::{
    about::{About, visible},
    error_report::{ErrorReport, Recipient},
    translate,
};
use crate::{
    call::{CallError, Obstacle, Outcome, Share},
    reason::{Details, Retry},
};

/// `ErrorInfo.domain` of every error. It names the bridge, not the gateway, as the source.
pub const ERROR_DOMAIN: &str = "ccgateway-bridge";

/// Longest status message in bytes. gRPC clients are advised to accept 8 KiB of trailers. With
/// these limits every client gets the whole error, including base64 and what a proxy adds.
pub(super) const MESSAGE_MAX: usize = 512;
/// Most bytes of all details, for the same reason as [`MESSAGE_MAX`]. A test and a fuzz target check it.
pub(super) const DETAILS_MAX: usize = 3 * 1024;
/// The keys of the metadata that clients in this crate read, too.
pub(crate) const KEY_OUTCOME: &str = "outcome";
pub(crate) const KEY_RETCODE: &str = "retcode";
pub(crate) const KEY_OBSERVED_STATE: &str = "observed_state";

const VIOLATIONS_MAX: usize = 8;
const DESCRIPTION_MAX: usize = 160;
const CAUSE_MAX: usize = 300;
const GATEWAY_TEXT_MAX: usize = 256;
/// The longest possible host name.
const HOST_MAX: usize = 253;

/// The shortest pushback. 0 means "at once", but gRPC's C core (seen in 1.85, under Python) then
/// waits for ever and never tries again.
const SHORTEST_DELAY: Duration = Duration::from_millis(1);

/// The least time that an attempt needs. A caller that has less left after the pause would only get
/// `DEADLINE_EXCEEDED`.
const LAST_ATTEMPT: Duration = Duration::from_millis(100);

/// Builds a status with all its details.
pub(super) fn status(
    message: String,
    error: &CallError,
    to: &Recipient<'_>,
    report: &ErrorReport<'_>,
) -> Status {
    let mut details = ErrorDetails::new();
    details.set_error_info(report.reason, ERROR_DOMAIN, metadata(error, to));
    add(&mut details, report.details, error, to.about);
    // If the outcome is unknown, the caller must not simply try again.
    if report.retry != Retry::No && error.outcome() != Outcome::Unknown {
        details.set_retry_info(Some(report.delay.max(SHORTEST_DELAY)));
    }
    let pushback = pushback(error, report, to.left);
    let status = Status::with_error_details(report.code, message, details);
    let details = sorted(status.details());
    Status::with_details_and_metadata(report.code, status.message(), details, pushback)
}

/// `google.rpc.ErrorInfo`, with its metadata in order.
#[derive(Clone, PartialEq, prost::Message)]
struct SortedErrorInfo {
    #[prost(string, tag = "1")]
    reason: String,
    #[prost(string, tag = "2")]
    domain: String,
    #[prost(btree_map = "string, string", tag = "3")]
    metadata: BTreeMap<String, String>,
}

/// The same details with the metadata of `ErrorInfo` in order, so that equal errors are equal bytes. Whoever
/// may not use a tenant could otherwise compare refusals until a difference means something.
fn sorted(details: &[u8]) -> Bytes {
    let Ok(mut status) = pb::Status::decode(details) else { return details.to_vec().into() };
    for detail in &mut status.details {
        if detail.type_url.ends_with("/google.rpc.ErrorInfo")
            && let Ok(info) = SortedErrorInfo::decode(&*detail.value)
        {
            detail.value = info.encode_to_vec();
        }
    }
    status.encode_to_vec().into()
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
                Share::ConnectionRequests => "connection".to_owned(),
                Share::AgentQueue => agent(),
                _ => format!("tenants/{}", about.tenant_id),
            };
            let description = visible(&error.to_string(), CAUSE_MAX);
            details.add_quota_failure_violation(subject, description);
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

/// The metadata of `ErrorInfo`. Never rename or remove a key that was released.
fn metadata(error: &CallError, to: &Recipient<'_>) -> HashMap<String, String> {
    let about = to.about;
    let mut metadata = HashMap::from([
        ("method".to_owned(), about.method.to_owned()),
        ("tenant_id".to_owned(), about.tenant_id.clone()),
        ("agent_id".to_owned(), about.agent_id.clone()),
        (KEY_OUTCOME.to_owned(), error.outcome().as_str().to_owned()),
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
        metadata.insert(KEY_RETCODE.to_owned(), refusal.retcode.to_string());
        metadata.insert("gateway_message".to_owned(), message);
        if let Some(node) = &refusal.node {
            metadata.insert("gateway_node".to_owned(), node.to_string());
        }
    }
    if let Some(state) = error.observed() {
        let state = translate::activity(state).as_str_name();
        metadata.insert(KEY_OBSERVED_STATE.to_owned(), state.to_owned());
    }
    if let Some(status) = error.http_status() {
        metadata.insert("http_status".to_owned(), status.to_string());
    }
    metadata
}

/// The pushback that gRPC's own retries obey: when to try again, or -1 for never. A library must
/// not repeat a call whose outcome is unknown, since it does not know about agents. A library that
/// waits beyond its caller's deadline would end with a bare `DEADLINE_EXCEEDED`, and the cause
/// would be lost.
fn pushback(error: &CallError, report: &ErrorReport<'_>, left: Option<Duration>) -> MetadataMap {
    let in_time = |delay: Duration| {
        let delay = delay.max(SHORTEST_DELAY);
        let fits = left.is_none_or(|left| delay + LAST_ATTEMPT <= left);
        i64::try_from(delay.as_millis()).ok().filter(|_| fits).unwrap_or(-1)
    };
    let delay = match report.retry {
        _ if error.outcome() == Outcome::Unknown => Some(-1),
        Retry::No => None,
        Retry::After => Some(in_time(report.delay)),
        Retry::AfterDeadline => Some(-1),
    };
    let mut metadata = MetadataMap::new();
    if let Some(delay) = delay {
        metadata.insert("grpc-retry-pushback-ms", MetadataValue::from(delay));
    }
    metadata
}
