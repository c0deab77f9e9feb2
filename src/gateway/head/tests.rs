use http::{
    HeaderName,
    header::{CONTENT_TYPE, DATE, SET_COOKIE},
};
use proptest::prelude::*;

use super::*;

/// The head of these bytes, which come in pieces of this length, and what comes after it. `None` if it is not complete.
fn read(bytes: &[u8], piece: usize) -> Result<Option<(Head, Vec<u8>)>, BadHead> {
    let (mut heads, mut come) = (HeadReader::default(), Vec::new());
    for piece in bytes.chunks(piece) {
        come.extend_from_slice(piece);
        if let Some((head, end)) = heads.read(&mut come)? {
            return Ok(Some((head, bytes[end..].to_vec())));
        }
    }
    Ok(None)
}

const PIECES: [usize; 6] = [1, 2, 3, 7, 64, 100_000];

#[track_caller]
fn good(bytes: &str) -> Head {
    let read = |piece| read(bytes.as_bytes(), piece);
    for piece in PIECES {
        assert!(matches!(read(piece), Ok(Some(_))), "{bytes:?} in pieces of {piece}");
    }
    read(1).ok().flatten().expect("it is good").0
}

#[track_caller]
fn bad(bytes: &[u8], expected: BadHead) {
    for piece in PIECES {
        let found = read(bytes, piece).err();
        assert_eq!(found, Some(expected), "{} in pieces of {piece}", bytes.escape_ascii());
    }
}

/// A head with these header lines.
fn with(lines: &str) -> String {
    format!("HTTP/1.1 200 OK\r\n{lines}\r\n")
}

#[track_caller]
fn header(lines: &str, name: &HeaderName, expected: &[&str]) {
    let head = good(&with(lines));
    let found = head.headers.get_all(name).iter();
    let found: Vec<_> = found.map(|value| value.to_str().expect("text")).collect();
    assert_eq!(found, expected, "{lines:?}");
}

#[test]
fn status_lines_are_read_as_servers_write_them() {
    let (old, new) = (Version::HTTP_10, Version::HTTP_11);
    for (line, version, status) in [
        ("HTTP/1.1 200 OK\r\n", new, 200),
        ("HTTP/1.1 200\r\n", new, 200),
        ("HTTP/1.1 200 \r\n", new, 200),
        ("HTTP/1.1 200\n", new, 200),
        ("HTTP/1.0 404 all is not well\r\n", old, 404),
        ("http/1.0 200 ok\r\n", old, 200),
        ("HTTP/1.1   404  x\r\n", new, 404),
        ("HTTP/1.1 999 d\u{e9}j\u{e0}\t\r\n", new, 999),
        ("\r\n\n\r\nHTTP/1.1 200 OK\r\n", new, 200),
    ] {
        let head = good(&format!("{line}\r\n"));
        assert_eq!((head.version, head.status.as_u16()), (version, status), "{line:?}");
    }
}

#[test]
fn what_is_no_status_line_is_refused_before_its_end() {
    for other in ["SSH-2.0-x", "hello", "<html>", "\0", "\rHTTP/1.1 200 OK\r\n", "HTTP/2"] {
        bad(other.as_bytes(), BadHead::Version);
    }
    for (line, expected) in [
        ("HTTP/1.2 200 OK", BadHead::Version),
        ("HTTP/1.1200 OK", BadHead::Version),
        ("HTTP/1.1\t200 OK", BadHead::Version),
        ("HTTP/1.1", BadHead::Version),
        ("HTTP/1.1 ", BadHead::Status),
        ("HTTP/1.1 no status", BadHead::Status),
        ("HTTP/1.1 20", BadHead::Status),
        ("HTTP/1.1 099 x", BadHead::Status),
        ("HTTP/1.1 2000 x", BadHead::Status),
        ("HTTP/1.1 200 x\0", BadHead::Status),
        ("HTTP/1.1 200 x\ry", BadHead::Status),
    ] {
        bad(format!("{line}\r\n").as_bytes(), expected);
    }
}

