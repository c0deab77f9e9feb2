//! Signs out the agents whose sessions the bridge keeps, when the bridge stops.

use std::{future::ready, sync::Arc};

use futures_util::{StreamExt as _, stream};

use super::{Context, Tenant};
use crate::{call::Deadline, id::AgentId};

/// How many agents of a tenant are signed out at once. Few, since the gateway also serves other replicas.
const SIGN_OUTS_AT_ONCE: usize = 16;

/// What became of the agents whose sessions ended with the process.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SignedOut {
    /// How many sessions there were.
    pub sessions: usize,
    /// How many of their agents were signed out.
    pub signed_out: usize,
}

impl Tenant {
    /// How many sessions the bridge keeps, or kept until it began to stop.
    pub fn kept(&self) -> usize {
        self.agents.kept_count()
    }

    /// Signs out the agents whose sessions end with this process, a few at a time, until `deadline`.
    pub async fn sign_out_all(self: &Arc<Self>, deadline: Deadline) -> SignedOut {
        let (context, agents) = (Context::of_bridge(deadline), self.left_alone());
        let sessions = agents.len();
        let sign_outs = agents.into_iter().map(|agent| {
            let (tenant, context) = (self.clone(), context.clone());
            async move { tenant.sign_out(agent, false, &context, None).await.is_ok() }
        });
        let done = stream::iter(sign_outs).buffer_unordered(SIGN_OUTS_AT_ONCE);
        let signed_out = done.filter(|&is_out| ready(is_out)).count().await;
        SignedOut { sessions, signed_out }
    }

    /// The agents whom the bridge has signed in, and whom nobody looks after when this process has ended.
    fn left_alone(&self) -> Vec<AgentId> {
        // Some of them are not polled: where the gateway allows no polls, or `keep.enabled` is off.
        let mut agents = self.sessions.signed_in_alone();
        agents.extend(self.agents.kept());
        agents.sort_unstable();
        agents.dedup();
        agents
    }
}
