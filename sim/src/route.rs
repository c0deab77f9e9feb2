//! Finds the interface, agent and parameters that a request line names.

use std::ops::RangeInclusive;

use super::{
    interface::Interface,
    options::{AgentStatus, IdOutside, Options},
};

/// A parsed request line.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Route {
    /// The agent; `None`: the interface is about all agents.
    pub(super) agent: Option<u32>,
    pub(super) interface: Interface,
    /// The path segments after the interface's name.
    pub(super) tail: Vec<String>,
    /// The query's parameters, decoded, in order.
    pub(super) query: Vec<(String, String)>,
}

/// Why a request line matches no route.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum NoRoute {
    /// HTTP 404.
    NotFound,
    /// HTTP 405.
    WrongMethod,
    /// Retcode 000-002.
    BadId,
    /// [`Codes::no_interface`](crate::Codes::no_interface).
    NoInterface,
}

/// The path prefix of every interface (`cec_07_1202`).
pub(super) const BASE_PATH: &str = "/agentgateway/resource";

/// The path segment in place of an agent id in a poll for all agents (client).
const ALL_AGENTS: &str = "allagentevent";
/// The path segment in place of an agent id in a sign-in by account (client).
const BY_ACCOUNT: &str = "loginbyaccount";
/// The times of a rest in seconds that the route's expression matches (client).
const REST_SECONDS: RangeInclusive<u32> = 1..=86_399;
/// The causes of a rest that the route's expression matches (client).
const REST_CAUSES: RangeInclusive<u32> = 0..=255;

// === impl Route ===

impl Route {
    /// Finds the route of a request line.
    pub(super) fn find(method: &str, target: &str, options: &Options) -> Result<Self, NoRoute> {
        let (path, query) = target.split_once('?').unwrap_or((target, ""));
        let path = path.strip_prefix(BASE_PATH).ok_or(NoRoute::NotFound)?;
        if !path.starts_with('/') {
            return Err(NoRoute::NotFound);
        }
        // The library's own base URL ends in a slash, and each of its paths begins with one (client).
        let mut segments = path.trim_start_matches('/').split('/');
        let family = segments.next().ok_or(NoRoute::NotFound)?;
        let id = segments.next().ok_or(NoRoute::NotFound)?;
        let name = segments.next().unwrap_or_default();
        let tail: Vec<String> = segments.map(decode).collect();

        let (interface, wanted, length) =
            Interface::named(family, name).ok_or(NoRoute::NotFound)?;
        if interface == Interface::AgentStatus {
            match options.agent_status {
                AgentStatus::Served => {}
                AgentStatus::NotFound => return Err(NoRoute::NotFound),
                AgentStatus::WrongMethod => return Err(NoRoute::WrongMethod),
                AgentStatus::Refused => return Err(NoRoute::NoInterface),
            }
        }
        if tail.len() != length {
            return Err(NoRoute::NotFound);
        }
        if method != wanted {
            return Err(NoRoute::WrongMethod);
        }
        let of_all = match (interface, id) {
            (Interface::Poll, ALL_AGENTS) => Some(Interface::PollAll),
            (Interface::SignIn, BY_ACCOUNT) => Some(Interface::SignInByAccount),
            _ => None,
        };
        if let Some(interface) = of_all {
            return Ok(Self { agent: None, interface, tail, query: pairs(query) });
        }
        if options.rest_outside == IdOutside::NotFound && !is_rest_inside(interface, &tail) {
            return Err(NoRoute::NotFound);
        }
        let agent = agent_id(id, options).ok_or(match options.id_outside {
            IdOutside::NotFound => NoRoute::NotFound,
            IdOutside::Refused => NoRoute::BadId,
        })?;
        Ok(Self { agent: Some(agent), interface, tail, query: pairs(query) })
    }

    /// A query parameter; an empty one counts as absent (`cec_07_1211`).
    pub(super) fn parameter(&self, name: &str) -> Option<&str> {
        let found = self.query.iter().find(|(key, _)| key == name);
        found.map(|(_, value)| &**value).filter(|v| !v.is_empty())
    }
}

