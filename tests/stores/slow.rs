//! A store that answers later than callers wait: they are told in time what is known by then.

use std::time::Duration;

use ccgateway_bridge::rpc::proto::{
    GetSessionRequest, RegisterSessionRequest, SetBusyRequest, SignInRequest, SignOutRequest,
};
use ccgateway_sim::{Entry, Interface, Options};
use ccgateway_test_support::{PASSWORD, RedisServer, Setup, TestBridge};
use tokio::time::timeout;
use tonic::{Code, Request, Response, Status};
use tonic_types::StatusExt as _;

use crate::{callee, support::eventually};

/// As long as a command to the store may take; callers of these tests have left long before.
const SLOW: &str = "timeouts.command = \"1m\"";

struct World {
    server: RedisServer,
    bridge: TestBridge,
}

impl World {
    /// One with agents 1002 and 1003 signed in.
    async fn start() -> Self {
        Self::of_tenant("").await
    }

    /// One whose tenant has this in its section.
    async fn of_tenant(tenant: &str) -> Self {
        let server = RedisServer::start().await;
        // So that a Guid that is lost costs a call.
        let gateway = Options { old_guid_lives: false, ..Options::default() };
        let setup = callee::setup(callee::on_redis(&server, SLOW));
        let bridge = TestBridge::with(Setup { gateway, tenant: tenant.into(), ..setup }).await;
        for agent in [1002, 1003] {
            bridge.sign_in(agent).await.expect("signed in");
        }
        Self { server, bridge }
    }

    /// The requests of an agent for an interface.
    fn asked(&self, interface: Interface, agent: u32) -> Vec<Entry> {
        let is_it =
            |entry: &Entry| entry.interface == Some(interface) && entry.agent == Some(agent);
        self.bridge.gateway.journal().into_iter().filter(is_it).collect()
    }

    /// Those that have an answer.
    fn answered(&self, interface: Interface, agent: u32) -> Vec<Entry> {
        let mut asked = self.asked(interface, agent);
        asked.retain(|entry| entry.answer.is_some());
        asked
    }

    /// What a call hears whose request is at the gateway when the store stops answering.
    async fn slow_after<T>(
        &self,
        interface: Interface,
        call: impl Future<Output = Result<Response<T>, Status>>,
    ) -> Result<(), Status> {
        let asked = || {
            let journal = self.bridge.gateway.journal();
            journal.iter().filter(|entry| entry.interface == Some(interface)).count()
        };
        let before = asked();
        self.bridge.gateway.freeze();
        let slow = async {
            eventually("the request", || asked() > before).await;
            self.server.freeze();
            self.bridge.gateway.thaw();
        };
        let (answer, ()) = tokio::join!(in_time(call), slow);
        answer
    }
}

/// The answer, which has to be there long before the store's.
async fn in_time<T>(call: impl Future<Output = Result<Response<T>, Status>>) -> Result<(), Status> {
    timeout(Duration::from_secs(20), call).await.expect("answered before the store").map(drop)
}

/// The request of a caller who waits for half a second.
fn hurried<T>(message: T) -> Request<T> {
    let mut request = Request::new(message);
    request.set_timeout(Duration::from_millis(500));
    request
}

fn set_busy(agent: u32) -> Request<SetBusyRequest> {
    let (agent_id, reason) = (agent.to_string(), Some(200));
    hurried(SetBusyRequest { agent_id, reason, prolong: Some(true), ..<_>::default() })
}

fn sign_in(agent: u32, password: &str) -> Request<SignInRequest> {
    let (agent_id, password) = (agent.to_string(), Some(password.into()));
    hurried(SignInRequest { agent_id, password, ..<_>::default() })
}

/// The code, the reason and the outcome.
fn told(answer: Result<(), Status>) -> (Code, String, String) {
    let status = answer.expect_err("not carried out");
    let details = status.get_error_details();
    let info = details.error_info().unwrap_or_else(|| panic!("the bridge's own word: {status}"));
    (status.code(), info.reason.clone(), info.metadata["outcome"].clone())
}

