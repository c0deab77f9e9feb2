use std::sync::Arc;

use tonic::{Request, Response, Status};

use super::{
    Shared,
    check::Checker,
    proto::{SetBusyRequest, SetBusyResponse, agent_state_server::AgentState},
    respond::Call,
    translate,
};
use crate::call::CallError;

/// `AgentState`: commands to the tenants' gateways.
#[derive(Debug)]
pub(super) struct AgentStateRpc(pub(super) Arc<Shared>);

#[tonic::async_trait]
impl AgentState for AgentStateRpc {
    async fn set_busy(
        &self,
        request: Request<SetBusyRequest>,
    ) -> Result<Response<SetBusyResponse>, Status> {
        self.0.answer("ccgateway.agent.v1.AgentState/SetBusy", request, set_busy).await
    }
}

async fn set_busy(call: Call, request: SetBusyRequest) -> Result<SetBusyResponse, CallError> {
    let mut checker = Checker::default();
    let subject = checker.subject(&call.shared.tenants, &request)?;
    let command = checker.say_busy(&request);
    let subject = checker.done(subject)?;

    let envelope = subject.tenant.command(subject.agent, command, call.deadline).await?;
    let (message, retcode, result) = translate::envelope(envelope);
    Ok(SetBusyResponse { message, retcode, result })
}
