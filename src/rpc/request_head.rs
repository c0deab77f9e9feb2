//! Checks the head of a request before its message is read.

use base64::{
    Engine as _,
    alphabet::STANDARD,
    engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig},
};
use http::{HeaderMap, HeaderName, HeaderValue, Method, header::CONTENT_TYPE, request::Parts};

use super::{about::visible, timeout};
use crate::call::{Obstacle, Unreadable};

/// How the messages of a request may be compressed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Encoding {
    /// Not at all.
    Identity,
    /// With gzip, message by message.
    Gzip,
}

/// How the request of a method is read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RequestKind {
    /// As one message.
    Message,
    /// As a stream of messages.
    Stream,
}

/// What the head of a request says that reaches a method.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RequestHead {
    /// How its messages may be compressed.
    pub encoding: Encoding,
    /// How it is read.
    pub kind: RequestKind,
}

/// The header that says how messages are compressed.
pub const ENCODING: HeaderName = HeaderName::from_static("grpc-encoding");
/// The encodings that the bridge reads, for `grpc-accept-encoding`.
pub(super) const ACCEPTED_ENCODINGS: HeaderValue = HeaderValue::from_static("identity,gzip");

/// Every method whose request is a single message.
pub(super) const METHODS: [&str; 18] = [
    "ccgateway.agent.v1.AgentEvents/WatchEvents",
    "ccgateway.agent.v1.AgentSession/GetSession",
    "ccgateway.agent.v1.AgentSession/RegisterSession",
    "ccgateway.agent.v1.AgentSession/SignIn",
    "ccgateway.agent.v1.AgentSession/SignOut",
    "ccgateway.agent.v1.AgentState/BatchSetBusy",
    "ccgateway.agent.v1.AgentState/CancelAfterCallWork",
    "ccgateway.agent.v1.AgentState/CancelBusy",
    "ccgateway.agent.v1.AgentState/CancelResting",
    "ccgateway.agent.v1.AgentState/GetState",
    "ccgateway.agent.v1.AgentState/GetStateChange",
    "ccgateway.agent.v1.AgentState/SetAfterCallWork",
    "ccgateway.agent.v1.AgentState/SetBusy",
    "ccgateway.agent.v1.AgentState/SetIdle",
    "ccgateway.agent.v1.AgentState/SetResting",
    "grpc.health.v1.Health/Check",
    "grpc.health.v1.Health/List",
    "grpc.health.v1.Health/Watch",
];
/// Every method whose request is a stream.
const STREAMED_METHODS: [&str; 2] = [
    "grpc.reflection.v1.ServerReflection/ServerReflectionInfo",
    "grpc.reflection.v1alpha.ServerReflection/ServerReflectionInfo",
];
/// The longest text of a caller in an error, in bytes.
const SHOWN_MAX: usize = 64;
/// Padding is optional in binary metadata.
const BASE64: GeneralPurpose = GeneralPurpose::new(
    &STANDARD,
    GeneralPurposeConfig::new()
        .with_decode_padding_mode(DecodePaddingMode::Indifferent)
        .with_decode_allow_trailing_bits(true),
);

