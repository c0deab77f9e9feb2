//! The gateway's retcodes: what is known of each, and what kind of refusal it is.
//!
//! Has no side effects. [`crate::rpc`] decides what a kind means for a gRPC caller.

mod meanings;

use std::fmt;

pub use self::meanings::LISTED;

/// A retcode other than "0", as the gateway sent it.
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct Retcode {
    /// All of it, until [`Retcode::hide`] has looked at it.
    text: Box<str>,
    /// The meaning of `text`, looked up once.
    kind: Kind,
}

/// What is known of one retcode.
#[derive(Debug)]
pub struct Listed {
    /// The retcode, in the form `NNN-NNN`.
    pub code: &'static str,
    /// Its meaning, in the bridge's own words.
    pub meaning: &'static str,
    /// The source of the meaning: page ids of the product documentation, or `client` for public
    /// client code.
    pub source: &'static str,
}

/// What a refusal says about the call. Each kind differs in what the caller can do next.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Kind {
    /// A parameter is wrong.
    ParameterRejected,
    /// The Guid is missing, stale or unknown.
    SessionExpired,
    /// The agent has moved to another site and has to sign in again there.
    SessionMoved,
    /// The gateway does not know the agent as signed in, or not with this Guid.
    AgentNotSignedIn,
    /// The agent has signed out already.
    AgentSignedOut,
    /// The agent's state does not allow the change, or the agent lacks the right.
    StateRefused,
    /// Something failed inside the gateway or behind it.
    OperationFailed,
    /// The agent is being moved to another site.
    Switchover,
    /// Another call of the same interface was still open for this agent.
    OperationInProgress,
    /// A sign-in of this agent was still open.
    SignInInProgress,
    /// The gateway delivers the agent's events in another way than by polls for each agent.
    PollsDisabled,
    /// The agent is signed in elsewhere.
    AlreadySignedIn,
    /// The agent is signed in elsewhere, and the platform allows no forcible sign-in.
    ForceNotAllowed,
    /// The platform behind the gateway has no resources for a sign-in.
    PlatformUnavailable,
    /// The password is wrong or has expired.
    CredentialsRejected,
    /// The platform has locked the account, mostly after wrong passwords.
    AccountLocked,
    /// Any other retcode. The bridge does not guess its meaning.
    Unlisted,
}

impl Kind {
    /// All of them, in the order of their numbers.
    pub const ALL: [Self; 17] = [
        Self::ParameterRejected,
        Self::SessionExpired,
        Self::SessionMoved,
        Self::AgentNotSignedIn,
        Self::AgentSignedOut,
        Self::StateRefused,
        Self::OperationFailed,
        Self::Switchover,
        Self::OperationInProgress,
        Self::SignInInProgress,
        Self::PollsDisabled,
        Self::AlreadySignedIn,
        Self::ForceNotAllowed,
        Self::PlatformUnavailable,
        Self::CredentialsRejected,
        Self::AccountLocked,
        Self::Unlisted,
    ];

    /// The spelling in metrics. Some kinds share a name there.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::ParameterRejected => "parameter_rejected",
            Self::SessionExpired | Self::SessionMoved => "session_expired",
            Self::AgentNotSignedIn | Self::AgentSignedOut => "agent_not_signed_in",
            Self::StateRefused => "state_refused",
            Self::OperationFailed => "operation_failed",
            Self::Switchover => "switchover",
            Self::OperationInProgress | Self::SignInInProgress => "operation_in_progress",
            Self::AlreadySignedIn => "already_signed_in",
            Self::ForceNotAllowed => "force_not_allowed",
            Self::PlatformUnavailable => "platform_unavailable",
            Self::CredentialsRejected => "credentials_rejected",
            Self::AccountLocked => "account_locked",
            Self::PollsDisabled | Self::Unlisted => "unlisted",
        }
    }

    /// Whether another client has signed the agent in.
    pub fn is_signed_in_elsewhere(self) -> bool {
        matches!(self, Self::AlreadySignedIn | Self::ForceNotAllowed)
    }

    /// Whether the agent has no session any more, or none with this Guid.
    pub fn is_without_session(self) -> bool {
        matches!(
            self,
            Self::SessionExpired
                | Self::SessionMoved
                | Self::AgentNotSignedIn
                | Self::AgentSignedOut
        )
    }

    /// Whether another operation was in progress for the agent, so that nothing was done.
    pub fn is_in_progress(self) -> bool {
        matches!(self, Self::OperationInProgress | Self::SignInInProgress)
    }

    /// Whether the gateway refused because of the Guid. It did nothing then, and may accept a newer
    /// Guid: one of the same session (cec_07_0005 names 000-003 and 100-006) or of a new session.
    /// After a move to another site, the agent has to sign in again (cec_07_0580).
    pub fn blames_guid(self) -> bool {
        matches!(self, Self::SessionExpired | Self::SessionMoved | Self::AgentNotSignedIn)
    }

    fn of(text: &str) -> Self {
        match text {
            "000-002" | "000-006" | "100-001" | "100-011" | "100-012" | "100-013" | "100-014"
            | "100-016" => Self::ParameterRejected,
            "000-003" => Self::SessionExpired,
            // After a move to another site, these tell the agent to sign in again (cec_07_0580).
            "105-005" | "105-006" | "105-007" => Self::SessionMoved,
            "100-006" => Self::AgentNotSignedIn,
            "100-008" => Self::AgentSignedOut,
            "100-009" | "100-010" => Self::StateRefused,
            "100-007" => Self::OperationFailed,
            // The agent's move to another site, and what can go wrong with it.
            "000-004" | "105-001" | "105-002" | "105-003" | "105-004" => Self::Switchover,
            "000-007" => Self::OperationInProgress,
            "100-021" => Self::SignInInProgress,
            "000-001" => Self::PollsDisabled,
            "100-002" => Self::AlreadySignedIn,
            "100-015" => Self::ForceNotAllowed,
            "100-003" => Self::PlatformUnavailable,
            "100-004" | "100-017" | "100-020" => Self::CredentialsRejected,
            "110-016" | "110-021" => Self::AccountLocked,
            _ => Self::Unlisted,
        }
    }
}

