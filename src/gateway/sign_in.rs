use std::fmt;

use bytes::Bytes;
use secrecy::{ExposeSecret as _, SecretString};
use serde::{Serialize, Serializer};

/// The body of a sign-in (API.md 3.2). What is `None` is left out: the gateway's defaults apply.
#[derive(Clone, Serialize)]
pub struct SignIn {
    /// The agent's CTI password; may be empty.
    #[serde(serialize_with = "exposed")]
    pub password: SecretString,
    /// The agent's phone number; may be empty.
    #[serde(rename = "phonenum")]
    pub phone_number: String,
    /// Answer calls automatically.
    #[serde(rename = "autoanswer", skip_serializing_if = "Option::is_none")]
    pub auto_answer: Option<bool>,
    /// Idle after a call, else after-call work.
    #[serde(rename = "autoenteridle", skip_serializing_if = "Option::is_none")]
    pub auto_enter_idle: Option<bool>,
    /// Hang the phone up after each call.
    #[serde(rename = "releasephone", skip_serializing_if = "Option::is_none")]
    pub release_phone: Option<bool>,
    /// 4 or 11.
    #[serde(rename = "agenttype", skip_serializing_if = "Option::is_none")]
    pub agent_type: Option<i32>,
    /// The state after sign-in.
    #[serde(rename = "status", skip_serializing_if = "Option::is_none")]
    pub initial_state: Option<InitialState>,
    /// The agent's IPv4 address.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ip: Option<String>,
    /// Also sign in to the web media server.
    #[serde(rename = "checkInWebm", skip_serializing_if = "Option::is_none")]
    pub check_in_web_media: Option<bool>,
    /// Also sign in to the mail media server.
    #[serde(rename = "checkInMailm", skip_serializing_if = "Option::is_none")]
    pub check_in_mail_media: Option<bool>,
    /// Take the agent over where it is signed in elsewhere; not part of the body.
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

    /// The body as the gateway takes it.
    pub fn to_body(&self) -> Bytes {
        // Serialising texts, numbers and booleans into memory cannot fail.
        serde_json::to_vec(self).map(Bytes::from).unwrap_or_default()
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

/// The one place where a password leaves its wrapping: the request to the gateway.
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
}
