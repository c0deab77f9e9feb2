//! `BatchSetBusy`: many agents in one call, each with its own result.

use std::time::Duration;

use ccgateway_bridge::rpc::proto::{
    BatchSetBusyRequest, BatchSetBusyResponse, RegisterSessionRequest, SetBusyRequest,
    batch_set_busy_response::result::Result as Became,
};
use ccgateway_sim::{Fault, Interface, Misbehaviour, Options, Simulator};
use ccgateway_test_support::{AGENT, Refusal, Setup, TestBridge, gateway, refused};
use prost::Message as _;
use tokio::time::Instant;
use tonic::{Code, Request, Status};

/// A batch of agents, made busy for a reason.
pub(crate) fn request(agents: impl IntoIterator<Item = u32>) -> BatchSetBusyRequest {
    let agent_ids = agents.into_iter().map(|agent| agent.to_string()).collect();
    BatchSetBusyRequest { agent_ids, reason: Some(200), ..<_>::default() }
}

/// The answer to a batch within its time.
pub(crate) async fn batch(
    bridge: &TestBridge,
    request: BatchSetBusyRequest,
    deadline: Duration,
) -> Result<BatchSetBusyResponse, Status> {
    let mut request = Request::new(request);
    request.set_timeout(deadline);
    bridge.states.clone().batch_set_busy(request).await.map(tonic::Response::into_inner)
}

/// Results taken apart, with their agents.
pub(crate) fn outcomes(answer: BatchSetBusyResponse) -> Vec<(String, Result<(), Refusal>)> {
    let results = answer.results.into_iter().map(|result| {
        let outcome = match result.result.expect("an outcome") {
            Became::Accepted(accepted) => {
                assert_eq!(accepted.retcode, "0");
                Ok(())
            }
            Became::Error(error) => {
                let details = error.encode_to_vec().into();
                let code = Code::from_i32(error.code);
                Err(Refusal::from(Status::with_details(code, error.message, details)))
            }
        };
        (result.agent_id, outcome)
    });
    results.collect()
}

/// A bridge whose agents' sessions were handed in.
pub(crate) async fn registered(setup: Setup, agents: std::ops::Range<u32>) -> TestBridge {
    let bridge = TestBridge::with(setup).await;
    for agent in agents {
        let guid = bridge.gateway.sign_in(agent);
        bridge.register(agent, &guid).await.expect("registered");
    }
    bridge
}

const AGENTS: std::ops::Range<u32> = 1000..1500;
const DEADLINE: Duration = Duration::from_secs(5);

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn five_hundred_agents_have_their_own_results_and_delay_no_other_call() {
    let (bridge, other) = with_another_tenant().await;
    let hanging = [1003, 1498];
    for agent in AGENTS.step_by(10) {
        let fault = Fault::Retcode { retcode: "100-009".into(), message: String::new() };
        bridge.gateway.misbehave(Misbehaviour::always(fault).on(Interface::SayBusy).of(agent));
    }
    for agent in hanging {
        bridge.gateway.misbehave(Misbehaviour::always(Fault::Hang).of(agent));
    }

    let started = Instant::now();
    let many = async {
        let request = BatchSetBusyRequest { tenant_id: "acme".into(), ..request(AGENTS.rev()) };
        batch(&bridge, request, DEADLINE).await
    };
    let answer = tokio::select! {
        answer = many => answer.expect("an answer"),
        () = undisturbed(&bridge) => unreachable!("it goes on for ever"),
    };
    assert!(started.elapsed() <= DEADLINE, "{:?}", started.elapsed());

    assert_eq!(answer.error_count, 52);
    let results = outcomes(answer);
    let named: Vec<_> = results.iter().map(|(agent, _)| agent.clone()).collect();
    assert_eq!(named, AGENTS.rev().map(|agent| agent.to_string()).collect::<Vec<_>>());
    for (agent, result) in results {
        let id: u32 = agent.parse().expect("a number");
        let expected = match id {
            _ if id.is_multiple_of(10) => {
                Some((Code::FailedPrecondition, "AGENT_STATE_REFUSED", "refused"))
            }
            _ if hanging.contains(&id) => Some((Code::DeadlineExceeded, "DEADLINE", "unknown")),
            _ => None,
        };
        let Err(refusal) = result else {
            assert_eq!(expected, None, "{agent}");
            continue;
        };
        let seen = (refusal.code, &*refusal.reason, &*refusal.metadata["outcome"]);
        assert_eq!(Some(seen), expected, "{agent}");
        assert_eq!(refusal.metadata["agent_id"], agent);
        let method = "ccgateway.agent.v1.AgentState/BatchSetBusy";
        assert_eq!(refusal.metadata["method"], method);
    }
    let mut asked: Vec<_> = bridge.asked(Interface::SayBusy).iter().map(|e| e.agent).collect();
    asked.retain(|agent| *agent != Some(AGENTS.end));
    assert_eq!(asked.len(), AGENTS.len(), "each agent once");
    assert!(!other.journal().is_empty());
}

