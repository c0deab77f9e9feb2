//! `[gateway]`.

use std::{collections::BTreeMap, num::NonZeroUsize};

use super::{
    Tenant,
    reader::{Section, section_of},
};
use crate::id::TenantId;

/// How many requests one gateway host gets at once, over all tenants.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct HostLimit {
    /// The most. `gateway.host_requests`.
    pub requests: NonZeroUsize,
    /// Whether it gets fewer where that makes its answers faster. `gateway.adaptive_limit`.
    pub is_adaptive: bool,
}

/// `[gateway]`.
pub(super) fn host_limit(section: &Section<'_>) -> HostLimit {
    HostLimit {
        requests: section.count("host_requests", 128, 100_000),
        is_adaptive: section.truth("adaptive_limit", true),
    }
}

/// A warning if a tenant's `limits.requests` is above `gateway.host_requests`.
pub(super) fn warning(host: NonZeroUsize, tenants: &BTreeMap<TenantId, Tenant>) -> Option<String> {
    let (id, tenant) = tenants.iter().find(|(_, tenant)| tenant.limits.requests > host)?;
    Some(format!(
        "{}.limits.requests is {}, but gateway.host_requests allows only {host} to each gateway \
         host; raise gateway.host_requests, or lower limits.requests",
        section_of(id),
        tenant.limits.requests
    ))
}
