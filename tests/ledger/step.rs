//! One call of an agent's life: what is asked, and what goes wrong.

use ccgateway_bridge::rpc::proto::{
    BatchSetBusyRequest, BatchSetBusyResponse, CancelAfterCallWorkRequest,
    CancelAfterCallWorkResponse, CancelBusyRequest, CancelBusyResponse, CancelRestingRequest,
    CancelRestingResponse, GetStateRequest, GetStateResponse, SetAfterCallWorkRequest,
    SetAfterCallWorkResponse, SetBusyRequest, SetBusyResponse, SetIdleRequest, SetIdleResponse,
    SetRestingRequest, SetRestingResponse, SignInRequest, SignInResponse, SignOutRequest,
    SignOutResponse, batch_set_busy_response::result::Result as Told,
};
use ccgateway_sim::{Interface, Misbehaviour};
use prost::Message as _;
use tonic::{Code, Status};

use crate::{
    World,
    caller::Asked,
    chance::Chance,
    faults::{LOSSES, fault, is_hidden_by_fault, is_hidden_by_loss},
};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Step {
    SignIn,
    /// Of an agent whom another client has signed in.
    ForceSignIn,
    SetBusy,
    /// Of the agent and of two others.
    BatchSetBusy,
    CancelBusy,
    SetIdle,
    SetAfterCallWork,
    CancelAfterCallWork,
    SetResting,
    CancelResting,
    GetState,
    SignOut,
}

use Step::{
    BatchSetBusy, CancelAfterCallWork, CancelBusy, CancelResting, ForceSignIn, GetState,
    SetAfterCallWork, SetBusy, SetIdle, SetResting, SignIn, SignOut,
};
use ccgateway_test_support::PASSWORD;

/// What an agent goes through; each has as many calls.
pub(crate) const LIVES: [[Step; 5]; 6] = [
    [SignIn, SetBusy, CancelBusy, GetState, SignOut],
    [SignIn, SetAfterCallWork, CancelAfterCallWork, GetState, SignOut],
    [SignIn, SetResting, GetState, CancelResting, SignOut],
    [SignIn, GetState, SetBusy, SetIdle, SignOut],
    [ForceSignIn, SetBusy, CancelBusy, GetState, SignOut],
    [SignIn, BatchSetBusy, CancelBusy, GetState, SignOut],
];

/// Of four calls so many meet a fault.
const SPOILT: usize = 3;
/// The same for sign-ins: without a session nothing else is sent.
const SIGN_INS_SPOILT: usize = 1;
/// From an agent to the one in its batch whose session is registered, and to one without a session.
const REGISTERED: u32 = 300_000;
const UNKNOWN: u32 = 600_000;

/// A fault that is in the way of a call.
#[derive(Clone, Debug, Default)]
pub(crate) struct Spoilt {
    /// What the proxy waits for.
    pub(crate) part: Option<String>,
    /// Whether it hides what has become of the request.
    pub(crate) hides: bool,
}

/// What came of one agent's part of a call.
pub(crate) type Answer = (u32, Result<(), Status>);

impl Step {
    pub(crate) fn interface(self) -> Interface {
        match self {
            SignIn => Interface::SignIn,
            ForceSignIn => Interface::ForceSignIn,
            SetBusy | BatchSetBusy => Interface::SayBusy,
            CancelBusy => Interface::CancelBusy,
            SetIdle => Interface::SayFree,
            SetAfterCallWork => Interface::Work,
            CancelAfterCallWork => Interface::CancelWork,
            SetResting => Interface::Rest,
            CancelResting => Interface::CancelRest,
            GetState => Interface::AgentStatus,
            SignOut => Interface::SignOut,
        }
    }

    /// What the requests of this step are recognised by on the wire.
    fn part(self, agent: u32) -> String {
        let tail = match self {
            SignIn => return format!("PUT /agentgateway/resource/onlineagent/{agent} "),
            ForceSignIn => "forcelogin",
            SetBusy | BatchSetBusy => "saybusy",
            CancelBusy => "cancelbusy",
            SetIdle => "sayfree",
            SetAfterCallWork => "work ",
            CancelAfterCallWork => "cancelwork",
            SetResting => "rest/",
            CancelResting => "cancelrest",
            GetState => "agentstatus",
            SignOut => "logout",
        };
        format!("/{agent}/{tail}")
    }

    /// Puts a fault in its way, at the gateway or at the proxy.
    pub(crate) fn spoil(self, world: &World, agent: u32, chance: &mut Chance) -> Spoilt {
        let signs_in = matches!(self, SignIn | ForceSignIn);
        let spoilt = if signs_in { SIGN_INS_SPOILT } else { SPOILT };
        if chance.below(4) >= spoilt {
            return Spoilt::default();
        }
        let by_proxy = chance.below(2) == 0;
        if let Some(proxy) = world.proxy.as_ref().filter(|_| by_proxy) {
            let (part, loss) = (self.part(agent), LOSSES[chance.below(LOSSES.len())]);
            proxy.lose(part.clone(), loss);
            return Spoilt { part: Some(part), hides: is_hidden_by_loss(loss) };
        }
        let fault = fault(chance);
        let hides = is_hidden_by_fault(&fault);
        let rule = Misbehaviour::once(fault).on(self.interface()).of(agent);
        world.bridge.gateway.misbehave(rule);
        Spoilt { part: None, hides }
    }

