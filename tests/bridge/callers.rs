//! Who callers are, and what they may do.

mod authority;
mod by_certificate;
mod by_token;
mod half;
mod issuer;
mod peer;
mod reloading;
mod rights;
mod taken_back;
mod unread;

use ccgateway_bridge::rpc::proto::{
    BatchSetBusyRequest, CancelAfterCallWorkRequest, CancelBusyRequest, CancelRestingRequest,
    GetSessionRequest, GetStateChangeRequest, GetStateRequest, RegisterSessionRequest,
    SetAfterCallWorkRequest, SetBusyRequest, SetIdleRequest, SetRestingRequest, SignInRequest,
    SignOutRequest, WatchEventsRequest,
};
use ccgateway_bridge::{access::Right, rpc::methods};
use ccgateway_test_support::AGENT;
use prost::Message as _;

const UNAUTHENTICATED: &str = "16";
/// Of a session, where the caller may ask for it.
const NOT_FOUND: &str = "5";
const PERMISSION_DENIED: &str = "7";
const UNAVAILABLE: &str = "14";
const HEALTH: &str = "/grpc.health.v1.Health/Check";
const REFLECTION: &str = "/grpc.reflection.v1.ServerReflection/ServerReflectionInfo";

/// A request of each method of the contract for this tenant, with the right that it needs.
fn requests(tenant: &str) -> Vec<(String, Right, Vec<u8>)> {
    let (tenant_id, agent_id) = (tenant.to_owned(), AGENT.to_string());
    macro_rules! request {
        ($name:ident { $($field:ident: $value:expr),* }) => {
            {
                let mut request = $name::default();
                request.tenant_id.clone_from(&tenant_id);
                $(request.$field = $value;)*
                request.encode_to_vec()
            }
        };
    }
    let agent = || agent_id.clone();
    let all = [
        ("AgentState/SetBusy", Right::Write, request!(SetBusyRequest { agent_id: agent() })),
        ("AgentState/CancelBusy", Right::Write, request!(CancelBusyRequest { agent_id: agent() })),
        ("AgentState/SetIdle", Right::Write, request!(SetIdleRequest { agent_id: agent() })),
        (
            "AgentState/SetAfterCallWork",
            Right::Write,
            request!(SetAfterCallWorkRequest { agent_id: agent() }),
        ),
        (
            "AgentState/CancelAfterCallWork",
            Right::Write,
            request!(CancelAfterCallWorkRequest { agent_id: agent() }),
        ),
        ("AgentState/SetResting", Right::Write, request!(SetRestingRequest { agent_id: agent() })),
        (
            "AgentState/CancelResting",
            Right::Write,
            request!(CancelRestingRequest { agent_id: agent() }),
        ),
        ("AgentState/GetState", Right::Read, request!(GetStateRequest { agent_id: agent() })),
        (
            "AgentState/GetStateChange",
            Right::Read,
            request!(GetStateChangeRequest { request_id: "1".to_owned() }),
        ),
        (
            "AgentState/BatchSetBusy",
            Right::Write,
            request!(BatchSetBusyRequest { agent_ids: vec![agent()] }),
        ),
        (
            "AgentSession/RegisterSession",
            Right::Session,
            request!(RegisterSessionRequest { agent_id: agent() }),
        ),
        ("AgentSession/SignIn", Right::Session, request!(SignInRequest { agent_id: agent() })),
        ("AgentSession/SignOut", Right::Session, request!(SignOutRequest { agent_id: agent() })),
        ("AgentSession/GetSession", Right::Read, request!(GetSessionRequest { agent_id: agent() })),
        (
            "AgentEvents/WatchEvents",
            Right::Watch,
            request!(WatchEventsRequest { agent_ids: vec![agent()] }),
        ),
    ];
    assert_eq!(all.len(), methods().len(), "a method is missing here");
    let path = |method| format!("/ccgateway.agent.v1.{method}");
    all.map(|(method, right, message)| (path(method), right, message)).into()
}

/// Lists the services.
fn list_services() -> Vec<u8> {
    vec![0x3a, 0]
}
