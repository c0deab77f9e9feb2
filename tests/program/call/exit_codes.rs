//! The exit codes of `call`, also for answers that no bridge made.

use std::{collections::HashMap, convert::Infallible, fmt::Display, net::SocketAddr};

use ccgateway_bridge::rpc::ERROR_DOMAIN;
use ccgateway_sim::{Fault, Interface, Misbehaviour};
use ccgateway_test_support::run;
use http::{Request, Response, StatusCode};
use hyper::{body::Incoming, server::conn::http2, service::service_fn};
use hyper_util::rt::{TokioExecutor, TokioIo};
use serde_json::Value;
use tokio::{io::AsyncReadExt as _, net::TcpListener, process::Command};
use tonic::{Code, Status, body::Body};
use tonic_types::{ErrorDetails, StatusExt as _};

use crate::support::{bridge, register, start, tls};

const LOOK: &str = "look before trying again";

/// Something that takes calls and answers each like this.
async fn answering(answer: impl Fn() -> Response<Body> + Clone + Send + 'static) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let addr = listener.local_addr().expect("bound");
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let answer = answer.clone();
            let service = service_fn(move |_request: Request<Incoming>| {
                let answer = answer();
                async { Ok::<_, Infallible>(answer) }
            });
            let connection = http2::Builder::new(TokioExecutor::new());
            tokio::spawn(connection.serve_connection(TokioIo::new(stream), service));
        }
    });
    addr
}

/// A status whose `ErrorInfo` has this domain and, where there is one, this outcome.
fn error(domain: &str, outcome: Option<&str>) -> Status {
    let mut details = ErrorDetails::new();
    let metadata = outcome.map(|outcome| ("outcome".to_owned(), outcome.to_owned()));
    let metadata: HashMap<_, _> = metadata.into_iter().collect();
    details.set_error_info("SOME_REASON", domain, metadata);
    Status::with_error_details(Code::FailedPrecondition, "so it is", details)
}

fn set_busy(addr: impl Display, more: &[&str]) -> Command {
    call("set-busy", addr, more)
}

fn call(method: &str, addr: impl Display, more: &[&str]) -> Command {
    let mut command = bridge();
    command.args(["call", method, "--agent", "1001", "--addr", &addr.to_string()]).args(more);
    command
}

/// The outcome in an error that was printed as JSON.
fn outcome(printed: &str) -> String {
    let answer: Value = serde_json::from_str(printed).unwrap_or_else(|_| panic!("{printed}"));
    answer["error"]["outcome"].as_str().unwrap_or_else(|| panic!("{printed}")).to_owned()
}

#[tokio::test]
async fn only_the_bridges_word_for_it_leaves_the_agent_as_it_was() {
    for (domain, said, code, shown, words) in [
        (ERROR_DOMAIN, Some("not_sent"), 1, "not_sent", "the gateway was not asked"),
        (ERROR_DOMAIN, Some("refused"), 1, "refused", "the gateway refused"),
        (ERROR_DOMAIN, Some("unknown"), 3, "unknown", LOOK),
        (ERROR_DOMAIN, Some("half_done"), 3, "unknown", "half_done, which this program does not"),
        (ERROR_DOMAIN, Some(""), 3, "unknown", LOOK),
        (ERROR_DOMAIN, None, 3, "unknown", LOOK),
        ("proxy.example", Some("not_sent"), 3, "unknown", LOOK),
    ] {
        let addr = answering(move || error(domain, said).into_http()).await;
        let (exit, printed) = run(set_busy(addr, &[])).await;
        assert_eq!(exit, Some(code), "{domain} {said:?}: {printed}");
        assert!(printed.contains(words), "{domain} {said:?}: {printed}");
        let (exit, printed) = run(set_busy(addr, &["--json"])).await;
        assert_eq!((exit, &*outcome(&printed)), (Some(code), shown), "{domain} {said:?}");
    }
}

#[tokio::test]
async fn a_question_without_an_answer_leaves_the_agent_as_it_was() {
    for method in ["get-state", "get-session"] {
        let addr = answering(|| error(ERROR_DOMAIN, Some("unknown")).into_http()).await;
        let (exit, printed) = run(call(method, addr, &[])).await;
        assert_eq!(exit, Some(1), "{printed}");
        assert!(printed.contains("this call changes nothing"), "{printed}");
        let (exit, printed) = run(call(method, addr, &["--json"])).await;
        assert_eq!((exit, &*outcome(&printed)), (Some(1), "unknown"), "{printed}");
    }
}

