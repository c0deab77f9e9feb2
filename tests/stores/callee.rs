//! Bridges with a store, in front of one gateway. They know the password of agent 1001.

use ccgateway_sim::{Interface, Options, Simulator};
use ccgateway_test_support::{
    PASSWORD, RedisServer, Setup, Site, TestBridge, asked, in_redis, key_hex,
};

/// Lines of `[store]` by which passwords from callers are stored.
pub(crate) const CREDENTIALS: &str = "credentials = true";

/// Where the bridges are. There are keys in `store.key` and `new.key`.
pub(crate) async fn site() -> Site {
    let site = Site::new(Options::default()).await;
    site.write("new.key", key_hex(0x6b));
    site
}

/// A `[store]` with this Redis, and this too.
pub(crate) fn on_redis(server: &RedisServer, store: &str) -> String {
    format!("{}key_prefix = \"test:\"\n{store}", in_redis(&server.url()))
}

/// What bridges with this `[store]` differ in.
pub(crate) fn setup(store: String) -> Setup {
    Setup {
        drain: "delay = \"0s\"\ntimeout = \"4s\"\n".into(),
        store,
        credentials: vec![1001],
        forced: vec![1001],
        ..Setup::default()
    }
}

/// One replica.
pub(crate) async fn start(site: &Site, server: &RedisServer) -> TestBridge {
    with(site, server, PASSWORD, "").await
}

/// One that believes this to be the password, and whose `[store]` has this too.
pub(crate) async fn with(
    site: &Site,
    server: &RedisServer,
    password: &'static str,
    store: &str,
) -> TestBridge {
    on(site, password, on_redis(server, store)).await
}

/// One that believes this to be the password, and whose `[store]` is this.
pub(crate) async fn on(site: &Site, password: &'static str, store: String) -> TestBridge {
    let setup = Setup { password: Some(password), ..setup(store) };
    Box::pin(TestBridge::at(site, &setup)).await
}

/// How often the gateway was asked to sign an agent in.
pub(crate) fn sign_ins(gateway: &Simulator) -> usize {
    asked(gateway, Interface::SignIn).len()
}
