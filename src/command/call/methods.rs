use std::{path::PathBuf, time::Duration};

use clap::{Args, Subcommand};
use secrecy::{ExposeSecret as _, SecretString};
use tonic::Status;

use super::{
    Mistake, Options,
    arguments::{Agent, How, Id, span},
    attempt::Attempt,
    batch::{self, BatchSetBusy},
    connect::Clients,
    register::RegisterSession,
    secret,
    show::Shown,
    time,
};
use crate::rpc::proto::{
    CancelAfterCallWorkRequest, CancelBusyRequest, CancelRestingRequest, GetSessionRequest,
    GetStateChangeRequest, GetStateRequest, SetAfterCallWorkRequest, SetBusyRequest,
    SetIdleRequest, SetRestingRequest, SignInRequest, SignOutRequest,
};

/// A method of the gRPC services.
#[derive(Debug, Subcommand)]
pub(super) enum Method {
    /// Make an agent busy (not ready), so that no calls come.
    SetBusy(SetBusy),
    /// End busy.
    CancelBusy(Change),
    /// Make an agent idle (ready), from busy or after-call work.
    SetIdle(Change),
    /// Take an agent into after-call work.
    SetAfterCallWork(Change),
    /// End after-call work.
    CancelAfterCallWork(Change),
    /// Let an agent rest for some time.
    SetResting(SetResting),
    /// End rest.
    CancelResting(Change),
    /// Make many agents busy, and print the result for each.
    BatchSetBusy(BatchSetBusy),
    /// Ask the gateway what an agent is doing.
    GetState(Agent),
    /// Ask the bridge what became of a change, by the --request-id that it had.
    GetStateChange(GetStateChange),
    /// Sign an agent in and keep the session alive.
    SignIn(SignIn),
    /// Sign an agent out.
    SignOut(SignOut),
    /// Give the bridge the Guid of an agent that another client has signed in.
    RegisterSession(RegisterSession),
    /// Print what the bridge knows about an agent's session, without asking the gateway.
    GetSession(Agent),
    /// Print the events of agents, until Ctrl-C.
    WatchEvents(WatchEvents),
}

#[derive(Debug, Args)]
pub(super) struct Change {
    #[command(flatten)]
    agent: Agent,
    #[command(flatten)]
    how: How,
}

#[derive(Debug, Args)]
pub(super) struct SetBusy {
    #[command(flatten)]
    agent: Agent,
    /// Why: 200 to 250, or 0 for none.
    #[arg(long, value_name = "NUMBER", allow_negative_numbers = true)]
    reason: Option<i32>,
    /// Replace the reason if the agent is already busy.
    #[arg(long)]
    prolong: bool,
    #[command(flatten)]
    how: How,
}

#[derive(Debug, Args)]
pub(super) struct SetResting {
    #[command(flatten)]
    agent: Agent,
    /// How long: 1s to 23h 59m 59s.
    #[arg(long, value_name = "TIME", value_parser = time)]
    duration: Duration,
    /// Why: 1 to 255, or 0 for none.
    #[arg(long, value_name = "NUMBER", default_value_t = 0, allow_negative_numbers = true)]
    reason: i32,
    /// Replace time and reason if the agent is already resting.
    #[arg(long)]
    prolong: bool,
    #[command(flatten)]
    how: How,
}

#[derive(Debug, Args)]
pub(super) struct GetStateChange {
    /// The id of the change.
    #[arg(long, value_name = "UUID")]
    request_id: String,
    /// The agent, for a change that was a part of a batch.
    #[arg(long, value_name = "ID", default_value = "", hide_default_value = true)]
    agent: String,
}

#[derive(Debug, Args)]
pub(super) struct SignIn {
    #[command(flatten)]
    agent: Agent,
    /// A file that holds only the password. Without this option and --password-stdin, the bridge takes
    /// the password from the tenant's credentials file.
    #[arg(long, value_name = "FILE", conflicts_with = "password_stdin")]
    password_file: Option<PathBuf>,
    /// Ask for the password; if standard input is a pipe, read its first line.
    #[arg(long)]
    password_stdin: bool,
    /// The agent's phone number.
    #[arg(long, value_name = "NUMBER")]
    phone_number: Option<String>,
    /// Take the agent over from wherever it is signed in now.
    #[arg(long)]
    force: bool,
    #[command(flatten)]
    id: Id,
}

#[derive(Debug, Args)]
pub(super) struct SignOut {
    #[command(flatten)]
    agent: Agent,
    /// Sign out even while the agent is talking: the call is released.
    #[arg(long)]
    force: bool,
    #[command(flatten)]
    id: Id,
}

#[derive(Debug, Args)]
pub(super) struct WatchEvents {
    /// The agent; may be given more than once [default: all of the tenant's].
    #[arg(long = "agent", value_name = "ID")]
    pub(super) agents: Vec<String>,
    /// Begin after the event with this sequence number, from an earlier watch.
    #[arg(long, value_name = "SEQUENCE")]
    pub(super) after: Option<u64>,
}

/// Makes a unary call. A macro, since each method has its own types of client and request.
macro_rules! unary {
    ($client:expr, $method:ident, $request:expr, $attempt:expr) => {
        Shown::from($client.$method($attempt.request($request)).await?.into_inner())
    };
}

