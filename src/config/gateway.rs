//! `[gateway]`.

use std::{collections::BTreeMap, num::NonZeroUsize};

use super::{
    Tenant,
    reader::{Section, section_of},
};
use crate::id::TenantId;

/// `gateway.host_requests`.
pub(super) fn host_requests(section: &Section<'_>) -> NonZeroUsize {
    section.count("host_requests", 128, 100_000)
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
