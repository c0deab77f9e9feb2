//! The audit log.

use std::{fs, os::unix::fs::PermissionsExt as _, path::Path};

use ccgateway_bridge::rpc::proto::{
    BatchSetBusyRequest, GetSessionRequest, RegisterSessionRequest, SetBusyRequest, SignInRequest,
};
use ccgateway_sim::Interface;
use ccgateway_test_support::{AGENT, Clients, PASSWORD, Setup, asked, until};
use serde_json::Value;
use tempfile::TempDir;

use crate::support::{setup, start, start_at};

fn lines(file: &Path) -> Vec<Value> {
    let text = fs::read_to_string(file).unwrap_or_default();
    text.lines().map(|line| serde_json::from_str(line).expect("JSON")).collect()
}

async fn until_lines(file: &Path, count: usize) -> Vec<Value> {
    until("the lines", || lines(file).len() >= count).await;
    lines(file)
}

fn busy(agent: &str) -> SetBusyRequest {
    SetBusyRequest { agent_id: agent.into(), reason: Some(200), ..<_>::default() }
}

#[tokio::test]
async fn each_call_that_may_change_something_is_one_line_whatever_is_logged() {
    let folder = TempDir::new().expect("a folder");
    let file = folder.path().join("audit.jsonl");
    let settings = format!("audit.file = {:?}", file.display().to_string());
    let program = start(&settings, &[]).await;
    assert_eq!(program.ask("PUT /log", "off").await.0, 200);
    let Clients { mut states, mut sessions, .. } = Clients::of(program.grpc);
    let sign_in = |password: &str| SignInRequest {
        agent_id: "1001".into(),
        password: Some(password.into()),
        phone_number: Some("40112".into()),
        ..<_>::default()
    };
    sessions.sign_in(sign_in(&"canary-password".repeat(9))).await.expect_err("it is too long");
    sessions.sign_in(sign_in(PASSWORD)).await.expect("signed in");
    states.set_busy(busy("1001")).await.expect("accepted");
    states.set_busy(busy("1001")).await.expect_err("it is busy already");
    states.set_busy(busy("01")).await.expect_err("no agent's id");
    let show = GetSessionRequest { agent_id: "1001".into(), ..<_>::default() };
    sessions.get_session(show).await.expect("it changes nothing");
    let guid = "279fe21d-aaaa-4437-84c3-ab9e9dae20f5.AgentGateway1";
    let register =
        RegisterSessionRequest { agent_id: "1002".into(), guid: guid.into(), ..<_>::default() };
    sessions.register_session(register).await.expect("registered");
    let batch =
        BatchSetBusyRequest { agent_ids: vec!["1001".into(), "1002".into()], ..<_>::default() };
    states.batch_set_busy(batch).await.expect("answered");

    let lines = until_lines(&file, 7).await;
    let shown: Vec<_> = lines
        .iter()
        .map(|line| {
            let method =
                line["method"].as_str().expect("a method").rsplit('/').next().expect("a name");
            let text = |name: &str| line[name].as_str().unwrap_or("-").to_owned();
            format!(
                "{method} {} {} {} {}",
                text("agent"),
                text("code"),
                text("outcome"),
                text("reason")
            )
        })
        .collect();
    assert_eq!(
        shown,
        [
            "SignIn 1001 INVALID_ARGUMENT not_sent INVALID_REQUEST",
            "SignIn 1001 OK - -",
            "SetBusy 1001 OK - -",
            "SetBusy 1001 FAILED_PRECONDITION refused AGENT_STATE_REFUSED",
            "SetBusy 01 INVALID_ARGUMENT not_sent INVALID_REQUEST",
            "RegisterSession 1002 OK - -",
            "BatchSetBusy  OK - -",
        ]
    );
    assert_eq!(lines[2]["tenant"], "acme");
    let arguments = lines[1]["arguments"].as_str().expect("text");
    assert!(arguments.contains("phone_number: Some(\"40112\")"), "{arguments}");
    assert!(
        lines[2]["arguments"].as_str().expect("text").contains("reason: Some(200)"),
        "{}",
        lines[2]
    );
    assert!(lines[6]["arguments"].as_str().expect("text").contains("\"1002\""), "{}", lines[6]);
    let agents = lines[6]["agents"].as_array().expect("a result for each agent");
    let mut agents: Vec<_> = agents.iter().map(ToString::to_string).collect();
    agents.sort();
    let refused = "{\"agent\":\"1001\",\"code\":\"FAILED_PRECONDITION\",\"outcome\":\"refused\",\
                   \"reason\":\"AGENT_STATE_REFUSED\",\"retcode\":\"100-009\"}";
    assert_eq!(agents[0], refused);
    assert!(agents[1].starts_with("{\"agent\":\"1002\",\"code\":"), "{agents:?}");
    assert_eq!(agents.len(), 2);
    assert!(lines[2]["agents"].is_null(), "{}", lines[2]);
    assert_eq!(lines[3]["retcode"], "100-009");
    assert!(lines[3]["peer"].is_string(), "{}", lines[3]);
    let text = fs::read_to_string(&file).expect("there");
    for secret in [PASSWORD, "canary-password", "279fe21d"] {
        assert!(!text.contains(secret), "{secret} was written");
    }
    let mode = fs::metadata(&file).expect("there").permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
}

