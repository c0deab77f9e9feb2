//! Somebody who can read all that is in Redis, and all that is sent to it.

use ccgateway_bridge::rpc::proto::SignInRequest;
use ccgateway_test_support::{PASSWORD, RedisServer, Setup, TestBridge, within};
use futures_util::StreamExt as _;

use super::{Attacker, key};
use crate::callee::{self, CREDENTIALS};

const PHONE: &str = "13800138000";
/// Not shorter, since it must not be in the dump by chance.
const SHORT: &str = "canary";
/// As long as a password may be, and as many bytes.
const LONGEST: &str = "密碼密碼密碼密碼密碼密碼密碼密碼密碼密碼密碼密碼密碼密碼密碼密碼";
const CALLER: &str = "02087654321";

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn whoever_reads_redis_learns_no_secret_and_no_length_of_a_password() {
    let (server, site) = (RedisServer::start().await, callee::site().await);
    let mut attacker = Attacker::of(&server).await;
    let monitor = server.client().get_async_monitor().await.expect("a monitor");
    let mut seen = monitor.into_on_message::<String>();
    let setup = Setup { keep: true, ..callee::setup(callee::on_redis(&server, CREDENTIALS)) };
    let bridge = Box::pin(TestBridge::at(&site, &setup)).await;
    let mut lengths = Vec::new();
    let phone = Some(PHONE.to_owned());
    for (agent, password, phone_number, is_right) in [
        (1001, PASSWORD, phone.clone(), true),
        (1002, "canary-wrong", phone.clone(), false),
        (1003, SHORT, phone, true),
        (1004, LONGEST, None, true),
    ] {
        if is_right {
            site.gateway.set_password(agent, password);
        }
        let request = SignInRequest {
            agent_id: agent.to_string(),
            password: Some(password.into()),
            phone_number,
            ..<_>::default()
        };
        let signed_in = bridge.sessions.clone().sign_in(request).await;
        assert_eq!(signed_in.is_ok(), is_right, "{agent}: {signed_in:?}");
    }
    let mut watch = bridge.watch(&[1001], None).await;
    let content = format!(r#"{{"caller":"{CALLER}","callid":"1478661212-6"}}"#);
    assert!(site.gateway.tell(1001, "AgentEvent_Ringing", Some(&content)));
    watch.event("AgentEvent_Ringing").await;
    for name in attacker.ask::<Vec<String>>(&["KEYS", &key("credentials:*")]).await {
        lengths.push(attacker.ask::<Vec<u8>>(&["GET", &name]).await.len());
    }
    let guids: Vec<String> = [1001, 1003]
        .into_iter()
        .filter_map(|agent| site.gateway.agent(agent).and_then(|agent| agent.guid))
        .collect();
    bridge.sign_out(1003).await.expect("signed out");

    let mut dump = String::new();
    for name in attacker.ask::<Vec<String>>(&["KEYS", "*"]).await {
        let raw: Vec<u8> = attacker.ask(&["DUMP", &name]).await;
        dump.push_str(&String::from_utf8_lossy(&raw));
    }
    let _: String = attacker.ask(&["ECHO", "the-end"]).await;
    within("the monitor to come to the end", async {
        while !dump.contains("the-end") {
            dump.push_str(&seen.next().await.expect("the monitor goes on"));
        }
    })
    .await;
    assert!(dump.contains("session:1001") && guids.len() == 2);
    let secrets = [
        PASSWORD,
        "canary-wrong",
        SHORT,
        LONGEST,
        PHONE,
        CALLER,
        "1478661212-6",
        "AgentEvent",
        "signed_",
    ];
    for secret in secrets.into_iter().chain(guids.iter().map(String::as_str)) {
        let secret = secret.split(".Agent").next().expect("a part");
        let digits: Vec<_> = secret.bytes().map(|byte| format!("{byte:02x}")).collect();
        let hex = digits.concat();
        assert!(!dump.contains(secret) && !dump.contains(&hex), "{secret}");
    }
    assert!(lengths.len() == 2 && lengths.windows(2).all(|two| two[0] == two[1]), "{lengths:?}");
}
