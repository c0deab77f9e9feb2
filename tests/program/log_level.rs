//! The log's filter can be changed while the program runs.

use ccgateway_bridge::rpc::proto::SignInRequest;
use ccgateway_test_support::{Clients, PASSWORD, within};

use crate::support::start;

#[tokio::test]
async fn the_log_s_filter_is_changed_by_the_admin_port() {
    let program = start("", &["--log-filter", "warn,ccgateway_bridge=info"]).await;
    let configured = "configured: warn,ccgateway_bridge=info\n";
    let (status, shown) = program.ask("GET /log", "").await;
    assert_eq!((status, shown), (200, format!("filter: warn,ccgateway_bridge=info\n{configured}")));

    let (status, shown) = program.ask("PUT /log", "ccgateway_bridge=debug\n").await;
    assert_eq!((status, shown), (200, format!("filter: ccgateway_bridge=debug\n{configured}")));
    let (agent_id, password) = ("1001".to_owned(), Some(PASSWORD.to_owned()));
    let sign_in = SignInRequest { agent_id, password, ..<_>::default() };
    Clients::of(program.grpc).sessions.sign_in(sign_in).await.expect("signed in");
    let debug = program.printed("\"level\":\"DEBUG\"").await;
    assert!(debug.contains("\"to\":\"ccgateway_bridge=debug\""), "{debug}");
    assert!(debug.contains("\"by\":\"PUT /log\""), "{debug}");
}

#[tokio::test]
async fn another_method_than_those_for_the_filter_is_told_which_they_are() {
    let program = start("", &["--log-filter", "info"]).await;
    for request in ["POST /log", "DELETE /log"] {
        let (status, said) = program.ask(request, "debug").await;
        assert_eq!(status, 405, "{request}: {said}");
        assert!(said.contains("allowed are: GET, HEAD, PUT\n"), "{request}: {said}");
    }
}

#[tokio::test]
async fn a_filter_for_a_time_ends_by_itself() {
    let program = start("", &["--log-filter", "info"]).await;
    let (status, shown) = program.ask("PUT /log?for=1h", "debug").await;
    assert_eq!(status, 200);
    assert!(shown.starts_with("filter: debug\nconfigured: info\nuntil: 2"), "{shown}");
    // The shorter time takes the place of the longer one, and the filter before both comes back.
    let (status, _) = program.ask("PUT /log?for=1s", "trace").await;
    assert_eq!(status, 200);
    program.printed("\"to\":\"info\",\"by\":\"its time has passed\"").await;
    let (_, shown) = program.ask("GET /log", "").await;
    assert_eq!(shown, "filter: info\nconfigured: info\n");
}

#[tokio::test]
async fn signals_log_more_and_as_configured() {
    let program = start("", &["--log-filter", "info"]).await;
    program.signal("-USR1");
    program.printed("\"to\":\"info,ccgateway_bridge=debug\",\"by\":\"SIGUSR1\"").await;
    program.signal("-USR2");
    program.printed("\"to\":\"info\",\"by\":\"SIGUSR2\"").await;
}

#[tokio::test]
async fn what_is_no_filter_changes_nothing() {
    let program = start("", &["--log-filter", "info"]).await;
    let long = "x".repeat(1025);
    for (request, body, status, said) in [
        ("PUT /log", "=x=", 400, "the filter cannot be read"),
        ("PUT /log", "a=loud", 400, "the filter cannot be read"),
        ("PUT /log", " \n", 400, "the filter is empty"),
        ("PUT /log", "info\nforged", 400, "control characters"),
        ("PUT /log", long.as_str(), 413, "1024 bytes"),
        ("PUT /log?for=soon", "debug", 400, "such as 10m"),
        ("PUT /log?for=0s", "debug", 400, "1s to 24h"),
        ("PUT /log?for=25h", "debug", 400, "1s to 24h"),
        ("PUT /log?until=noon", "debug", 400, "for=TIME"),
        ("PUT /log\nOrigin: http://elsewhere", "debug", 403, "a web page"),
        ("POST /log", "debug", 405, "/log"),
        ("DELETE /log", "", 405, "/log"),
        ("PUT /readyz", "", 405, "/log"),
    ] {
        let (code, answer) = program.ask(request, body).await;
        assert_eq!(code, status, "{request} {body}: {answer}");
        assert!(answer.contains(said), "{request} {body}: {answer}");
    }
    let (_, shown) = program.ask("GET /log", "").await;
    assert_eq!(shown, "filter: info\nconfigured: info\n");
}

/// A value that a filter looks for in spans is text, not a pattern: a pattern's automaton can take
/// any amount of memory.
#[tokio::test]
async fn a_filter_from_outside_is_never_compiled_as_a_pattern() {
    let program = start("", &["--log-filter", "info"]).await;
    let pattern = format!("[call{{agent=(a|b)*a{}}}]=trace", "(a|b)".repeat(30));
    let asked = program.ask("PUT /log", &pattern);
    let (status, shown) = within("the answer", asked).await;
    assert_eq!(status, 200, "{shown}");
}