/// The method that a path names, and how its request is read.
pub(super) fn method(path: &str) -> Option<(&'static str, RequestKind)> {
    let path = path.strip_prefix('/')?;
    let find = |methods: &[&'static str]| methods.iter().copied().find(|method| *method == path);
    let unary = find(&METHODS).map(|method| (method, RequestKind::Message));
    unary.or_else(|| Some((find(&STREAMED_METHODS)?, RequestKind::Stream)))
}

/// Checks what the protocol requires of a head, in the order in which gRPC servers do.
///
/// # Errors
///
/// Why the request reaches no method.
pub(super) fn check(head: &Parts) -> Result<RequestHead, Obstacle> {
    let Parts { headers, uri, .. } = head;
    check_content_type(headers)?;
    if head.method != Method::POST {
        return Err(Unreadable::HttpMethod(visible(head.method.as_str(), SHOWN_MAX)).into());
    }
    let (_, kind) = method(uri.path()).ok_or(Unreadable::MethodUnknown)?;
    check_timeout(headers)?;
    check_binary_metadata(headers)?;
    Ok(RequestHead { encoding: encoding(headers)?, kind })
}

/// Only protobuf: a message in another format, such as `application/grpc+json`, could be taken for a
/// different one.
fn check_content_type(headers: &HeaderMap) -> Result<(), Unreadable> {
    let given = headers.get(CONTENT_TYPE).map(HeaderValue::as_bytes).unwrap_or_default();
    let essence = given.split(|byte| *byte == b';').next().unwrap_or_default().trim_ascii();
    let is = |name: &str| essence.eq_ignore_ascii_case(name.as_bytes());
    if is("application/grpc") || is("application/grpc+proto") {
        return Ok(());
    }
    Err(Unreadable::ContentType(visible(&String::from_utf8_lossy(given), SHOWN_MAX)))
}

fn check_timeout(headers: &HeaderMap) -> Result<(), Obstacle> {
    let Some(value) = headers.get(timeout::HEADER) else { return Ok(()) };
    if timeout::parse(value.as_bytes()).is_none() {
        let description = "must be 1 to 8 digits and one of H M S m u n".into();
        return Err(Obstacle::invalid("grpc-timeout", description));
    }
    Ok(())
}

fn check_binary_metadata(headers: &HeaderMap) -> Result<(), Obstacle> {
    for (name, value) in headers {
        let is_binary = name.as_str().ends_with("-bin");
        if is_binary && !value.as_bytes().split(|byte| *byte == b',').all(is_base64) {
            let name = visible(name.as_str(), SHOWN_MAX);
            let description = format!("{name} must be base64, as its name ends in -bin");
            return Err(Obstacle::invalid("metadata", description));
        }
    }
    Ok(())
}

fn is_base64(value: &[u8]) -> bool {
    BASE64.decode(value.trim_ascii()).is_ok()
}

fn encoding(headers: &HeaderMap) -> Result<Encoding, Unreadable> {
    match headers.get(ENCODING).map(HeaderValue::as_bytes) {
        None | Some(b"identity") => Ok(Encoding::Identity),
        Some(b"gzip") => Ok(Encoding::Gzip),
        Some(other) => {
            Err(Unreadable::Compressed(visible(&String::from_utf8_lossy(other), SHOWN_MAX)))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The head of a call, with these headers instead of its own.
    fn head(method: &str, path: &str, headers: &[(&'static str, &str)]) -> Parts {
        let request = http::Request::builder().method(method).uri(path);
        let (mut head, ()) = request.body(()).unwrap().into_parts();
        head.headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/grpc"));
        for (name, value) in headers {
            head.headers.insert(*name, HeaderValue::from_bytes(value.as_bytes()).unwrap());
        }
        head
    }

    const CHECK: &str = "/grpc.health.v1.Health/Check";

    /// Whether a call with this header is let in.
    fn passes(name: &'static str, value: &str) -> bool {
        check(&head("POST", CHECK, &[(name, value)])).is_ok()
    }

    #[test]
    fn every_method_of_the_contract_is_known() {
        let mut methods: Vec<_> = crate::rpc::methods()
            .into_iter()
            .map(|method| format!("{}/{}", method.service, method.name))
            .collect();
        methods.sort();
        let contract: Vec<_> =
            METHODS.into_iter().filter(|method| method.starts_with("ccgateway.")).collect();
        assert_eq!(methods, contract);
    }

    #[test]
    fn a_path_names_a_method_only_if_it_is_exactly_its_own() {
        for path in ["", "/", "grpc.health.v1.Health/Check", "//grpc.health.v1.Health/Check"] {
            assert_eq!(method(path), None, "{path}");
        }
        assert_eq!(method(CHECK), Some(("grpc.health.v1.Health/Check", RequestKind::Message)));
        let reflection = format!("/{}", STREAMED_METHODS[0]);
        assert_eq!(method(&reflection), Some((STREAMED_METHODS[0], RequestKind::Stream)));
    }

    #[test]
    fn only_protobuf_over_grpc_is_let_in() {
        for grpc in
            ["application/grpc", "application/grpc+proto", "Application/GRPC; charset=utf-8"]
        {
            assert!(passes("content-type", grpc), "{grpc}");
        }
        for other in [
            "",
            "application/grpc-web",
            "application/grpc-web+proto",
            "application/grpc-web-text",
            "application/grpc+json",
            "application/json",
            "application/proto",
            "application/connect+proto",
            "text/plain; application/grpc",
            "application/grpcx",
        ] {
            let refused = check(&head("POST", CHECK, &[("content-type", other)]));
            let expected = Unreadable::ContentType(other.into());
            assert!(
                matches!(&refused, Err(Obstacle::Unreadable(why)) if *why == expected),
                "{other}: {refused:?}"
            );
        }
    }

    #[test]
    fn a_call_is_a_post() {
        for method in ["GET", "HEAD", "PUT", "OPTIONS", "PRI"] {
            let refused = check(&head(method, CHECK, &[]));
            let expected = Unreadable::HttpMethod(method.into());
            assert!(matches!(&refused, Err(Obstacle::Unreadable(why)) if *why == expected));
        }
    }

    #[test]
    fn binary_metadata_is_base64_with_or_without_padding() {
        for value in ["", "AA", "AA==", "AAE=", "AAE,AA==, AAEC", "/+/+"] {
            assert!(passes("x-trace-bin", value), "{value:?}");
        }
        for value in ["!", "A", "AA=A", "AA==,?", "-_-_", "\u{e4}"] {
            assert!(!passes("x-trace-bin", value), "{value:?}");
            assert!(passes("x-trace", value), "{value:?} is no binary metadata");
        }
    }

    #[test]
    fn timeouts_and_encodings_are_read_or_refused() {
        assert!(passes("grpc-timeout", "100m"));
        assert!(!passes("grpc-timeout", "soon"));
        let encoding = |value| {
            check(&head("POST", CHECK, &[("grpc-encoding", value)])).map(|head| head.encoding)
        };
        assert!(matches!(encoding("identity"), Ok(Encoding::Identity)));
        assert!(matches!(encoding("gzip"), Ok(Encoding::Gzip)));
        for other in ["", "deflate", "zstd", "GZIP", "gzip, identity"] {
            assert!(encoding(other).is_err(), "{other:?}");
        }
    }
}
