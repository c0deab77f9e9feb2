//! The clients in `examples/`, and the service configs in `docs/`.

mod cutter;
mod watching;

use std::{collections::BTreeSet, net::SocketAddr, path::Path, time::Duration};

use ccgateway_sim::{Fault, Interface, Misbehaviour};
use ccgateway_test_support::{Program, python, reading_methods, run, within};
use serde_json::Value;
use tempfile::TempDir;
use tokio::{process::Command, time::sleep};

use self::cutter::Cutter;
use crate::support::{example, register, start, tls};

const ROOT: &str = env!("CARGO_MANIFEST_DIR");

#[derive(Clone, Copy)]
enum Client {
    Python,
    /// With the library of this crate, which sends requests again by itself.
    Rust,
    /// A program, and how it wants twenty seconds spelled.
    Built {
        variable: &'static str,
        twenty_seconds: &'static str,
    },
}

/// Those that a script of `scripts/check-client-…` builds. It, or `scripts/test`, names the program in this variable.
const BUILT: [Client; 3] = [
    Client::Built { variable: "CLIENT_GO", twenty_seconds: "20s" },
    Client::Built { variable: "CLIENT_JAVA", twenty_seconds: "20" },
    Client::Built { variable: "CLIENT_TYPESCRIPT", twenty_seconds: "20" },
];

impl Client {
    /// Those that are there.
    fn there() -> Vec<Self> {
        let built = BUILT.into_iter().filter(|client| match client {
            Self::Python | Self::Rust => true,
            Self::Built { variable, .. } => std::env::var_os(variable).is_some(),
        });
        [Self::Python, Self::Rust].into_iter().chain(built).collect()
    }

    /// So that it sends no change again.
    fn careful(self) -> [&'static str; 2] {
        match self {
            Self::Rust => ["--attempts", "1"],
            Self::Python | Self::Built { .. } => ["--service-config", "docs/service-config.json"],
        }
    }

    async fn set_busy(self, addr: &SocketAddr, args: &[&str]) -> (Option<i32>, String) {
        run(self.command(addr, args)).await
    }

    fn command(self, addr: &SocketAddr, args: &[&str]) -> Command {
        let mut command = match self {
            Self::Python => {
                let mut command = Command::new(python());
                command.arg(Path::new(ROOT).join("examples/clients/python/set_busy.py"));
                command.args(["--deadline", "20"]);
                command
            }
            Self::Rust => {
                let mut command = Command::new(example("set_busy"));
                command.args(["--deadline", "20"]);
                command
            }
            Self::Built { variable, twenty_seconds } => {
                let built = std::env::var_os(variable).expect("only those that are there");
                let mut command = Command::new(built);
                command.args(["--deadline", twenty_seconds]);
                command
            }
        };
        command.current_dir(ROOT).args(["--addr", &addr.to_string()]).args(args);
        command
    }
}

fn asked(program: &Program) -> usize {
    let journal = program.gateway.journal();
    journal.iter().filter(|entry| entry.interface == Some(Interface::SayBusy)).count()
}

#[tokio::test]
async fn clients_decode_answers_and_errors() {
    for client in Client::there() {
        decodes_answers_and_errors(client).await;
    }
}

#[tokio::test]
async fn the_service_config_repeats_no_change() {
    for client in Client::there() {
        repeats_no_change(client).await;
        repeats_no_change_that_was_cut(client).await;
    }
}

#[tokio::test]
async fn a_change_with_an_id_is_repeated_by_the_other_service_config_and_made_once() {
    for client in Client::there() {
        let (code, asked, printed) = of_a_busy_gateway(client, &[]).await;
        assert_eq!((code, asked), (Some(0), 2), "{printed}");
        let (code, asked, printed) = that_was_cut(client, &[]).await;
        assert_eq!((code, asked), (Some(0), 1), "{printed}");
    }
}

#[tokio::test]
async fn clients_trust_the_configured_authority() {
    for client in Client::there() {
        trusts_whom_it_is_told_to(client).await;
    }
}

async fn decodes_answers_and_errors(client: Client) {
    let program = start("", &[]).await;
    register(&program, 1001).await;
    let (code, printed) = client.set_busy(&program.grpc, &["--reason", "200", "1001"]).await;
    assert_eq!((code, printed.as_str()), (Some(0), "accepted: success\n"));

    let (code, printed) = client.set_busy(&program.grpc, &["--reason", "200", "1001"]).await;
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
    let (_, printed) = client.set_busy(&program.grpc, &["--reason", "7", "01"]).await;
    assert!(printed.contains("  reason: must be from 200 to 250"), "{printed}");
}

/// `SetBusy`, once, to a gateway that is busy for a moment. Returns how often that was asked.
async fn of_a_busy_gateway(client: Client, config: &[&str]) -> (Option<i32>, usize, String) {
    let program = start("", &[]).await;
    register(&program, 1001).await;
    let status = |status| Fault::Status {
        status,
        headers: vec![("Retry-After".into(), "0".into())],
        body: Vec::new(),
        content_type: String::new(),
    };
    program.gateway.misbehave(Misbehaviour::once(status(503)).on(Interface::SayBusy));
    let args = [config, &["--reason", "200", "1001"]].concat();
    let (code, printed) = client.set_busy(&program.grpc, &args).await;
    (code, asked(&program), printed)
}

async fn repeats_no_change(client: Client) {
    let (code, asked, printed) = of_a_busy_gateway(client, &client.careful()).await;
    assert_eq!((code, asked), (Some(1), 1), "{printed}");
    assert!(printed.contains("outcome: refused"), "{printed}");
}

