//! By which names the admin port may be asked.

use std::net::IpAddr;

use http::{HeaderValue, Request, header::HOST, uri::Authority};

use crate::config::HostName;

/// Checks by which name a request has asked for the port.
///
/// A web page can let its own name point at any address (DNS rebinding), and then reads with the
/// browser of somebody who reaches this port. The browser sends the page's name as `Host`. A page
/// has no power over addresses and `localhost`, and only browsers are asked by pages, so a request
/// without a `Host` is none.
#[derive(Debug)]
pub(super) struct Hosts(Vec<HostName>);

impl Hosts {
    /// Addresses, `localhost` and these names are right.
    pub(super) fn new(names: Vec<HostName>) -> Self {
        Self(names)
    }

    /// Whether every name that the request uses for the port is right.
    pub(super) fn allow<B>(&self, request: &Request<B>) -> bool {
        let named = request.uri().authority().is_none_or(|authority| self.allows(authority));
        named && request.headers().get_all(HOST).iter().all(|host| self.allows_header(host))
    }

    fn allows_header(&self, host: &HeaderValue) -> bool {
        let authority = Authority::try_from(host.as_bytes());
        authority.is_ok_and(|authority| self.allows(&authority))
    }

    fn allows(&self, authority: &Authority) -> bool {
        let host = authority.host();
        // Nothing but a port may be around it: `host` takes "[::1].example" for an address.
        let port = authority.as_str().strip_prefix(host);
        if !port.is_some_and(|port| port.is_empty() || port.starts_with(':')) {
            return false;
        }
        let is_address = |text: &str| text.parse::<IpAddr>().is_ok();
        let bare = host.strip_prefix('[').and_then(|host| host.strip_suffix(']')).unwrap_or(host);
        let name = host.strip_suffix('.').unwrap_or(host).to_ascii_lowercase();
        is_address(bare)
            || name == "localhost"
            || name.ends_with(".localhost")
            || self.0.iter().any(|allowed| allowed.as_str() == name)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn allows(uri: &str, hosts: &[&[u8]]) -> bool {
        let names = ["bridge", "bridge.ops.svc"].map(|name| HostName::parse(name).unwrap());
        let mut request = Request::get(uri).body(()).unwrap();
        for host in hosts {
            request.headers_mut().append(HOST, HeaderValue::from_bytes(host).unwrap());
        }
        Hosts::new(names.into()).allow(&request)
    }

    #[test]
    fn addresses_localhost_and_configured_names_are_right_with_any_port() {
        for host in [
            &b"127.0.0.1"[..],
            b"10.0.3.7:9090",
            b"[::1]:9090",
            b"[fd00::7]",
            b"localhost",
            b"LocalHost:19090",
            b"localhost.",
            b"admin.localhost",
            b"bridge:9090",
            b"Bridge.Ops.svc",
            b"bridge.ops.svc.:80",
        ] {
            assert!(allows("/", &[host]), "{}", host.escape_ascii());
        }
        assert!(allows("/", &[]), "no browser leaves it out");
    }

    #[test]
    fn any_other_name_is_wrong_wherever_it_is() {
        for host in [
            &b"evil.example"[..],
            b"evil.example:9090",
            b"127.0.0.1.evil.example",
            b"localhost.evil.example",
            b"notlocalhost",
            b"x.bridge",
            b"bridge.evil.example",
            b"[::1].evil.example",
            b"2130706433",
            b"0x7f.1",
            b"",
            b"a b",
            b"\xff",
        ] {
            assert!(!allows("/", &[host]), "{}", host.escape_ascii());
        }
        assert!(!allows("/", &[b"localhost", b"evil.example"]), "two headers");
        assert!(!allows("http://evil.example/status.json", &[b"localhost"]), "an absolute address");
        assert!(allows("http://127.0.0.1:9090/status.json", &[b"bridge"]));
    }
}
