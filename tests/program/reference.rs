//! docs/running/telemetry.md has everything that a running bridge writes.

use std::collections::BTreeSet;

use ccgateway_bridge::rpc::proto::{SetBusyRequest, SignInRequest, SignOutRequest};
use ccgateway_sim::{Fault, Interface, Misbehaviour};
use ccgateway_test_support::{
    Clients, PASSWORD, Program,
    collector::{Collector, Conduct},
    page::names,
};
use opentelemetry_proto::tonic::common::v1::KeyValue;
use serde_json::Value;

use crate::support::start;

/// Calls that are carried out, refused and not answered, and a sign-out.
async fn stir(program: &Program) {
    let (mut states, mut sessions) =
        (Clients::of(program.grpc).states, Clients::of(program.grpc).sessions);
    let agent_id = || "1001".to_owned();
    let password = Some(PASSWORD.to_owned());
    let sign_in = SignInRequest { agent_id: agent_id(), password, ..<_>::default() };
    sessions.sign_in(sign_in).await.expect("signed in");
    let confirm_within = Some(prost_types::Duration { seconds: 20, nanos: 0 });
    let busy = SetBusyRequest { agent_id: agent_id(), confirm_within, ..<_>::default() };
    states.set_busy(busy.clone()).await.expect("busy");
    states.set_busy(busy.clone()).await.expect_err("busy already");
    let cut = Misbehaviour::once(Fault::CutBeforeAnswer).on(Interface::SayBusy);
    program.gateway.misbehave(cut);
    states.set_busy(busy).await.expect_err("not answered");
    let sign_out = SignOutRequest { agent_id: agent_id(), ..<_>::default() };
    sessions.sign_out(sign_out).await.expect("signed out");
}

#[tokio::test]
async fn every_line_and_every_span_has_only_names_of_the_reference() {
    let mut collector = Collector::start(Conduct::Takes).await;
    let traces = format!(
        "server.drain.delay = \"0s\"\n[traces]\nendpoint = \"http://{}\"\nsample = 1\n",
        collector.addr
    );
    let program = start(&traces, &["--log-filter", "warn,ccgateway_bridge=trace"]).await;
    stir(&program).await;
    program.signal("-TERM");
    let (_, printed) = program.ended().await;

    let fields = names("Log fields");
    let mut seen = BTreeSet::new();
    for line in printed.lines() {
        let line: Value = serde_json::from_str(line).unwrap_or_else(|_| panic!("{line}"));
        if line["target"].as_str().is_some_and(|target| target.starts_with("ccgateway_bridge")) {
            seen.extend(line.as_object().expect("an object").keys().cloned());
        }
    }
    assert!(seen.len() > 20, "{seen:?}");
    let unlisted: Vec<_> = seen.iter().filter(|name| !fields.contains(&name.as_str())).collect();
    assert!(
        unlisted.is_empty(),
        "docs/running/telemetry.md does not list the log fields {unlisted:?}"
    );

    let attributes = names("Span attributes");
    // Each of the five calls has at least its own, that of its turn and that of its request.
    let spans = collector.spans(15).await;
    let seen = spans.iter().flat_map(|span| &span.attributes).map(|KeyValue { key, .. }| key);
    let unlisted: BTreeSet<_> = seen.filter(|key| !attributes.contains(&key.as_str())).collect();
    assert!(
        unlisted.is_empty(),
        "docs/running/telemetry.md does not list the attributes {unlisted:?}"
    );
}
