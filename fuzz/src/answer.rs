use std::{future::poll_fn, pin::Pin, task::Poll};

use bytes::Bytes;
use ccgateway_bridge::gateway::fuzzing::{Read, read};
use http::{HeaderMap, Request, StatusCode, Version};
use http_body_util::{BodyExt as _, Empty};
use hyper::{body::Frame, client::conn::http1};
use hyper_util::rt::TokioIo;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _, DuplexStream, duplex},
    runtime::Builder,
    task::yield_now,
};

/// Headers that the bridge uses.
const USED: [&str; 10] = [
    "content-encoding",
    "content-type",
    "date",
    "guid",
    "json-type",
    "keep-alive",
    "location",
    "retry-after",
    "set-cookie",
    "set-guid",
];

/// What a gateway answers before it closes the connection: the first byte says in pieces of which length it comes.
///
/// The bridge reads what hyper's client reads, and from what that refuses it reads no answer either, except where it is
/// meant to: odd status lines, more than a hundred header lines, a transfer coding that is none, and odd trailers.
pub fn answer(data: &[u8]) {
    let Some((length, bytes)) = data.split_first() else { return };
    let found = read(bytes, usize::MAX);
    assert_eq!(read(bytes, usize::from(*length).max(1)), found, "it depends on the pieces");
    assert!(found.body.len() <= 64 * 1024);
    assert!(found.cut.is_none() || found.next.is_none(), "a part of it may still come");

    // hyper takes no other status lines.
    let plain = with_plain_status_lines(bytes);
    let of_plain = read(&plain, usize::MAX);
    assert_eq!(of_plain.head, found.head);
    let is_without_coding = plain.to_ascii_lowercase().windows(8).any(|part| part == b"identity");
    let has_limit = of_plain.cut.as_ref().is_some_and(|cut| cut.contains("more than"));
    if is_without_coding || has_limit {
        return;
    }
    let runtime = Builder::new_current_thread().build().expect("a runtime");
    match runtime.block_on(of_hyper(&plain)) {
        Some(expected) => compare(&of_plain, &expected),
        None => {
            let lines = plain.iter().filter(|byte| **byte == b'\n').count();
            // It does not find each end of a head that comes in several pieces.
            let is_long = lines > 100 || plain.len() > 8 * 1024;
            assert!(of_plain.head.is_none() || is_long, "hyper refuses it");
        }
    }
}

/// What hyper's client makes of an answer.
struct Expected {
    status: StatusCode,
    version: Version,
    headers: HeaderMap,
    body: Vec<u8>,
    is_whole: bool,
    /// Whether there are trailers, or they are malformed.
    has_trailers: bool,
    is_reusable: bool,
}

fn compare(found: &Read, expected: &Expected) {
    let (status, headers) = found.head.as_ref().expect("hyper reads it");
    assert_eq!(*status, expected.status);
    for name in USED {
        let words = |headers: &HeaderMap| {
            let values = headers.get_all(name).iter().map(|value| {
                let words = value.as_bytes().split(u8::is_ascii_whitespace);
                words.filter(|word| !word.is_empty()).collect::<Vec<_>>().join(&b' ')
            });
            values.collect::<Vec<_>>()
        };
        assert_eq!(words(headers), words(&expected.headers), "{name}");
    }
    if expected.body.len() > 64 * 1024 {
        return;
    }
    assert_eq!(found.body.escape_ascii().to_string(), expected.body.escape_ascii().to_string());
    if !expected.has_trailers {
        assert_eq!(found.cut.is_none(), expected.is_whole, "{:?}", found.cut);
        let version = expected.is_reusable.then_some(expected.version);
        assert_eq!(found.next, version, "the connection can carry another request");
    }
}

/// `None` if no head comes, or none that hyper takes.
async fn of_hyper(bytes: &[u8]) -> Option<Expected> {
    let (near, mut far) = duplex(bytes.len() + 1024);
    let mut builder = http1::Builder::new();
    builder
        .allow_spaces_after_header_name_in_responses(true)
        .allow_obsolete_multiline_headers_in_responses(true)
        .ignore_invalid_headers_in_responses(true);
    let (mut sender, driver) = builder.handshake(TokioIo::new(near)).await.expect("a connection");
    // It is aborted with the runtime.
    let _driver = tokio::spawn(driver);
    let mut answering = Box::pin(sender.send_request(Request::new(Empty::<Bytes>::new())));
    assert!(poll_once(&mut answering).await.is_pending());
    let asked = far.read(&mut [0; 1024]).await.expect("a request");
    assert!(asked > 0);
    far.write_all(bytes).await.expect("there is room");
    // As long as the connection is open, hyper says whether it would use it again.
    let mut open = Some(far);
    let response = moving(answering, bytes.len(), &mut open).await.ok()?;
    let (head, mut body) = response.into_parts();
    let (mut read, mut is_whole, mut has_trailers) = (Vec::new(), true, false);
    while let Some(frame) = moving(Box::pin(body.frame()), bytes.len(), &mut open).await {
        match frame.map(Frame::into_data) {
            Ok(Ok(data)) => read.extend_from_slice(&data),
            Ok(Err(_trailers)) => has_trailers = true,
            Err(error) => {
                let error = format!("{error:?}");
                let of_trailers = ["trailer", "chunk end", "eader", "NewLine"];
                has_trailers |= of_trailers.iter().any(|word| error.contains(word));
                is_whole = false;
                break;
            }
        }
    }
    let was_open = open.is_some();
    let ready = moving(Box::pin(sender.ready()), bytes.len(), &mut open).await;
    let is_reusable = was_open && open.is_some() && ready.is_ok() && is_whole;
    let (status, version, headers) = (head.status, head.version, head.headers);
    Some(Expected { status, version, headers, body: read, is_whole, has_trailers, is_reusable })
}

/// Waits for this while anything moves, and closes the gateway's end of the connection when nothing does any more.
async fn moving<T>(
    mut future: impl Future<Output = T> + Unpin,
    steps: usize,
    open: &mut Option<DuplexStream>,
) -> T {
    for _ in 0..steps + 64 {
        if let Poll::Ready(done) = poll_once(&mut future).await {
            return done;
        }
        yield_now().await;
    }
    drop(open.take());
    future.await
}

async fn poll_once<F: Future + Unpin>(future: &mut F) -> Poll<F::Output> {
    poll_fn(|context| Poll::Ready(Pin::new(&mut *future).poll(context))).await
}

/// With capitals and a single space in all lines that look like a status line.
fn with_plain_status_lines(bytes: &[u8]) -> Vec<u8> {
    let mut plain = Vec::new();
    for line in bytes.split_inclusive(|byte| *byte == b'\n') {
        match line.split_at_checked("HTTP/1.1".len()) {
            Some((version, rest)) if version.to_ascii_uppercase().starts_with(b"HTTP/1.") => {
                plain.extend(version.to_ascii_uppercase());
                let spaces = rest.iter().take_while(|byte| **byte == b' ').count();
                plain.extend_from_slice(&rest[spaces.saturating_sub(1)..]);
            }
            _ => plain.extend_from_slice(line),
        }
    }
    plain
}
