//! `/metrics`: what is counted all the time, and what is looked up when somebody asks.

use std::{fmt, sync::Arc};

use crate::{metrics::Metrics, tenant::Tenants};

/// The metrics of a bridge.
#[derive(Debug)]
pub(super) struct Exposition {
    pub(super) metrics: Arc<Metrics>,
    pub(super) tenants: Tenants,
}

impl Exposition {
    pub(super) fn text(&self) -> Result<String, fmt::Error> {
        for tenant in self.tenants.all() {
            for count in tenant.session_states() {
                tenant.metrics().set_sessions(count.state, count.now);
            }
            for usage in tenant.usage() {
                tenant.metrics().set_places(usage.share, usage.taken, usage.limit);
            }
        }
        self.metrics.text()
    }
}
