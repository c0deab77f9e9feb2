//! HTTP/2 on the wire, read frame by frame.

use std::{collections::HashMap, time::Duration};

use ccgateway_test_support::within;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
    time::Instant,
};

use crate::raw::{GOAWAY, Raw, SETTINGS};
use crate::support::start;

#[tokio::test]
async fn every_limit_is_announced() {
    let program = start("", &[]).await;
    let mut raw = Raw::connect(program.grpc, &[]).await;
    let settings = within("settings", raw.next()).await.expect("a frame");
    assert_eq!((settings.kind, settings.flags), (SETTINGS, 0));
    let announced: HashMap<u16, u32> = settings
        .payload
        .chunks_exact(6)
        .map(|s| (u16::from_be_bytes([s[0], s[1]]), u32::from_be_bytes([s[2], s[3], s[4], s[5]])))
        .collect();
    // RFC 9113, section 6.5.2.
    for (name, id, value) in [
        ("MAX_CONCURRENT_STREAMS", 3, 100),
        ("INITIAL_WINDOW_SIZE", 4, 65_536),
        ("MAX_FRAME_SIZE", 5, 16_384),
        ("MAX_HEADER_LIST_SIZE", 6, 16_384),
    ] {
        assert_eq!(announced.get(&id), Some(&value), "{name}");
    }
}

#[tokio::test]
async fn a_connection_is_asked_to_end_when_it_is_old_and_then_ended() {
    let age = "server.connections = { max_age = \"1s\", max_age_grace = \"1s\" }";
    let program = start(age, &[]).await;
    let started = Instant::now();
    let mut raw = Raw::connect(program.grpc, &[]).await;
    // Settings are acknowledged, the ping that follows is not: this peer ignores GOAWAY.
    let goaway = within("GOAWAY", raw.until(|frame| frame.kind == GOAWAY)).await;
    assert!(goaway.is_some(), "closed without GOAWAY");
    assert!(started.elapsed() >= Duration::from_millis(900), "{:?}", started.elapsed());
    within("the end", raw.until(|_| false)).await;
}

#[tokio::test]
async fn peers_that_say_nothing_or_nonsense_are_sent_away() {
    let timeout = "server.connections.handshake_timeout = \"1s\"";
    let program = start(timeout, &[]).await;
    let mut silent = TcpStream::connect(program.grpc).await.expect("connected");
    let closed = within("the silent one's end", silent.read(&mut [0])).await;
    assert!(closed.is_ok_and(|read| read == 0));

    for nonsense in [b"GET / HTTP/1.1\r\n\r\n".as_slice(), b"\x16\x03\x01\x02\x00\x01", &[0; 64]] {
        let mut stream = TcpStream::connect(program.grpc).await.expect("connected");
        stream.write_all(nonsense).await.expect("sent");
        let _goaway_or_not = within("its end", stream.read_to_end(&mut Vec::new())).await;
    }
    let mut good = Raw::connect(program.grpc, &[]).await;
    assert!(within("settings", good.next()).await.is_some(), "others are served");
}
