//! An interface together with the arguments of one call.

use std::fmt::{Display, Write as _};

use super::interface::{Interface, RESET_SKILL, REST, SAY_BUSY};

/// What a request asks an interface to do, without the agent.
#[derive(Clone, Debug)]
pub struct Command {
    /// The interface.
    pub interface: &'static Interface,
    /// What follows the interface's name in the URL: further path segments and a query string.
    pub arguments: String,
    /// The requested reason. The confirming event should have the same.
    pub reason: Option<i32>,
}

/// Values that need no escaping in a URL. Nothing else is put into one.
trait Plain: Display + Copy {}
impl Plain for i32 {}
impl Plain for u32 {}
impl Plain for bool {}

/// "Say busy". `None` is left out of the query string: older gateways do not know the parameters,
/// and newer ones have defaults (cec_07_1211).
pub fn say_busy(reason: Option<i32>, prolong: Option<bool>) -> Command {
    let command = Command { reason, ..Command::plain(&SAY_BUSY) };
    command.query("reason", reason).query("prolong", prolong)
}

/// "Request rest" for so many seconds, with a cause of 0 to 255. 0 means none (cec_07_1213).
pub fn rest(seconds: u32, cause: i32, prolong: Option<bool>) -> Command {
    let command = Command { reason: Some(cause), ..Command::plain(&REST) };
    command.segment(seconds).segment(cause).query("prolong", prolong)
}

/// "Reset skill queues" to all that are configured (cec_07_1209).
pub fn reset_skill() -> Command {
    Command::plain(&RESET_SKILL).segment(true)
}

impl Command {
    /// A command without arguments.
    pub fn plain(interface: &'static Interface) -> Self {
        Self { interface, arguments: String::new(), reason: None }
    }

    fn segment(mut self, value: impl Plain) -> Self {
        // Writing to a String cannot fail.
        let _written = write!(self.arguments, "/{value}");
        self
    }

    fn query(mut self, name: &str, value: Option<impl Plain>) -> Self {
        if let Some(value) = value {
            let separator = if self.arguments.contains('?') { '&' } else { '?' };
            let _written = write!(self.arguments, "{separator}{name}={value}");
        }
        self
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_left_out_of_a_command_is_not_sent() {
        for (command, expected, reason) in [
            (say_busy(None, None), "", None),
            (say_busy(Some(200), None), "?reason=200", Some(200)),
            (say_busy(None, Some(false)), "?prolong=false", None),
            (say_busy(Some(0), Some(true)), "?reason=0&prolong=true", Some(0)),
            (rest(60, 0, None), "/60/0", Some(0)),
            (rest(86_399, 255, Some(true)), "/86399/255?prolong=true", Some(255)),
            (reset_skill(), "/true", None),
        ] {
            assert_eq!((command.arguments.as_str(), command.reason), (expected, reason));
        }
    }
}
