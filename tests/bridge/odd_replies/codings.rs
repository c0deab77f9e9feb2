//! Bodies with a `Content-Encoding`, which the bridge does not ask for.

use std::io::Write as _;

use ccgateway_test_support::{
    AGENT,
    raw_gateway::{ACCEPTED, RawGateway, answer},
};
use flate2::{
    Compression,
    write::{DeflateEncoder, GzEncoder, ZlibEncoder},
};

use super::{Case, Told, accepted, check, signed_in_at, told, unreadable};

const REFUSED: &str = r#"{"message":"busy","retcode":"100-009"}"#;

fn gzip(plain: &[u8]) -> Vec<u8> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::best());
    encoder.write_all(plain).expect("written");
    encoder.finish().expect("finished")
}

fn zlib(plain: &str) -> Vec<u8> {
    let mut encoder = ZlibEncoder::new(Vec::new(), Compression::best());
    encoder.write_all(plain.as_bytes()).expect("written");
    encoder.finish().expect("finished")
}

fn deflate(plain: &str) -> Vec<u8> {
    let mut encoder = DeflateEncoder::new(Vec::new(), Compression::best());
    encoder.write_all(plain.as_bytes()).expect("written");
    encoder.finish().expect("finished")
}

fn coded(coding: &str, body: impl AsRef<[u8]>) -> Vec<u8> {
    answer(&format!("Content-Encoding: {coding}\r\n"), body)
}

fn no_codings() -> Vec<Case> {
    vec![
        accepted("a charset as the coding", coded("UTF-8", ACCEPTED)),
        accepted("an empty coding", coded("", ACCEPTED)),
        accepted("identity", coded("Identity", ACCEPTED)),
        accepted("none", coded("none", ACCEPTED)),
        accepted("a word nobody knows", coded("x-whatever", ACCEPTED)),
        accepted("bytes outside ASCII", {
            let mut bytes = coded("??", ACCEPTED);
            let at = bytes.windows(2).position(|pair| pair == b"??").expect("there");
            bytes[at..at + 2].copy_from_slice(b"\xe9\xff");
            bytes
        }),
        accepted("gzip that is not", coded("gzip", ACCEPTED)),
        accepted("deflate that is not", coded("deflate", ACCEPTED)),
        accepted("br that is not", coded("br", ACCEPTED)),
        told("a refusal", coded("UTF-8", REFUSED), Told::Refused("100-009".into())),
        told("nothing in a coding", coded("gzip", ""), unreadable("empty")),
        told("a page in no coding", coded("UTF-8", "<html>"), unreadable("web page")),
    ]
}

fn codings() -> Vec<Case> {
    let gzipped = gzip(ACCEPTED.as_bytes());
    let mut damaged = gzipped.clone();
    let checksum = damaged.len() - 6;
    damaged[checksum] ^= 1;
    let cut = &gzipped[..gzipped.len() - 4];
    let twice = gzip(&gzip(ACCEPTED.as_bytes()));
    let members = [gzip(&ACCEPTED.as_bytes()[..9]), gzip(&ACCEPTED.as_bytes()[9..])].concat();
    let bomb = gzip(&vec![b' '; 32 << 20]);
    assert!(bomb.len() < 64 * 1024, "{} bytes", bomb.len());
    vec![
        accepted("gzip", coded("gzip", &gzipped)),
        accepted("gzip by its old name", coded("X-GZIP", &gzipped)),
        accepted("gzip that is not named", answer("", &gzipped)),
        accepted("gzip by a wrong name", coded("deflate", &gzipped)),
        accepted("gzip in a list", coded("gzip, identity", &gzipped)),
        accepted("gzip after others", coded("identity,, UTF-8 , gzip", &gzipped)),
        accepted("gzip twice", coded("gzip, gzip", twice)),
        accepted("gzip in two members", coded("gzip", members)),
        accepted("gzip without its last bytes", coded("gzip", cut)),
        accepted("gzip with bytes after it", coded("gzip", [&gzipped[..], b"\r\n"].concat())),
        accepted("deflate as zlib", coded("deflate", zlib(ACCEPTED))),
        accepted("deflate without zlib", coded("Deflate", deflate(ACCEPTED))),
        accepted("two lines", {
            let both = "Content-Encoding: deflate\r\nContent-Encoding: gzip\r\n";
            answer(both, gzip(&zlib(ACCEPTED)))
        }),
        told("a refusal", coded("gzip", gzip(REFUSED.as_bytes())), {
            Told::Refused("100-009".into())
        }),
        told("gzip with a wrong checksum", coded("gzip", damaged), unreadable("encoding")),
        told("half of it", coded("gzip", &gzipped[..gzipped.len() / 2]), unreadable("")),
        told("an unknown coding", coded("br", b"\x0b\x02\x80ab\x03"), unreadable("encoding")),
        told("a page", coded("gzip", gzip(b"<html></html>")), unreadable("web page")),
        told("a bomb", coded("gzip", bomb), unreadable("longer than 65536 bytes")),
    ]
}

#[tokio::test]
async fn a_content_encoding_that_is_none_does_not_matter() {
    check("", no_codings).await;
}

#[tokio::test]
async fn codings_that_were_not_asked_for_are_read() {
    check("", codings).await;
}

#[tokio::test]
async fn gateways_are_asked_for_no_coding() {
    let gateway = RawGateway::plain().await;
    let bridge = signed_in_at(&gateway, "").await;
    bridge.set_busy(AGENT).await.expect("accepted");
    for got in gateway.got() {
        assert!(got.head.contains("\r\nAccept-Encoding: identity\r\n"), "{}", got.head);
    }
}
