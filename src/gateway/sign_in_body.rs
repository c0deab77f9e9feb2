//! The body of a sign-in.
use std::fmt;

use bytes::Bytes;
use secrecy::{ExposeSecret as _, SecretString, zeroize::Zeroizing};
use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

/// The body of a sign-in (API.md 3.2). `None` is left out, so that the gateway's default applies.
#[derive(Clone, Serialize, Deserialize)]
pub struct SignIn {
    /// The agent's CTI password. May be empty.
    #[serde(serialize_with = "exposed", deserialize_with = "wrapped")]
    pub password: SecretString,
    /// The agent's phone number. May be empty.
    #[serde(rename = "phonenum")]
    pub phone_number: String,
    /// Whether calls are answered automatically.
    #[serde(rename = "autoanswer", skip_serializing_if = "Option::is_none")]
    pub auto_answer: Option<bool>,
    /// Whether the agent becomes idle after a call, instead of entering after-call work.
    #[serde(rename = "autoenteridle", skip_serializing_if = "Option::is_none")]
    pub auto_enter_idle: Option<bool>,
    /// Whether the phone is hung up after each call.
    #[serde(rename = "releasephone", skip_serializing_if = "Option::is_none")]
    pub release_phone: Option<bool>,
    /// The gateway's number of the agent type, 4 or 11.
    #[serde(rename = "agenttype", skip_serializing_if = "Option::is_none")]
    pub agent_type: Option<i32>,
    /// The state after sign-in.
    #[serde(rename = "status", skip_serializing_if = "Option::is_none")]
    pub initial_state: Option<InitialState>,
    /// The agent's IPv4 address.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ip: Option<String>,
    /// Whether to sign in to the web media server too.
    #[serde(rename = "checkInWebm", skip_serializing_if = "Option::is_none")]
    pub check_in_web_media: Option<bool>,
    /// Whether to sign in to the mail media server too.
    #[serde(rename = "checkInMailm", skip_serializing_if = "Option::is_none")]
    pub check_in_mail_media: Option<bool>,
    /// Whether to take the agent over if it is signed in elsewhere. Not part of the body.
    #[serde(skip)]
    pub force: bool,
}

/// A sign-in including what is not part of the body.
#[derive(Serialize, Deserialize)]
struct Whole<T> {
    force: bool,
    body: T,
}

/// The state of an agent after sign-in (cec_07_1202).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum InitialState {
    /// Not ready.
    Busy = 3,
    /// Ready.
    Idle = 4,
    /// After-call work.
    AfterCallWork = 5,
}

impl SignIn {
    /// A sign-in with the gateway's defaults.
    pub fn new(password: SecretString, phone_number: String, force: bool) -> Self {
        Self {
            password,
            phone_number,
            auto_answer: None,
            auto_enter_idle: None,
            release_phone: None,
            agent_type: None,
            initial_state: None,
            ip: None,
            check_in_web_media: None,
            check_in_mail_media: None,
            force,
        }
    }

    /// The JSON body for the gateway. It is overwritten when its last clone is dropped.
    pub fn to_body(&self) -> Bytes {
        Bytes::from_owner(plain(self))
    }

    /// The whole sign-in in plain text, to be encrypted.
    pub fn to_plain(&self) -> Zeroizing<Vec<u8>> {
        plain(&Whole { force: self.force, body: self })
    }

    /// Reads the output of [`to_plain`](Self::to_plain).
    pub fn from_plain(plain: &[u8]) -> Option<Self> {
        let Whole { force, body } = serde_json::from_slice::<Whole<Self>>(plain).ok()?;
        Some(Self { force, ..body })
    }
}

impl fmt::Debug for SignIn {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SignIn").field("force", &self.force).finish_non_exhaustive()
    }
}

impl Serialize for InitialState {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_i32(*self as i32)
    }
}

impl<'de> Deserialize<'de> for InitialState {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        match i32::deserialize(deserializer)? {
            3 => Ok(Self::Busy),
            4 => Ok(Self::Idle),
            5 => Ok(Self::AfterCallWork),
            _ => Err(de::Error::custom("no such state")),
        }
    }
}

fn plain(sign_in: &impl Serialize) -> Zeroizing<Vec<u8>> {
    // Longer than any sign-in: a vector that grows leaves the password behind.
    const LENGTH: usize = 1024;
    let mut text = Zeroizing::new(Vec::with_capacity(LENGTH));
    // Serializing texts, numbers and booleans into memory cannot fail.
    let _written = serde_json::to_writer(&mut *text, sign_in);
    text
}

/// The only place where a password is exposed: for the gateway, or to be encrypted.
fn exposed<S: Serializer>(password: &SecretString, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_str(password.expose_secret())
}

fn wrapped<'de, D: Deserializer<'de>>(deserializer: D) -> Result<SecretString, D::Error> {
    String::deserialize(deserializer).map(SecretString::from)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_body_names_fields_as_the_gateway_does_and_leaves_out_the_rest() {
        let mut sign_in = SignIn::new("pw".into(), "70001".into(), true);
        assert_eq!(sign_in.to_body(), r#"{"password":"pw","phonenum":"70001"}"#);

        sign_in.initial_state = Some(InitialState::AfterCallWork);
        sign_in.auto_enter_idle = Some(false);
        sign_in.check_in_web_media = Some(true);
        assert_eq!(
            sign_in.to_body(),
            r#"{"password":"pw","phonenum":"70001","autoenteridle":false,"status":5,"checkInWebm":true}"#
        );
        assert!(!format!("{sign_in:?}").contains("pw"));
    }
    #[test]
    fn a_sign_in_is_read_as_it_was_written() {
        let mut sign_in = SignIn::new("pw".into(), "70001".into(), true);
        for state in [InitialState::Busy, InitialState::Idle, InitialState::AfterCallWork] {
            sign_in.initial_state = Some(state);
            sign_in.agent_type = Some(11);
            let read = SignIn::from_plain(&sign_in.to_plain()).expect("what was written");
            assert_eq!((read.to_body(), read.force), (sign_in.to_body(), true));
        }
        for bad in ["", "{}", r#"{"force":true,"body":{"password":1}}"#] {
            assert!(SignIn::from_plain(bad.as_bytes()).is_none(), "{bad}");
        }
    }
}
