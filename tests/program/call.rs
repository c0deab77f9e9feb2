//! The built-in client, as a person or a script uses it.

mod batch;
mod exit_codes;
mod register;
mod watch;

use std::process::Stdio;

use ccgateway_test_support::{ClosedPort, PASSWORD, Program, run, within};
use serde_json::Value;
use tempfile::TempDir;
use tokio::{io::AsyncWriteExt as _, process::Command};

use crate::support::{bridge, register, start, tls};

fn command(program: &Program, method: &str, args: &[&str]) -> Command {
    let mut command = bridge();
    command.args(["call", method, "--addr", &program.grpc.to_string()]).args(args);
    command
}

/// Exit code and output.
async fn call(program: &Program, method: &str, args: &[&str]) -> (Option<i32>, String) {
    run(command(program, method, args)).await
}

#[track_caller]
fn check((code, printed): &(Option<i32>, String), expected: i32, words: &[&str]) {
    assert_eq!(*code, Some(expected), "{printed}");
    for word in words {
        assert!(printed.contains(word), "{word:?} in: {printed}");
    }
}

/// Calls with this on standard input.
async fn piped(mut command: Command, input: &str) -> (Option<i32>, String) {
    let mut child = command.stdin(Stdio::piped()).spawn().expect("started");
    let mut stdin = child.stdin.take().expect("piped");
    stdin.write_all(input.as_bytes()).await.expect("written");
    drop(stdin);
    let done = within("its end", child.wait_with_output()).await.expect("ended");
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).expect("UTF-8");
    (done.status.code(), text(done.stdout) + &text(done.stderr))
}

async fn signed_in(program: &Program, agent: &str) {
    let command = command(program, "sign-in", &["--agent", agent, "--password-stdin"]);
    let done = piped(command, &format!("{PASSWORD}\n")).await;
    check(&done, 0, &["OK: signed in", "session.state      SESSION_STATE_KEPT"]);
    assert!(!done.1.contains(PASSWORD), "{}", done.1);
}

#[tokio::test]
async fn set_busy_is_accepted_and_a_refusal_is_decoded() {
    let program = start("", &[]).await;
    register(&program, 1001).await;
    let busy = ["--tenant", "acme", "--agent", "1001", "--reason", "200"];
    check(&call(&program, "set-busy", &busy).await, 0, &["OK: accepted", "retcode", "success"]);
    assert!(program.gateway.journal().iter().any(|entry| entry.target.contains("reason=200")));

    let refused = call(&program, "set-busy", &busy).await;
    let words = [
        "FAILED_PRECONDITION: AGENT_STATE_REFUSED",
        "retcode            100-009",
        "outcome            refused: the gateway refused; the agent is as it was",
        "what to do         see what the agent is doing: ccgateway-bridge call get-state",
        "--prolong",
    ];
    check(&refused, 1, &words);
    let longer = [busy.as_slice(), &["--prolong"]].concat();
    check(&call(&program, "set-busy", &longer).await, 0, &["OK: accepted"]);
}

#[tokio::test]
async fn every_method_goes_through() {
    let program = start("", &[]).await;
    signed_in(&program, "1001").await;
    let confirmed = ["--agent", "1001", "--confirm-within", "20s"];
    let rest = [confirmed.as_slice(), &["--duration", "5m", "--reason", "7"]].concat();
    let agent = ["--agent", "1001"];
    for (method, args, expected) in [
        ("get-state", agent.as_slice(), "OK: the agent is idle"),
        ("set-busy", &confirmed, "OK: confirmed"),
        ("get-state", &agent, "OK: the agent is busy"),
        ("cancel-busy", &confirmed, "OK: confirmed"),
        ("set-after-call-work", &confirmed, "OK: confirmed"),
        ("get-state", &agent, "OK: the agent is after call work"),
        ("cancel-after-call-work", &confirmed, "OK: confirmed"),
        ("set-resting", &rest, "OK: confirmed"),
        ("cancel-resting", &confirmed, "OK: confirmed"),
        ("set-busy", &agent, "OK: accepted"),
        ("set-idle", &confirmed, "OK: confirmed"),
        ("get-session", &agent, "OK: the session is kept"),
        ("sign-out", &agent, "OK: signed out"),
    ] {
        check(&call(&program, method, args).await, 0, &[expected]);
    }
    let rests = program.gateway.journal().into_iter().map(|entry| entry.target);
    assert_eq!(rests.filter(|target| target.contains("/rest/300/7")).count(), 1);
    let gone = ["SESSION_NOT_FOUND", "not_sent: the gateway was not asked", "call sign-in"];
    check(&call(&program, "get-session", &agent).await, 1, &gone);
}

#[tokio::test]
async fn answers_and_errors_are_json_for_scripts() {
    let program = start("", &[]).await;
    register(&program, 1001).await;
    let json = |(code, printed): (Option<i32>, String)| {
        let value: Value = serde_json::from_str(&printed).unwrap_or_else(|_| panic!("{printed}"));
        (code, value)
    };
    let (code, answer) = json(call(&program, "set-busy", &["--agent", "1001", "--json"]).await);
    assert_eq!(
        (code, &answer["retcode"], &answer["result"]),
        (Some(0), &"0".into(), &serde_json::json!({}))
    );
    let (_, state) = json(call(&program, "get-state", &["--json", "--agent", "1001"]).await);
    assert_eq!(
        state,
        serde_json::json!({"code": 3, "in_call": false, "state": "ACTIVITY_STATE_BUSY"})
    );

    let bad = ["--agent", "01", "--reason", "7", "--json"];
    let (code, error) = json(call(&program, "set-busy", &bad).await);
    let error = &error["error"];
    assert_eq!(code, Some(1), "{error}");
    assert_eq!(
        (&error["code"], &error["reason"]),
        (&"INVALID_ARGUMENT".into(), &"INVALID_REQUEST".into())
    );
    assert_eq!(error["metadata"]["outcome"], "not_sent", "{error}");
    assert_eq!(error["violations"][1]["on"], "reason", "{error}");
}

