//! Status lines and header lines.

use std::fmt::Write as _;

use ccgateway_test_support::raw_gateway::{ACCEPTED, Step, accepting};

use super::{Case, Told, accepted, check, last, told, unanswered};

const REFUSED: &str = r#"{"message":"busy","retcode":"100-009"}"#;

/// An accepting answer with this status line and these header lines.
fn under(status: &str, headers: &str) -> String {
    format!("{status}\r\n{headers}Content-Length: {}\r\n\r\n{ACCEPTED}", ACCEPTED.len())
}

fn bytes(before: &str, odd: &[u8], after: &str) -> Vec<u8> {
    let whole = accepting(&format!("{before}@@{after}\r\n"));
    let at = whole.windows(2).position(|pair| pair == b"@@").expect("there");
    [&whole[..at], odd, &whole[at + 2..]].concat()
}

/// This many header lines, before the length of the body and after it.
fn many(count: usize) -> String {
    let half = (0..count / 2).fold(String::new(), |mut lines, number| {
        let _written = write!(lines, "X-{number}: y\r\n");
        lines
    });
    let length = REFUSED.len();
    format!("HTTP/1.1 200 OK\r\n{half}Content-Length: {length}\r\n{half}\r\n{REFUSED}")
}

fn lines() -> Vec<Case> {
    let refused = |name, bytes: String| told(name, bytes, Told::Refused("100-009".into()));
    let length = ACCEPTED.len();
    vec![
        accepted("a space before the colon", accepting("Server : x\r\nX-A\t: y\r\n")),
        accepted("a space before the colon of the length", {
            format!("HTTP/1.1 200 OK\r\nContent-Length : {length}\r\n\r\n{ACCEPTED}")
        }),
        accepted("a folded line", accepting("X-A: one\r\n two\r\n\tthree\r\n")),
        accepted("a folded length", {
            format!("HTTP/1.1 200 OK\r\nContent-Length:\r\n {length}\r\n\r\n{ACCEPTED}")
        }),
        accepted("a fold after the status line", under("HTTP/1.1 200 OK", " x\r\n")),
        accepted("a line without a colon", accepting("nonsense\r\n")),
        accepted("a line without a name", accepting(": nameless\r\n")),
        accepted("a name with other characters", accepting("X(1)/2 3: y\r\n")),
        accepted("a value outside ASCII", bytes("X-A: ", b"\xe5\x9d\x90\xff", "")),
        accepted("a name outside ASCII", bytes("", b"\xe5\x9d\x90\xff", ": y")),
        accepted("a control character", bytes("X-A: ", b"\x01\x7f", "")),
        accepted("an empty value", accepting("X-A:\r\nX-B: \r\n")),
        accepted("bare line feeds", {
            format!("HTTP/1.1 200 OK\nX-A: y\nContent-Length: {length}\n\n{ACCEPTED}")
        }),
        accepted("some bare line feeds", {
            format!("HTTP/1.1 200 OK\r\nX-A: y\nContent-Length: {length}\r\n\n{ACCEPTED}")
        }),
        accepted("the same length twice", accepting(&format!("content-length: {length}\r\n"))),
        accepted("the same length in a list", {
            format!("HTTP/1.1 200 OK\r\nContent-Length: {length}, {length}\r\n\r\n{ACCEPTED}")
        }),
        accepted("a transfer that is not coded", accepting("Transfer-Encoding: Identity\r\n")),
        refused("101 header lines", many(100)),
        refused("many header lines", many(5000)),
        accepted("long header lines", accepting(&format!("X-A: {}\r\n", "y".repeat(60_000)))),
        accepted("cookies without end", accepting(&"Set-Cookie: a=b\r\n".repeat(1000))),
        last("a head that is too long", many(16_000), Step::Hang, unanswered("64 KiB")),
        last("a head without end", "HTTP/1.1 200 OK\r\n", Step::Flood(b"X: y\r\n".repeat(100)), {
            unanswered("64 KiB")
        }),
        last("a line without end", "HTTP/1.1 200 OK\r\nX: ", Step::Flood(vec![b'y'; 1000]), {
            unanswered("64 KiB")
        }),
        last("two different lengths", accepting("Content-Length: 7\r\n"), Step::Hang, {
            unanswered("")
        }),
    ]
}

fn status_lines() -> Vec<Case> {
    vec![
        accepted("no phrase", under("HTTP/1.1 200", "")),
        accepted("a space and no phrase", under("HTTP/1.1 200 ", "")),
        accepted("a phrase of several words", under("HTTP/1.1 200 all is well", "")),
        accepted("lower case", under("http/1.1 200 ok", "")),
        accepted("several spaces", under("HTTP/1.1  200  OK", "")),
        accepted("a phrase outside ASCII", under("HTTP/1.1 200 d\u{e9}j\u{e0}", "")),
        accepted("an empty line before it", under("\r\nHTTP/1.1 200 OK", "")),
        last("another protocol", "SSH-2.0-OpenSSH_9.6\r\n", Step::Hang, unanswered("")),
        last("not a line", "hello", Step::Hang, unanswered("")),
        last("nothing", "", Step::Close, unanswered("closed")),
        last("a part of it", "HTTP/1.1 2", Step::Close, unanswered("closed")),
        last("a part of the head", "HTTP/1.1 200 OK\r\nX: y\r\n", Step::End, unanswered("closed")),
    ]
}

/// An answer whose every byte comes by itself is read as one that comes at once.
fn bytewise(case: Case) -> Case {
    let split = |step| match step {
        Step::Send(bytes) if bytes.len() < 1024 => {
            bytes.into_iter().map(|byte| Step::Send(vec![byte])).collect()
        }
        step => vec![step],
    };
    Case { script: case.script.into_iter().flat_map(split).collect(), ..case }
}

#[tokio::test]
async fn odd_header_lines_do_not_matter() {
    check("", lines).await;
}

#[tokio::test]
async fn odd_status_lines_do_not_matter() {
    check("", status_lines).await;
}

#[tokio::test]
async fn odd_heads_do_not_matter_if_they_come_byte_by_byte() {
    check("", || lines().into_iter().chain(status_lines()).map(bytewise).collect()).await;
}
