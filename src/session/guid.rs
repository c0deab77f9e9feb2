//! The secret that names a session: its form, and the header that carries it.

use std::{borrow::Cow, fmt};

use http::HeaderValue;

use crate::secret;

/// The secret that identifies a signed-in agent: `<uuid>.AgentGateway<N>` as documented
/// (cec_05_4015). Only its node suffix is ever shown.
#[derive(Clone, PartialEq, Eq)]
pub struct Guid(HeaderValue);

/// Why a text is not a [`Guid`]. Does not repeat the text, which may be a secret.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "must be the Guid as the gateway sent it: 1 to {MAX_LENGTH} letters, digits and punctuation \
     without spaces, '=', ';', ',' or quotes"
)]
pub struct InvalidGuid;

/// Documented Guids have about 50 characters.
const MAX_LENGTH: usize = 256;
/// The stored form of an absent Guid. No gateway makes Guids of one character.
const ABSENT: &str = "-";
/// This many hexadecimal digits in a row may be a secret. No word and no address has so many.
const SECRET_MIN: usize = 24;

impl Guid {
    /// Reads a Guid, alone or as `JSESSIONID=<guid>`, the form of the `Set-GUID` header
    /// (cec_07_0005). Its form is not checked further, since other versions may use another one.
    ///
    /// ```
    /// use ccgateway_bridge::session::Guid;
    ///
    /// let guid = Guid::parse("JSESSIONID=279fe21d-2caa-4437-84c3-ab9e9dae20f5.AgentGateway1")?;
    /// assert_eq!(guid.node(), Some("AgentGateway1"));
    /// assert_eq!(format!("{guid:?}"), "Guid(….AgentGateway1)", "its secret part is not shown");
    /// # Ok::<_, ccgateway_bridge::session::InvalidGuid>(())
    /// ```
    pub fn parse(text: &str) -> Result<Self, InvalidGuid> {
        // Like the public clients: everything after the first '='. A cookie's attributes may
        // follow.
        let value = text.split_once('=').map_or(text, |(_name, value)| value);
        let value = value.split_once(';').map_or(value, |(value, _attributes)| value).trim();

        let good = |b: u8| b.is_ascii_graphic() && !matches!(b, b'=' | b';' | b',' | b'"' | b'\'');
        let is_one = !value.is_empty() && value.len() <= MAX_LENGTH && value != ABSENT;
        if !is_one || !value.bytes().all(good) {
            return Err(InvalidGuid);
        }
        secret::guid_header(value.as_bytes()).map(Self).ok_or(InvalidGuid)
    }

    /// A placeholder for gateways without Guids. It is never sent.
    pub fn absent() -> Self {
        Self(HeaderValue::from_static(ABSENT))
    }

    /// Reads the stored form of a Guid, which may be absent.
    ///
    /// # Errors
    ///
    /// [`InvalidGuid`], as [`Guid::parse`].
    pub fn parse_stored(text: &str) -> Result<Self, InvalidGuid> {
        if text == ABSENT { Ok(Self::absent()) } else { Self::parse(text) }
    }

    /// Whether the gateway has no Guids, so that none is sent.
    pub fn is_absent(&self) -> bool {
        self.0 == ABSENT
    }

    /// The value of the `Guid` request header; marked as sensitive.
    pub fn header(&self) -> &HeaderValue {
        &self.0
    }

    /// The gateway node that owns the session, such as `AgentGateway1`: the part after the last dot
    /// (cec_05_4015).
    pub fn node(&self) -> Option<&str> {
        let (_secret, node) = self.0.to_str().ok()?.rsplit_once('.')?;
        // A suffix of another form may be part of the secret.
        let named = node.starts_with(|c: char| c.is_ascii_alphabetic())
            && node.len() <= 32
            && node.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_'));
        named.then_some(node)
    }
}

impl fmt::Debug for Guid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Guid(….{})", self.node().unwrap_or_default())
    }
}

