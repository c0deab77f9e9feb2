//! `call batch-set-busy`: one call for many agents, with a result for each.

use std::{collections::HashMap, fmt};

use clap::Args;
use serde_json::{Value, json};
use tonic::Code;

use super::{
    arguments::How,
    ending::Ending,
    failure::{self, Failure},
    show::Shown,
};
use crate::rpc::proto::{
    BatchSetBusyRequest, BatchSetBusyResponse,
    batch_set_busy_response::result::Result as ProtoResult,
};

#[derive(Debug, Args)]
pub(super) struct BatchSetBusy {
    /// An agent's id on the gateway; given once for each of up to 500 agents.
    #[arg(long = "agent", value_name = "ID", required = true)]
    agents: Vec<String>,
    /// Why: 200 to 250, or 0 for none.
    #[arg(long, value_name = "NUMBER", allow_negative_numbers = true)]
    reason: Option<i32>,
    /// Replace the reason of agents who are busy already.
    #[arg(long)]
    prolong: bool,
    #[command(flatten)]
    pub(super) how: How,
}

impl BatchSetBusy {
    pub(super) fn request(&self, tenant_id: String) -> BatchSetBusyRequest {
        BatchSetBusyRequest {
            agent_ids: self.agents.clone(),
            reason: self.reason,
            prolong: self.prolong.then_some(true),
            tenant_id,
            confirm_within: self.how.span(),
            request_id: self.how.id.request_id.clone(),
        }
    }
}

/// The result for one agent.
enum AgentResult {
    Accepted(Shown),
    Failed(Failure),
}

/// The results of the agents that `asked` names, in that order.
pub(super) fn shown(asked: &BatchSetBusy, response: BatchSetBusyResponse) -> Shown {
    let results = response.results.into_iter();
    let mut results: HashMap<_, _> =
        results.map(|result| (result.agent_id, result.result)).collect();
    let part = |agent| (agent, AgentResult::from(results.remove(agent).flatten()));
    let parts: Vec<(&String, AgentResult)> = asked.agents.iter().map(part).collect();

    let failed = parts.iter().filter(|(_, part)| matches!(part, AgentResult::Failed(_))).count();
    let accepted = parts.len() - failed;
    let headline = match failed {
        0 => format!("OK: {accepted} accepted"),
        _ => format!("{accepted} accepted, {failed} failed"),
    };
    let wanted = asked.how.confirm_within.is_some();
    let endings = parts.iter().map(|(_, part)| part.ending(wanted));
    Shown {
        headline,
        parts: parts.iter().map(|(agent, part)| format!("{agent}: {part}")).collect(),
        fields: json!({
            "results": parts.iter().map(|(agent, part)| part.fields(agent)).collect::<Vec<_>>(),
            "error_count": failed,
        }),
        ending: endings.max().unwrap_or(Ending::Done),
    }
}

// === impl AgentResult ===

impl AgentResult {
    fn ending(&self, confirmation_wanted: bool) -> Ending {
        match self {
            Self::Accepted(shown) => shown.ending.if_confirmation_wanted(confirmation_wanted),
            Self::Failed(failure) => failure.ending,
        }
    }

    fn fields(&self, agent: &str) -> Value {
        match self {
            Self::Accepted(shown) => json!({ "agent_id": agent, "accepted": shown.fields }),
            Self::Failed(failure) => json!({ "agent_id": agent, "error": failure.fields() }),
        }
    }
}

impl From<Option<ProtoResult>> for AgentResult {
    fn from(result: Option<ProtoResult>) -> Self {
        match result {
            Some(ProtoResult::Accepted(accepted)) => Self::Accepted(Shown::from(accepted)),
            Some(ProtoResult::Error(error)) => Self::Failed(failure::of_answer(&error)),
            None => {
                let message = "the answer has no result for this agent";
                Self::Failed(failure::not_from_bridge(Code::Unknown, message))
            }
        }
    }
}

impl fmt::Display for AgentResult {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Accepted(shown) => shown.fmt(f),
            Self::Failed(failure) => failure.fmt(f),
        }
    }
}

#[cfg(test)]
mod tests {
    use tonic_types::pb;

    use super::*;

    #[test]
    fn an_error_that_is_not_the_bridges_keeps_its_code() {
        for (code, shown) in [(14, "UNAVAILABLE"), (8, "RESOURCE_EXHAUSTED"), (99, "UNKNOWN")] {
            let error = pb::Status { code, message: "somebody says so".into(), details: vec![] };
            let result = AgentResult::from(Some(ProtoResult::Error(error)));
            let AgentResult::Failed(failure) = result else {
                panic!("failed");
            };
            assert_eq!(failure.ending, Ending::Unknown);
            let printed = failure.to_string();
            assert!(printed.starts_with(shown), "{printed}");
            assert!(printed.contains("somebody says so"), "{printed}");
        }
    }
}
