//! Health, as balancers and callers ask for it.

use ccgateway_bridge::{
    client,
    rpc::proto::health::{
        HealthCheckRequest, HealthListRequest, health_check_response::ServingStatus,
        health_client::HealthClient,
    },
};
use ccgateway_sim::Options;
use ccgateway_test_support::{AGENT, ClosedPort, Setup, Site, TestBridge, origin, within};
use tonic::{Code, Status, Streaming};

use ServingStatus::{NotServing, ServiceUnknown, Serving};

const SERVICE: &str = "ccgateway.agent.v1.AgentState";
const ACME: &str = "ccgateway.agent.v1.AgentState/acme";
const OTHER: &str = "ccgateway.agent.v1.AgentState/other";
const NOBODY: &str = "ccgateway.agent.v1.AgentState/nobody";

type Client = HealthClient<client::Channel>;

fn client(bridge: &TestBridge) -> Client {
    HealthClient::with_origin(client::channel(), origin(bridge.bridge.grpc_addr()))
}

async fn check(bridge: &TestBridge, service: &str) -> Result<ServingStatus, Status> {
    let answer = client(bridge).check(HealthCheckRequest { service: service.into() }).await;
    Ok(answer?.into_inner().status())
}

struct Watch(Streaming<ccgateway_bridge::rpc::proto::health::HealthCheckResponse>);

impl Watch {
    async fn of(bridge: &TestBridge, service: &str) -> Self {
        let watch = client(bridge).watch(HealthCheckRequest { service: service.into() }).await;
        Self(watch.expect("watching").into_inner())
    }

    /// The next status. `None` when the stream has ended as it should.
    async fn next(&mut self) -> Option<ServingStatus> {
        let next = within("a status", self.0.message()).await.expect("ended, not cut");
        next.map(|answer| answer.status())
    }
}

/// Two tenants. Callers may use only this one.
fn with_rules(tenant: &str) -> Setup {
    let settings = format!(
        "tenants.other.base_urls = [\"https://gateway.other.example\"]\n\
         callers.all = {{ principals = [\"anonymous\"], tenants = [\"{tenant}\"], rights = [\"watch\"] }}\n"
    );
    Setup { settings, ..<_>::default() }
}

#[tokio::test]
async fn a_tenant_serves_while_its_gateway_answers() {
    let bridge = TestBridge::signed_in().await;
    let mut watch = Watch::of(&bridge, ACME).await;
    assert_eq!(watch.next().await, Some(Serving));
    bridge.gateway.stop().await;
    bridge.set_busy(AGENT).await.expect_err("the gateway is away");
    assert_eq!(watch.next().await, Some(NotServing));
    assert_eq!(check(&bridge, ACME).await.expect("known"), NotServing);
    for of_the_server in ["", SERVICE] {
        assert_eq!(check(&bridge, of_the_server).await.expect("known"), Serving);
    }
    bridge.gateway.restart(false).await.expect("its port is free");
    bridge.set_busy(AGENT).await.expect("it is back");
    assert_eq!(watch.next().await, Some(Serving));
}

#[tokio::test]
async fn a_tenant_serves_while_one_of_its_addresses_answers() {
    let closed = ClosedPort::new();
    let setup = Setup { first: Some(closed.addr), ..<_>::default() };
    let bridge = TestBridge::with(setup).await;
    bridge.sign_in(AGENT).await.expect("by the second address");
    assert_eq!(check(&bridge, ACME).await.expect("known"), Serving);
}

#[tokio::test]
async fn a_tenant_that_a_caller_may_not_use_is_like_none() {
    let bridge = TestBridge::with(with_rules("acme")).await;
    assert_eq!(check(&bridge, ACME).await.expect("any right will do"), Serving);
    let refused = |name| {
        let bridge = &bridge;
        async move { check(bridge, name).await.expect_err(name) }
    };
    let unknown = refused(NOBODY).await;
    assert_eq!(unknown.code(), Code::NotFound);
    let long = format!("{SERVICE}/{}", "x".repeat(100));
    let names = [
        OTHER,
        "ccgateway.agent.v1.AgentState/",
        "ccgateway.agent.v1.AgentState/ACME",
        "ccgateway.agent.v1.AgentSession/acme",
        "acme",
        &long,
    ];
    for name in names {
        let status = refused(name).await;
        assert_eq!(
            (status.code(), status.message()),
            (unknown.code(), unknown.message()),
            "{name}"
        );
        assert_eq!(Watch::of(&bridge, name).await.next().await, Some(ServiceUnknown), "{name}");
    }
}

#[tokio::test]
async fn a_list_has_what_its_caller_may_ask_about() {
    let bridge = TestBridge::with(with_rules("acme")).await;
    let listed = client(&bridge).list(HealthListRequest {}).await.expect("served");
    let statuses = listed.into_inner().statuses;
    let mut listed: Vec<_> =
        statuses.iter().map(|(name, answer)| (name.as_str(), answer.status())).collect();
    listed.sort_by_key(|(name, _)| *name);
    let expected =
        ["", "ccgateway.agent.v1.AgentEvents", "ccgateway.agent.v1.AgentSession", SERVICE, ACME];
    assert_eq!(listed, expected.map(|name| (name, Serving)));
}

#[tokio::test]
async fn a_watch_hears_that_its_caller_may_use_the_tenant_or_may_not_any_more() {
    let site = Site::new(Options::default()).await;
    let bridge = TestBridge::at(&site, &with_rules("acme")).await;
    let (mut acme, mut other) = (Watch::of(&bridge, ACME).await, Watch::of(&bridge, OTHER).await);
    assert_eq!([acme.next().await, other.next().await], [Some(Serving), Some(ServiceUnknown)]);
    bridge.bridge.reload(site.config(&with_rules("other"))).expect("good");
    assert_eq!([acme.next().await, other.next().await], [Some(ServiceUnknown), Some(Serving)]);
    bridge.bridge.reload(site.config(&with_rules("acme"))).expect("good");
    assert_eq!([acme.next().await, other.next().await], [Some(Serving), Some(ServiceUnknown)]);
}

#[tokio::test]
async fn watches_hear_of_a_drain_and_end() {
    let bridge = TestBridge::start().await;
    let mut watches = Vec::new();
    for (name, first, then) in [
        ("", Serving, Some(NotServing)),
        (ACME, Serving, Some(NotServing)),
        (NOBODY, ServiceUnknown, None),
    ] {
        let mut watch = Watch::of(&bridge, name).await;
        assert_eq!(watch.next().await, Some(first), "{name}");
        watches.push((name, watch, then));
    }
    let drained = bridge.stop();
    let heard = async {
        for (name, mut watch, then) in watches {
            if then.is_some() {
                assert_eq!(watch.next().await, then, "{name}");
            }
            assert_eq!(watch.next().await, None, "{name}");
        }
    };
    tokio::join!(drained, heard);
}
