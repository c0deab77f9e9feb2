//! The floods.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use tokio::{io::AsyncWriteExt as _, net::tcp::OwnedWriteHalf};

use crate::raw::{
    DATA, END_HEADERS, HEADERS, PING, PRIORITY, RST_STREAM, SETTINGS, WINDOW_UPDATE, frame, head,
    request_head,
};

const CONTINUATION: u8 = 9;
pub(super) const SET_BUSY: &str = "/ccgateway.agent.v1.AgentState/SetBusy";
pub(super) const CHECK_HEALTH: &str = "/grpc.health.v1.Health/Check";

/// What a peer sends first, and then without an end.
pub(super) struct Flood {
    pub(super) what: &'static str,
    pub(super) first: Vec<u8>,
    pub(super) then: Box<dyn Fn(u32) -> Vec<u8> + Send + Sync>,
    /// How often `then` was sent, by all peers together.
    pub(super) sent: AtomicU64,
}

fn flood(
    what: &'static str,
    first: Vec<u8>,
    then: impl Fn(u32) -> Vec<u8> + Send + Sync + 'static,
) -> Flood {
    Flood { what, first, then: Box::new(then), sent: AtomicU64::new(0) }
}

pub(super) fn begun(stream: u32, path: &str) -> Vec<u8> {
    frame(HEADERS, END_HEADERS, stream, &request_head(path, "60S"))
}

/// The number of the peer's stream that comes at this place.
pub(super) fn stream(number: u32) -> u32 {
    2 * number + 1
}

pub(super) fn floods() -> Vec<Flood> {
    let one = 1_u32.to_be_bytes();
    let cancel = 8_u32.to_be_bytes();
    // A field of HTTP/1, which makes a request malformed.
    let bad = head(&[("connection", "close")]);
    let long_message = [begun(1, SET_BUSY), frame(DATA, 0, 1, &[0, 0, 0, 0x40])].concat();
    vec![
        flood("SETTINGS", vec![], |_| frame(SETTINGS, 0, 0, &[])),
        flood("SETTINGS that change windows", vec![], |number| {
            let window = (number % 1000).to_be_bytes();
            frame(SETTINGS, 0, 0, &[&[0, 4][..], &window].concat())
        }),
        flood("PING", vec![], |_| frame(PING, 0, 0, b"whatever")),
        flood("WINDOW_UPDATE", vec![], move |_| frame(WINDOW_UPDATE, 0, 0, &one)),
        flood("WINDOW_UPDATE of a stream", begun(1, SET_BUSY), move |_| {
            frame(WINDOW_UPDATE, 0, 1, &one)
        }),
        flood("PRIORITY", vec![], |number| frame(PRIORITY, 0, stream(number), &[0, 0, 0, 0, 9])),
        flood("empty DATA", begun(1, SET_BUSY), |_| frame(DATA, 0, 1, &[])),
        // Of a message of 16 KiB.
        flood("DATA of a byte", long_message, |_| frame(DATA, 0, 1, &[0])),
        flood("DATA that is padding", begun(1, SET_BUSY), |_| {
            frame(DATA, 8, 1, &[&[200][..], &[0; 200]].concat())
        }),
        flood("CONTINUATION", frame(HEADERS, 0, 1, &[]), |_| frame(CONTINUATION, 0, 1, &[])),
        flood("streams that are reset", vec![], move |number| {
            let reset = frame(RST_STREAM, 0, stream(number), &cancel);
            [begun(stream(number), CHECK_HEALTH), reset].concat()
        }),
        flood("RST_STREAM of one stream", begun(1, SET_BUSY), move |_| {
            frame(RST_STREAM, 0, 1, &cancel)
        }),
        flood("streams with bad headers", vec![], move |number| {
            frame(HEADERS, END_HEADERS, stream(number), &bad)
        }),
        flood("streams beyond the limit", vec![], |number| begun(stream(number), SET_BUSY)),
        flood("frames of no known type", vec![], |_| frame(0xfe, 0, 0, &[0; 16])),
    ]
}

impl Flood {
    /// Sends until the bridge closes the connection.
    pub(super) async fn send(&self, write: &mut OwnedWriteHalf) {
        let mut sent = write.write_all(&self.first).await;
        let mut number = 0;
        while sent.is_ok() {
            let some: Vec<u8> = (number..number + 10).flat_map(&self.then).collect();
            number += 10;
            sent = write.write_all(&some).await;
            self.sent.fetch_add(10, Relaxed);
        }
    }
}
