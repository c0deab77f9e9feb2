//! Signs out the agents whom the bridge has signed in, when it stops and nobody goes on with their sessions.

use std::{future::ready, sync::Arc};

use futures_util::{StreamExt as _, stream};

use super::{Tenant, ownership::Polls as _};
use crate::{call::Deadline, config::AuthMode, id::AgentId};

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
        let agents = self.left_alone();
        let sessions = agents.len();
        let sign_outs = agents.into_iter().map(|agent| {
            let tenant = self.clone();
            async move { tenant.sign_out_by_itself(agent, deadline).await }
        });
        let done = stream::iter(sign_outs).buffer_unordered(SIGN_OUTS_AT_ONCE);
        let signed_out = done.filter(|&is_out| ready(is_out)).count().await;
        SignedOut { sessions, signed_out }
    }

    /// The agents whom the bridge has signed in, and whom nobody looks after when this process has ended.
    fn left_alone(self: &Arc<Self>) -> Vec<AgentId> {
        // Some of them are not polled: where the gateway allows no polls, or `keep.enabled` is off.
        let mut agents = self.sessions.signed_in_alone();
        // Without a Guid the gateway would sign the agent out whoever has it, and an agent of whom nothing was heard may
        // be another client's by now.
        agents.retain(|agent| self.can_have(*agent) && self.config.auth_mode != AuthMode::None);
        agents.extend(self.agents.kept());
        agents.sort_unstable();
        agents.dedup();
        agents
    }
}
