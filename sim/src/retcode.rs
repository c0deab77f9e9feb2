//! The retcodes that a simulated gateway sends.

macro_rules! retcodes {
    ($($name:ident $code:literal $message:literal)*) => {
        /// A retcode that the simulator sends, unless [`Codes`](super::Codes) say otherwise. The
        /// codes are documented (`cec_07_0580`, `cec_07_1430`, client).
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        #[expect(missing_docs, reason = "each is described by its message")]
        pub enum Retcode {
            $($name,)*
        }

        impl Retcode {
            /// All retcodes.
            pub const ALL: &[Self] = &[$(Self::$name,)*];

            /// As it is sent: `NNN-NNN`.
            pub fn as_str(self) -> &'static str {
                match self {
                    $(Self::$name => $code,)*
                }
            }

            /// The message that is sent with it. Only those of 000-003 and 100-006 are known from real
            /// gateways, with this spelling (client); the others are made up.
            pub fn message(self) -> &'static str {
                match self {
                    $(Self::$name => $message,)*
                }
            }
        }
    };
}

retcodes! {
    OtherEventMethod "000-001" "event method mismatch"
    BadParameter "000-002" "parameter error"
    NoRight "000-003" "no right to invite resouce"
    SwitchingOver "000-004" "agent is switching over"
    InspectsItself "000-005" "cannot inspect oneself"
    BadBody "000-006" "request body error"
    CallOpen "000-007" "repeated request"
    BadSignIn "100-001" "login parameter is empty or invalid"
    AlreadySignedIn "100-002" "agent has logged in"
    BadPassword "100-004" "account or password error"
    BadSignOut "100-005" "logout parameter error"
    NotSignedIn "100-006" "agent not login"
    StateRefused "100-009" "set agent state failed"
    SignOutRefused "100-010" "agent state does not allow logout"
    BadSignInField "100-011" "login parameter invalid"
    BadAgentType "100-012" "agent type error"
    ForceNotAllowed "100-015" "agent has logged in, forced login not allowed"
    BadIpAddress "100-016" "ip error"
    SignInOpen "100-021" "agent is logging in"
    BadAccount "100-062" "account or password error"
    RecoveryTimedOut "105-005" "disaster recovery timed out, log in again"
    GuidMismatch "105-006" "guid mismatch after disaster recovery, log in again"
    RecoverySwitchedOff "105-007" "disaster recovery is off, log in again"
    OldPasswordWrong "110-003" "old password error"
    PasswordUnchanged "110-017" "new password equals old password"
    PasswordIsName "110-018" "password equals the name or its reverse"
    PasswordLength "110-020" "password length is not 8 to 30"
    PasswordsDiffer "110-022" "the new passwords differ"
    NoSkill "600-001" "no skill configured"
    NoInspector "900-002" "no inspection right"
    TargetAbsent "900-003" "no inspection resource"
    TargetUnknown "900-004" "no such agent"
    TargetState "900-005" "inspected agent's state error"
}

impl From<Retcode> for String {
    fn from(retcode: Retcode) -> Self {
        retcode.as_str().to_owned()
    }
}

/// The message of a retcode; empty for an unknown one.
pub(super) fn message(code: &str) -> &'static str {
    let known = Retcode::ALL.iter().find(|retcode| retcode.as_str() == code);
    known.map_or("", |retcode| retcode.message())
}
