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
    /// What follows `onlineagent/{agentid}` in the path.
    pub tail: &'static str,
    /// Whether it makes a session; all others need one.
    pub signs_in: bool,
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

const fn signs_in(log_name: &'static str, tail: &'static str) -> Interface {
    Interface { log_name, method: Method::PUT, tail, signs_in: true }
}

const fn in_session(log_name: &'static str, method: Method, tail: &'static str) -> Interface {
    Interface { log_name, method, tail, signs_in: false }
}

impl Interface {
    /// How long the gateway may take to answer.
    pub fn time_limit(&self, timeouts: &Timeouts) -> Duration {
        if self.signs_in { timeouts.sign_in } else { timeouts.request }
    }
}
