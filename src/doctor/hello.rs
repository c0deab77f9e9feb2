//! Finds out what a peer speaks with which the bridge's TLS fails. rustls does not tell, so this sends
//! a `ClientHello` of its own, reads the first record of the answer, and disconnects.

use std::{io, net::SocketAddr, time::Duration};

use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
};

use super::network::within;
use crate::config::Timeouts;

/// What a peer answers to a `ClientHello`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Spoken {
    /// TLS of this version, with this cipher suite.
    Tls { version: Version, suite: u16 },
    /// TLS 1.2 or 1.3 with a cipher suite that the bridge has, but only with the curve P-521, for its
    /// certificate or for the exchange of keys, which the bridge has not.
    OtherCurve,
    /// TLS, but it refuses with this alert (RFC 8446, section 6).
    Alert(u8),
    /// HTTP without TLS.
    Http,
    /// Something else.
    Other,
    /// Nothing: it closes the connection, or does not answer.
    Nothing,
}

/// A version as TLS encodes it: `[3, 1]` is TLS 1.0, `[3, 3]` is TLS 1.2.
pub(super) type Version = [u8; 2];

pub(super) const TLS_1_0: Version = [3, 1];
pub(super) const TLS_1_1: Version = [3, 2];
pub(super) const TLS_1_2: Version = [3, 3];
const TLS_1_3: Version = [3, 4];

/// The longest wait for an answer. A peer that answers a `ClientHello` at all does so much sooner.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(3);

/// The alert of a peer that supports none of the offered versions.
const PROTOCOL_VERSION: u8 = 70;

const ALERT: u8 = 21;
const HANDSHAKE: u8 = 22;
const SERVER_HELLO: u8 = 2;
const RECORD_HEAD: usize = 5;
/// A record holds at most this much (RFC 5246, section 6.2.1).
const RECORD_MAX: u64 = 16 * 1024;

/// The cipher suites of TLS 1.0 to 1.2 that servers of the last twenty years support, best first.
const SUITES: [u16; 24] = [
    0xc02f, 0xc030, 0xc02b, 0xc02c, 0xcca8, 0xcca9, 0xc027, 0xc028, 0xc013, 0xc014, 0xc009, 0xc00a,
    0x009e, 0x009f, 0x009c, 0x009d, 0x003c, 0x003d, 0x002f, 0x0035, 0x0033, 0x0039, 0x000a, 0x0005,
];
/// The suites of TLS 1.3.
const SUITES_1_3: [u16; 3] = [0x1301, 0x1302, 0x1303];
/// How many of `SUITES` the bridge has.
const OWN_SUITES: usize = 6;
/// x25519, P-256, P-384, P-521.
const GROUPS: [u16; 4] = [0x001d, 0x0017, 0x0018, P_521];
/// The bridge does not have this one.
const P_521: u16 = 0x0019;
/// RSA and ECDSA with SHA-256 to SHA-512, and with SHA-1 for old peers.
const SIGNATURES: [u16; 11] =
    [0x0804, 0x0805, 0x0806, 0x0401, 0x0501, 0x0601, 0x0403, 0x0503, 0x0603, 0x0201, 0x0203];

/// Offers TLS up to 1.2, and other versions if the peer refuses that for its version. Finally tries plain
/// HTTP if the peer has answered nothing.
pub(super) async fn probe(addr: SocketAddr, host: &str, timeouts: &Timeouts) -> Spoken {
    let ask_within = async |limit, sent: &[u8]| {
        let answer = within(limit, exchange(addr, sent)).await;
        answer.map_or(Spoken::Nothing, |bytes| read(&bytes))
    };
    let ask = async |hello: Vec<u8>| ask_within(timeouts.connect.min(ANSWER_TIMEOUT), &hello).await;
    let mut spoken = Spoken::Nothing;
    for version in [TLS_1_2, TLS_1_3, TLS_1_1, TLS_1_0] {
        spoken = ask(client_hello(host, version, &GROUPS)).await;
        if let Spoken::Tls { version: TLS_1_2 | TLS_1_3, suite } = spoken
            && has_suite(suite)
        {
            let own: Vec<_> = GROUPS.into_iter().filter(|group| *group != P_521).collect();
            let without = ask(client_hello(host, version, &own)).await;
            let is_curve = matches!(without, Spoken::Alert(_));
            return if is_curve { Spoken::OtherCurve } else { spoken };
        }
        if spoken != Spoken::Alert(PROTOCOL_VERSION) {
            break;
        }
    }
    if spoken == Spoken::Nothing {
        // Some HTTP servers close the connection on a `ClientHello`, which is no valid request line.
        let head = format!("HEAD / HTTP/1.0\r\nHost: {host}\r\n\r\n");
        // A server may take its time for an answer, other than for a handshake.
        let limit = timeouts.connect + timeouts.request;
        if ask_within(limit, head.as_bytes()).await == Spoken::Http {
            return Spoken::Http;
        }
    }
    spoken
}

/// Whether the bridge has this cipher suite, too.
pub(super) fn has_suite(suite: u16) -> bool {
    SUITES_1_3.contains(&suite) || SUITES.iter().take(OWN_SUITES).any(|own| *own == suite)
}

