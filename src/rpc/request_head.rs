//! Checks the head of a request before its message is read.

use base64::{
    Engine as _,
    alphabet::STANDARD,
    engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig},
};
use http::{HeaderMap, HeaderName, HeaderValue, header::CONTENT_TYPE, request::Parts};

use super::{Method, about::visible, timeout};
use crate::call::{Obstacle, Unreadable};

/// How the messages of a request may be compressed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Encoding {
    /// Not at all.
    Identity,
    /// With gzip, message by message.
    Gzip,
}

/// What the head of a request says that reaches a method.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RequestHead {
    /// How its messages may be compressed.
    pub encoding: Encoding,
    /// The method.
    pub method: Method,
}

/// The header that says how messages are compressed.
pub const ENCODING: HeaderName = HeaderName::from_static("grpc-encoding");
/// The encodings that the bridge reads, for `grpc-accept-encoding`.
pub(super) const ACCEPTED_ENCODINGS: HeaderValue = HeaderValue::from_static("identity,gzip");

/// The longest text of a caller in an error, in bytes.
const SHOWN_MAX: usize = 64;
/// Padding is optional in binary metadata.
const BASE64: GeneralPurpose = GeneralPurpose::new(
    &STANDARD,
    GeneralPurposeConfig::new()
        .with_decode_padding_mode(DecodePaddingMode::Indifferent)
        .with_decode_allow_trailing_bits(true),
);

/// Checks what the protocol requires of a head, in the order in which gRPC servers do. `method` is what its
/// path names.
///
/// # Errors
///
/// Why the request reaches no method.
pub(super) fn check(head: &Parts, method: Option<Method>) -> Result<RequestHead, Obstacle> {
    let headers = &head.headers;
    check_content_type(headers)?;
    if head.method != http::Method::POST {
        return Err(Unreadable::HttpMethod(visible(head.method.as_str(), SHOWN_MAX)).into());
    }
    let method = method.ok_or(Unreadable::MethodUnknown)?;
    check_timeout(headers)?;
    check_binary_metadata(headers)?;
    Ok(RequestHead { encoding: encoding(headers)?, method })
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

    /// Checks the head of a call with these headers instead of its own.
    fn checked(method: &str, headers: &[(&'static str, &str)]) -> Result<RequestHead, Obstacle> {
        let request = http::Request::builder().method(method);
        let (mut head, ()) = request.body(()).unwrap().into_parts();
        head.headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/grpc"));
        for (name, value) in headers {
            head.headers.insert(*name, HeaderValue::from_bytes(value.as_bytes()).unwrap());
        }
        check(&head, Some(Method::CheckHealth))
    }

    /// Whether a call with this header is let in.
    fn passes(name: &'static str, value: &str) -> bool {
        checked("POST", &[(name, value)]).is_ok()
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
            let refused = checked("POST", &[("content-type", other)]);
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
            let refused = checked(method, &[]);
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
        let encoding =
            |value| checked("POST", &[("grpc-encoding", value)]).map(|head| head.encoding);
        assert!(matches!(encoding("identity"), Ok(Encoding::Identity)));
        assert!(matches!(encoding("gzip"), Ok(Encoding::Gzip)));
        for other in ["", "deflate", "zstd", "GZIP", "gzip, identity"] {
            assert!(encoding(other).is_err(), "{other:?}");
        }
    }
}
