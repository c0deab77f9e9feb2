//! Secrets that are overwritten when nobody needs them any more.

use bytes::Bytes;
use http::HeaderValue;
use secrecy::zeroize::Zeroizing;

/// A Guid that lies beside the count of its owners. Each session has one: so a million of them take less memory, and a call
/// looks at one place for it. It is made on the stack and moved from there, and the copy that this leaves is overwritten
/// only when other work needs that part of the stack. So no other secret is kept in this way.
struct Short {
    bytes: Zeroizing<[u8; SHORT_MAX]>,
    length: u8,
}

/// Longer than documented Guids. With the count and the length it makes 64 bytes.
const SHORT_MAX: usize = 55;

impl Short {
    /// `None`: it is too long.
    fn new(guid: &[u8]) -> Option<Self> {
        let length = u8::try_from(guid.len()).ok()?;
        let mut bytes = Zeroizing::new([0_u8; SHORT_MAX]);
        bytes.get_mut(..guid.len())?.copy_from_slice(guid);
        Some(Self { bytes, length })
    }
}

impl AsRef<[u8]> for Short {
    fn as_ref(&self) -> &[u8] {
        self.bytes.get(..self.length.into()).unwrap_or_default()
    }
}

/// A header's value with a secret; `None` if a header cannot have it. It is marked as sensitive, so that it
/// is not printed, and its bytes are overwritten when the last of its clones is dropped.
pub(crate) fn header(secret: &[u8]) -> Option<HeaderValue> {
    sensitive(Bytes::from_owner(Zeroizing::new(secret.to_vec())))
}

/// The same for a Guid, in one piece of memory if it is as short as documented ones are.
pub(crate) fn guid_header(guid: &[u8]) -> Option<HeaderValue> {
    match Short::new(guid) {
        Some(short) => sensitive(Bytes::from_owner(short)),
        None => header(guid),
    }
}

fn sensitive(bytes: Bytes) -> Option<HeaderValue> {
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
        for of_secret in [header, guid_header] {
            let all =
                [of_secret(b"secret"), bearer(b"\n secret\r\n"), bearer(b" "), of_secret(b"a\nb")];
            let text = all.each_ref().map(|header| header.as_ref()?.to_str().ok());
            assert_eq!(text, [Some("secret"), Some("Bearer secret"), None, None]);
            assert_eq!(format!("{all:?}"), "[Some(Sensitive), Some(Sensitive), None, None]");
        }
    }

    #[test]
    fn a_secret_of_any_length_is_whole() {
        for length in [0, 1, SHORT_MAX - 1, SHORT_MAX, SHORT_MAX + 1, 255, 256, 4_096] {
            let secret: Vec<_> = (b'a'..=b'z').cycle().take(length).collect();
            for header in [header(&secret), guid_header(&secret)] {
                assert_eq!(header.unwrap().as_bytes(), secret, "{length}");
            }
            assert_eq!(Short::new(&secret).is_some(), length <= SHORT_MAX);
        }
        // `bytes` allocates a count of owners, and the owner behind it: its private `Owned<T>`, as of version 1.12.
        assert_eq!(size_of::<(usize, Short)>(), 64);
    }
}
