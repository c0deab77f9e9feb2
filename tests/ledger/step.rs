//! One call of an agent's life: what is asked, what goes wrong, and how gRPC would repeat it.

use std::{future::Future, time::Duration};

use ccgateway_bridge::{
    rpc::proto::{
        CancelAfterCallWorkRequest, CancelBusyRequest, CancelRestingRequest, GetStateRequest,
        SetAfterCallWorkRequest, SetBusyRequest, SetIdleRequest, SetRestingRequest, SignInRequest,
        SignOutRequest,
    },
    sim::{Fault, Interface, Misbehaviour},
};
use serde_json::Value;
use tonic::{Code, Request, Response, Status};

use crate::{
    World,
    chance::Chance,
    lossy::{Loss, Own},
    support::PASSWORD,
};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Step {
    SignIn,
    SetBusy,
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
    CancelAfterCallWork, CancelBusy, CancelResting, GetState, SetAfterCallWork, SetBusy, SetIdle,
    SetResting, SignIn, SignOut,
};

/// What an agent goes through; each has as many calls.
pub(crate) const LIVES: [[Step; 5]; 4] = [
    [SignIn, SetBusy, CancelBusy, GetState, SignOut],
    [SignIn, SetAfterCallWork, CancelAfterCallWork, GetState, SignOut],
    [SignIn, SetResting, GetState, CancelResting, SignOut],
    [SignIn, GetState, SetBusy, SetIdle, SignOut],
];

/// Of four calls so many meet a fault.
const SPOILT: usize = 3;
/// The same for sign-ins: without a session nothing else is sent.
const SIGN_INS_SPOILT: usize = 1;

