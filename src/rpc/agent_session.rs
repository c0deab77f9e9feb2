//! The service `AgentSession`.

use std::sync::Arc;

use secrecy::zeroize::Zeroizing;
use tonic::{Request, Response, Status};

use super::{
    Method, Shared,
    check::Checker,
    proto::{
        GetSessionRequest, GetSessionResponse, RegisterSessionRequest, RegisterSessionResponse,
        SignInRequest, SignInResponse, SignOutRequest, SignOutResponse,
        agent_session_server::AgentSession,
    },
    respond::Call,
    translate,
};
use crate::{
    access::Right,
    call::{CallError, Obstacle},
    tenant::ChangeId,
};

/// `AgentSession`: registers, creates, shows and ends sessions.
#[derive(Debug)]
pub(super) struct AgentSessionRpc(pub(super) Arc<Shared>);

#[tonic::async_trait]
impl AgentSession for AgentSessionRpc {
    async fn register_session(
        &self,
        request: Request<RegisterSessionRequest>,
    ) -> Result<Response<RegisterSessionResponse>, Status> {
        self.0.answer(Right::Session, Method::RegisterSession, request, register_session).await
    }

    async fn sign_in(
        &self,
        request: Request<SignInRequest>,
    ) -> Result<Response<SignInResponse>, Status> {
        self.0.answer(Right::Session, Method::SignIn, request, sign_in).await
    }

    async fn sign_out(
        &self,
        request: Request<SignOutRequest>,
    ) -> Result<Response<SignOutResponse>, Status> {
        self.0.answer(Right::Session, Method::SignOut, request, sign_out).await
    }

    async fn get_session(
        &self,
        request: Request<GetSessionRequest>,
    ) -> Result<Response<GetSessionResponse>, Status> {
        self.0.answer(Right::Read, Method::GetSession, request, get_session).await
    }
}

async fn register_session(
    call: Call,
    request: RegisterSessionRequest,
) -> Result<RegisterSessionResponse, CallError> {
    let request = Zeroizing::new(request);
    let mut checker = Checker::default();
    let subject = checker.subject(call.tenant.as_ref(), &*request)?;
    let has_guids = subject.as_ref().is_none_or(|subject| subject.tenant.has_guids());
    let registration = checker.registration(&request, has_guids);
    let (subject, (guid, ttl)) = checker.done(subject.zip(registration))?;

    let session = subject.tenant.register(subject.agent, guid, ttl, call.context.deadline).await?;
    Ok(RegisterSessionResponse { session: Some(translate::session(&subject, &session)) })
}

async fn sign_in(call: Call, request: SignInRequest) -> Result<SignInResponse, CallError> {
    let request = Zeroizing::new(request);
    let mut checker = Checker::default();
    let subject = checker.subject(call.tenant.as_ref(), &*request)?;
    let configured = subject.as_ref().and_then(|s| s.tenant.configured(s.agent));
    let sign_in = checker.sign_in(&request, configured);
    let id = checker.request_id(&request.request_id).map(ChangeId::alone);
    let (subject, sign_in) = checker.done(subject.zip(Some(sign_in)))?;

    let sign_in = sign_in.ok_or_else(|| CallError::unasked(Obstacle::CredentialsMissing))?;
    let signed_in = subject.tenant.sign_in(subject.agent, sign_in, &call.context, id).await?;
    let session = signed_in.session.as_ref().map(|session| translate::session(&subject, session));
    let skill_reset = signed_in.skills.as_ref().map(translate::skill_reset);
    let (message, retcode, result) = translate::envelope(signed_in.envelope);
    Ok(SignInResponse { message, retcode, result, session, skill_reset })
}

async fn sign_out(call: Call, request: SignOutRequest) -> Result<SignOutResponse, CallError> {
    let mut checker = Checker::default();
    let subject = checker.subject(call.tenant.as_ref(), &request)?;
    let id = checker.request_id(&request.request_id).map(ChangeId::alone);
    let subject = checker.done(subject)?;

    let (tenant, agent) = (subject.tenant, subject.agent);
    let envelope = tenant.sign_out(agent, request.force, &call.context, id).await?;
    let (message, retcode, _result) = translate::envelope(envelope);
    Ok(SignOutResponse { message, retcode })
}

async fn get_session(
    call: Call,
    request: GetSessionRequest,
) -> Result<GetSessionResponse, CallError> {
    let mut checker = Checker::default();
    let subject = checker.subject(call.tenant.as_ref(), &request)?;
    let subject = checker.done(subject)?;

    let session = subject.tenant.session_by(subject.agent, call.context.deadline).await;
    let session = session.and_then(|session| session.ok_or(Obstacle::SessionNotFound));
    let session = session.map_err(CallError::unasked)?;
    Ok(GetSessionResponse { session: Some(translate::session(&subject, &session)) })
}
