use std::sync::Arc;

use tonic::{Request, Response, Status};

use super::{
    Shared,
    check::Checker,
    proto::{SetBusyRequest, SetBusyResponse, agent_state_server::AgentState},
    respond::{Addressed, Call},
    translate,
};
use crate::{call::CallError, gateway::Command};

/// `AgentState`: commands to the tenants' gateways.
#[derive(Debug)]
pub(super) struct AgentStateRpc(pub(super) Arc<Shared>);

/// A request for another state of an agent.
trait Change: Addressed {
    /// How long its caller wants to wait for the event that confirms the change.
    fn confirm_within(&self) -> Option<prost_types::Duration>;
}

/// The requests and answers of changes, which all have the same fields.
macro_rules! changes {
    ($($request:ident -> $response:ident),+) => {$(
        impl Change for $request {
            fn confirm_within(&self) -> Option<prost_types::Duration> {
                self.confirm_within
            }
        }

        impl From<translate::Changed> for $response {
            fn from(changed: translate::Changed) -> Self {
                let translate::Changed { message, retcode, result, confirmation } = changed;
                Self { message, retcode, result, confirmation }
            }
        }
    )+};
}

changes!(SetBusyRequest -> SetBusyResponse);

#[tonic::async_trait]
impl AgentState for AgentStateRpc {
    async fn set_busy(
        &self,
        request: Request<SetBusyRequest>,
    ) -> Result<Response<SetBusyResponse>, Status> {
        let method = "ccgateway.agent.v1.AgentState/SetBusy";
        self.0
            .answer(method, request, async |call, request| {
                change(call, request, Checker::say_busy).await
            })
            .await
    }
}

/// Has the gateway change an agent's state, and waits for the event if the caller wants it.
async fn change<Q: Change, A: From<translate::Changed>>(
    call: Call,
    request: Q,
    command: impl FnOnce(&mut Checker, &Q) -> Command,
) -> Result<A, CallError> {
    let mut checker = Checker::default();
    let subject = checker.subject(&call.shared.tenants, &request)?;
    let command = command(&mut checker, &request);
    let within = request.confirm_within().map(|within| checker.confirm_within(within));
    let subject = checker.done(subject)?;

    let (tenant, agent) = (&subject.tenant, subject.agent);
    let accepted = tenant.command(agent, command, call.deadline).await?;
    let confirmation = match within {
        Some(within) => Some(tenant.confirm(agent, &accepted, within, call.deadline).await),
        None => None,
    };
    Ok(translate::changed(accepted.envelope, confirmation).into())
}