/// The gateway answers to the reset of an agent's skills with a new Guid, the only good one, while the
/// store is still to take the session of the sign-in.
#[tokio::test]
async fn a_guid_of_a_skill_reset_is_stored_after_the_session_that_it_belongs_to() {
    let world = World::of_tenant("reset_skills_after_sign_in = true").await;
    let World { server, bridge } = &world;
    let gateway = &bridge.gateway;
    let (mut states, mut sessions) = (bridge.states.clone(), bridge.sessions.clone());
    for agent in [1004, 1001] {
        let mut asked_for = sign_in(agent, PASSWORD);
        asked_for.set_timeout(Duration::from_secs(3));
        let mut unasked = set_busy(agent);
        unasked.set_timeout(Duration::from_secs(3));
        let call = async {
            match agent {
                1004 => sessions.sign_in(asked_for).await.map(drop),
                _ => states.set_busy(unasked).await.map(drop),
            }
        };
        let slow = async {
            eventually("a sign-in", || !world.asked(Interface::SignIn, agent).is_empty()).await;
            server.freeze();
            gateway.thaw();
            eventually("its answer", || !world.answered(Interface::SignIn, agent).is_empty()).await;
            // The reset comes when the caller has left.
            gateway.freeze();
            eventually("a reset", || !world.asked(Interface::ResetSkill, agent).is_empty()).await;
            gateway.set_guid_on_next_reply(agent);
            gateway.thaw();
            let is_answered = || !world.answered(Interface::ResetSkill, agent).is_empty();
            eventually("its answer", is_answered).await;
            server.thaw();
        };
        gateway.freeze();
        let (_told, ()) = tokio::join!(timeout(Duration::from_secs(20), call), slow);
        let reset = world.answered(Interface::ResetSkill, agent).remove(0);
        let brought = reset.answer.and_then(|answer| answer.set_guid);
        assert!(brought.is_some(), "a new Guid with the reset");
        bridge.set_busy(agent).await.expect("accepted");
        let busy = world.answered(Interface::SayBusy, agent);
        assert_eq!(busy.len(), 1, "the new Guid is known: {busy:?}");
        assert_eq!(world.asked(Interface::SignIn, agent).len(), 1, "no other sign-in");
    }
}

fn deadline(outcome: &str) -> (Code, String, String) {
    (Code::DeadlineExceeded, "DEADLINE".into(), outcome.into())
}

#[tokio::test]
async fn calls_that_need_the_store_first_end_with_their_deadlines() {
    let world = World::start().await;
    world.server.freeze();
    let World { bridge, .. } = &world;
    let (agent_id, guid) = (String::from("1004"), String::from("some.AgentGateway0"));
    let (mut states, mut sessions) = (bridge.states.clone(), bridge.sessions.clone());
    assert_eq!(told(in_time(states.set_busy(set_busy(1004))).await), deadline("not_sent"));
    let looked_up = GetSessionRequest { agent_id: agent_id.clone(), ..<_>::default() };
    assert_eq!(told(in_time(sessions.get_session(hurried(looked_up))).await), deadline("not_sent"));
    let given = sign_in(1004, PASSWORD);
    assert_eq!(told(in_time(sessions.sign_in(given)).await), deadline("not_sent"));
    let signed_out = SignOutRequest { agent_id: agent_id.clone(), ..<_>::default() };
    assert_eq!(told(in_time(sessions.sign_out(hurried(signed_out))).await), deadline("not_sent"));
    // Redis may have taken it.
    let registered = RegisterSessionRequest { agent_id, guid, ..<_>::default() };
    let answer = in_time(sessions.register_session(hurried(registered))).await;
    assert_eq!(told(answer), deadline("unknown"));
    world.server.thaw();
}

#[tokio::test]
async fn what_the_gateway_has_accepted_is_told_while_the_store_is_still_to_take_it() {
    let world = World::start().await;
    let World { bridge, .. } = &world;
    let gateway = &bridge.gateway;
    let (mut states, mut sessions) = (bridge.states.clone(), bridge.sessions.clone());
    gateway.set_guid_on_next_reply(1002);
    let answer = world.slow_after(Interface::SayBusy, states.set_busy(set_busy(1002))).await;
    answer.expect("a Guid that is still to be stored");
    world.server.thaw();
    // Its new Guid is the only good one, and this call waits until it is stored.
    bridge.set_busy(1002).await.expect("accepted with the new Guid");

    let answer =
        world.slow_after(Interface::SignIn, sessions.sign_in(sign_in(1004, PASSWORD))).await;
    answer.expect("a session that is still to be stored");
    world.server.thaw();
    bridge.set_busy(1004).await.expect("the session was stored");

    let request = SignOutRequest { agent_id: "1003".into(), ..<_>::default() };
    let answer = world.slow_after(Interface::SignOut, sessions.sign_out(hurried(request))).await;
    answer.expect("a session that is still to be forgotten");
    world.server.thaw();
    let gone = bridge.set_busy(1003).await.map(drop);
    assert_eq!(told(gone).1, "SESSION_MISSING");
}

#[tokio::test]
async fn what_the_gateway_has_refused_is_told_while_the_store_is_still_asked() {
    let world = World::start().await;
    let (mut states, mut sessions) = (world.bridge.states.clone(), world.bridge.sessions.clone());
    world.bridge.register(1003, "stale.AgentGateway0").await.expect("registered");
    let answer = world.slow_after(Interface::SayBusy, states.set_busy(set_busy(1003))).await;
    assert_eq!(
        told(answer),
        deadline("refused"),
        "its Guid was refused, and a newer one looked for"
    );
    world.server.thaw();

    let wrong = sessions.sign_in(sign_in(1004, "canary-wrong"));
    let answer = world.slow_after(Interface::SignIn, wrong).await;
    let (code, reason, outcome) = told(answer);
    assert_eq!((reason.as_str(), outcome.as_str()), ("CREDENTIALS_REJECTED", "refused"), "{code}");
    world.server.thaw();
}
