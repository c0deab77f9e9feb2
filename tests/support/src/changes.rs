//! All changes of an agent's state as one type, so that one table can test them all.

use std::time::Duration;

use ccgateway_bridge::{
    client::Channel,
    rpc::proto::{
        ActivityState, CancelAfterCallWorkRequest, CancelBusyRequest, CancelRestingRequest,
        Confirmation, SetAfterCallWorkRequest, SetBusyRequest, SetIdleRequest, SetRestingRequest,
        agent_state_client::AgentStateClient,
    },
};
use tonic::Status;

/// A change. Its name and arguments are those of the method and of the request's fields.
#[expect(missing_docs, reason = "the proto has the words")]
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Change {
    SetBusy { reason: Option<i32>, prolong: Option<bool> },
    CancelBusy,
    SetIdle,
    SetAfterCallWork,
    CancelAfterCallWork,
    SetResting { seconds: i64, reason: i32, prolong: Option<bool> },
    CancelResting,
}

/// The answer to a change.
#[expect(missing_docs, reason = "the proto has the words")]
#[derive(Debug, PartialEq)]
pub struct Accepted {
    pub message: String,
    pub retcode: String,
    pub result: Option<prost_types::Value>,
    pub confirmation: Option<Confirmation>,
    pub observed_state: ActivityState,
}

/// The usual `result` of an accepted change: an empty object.
pub fn no_fields() -> prost_types::Value {
    let kind = prost_types::value::Kind::StructValue(prost_types::Struct::default());
    prost_types::Value { kind: Some(kind) }
}

impl Change {
    /// Makes the call.
    pub async fn ask(
        self,
        states: &AgentStateClient<Channel>,
        agent: u32,
    ) -> Result<Accepted, Status> {
        self.ask_of(states, &agent.to_string(), None).await
    }

    /// Makes the call with an id, so that the change is made once.
    pub async fn ask_once(
        self,
        states: &AgentStateClient<Channel>,
        agent: u32,
        id: &str,
    ) -> Result<Accepted, Status> {
        self.send(states, &agent.to_string(), None, id).await
    }

    /// Like [`Change::ask`], as a future for a task of its own that ignores the result.
    pub fn ask_alone(
        self,
        states: &AgentStateClient<Channel>,
        agent: u32,
    ) -> impl Future<Output = ()> + Send + 'static {
        let states = states.clone();
        async move {
            let _ignored = self.ask(&states, agent).await;
        }
    }

    /// Makes the call, and waits up to `within` for the confirmation.
    pub async fn confirmed(
        self,
        states: &AgentStateClient<Channel>,
        agent: u32,
        within: Duration,
    ) -> Result<Confirmation, Status> {
        let within = within.try_into().expect("a duration");
        let accepted = self.ask_of(states, &agent.to_string(), Some(within)).await?;
        Ok(accepted.confirmation.expect("asked for"))
    }

    /// Makes the call with an agent id that may be invalid.
    pub async fn ask_of(
        self,
        states: &AgentStateClient<Channel>,
        agent: &str,
        confirm_within: Option<prost_types::Duration>,
    ) -> Result<Accepted, Status> {
        self.send(states, agent, confirm_within, "").await
    }

    async fn send(
        self,
        states: &AgentStateClient<Channel>,
        agent: &str,
        confirm_within: Option<prost_types::Duration>,
        request_id: &str,
    ) -> Result<Accepted, Status> {
        let mut states = states.clone();
        macro_rules! ask {
            ($method:ident, $request:ident $({ $($field:ident),+ })?) => {{
                let agent_id = agent.to_owned();
                let (tenant_id, request_id) = (String::new(), request_id.to_owned());
                let request =
                    $request { agent_id, tenant_id, confirm_within, request_id $($(, $field)+)? };
                let answer = states.$method(request).await?.into_inner();
                Accepted {
                    observed_state: answer.observed_state(),
                    message: answer.message,
                    retcode: answer.retcode,
                    result: answer.result,
                    confirmation: answer.confirmation,
                }
            }};
        }
        Ok(match self {
            Self::SetBusy { reason, prolong } => ask!(set_busy, SetBusyRequest { reason, prolong }),
            Self::CancelBusy => ask!(cancel_busy, CancelBusyRequest),
            Self::SetIdle => ask!(set_idle, SetIdleRequest),
            Self::SetAfterCallWork => ask!(set_after_call_work, SetAfterCallWorkRequest),
            Self::CancelAfterCallWork => ask!(cancel_after_call_work, CancelAfterCallWorkRequest),
            Self::SetResting { seconds, reason, prolong } => {
                let duration = Some(prost_types::Duration { seconds, nanos: 0 });
                ask!(set_resting, SetRestingRequest { duration, reason, prolong })
            }
            Self::CancelResting => ask!(cancel_resting, CancelRestingRequest),
        })
    }
}