/// A killed pod, or a proxy that closes.
async fn that_was_cut(client: Client, config: &[&str]) -> (Option<i32>, usize, String) {
    let program = start("", &[]).await;
    register(&program, 1001).await;
    let slow = Fault::Delay(Duration::from_secs(1));
    program.gateway.misbehave(Misbehaviour::always(slow).on(Interface::SayBusy));
    let cutter = Cutter::to(program.grpc).await;
    let args = [config, &["--reason", "200", "1001"]].concat();
    let calling = client.set_busy(&cutter.addr, &args);
    let cutting = async {
        within("a request at the gateway", async {
            while asked(&program) == 0 {
                sleep(Duration::from_millis(5)).await;
            }
        })
        .await;
        cutter.cut();
    };
    let ((code, printed), ()) = tokio::join!(calling, cutting);
    (code, asked(&program), printed)
}

async fn repeats_no_change_that_was_cut(client: Client) {
    let (code, asked, printed) = that_was_cut(client, &client.careful()).await;
    assert_eq!((code, asked), (Some(1), 1), "{printed}");
    // Libraries make UNAVAILABLE of it, but hyper, which is not made for gRPC.
    let is_unavailable = printed.contains("UNAVAILABLE") || matches!(client, Client::Rust);
    assert!(is_unavailable && printed.contains("outcome: unknown"), "{printed}");
}

/// Asks for an agent's state with the service config and this many seconds, and prints what comes.
const GET_STATE: &str = "
import sys, grpc
from google.rpc import error_details_pb2
from grpc_status import rpc_status
sys.path.insert(0, 'proto')
messages, services = grpc.protos_and_services('ccgateway/agent/v1/agent_state.proto')
options = [('grpc.service_config', open('docs/service-config.json').read())]
request = messages.GetStateRequest(agent_id='1001')
with grpc.insecure_channel(sys.argv[1], options) as channel:
    try:
        services.AgentStateStub(channel).GetState(request, timeout=float(sys.argv[2]))
        print('answered')
    except grpc.RpcError as error:
        status, info = rpc_status.from_call(error), error_details_pb2.ErrorInfo()
        told = status and any(detail.Unpack(info) for detail in status.details)
        print(error.code().name, info.reason if told else 'no cause')
";

async fn get_state(program: &Program, seconds: &str) -> (Option<i32>, String) {
    let mut command = Command::new(python());
    command.current_dir(ROOT).args(["-c", GET_STATE, &program.grpc.to_string(), seconds]);
    run(command).await
}

/// A library that waits for another attempt until its caller's deadline has passed tells nothing else.
#[tokio::test]
async fn the_cause_arrives_whatever_deadline_the_library_has() {
    let program = start("", &[]).await;
    register(&program, 1001).await;
    program.gateway.stop().await;
    for seconds in ["0.9", "2.1"] {
        let (_, printed) = get_state(&program, seconds).await;
        assert_eq!(printed, "UNAVAILABLE GATEWAY_UNREACHABLE\n", "{seconds} s");
    }
}

#[tokio::test]
async fn the_service_config_repeats_what_only_reads() {
    let program = start("", &[]).await;
    register(&program, 1001).await;
    let status = Fault::Status {
        status: 503,
        headers: vec![("Retry-After".into(), "0".into())],
        body: Vec::new(),
        content_type: String::new(),
    };
    program.gateway.misbehave(Misbehaviour::once(status).on(Interface::AgentStatus));
    let (code, printed) = get_state(&program, "20").await;
    assert_eq!((code, printed.as_str()), (Some(0), "answered\n"));
    let journal = program.gateway.journal();
    let asked = journal.iter().filter(|entry| entry.interface == Some(Interface::AgentStatus));
    assert_eq!(asked.count(), 2);
}

async fn trusts_whom_it_is_told_to(client: Client) {
    let files = TempDir::new().expect("a folder");
    let (setting, pem) = tls(&files);
    let program = start(&setting, &[]).await;
    let addr = format!("localhost:{}", program.grpc.port());
    let (code, printed) =
        client.set_busy(&program.grpc, &["--addr", &addr, "--ca", &pem, "1001"]).await;
    assert_eq!(code, Some(1), "{printed}");
    assert!(printed.contains("reason: SESSION_MISSING"), "{printed}");

    let other = program.site.path("ca.pem").display().to_string();
    let (_, printed) =
        client.set_busy(&program.grpc, &["--addr", &addr, "--ca", &other, "1001"]).await;
    assert!(printed.starts_with("UNAVAILABLE: ") && !printed.contains("reason: "), "{printed}");
}

#[test]
fn the_service_config_has_retries_for_methods_that_change_nothing_and_no_others() {
    let config: Value =
        serde_json::from_str(include_str!("../../docs/service-config.json")).expect("JSON");
    let mut retried = BTreeSet::new();
    for config in config["methodConfig"].as_array().expect("method configs") {
        let Some(policy) = config.get("retryPolicy") else { continue };
        assert_eq!(policy["retryableStatusCodes"], serde_json::json!(["UNAVAILABLE"]));
        for name in config["name"].as_array().expect("names") {
            // A name without a method would mean all of its service.
            let [service, method] =
                ["service", "method"].map(|key| name[key].as_str().expect("both"));
            retried.insert(format!("{service}/{method}"));
        }
    }
    assert_eq!(retried, reading_methods());
}
