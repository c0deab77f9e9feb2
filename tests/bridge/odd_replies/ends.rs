//! Answers whose end is not marked, or not as it was promised.

use std::time::Duration;

use ccgateway_test_support::raw_gateway::{ACCEPTED, RawGateway, Step};
use futures_util::future::{join, join_all};

use super::{Case, Told, accepted, check, check_one, last, signed_in_at, unanswered, unreadable};

const REFUSED: &str = r#"{"message":"busy","retcode":"100-009"}"#;
const HALF: &str = r#"{"message":"success","retc"#;

fn unended(headers: &str, body: &str) -> String {
    format!("HTTP/1.1 200 OK\r\n{headers}\r\n{body}")
}

fn chunk(body: &str) -> String {
    let length = body.len();
    unended("Transfer-Encoding: chunked\r\n", &format!("{length:x}\r\n{body}\r\n"))
}

fn closed() -> Vec<Case> {
    let mut cases = Vec::new();
    for (name, then) in [
        ("closed without close_notify", Step::Close),
        ("closed with close_notify", Step::End),
        ("reset", Step::Reset),
    ] {
        let accepted = |name, bytes: String| last(name, bytes, then.clone(), Told::Accepted);
        let refused =
            |name, bytes: String| last(name, bytes, then.clone(), Told::Refused("100-009".into()));
        let cut = |name, bytes: String| last(name, bytes, then.clone(), unanswered("cut"));
        cases.extend([
            accepted(name, unended("", ACCEPTED)),
            refused(name, unended("", REFUSED)),
            accepted("said to be closed", unended("Connection: close\r\n", ACCEPTED)),
            accepted("HTTP/1.0", format!("HTTP/1.0 200 OK\r\n\r\n{ACCEPTED}")),
            accepted("HTTP/1.0 without a phrase", format!("HTTP/1.0 200\r\n\r\n{ACCEPTED}")),
            accepted("line breaks after the object", unended("", &format!("{ACCEPTED}\r\n\r\n"))),
            accepted("shorter than promised", unended("Content-Length: 4000\r\n", ACCEPTED)),
            refused("a refusal shorter than promised", unended("Content-Length: 99\r\n", REFUSED)),
            accepted("no last chunk", chunk(ACCEPTED)),
            accepted("a last chunk without its end", format!("{}0\r\n", chunk(ACCEPTED))),
            cut("half an object shorter than promised", unended("Content-Length: 99\r\n", HALF)),
            cut("half an object in a chunk", chunk(HALF)),
            cut("nothing in a chunk", unended("Transfer-Encoding: chunked\r\n", "")),
            cut("nothing of what was promised", unended("Content-Length: 99\r\n", "")),
            cut("no retcode, shorter than promised", unended("Content-Length: 99\r\n", "{}")),
            cut(
                "a page, shorter than promised",
                unended("Content-Length: 99\r\n", "<html></html>"),
            ),
        ]);
    }
    cases.push(last("half an object", unended("", HALF), Step::End, unreadable("not a JSON")));
    cases
}

fn open() -> Vec<Case> {
    vec![
        accepted("HTTP/1.0 that stays open", {
            let length = ACCEPTED.len();
            format!(
                "HTTP/1.0 200 OK\r\nConnection: Keep-Alive\r\nContent-Length: {length}\r\n\r\n\
                 {ACCEPTED}"
            )
        }),
        accepted("two chunks and trailers", {
            let (first, second) = ACCEPTED.split_at(9);
            let chunks = format!("9\r\n{first}\r\n{:X};x=y\r\n{second}\r\n", second.len());
            unended("Transfer-Encoding: chunked\r\n", &format!("{chunks}0\r\nX: y\r\n\r\n"))
        }),
        last(
            "bytes after the answer",
            format!("{}xyz", chunk(ACCEPTED) + "0\r\n\r\n"),
            Step::Pause(Duration::ZERO),
            Told::Accepted,
        ),
    ]
}

fn unending() -> Vec<Case> {
    vec![
        last("no length", unended("", ACCEPTED), Step::Hang, Told::Accepted),
        last("no last chunk", chunk(REFUSED), Step::Hang, Told::Refused("100-009".into())),
        last("shorter", unended("Content-Length: 99\r\n", ACCEPTED), Step::Hang, Told::Accepted),
        last("half an object", unended("", HALF), Step::Hang, unanswered("nothing within")),
        last("no retcode", unended("", "{}"), Step::Hang, unanswered("nothing within")),
    ]
}

#[tokio::test]
async fn a_complete_object_is_an_answer_however_its_connection_ends() {
    check("", closed).await;
}

#[tokio::test]
async fn half_an_object_is_cut_where_tls_was_not_ended() {
    let gateway = RawGateway::tls().await;
    let bridge = signed_in_at(&gateway, "").await;
    let half = last("half an object", unended("", HALF), Step::Close, unanswered("cut"));
    check_one(&bridge, &gateway, half).await;
}

#[tokio::test]
async fn a_connection_is_used_again_if_its_answer_has_an_end() {
    check("", open).await;
}

#[tokio::test]
async fn a_complete_object_is_an_answer_if_nothing_follows_within_the_time_limit() {
    let check = |case, gateway: RawGateway| async move {
        let bridge = signed_in_at(&gateway, "timeouts.request = \"2s\"\n").await;
        check_one(&bridge, &gateway, case).await;
    };
    let plain =
        unending().into_iter().map(async |case| check(case, RawGateway::plain().await).await);
    let tls = unending().into_iter().map(async |case| check(case, RawGateway::tls().await).await);
    // Each of them waits for the time limit.
    join(join_all(plain), join_all(tls)).await;
}
