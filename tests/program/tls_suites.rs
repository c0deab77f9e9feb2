//! What the listeners' TLS offers: no version before 1.2, and no cipher suite without authenticated
//! encryption. Written byte by byte, since the TLS library of these tests knows nothing else.

use ccgateway_test_support::within;
use tempfile::TempDir;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
};

use crate::support::{start, tls};

const TLS_1_0: u16 = 0x0301;
const TLS_1_1: u16 = 0x0302;
const TLS_1_2: u16 = 0x0303;
const ECDHE_ECDSA_AES128_GCM: u16 = 0xc02b;
const ECDHE_RSA_AES128_GCM: u16 = 0xc02f;
/// Suites without authenticated encryption: CBC with SHA-1 and SHA-256, RC4, 3DES, and none at all.
const WEAK: [u16; 10] =
    [0xc009, 0xc00a, 0xc023, 0xc024, 0xc013, 0xc014, 0xc027, 0x002f, 0x0005, 0x0001];
const ALERT: u8 = 21;
const HANDSHAKE: u8 = 22;
const SERVER_HELLO: u8 = 2;
/// Alerts (RFC 5246, section 7.2).
const HANDSHAKE_FAILURE: u8 = 40;
const PROTOCOL_VERSION: u8 = 70;

/// With its length in front, as two bytes.
fn vector(bytes: &[u8]) -> Vec<u8> {
    let [.., a, b] = bytes.len().to_be_bytes();
    [&[a, b], bytes].concat()
}

fn numbers(numbers: &[u16]) -> Vec<u8> {
    vector(&numbers.iter().flat_map(|number| number.to_be_bytes()).collect::<Vec<_>>())
}

fn extension(kind: u16, content: &[u8]) -> Vec<u8> {
    [&kind.to_be_bytes()[..], &vector(content)].concat()
}

/// A ClientHello that knows this version at the most.
fn client_hello(version: u16, suites: &[u16]) -> Vec<u8> {
    let host = [&[0][..], &vector(b"localhost")].concat();
    let extensions = [
        extension(0, &vector(&host)),
        // The groups x25519 and secp256r1, and points that are not compressed.
        extension(10, &numbers(&[29, 23])),
        extension(11, &[1, 0]),
        // Signatures by ECDSA, RSA-PSS and RSA with SHA-256.
        extension(13, &numbers(&[0x0403, 0x0804, 0x0401])),
        extension(16, &vector(b"\x02h2")),
        // The extended master secret.
        extension(23, &[]),
    ];
    let body = [
        &version.to_be_bytes()[..],
        &[7; 32],
        &[0],
        &numbers(suites),
        &[1, 0],
        &vector(&extensions.concat()),
    ]
    .concat();
    let handshake = [&[1, 0][..], &vector(&body)].concat();
    [&[HANDSHAKE, 3, 1][..], &vector(&handshake)].concat()
}

/// The kind of the first record that answers this, and its payload.
async fn answer(addr: std::net::SocketAddr, hello: &[u8]) -> (u8, Vec<u8>) {
    let mut stream = TcpStream::connect(addr).await.expect("connected");
    stream.write_all(hello).await.expect("sent");
    let mut head = [0; 5];
    within("an answer", stream.read_exact(&mut head)).await.expect("a record");
    let [kind, _, _, a, b] = head;
    let mut payload = vec![0; u16::from_be_bytes([a, b]).into()];
    within("its payload", stream.read_exact(&mut payload)).await.expect("a whole record");
    (kind, payload)
}

#[tokio::test]
async fn tls_without_authenticated_encryption_or_before_1_2_is_refused() {
    let files = TempDir::new().expect("a folder");
    let program = start(&tls(&files).0, &[]).await;
    let good = [ECDHE_ECDSA_AES128_GCM, ECDHE_RSA_AES128_GCM];
    let (kind, said) = answer(program.grpc, &client_hello(TLS_1_2, &good)).await;
    assert_eq!(
        (kind, said[0]),
        (HANDSHAKE, SERVER_HELLO),
        "the same hello with good suites: {said:?}"
    );
    // Server's version, random and session; then the suite.
    let session = usize::from(said[38]);
    assert!(good.map(u16::to_be_bytes).iter().any(|suite| said[39 + session..].starts_with(suite)));
    for suite in WEAK {
        let said = answer(program.grpc, &client_hello(TLS_1_2, &[suite])).await;
        assert_eq!(said, (ALERT, vec![2, HANDSHAKE_FAILURE]), "{suite:#06x}");
    }
    let said = answer(program.grpc, &client_hello(TLS_1_2, &WEAK)).await;
    assert_eq!(said, (ALERT, vec![2, HANDSHAKE_FAILURE]), "all of them");
    for version in [TLS_1_0, TLS_1_1] {
        let said = answer(program.grpc, &client_hello(version, &[&good[..], &WEAK].concat())).await;
        assert_eq!(said, (ALERT, vec![2, PROTOCOL_VERSION]), "{version:#06x}");
    }
}