impl Method {
    /// Whether it only asks.
    pub(super) fn changes_nothing(&self) -> bool {
        matches!(
            self,
            Self::GetState(_)
                | Self::GetStateChange(_)
                | Self::GetSession(_)
                | Self::WatchEvents(_)
        )
    }

    /// Reads the password or Guid that must not be on a command line, or asks for it; to be called
    /// before connecting.
    pub(super) fn secret(&self) -> Result<Option<SecretString>, Mistake> {
        match self {
            Self::SignIn(SignIn { password_file: Some(file), .. }) => {
                secret::from_file("--password-file", file).map(Some)
            }
            Self::SignIn(SignIn { password_stdin: true, agent, .. }) => {
                let question = format!("Password of agent {}: ", agent.agent);
                secret::ask("--password-stdin", &question).map(Some)
            }
            Self::RegisterSession(session) => session.guid(),
            _ => Ok(None),
        }
    }

    /// How long to wait for a confirmation; `None` if none is wanted.
    pub(super) fn confirm_within(&self) -> Option<Duration> {
        match self {
            Self::SetBusy(SetBusy { how, .. })
            | Self::BatchSetBusy(BatchSetBusy { how, .. })
            | Self::SetResting(SetResting { how, .. })
            | Self::CancelBusy(Change { how, .. })
            | Self::SetIdle(Change { how, .. })
            | Self::SetAfterCallWork(Change { how, .. })
            | Self::CancelAfterCallWork(Change { how, .. })
            | Self::CancelResting(Change { how, .. }) => how.confirm_within,
            _ => None,
        }
    }

    /// Makes the call. Not for [`Method::WatchEvents`], which is a stream.
    pub(super) async fn call(
        self,
        clients: Clients,
        options: &Options,
        secret: Option<SecretString>,
        attempt: &Attempt,
    ) -> Result<Shown, Status> {
        let Clients { mut states, mut sessions, .. } = clients;
        let tenant_id = options.tenant.clone();
        macro_rules! plain {
            ($client:expr, $method:ident, $request:ident, $change:expr) => {{
                let Change { agent, how } = $change;
                let (agent_id, confirm_within) = (agent.agent, how.span());
                let request_id = how.id.request_id;
                let request = $request { agent_id, tenant_id, confirm_within, request_id };
                unary!($client, $method, request, attempt)
            }};
        }
        Ok(match self {
            Self::SetBusy(SetBusy { agent, reason, prolong, how }) => {
                let request = SetBusyRequest {
                    agent_id: agent.agent,
                    reason,
                    prolong: prolong.then_some(true),
                    tenant_id,
                    confirm_within: how.span(),
                    request_id: how.id.request_id,
                };
                unary!(states, set_busy, request, attempt)
            }
            Self::CancelBusy(change) => plain!(states, cancel_busy, CancelBusyRequest, change),
            Self::SetIdle(change) => plain!(states, set_idle, SetIdleRequest, change),
            Self::SetAfterCallWork(change) => {
                plain!(states, set_after_call_work, SetAfterCallWorkRequest, change)
            }
            Self::CancelAfterCallWork(change) => {
                plain!(states, cancel_after_call_work, CancelAfterCallWorkRequest, change)
            }
            Self::SetResting(SetResting { agent, duration, reason, prolong, how }) => {
                let request = SetRestingRequest {
                    agent_id: agent.agent,
                    duration: span(duration),
                    reason,
                    tenant_id,
                    confirm_within: how.span(),
                    prolong: prolong.then_some(true),
                    request_id: how.id.request_id,
                };
                unary!(states, set_resting, request, attempt)
            }
            Self::CancelResting(change) => {
                plain!(states, cancel_resting, CancelRestingRequest, change)
            }
            Self::BatchSetBusy(batch) => {
                let request = attempt.request(batch.request(tenant_id));
                batch::shown(&batch, states.batch_set_busy(request).await?.into_inner())
            }
            Self::GetState(Agent { agent: agent_id }) => {
                unary!(states, get_state, GetStateRequest { agent_id, tenant_id }, attempt)
            }
            Self::GetStateChange(GetStateChange { request_id, agent: agent_id }) => {
                let request = GetStateChangeRequest { request_id, agent_id, tenant_id };
                unary!(states, get_state_change, request, attempt)
            }
            Self::SignIn(SignIn { agent, phone_number, force, id, .. }) => {
                let request = SignInRequest {
                    agent_id: agent.agent,
                    password: secret.map(|password| password.expose_secret().to_owned()),
                    phone_number,
                    tenant_id,
                    force,
                    request_id: id.request_id,
                    ..SignInRequest::default()
                };
                unary!(sessions, sign_in, request, attempt)
            }
            Self::SignOut(SignOut { agent, force, id }) => {
                let (agent_id, request_id) = (agent.agent, id.request_id);
                let request = SignOutRequest { agent_id, force, tenant_id, request_id };
                unary!(sessions, sign_out, request, attempt)
            }
            Self::RegisterSession(session) => {
                let request = session.request(tenant_id, secret.as_ref());
                unary!(sessions, register_session, request, attempt)
            }
            Self::GetSession(Agent { agent: agent_id }) => {
                unary!(sessions, get_session, GetSessionRequest { agent_id, tenant_id }, attempt)
            }
            Self::WatchEvents(_) => {
                return Err(Status::internal("watch-events is not a unary call"));
            }
        })
    }
}