impl Step {
    pub(crate) fn interface(self) -> Interface {
        match self {
            SignIn => Interface::SignIn,
            SetBusy => Interface::SayBusy,
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
            SetBusy => "saybusy",
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

    /// Puts a fault in its way, at the gateway or at the proxy; gives what the proxy waits for.
    pub(crate) fn spoil(self, world: &World, agent: u32, chance: &mut Chance) -> Option<String> {
        let spoilt = if self == SignIn { SIGN_INS_SPOILT } else { SPOILT };
        if chance.below(4) >= spoilt {
            return None;
        }
        let by_proxy = chance.below(2) == 0;
        if let Some(proxy) = world.proxy.as_ref().filter(|_| by_proxy) {
            let part = self.part(agent);
            proxy.lose(part.clone(), LOSSES[chance.below(LOSSES.len())]);
            return Some(part);
        }
        let fault = fault(chance);
        let rule = Misbehaviour::once(fault).on(self.interface()).of(agent);
        world.bridge.gateway.misbehave(rule);
        None
    }

    /// Asks for it, and again where gRPC would.
    pub(crate) async fn call(self, world: &World, agent: u32, trace: u128) -> Result<(), Status> {
        let (states, sessions) = (world.bridge.states.clone(), world.bridge.sessions.clone());
        let agent_id = agent.to_string();
        macro_rules! ask {
            ($client:ident, $method:ident, $request:ident { $($field:ident: $value:expr),* }) => {
                world.retries.of(self.method(), async || {
                    let message = $request {
                        agent_id: agent_id.clone(), $($field: $value,)* ..<_>::default()
                    };
                    done($client.clone().$method(traced(message, trace))).await
                }).await
            };
        }
        match self {
            SignIn => {
                ask!(sessions, sign_in, SignInRequest { password: Some(PASSWORD.into()) })
            }
            SetBusy => ask!(states, set_busy, SetBusyRequest { reason: Some(200) }),
            CancelBusy => ask!(states, cancel_busy, CancelBusyRequest {}),
            SetIdle => ask!(states, set_idle, SetIdleRequest {}),
            SetAfterCallWork => ask!(states, set_after_call_work, SetAfterCallWorkRequest {}),
            CancelAfterCallWork => {
                ask!(states, cancel_after_call_work, CancelAfterCallWorkRequest {})
            }
            SetResting => {
                let minute = prost_types::Duration { seconds: 60, nanos: 0 };
                ask!(states, set_resting, SetRestingRequest { duration: Some(minute) })
            }
            CancelResting => ask!(states, cancel_resting, CancelRestingRequest {}),
            GetState => ask!(states, get_state, GetStateRequest {}),
            SignOut => ask!(sessions, sign_out, SignOutRequest {}),
        }
    }

    fn method(self) -> &'static str {
        match self {
            SignIn => "SignIn",
            SetBusy => "SetBusy",
            CancelBusy => "CancelBusy",
            SetIdle => "SetIdle",
            SetAfterCallWork => "SetAfterCallWork",
            CancelAfterCallWork => "CancelAfterCallWork",
            SetResting => "SetResting",
            CancelResting => "CancelResting",
            GetState => "GetState",
            SignOut => "SignOut",
        }
    }
}

const LOSSES: [Loss; 9] = [
    Loss::InRequest,
    Loss::AfterRequest,
    Loss::BeforeAnswer,
    Loss::InAnswer,
    Loss::AfterAnswer,
    Loss::Instead(Own { status: 502, retry_after: None }),
    Loss::Instead(Own { status: 503, retry_after: None }),
    Loss::Instead(Own { status: 504, retry_after: None }),
    Loss::Unforwarded(Own { status: 503, retry_after: Some(1) }),
];

/// Any of the faults that a gateway can have.
fn fault(chance: &mut Chance) -> Fault {
    const RETCODES: [&str; 8] =
        ["000-003", "000-004", "000-007", "100-003", "100-006", "100-007", "100-009", "999-999"];
    const STATUSES: [u16; 9] = [302, 401, 404, 405, 429, 500, 502, 503, 504];
    let brief = Duration::from_millis(20);
    match chance.below(12) {
        0 => Fault::Delay(brief),
        1 => Fault::DelayBefore(brief),
        // Longer than the bridge waits.
        2 => Fault::DelayBefore(Duration::from_millis(500)),
        3 => Fault::Hang,
        4 => Fault::CutBeforeAnswer,
        5 => Fault::CutMidAnswer,
        6 => Fault::Status {
            status: STATUSES[chance.below(STATUSES.len())],
            headers: Vec::new(),
            body: b"no".to_vec(),
            content_type: "text/plain".into(),
        },
        7 => Fault::Html,
        8 => Fault::Raw {
            body: b"{}".to_vec(),
            content_type: "application/json".into(),
            headers: Vec::new(),
        },
        9 => Fault::CloseAfterAnswer,
        10 => Fault::StaleSetGuid("00000000-dead-4437-84c3-ab9e9dae20f5.AgentGateway0".into()),
        _ => Fault::Retcode {
            retcode: RETCODES[chance.below(RETCODES.len())].into(),
            message: String::new(),
        },
    }
}

/// A request that is a part of a trace, for which its caller waits for a while.
fn traced<M>(message: M, trace: u128) -> Request<M> {
    let mut request = Request::new(message);
    let traceparent = format!("00-{trace:032x}-b7ad6b7169203331-00");
    request.metadata_mut().insert("traceparent", traceparent.parse().expect("ascii"));
    // Shorter than the bridge waits for the gateway, for some of the calls.
    let millis = if trace.is_multiple_of(3) { 300 } else { 5_000 };
    request.set_timeout(Duration::from_millis(millis));
    request
}

async fn done<T>(call: impl Future<Output = Result<Response<T>, Status>>) -> Result<(), Status> {
    call.await.map(drop)
}

/// How gRPC's own library repeats calls, by the service config that the project ships.
pub(crate) struct Retries {
    /// Methods with a policy.
    methods: Vec<String>,
}

impl Retries {
    pub(crate) fn shipped() -> Self {
        let config: Value =
            serde_json::from_str(include_str!("../../docs/service-config.json")).expect("JSON");
        let configs = config["methodConfig"].as_array().expect("method configs");
        let retried = configs.iter().filter(|config| config.get("retryPolicy").is_some());
        let names = retried.flat_map(|config| config["name"].as_array().expect("names"));
        let methods = names.map(|name| name["method"].as_str().expect("a method").to_owned());
        Self { methods: methods.collect() }
    }

    /// Makes a call up to three times.
    async fn of(
        &self,
        method: &str,
        call: impl AsyncFn() -> Result<(), Status>,
    ) -> Result<(), Status> {
        let mut answer = call().await;
        for _ in 0..2 {
            let Err(status) = &answer else { break };
            let pushback = status.metadata().get("grpc-retry-pushback-ms");
            let pause = pushback.and_then(|pushback| pushback.to_str().ok()?.parse::<u64>().ok());
            let may =
                status.code() == Code::Unavailable && self.methods.iter().any(|m| m == method);
            let Some(pause) = pause.filter(|_| may) else { break };
            // In the test's own time: what counts is that it is repeated.
            tokio::time::sleep(Duration::from_millis(pause.min(5))).await;
            answer = call().await;
        }
        answer
    }
}
