//! What `examples/clients` and `docs/service-config.json` give to callers.

use std::path::{Path, PathBuf};

use ccgateway_bridge::{
    rpc::methods,
    sim::{Fault, Interface, Misbehaviour},
};
use serde_json::Value;
use tokio::process::Command;

use crate::support::{Program, run};

const ROOT: &str = env!("CARGO_MANIFEST_DIR");

/// `scripts/test` installs it and names it in `CLIENT_PYTHON`.
fn python() -> PathBuf {
    let named = std::env::var_os("CLIENT_PYTHON").map(PathBuf::from);
    let python = named.unwrap_or_else(|| Path::new(ROOT).join(".tools/client-python/bin/python3"));
    assert!(python.is_file(), "Python with grpcio is needed: run scripts/test, which installs it");
    python
}

async fn set_busy(program: &Program, args: &[&str]) -> (Option<i32>, String) {
    let mut command = Command::new(python());
    command.arg(Path::new(ROOT).join("examples/clients/python/set_busy.py"));
    command.args(["--deadline", "20", "--addr", &program.grpc.to_string()]).args(args);
    run(command).await
}

fn asked(program: &Program) -> usize {
    let journal = program.gateway.journal();
    journal.iter().filter(|entry| entry.interface == Some(Interface::SayBusy)).count()
}

#[tokio::test]
async fn the_python_client_decodes_answers_and_errors() {
    let program = Program::start("", &[]).await;
    program.register(1001).await;
    let (code, printed) = set_busy(&program, &["1001", "--reason", "200"]).await;
    assert_eq!((code, printed.as_str()), (Some(0), "accepted: success\n"));

    let (code, printed) = set_busy(&program, &["1001", "--reason", "200"]).await;
    assert_eq!(code, Some(1), "{printed}");
    for expected in ["FAILED_PRECONDITION: ", "reason: AGENT_STATE_REFUSED", "retcode: 100-009"] {
        assert!(printed.contains(expected), "{expected} in: {printed}");
    }
    let (_, printed) = set_busy(&program, &["01", "--reason", "7"]).await;
    assert!(printed.contains("  reason: must be from 200 to 250"), "{printed}");
}

#[tokio::test]
async fn the_service_config_repeats_what_is_safe_and_nothing_else() {
    let program = Program::start("", &[]).await;
    program.register(1001).await;
    let status = |status| Fault::Status {
        status,
        headers: vec![("Retry-After".into(), "0".into())],
        body: Vec::new(),
        content_type: String::new(),
    };
    program.gateway.misbehave(Misbehaviour::once(status(503)).on(Interface::SayBusy));
    let (code, printed) = set_busy(&program, &["1001", "--reason", "200"]).await;
    assert_eq!((code, asked(&program)), (Some(0), 2), "{printed}");

    // UNAVAILABLE as well, but the agent may have changed.
    program.gateway.misbehave(Misbehaviour::once(status(502)).on(Interface::SayBusy));
    let (code, printed) = set_busy(&program, &["1001", "--reason", "201", "--prolong"]).await;
    assert_eq!((code, asked(&program)), (Some(1), 3), "{printed}");
    assert!(printed.contains("UNAVAILABLE") && printed.contains("outcome: unknown"), "{printed}");
}

#[test]
fn the_service_config_names_all_services_and_no_others() {
    let config: Value =
        serde_json::from_str(include_str!("../../docs/service-config.json")).expect("JSON");
    let method = &config["methodConfig"][0];
    let named = method["name"].as_array().expect("names");
    let mut named: Vec<_> = named.iter().filter_map(|name| name["service"].as_str()).collect();
    named.sort_unstable();
    let methods = methods();
    let mut services: Vec<_> = methods.iter().map(|method| method.service.as_str()).collect();
    services.sort_unstable();
    services.dedup();
    assert_eq!(named, services);
    assert_eq!(method["retryPolicy"]["retryableStatusCodes"], serde_json::json!(["UNAVAILABLE"]));
}
