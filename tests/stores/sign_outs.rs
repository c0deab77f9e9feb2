//! An agent whom one replica signs out stays signed out, whatever another one finds meanwhile.

use std::time::Duration;

use ccgateway_sim::Options;
use ccgateway_test_support::{
    PASSWORD, RedisServer, Setup, Site, TestBridge, gateway,
    lossy::{Loss, LossyProxy},
    until_asked, within,
};
use tokio::join;
use tonic::Code;

use crate::{
    callee::{self, on_redis, sign_ins},
    support::all_listen,
};

/// Two replicas that poll, behind one proxy. The first has signed agent 1001 in.
struct Two {
    _server: RedisServer,
    site: Site,
    proxy: LossyProxy,
    bridges: [TestBridge; 2],
}

impl Two {
    async fn start() -> Self {
        let poll_wait = Duration::from_millis(20);
        let gateway = gateway(Options { plaintext: true, poll_wait, ..<_>::default() }).await;
        let proxy = LossyProxy::to(gateway.addr()).await;
        let (server, site) = (RedisServer::start().await, Site::of(gateway));
        let setup = || Setup {
            base_url: Some(proxy.base_url()),
            tenant: "keep.pause_min = \"5ms\"\nkeep.pause_max = \"10ms\"\n".into(),
            password: Some(PASSWORD),
            keep: true,
            ..callee::setup(on_redis(&server, ""))
        };
        let first = Box::pin(TestBridge::at(&site, &setup())).await;
        let second = Box::pin(TestBridge::at(&site, &setup())).await;
        all_listen(&server, 2).await;
        first.sign_in(1001).await.expect("signed in");
        Self { _server: server, site, proxy, bridges: [first, second] }
    }

    /// How many automatic sign-ins are under way at both.
    async fn under_way(&self) -> u64 {
        let mut sum = 0;
        for bridge in &self.bridges {
            let (_, json) = bridge.ask("GET /status.json").await;
            let status: serde_json::Value = serde_json::from_str(&json).expect("JSON");
            sum += status["tenants"][0]["sign_ins"]["under_way"].as_u64().expect("a number");
        }
        sum
    }

    async fn until_under_way(&self, are_so_many: impl Fn(u64) -> bool) {
        let is_so = async || are_so_many(self.under_way().await);
        until_asked("sign-ins under way, or none", is_so).await;
    }

    /// No replica has a session of the agent any more, and only one was made.
    async fn is_out(&self) {
        for bridge in &self.bridges {
            until_asked("it to end", async || bridge.find_session(1001).await.is_err()).await;
            let status = bridge.find_session(1001).await.expect_err("it has ended");
            assert_eq!(status.code(), Code::NotFound);
        }
        assert!(self.site.gateway.agent(1001).is_none_or(|agent| !agent.signed_in));
        assert_eq!(sign_ins(&self.site.gateway), 1);
    }
}

/// Waits until a bridge knows such a version of agent 1001's session.
async fn until_version(bridge: &TestBridge, is_it: impl Fn(u64) -> bool) {
    let is_so = async || is_it(bridge.session(1001).await.guid_version);
    until_asked("the version", is_so).await;
}

#[tokio::test]
async fn a_guid_that_one_replica_renews_while_another_signs_the_agent_out_ends_with_it() {
    let two = Two::start().await;
    let [_, second] = &two.bridges;
    let before = second.session(1001).await.guid_version;
    two.proxy.lose("/logout", Loss::Held);
    let renewing = async {
        within("the sign-out", two.proxy.paused()).await;
        two.site.gateway.renew_guid(1001).expect("signed in");
        until_version(second, |version| version != before).await;
        two.proxy.go_on();
    };
    let (signed_out, ()) = join!(second.sign_out(1001), renewing);
    signed_out.expect("signed out");
    two.is_out().await;
}

#[tokio::test]
async fn no_replica_signs_an_agent_in_whom_another_is_signing_out() {
    let two = Two::start().await;
    two.proxy.lose("/logout", Loss::Paused);
    let finding = async {
        within("the sign-out", two.proxy.paused()).await;
        two.until_under_way(|count| count > 0).await;
        two.proxy.go_on();
    };
    let (signed_out, ()) = join!(two.bridges[1].sign_out(1001), finding);
    signed_out.expect("signed out");
    two.until_under_way(|count| count == 0).await;
    two.is_out().await;
}

#[tokio::test]
async fn nobody_signs_an_agent_in_whose_sign_out_had_no_answer_wherever_the_agent_is_polled() {
    for at in [0, 1] {
        let two = Two::start().await;
        two.proxy.lose("/logout", Loss::BeforeAnswer);
        // Nor does the gateway say afterwards what has become of it.
        two.proxy.lose("agentstatus", Loss::AfterRequest);
        two.bridges[at].sign_out(1001).await.expect_err("its answer is lost");
        two.is_out().await;
    }
}

#[tokio::test]
async fn a_registered_guid_that_one_replica_renews_while_another_signs_out_ends_with_it() {
    let two = Two::start().await;
    let [first, second] = &two.bridges;
    let guid = two.site.gateway.take_over(1001).expect("signed in");
    second.register(1001, &guid).await.expect("registered");
    let before = second.session(1001).await.guid_version;
    until_version(first, |version| version == before).await;
    two.proxy.lose("/logout", Loss::Held);
    let renewing = async {
        within("the sign-out", two.proxy.paused()).await;
        two.site.gateway.set_guid_on_next_reply(1001);
        first.set_busy(1001).await.expect("accepted");
        until_version(second, |version| version > before).await;
        two.proxy.go_on();
    };
    let (signed_out, ()) = join!(second.sign_out(1001), renewing);
    signed_out.expect("signed out");
    two.is_out().await;
}

#[tokio::test]
async fn a_session_that_its_owner_makes_while_the_one_before_is_signed_out_stays() {
    let two = Two::start().await;
    let [first, second] = &two.bridges;
    two.proxy.lose("/logout", Loss::Paused);
    let registering = async {
        within("the sign-out", two.proxy.paused()).await;
        let guid = two.site.gateway.sign_in(1001);
        let registered = first.register(1001, &guid).await.expect("registered");
        until_version(second, |version| version == registered).await;
        two.proxy.go_on();
    };
    let (signed_out, ()) = join!(second.sign_out(1001), registering);
    signed_out.expect("signed out");
    for bridge in &two.bridges {
        bridge.set_busy(1001).await.expect("its owner has signed the agent in");
    }
    assert_eq!(sign_ins(&two.site.gateway), 1);
}
