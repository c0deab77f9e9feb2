//! The body of a sign-in.
use std::fmt;

use aws_lc_rs::digest::{SHA256, digest};
use bytes::Bytes;
use secrecy::{ExposeSecret as _, SecretString, zeroize::Zeroizing};
use serde::{Serialize, Serializer};

use crate::hex::hex;

/// The body of a sign-in (API.md 3.2). `None` is left out, so that the gateway's default applies.
#[derive(Clone, Serialize)]
pub struct SignIn {
    /// The agent's CTI password. May be empty.
    #[serde(serialize_with = "exposed")]
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

    /// A digest of all that it asks for but the password, by which another sign-in can be told from it.
    pub fn digest(&self) -> String {
        let rest = Self { password: SecretString::default(), ..self.clone() };
        let digest = digest(&SHA256, &rest.to_body());
        format!("{}{}", hex(digest.as_ref()), if self.force { "!" } else { "" })
    }

    /// The JSON body for the gateway. It is overwritten when its last clone is dropped.
    pub fn to_body(&self) -> Bytes {
        // Longer than any sign-in: a vector that grows leaves the password behind.
        const LENGTH: usize = 1024;
        let mut body = Zeroizing::new(Vec::with_capacity(LENGTH));
        // Serializing texts, numbers and booleans into memory cannot fail.
        let _written = serde_json::to_writer(&mut *body, self);
        Bytes::from_owner(body)
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

/// The only place where a password is exposed to the gateway.
fn exposed<S: Serializer>(password: &SecretString, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_str(password.expose_secret())
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
    fn a_digest_tells_sign_ins_apart_by_all_but_their_passwords() {
        let sign_in = |password: &str, phone_number: &str, force| {
            SignIn::new(password.into(), phone_number.into(), force)
        };
        let first = sign_in("pw", "70001", false);
        assert_eq!(first.digest(), sign_in("another", "70001", false).digest());
        let idle = SignIn { initial_state: Some(InitialState::Idle), ..first.clone() };
        for other in [sign_in("pw", "70002", false), sign_in("pw", "70001", true), idle] {
            assert_ne!(first.digest(), other.digest(), "{:?}", other.to_body());
        }
    }
}