#[tokio::test]
async fn passwords_come_from_files_and_pipes_and_are_never_shown() {
    let program = start("", &[]).await;
    let files = TempDir::new().expect("a folder");
    let file = files.path().join("password");
    std::fs::write(&file, format!("{PASSWORD}\r\n")).expect("written");
    let from_file = ["--agent", "1001", "--password-file", &file.display().to_string()];
    let done = call(&program, "sign-in", &from_file).await;
    check(&done, 0, &["OK: signed in"]);
    assert!(!done.1.contains(PASSWORD), "{}", done.1);

    let wrong = command(&program, "sign-in", &["--agent", "1002", "--password-stdin"]);
    let done = piped(wrong, "canary-wrong").await;
    check(&done, 1, &["CREDENTIALS_REJECTED", "lock accounts"]);
    assert!(!done.1.contains("canary"), "{}", done.1);

    let missing = call(&program, "sign-in", &["--agent", "1003"]).await;
    check(&missing, 1, &["CREDENTIALS_MISSING", "--password-stdin"]);
    let typed = call(&program, "sign-in", &["--agent", "1003", "--password", "x"]).await;
    check(&typed, 2, &["unexpected argument '--password'"]);
    std::fs::remove_file(&file).expect("removed");
    check(&call(&program, "sign-in", &from_file).await, 2, &["--password-file", "No such file"]);
}

#[tokio::test]
async fn mistakes_on_the_command_line_are_told_from_refusals() {
    let program = start("", &[]).await;
    check(&call(&program, "set-busy", &[]).await, 2, &["--agent <ID>"]);
    let bad_time = ["--agent", "1001", "--confirm-within", "soon"];
    check(&call(&program, "set-busy", &bad_time).await, 2, &["give a time such as 5s"]);
    let mut nowhere = bridge();
    nowhere.args(["call", "get-state", "--agent", "1001", "--addr", "bridge"]);
    check(&run(nowhere).await, 2, &["--addr bridge: give host and port"]);
    let no_file = ["--agent", "1001", "--ca", "/nowhere/ca.pem"];
    check(&call(&program, "get-state", &no_file).await, 2, &["--ca /nowhere/ca.pem: No such file"]);
}

#[tokio::test]
async fn a_bridge_that_is_not_there_is_said_so() {
    let closed = ClosedPort::new();
    let addr = closed.addr.to_string();
    let mut command = bridge();
    command.args(["call", "get-state", "--agent", "1001", "--addr", &addr]);
    let words = [
        "UNAVAILABLE",
        &addr,
        "Connection refused",
        "check that a bridge listens",
        "not_sent: the gateway was not asked",
    ];
    check(&run(command).await, 2, &words);

    // It takes the connection and says nothing.
    let silent = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
    let addr = silent.local_addr().expect("bound").to_string();
    let mut command = bridge();
    command.args(["call", "get-state", "--agent", "1001", "--addr", &addr, "--deadline", "100ms"]);
    check(&run(command).await, 1, &["DEADLINE_EXCEEDED", &addr, "no answer within 100ms"]);
}

#[tokio::test]
async fn a_bridge_with_tls_is_called_with_its_authority() {
    let files = TempDir::new().expect("a folder");
    let (tls, pem) = tls(&files);
    let program = start(&tls, &[]).await;
    program.gateway.sign_in(1001);

    let addr = format!("localhost:{}", program.grpc.port());
    let call = |more: &[&str]| {
        let mut command = bridge();
        command.args(["call", "get-session", "--agent", "1001", "--addr", &addr]).args(more);
        run(command)
    };
    check(&call(&["--ca", &pem]).await, 1, &["SESSION_NOT_FOUND"]);
    let other = program.site.path("ca.pem").display().to_string();
    check(&call(&["--ca", &other]).await, 2, &["invalid peer certificate"]);
    check(&call(&[]).await, 1, &["wants TLS (--ca)"]);
}

#[tokio::test]
async fn a_bridge_is_called_at_another_address_than_its_certificate_is_for() {
    let files = TempDir::new().expect("a folder");
    let (tls, pem) = tls(&files);
    let program = start(&tls, &[]).await;
    for (name, expected, words) in [
        (Some("localhost"), 1, "SESSION_NOT_FOUND"),
        (Some("bridge.example"), 2, "invalid peer certificate"),
        (None, 2, "invalid peer certificate"),
        (Some("not a name"), 2, "--server-name not a name: give a host name"),
    ] {
        // As in a pod, whose own bridge is to answer.
        let mut command = bridge();
        command.args(["call", "get-session", "--agent", "1001", "--ca", &pem]);
        command.env("CCGW_CALL_ADDR", program.grpc.to_string());
        if let Some(name) = name {
            command.args(["--server-name", name]);
        }
        check(&run(command).await, expected, &[words]);
    }
}
