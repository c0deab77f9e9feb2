//! Peers that hardly make progress, or have closed their side, lose their place.

use std::time::Duration;

use ccgateway_test_support::{Program, within};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::tcp::OwnedWriteHalf,
    time::sleep,
};

use crate::raw::{DATA, Raw, frame};
use crate::support::start;

const SET_BUSY: &str = "/ccgateway.agent.v1.AgentState/SetBusy";
const KEEPALIVE: &str = "listeners.default.http2 = { keepalive_interval = \"1s\", \
                         keepalive_timeout = \"1s\" }";
/// A type that nobody knows, so that a payload of any length may follow.
const UNKNOWN: u8 = 0xfe;

/// Waits until the readiness of the bridge has this line on its connections.
async fn served(program: &Program, count: usize) {
    let line = format!("connections: {count} of");
    let shown = async {
        while !program.ask("GET /readyz?verbose", "").await.1.lines().any(|l| l.starts_with(&line))
        {
            tokio::task::yield_now().await;
        }
    };
    within(&line, shown).await;
}

/// Sends these bytes, ten a second, until the bridge has closed.
async fn trickle(write: &mut OwnedWriteHalf, bytes: impl Iterator<Item = &u8>) {
    for byte in bytes {
        if write.write_all(&[*byte]).await.is_err() {
            return;
        }
        sleep(Duration::from_millis(100)).await;
    }
}

/// It never gets so far as to answer the bridge's PING.
#[tokio::test]
async fn a_frame_that_never_ends_is_no_sign_of_life() {
    let program = start(KEEPALIVE, &[]).await;
    let whole = frame(UNKNOWN, 0, 0, &[0; 16_384]);
    // It stops in a head, goes on into a payload, or is in one already.
    for (sent, then) in [(0, 8), (4, usize::MAX), (1000, usize::MAX)] {
        let mut raw = Raw::connect(program.grpc, &[]).await;
        raw.write(&whole[..sent]).await;
        served(&program, 1).await;
        let (mut read, mut write) = raw.0.into_split();
        let trickling = async {
            trickle(&mut write, whole.iter().skip(sent).take(then)).await;
            std::future::pending::<()>().await;
        };
        let mut said = Vec::new();
        let closed = async {
            tokio::select! {
                _end = read.read_to_end(&mut said) => {}
                () = trickling => {}
            }
        };
        within("the bridge closes", closed).await;
        served(&program, 0).await;
    }
}

#[tokio::test]
async fn a_peer_that_has_closed_its_side_keeps_no_place() {
    let program = start("", &[]).await;
    for begins in [None, Some(false), Some(true)] {
        let mut raw = Raw::connect(program.grpc, &[]).await;
        served(&program, 1).await;
        if let Some(has_some) = begins {
            raw.begin(1, SET_BUSY, "60S").await;
            if has_some {
                raw.send(DATA, 0, 1, &[0, 0, 0, 0, 9, 1]).await;
            }
        }
        raw.0.shutdown().await.expect("its side is closed");
        served(&program, 0).await;
        // The socket is there until now.
        drop(raw);
    }
}

/// In the middle of a frame, so that h2 cannot tell an end from a pause.
#[tokio::test]
async fn a_peer_that_has_closed_its_side_in_a_frame_keeps_no_place() {
    let program = start("", &[]).await;
    for sent in [3, 9, 1000] {
        let mut raw = Raw::connect(program.grpc, &[]).await;
        served(&program, 1).await;
        raw.write(&frame(UNKNOWN, 0, 0, &[0; 16_384])[..sent]).await;
        raw.0.shutdown().await.expect("its side is closed");
        served(&program, 0).await;
        drop(raw);
    }
}
