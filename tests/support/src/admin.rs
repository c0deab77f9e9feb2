//! Requests to a bridge's admin port.

use std::{collections::HashMap, net::SocketAddr};

use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
};

use crate::hides_secrets;

/// Makes one request over plain HTTP, such as `GET /log`. More headers may follow in `request`, each after
/// a line break. Returns the head of the answer and its body.
pub(crate) async fn ask(addr: SocketAddr, request: &str, body: &str) -> (String, String) {
    let (line, headers) = request.split_once('\n').unwrap_or((request, ""));
    let headers = if headers.is_empty() { "" } else { &(headers.replace('\n', "\r\n") + "\r\n") };
    let length = body.len();
    let text = format!(
        "{line} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\nContent-Length: {length}\r\n{headers}\r\n{body}"
    );
    let mut stream = TcpStream::connect(addr).await.expect("connected");
    stream.write_all(text.as_bytes()).await.expect("written");
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.expect("read");
    hides_secrets(line, &answer);
    let (head, body) = answer.split_once("\r\n\r\n").expect("a head");
    (head.to_owned(), body.to_owned())
}

/// Every series of `/metrics` by name and labels, with its value.
pub(crate) async fn scrape(addr: SocketAddr) -> HashMap<String, f64> {
    let (head, body) = ask(addr, "GET /metrics", "").await;
    assert!(head.contains("application/openmetrics-text"), "{head}");
    assert!(body.ends_with("# EOF\n"), "{body}");
    let series = body.lines().filter(|line| !line.starts_with('#'));
    let pair = |line: &str| {
        let (name, value) = line.rsplit_once(' ').expect("a value");
        (name.to_owned(), value.parse().expect("a number"))
    };
    series.map(pair).collect()
}