/// Sends `sent` and returns the first TLS record of the answer, or less if the peer disconnects. If the
/// answer is not TLS, only its first bytes are returned.
async fn exchange(addr: SocketAddr, sent: &[u8]) -> io::Result<Vec<u8>> {
    let mut stream = TcpStream::connect(addr).await?;
    stream.write_all(sent).await?;
    let mut answer = vec![0; RECORD_HEAD];
    stream.read_exact(&mut answer).await?;
    let [HANDSHAKE | ALERT, 3, _, high, low] = answer.as_slice() else { return Ok(answer) };
    let length = u64::from(u16::from_be_bytes([*high, *low])).min(RECORD_MAX);
    // A record that is cut short may still say enough.
    let _cut = stream.take(length).read_to_end(&mut answer).await;
    Ok(answer)
}

fn read(answer: &[u8]) -> Spoken {
    match answer {
        [ALERT, 3, _, _, _, _level, alert, ..] => Spoken::Alert(*alert),
        [HANDSHAKE, 3, _, _, _, SERVER_HELLO, _, _, _, high, low, hello @ ..] => {
            let version = [*high, *low];
            suite(hello).map_or(Spoken::Other, |suite| {
                // In TLS 1.3, the version here is that of TLS 1.2 (RFC 8446, section 4.1.3).
                let is_1_3 = SUITES_1_3.contains(&suite);
                Spoken::Tls { version: if is_1_3 { TLS_1_3 } else { version }, suite }
            })
        }
        [b'H', b'T', b'T', b'P', b'/', ..] => Spoken::Http,
        [] => Spoken::Nothing,
        _ => Spoken::Other,
    }
}

/// The cipher suite in a `ServerHello`, after its version: it follows 32 random bytes and the session
/// id, which has its length before it.
fn suite(hello: &[u8]) -> Option<u16> {
    let (_random, rest) = hello.split_at_checked(32)?;
    let (length, rest) = rest.split_first()?;
    let (_session, rest) = rest.split_at_checked(usize::from(*length))?;
    rest.first_chunk().copied().map(u16::from_be_bytes)
}

/// A `ClientHello` that offers these groups, and versions up to this one (RFC 5246, section 7.4.1.2), or
/// TLS 1.3 alone (RFC 8446, section 4.1.2). It has no key for TLS 1.3, so that the server chooses a
/// group and asks for one.
fn client_hello(host: &str, version: Version, groups: &[u16]) -> Vec<u8> {
    let is_1_3 = version == TLS_1_3;
    let mut hello = version.min(TLS_1_2).to_vec();
    hello.extend(rand::random::<[u8; 32]>());
    hello.push(0); // no session to resume
    hello.extend(block(&if is_1_3 { numbers(&SUITES_1_3) } else { numbers(&SUITES) }));
    hello.extend([1, 0]); // no compression

    let mut extensions = Vec::new();
    if host.parse::<std::net::IpAddr>().is_err() {
        let mut name = vec![0]; // a host name
        name.extend(block(host.as_bytes()));
        extensions.extend(extension(0, &block(&name)));
    }
    extensions.extend(extension(10, &block(&numbers(groups))));
    extensions.extend(extension(11, &[1, 0])); // points are not compressed
    extensions.extend(extension(13, &block(&numbers(&SIGNATURES))));
    if is_1_3 {
        extensions.extend(extension(43, &[2, 3, 4])); // the only version
        extensions.extend(extension(51, &block(&[]))); // no key yet
    }
    hello.extend(block(&extensions));

    let mut message = vec![1, 0]; // a ClientHello, and the first byte of its length
    message.extend(block(&hello));
    let mut record = vec![HANDSHAKE];
    // Old servers expect the oldest version in the record's header, and the newest in the message.
    record.extend(TLS_1_0);
    record.extend(block(&message));
    record
}

fn extension(number: u16, content: &[u8]) -> Vec<u8> {
    let mut extension = number.to_be_bytes().to_vec();
    extension.extend(block(content));
    extension
}

fn numbers(numbers: &[u16]) -> Vec<u8> {
    numbers.iter().flat_map(|number| number.to_be_bytes()).collect()
}

/// `content` with its length in two bytes before it. All contents are far below 64 KiB; the longest
/// variable one is the host, with up to 253 bytes.
fn block(content: &[u8]) -> Vec<u8> {
    let length = u16::try_from(content.len()).unwrap_or(u16::MAX);
    let mut block = length.to_be_bytes().to_vec();
    block.extend(content);
    block
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn answers_are_told_apart() {
        let mut hello = vec![22, 3, 1, 0, 42, 2, 0, 0, 38, 3, 1];
        hello.extend([7; 32]);
        hello.extend([0, 0x00, 0x2f, 0]);
        for (answer, expected) in [
            (hello.as_slice(), Spoken::Tls { version: TLS_1_0, suite: 0x002f }),
            (&[21, 3, 1, 0, 2, 2, 70], Spoken::Alert(70)),
            (b"HTTP/1.1 400 Bad Request", Spoken::Http),
            (b"220 mail ready", Spoken::Other),
            (&[22, 3, 1, 0, 42, 2, 0, 0, 38, 3, 1, 0], Spoken::Other),
            (&[], Spoken::Nothing),
        ] {
            assert_eq!(read(answer), expected, "{answer:?}");
        }
    }
}
