//! `GetStateChange`: what became of a change, by the id that its caller gave it.

use super::{
    Method,
    about::About,
    check::Checker,
    error_report::Recipient,
    proto::{
        GetStateChangeRequest, GetStateChangeResponse,
        get_state_change_response::{UnderWay, What},
    },
    respond::Call,
    status, translate,
};
use crate::{
    call::{CallError, Deadline, Obstacle},
    config::Overrides,
    gateway::{
        CANCEL_BUSY, CANCEL_REST, CANCEL_WORK, FORCE_SIGN_OUT, Interface, REST, SAY_FREE, SIGN_IN,
        SIGN_OUT, WORK,
    },
    id::{AgentId, RequestId},
    tenant::{ChangeId, Ended, KnownChange, Tenant},
};

/// Finds what became of a change.
pub(super) async fn get_state_change(
    call: Call,
    request: GetStateChangeRequest,
) -> Result<GetStateChangeResponse, CallError> {
    let mut checker = Checker::default();
    let tenant = checker.tenant(call.tenant.as_ref(), &request.tenant_id)?;
    if request.request_id.is_empty() {
        checker.note("request_id", "is missing; give that of the change");
    }
    let id = checker.request_id(&request.request_id);
    let agent = match &*request.agent_id {
        "" => Some(None),
        agent_id => checker.agent("agent_id", tenant, agent_id).map(Some),
    };
    let (tenant, id) = checker.done(tenant.zip(id.zip(agent)))?;

    let found = find(tenant, id, call.context.deadline).await;
    let (change, method) = found.map_err(CallError::unasked)?;
    let KnownChange { agent, ended, .. } = change;
    let (tenant_id, agent_id) = (tenant.id().to_string(), agent.to_string());
    let about = About { method: method.name(), tenant_id, agent_id };
    let what = match ended {
        None => What::UnderWay(UnderWay {}),
        Some(ended) => came_to(&ended, &about, tenant, &call.shared.overrides),
    };
    Ok(GetStateChangeResponse { agent_id: about.agent_id, what: Some(what) })
}

/// The change, and the method that makes it. Its agent may be named whether it is of a batch or not.
async fn find(
    tenant: &Tenant,
    (request, agent): (RequestId, Option<AgentId>),
    deadline: Deadline,
) -> Result<(KnownChange, Method), Obstacle> {
    if let Some(agent) = agent {
        let of_batch = ChangeId { request, of_batch: Some(agent) };
        if let Some(found) = tenant.find_change(of_batch, deadline).await? {
            return Ok((found, Method::BatchSetBusy));
        }
    }
    let alone = tenant.find_change(ChangeId::alone(request), deadline).await?;
    let found = alone.filter(|found| agent.is_none_or(|agent| found.agent == agent));
    let found = found.ok_or(Obstacle::RequestIdUnknown)?;
    let method = method_of(found.interface);
    Ok((found, method))
}

fn came_to(ended: &Ended, about: &About, tenant: &Tenant, overrides: &Overrides) -> What {
    match &**ended {
        Ok(made) => What::Change(translate::done(made.did.clone())),
        Err(error) => {
            let to = Recipient { about, gateway: tenant.gateway(), left: None };
            What::Error(status::message_of(&status::refuse(error, &to, overrides).status))
        }
    }
}

/// The method that asks the gateway for this.
fn method_of(interface: &'static Interface) -> Method {
    let methods: [(&Interface, _); 9] = [
        (&SIGN_IN, Method::SignIn),
        (&SIGN_OUT, Method::SignOut),
        (&FORCE_SIGN_OUT, Method::SignOut),
        (&CANCEL_BUSY, Method::CancelBusy),
        (&SAY_FREE, Method::SetIdle),
        (&WORK, Method::SetAfterCallWork),
        (&CANCEL_WORK, Method::CancelAfterCallWork),
        (&REST, Method::SetResting),
        (&CANCEL_REST, Method::CancelResting),
    ];
    let method = methods.iter().find(|(of, _)| std::ptr::eq(*of, interface));
    method.map_or(Method::SetBusy, |(_, method)| *method)
}
