//! How gRPC's own libraries take the errors of requests that are malformed.

use std::path::Path;

use ccgateway_test_support::{python, run};
use serde_json::Value;
use tokio::process::Command;
use tonic::{Code, Status, metadata::MetadataMap};
use tonic_types::StatusExt as _;

use crate::{grpcurl::tool, support::start};

const MALFORMED: (Code, &str) = (Code::InvalidArgument, "MESSAGE_MALFORMED");
const TOO_LARGE: (Code, &str) = (Code::InvalidArgument, "MESSAGE_TOO_LARGE");
const COMPRESSED: (Code, &str) = (Code::Unimplemented, "COMPRESSION_UNSUPPORTED");
const NO_METHOD: (Code, &str) = (Code::Unimplemented, "METHOD_UNKNOWN");

fn bytes(hexadecimal: &str) -> Vec<u8> {
    let digits = hexadecimal.as_bytes().chunks(2).map(|pair| str::from_utf8(pair).expect("ascii"));
    digits.map(|pair| u8::from_str_radix(pair, 16).expect("hexadecimal")).collect()
}

#[tokio::test]
async fn grpcio_gets_the_code_and_the_details_of_each() {
    let program = start("server.limits.message_size = 4096", &[]).await;
    let mut command = Command::new(python());
    command.arg(Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/program/malformed.py"));
    command.arg(program.grpc.to_string());
    let (code, printed) = run(command).await;
    assert_eq!(code, Some(0), "{printed}");
    let told: Vec<_> = printed
        .lines()
        .map(|line| {
            let line: Value = serde_json::from_str(line).expect(line);
            let details = bytes(line["details"].as_str().expect("text"));
            let code = Code::from_i32(line["code"].as_i64().expect("a code").try_into().unwrap());
            let status =
                Status::with_details_and_metadata(code, "", details.into(), MetadataMap::new());
            let reason =
                status.get_error_details().error_info().map_or("", |info| &info.reason).to_owned();
            (line["case"].as_str().expect("text").to_owned(), code, reason)
        })
        .collect();
    let expected = [
        ("no protobuf", MALFORMED),
        ("no protobuf to a stream", MALFORMED),
        ("no protobuf to health", MALFORMED),
        ("no message", MALFORMED),
        ("two messages", MALFORMED),
        ("too large", TOO_LARGE),
        ("too large to a stream", TOO_LARGE),
        ("too large without gzip", TOO_LARGE),
        ("gzip", (Code::Ok, "")),
        ("deflate", COMPRESSED),
        ("too much metadata", (Code::Unknown, "")),
        ("no method", NO_METHOD),
        ("no service", NO_METHOD),
    ];
    let expected =
        expected.map(|(case, (code, reason))| (case.to_owned(), code, reason.to_owned()));
    assert_eq!(told, expected);
    assert!(program.gateway.journal().is_empty());
}

#[tokio::test]
async fn grpcurl_shows_the_details_of_a_message_that_is_too_large() {
    let program = start("server.limits.message_size = 4096", &[]).await;
    let mut command = Command::new(tool());
    let data = format!(r#"{{"agent_id":"{}"}}"#, "1".repeat(5000));
    command.args(["-plaintext", "-d", &data, &program.grpc.to_string()]);
    command.arg("ccgateway.agent.v1.AgentState/SetBusy");
    let (_, shown) = run(command).await;
    for expected in ["Code: InvalidArgument", r#""reason":"MESSAGE_TOO_LARGE""#, "not_sent"] {
        assert!(
            shown.split_whitespace().collect::<Vec<_>>().join(" ").contains(expected),
            "{shown}"
        );
    }
}
