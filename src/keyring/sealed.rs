use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD as BASE64};
use serde::{Deserialize, Deserializer, Serialize, Serializer, de::Error as _};

/// The length of a [`Sealed::salt`] in bytes.
pub(super) const SALT_LEN: usize = 32;

/// An encrypted value. As text, which can be a part of other JSON, it has its bytes in base64.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Sealed {
    /// The id of the key that encrypted it.
    #[serde(rename = "key")]
    pub key_id: String,
    /// Random: the key of this value alone was derived with it.
    #[serde(serialize_with = "text", deserialize_with = "salt")]
    pub salt: [u8; SALT_LEN],
    /// The encrypted bytes, and the authentication tag.
    #[serde(serialize_with = "text", deserialize_with = "bytes")]
    pub data: Vec<u8>,
}

impl Sealed {
    /// Writes the text that [`parse`](Self::parse) reads.
    pub fn encode(&self) -> Vec<u8> {
        // Serializing these strings cannot fail.
        serde_json::to_vec(self).unwrap_or_default()
    }

    /// Reads what [`encode`](Self::encode) writes.
    pub fn parse(text: &[u8]) -> Option<Self> {
        serde_json::from_slice(text).ok()
    }
}

fn text<S: Serializer>(bytes: impl AsRef<[u8]>, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_str(&BASE64.encode(bytes))
}

fn bytes<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<u8>, D::Error> {
    let text = String::deserialize(deserializer)?;
    BASE64.decode(text).map_err(|_| D::Error::custom("not base64"))
}

fn salt<'de, D: Deserializer<'de>>(deserializer: D) -> Result<[u8; SALT_LEN], D::Error> {
    bytes(deserializer)?.try_into().map_err(|_| D::Error::custom("not as long as a salt"))
}
