//! A reader and a writer of gRPC's headers, for the fuzz targets alone.

use std::time::Duration;

use tonic::Status;

pub use super::timeout::parse as parse_timeout;
use super::{
    about::{About, ID_MAX, visible},
    details,
    error_report::Recipient,
    status::refuse,
};
use crate::{call::CallError, config::Overrides};

/// Most bytes of a status's message, and of its details.
pub const STATUS_MAX: [usize; 2] = [details::MESSAGE_MAX, details::DETAILS_MAX];

/// The call whose error is told.
#[derive(Clone, Copy, Debug)]
pub struct Told<'a> {
    /// The method.
    pub method: &'static str,
    /// The tenant and the agent, as the caller has named them.
    pub ids: [&'a str; 2],
    /// The host of the tenant's gateway.
    pub gateway: Option<&'a str>,
    /// How long the caller still waits.
    pub left: Option<Duration>,
}

/// The status of a failed call, and its reason.
pub fn status(error: &CallError, told: &Told<'_>, overrides: &Overrides) -> (Status, String) {
    let Told { method, ids, gateway, left } = *told;
    let [tenant_id, agent_id] = ids.map(|id| visible(id, ID_MAX));
    let about = &About { method, tenant_id, agent_id };
    let refused = refuse(error, &Recipient { about, gateway, left }, overrides);
    (refused.status, refused.reason)
}
