//! The service `AgentState`.
use std::sync::Arc;

use tonic::{Request, Response, Status};

use super::{
    Method, Shared,
    about::Addressed,
    batch,
    check::Checker,
    known_change,
    proto::{
        BatchSetBusyRequest, BatchSetBusyResponse, CancelAfterCallWorkRequest,
        CancelAfterCallWorkResponse, CancelBusyRequest, CancelBusyResponse, CancelRestingRequest,
        CancelRestingResponse, GetStateChangeRequest, GetStateChangeResponse, GetStateRequest,
        GetStateResponse, SetAfterCallWorkRequest, SetAfterCallWorkResponse, SetBusyRequest,
        SetBusyResponse, SetIdleRequest, SetIdleResponse, SetRestingRequest, SetRestingResponse,
        StateChange, agent_state_server::AgentState,
    },
    respond::Call,
    translate,
};
use crate::{
    access::Right,
    call::CallError,
    gateway::{CANCEL_BUSY, CANCEL_REST, CANCEL_WORK, Command, SAY_FREE, WORK},
    tenant::{ChangeId, Context},
};

/// `AgentState`: changes and queries of agents' states.
#[derive(Debug)]
pub(super) struct AgentStateRpc(pub(super) Arc<Shared>);

/// A request for another state of an agent.
pub(super) trait Change: Addressed {
    /// How long the caller wants to wait for the event that confirms the change.
    fn confirm_within(&self) -> Option<prost_types::Duration>;
    /// The id that the caller gives the change; empty if it gives none.
    fn request_id(&self) -> &str;
}

/// Implements the traits for all changes, whose requests and answers have the same fields.
macro_rules! changes {
    ($($request:ident -> $response:ident),+ $(,)?) => {$(
        impl Addressed for $request {
            fn tenant_id(&self) -> &str {
                &self.tenant_id
            }

            fn agent_id(&self) -> &str {
                &self.agent_id
            }
        }

        impl Change for $request {
            fn confirm_within(&self) -> Option<prost_types::Duration> {
                self.confirm_within
            }

            fn request_id(&self) -> &str {
                &self.request_id
            }
        }

        impl From<StateChange> for $response {
            fn from(change: StateChange) -> Self {
                let StateChange { message, retcode, result, confirmation, observed_state } = change;
                Self { message, retcode, result, confirmation, observed_state }
            }
        }
    )+};
}

changes!(
    SetBusyRequest -> SetBusyResponse,
    CancelBusyRequest -> CancelBusyResponse,
    SetIdleRequest -> SetIdleResponse,
    SetAfterCallWorkRequest -> SetAfterCallWorkResponse,
    CancelAfterCallWorkRequest -> CancelAfterCallWorkResponse,
    SetRestingRequest -> SetRestingResponse,
    CancelRestingRequest -> CancelRestingResponse,
);

#[tonic::async_trait]
impl AgentState for AgentStateRpc {
    async fn set_busy(
        &self,
        request: Request<SetBusyRequest>,
    ) -> Result<Response<SetBusyResponse>, Status> {
        self.change(Method::SetBusy, request, Checker::say_busy).await
    }

    async fn cancel_busy(
        &self,
        request: Request<CancelBusyRequest>,
    ) -> Result<Response<CancelBusyResponse>, Status> {
        self.change(Method::CancelBusy, request, |_, _| Command::plain(&CANCEL_BUSY)).await
    }

    async fn set_idle(
        &self,
        request: Request<SetIdleRequest>,
    ) -> Result<Response<SetIdleResponse>, Status> {
        self.change(Method::SetIdle, request, |_, _| Command::plain(&SAY_FREE)).await
    }

    async fn set_after_call_work(
        &self,
        request: Request<SetAfterCallWorkRequest>,
    ) -> Result<Response<SetAfterCallWorkResponse>, Status> {
        self.change(Method::SetAfterCallWork, request, |_, _| Command::plain(&WORK)).await
    }

    async fn cancel_after_call_work(
        &self,
        request: Request<CancelAfterCallWorkRequest>,
    ) -> Result<Response<CancelAfterCallWorkResponse>, Status> {
        self.change(Method::CancelAfterCallWork, request, |_, _| Command::plain(&CANCEL_WORK)).await
    }

    async fn set_resting(
        &self,
        request: Request<SetRestingRequest>,
    ) -> Result<Response<SetRestingResponse>, Status> {
        self.change(Method::SetResting, request, Checker::rest).await
    }

    async fn cancel_resting(
        &self,
        request: Request<CancelRestingRequest>,
    ) -> Result<Response<CancelRestingResponse>, Status> {
        self.change(Method::CancelResting, request, |_, _| Command::plain(&CANCEL_REST)).await
    }

    async fn get_state(
        &self,
        request: Request<GetStateRequest>,
    ) -> Result<Response<GetStateResponse>, Status> {
        self.0.answer(Right::Read, Method::GetState, request, get_state).await
    }

    async fn batch_set_busy(
        &self,
        request: Request<BatchSetBusyRequest>,
    ) -> Result<Response<BatchSetBusyResponse>, Status> {
        self.0.answer(Right::Write, Method::BatchSetBusy, request, batch::set_busy).await
    }

    async fn get_state_change(
        &self,
        request: Request<GetStateChangeRequest>,
    ) -> Result<Response<GetStateChangeResponse>, Status> {
        let work = known_change::get_state_change;
        self.0.answer(Right::Read, Method::GetStateChange, request, work).await
    }
}

impl AgentStateRpc {
    /// Sends a change to the gateway, and waits for the confirming event if the caller wants it.
    async fn change<Q: Change, A: From<StateChange>>(
        &self,
        method: Method,
        request: Request<Q>,
        command: impl FnOnce(&mut Checker, &Q) -> Command,
    ) -> Result<Response<A>, Status> {
        let change = async |call: Call, request| {
            let mut checker = Checker::default();
            let subject = checker.subject(call.tenant.as_ref(), &request)?;
            let command = command(&mut checker, &request);
            let within = checker.confirm_within(request.confirm_within());
            let request_id = checker.request_id(request.request_id());
            let subject = checker.done(subject)?;

            let (tenant, agent) = (subject.tenant, subject.agent);
            let id = request_id.map(ChangeId::alone);
            let accepted = tenant.command(agent, command, &call.context, id).await?;
            let confirmation = match within {
                Some(within) => {
                    let deadline = call.confirmed_by(within);
                    let context = Context { deadline, ..call.context.clone() };
                    let confirm = tenant.confirm(agent, &accepted, within, &context);
                    Some(Box::pin(confirm).await)
                }
                None => None,
            };
            Ok(translate::changed(accepted.answer, confirmation).into())
        };
        self.0.answer(Right::Write, method, request, change).await
    }
}

async fn get_state(call: Call, request: GetStateRequest) -> Result<GetStateResponse, CallError> {
    let mut checker = Checker::default();
    let subject = checker.subject(call.tenant.as_ref(), &request)?;
    let subject = checker.done(subject)?;

    let status = subject.tenant.agent_status(subject.agent, &call.context).await?;
    Ok(translate::agent_status(status))
}
