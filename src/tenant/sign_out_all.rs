//! Signs out the agents whose sessions the bridge keeps, when the bridge stops.

use std::sync::Arc;

use tokio::task::JoinSet;

use super::{Context, Tenant};
use crate::call::Deadline;

/// How many agents are signed out at once. Few, since the gateway also serves other replicas.
const SIGN_OUTS_AT_ONCE: usize = 16;

impl Tenant {
    /// How many sessions the bridge keeps, or kept until it began to stop.
    pub fn kept(&self) -> usize {
        self.agents.kept_count()
    }

    /// Signs out the agents whose sessions the bridge keeps, a few at a time, until `deadline`.
    /// Returns how many were signed out.
    pub async fn sign_out_all(self: &Arc<Self>, deadline: Deadline) -> usize {
        let (context, mut signed_out) = (Context::of_bridge(deadline), 0);
        for few in self.agents.kept().chunks(SIGN_OUTS_AT_ONCE) {
            let sign_out = |&agent| {
                let (tenant, context) = (self.clone(), context.clone());
                async move { tenant.sign_out(agent, false, &context, None).await.is_ok() }
            };
            let calls: JoinSet<bool> = few.iter().map(sign_out).collect();
            signed_out += calls.join_all().await.into_iter().filter(|&done| done).count();
        }
        signed_out
    }
}
