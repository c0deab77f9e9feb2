//! OpenTelemetry's own variables are enough to configure traces.

use ccgateway_bridge::rpc::proto::GetSessionRequest;
use ccgateway_test_support::{
    Clients, Program,
    collector::{Collector, Conduct},
};

use crate::support::{register, start_with};

/// Makes a call and stops the bridge, which then exports what it has.
async fn call_and_stop(program: Program) -> String {
    register(&program, 1001).await;
    let request = GetSessionRequest { agent_id: "1001".into(), ..<_>::default() };
    Clients::of(program.grpc).sessions.get_session(request).await.expect("a session");
    program.signal("-TERM");
    let (code, printed) = program.ended().await;
    assert_eq!(code, Some(0), "{printed}");
    printed
}

#[tokio::test]
async fn traces_go_where_the_variables_say_with_their_headers() {
    let mut collector = Collector::start(Conduct::Takes).await;
    let endpoint = format!("http://{}", collector.addr);
    let settings = "server.drain.delay = \"0s\"\ntraces.sample = 1\n\
                    traces.headers_file = \"headers\"";
    let files = tempfile::TempDir::new().expect("a folder");
    let headers = files.path().join("headers");
    std::fs::write(&headers, "x-scope: of the file\n").expect("written");
    let settings = settings.replace("\"headers\"", &format!("{headers:?}"));
    let variables = [
        ("OTEL_EXPORTER_OTLP_ENDPOINT", endpoint.as_str()),
        ("OTEL_EXPORTER_OTLP_HEADERS", "authorization=Bearer c4n4ry,x-scope=of-the-variable"),
    ];
    let printed = call_and_stop(start_with(&settings, &variables).await).await;
    assert!(!printed.contains("c4n4ry"), "{printed}");
    let export = collector.export().await;
    assert_eq!(export.headers["authorization"], "Bearer c4n4ry");
    let scopes: Vec<_> = export.headers.get_all("x-scope").iter().collect();
    assert_eq!(scopes, ["of the file"]);
}

#[tokio::test]
async fn the_configuration_goes_before_the_variables() {
    let mut configured = Collector::start(Conduct::Takes).await;
    let other = Collector::start(Conduct::Takes).await;
    let settings = format!(
        "server.drain.delay = \"0s\"\ntraces.sample = 1\ntraces.endpoint = \"http://{}\"",
        configured.addr
    );
    let endpoint = format!("http://{}", other.addr);
    let variables = [("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", endpoint.as_str())];
    call_and_stop(start_with(&settings, &variables).await).await;
    configured.export().await;
    assert_eq!(other.asked.load(std::sync::atomic::Ordering::Relaxed), 0);
}