/// Replaces what may be the secret part of a Guid in a foreign text: a gateway may repeat the Guid
/// that it refuses.
pub fn without_guids(text: &str) -> Cow<'_, str> {
    let of_secret = |c: char| c.is_ascii_hexdigit() || c == '-';
    let split = |run: &'_ str| run.len() - run.trim_start_matches(of_secret).len();
    let runs = text.split_inclusive(|c| !of_secret(c)).map(|run| run.split_at(split(run)));
    if runs.clone().all(|(digits, _)| digits.len() < SECRET_MIN) {
        return text.into();
    }
    let shown = |digits| if str::len(digits) < SECRET_MIN { digits } else { "…" };
    runs.flat_map(|(digits, end)| [shown(digits), end]).collect::<String>().into()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const SAMPLE: &str = "279fe21d-2caa-4437-84c3-ab9e9dae20f5.AgentGateway1";

    #[track_caller]
    fn check(text: &str, expected: &Result<(&str, Option<&str>), InvalidGuid>) {
        let parsed = Guid::parse(text);
        let parsed = parsed.as_ref().map(|guid| (guid.header().to_str().unwrap(), guid.node()));
        assert_eq!(parsed, expected.as_ref().map(|pair| *pair), "{text:?}");
    }

    #[test]
    fn an_absent_guid_can_be_stored_and_known_again() {
        let stored = Guid::absent().header().to_str().map(Guid::parse_stored);
        assert_eq!(stored.ok(), Some(Ok(Guid::absent())));
        assert_eq!(Guid::parse(ABSENT), Err(InvalidGuid), "no peer can send a placeholder");
        assert!(Guid::absent().is_absent() && !Guid::parse(SAMPLE).unwrap().is_absent());
    }

    #[test]
    fn guids_are_read_in_every_form_seen() {
        let node = Some("AgentGateway1");
        check(SAMPLE, &Ok((SAMPLE, node)));
        check(&format!("JSESSIONID={SAMPLE}"), &Ok((SAMPLE, node)));
        check(&format!(" {SAMPLE} "), &Ok((SAMPLE, node)));
        check(&format!("JSESSIONID={SAMPLE}; Path=/; Secure"), &Ok((SAMPLE, node)));
        check("no-node", &Ok(("no-node", None)));
        check("a.b.c", &Ok(("a.b.c", Some("c"))));
        check("secret.279fe21d", &Ok(("secret.279fe21d", None)));
    }

    #[test]
    fn texts_that_are_no_guid_are_refused() {
        let long = "x".repeat(MAX_LENGTH + 1);
        for bad in ["", " ", "JSESSIONID=", "a b", "a=b=c", "a,b", "\"a\"", "ä", "a\r\nb", &long] {
            check(bad, &Err(InvalidGuid));
        }
    }

    #[test]
    fn debug_shows_the_node_alone() {
        let shown = format!("{:?}", Guid::parse(SAMPLE).unwrap());
        assert_eq!(shown, "Guid(….AgentGateway1)");
    }

    #[test]
    fn what_may_be_a_guid_is_taken_out_of_a_text() {
        for (text, expected) in [
            ("", ""),
            ("agent 1001 is dead-beaten", "agent 1001 is dead-beaten"),
            ("not with 279fe21d-aaaa-4437-84c3-ab9e9dae20f5.Node1!", "not with ….Node1!"),
            ("279FE21DAAAA443784C3AB9E9DAE20F5é", "…é"),
            ("a\nb", "a\nb"),
            (SAMPLE, "….AgentGateway1"),
        ] {
            assert_eq!(without_guids(text), expected);
        }
    }

    proptest! {
        #[test]
        fn any_text_is_refused_or_fits_a_header(text in "\\PC*") {
            if let Ok(guid) = Guid::parse(&text) {
                prop_assert!(guid.header().is_sensitive());
                prop_assert!(!guid.header().is_empty());
                prop_assert!(guid.header().len() <= MAX_LENGTH);
            }
        }
    }
}
