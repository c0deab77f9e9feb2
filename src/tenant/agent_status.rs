//! Asks the gateway what an agent is doing.

use std::sync::Arc;

use super::{Accepted, Answer, Context, Tenant};
use crate::{
    call::CallError,
    gateway::{AGENT_STATUS, AgentStatus, Command},
    id::AgentId,
    retcode::Kind,
};

impl Tenant {
    /// Asks the gateway what an agent is doing. Changes nothing, and does not sign the agent in.
    ///
    /// # Errors
    ///
    /// As [`Tenant::command`], and [`CallError::NoSuchInterface`] if the gateway cannot be asked.
    pub async fn agent_status(
        self: &Arc<Self>,
        agent: AgentId,
        context: &Context,
    ) -> Result<AgentStatus, CallError> {
        read(self.command(agent, Command::plain(&AGENT_STATUS), context, None).await)
    }

    /// Like [`Tenant::agent_status`], for a call that waits for its confirmation.
    pub(super) async fn agent_status_while_confirming(
        self: &Arc<Self>,
        agent: AgentId,
        context: &Context,
    ) -> Result<AgentStatus, CallError> {
        read(self.command_while_confirming(agent, Command::plain(&AGENT_STATUS), context).await)
    }

    /// The same for a batch, within the part of the requests that batches have.
    pub(super) async fn agent_status_of_batch(
        self: &Arc<Self>,
        agent: AgentId,
        context: &Context,
    ) -> Result<AgentStatus, CallError> {
        read(self.command_of_confirming_batch(agent, Command::plain(&AGENT_STATUS), context).await)
    }
}

fn read(asked: Result<Accepted, CallError>) -> Result<AgentStatus, CallError> {
    let answer = asked.map_err(|error| match error {
        error if means_no_such_interface(&error) => {
            let (interface, answer) = (AGENT_STATUS.log_name, Box::new(error));
            CallError::NoSuchInterface { interface, answer }
        }
        error => error,
    })?;
    let status = match &answer.answer {
        Answer::Envelope(envelope) => envelope.result.as_deref().and_then(AgentStatus::read),
        Answer::Observed(_) => None,
    };
    status.ok_or_else(|| CallError::BadReply("it has no agentState".into()))
}

/// Whether the gateway says that it has no `agentstatus`, like one of 2014 (client), or no other interface that was asked.
/// The form of that is not documented. The request has no parameter that can be wrong except for the agent, whose session is
/// good, so a rejected parameter is the address.
pub(super) fn means_no_such_interface(error: &CallError) -> bool {
    let is_missing = |status| matches!(status, 404 | 405 | 501);
    match error {
        CallError::HttpStatus { status } => is_missing(*status),
        CallError::Refused(refusal) => match refusal.retcode.kind() {
            Kind::ParameterRejected => true,
            Kind::Unlisted => is_missing(refusal.http_status),
            _ => false,
        },
        _ => false,
    }
}

#[cfg(test)]
mod tests;
