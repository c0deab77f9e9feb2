//! grpcurl as people use it: without proto files, by reflection alone.

use std::path::PathBuf;

use ccgateway_sim::{Fault, Interface, Misbehaviour};
use ccgateway_test_support::{Program, run};
use tokio::process::Command;

use crate::support::{register, start, tls};

/// `scripts/test` installs it and names it in `GRPCURL`.
pub(crate) fn tool() -> PathBuf {
    let named = std::env::var_os("GRPCURL").map(PathBuf::from);
    let path = std::env::var_os("PATH").unwrap_or_default();
    let found = || std::env::split_paths(&path).map(|p| p.join("grpcurl")).find(|p| p.is_file());
    named.or_else(found).expect("grpcurl is needed: run scripts/test, which installs it")
}

/// Exit code and what was printed, with white space folded.
async fn grpcurl(program: &Program, args: &[&str]) -> (Option<i32>, String) {
    let mut command = Command::new(tool());
    let (options, call): (Vec<_>, Vec<_>) = match args {
        ["-d", data, rest @ ..] => (vec!["-d", *data], rest.to_vec()),
        rest => (vec![], rest.to_vec()),
    };
    command.arg("-plaintext").args(options).arg(program.grpc.to_string()).args(call);
    let (code, printed) = run(command).await;
    (code, printed.split_whitespace().collect::<Vec<_>>().join(" "))
}

const SET_BUSY: &str = "ccgateway.agent.v1.AgentState/SetBusy";

#[tokio::test]
async fn services_are_listed_and_described_with_their_comments() {
    let program = start("", &[]).await;
    let (_, listed) = grpcurl(&program, &["list"]).await;
    for service in [
        "ccgateway.agent.v1.AgentSession",
        "ccgateway.agent.v1.AgentState",
        "grpc.health.v1.Health",
        "grpc.reflection.v1.ServerReflection",
        "grpc.reflection.v1alpha.ServerReflection",
    ] {
        assert!(listed.split(' ').any(|listed| listed == service), "{service} in: {listed}");
    }
    let (_, described) =
        grpcurl(&program, &["describe", "ccgateway.agent.v1.SetBusyRequest"]).await;
    assert!(described.contains("200 to 250"), "{described}");
    let (code, health) = grpcurl(&program, &["grpc.health.v1.Health/Check"]).await;
    assert_eq!((code, health.as_str()), (Some(0), "{ \"status\": \"SERVING\" }"));
}

#[tokio::test]
async fn set_busy_answers_and_errors_come_with_decoded_details() {
    let program = start("", &[]).await;
    register(&program, 1001).await;
    let data = r#"{"agent_id":"1001","reason":200}"#;
    let (code, answer) = grpcurl(&program, &["-d", data, SET_BUSY]).await;
    assert_eq!(code, Some(0), "{answer}");
    assert_eq!(answer, r#"{ "message": "success", "retcode": "0", "result": { } }"#);

    let bad = r#"{"agent_id":"01","reason":7}"#;
    let (_, shown) = grpcurl(&program, &["-d", bad, SET_BUSY]).await;
    assert!(shown.contains("InvalidArgument"), "{shown}");
    assert!(shown.contains(r#""field":"agent_id""#), "{shown}");
    assert!(shown.contains(r#""field":"reason""#), "{shown}");

    for (retcode, code, reason) in [
        ("000-002", "InvalidArgument", "GATEWAY_REJECTED_PARAMETER"),
        ("100-007", "Internal", "GATEWAY_OPERATION_FAILED"),
        ("100-009", "FailedPrecondition", "AGENT_STATE_REFUSED"),
        ("000-004", "Unavailable", "AGENT_SWITCHOVER"),
        ("999-999", "Unknown", "UNLISTED_RETCODE"),
        // The last, since it ends the registered session.
        ("100-006", "FailedPrecondition", "AGENT_NOT_SIGNED_IN"),
    ] {
        let message = "so it says".to_owned();
        let fault = Fault::Retcode { retcode: retcode.into(), message };
        program.gateway.misbehave(Misbehaviour::once(fault).on(Interface::SayBusy));
        let (_, shown) = grpcurl(&program, &["-d", data, SET_BUSY]).await;
        for expected in [
            &format!("Code: {code}"),
            "type.googleapis.com/google.rpc.ErrorInfo",
            &format!(r#""reason":"{reason}""#),
            &format!(r#""retcode":"{retcode}""#),
            r#""gateway_message":"so it says""#,
        ] {
            assert!(shown.contains(expected), "{expected} in: {shown}");
        }
    }
}

#[tokio::test]
async fn unknown_methods_are_unimplemented() {
    let program = start("server.reflection = false", &[]).await;
    let (code, shown) = grpcurl(&program, &["list"]).await;
    assert_ne!(code, Some(0));
    assert!(shown.contains("does not support the reflection API"), "{shown}");
}

#[tokio::test]
async fn callers_reach_a_bridge_with_tls() {
    let files = tempfile::TempDir::new().expect("a folder");
    let (tls, pem) = tls(&files);
    let program = start(&tls, &[]).await;
    let addr = format!("localhost:{}", program.grpc.port());
    let mut command = Command::new(tool());
    command.args(["-cacert", &pem, &addr, "grpc.health.v1.Health/Check"]);
    let (code, shown) = run(command).await;
    assert_eq!(code, Some(0), "{shown}");

    let mut command = Command::new(tool());
    command.args(["-plaintext", "-max-time", "3", &addr, "grpc.health.v1.Health/Check"]);
    let (code, shown) = run(command).await;
    assert_ne!(code, Some(0), "{shown}");
}
