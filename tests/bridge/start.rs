//! A start that fails leaves nothing behind.

use std::{fs, net::SocketAddr};

use ccgateway_bridge::{
    config::{Config, Sources, load},
    server::{Bridge, StartError},
};
use futures_util::FutureExt as _;
use tempfile::TempDir;
use tokio::{net::TcpListener, runtime::Handle};

/// A bridge with a store and a gateway at this address.
fn config(files: &TempDir, [grpc, admin, others]: [SocketAddr; 3]) -> Config {
    fs::write(files.path().join("store.key"), ccgateway_test_support::key_hex(7)).expect("written");
    let text = format!(
        "listeners.default.address = \"{grpc}\"\nadmin.address = \"{admin}\"\n\
         [store]\nurls = \"redis://{others}\"\nencryption_key_files = \"store.key\"\n\
         [tenants.acme]\nbase_urls = \"https://{others}\"\n"
    );
    let file = files.path().join("bridge.toml");
    fs::write(&file, text).expect("written");
    load(&Sources::default().with_file(file)).unwrap_or_else(|errors| panic!("{errors}"))
}

#[tokio::test]
async fn a_port_in_use_is_reported_before_anything_is_started() {
    let files = TempDir::new().expect("a folder");
    let taken = TcpListener::bind("127.0.0.1:0").await.expect("bound");
    let others = TcpListener::bind("127.0.0.1:0").await.expect("bound");
    let (port, store) = (taken.local_addr().expect("bound"), others.local_addr().expect("bound"));
    let free = SocketAddr::from(([127, 0, 0, 1], 0));
    for (ports, wrong) in
        [([port, free, store], "listeners.default.address"), ([free, port, store], "admin.address")]
    {
        let before = Handle::current().metrics().num_alive_tasks();
        match Bridge::start(config(&files, ports)).await {
            Err(StartError::Listen { addr, key, .. }) => {
                assert_eq!((addr, key.as_str()), (port, wrong));
            }
            other => panic!("{other:?}"),
        }
        assert_eq!(Handle::current().metrics().num_alive_tasks(), before, "{wrong}");
        assert!(others.accept().now_or_never().is_none(), "somebody was asked: {wrong}");
    }
}
