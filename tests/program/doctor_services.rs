//! The doctor asks what the bridge uses beside its gateways, and prints what it found for programs too.

use ccgateway_sim::{CertificateKind, Options, ServerIdentity, Simulator};
use ccgateway_test_support::{
    ClosedPort, RedisServer,
    collector::{Collector, Conduct},
    run,
};
use serde_json::Value;
use tempfile::TempDir;

use crate::{
    doctor::stand_in,
    support::{bridge, unwrapped},
};

/// The exit code, and what was printed of these lines of the configuration and of a good gateway.
async fn doctor(lines: &str, args: &[&str]) -> (Option<i32>, String) {
    let tls = Some(ServerIdentity::generate(CertificateKind::SelfSigned).expect("generated"));
    let gateway = Simulator::start(Options { tls, ..<_>::default() }).await.expect("started");
    let files = TempDir::new().expect("a folder");
    let key = files.path().join("store.key");
    std::fs::write(&key, ccgateway_test_support::key(7)).expect("written");
    // Nobody else reads it.
    let mode = std::os::unix::fs::PermissionsExt::from_mode(0o600);
    std::fs::set_permissions(&key, mode).expect("changed");
    let file = files.path().join("bridge.toml");
    let text = format!(
        "listeners.default.address = \"127.0.0.1:0\"\n{lines}\n[tenants.acme]\nbase_urls = \"{}\"\n\
         tls.pinned_sha256 = \"{}\"\ntimeouts.connect = \"20s\"\n",
        gateway.base_url(),
        gateway.leaf_pin()
    );
    std::fs::write(&file, text).expect("written");
    let mut command = bridge();
    command.arg("doctor").arg("--config").arg(file).args(args);
    run(command).await
}

fn store(urls: &str) -> String {
    format!("[store]\nurls = \"{urls}\"\nencryption_key_files = \"store.key\"")
}

fn traces(endpoint: &str) -> String {
    format!("[traces]\nendpoint = \"{endpoint}\"")
}

#[tokio::test]
async fn a_redis_is_asked_for_all_that_the_bridge_needs() {
    let redis = RedisServer::start().await;
    let (code, printed) = doctor(&store(&redis.url()), &[]).await;
    assert!(printed.contains("ok       store: Redis does all"), "{printed}");
    assert_eq!(code, Some(0), "{printed}");

    let full = RedisServer::with(&["--save", "", "--maxmemory", "1"]).await;
    let guarded = RedisServer::with(&["--save", "", "--requirepass", "canary"]).await;
    let closed = ClosedPort::new();
    for (url, found, remedy) in [
        (full.url(), "OOM", "raise its maxmemory"),
        (guarded.url(), "NOAUTH", "store.password_file"),
        (format!("redis://{}", closed.addr), "no connection to Redis", "check store.urls"),
    ] {
        let (code, printed) = doctor(&store(&url), &[]).await;
        let printed = unwrapped(&printed);
        let (_, problem) =
            printed.split_once("problem  store: ").unwrap_or_else(|| panic!("{printed}"));
        let problem = problem.lines().next().expect("a line");
        assert!(problem.contains(found) && problem.contains(remedy), "{problem}");
        assert_eq!(code, Some(1), "{printed}");
    }
}

#[tokio::test]
async fn a_store_in_a_file_is_not_opened() {
    let (code, printed) =
        doctor("[store]\nfile = \"sessions.redb\"\nencryption_key_files = \"store.key\"", &[])
            .await;
    assert!(unwrapped(&printed).contains("sessions.redb; not opened here"), "{printed}");
    assert_eq!(code, Some(0), "{printed}");
}

#[tokio::test]
async fn a_collector_is_asked_whether_it_takes_spans() {
    let good = Collector::start(Conduct::Takes).await;
    let refusing = Collector::start(Conduct::Refuses).await;
    let http = format!("http://127.0.0.1:{}", stand_in(b"HTTP/1.1 400 Bad Request\r\n\r\n").await);
    let closed = ClosedPort::new();
    for (endpoint, expected) in [
        (format!("http://{}", good.addr), "ok       traces: the collector at"),
        (format!("http://{}", refusing.addr), "it refuses: "),
        (http, "no collector that takes OTLP over gRPC"),
        (format!("http://{}", closed.addr), "no answer: Connection refused"),
    ] {
        let (code, printed) = doctor(&traces(&endpoint), &[]).await;
        assert!(unwrapped(&printed).contains(expected), "{expected:?} in: {printed}");
        // Calls do not wait for it.
        assert_eq!(code, Some(0), "{printed}");
    }
}

#[tokio::test]
async fn the_keys_of_issuers_are_fetched() {
    const KEYS: &str = r#"{"keys":[{"kty":"OKP","crv":"Ed25519","x":"11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo"}]}"#;
    let answer =
        |body: &str| format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n{body}", body.len());
    let (good, other) = (
        stand_in(answer(KEYS).leak().as_bytes()).await,
        stand_in(answer("[]").leak().as_bytes()).await,
    );
    let refusing = stand_in(b"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n").await;
    let closed = ClosedPort::new();
    for (port, found, code) in [
        (good, "ok       keys: 1 key of https://issuer.example can be read", 0),
        (other, "problem  keys: what was fetched is not a JSON Web Key Set; check jwks_url", 1),
        (refusing, "problem  keys: it answered with HTTP status 404; check jwks_url", 1),
        (closed.addr.port(), "problem  keys: Connection refused", 1),
    ] {
        let lines = format!(
            "issuers.k8s = {{ issuer = \"https://issuer.example\", audiences = [\"bridge\"], jwks_url = \
             \"http://127.0.0.1:{port}/keys\" }}\n\
             callers.all = {{ principals = [\"*\"], tenants = [\"*\"], rights = [\"*\"] }}\n"
        );
        let (ended, printed) = doctor(&lines, &[]).await;
        assert!(unwrapped(&printed).contains(found), "{found:?} in: {printed}");
        assert_eq!(ended, Some(code), "{printed}");
    }
}

#[tokio::test]
async fn findings_are_printed_for_programs_and_in_lines_that_fit_a_terminal() {
    let closed = ClosedPort::new();
    let lines = traces(&format!("http://{}", closed.addr));
    let (code, printed) = doctor(&lines, &["--json"]).await;
    let report: Value = serde_json::from_str(&printed).unwrap_or_else(|e| panic!("{e}: {printed}"));
    assert_eq!((code, &report["problems"], &report["warnings"]), (Some(0), &0.into(), &1.into()));
    let findings = report["findings"].as_array().expect("a list");
    let is_warning = |finding: &&Value| finding["level"] == "warning";
    let warning = findings.iter().find(is_warning).expect("one");
    assert_eq!((&warning["subject"], &warning["check"]), (&"traces".into(), &"traces".into()));
    assert!(warning["remedy"].as_str().expect("text").contains("traces.endpoint"), "{warning}");
    assert!(
        findings.iter().any(|finding| finding["check"] == "answer" && finding["level"] == "ok")
    );

    let (_, printed) = doctor(&lines, &[]).await;
    let is_long = |line: &&str| line.chars().count() > 80 && line.split_whitespace().count() > 1;
    // A fingerprint is one word, which is not broken.
    let long: Vec<_> =
        printed.lines().filter(is_long).filter(|line| !line.contains("SHA-256")).collect();
    assert_eq!(long, [""; 0], "{printed}");
}
