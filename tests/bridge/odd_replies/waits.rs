//! `Retry-After`, which proxies write in several ways.

use tonic::Code;

use super::{Case, Told, check, told};

fn busy(status: &str, wait: &str) -> String {
    format!("HTTP/1.1 {status}\r\nRetry-After: {wait}\r\nContent-Length: 0\r\n\r\n")
}

fn cases() -> Vec<Case> {
    let unknown = || Told::Unknown(Code::Unknown, "GATEWAY_PROXY_FAILED", "503");
    vec![
        told("a pause", busy("503 x", "7"), Told::Busy(7000)),
        told("a year", busy("503 x", "31536000"), Told::Busy(300_000)),
        told("more than fits", busy("429 x", "99999999999999999999999"), Told::Busy(300_000)),
        told("a far date", busy("503 x", "Fri, 31 Dec 9999 23:59:59 GMT"), Told::Busy(300_000)),
        // The shortest pause there is.
        told("a past date", busy("503 x", "Fri, 01 Jan 1999 00:00:00 GMT"), Told::Busy(1)),
        told("no pause", busy("503 x", "0"), Told::Busy(1)),
        // It does not say when, so it says nothing about the request either.
        told("a word", busy("503 x", "soon"), unknown()),
        told("a negative number", busy("503 x", "-5"), unknown()),
        told("nothing", busy("503 x", ""), unknown()),
        told("too many, and a word", busy("429 x", "soon"), Told::Busy(1000)),
    ]
}

#[tokio::test]
async fn a_pause_that_is_asked_for_has_a_bound() {
    check("", cases).await;
}