/// The callers leave while the gateway has requests of theirs that it does not answer.
#[tokio::test]
async fn who_leaves_before_the_end_has_a_line_with_what_is_known() {
    let folder = TempDir::new().expect("a folder");
    let file = folder.path().join("audit.jsonl");
    let settings = format!("audit.file = {:?}", file.display().to_string());
    for (is_batch, expected) in [(false, &[][..]), (true, &["unknown", "not_sent", "not_sent"])] {
        // A batch has one request at a time.
        let tenant = "limits.requests = 2\n".to_owned();
        let program = start_at(None, &Setup { tenant, ..setup(&settings) }).await;
        let Clients { mut states, .. } = Clients::of(program.grpc);
        let clients = Clients::of(program.grpc);
        let agents = AGENT..AGENT + 3;
        let sign_ins = lines(&file).len() + agents.len();
        for agent in agents.clone() {
            clients.sign_in(agent).await.expect("signed in");
        }
        program.gateway.freeze();
        let call = tokio::spawn(async move {
            if is_batch {
                let agent_ids = agents.map(|agent| agent.to_string()).collect();
                let batch = BatchSetBusyRequest { agent_ids, ..<_>::default() };
                states.batch_set_busy(batch).await.map(drop)
            } else {
                states.set_busy(busy(&AGENT.to_string())).await.map(drop)
            }
        });
        until("a request", || !asked(&program.gateway, Interface::SayBusy).is_empty()).await;
        call.abort();
        let all = until_lines(&file, sign_ins + 1).await;
        let line = all.last().expect("a line");
        let told = [&line["code"], &line["outcome"], &line["reason"]].map(Value::as_str);
        assert_eq!(told, [Some("CANCELLED"), Some("unknown"), None], "{line}");
        let agents = line["agents"].as_array().map(Vec::as_slice).unwrap_or_default();
        let outcomes: Vec<_> = agents.iter().map(|agent| agent["outcome"].as_str()).collect();
        assert_eq!(outcomes, expected.iter().copied().map(Some).collect::<Vec<_>>(), "{line}");
        let is_cancelled = |agent: &Value| agent["code"] == "CANCELLED";
        assert!(agents.iter().all(is_cancelled), "{line}");
    }
}

#[tokio::test]
async fn it_goes_on_in_a_new_file_after_sighup() {
    let folder = TempDir::new().expect("a folder");
    let (file, old) = (folder.path().join("audit.jsonl"), folder.path().join("audit.jsonl.1"));
    let program = start(&format!("audit.file = {:?}", file.display().to_string()), &[]).await;
    let clients = Clients::of(program.grpc);
    clients.sign_in(1001).await.expect("signed in");
    until_lines(&file, 1).await;
    fs::rename(&file, &old).expect("renamed");
    clients.sign_in(1002).await.expect("signed in");
    until_lines(&old, 2).await;
    program.signal("-HUP");
    program.printed("the configuration has not changed").await;
    clients.sign_in(1003).await.expect("signed in");
    until_lines(&file, 1).await;
    assert_eq!(lines(&old).len(), 2);
}

#[tokio::test]
async fn lines_that_cannot_be_written_are_counted_and_stop_no_call() {
    let program = start("audit.file = \"/dev/full\"", &[]).await;
    let clients = Clients::of(program.grpc);
    for agent in [1001, 1002, 1003] {
        clients.sign_in(agent).await.expect("signed in");
    }
    ccgateway_test_support::within("the lines to be counted", async {
        while program.metric("ccgw_audit_lines_lost_total").await < 3.0 {
            tokio::task::yield_now().await;
        }
    })
    .await;
}
