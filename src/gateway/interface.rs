//! The gateway's interfaces that the bridge uses, one description each.

use std::{fmt::Write as _, time::Duration};

use http::Method;

use super::request::Command;
use crate::config::Timeouts;

/// One interface of the gateway.
#[derive(Debug)]
pub struct Interface {
    /// The method's name in the gateway's own logs.
    pub log_name: &'static str,
    /// The HTTP method.
    pub method: Method,
    /// What comes before the agent's id in the path.
    pub family: &'static str,
    /// What follows it.
    pub tail: &'static str,
    /// How long the gateway may take.
    pub pace: Pace,
}

/// How long the gateway may take to answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Pace {
    /// `timeouts.request`.
    Request,
    /// `timeouts.sign_in`.
    SignIn,
    /// `timeouts.poll`.
    Poll,
}

/// Signs an agent in (cec_07_1202).
pub static SIGN_IN: Interface = signs_in("login", "");
/// Signs an agent in who is signed in elsewhere (cec_07_1203).
pub static FORCE_SIGN_IN: Interface = signs_in("forceLogin", "/forcelogin");
/// Signs an agent out, who must not be talking (cec_07_1219).
pub static SIGN_OUT: Interface = in_session("logout", Method::DELETE, "/logout");
/// Signs an agent out and releases the call (cec_07_1220).
pub static FORCE_SIGN_OUT: Interface = in_session("forceLogout", Method::DELETE, "/forcelogout");
/// Makes an agent busy (cec_07_1211).
pub static SAY_BUSY: Interface = in_session("sayBusy", Method::POST, "/saybusy");

/// Fetches the agent's next event, and keeps the session alive by that (cec_07_1274).
pub static POLL: Interface = Interface {
    log_name: "getAgentEvent",
    method: Method::GET,
    family: AGENT_EVENT,
    tail: "",
    pace: Pace::Poll,
};

/// "Say busy". What is `None` is left out of the query string: older gateways know neither
/// parameter, and newer ones have defaults (cec_07_1211).
pub fn say_busy(reason: Option<i32>, prolong: Option<bool>) -> Command {
    let mut query = String::new();
    if let Some(reason) = reason {
        push(&mut query, "reason", reason);
    }
    if let Some(prolong) = prolong {
        push(&mut query, "prolong", prolong);
    }
    Command { interface: &SAY_BUSY, query }
}

/// Numbers and booleans need no escaping, and nothing else goes into a query string.
trait Plain: std::fmt::Display + Copy {}
impl Plain for i32 {}
impl Plain for bool {}

fn push(query: &mut String, name: &str, value: impl Plain) {
    let separator = if query.is_empty() { "" } else { "&" };
    // Writing to a String cannot fail.
    let _written = write!(query, "{separator}{name}={value}");
}

const ONLINE_AGENT: &str = "onlineagent";
const AGENT_EVENT: &str = "agentevent";

const fn signs_in(log_name: &'static str, tail: &'static str) -> Interface {
    Interface { log_name, method: Method::PUT, family: ONLINE_AGENT, tail, pace: Pace::SignIn }
}

const fn in_session(log_name: &'static str, method: Method, tail: &'static str) -> Interface {
    Interface { log_name, method, family: ONLINE_AGENT, tail, pace: Pace::Request }
}

impl Interface {
    /// How long the gateway may take to answer.
    pub fn time_limit(&self, timeouts: &Timeouts) -> Duration {
        match self.pace {
            Pace::Request => timeouts.request,
            Pace::SignIn => timeouts.sign_in,
            Pace::Poll => timeouts.poll,
        }
    }
}
