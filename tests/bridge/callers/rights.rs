use ccgateway_bridge::access::Right;
use ccgateway_test_support::{Setup, TestBridge, reading_methods};

use super::{PERMISSION_DENIED, REFLECTION, list_services, peer::Peer, requests};

#[tokio::test]
async fn each_right_opens_its_own_methods() {
    for (name, right) in Right::ALL {
        // On this machine alone, callers need not show who they are.
        let settings = format!(
            "callers.all = {{ principals = [\"anonymous\"], tenants = [\"acme\"], rights = [\"{name}\"] }}"
        );
        let bridge = TestBridge::with(Setup { settings, ..<_>::default() }).await;
        let mut peer = Peer::connect(bridge.bridge.grpc_addr(), None).await.expect("connected");
        for (path, needed, message) in requests("acme") {
            let told = peer.call(&path, &message, &[]).await.expect("an answer");
            assert_eq!(
                told.code() == PERMISSION_DENIED,
                needed != right,
                "{name}: {path}: {told:?}"
            );
        }
        let states: Vec<_> =
            bridge.gateway.journal().iter().filter_map(|entry| entry.interface).collect();
        if right == Right::Watch {
            assert_eq!(states, [], "nothing is asked for those who may not");
        }
    }
}

#[test]
fn the_contract_says_of_each_method_whether_its_right_changes_something() {
    let reading = reading_methods();
    for (path, right, _) in requests("acme") {
        assert_eq!(reading.contains(&path[1..]), !right.changes(), "{path}");
    }
}

#[tokio::test]
async fn methods_without_side_effects_only_read_at_the_gateway() {
    let bridge = TestBridge::signed_in().await;
    let mut peer = Peer::connect(bridge.bridge.grpc_addr(), None).await.expect("connected");
    let reading = reading_methods();
    let mut read = 0;
    for (path, _, message) in requests("acme") {
        let before = bridge.gateway.journal().len();
        peer.call(&path, &message, &[]).await.expect("an answer");
        let journal = bridge.gateway.journal();
        let asked = &journal[before..];
        if reading.contains(&path[1..]) {
            assert!(asked.iter().all(|entry| entry.method == "GET"), "{path}: {asked:?}");
            read += asked.len();
        }
    }
    assert_eq!(read, 1, "only GetState asks the gateway");
}

#[tokio::test]
async fn reflection_is_served_where_a_listener_says_so() {
    let tenant = "[listeners.inner]\naddress = \"127.0.0.1:0\"\nreflection = false\n".to_owned();
    let bridge = TestBridge::with(Setup { tenant, ..<_>::default() }).await;
    for (name, expected) in [("default", "0"), ("inner", "12")] {
        let mut listeners = bridge.bridge.listeners().iter();
        let (_, addr) = listeners.find(|(listener, _)| listener.as_str() == name).expect("there");
        let mut peer = Peer::connect(*addr, None).await.expect("connected");
        let told = peer.call(REFLECTION, &list_services(), &[]).await.expect("an answer");
        assert_eq!(told.code(), expected, "{name}: {told:?}");
    }
}