#[test]
fn interim_answers_are_left_out() {
    let interim = "HTTP/1.1 100 Continue\r\n\r\nhttp/1.1 103\nDate: x\n y\n\n\r\n";
    let head = good(&format!("{interim}HTTP/1.1 404 x\r\n\r\n"));
    assert_eq!((head.status.as_u16(), head.headers.len()), (404, 0));
    let many = |count| "HTTP/1.1 102 x\r\n\r\n".repeat(count);
    assert!(matches!(read(many(MAX_INTERIM).as_bytes(), 100), Ok(None)));
    bad(many(MAX_INTERIM + 1).as_bytes(), BadHead::Interim);
    let switched = good("HTTP/1.1 101 x\r\n\r\nHTTP/1.1 200 OK\r\n\r\n");
    assert_eq!((switched.status.as_u16(), switched.keeps_open), (101, false));
}

#[test]
fn of_header_lines_those_that_are_used_are_kept() {
    header("Date: x\r\nServer: y\r\ndate:z\r\n", &DATE, &["x", "z"]);
    header("DATE \t:\t x \t\r\n", &DATE, &["x"]);
    header("Date:\r\nDate: \r\n", &DATE, &["", ""]);
    header("Date: x\nDate: y\r\n", &DATE, &["x", "y"]);
    header(": nameless\r\nnonsense\r\nX(1)/2 3: y\r\n\u{e9}: y\r\nDate: x\r\n", &DATE, &["x"]);
    header("Date: x\u{1}\r\nDate: \u{7f}\r\nDate: y\r\n", &DATE, &["y"]);
    let named = "set-guid guid json-type keep-alive location retry-after content-encoding";
    for name in named.split(' ') {
        header(&format!("{name}: x\r\n"), &name.parse().expect("a name"), &["x"]);
    }
    let head = good(&with(&"Set-Cookie: a=b\r\nX: y\r\n".repeat(1000)));
    assert_eq!(head.headers.get_all(SET_COOKIE).iter().count(), head.headers.len());
    assert_eq!(head.headers.len(), 100);
}

#[test]
fn a_line_may_go_on_in_the_next() {
    header("Date: one\r\n two\r\n\tthree\r\n", &DATE, &["one   two  \tthree"]);
    header("Date:\n one\r\n \r\nServer: y\r\n", &DATE, &["one"]);
    // The first one continues none.
    header(" x\r\n\tDate: y\r\nDate: z\r\n", &DATE, &["z"]);
    header("Server: x\r\n Date: y\r\nDate: z\r\n", &DATE, &["z"]);
    // A name does not go on in the next line.
    header("Date\r\n : x\r\n y\r\nDate: z\r\n", &DATE, &["z"]);
    header("Date: x\r\n \u{1}\r\n y\r\n", &DATE, &[]);
    header("Content-Type: x;\r\n charset=GBK\r\n", &CONTENT_TYPE, &["x;   charset=GBK"]);
}

#[test]
fn lines_in_which_others_could_be_hidden_are_refused() {
    for line in ["X: \0", "\0", "X\0: y", "X: y\rDate: z", "X\r: y", "\r", "Date: x\r\n y\rz"] {
        bad(with(&format!("{line}\r\n")).as_bytes(), BadHead::Line);
    }
}