    /// What has to be before it.
    pub(crate) async fn prepare(self, world: &World, agent: u32) {
        match self {
            ForceSignIn => drop(world.bridge.gateway.sign_in(agent)),
            BatchSetBusy => {
                let other = agent + REGISTERED;
                let guid = world.bridge.gateway.sign_in(other);
                world.bridge.register(other, &guid).await.expect("registered");
            }
            _ => {}
        }
    }

    /// Whether it changes an agent's state, and so may have an id.
    pub(crate) fn is_change(self) -> bool {
        !matches!(self, SignIn | ForceSignIn | GetState | SignOut)
    }

    /// The state that the change leads to, as errors spell it. Empty: it leads to none.
    pub(crate) fn goal(self) -> &'static str {
        match self {
            SetBusy | BatchSetBusy => "ACTIVITY_STATE_BUSY",
            SetAfterCallWork => "ACTIVITY_STATE_AFTER_CALL_WORK",
            SetResting => "ACTIVITY_STATE_RESTING",
            CancelBusy | SetIdle | CancelAfterCallWork | CancelResting => "ACTIVITY_STATE_IDLE",
            SignIn | ForceSignIn | GetState | SignOut => "",
        }
    }

    /// Asks for it, and again where gRPC would.
    pub(crate) async fn call(self, world: &World, agent: u32, trace: u128) -> Vec<Answer> {
        let agent_id = agent.to_string();
        let request_id = if world.setting.insists { id(trace) } else { String::new() };
        macro_rules! ask {
            ($service:literal, $method:ident: $request:ident { $($field:ident: $value:expr),* } -> $answer:ident) => {{
                let message = $request { $($field: $value,)* ..<_>::default() }.encode_to_vec();
                let path = concat!("/ccgateway.agent.v1.", $service, "/", stringify!($method));
                world.caller.ask::<$answer>(&Asked { path, message, trace }).await
            }};
        }
        let answer = match self {
            SignIn | ForceSignIn => {
                let (password, force) = (Some(PASSWORD.into()), self == ForceSignIn);
                ask!("AgentSession", SignIn: SignInRequest { agent_id: agent_id, password: password, force: force } -> SignInResponse).map(drop)
            }
            SignOut => ask!("AgentSession", SignOut: SignOutRequest { agent_id: agent_id } -> SignOutResponse).map(drop),
            SetBusy => ask!("AgentState", SetBusy: SetBusyRequest { agent_id: agent_id, request_id: request_id, reason: Some(200) } -> SetBusyResponse).map(drop),
            BatchSetBusy => {
                let agents = [agent, agent + REGISTERED, agent + UNKNOWN];
                let agent_ids = agents.iter().map(u32::to_string).collect();
                let answer = ask!("AgentState", BatchSetBusy: BatchSetBusyRequest { agent_ids: agent_ids, request_id: request_id, reason: Some(200) } -> BatchSetBusyResponse);
                return parts(&agents, answer);
            }
            CancelBusy => ask!("AgentState", CancelBusy: CancelBusyRequest { agent_id: agent_id, request_id: request_id } -> CancelBusyResponse).map(drop),
            SetIdle => ask!("AgentState", SetIdle: SetIdleRequest { agent_id: agent_id, request_id: request_id } -> SetIdleResponse).map(drop),
            SetAfterCallWork => ask!("AgentState", SetAfterCallWork: SetAfterCallWorkRequest { agent_id: agent_id, request_id: request_id } -> SetAfterCallWorkResponse).map(drop),
            CancelAfterCallWork => ask!("AgentState", CancelAfterCallWork: CancelAfterCallWorkRequest { agent_id: agent_id, request_id: request_id } -> CancelAfterCallWorkResponse).map(drop),
            SetResting => {
                let minute = Some(prost_types::Duration { seconds: 60, nanos: 0 });
                ask!("AgentState", SetResting: SetRestingRequest { agent_id: agent_id, request_id: request_id, duration: minute } -> SetRestingResponse).map(drop)
            }
            CancelResting => ask!("AgentState", CancelResting: CancelRestingRequest { agent_id: agent_id, request_id: request_id } -> CancelRestingResponse).map(drop),
            GetState => ask!("AgentState", GetState: GetStateRequest { agent_id: agent_id } -> GetStateResponse).map(drop),
        };
        vec![(agent, answer)]
    }
}

/// The id of a change, which is that of its trace.
fn id(trace: u128) -> String {
    let hex = format!("{trace:032x}");
    let parts = [0..8, 8..12, 12..16, 16..20, 20..32].map(|part| &hex[part]);
    parts.join("-")
}

/// What a batch says of each of its agents.
fn parts(agents: &[u32], answer: Result<BatchSetBusyResponse, Status>) -> Vec<Answer> {
    let results = match answer {
        Ok(answer) => answer.results,
        Err(status) => return agents.iter().map(|agent| (*agent, Err(status.clone()))).collect(),
    };
    let ids: Vec<_> = results.iter().map(|result| result.agent_id.clone()).collect();
    assert_eq!(ids, agents.iter().map(u32::to_string).collect::<Vec<_>>());
    let outcomes = results.into_iter().map(|result| match result.result.expect("a result") {
        Told::Accepted(_) => Ok(()),
        Told::Error(error) => {
            let (code, details) = (Code::from_i32(error.code), error.encode_to_vec().into());
            Err(Status::with_details(code, error.message, details))
        }
    });
    agents.iter().copied().zip(outcomes).collect()
}
