//! What `examples/clients` and `docs/service-config.json` give to callers.

use std::path::{Path, PathBuf};

use ccgateway_bridge::{
    rpc::methods,
    sim::{Fault, Interface, Misbehaviour},
};
use serde_json::Value;
use tempfile::TempDir;
use tokio::process::Command;

use crate::support::{Program, run, tls};

const ROOT: &str = env!("CARGO_MANIFEST_DIR");

#[derive(Clone, Copy)]
enum Client {
    Python,
    Go,
}

/// `scripts/test` installs it and names it in `CLIENT_PYTHON`.
fn python() -> PathBuf {
    let named = std::env::var_os("CLIENT_PYTHON").map(PathBuf::from);
    let python = named.unwrap_or_else(|| Path::new(ROOT).join(".tools/client-python/bin/python3"));
    assert!(python.is_file(), "Python with grpcio is needed: run scripts/test, which installs it");
    python
}

impl Client {
    /// Those that are there. `scripts/check-client-go` builds the other one and names it.
    fn built() -> Vec<Self> {
        let go = std::env::var_os("CLIENT_GO").map(|_| Self::Go);
        [Self::Python].into_iter().chain(go).collect()
    }

    async fn set_busy(self, program: &Program, args: &[&str]) -> (Option<i32>, String) {
        let mut command = match self {
            Self::Python => {
                let mut command = Command::new(python());
                command.arg(Path::new(ROOT).join("examples/clients/python/set_busy.py"));
                command.args(["--deadline", "20"]);
                command
            }
            Self::Go => {
                let built = std::env::var_os("CLIENT_GO");
                let mut command = Command::new(built.expect("run scripts/check-client-go"));
                command.args(["--deadline", "20s"]);
                command
            }
        };
        command.current_dir(ROOT).args(["--addr", &program.grpc.to_string()]).args(args);
        run(command).await
    }
}

fn asked(program: &Program) -> usize {
    let journal = program.gateway.journal();
    journal.iter().filter(|entry| entry.interface == Some(Interface::SayBusy)).count()
}

#[tokio::test]
async fn clients_decode_answers_and_errors() {
    for client in Client::built() {
        decodes_answers_and_errors(client).await;
    }
}

#[tokio::test]
async fn the_service_config_repeats_what_is_safe_and_nothing_else() {
    for client in Client::built() {
        repeats_what_is_safe_and_nothing_else(client).await;
    }
}

#[tokio::test]
async fn clients_trust_whom_they_are_told_to() {
    for client in Client::built() {
        trusts_whom_it_is_told_to(client).await;
    }
}

async fn decodes_answers_and_errors(client: Client) {
    let program = Program::start("", &[]).await;
    program.register(1001).await;
    let (code, printed) = client.set_busy(&program, &["--reason", "200", "1001"]).await;
    assert_eq!((code, printed.as_str()), (Some(0), "accepted: success\n"));

    let (code, printed) = client.set_busy(&program, &["--reason", "200", "1001"]).await;
    assert_eq!(code, Some(1), "{printed}");
    let refused = [
        "FAILED_PRECONDITION: ",
        "reason: AGENT_STATE_REFUSED",
        "outcome: refused, the gateway said no",
        "retcode: 100-009",
        "AGENT_STATE of tenants/acme/agents/1001",
    ];
    for expected in refused {
        assert!(printed.contains(expected), "{expected} in: {printed}");
    }
    let (_, printed) = client.set_busy(&program, &["--reason", "7", "01"]).await;
    assert!(printed.contains("  reason: must be from 200 to 250"), "{printed}");
}

async fn repeats_what_is_safe_and_nothing_else(client: Client) {
    let program = Program::start("", &[]).await;
    program.register(1001).await;
    let status = |status| Fault::Status {
        status,
        headers: vec![("Retry-After".into(), "0".into())],
        body: Vec::new(),
        content_type: String::new(),
    };
    program.gateway.misbehave(Misbehaviour::once(status(503)).on(Interface::SayBusy));
    let (code, printed) = client.set_busy(&program, &["--reason", "200", "1001"]).await;
    assert_eq!((code, asked(&program)), (Some(0), 2), "{printed}");

    // UNAVAILABLE as well, but the agent may have changed.
    program.gateway.misbehave(Misbehaviour::once(status(502)).on(Interface::SayBusy));
    let (code, printed) =
        client.set_busy(&program, &["--reason", "201", "--prolong", "1001"]).await;
    assert_eq!((code, asked(&program)), (Some(1), 3), "{printed}");
    assert!(printed.contains("UNAVAILABLE") && printed.contains("outcome: unknown"), "{printed}");
}

async fn trusts_whom_it_is_told_to(client: Client) {
    let files = TempDir::new().expect("a folder");
    let (setting, pem) = tls(&files);
    let program = Program::start(&setting, &[]).await;
    let addr = format!("localhost:{}", program.grpc.port());
    let (code, printed) = client.set_busy(&program, &["--addr", &addr, "--ca", &pem, "1001"]).await;
    assert_eq!(code, Some(1), "{printed}");
    assert!(printed.contains("reason: SESSION_MISSING"), "{printed}");

    let other = program.files.path().join("ca.pem").display().to_string();
    let (_, printed) = client.set_busy(&program, &["--addr", &addr, "--ca", &other, "1001"]).await;
    assert!(printed.starts_with("UNAVAILABLE: ") && !printed.contains("reason: "), "{printed}");
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