#[test]
fn a_body_ends_where_the_head_says() {
    use Length::{Bytes, Chunked, ToTheEnd};
    for (lines, expected) in [
        ("", Ok(ToTheEnd)),
        ("Content-Length: 15\r\n", Ok(Bytes(15))),
        ("Content-Length:\r\n 015\r\n", Ok(Bytes(15))),
        ("Content-Length: 7\r\ncontent-length: 7, 7\r\n", Ok(Bytes(7))),
        ("Content-Length: 7\r\nContent-Length: 8\r\n", Err(BadHead::Length)),
        ("Content-Length: 7, 8, 7\r\n", Err(BadHead::Length)),
        ("Content-Length: +7\r\n", Err(BadHead::Length)),
        ("Content-Length: 7 7\r\n", Err(BadHead::Length)),
        ("Content-Length:\r\n", Err(BadHead::Length)),
        ("Content-Length: 99999999999999999999\r\n", Err(BadHead::Length)),
        ("Transfer-Encoding: chunked\r\nContent-Length: x\r\n", Ok(Chunked)),
        ("Transfer-Encoding: gzip, Chunked\r\n", Ok(Chunked)),
        ("Transfer-Encoding: gzip\r\nTransfer-Encoding: chunked\r\n", Ok(Chunked)),
        ("Transfer-Encoding: chunked, gzip\r\n", Ok(ToTheEnd)),
        ("Transfer-Encoding: \u{e9}, chunked\r\n", Ok(ToTheEnd)),
        ("Transfer-Encoding :  Identity \r\nContent-Length: 7\r\n", Ok(Bytes(7))),
    ] {
        match expected {
            Ok(length) => assert_eq!(good(&with(lines)).length, length, "{lines:?}"),
            Err(error) => bad(with(lines).as_bytes(), error),
        }
    }
    for status in [101, 204, 304] {
        let head = good(&format!("HTTP/1.1 {status}\r\nContent-Length: x\r\n\r\n"));
        assert_eq!(head.length, Bytes(0), "{status}");
    }
    bad(b"HTTP/1.0 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n", BadHead::TransferEncoding);
}

#[test]
fn a_connection_stays_open_as_the_head_says_or_the_version() {
    for (version, lines, keeps_open) in [
        ("1.1", "", true),
        ("1.0", "", false),
        ("1.1", "Connection: close\r\n", false),
        ("1.0", "Connection: x,Keep-Alive\r\n", true),
        ("1.1", "Connection: keep-alive\r\nConnection: x, CLOSE\r\n", false),
        ("1.0", "Connection: close\r\nConnection: keep-alive\r\n", false),
        ("1.1", "Connection: closed\r\n", true),
        ("1.1", "Connection: close, \u{e9}\r\n", true),
    ] {
        let head = good(&format!("HTTP/{version} 200 OK\r\n{lines}\r\n"));
        assert_eq!(head.keeps_open, keeps_open, "{version} {lines:?}");
    }
}

#[test]
fn the_length_of_all_heads_has_a_bound() {
    for endless in ["X: y\r\n", "X", "HTTP/1.1 103 x\r\n", "\r\n"] {
        let bytes = format!("HTTP/1.1 103 x\r\n{}", endless.repeat(MAX_HEAD_BYTES));
        assert_eq!(read(bytes.as_bytes(), 999).err(), Some(BadHead::TooLong), "{endless:?}");
    }
    let (begin, end) = ("HTTP/1.1 200 OK\r\nX: ", "\r\n\r\n");
    let rest = MAX_HEAD_BYTES - begin.len() - end.len();
    for (length, expected) in [(rest, None), (rest + 1, Some(BadHead::TooLong))] {
        let head = format!("{begin}{}{end}{{}}", "y".repeat(length));
        assert_eq!(read(head.as_bytes(), 999).err(), expected);
    }
}

proptest! {
    #[test]
    fn it_does_not_matter_how_the_bytes_are_divided(
        lines in prop::collection::vec("[ \\tXxTtDate:/.0-9HTPhtp\\r\\n]{0,80}\\r?\\n?", 0..12),
        piece in 1..90_usize,
    ) {
        let bytes = format!("HTTP/1.1 {}", lines.concat());
        let shown = |piece| {
            read(bytes.as_bytes(), piece).map(|read| {
                read.map(|(head, rest)| (head.status, head.headers, head.length, rest))
            })
        };
        prop_assert_eq!(shown(piece), shown(usize::MAX));
    }
}
