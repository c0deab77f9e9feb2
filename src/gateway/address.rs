//! One address of a gateway.
use std::{fmt, io::Write as _};

use http::{HeaderValue, Uri, uri::Authority};

use super::{Command, Interface};
use crate::id::AgentId;

/// One address of a gateway, in the forms that requests need.
#[derive(Clone, Debug)]
pub(super) struct Address {
    uri: Uri,
    host: HeaderValue,
    /// The path before those of the interfaces, for example `/agentgateway/resource`.
    prefix: String,
}

impl Address {
    /// `None` for a URL without a host. The configuration does not allow one.
    pub(super) fn new(base_url: &Uri) -> Option<Self> {
        let host = base_url.authority().map(Authority::as_str)?;
        Some(Self {
            host: HeaderValue::from_str(host).ok()?,
            prefix: base_url.path().trim_end_matches('/').to_owned(),
            uri: base_url.clone(),
        })
    }

    /// The URI to connect to.
    pub(super) fn uri(&self) -> &Uri {
        &self.uri
    }

    /// The value of the `Host` header.
    pub(super) fn host(&self) -> &HeaderValue {
        &self.host
    }

    /// Writes the path and query of a request. The parts need no escaping: the path is that of a URL, and a command has
    /// only plain values.
    pub(super) fn write_target(&self, command: &Command, agent: AgentId, into: &mut Vec<u8>) {
        let (prefix, arguments) = (&self.prefix, &command.arguments);
        let Interface { family, names_agent, tail, .. } = command.interface;
        // Writing into memory cannot fail.
        let _written = if *names_agent {
            write!(into, "{prefix}/{family}/{agent}{tail}{arguments}")
        } else {
            write!(into, "{prefix}/{family}{tail}{arguments}")
        };
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.host.to_str().unwrap_or_default())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        gateway::{FORCE_SIGN_OUT, POLL, SIGN_IN, poll_all, say_busy},
        id::DEFAULT_AGENT_IDS,
    };

    #[track_caller]
    fn check(base_url: &'static str, command: &Command, expected: &str) {
        let address = Address::new(&Uri::from_static(base_url)).unwrap();
        let agent = AgentId::parse("1001", &DEFAULT_AGENT_IDS).unwrap();
        let mut target = Vec::new();
        address.write_target(command, agent, &mut target);
        assert_eq!(String::from_utf8(target).unwrap(), expected);
    }

    #[test]
    fn targets_are_as_the_gateway_documents_them() {
        const BASE: &str = "https://ccg:8043/agentgateway/resource";
        let agent = "/agentgateway/resource/onlineagent/1001";
        check(BASE, &Command::plain(&SIGN_IN), agent);
        check(BASE, &Command::plain(&FORCE_SIGN_OUT), &format!("{agent}/forcelogout"));
        for (reason, prolong, query) in [
            (None, None, ""),
            (Some(200), None, "?reason=200"),
            (Some(0), None, "?reason=0"),
            (None, Some(false), "?prolong=false"),
            (Some(250), Some(true), "?reason=250&prolong=true"),
        ] {
            check(BASE, &say_busy(reason, prolong), &format!("{agent}/saybusy{query}"));
        }
        check(BASE, &Command::plain(&POLL), "/agentgateway/resource/agentevent/1001");
        let all = "/agentgateway/resource/agentevent/allagentevent?time=1471585949806";
        check(BASE, &poll_all(1_471_585_949_806), all);
        check("http://127.0.0.1/", &say_busy(None, None), "/onlineagent/1001/saybusy");
    }

    #[test]
    fn an_address_is_called_by_its_host_and_port_and_there_is_none_without_a_host() {
        let base_url = Uri::from_static("https://ccg:8043/agentgateway/resource");
        let address = Address::new(&base_url).unwrap();
        assert_eq!(address.to_string(), "ccg:8043");
        assert_eq!(address.host(), "ccg:8043");
        assert_eq!(address.uri(), &base_url);
        assert!(Address::new(&Uri::from_static("/agentgateway")).is_none());
    }
}
