//! Secrets that are overwritten when nobody needs them any more.

use bytes::Bytes;
use http::HeaderValue;
use secrecy::zeroize::Zeroizing;

/// A header's value with a secret; `None` if a header cannot have it. It is marked as sensitive, so that it
/// is not printed, and its bytes are overwritten when the last of its clones is dropped.
pub(crate) fn header(secret: &[u8]) -> Option<HeaderValue> {
    let bytes = Bytes::from_owner(Zeroizing::new(secret.to_vec()));
    let mut header = HeaderValue::from_maybe_shared(bytes).ok()?;
    header.set_sensitive(true);
    Some(header)
}

/// The `authorization` header with the token in a file, which may have line breaks around it.
pub(crate) fn bearer(file: &[u8]) -> Option<HeaderValue> {
    let token = Some(file.trim_ascii()).filter(|token| !token.is_empty())?;
    header(&Zeroizing::new([b"Bearer ", token].concat()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_header_with_a_secret_is_not_printed() {
        let all = [header(b"secret"), bearer(b"\n secret\r\n"), bearer(b" "), header(b"a\nb")];
        let text = all.each_ref().map(|header| header.as_ref()?.to_str().ok());
        assert_eq!(text, [Some("secret"), Some("Bearer secret"), None, None]);
        assert_eq!(format!("{all:?}"), "[Some(Sensitive), Some(Sensitive), None, None]");
    }
}