/// Whether time and cause of a rest match the route's expressions.
fn is_rest_inside(interface: Interface, tail: &[String]) -> bool {
    let ((Interface::Rest, [time, cause]) | (Interface::ForceRest, [_, time, cause])) =
        (interface, tail)
    else {
        return true;
    };
    let is_in = |text: &str, range: RangeInclusive<u32>| {
        text.parse().is_ok_and(|number| range.contains(&number))
    };
    is_in(time, REST_SECONDS) && is_in(cause, REST_CAUSES)
}

fn agent_id(text: &str, options: &Options) -> Option<u32> {
    let digits = !text.starts_with('0') && text.bytes().all(|b| b.is_ascii_digit());
    let id = text.parse().ok().filter(|_| digits)?;
    options.agent_ids.contains(&id).then_some(id)
}

fn pairs(query: &str) -> Vec<(String, String)> {
    let pair = |text: &str| {
        let (key, value) = text.split_once('=').unwrap_or((text, ""));
        (decode(key), decode(value))
    };
    query.split('&').filter(|text| !text.is_empty()).map(pair).collect()
}

/// Decodes percent encoding; a wrong escape is left unchanged.
fn decode(text: &str) -> String {
    let mut decoded = Vec::new();
    let mut rest = text.as_bytes();
    while let Some((&byte, after)) = rest.split_first() {
        let hex = after.get(..2).filter(|_| byte == b'%');
        let value = hex.and_then(|hex| u8::from_str_radix(str::from_utf8(hex).ok()?, 16).ok());
        rest = after.get(if value.is_some() { 2 } else { 0 }..).unwrap_or_default();
        decoded.push(value.unwrap_or(if byte == b'+' { b' ' } else { byte }));
    }
    String::from_utf8_lossy(&decoded).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(method: &str, tail: &str, expected: Result<(u32, Interface), NoRoute>) {
        let expected = expected.map(|(agent, interface)| (Some(agent), interface));
        let target = format!("{BASE_PATH}/{tail}");
        let found = Route::find(method, &target, &Options::default());
        assert_eq!(found.map(|route| (route.agent, route.interface)), expected, "{method} {tail}");
    }

    #[test]
    fn routes_follow_the_documented_addresses() {
        check("PUT", "onlineagent/291", Ok((291, Interface::SignIn)));
        check("GET", "agentevent/59999?calldata=", Ok((59_999, Interface::Poll)));
        check("POST", "onlineagent/7/rest/60/0?prolong=true", Ok((7, Interface::Rest)));
        check("POST", "qualitycontrol/7/forcebusy/8", Ok((7, Interface::ForceBusy)));
        check("PUT", "/onlineagent/291", Ok((291, Interface::SignIn)));
        check("POST", "//onlineagent/7/saybusy", Ok((7, Interface::SayBusy)));
        check("POST", "onlineagent//7/saybusy", Err(NoRoute::NotFound));
        check("POST", "onlineagent/7/rest/60", Err(NoRoute::NotFound));
        check("PUT", "onlineagent/7/loginex", Ok((7, Interface::SignInEx)));
        check("GET", "agentgroup/7/allagentstatus", Ok((7, Interface::AllAgentStatus)));
        check("POST", "qualitycontrol/7/forcerest/8/60/1", Ok((7, Interface::ForceRest)));
        check("GET", "onlineagent/7/saybusy", Err(NoRoute::WrongMethod));
        check("GET", "onlineagent/7/nothing", Err(NoRoute::NotFound));
        for id in ["0", "0291", "60000", "%2e", "+5", ""] {
            check("PUT", &format!("onlineagent/{id}"), Err(NoRoute::NotFound));
        }
    }

    #[test]
    fn parameters_are_decoded_and_empty_ones_left_out() {
        let target = format!("{BASE_PATH}/onlineagent/7/saybusy?reason=%32%300&prolong=&x=%zz");
        let route = Route::find("POST", &target, &Options::default()).unwrap();
        assert_eq!(route.parameter("reason"), Some("200"));
        assert_eq!(route.parameter("prolong"), None);
        assert_eq!(route.parameter("x"), Some("%zz"));
    }
}
