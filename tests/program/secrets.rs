//! Guids and passwords are nowhere in what the process prints or answers, whatever is logged.

use std::fs;

use ccgateway_bridge::rpc::proto::{
    GetSessionRequest, RegisterSessionRequest, SetBusyRequest, SignInRequest, SignOutRequest,
};
use ccgateway_sim::{Fault, Interface, Misbehaviour};
use ccgateway_test_support::{
    Clients, PASSWORD,
    collector::{Collector, Conduct},
};
use tempfile::TempDir;
use tonic::{Code, Request, Response};

use crate::support::start;

const WRONG: &str = "wrong-canary-password";
const CANARY: &str = "279fe21d-aaaa-4437-84c3-ab9e9dae20f5.AgentGateway1";

fn sign_in(agent: u32, password: &str) -> SignInRequest {
    let password = Some(password.to_owned());
    SignInRequest { agent_id: agent.to_string(), password, ..<_>::default() }
}

fn busy(agent: u32) -> SetBusyRequest {
    SetBusyRequest { agent_id: agent.to_string(), reason: Some(200), ..<_>::default() }
}

#[tokio::test]
async fn no_secret_is_printed_or_answered_at_trace_level() {
    let mut collector = Collector::start(Conduct::Takes).await;
    let files = TempDir::new().expect("a folder");
    let token = files.path().join("token");
    fs::write(&token, "authorization: Bearer canary-token\n").expect("written");
    let traces = format!(
        "[traces]\nendpoint = \"http://{}\"\nsample = 1\nheaders_file = {token:?}\n",
        collector.addr
    );
    let program = start(&traces, &["--log-filter", "trace"]).await;
    let (mut states, mut sessions) =
        (Clients::of(program.grpc).states, Clients::of(program.grpc).sessions);
    let mut answers = String::new();
    let mut heard = |answer: String| answers.push_str(&answer);

    heard(format!("{:?}", sessions.sign_in(sign_in(1001, PASSWORD)).await));
    heard(format!("{:?}", sessions.sign_in(sign_in(1002, WRONG)).await));
    heard(format!("{:?}", sessions.sign_in(sign_in(1002, &"canary-too-long".repeat(9))).await));
    program.gateway.set_guid_on_next_reply(1001);
    for _ in 0..3 {
        heard(format!("{:?}", states.set_busy(busy(1001)).await));
    }
    program.gateway.sign_out(1001);
    heard(format!("{:?}", states.set_busy(busy(1001)).await));
    for guid in [CANARY, "279fe21d canary", &CANARY.repeat(9)] {
        let (agent_id, guid) = ("1003".to_owned(), guid.to_owned());
        let request = RegisterSessionRequest { agent_id, guid, ..<_>::default() };
        heard(format!("{request:?} {:?}", sessions.register_session(request.clone()).await));
        heard(format!("{:?}", states.set_busy(busy(1003)).await));
    }
    let show = GetSessionRequest { agent_id: "1001".into(), ..<_>::default() };
    heard(format!("{:?}", sessions.get_session(show).await.map(Response::into_inner)));
    for fault in [Fault::CutMidAnswer, Fault::Html, Fault::StaleSetGuid(CANARY.into())] {
        program.gateway.misbehave(Misbehaviour::once(fault).on(Interface::SayBusy));
        heard(format!("{:?}", states.set_busy(busy(1001)).await));
    }
    heard(format!("{:?}", states.set_busy(busy(1001)).await));
    let sign_out = SignOutRequest { agent_id: "1001".into(), ..<_>::default() };
    heard(format!("{:?}", sessions.sign_out(sign_out).await));

    for page in ["/", "/status.json", "/log", "/metrics", "/readyz?verbose"] {
        heard(program.ask(&format!("GET {page}"), "").await.1);
    }

    let journal = program.gateway.journal();
    let mut guids: Vec<_> = journal
        .iter()
        .filter_map(|entry| entry.header("guid").map(str::to_owned))
        .chain(journal.iter().filter_map(|entry| entry.answer.as_ref()?.set_guid.clone()))
        .chain([CANARY.to_owned()])
        .collect();
    guids.sort();
    guids.dedup();
    assert!(guids.len() >= 4, "{} Guids were in play", guids.len());

    program.signal("-TERM");
    let (code, printed) = program.ended().await;
    assert_eq!(code, Some(0));
    assert!(printed.contains("\"TRACE\""), "nothing was traced");
    let exports = std::iter::from_fn(|| collector.arrived());
    let exported = format!("{:?}", exports.map(|export| export.request).collect::<Vec<_>>());
    assert!(exported.contains("gateway sayBusy") && exported.contains("gateway login"));
    let all = printed + &answers + &exported;
    for guid in &guids {
        // The node suffix may be shown, the rest of the Guid never.
        let (secret, _node) = guid.split_once('.').expect("a node");
        assert!(!all.contains(secret), "a Guid was shown");
    }
    for secret in [PASSWORD, WRONG, "canary-too-long", "canary-token", "279fe21d"] {
        assert!(!all.contains(secret), "{secret} was shown");
    }
}

#[tokio::test]
async fn a_callers_token_is_printed_nowhere_at_trace_level() {
    // The key of RFC 8037, appendix A.2, and the payload and signature of its appendix A.4.
    const KEYS: &str = r#"{"keys":[{"kty":"OKP","crv":"Ed25519","kid":"k","x":"11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo"}]}"#;
    const CLAIMS: &str = "eyJpc3MiOiJodHRwczovL2lzc3Vlci5leGFtcGxlIn0";
    const SIGNATURE: &str =
        "hgyY0il_MGCjP0JzlnLWG1PPOt7-09PGcvMg3AIbQR6dWbhijcNR4ki4iylGjg5BhVsPt9g7sVvpAr_MuM0KAg";
    let files = TempDir::new().expect("a folder");
    let keys = files.path().join("keys.json");
    fs::write(&keys, KEYS).expect("written");
    let settings = format!(
        "issuers.k8s = {{ issuer = \"https://issuer.example\", audiences = [\"bridge\"], jwks_file = {keys:?} }}\n\
         callers.all = {{ principals = [\"*\"], tenants = [\"*\"], rights = [\"*\"] }}\n"
    );
    let program = start(&settings, &["--log-filter", "trace"]).await;
    let mut states = Clients::of(program.grpc).states;
    let mut answers = String::new();
    // {"alg":"EdDSA","kid":"k"}, and the same with an unknown key.
    for head in
        ["eyJhbGciOiJFZERTQSIsImtpZCI6ImsifQ", "eyJhbGciOiJFZERTQSIsImtpZCI6IngifQ", "canary-head"]
    {
        let mut request = Request::new(busy(1001));
        let token = format!("Bearer {head}.{CLAIMS}.{SIGNATURE}").parse().expect("a header");
        request.metadata_mut().insert("authorization", token);
        let refused = states.set_busy(request).await.expect_err("it is not good");
        assert_eq!(refused.code(), Code::Unauthenticated, "{refused:?}");
        answers.extend([format!("{refused:?}")]);
    }
    for page in ["/", "/status.json", "/metrics"] {
        answers.push_str(&program.ask(&format!("GET {page}"), "").await.1);
    }
    program.signal("-TERM");
    let (_, printed) = Box::pin(program.ended()).await;
    assert!(printed.contains("CALLER_UNKNOWN"), "{printed}");
    for secret in ["eyJhbGciOiJFZERTQSIsImtpZCI6ImsifQ", CLAIMS, SIGNATURE, "canary-head"] {
        assert!(!printed.contains(secret) && !answers.contains(secret), "{secret}");
    }
}
