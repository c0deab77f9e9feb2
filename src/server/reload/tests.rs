//! How often a configuration is put into force.

use super::*;
use crate::config::{Sources, load};

/// A configuration whose only listener has this address, and lets everybody call or not.
fn config(listener: &str, anonymous: &str) -> Config {
    let flags = [
        ("listeners.default.address", listener),
        ("listeners.default.allow_anonymous", anonymous),
        ("admin.address", "off"),
        ("tenants.acme.base_urls", "https://gateway.example"),
    ];
    let sources = flags
        .into_iter()
        .fold(Sources::default(), |sources, (key, value)| sources.with_flag("--test", key, value));
    load(&sources).unwrap_or_else(|errors| panic!("{errors}"))
}

/// Each time, all tenants would be built anew, and all streams would have to find out whether they may go on.
#[tokio::test]
async fn what_waits_for_a_restart_changes_its_listener_once_and_not_at_each_look() {
    let bridge = Bridge::start(config("127.0.0.1:0", "false")).await.expect("started");
    let replaced = || {
        let listeners = bridge.reloadable.listeners.values();
        listeners.map(|listener| listener.context.policy.generation()).sum::<u64>()
    };
    let moved = || bridge.reload(config("127.0.0.1:1", "true")).expect("no mistake");
    let first = moved();
    assert!(first.taken.is_empty() && !first.needs_restart.is_empty(), "{first:?}");
    assert_eq!(replaced(), 1, "{first:?}");
    for _ in 0..3 {
        assert_eq!((moved(), replaced()), (first.clone(), 1));
    }
    bridge.reload(config("127.0.0.1:2", "true")).expect("no mistake");
    assert_eq!(replaced(), 2, "that is another one");
}
