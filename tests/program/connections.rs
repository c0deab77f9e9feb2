//! HTTP/2 on the wire, read frame by frame.

use std::{collections::HashMap, time::Duration};

use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
    time::Instant,
};

use crate::support::{Program, within};

const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
const SETTINGS: u8 = 4;
const GOAWAY: u8 = 7;
const ACK: u8 = 1;

struct Frame {
    kind: u8,
    flags: u8,
    payload: Vec<u8>,
}

/// A connection that has sent its preface and empty settings.
async fn connect(program: &Program) -> TcpStream {
    let mut stream = TcpStream::connect(program.grpc).await.expect("connected");
    stream.write_all(PREFACE).await.expect("sent");
    stream.write_all(&[0, 0, 0, SETTINGS, 0, 0, 0, 0, 0]).await.expect("sent");
    stream
}

/// The next frame; `None` at the end of the connection.
async fn frame(stream: &mut TcpStream) -> Option<Frame> {
    let mut head = [0; 9];
    stream.read_exact(&mut head).await.ok()?;
    let [a, b, c, kind, flags, ..] = head;
    let mut payload = vec![0; u32::from_be_bytes([0, a, b, c]) as usize];
    stream.read_exact(&mut payload).await.ok()?;
    Some(Frame { kind, flags, payload })
}

#[tokio::test]
async fn every_limit_is_announced() {
    let program = Program::start("", &[]).await;
    let mut stream = connect(&program).await;
    let settings = within("settings", frame(&mut stream)).await.expect("a frame");
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
    let program = Program::start(age, &[]).await;
    let started = Instant::now();
    let mut stream = connect(&program).await;
    let goaway = async {
        while let Some(frame) = frame(&mut stream).await {
            // The server's settings are acknowledged, its ping is not: this peer ignores GOAWAY.
            if frame.kind == SETTINGS && frame.flags & ACK == 0 {
                stream.write_all(&[0, 0, 0, SETTINGS, ACK, 0, 0, 0, 0]).await.expect("sent");
            }
            if frame.kind == GOAWAY {
                return true;
            }
        }
        false
    };
    assert!(within("GOAWAY", goaway).await, "closed without GOAWAY");
    assert!(started.elapsed() >= Duration::from_millis(900), "{:?}", started.elapsed());
    within("the end", async { while frame(&mut stream).await.is_some() {} }).await;
    assert!(started.elapsed() < Duration::from_secs(10), "{:?}", started.elapsed());
}

#[tokio::test]
async fn peers_that_say_nothing_or_nonsense_are_sent_away() {
    let timeout = "server.connections.handshake_timeout = \"1s\"";
    let program = Program::start(timeout, &[]).await;
    let mut silent = TcpStream::connect(program.grpc).await.expect("connected");
    let closed = within("the silent one's end", silent.read(&mut [0])).await;
    assert!(closed.is_ok_and(|read| read == 0));

    for nonsense in [b"GET / HTTP/1.1\r\n\r\n".as_slice(), b"\x16\x03\x01\x02\x00\x01", &[0; 64]] {
        let mut stream = TcpStream::connect(program.grpc).await.expect("connected");
        stream.write_all(nonsense).await.expect("sent");
        let _goaway_or_not = within("its end", stream.read_to_end(&mut Vec::new())).await;
    }
    let mut good = connect(&program).await;
    assert!(within("settings", frame(&mut good)).await.is_some(), "others are served");
}