/// Longer retcodes are cut. The documented form has seven characters.
const MAX_LENGTH: usize = 32;

/// The retcode of an accepted request.
pub const ACCEPTED: &str = "0";

impl Retcode {
    /// A retcode that the gateway sent. `None` for "0", which is no refusal. Control characters are
    /// replaced and not removed: removing them could produce another retcode, even a success.
    pub fn refusal(text: &str) -> Option<Self> {
        let text = text.trim();
        if text == ACCEPTED {
            return None;
        }
        let visible = |c: char| if c.is_control() { char::REPLACEMENT_CHARACTER } else { c };
        let text: Box<str> = text.chars().map(visible).collect();
        Some(Self { kind: Kind::of(&text), text })
    }

    /// The retcode as the gateway spelled it, cut to 32 characters.
    pub fn as_str(&self) -> &str {
        let cut = self.text.char_indices().nth(MAX_LENGTH);
        cut.and_then(|(end, _)| self.text.get(..end)).unwrap_or(&self.text)
    }

    /// Puts in its place what `hidden` makes of it, whole: a secret of which a part is cut off is not found.
    pub fn hide(&mut self, hidden: impl FnOnce(&str) -> Option<String>) {
        if let Some(hidden) = hidden(&self.text) {
            self.text = hidden.into();
        }
        self.text = self.as_str().into();
    }

    /// What is known of this retcode.
    pub fn listed(&self) -> Option<&'static Listed> {
        let found = LISTED.binary_search_by(|row| row.code.cmp(&self.text)).ok()?;
        LISTED.get(found)
    }

    /// The kind of refusal.
    pub fn kind(&self) -> Kind {
        self.kind
    }
}

impl fmt::Display for Retcode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl fmt::Debug for Retcode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(self.as_str(), f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_is_sorted_and_every_row_is_whole() {
        for pair in LISTED.windows(2) {
            assert!(pair[0].code < pair[1].code, "{} before {}", pair[0].code, pair[1].code);
        }
        for row in LISTED {
            let (left, right) = row.code.split_once('-').expect("NNN-NNN");
            assert!(left.len() == 3 && left.parse::<u16>().is_ok(), "{}", row.code);
            assert!(right.len() == 3 && right.parse::<u16>().is_ok(), "{}", row.code);
            assert!(!row.meaning.is_empty() && !row.source.is_empty(), "{}", row.code);
        }
    }

    #[test]
    fn every_retcode_of_the_simulator_is_in_the_table() {
        let sent: Vec<_> = ccgateway_sim::Retcode::ALL.iter().map(|code| code.as_str()).collect();
        let unlisted = |code: &&str| Retcode::refusal(code).and_then(|r| r.listed()).is_none();
        assert_eq!(sent.into_iter().filter(unlisted).collect::<Vec<_>>(), Vec::<&str>::new());
    }

    #[test]
    fn zero_is_no_refusal() {
        assert_eq!(Retcode::refusal("0"), None);
        assert_eq!(Retcode::refusal(" 0 "), None);
        assert!(Retcode::refusal("").is_some());
        assert!(Retcode::refusal("00").is_some());
    }

    #[test]
    fn what_the_gateway_sends_is_bounded_and_visible() {
        let code = Retcode::refusal(&format!("9\n{}", "x".repeat(1000))).expect("a refusal");
        assert_eq!(code.as_str().chars().count(), MAX_LENGTH);
        assert!(code.as_str().starts_with("9\u{fffd}x"));
    }

    #[test]
    fn hidden_characters_make_another_retcode() {
        for hidden in ["\0", "0\0", "\u{0}0", "000\0-003", "\u{1b}000-003"] {
            let retcode = Retcode::refusal(hidden).expect("neither a success");
            assert_eq!(retcode.kind(), Kind::Unlisted, "nor a known refusal: {hidden:?}");
            assert!(!retcode.kind().blames_guid());
        }
    }

    #[test]
    fn kinds_that_only_the_bridge_tells_apart_are_spelt_alike() {
        for (code, kind, spelt) in [
            ("000-001", Kind::PollsDisabled, "unlisted"),
            ("000-003", Kind::SessionExpired, "session_expired"),
            ("000-007", Kind::OperationInProgress, "operation_in_progress"),
            ("100-006", Kind::AgentNotSignedIn, "agent_not_signed_in"),
            ("100-008", Kind::AgentSignedOut, "agent_not_signed_in"),
            ("100-021", Kind::SignInInProgress, "operation_in_progress"),
            ("105-006", Kind::SessionMoved, "session_expired"),
        ] {
            let found = Retcode::refusal(code).expect("a refusal").kind();
            assert_eq!((found, found.as_str()), (kind, spelt), "{code}");
        }
    }

    #[test]
    fn unknown_codes_are_not_guessed_at() {
        for code in
            ["-1", "105-00", "105-000", "105-008", "105-009", "105-0011", "100-999", "OK", ""]
        {
            let retcode = Retcode::refusal(code).expect("a refusal");
            assert_eq!(retcode.kind(), Kind::Unlisted, "{code:?}");
        }
    }
}
