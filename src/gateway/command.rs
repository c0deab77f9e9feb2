//! An interface together with the arguments of one call.

use std::fmt;

use super::interface::{Interface, POLL_ALL, RESET_SKILL, REST, SAY_BUSY};

/// What a request asks an interface to do, without the agent.
#[derive(Clone, Debug)]
pub struct Command {
    /// The interface.
    pub interface: &'static Interface,
    /// What follows the interface's name in the URL.
    pub arguments: Arguments,
}

/// Further path segments and a query string, as they are displayed. They are of types that need no escaping in a URL; nothing
/// else is put into one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Arguments {
    /// None.
    None,
    /// Of [`say_busy`].
    Busy {
        /// The reason.
        reason: Option<i32>,
        /// Whether this replaces the reason of an agent who is busy already.
        prolong: Option<bool>,
    },
    /// Of [`rest`].
    Rest {
        /// How long.
        seconds: u32,
        /// The reason.
        cause: i32,
        /// Whether this replaces the time and reason of an agent who rests already.
        prolong: Option<bool>,
    },
    /// All skills that are configured.
    AllSkills,
    /// Of [`poll_all`].
    Time {
        /// In milliseconds since 1970.
        millis: u64,
    },
}

/// "Say busy". `None` is left out of the query string: older gateways do not know the parameters,
/// and newer ones have defaults (cec_07_1211).
pub fn say_busy(reason: Option<i32>, prolong: Option<bool>) -> Command {
    Command { interface: &SAY_BUSY, arguments: Arguments::Busy { reason, prolong } }
}

/// "Request rest" for so many seconds, with a cause of 0 to 255. 0 means none (cec_07_1213).
pub fn rest(seconds: u32, cause: i32, prolong: Option<bool>) -> Command {
    Command { interface: &REST, arguments: Arguments::Rest { seconds, cause, prolong } }
}

/// "Reset skill queues" to all that are configured (cec_07_1209).
pub fn reset_skill() -> Command {
    Command { interface: &RESET_SKILL, arguments: Arguments::AllSkills }
}

/// The poll for all agents of a node, with the time. What that is for is not documented. Clients send the time, as others do
/// so that no cache answers.
pub fn poll_all(millis: u64) -> Command {
    Command { interface: &POLL_ALL, arguments: Arguments::Time { millis } }
}

impl Command {
    /// A command without arguments.
    pub fn plain(interface: &'static Interface) -> Self {
        Self { interface, arguments: Arguments::None }
    }

    /// The requested reason. The confirming event should have the same.
    pub fn reason(&self) -> Option<i32> {
        match self.arguments {
            Arguments::Busy { reason, .. } => reason,
            Arguments::Rest { cause, .. } => Some(cause),
            Arguments::None | Arguments::AllSkills | Arguments::Time { .. } => None,
        }
    }
}

impl fmt::Display for Arguments {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match *self {
            Self::None | Self::Busy { reason: None, prolong: None } => Ok(()),
            Self::Busy { reason: Some(reason), prolong: None } => write!(f, "?reason={reason}"),
            Self::Busy { reason: None, prolong: Some(prolong) } => write!(f, "?prolong={prolong}"),
            Self::Busy { reason: Some(reason), prolong: Some(prolong) } => {
                write!(f, "?reason={reason}&prolong={prolong}")
            }
            Self::Rest { seconds, cause, prolong: None } => write!(f, "/{seconds}/{cause}"),
            Self::Rest { seconds, cause, prolong: Some(prolong) } => {
                write!(f, "/{seconds}/{cause}?prolong={prolong}")
            }
            Self::AllSkills => f.write_str("/true"),
            Self::Time { millis } => write!(f, "?time={millis}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_left_out_of_a_command_is_not_sent() {
        for (command, expected, reason) in [
            (Command::plain(&SAY_BUSY), "", None),
            (say_busy(None, None), "", None),
            (say_busy(Some(200), None), "?reason=200", Some(200)),
            (say_busy(None, Some(false)), "?prolong=false", None),
            (say_busy(Some(0), Some(true)), "?reason=0&prolong=true", Some(0)),
            (rest(60, 0, None), "/60/0", Some(0)),
            (rest(86_399, 255, Some(true)), "/86399/255?prolong=true", Some(255)),
            (reset_skill(), "/true", None),
            (poll_all(7), "?time=7", None),
        ] {
            let told = (command.arguments.to_string(), command.reason());
            assert_eq!((told.0.as_str(), told.1), (expected, reason));
        }
    }
}
