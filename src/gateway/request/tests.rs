use std::{convert::Infallible, time::SystemTime};

use http::header::{CONTENT_LENGTH, HOST};
use http_body_util::{BodyExt as _, Empty};
use hyper::{body::Incoming, server::conn::http1, service::service_fn};
use hyper_util::rt::TokioIo;
use proptest::prelude::*;
use tokio::{
    io::{AsyncReadExt as _, duplex},
    runtime,
    sync::mpsc,
};

use super::*;
use crate::{
    gateway::{AGENT_STATUS, SAY_BUSY, SIGN_OUT, UPDATE_GUID, rest, say_busy},
    id::DEFAULT_AGENT_IDS,
    session::{Cookies, Origin},
};

const BASE: &str = "http://gateway.example:8043/x";

/// What a gateway at `BASE` gets of this request, byte by byte.
async fn bytes(request: &Request<'_>, version: Version) -> String {
    let (mut near, mut far) = duplex(16);
    let address = Address::new(&BASE.parse().expect("a URL")).expect("a host");
    let mut outgoing = request.to_http(&address, version);
    let writing = async {
        let written = std::future::poll_fn(|context| outgoing.poll_write(&mut near, context)).await;
        written.expect("written");
        drop(near);
    };
    let mut got = String::new();
    let (read, ()) = tokio::join!(far.read_to_string(&mut got), writing);
    read.expect("read");
    got
}

/// What hyper's server makes of it.
async fn parsed(bytes: &str) -> http::Request<String> {
    let (mut near, far) = duplex(bytes.len());
    tokio::io::AsyncWriteExt::write_all(&mut near, bytes.as_bytes()).await.expect("written");
    let (tell, mut told) = mpsc::unbounded_channel();
    let service = service_fn(|request: http::Request<Incoming>| {
        let tell = tell.clone();
        async move {
            let (head, body) = request.into_parts();
            let body = body.collect().await.expect("a body").to_bytes();
            let body = String::from_utf8(body.to_vec()).expect("text");
            tell.send(http::Request::from_parts(head, body)).expect("somebody waits");
            Ok::<_, Infallible>(http::Response::new(Empty::<Bytes>::new()))
        }
    });
    let serving = http1::Builder::new().serve_connection(TokioIo::new(far), service);
    tokio::select! {
        request = told.recv() => request.expect("a request"),
        ended = serving => {
            ended.expect("it is HTTP");
            told.recv().await.expect("a request")
        }
    }
}

fn agent() -> AgentId {
    AgentId::parse("1001", &DEFAULT_AGENT_IDS).expect("an agent")
}

fn plain(command: &Command, body: Option<Bytes>) -> Request<'_> {
    let (session, stage, trace) = (None, Stage::Answer, Trace::default());
    Request { command, agent: agent(), session, body, stage, trace }
}

/// A server may refuse a POST or PUT that has no length, and need not expect one of others that have no body.
#[tokio::test]
async fn only_a_post_or_put_without_a_body_says_that_there_is_none() {
    for (interface, body, length) in [
        (&SAY_BUSY, None, Some("0")),
        (&AGENT_STATUS, None, None),
        (&SIGN_OUT, None, None),
        (&UPDATE_GUID, None, Some("0")),
        (&SIGN_IN, Some("{}"), Some("2")),
    ] {
        let command = Command::plain(interface);
        let request = plain(&command, body.map(Bytes::from));
        let request = parsed(&bytes(&request, Version::HTTP_11).await).await;
        assert_eq!(request.headers()[HOST], "gateway.example:8043");
        let found = request.headers().get(CONTENT_LENGTH);
        let found = found.map(|value| value.to_str().expect("text"));
        assert_eq!(found, length, "{} {body:?}", request.method());
    }
}

/// The header is documented as "Guid", and clients of some gateways depend on its case.
#[tokio::test]
async fn a_request_is_written_as_gateways_know_it() {
    let session = session("a.N1", "b=c");
    let command = say_busy(Some(200), None);
    let request = Request { session: Some(&session), ..plain(&command, None) };
    for (version, number, last) in [
        (Version::HTTP_11, "1.1", ""),
        // It would close the connection otherwise.
        (Version::HTTP_10, "1.0", "Connection: keep-alive\r\n"),
    ] {
        let expected = format!(
            "POST /x/onlineagent/1001/saybusy?reason=200 HTTP/{number}\r\n\
             Host: gateway.example:8043\r\n\
             Content-Type: application/json; charset=UTF-8\r\n\
             Accept-Encoding: identity\r\n\
             Guid: a.N1\r\n\
             Cookie: b=c\r\n\
             Content-Length: 0\r\n\
             {last}\r\n"
        );
        assert_eq!(bytes(&request, version).await, expected);
    }
    let absent = Session { guid: Guid::absent(), ..session };
    let request = Request { session: Some(&absent), ..plain(&command, None) };
    assert!(!bytes(&request, Version::HTTP_11).await.contains("Guid"));
}

/// A session with this Guid and this cookie.
fn session(guid: &str, cookie: &str) -> Session {
    let session = Session {
        guid: Guid::parse(guid).expect("a Guid"),
        origin: Origin::Registered,
        version: 1,
        made: 1,
        renewed_at: SystemTime::UNIX_EPOCH,
        expires_at: None,
        cookies: Cookies::default(),
    };
    session.cookies.set(&cookie.parse().expect("a value"), None);
    session
}

proptest! {
    #[test]
    fn a_server_reads_what_was_to_be_written(
        guid in "[!-~&&[^=;,\"']]{2,80}",
        cookie in "[a-z]{1,9}=[ -~&&[^;]]{0,80}",
        body in prop::option::of("[ -~\\r\\n]{1,2000}"),
        seconds in 0..86_400_u32,
        cause in 0..256_i32,
        prolong: Option<bool>,
        is_old: bool,
    ) {
        let session = session(&guid, &cookie);
        let command = match body {
            Some(_) => Command::plain(&SIGN_IN),
            None => rest(seconds, cause, prolong),
        };
        let sent = body.clone().map(Bytes::from);
        let request = Request { session: Some(&session), ..plain(&command, sent) };
        let version = if is_old { Version::HTTP_10 } else { Version::HTTP_11 };
        let runtime = runtime::Builder::new_current_thread().build().expect("a runtime");
        let read = runtime.block_on(async { parsed(&bytes(&request, version).await).await });
        prop_assert_eq!(read.method(), &command.interface.method);
        let target = format!("/x/onlineagent/1001{}{}", command.interface.tail, command.arguments);
        prop_assert_eq!(read.uri().to_string(), target);
        prop_assert_eq!(read.version(), version);
        let text = |value: &HeaderValue| value.to_str().expect("text").to_owned();
        let header = |name: &str| read.headers().get(name).map(text).unwrap_or_default();
        let cookies = session.cookies.header().expect("there is one");
        prop_assert_eq!(header("guid"), guid);
        prop_assert_eq!(header("cookie"), text(&cookies));
        prop_assert_eq!(header("content-type"), "application/json; charset=UTF-8");
        prop_assert_eq!(header("accept-encoding"), "identity");
        prop_assert_eq!(header("connection"), if is_old { "keep-alive" } else { "" });
        prop_assert_eq!(read.headers().len(), if is_old { 7 } else { 6 });
        prop_assert_eq!(read.body(), body.as_deref().unwrap_or_default());
    }
}
