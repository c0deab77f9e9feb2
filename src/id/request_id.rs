use std::fmt;

use uuid::Uuid;

/// The id that a caller gives a request, so that it is carried out once however often it is sent.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct RequestId(Uuid);

/// Why a text is not a [`RequestId`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "must be a UUID such as uuidgen makes, with hyphens, and not nil; make a new one for each change"
)]
pub struct InvalidRequestId;

/// The length of the usual form, with hyphens.
const LENGTH: usize = 36;

impl RequestId {
    /// Reads an id in its usual form, with hyphens, in small or capital letters.
    ///
    /// # Errors
    ///
    /// [`InvalidRequestId`] for anything else, and for the nil UUID, which stands for "none".
    pub fn parse(text: &str) -> Result<Self, InvalidRequestId> {
        let id = Some(text).filter(|text| text.len() == LENGTH);
        let id = id.and_then(|text| Uuid::try_parse(text).ok()).filter(|id| !id.is_nil());
        id.map(Self).ok_or(InvalidRequestId)
    }
}

impl fmt::Display for RequestId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl fmt::Debug for RequestId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_id_is_a_uuid_in_its_usual_form() {
        let small = "f81d4fae-7dec-41d0-a765-00a0c91e6bf6";
        let id = RequestId::parse(small).expect("an id");
        assert_eq!(RequestId::parse(&small.to_uppercase()), Ok(id));
        assert_eq!(id.to_string(), small);
        for bad in [
            "",
            "1",
            "f81d4fae7dec41d0a76500a0c91e6bf6",
            "{f81d4fae-7dec-41d0-a765-00a0c91e6bf6}",
            "urn:uuid:f81d4fae-7dec-41d0-a765-00a0c91e6bf6",
            "f81d4fae-7dec-41d0-a765-00a0c91e6bfg",
            "f81d4fae-7dec-41d0-a765-00a0c91e6b\u{e9}",
            "00000000-0000-0000-0000-000000000000",
        ] {
            assert_eq!(RequestId::parse(bad), Err(InvalidRequestId), "{bad}");
        }
    }
}