/// The bridge, and the gateway of its second tenant with one agent.
async fn with_another_tenant() -> (TestBridge, Simulator) {
    let other = gateway(Options::default()).await;
    let tenant = format!(
        "[tenants.other]\nbase_urls = \"{}\"\n[tenants.other.tls]\ninsecure_skip_verify = true\n",
        other.base_url(),
    );
    let bridge = TestBridge::with(Setup { tenant, ..<_>::default() }).await;
    let owned = (AGENTS.start..=AGENTS.end).map(|agent| ("acme", agent, &bridge.gateway));
    for (tenant, agent, gateway) in owned.chain([("other", AGENT, &other)]) {
        let registration = RegisterSessionRequest {
            agent_id: agent.to_string(),
            tenant_id: tenant.into(),
            guid: gateway.sign_in(agent),
            ttl: None,
        };
        bridge.sessions.clone().register_session(registration).await.expect("registered");
    }
    (bridge, other)
}

/// Calls of another tenant, and other calls of the same, are served all the time.
async fn undisturbed(bridge: &TestBridge) {
    loop {
        for (tenant, agent) in [("other", AGENT), ("acme", AGENTS.end)] {
            let mut request = Request::new(SetBusyRequest {
                agent_id: agent.to_string(),
                tenant_id: tenant.into(),
                reason: Some(200),
                prolong: Some(true),
                ..<_>::default()
            });
            request.set_timeout(Duration::from_secs(2));
            bridge.states.clone().set_busy(request).await.expect("served");
        }
    }
}

/// Clients take 4 MiB. A number of one digit takes eleven bytes in an answer.
#[tokio::test]
async fn an_answer_with_long_texts_of_the_gateway_is_not_too_long_for_a_client() {
    let bridge = registered(Setup::default(), AGENTS).await;
    for agent in AGENTS.skip(1) {
        let (message, numbers) = ("m".repeat(3000), "1,".repeat(1000));
        let body = format!(r#"{{"message":"{message}","retcode":"0","result":[{numbers}1]}}"#);
        let content_type = "application/json".to_owned();
        let fault = Fault::Raw { body: body.into(), content_type, headers: Vec::new() };
        bridge.gateway.misbehave(Misbehaviour::always(fault).on(Interface::SayBusy).of(agent));
    }
    let answer = batch(&bridge, request(AGENTS), DEADLINE).await.expect("an answer");
    assert_eq!(answer.error_count, 0);
    for (place, result) in answer.results.into_iter().enumerate() {
        let Some(Became::Accepted(change)) = result.result else { panic!("{}", result.agent_id) };
        let is_short = place == 0;
        assert_eq!(change.result.is_some(), is_short, "{}", result.agent_id);
        assert_eq!(change.message.len() == 2048, !is_short, "{}", change.message);
    }
}

#[tokio::test]
async fn a_mistake_that_concerns_all_agents_fails_the_whole_batch() {
    let bridge = TestBridge::signed_in().await;
    let duration = prost_types::Duration::default();
    for (request, field) in [
        (request([]), "agent_ids"),
        (request(1001..1502), "agent_ids"),
        (request([1001, 1002, 1001]), "agent_ids"),
        (BatchSetBusyRequest { reason: Some(199), ..request([AGENT]) }, "reason"),
        (BatchSetBusyRequest { reason: None, prolong: Some(true), ..request([AGENT]) }, "reason"),
        (
            BatchSetBusyRequest { confirm_within: Some(duration), ..request([AGENT]) },
            "confirm_within",
        ),
    ] {
        let result = batch(&bridge, request, DEADLINE).await;
        let refusal = refused(result, Code::InvalidArgument, "INVALID_REQUEST", "not_sent");
        let violations = &refusal.details.bad_request().expect("fields").field_violations;
        let named: Vec<_> = violations.iter().map(|v| v.field.as_str()).collect();
        assert_eq!(named, [field]);
    }
    let nobodys = BatchSetBusyRequest { tenant_id: "nobody".into(), ..request([AGENT]) };
    let result = batch(&bridge, nobodys, DEADLINE).await;
    refused(result, Code::NotFound, "TENANT_UNKNOWN", "not_sent");
    assert_eq!(bridge.gateway.journal().len(), 0);
}

#[tokio::test]
async fn a_malformed_id_has_its_own_error_and_the_others_go_through() {
    let bridge = TestBridge::signed_in().await;
    let long = "9".repeat(10_000);
    let bad = ["", "01001", "100", "60000", "1001/../1", "1001\nccgw.agent.id=1002", &long];
    let mut batch_of = request([AGENT, AGENT + 1]);
    batch_of.agent_ids.splice(1..1, bad.map(str::to_owned));
    let answer = batch(&bridge, batch_of.clone(), DEADLINE).await.expect("an answer");
    assert_eq!(answer.error_count, 8);
    let results = outcomes(answer);
    for ((agent, result), asked) in results.into_iter().zip(batch_of.agent_ids) {
        assert_eq!(agent, asked);
        let Err(refusal) = result else {
            assert_eq!(agent, "1001");
            continue;
        };
        let told = &refusal.metadata["agent_id"];
        assert!(told.len() <= 64 && !told.contains(char::is_control), "{told:?}");
        if agent == "1002" {
            assert_eq!(refusal.reason, "SESSION_MISSING");
            continue;
        }
        let seen = (refusal.code, &*refusal.reason, &*refusal.metadata["outcome"]);
        assert_eq!(seen, (Code::InvalidArgument, "INVALID_REQUEST", "not_sent"));
        let violations = &refusal.details.bad_request().expect("fields").field_violations;
        assert_eq!(violations[0].field, "agent_ids");
    }
    assert_eq!(bridge.gateway.journal().len(), 1);
}
