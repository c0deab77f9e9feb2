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

/// Where a tenant alone cannot have as many requests as it may.
pub(super) fn warning(host: NonZeroUsize, tenants: &BTreeMap<TenantId, Tenant>) -> Option<String> {
    let (id, tenant) = tenants.iter().find(|(_, tenant)| tenant.limits.requests > host)?;
    Some(format!(
        "{}.limits.requests is {}, and gateway.host_requests only {host}, which holds for each \
         gateway host: raise it, or lower limits.requests",
        section_of(id),
        tenant.limits.requests
    ))
}
