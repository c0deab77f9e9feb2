//! Who may ask the admin port.

use aws_lc_rs::{
    constant_time::verify_slices_are_equal,
    digest::{SHA256, digest},
};
use http::{HeaderMap, HeaderValue, header::AUTHORIZATION};
use secrecy::{ExposeSecret as _, SecretString};

/// The token that a request to the port has to bring; `None`: it needs none.
#[derive(Debug)]
pub(super) struct Token(Option<SecretString>);

/// The answer to a request without the token.
pub(super) const WANTED: &str = "\
this port wants a token: send \"Authorization: Bearer TOKEN\", with the token that was in the file of admin.token_file when the bridge started
";

impl Token {
    pub(super) fn new(token: Option<SecretString>) -> Self {
        Self(token)
    }

    /// Whether a request with these headers may be answered.
    pub(super) fn allows(&self, headers: &HeaderMap) -> bool {
        const SCHEME: &[u8] = b"bearer ";
        let Some(token) = &self.0 else { return true };
        let header = headers.get(AUTHORIZATION).map(HeaderValue::as_bytes);
        let parts = header.and_then(|header| header.split_at_checked(SCHEME.len()));
        let Some((scheme, given)) = parts else { return false };
        // Digests have one length, so the time tells nothing of the token.
        let [given, own] = [given.trim_ascii(), token.expose_secret().as_bytes()]
            .map(|token| digest(&SHA256, token));
        let is_same = verify_slices_are_equal(given.as_ref(), own.as_ref()).is_ok();
        scheme.eq_ignore_ascii_case(SCHEME) && is_same
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_token_opens_the_port_and_without_one_it_is_open() {
        let with = |header: &str| {
            let mut headers = HeaderMap::new();
            headers.insert(AUTHORIZATION, header.parse().unwrap());
            headers
        };
        let token = Token::new(Some("secret".into()));
        for (header, allowed) in [
            ("Bearer secret", true),
            ("bearer  secret ", true),
            ("Bearer secret2", false),
            ("Bearer secre", false),
            ("Bearer ", false),
            ("Basic secret", false),
            ("secret", false),
            ("", false),
        ] {
            assert_eq!(token.allows(&with(header)), allowed, "{header:?}");
            assert!(Token::new(None).allows(&with(header)));
        }
        assert!(!token.allows(&HeaderMap::new()));
        assert!(!format!("{token:?}").contains("secret\""));
    }
}
