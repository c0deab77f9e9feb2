//! Callers whom nobody knows fill neither the log nor the page.

use ccgateway_bridge::rpc::proto::GetSessionRequest;
use ccgateway_test_support::{Clients, Program, within};
use serde_json::{Value, json};
use tempfile::TempDir;
use tonic::Code;

use crate::{raw::Raw, support::start};

/// The key of RFC 8037, appendix A.2.
const KEYS: &str = r#"{"keys":[{"kty":"OKP","crv":"Ed25519","kid":"k","x":"11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo"}]}"#;

/// Starts a bridge that wants tokens, with these settings besides.
async fn start_with_issuer(files: &TempDir, settings: &str) -> Program {
    let keys = files.path().join("keys.json").display().to_string();
    std::fs::write(&keys, KEYS).expect("written");
    let settings = format!(
        "{settings}\n\
         issuers.k8s = {{ issuer = \"https://issuer.example\", audiences = [\"bridge\"], jwks_file = {keys:?} }}\n\
         callers.all = {{ principals = [\"*\"], tenants = [\"*\"], rights = [\"*\"] }}\n"
    );
    start(&settings, &[]).await
}

/// The lines of calls of this method that the log has by now.
async fn lines(program: &Program, method: &str) -> Vec<Value> {
    // Lines are written in the order in which they are made.
    let (status, shown) = program.ask("PUT /log", "info,h2=warn").await;
    assert_eq!(status, 200, "{shown}");
    program.printed("the log's filter is changed").await;
    program.log().into_iter().filter(|line| line["method"] == method).collect()
}

#[tokio::test]
async fn requests_that_never_end_are_one_line_for_many_and_not_on_the_page() {
    let files = TempDir::new().expect("a folder");
    let program = start_with_issuer(&files, "").await;
    let mut raw = Raw::connect(program.grpc, &[]).await;
    for id in (1..20).step_by(2) {
        raw.begin(id, "/grpc.health.v1.Health/Check", "1m").await;
        let refused = within("an answer", raw.until(|frame| frame.ends(id))).await;
        assert!(refused.is_some(), "the connection has ended");
    }
    let told = lines(&program, "grpc.health.v1.Health/Check").await;
    assert!(matches!(&told[..], [one] if one["level"] == "WARN"), "{told:?}");
    let (_, status) = program.ask("GET /status.json", "").await;
    let status: Value = serde_json::from_str(&status).expect("JSON");
    assert_eq!(status["failures"], json!([]), "{status}");
    assert_eq!(status["failure_groups"][0]["count"], 10, "{status}");
}

#[tokio::test]
async fn requests_beyond_the_limit_of_a_connection_are_one_line_for_many() {
    let files = TempDir::new().expect("a folder");
    let settings = "server.connections.requests_per_second = 1";
    let program = start_with_issuer(&files, settings).await;
    let mut sessions = Clients::of(program.grpc).sessions;
    let mut beyond = 0;
    while beyond < 5 {
        let request = GetSessionRequest { agent_id: "1001".into(), ..<_>::default() };
        let refused = sessions.get_session(request).await.expect_err("it shows nothing");
        match refused.code() {
            Code::Unauthenticated => {}
            Code::ResourceExhausted => beyond += 1,
            _ => panic!("{refused:?}"),
        }
    }
    let told = lines(&program, "ccgateway.agent.v1.AgentSession/GetSession").await;
    assert!(matches!(&told[..], [one] if one["level"] == "INFO"), "{told:?}");
}
