//! The example file is right, whole, and shows the defaults.

use std::time::Duration;

use ccgateway_bridge::config::{LogFormat, Trust};

use crate::support::{TENANT, load};

const EXAMPLE: &str = include_str!("../../docs/ccgateway-bridge.example.toml");

/// What has no default, and so may differ from it.
const EXAMPLES_ONLY: [&str; 11] = [
    "worker_threads",
    "certificate",
    "key",
    "credentials_file",
    "ca_file",
    "pinned_certificate",
    "pinned_sha256",
    "client_certificate",
    "client_key",
    "base_urls",
    "retry_after",
];

/// The example with every key at its default that has one.
fn spelt_out() -> String {
    let (keys, _) = EXAMPLE.split_once("# ---- Your own reading").expect("the last parts");
    let uncommented = keys.lines().map(|line| match line.strip_prefix('#') {
        Some(key) if !key.starts_with([' ', '#']) && !key.is_empty() => key,
        _ => line,
    });
    let kept = uncommented.filter(|line| {
        let key = line.split(" = ").next().unwrap_or_default();
        key == "base_urls" || !EXAMPLES_ONLY.contains(&key)
    });
    kept.collect::<Vec<_>>().join("\n")
}

#[test]
fn the_example_loads_as_it_is() {
    let config = load(EXAMPLE);
    assert_eq!(config.tenants.len(), 1);
    assert!(config.retcodes.is_empty());
}

#[test]
fn the_example_shows_the_defaults() {
    let least = EXAMPLE.lines().find(|line| line.starts_with("base_urls")).unwrap();
    let defaults = load(&format!("[tenants.acme]\n{least}"));
    assert_eq!(format!("{:?}", load(&spelt_out())), format!("{defaults:?}"));
}

#[test]
fn the_defaults_are_the_documented_ones() {
    let config = load(TENANT);
    let server = &config.server;
    assert_eq!(server.listen.to_string(), "0.0.0.0:50051");
    assert_eq!(server.admin_listen.map(|a| a.to_string()).as_deref(), Some("0.0.0.0:9090"));
    assert_eq!(server.worker_threads, None);
    assert!(server.reflection && server.tls.is_none());
    assert_eq!(server.calls_max.get(), 10_000);
    assert_eq!(server.http2.connection_window, 131_072);
    assert_eq!(server.connections.max_age, Duration::from_secs(1200));
    assert_eq!(server.drain.limit, Duration::from_secs(20));
    assert_eq!((config.log.filter.as_str(), config.log.format), ("info", LogFormat::Auto));
    assert_eq!(config.host_in_flight.get(), 128);
    let tenant = &config.tenants["acme"];
    assert_eq!(tenant.tls.trust, Trust::SystemRoots);
    assert_eq!(tenant.agent_ids, 101..=59_999);
    assert_eq!(tenant.timeouts.request, Duration::from_secs(8));
    assert_eq!(tenant.limits.queue_wait, Duration::from_millis(100));
    assert!(tenant.credentials.is_none());
    assert!(load(&format!("{TENANT}server.admin_listen = \"off\"")).server.admin_listen.is_none());
}