#[tokio::test]
async fn an_answer_that_is_not_the_bridges_says_nothing_of_the_agent() {
    let bare = |code| move || Status::new(code, "a proxy").into_http();
    let page = || {
        let mut page = Response::new(Body::empty());
        *page.status_mut() = StatusCode::SERVICE_UNAVAILABLE;
        page
    };
    for addr in [
        answering(bare(Code::Unavailable)).await,
        answering(bare(Code::Unimplemented)).await,
        answering(bare(Code::Ok)).await,
        answering(page).await,
        answering(|| Response::new(Body::empty())).await,
    ] {
        let (exit, printed) = run(set_busy(addr, &[])).await;
        assert_eq!(exit, Some(3), "{printed}");
        assert!(printed.contains(LOOK), "{printed}");
    }
}

#[tokio::test]
async fn a_connection_that_ends_without_an_answer_says_nothing_of_the_agent() {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let addr = listener.local_addr().expect("bound");
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            let mut some = [0; 24];
            let _read = stream.read(&mut some).await;
        }
    });
    let (exit, printed) = run(set_busy(addr, &[])).await;
    assert_eq!(exit, Some(3), "{printed}");
    assert!(printed.contains(LOOK), "{printed}");
}

#[tokio::test]
async fn a_peer_that_is_silent_may_have_been_asked_once_it_has_a_connection() {
    // The kernel takes connections for it.
    let silent = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
    let addr = silent.local_addr().expect("bound");
    let (exit, printed) = run(set_busy(addr, &["--deadline", "100ms"])).await;
    assert_eq!(exit, Some(3), "{printed}");

    // With TLS there is no connection before the handshake, so no request was written.
    let files = tempfile::TempDir::new().expect("a folder");
    let (_, pem) = tls(&files);
    let (exit, printed) =
        run(set_busy(addr, &["--deadline", "100ms", "--ca", &pem, "--json"])).await;
    assert_eq!((exit, &*outcome(&printed)), (Some(2), "not_sent"), "{printed}");
}

#[tokio::test]
async fn what_is_accepted_and_not_confirmed_has_a_code_of_its_own() {
    let program = start("", &[]).await;
    // Its owner keeps the session, so the bridge sees none of the agent's events.
    register(&program, 1001).await;
    let addr = program.grpc;
    let (exit, printed) = run(set_busy(addr, &["--reason", "200"])).await;
    assert_eq!(exit, Some(0), "{printed}");
    let wanted = ["--reason", "201", "--prolong", "--confirm-within", "5s"];
    let (exit, printed) = run(set_busy(addr, &wanted)).await;
    assert_eq!(exit, Some(4), "{printed}");
    assert!(printed.contains("OK: accepted, not confirmed"), "{printed}");
}

#[tokio::test]
async fn an_outcome_that_the_bridge_does_not_know_is_told_from_a_refusal() {
    let program = start("", &[]).await;
    register(&program, 1001).await;
    let cut = Misbehaviour::once(Fault::CutBeforeAnswer).on(Interface::SayBusy);
    program.gateway.misbehave(cut);
    let (exit, printed) = run(set_busy(program.grpc, &[])).await;
    assert_eq!(exit, Some(3), "{printed}");
    assert!(printed.contains("GATEWAY_NO_ANSWER"), "{printed}");
}

#[tokio::test]
async fn times_that_nobody_waits_for_are_a_mistake() {
    for time in ["367days", "584554049253y", "18446744073709551615s"] {
        for flag in ["--deadline", "--confirm-within"] {
            let (exit, printed) = run(set_busy("127.0.0.1:1", &[flag, time])).await;
            assert_eq!(exit, Some(2), "{flag} {time}: {printed}");
            assert!(printed.contains(flag) && !printed.contains("panicked"), "{printed}");
        }
    }
    let longest = ["--deadline", "366days", "--confirm-within", "366days"];
    let (exit, printed) = run(set_busy("127.0.0.1:1", &longest)).await;
    assert_eq!(exit, Some(2), "{printed}");
    assert!(printed.contains("Connection refused"), "{printed}");
}
