//! `[listeners.<name>]`.

mod http2;

use std::{
    collections::BTreeMap,
    fmt,
    net::{Ipv6Addr, SocketAddr},
};

pub use self::http2::Http2;
use super::{
    Identity,
    error::{Problem, quote},
    reader::Section,
    scalar,
    variables::has_separator,
};

/// An address where gRPC callers connect.
#[derive(Debug)]
pub struct Listener {
    /// The address and port that it listens on. `[::]` takes IPv4 connections, too. `address`.
    pub address: SocketAddr,
    /// The certificate for callers; `None`: plaintext. `tls`.
    pub tls: Option<Identity>,
    /// The HTTP/2 limits of each connection. `http2`.
    pub http2: Http2,
}

/// The name of a listener: 1 to 63 of `a-z 0-9 - _`, starting with a letter or digit. It is used in
/// the configuration, as a metric label and as a log field.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct ListenerName(Box<str>);

/// The name of the listener that exists if none is configured.
pub(super) const DEFAULT_NAME: &str = "default";
const DEFAULT_ADDRESS: (Ipv6Addr, u16) = (Ipv6Addr::UNSPECIFIED, 50051);

pub(super) fn listeners(section: &Section<'_>) -> BTreeMap<ListenerName, Listener> {
    let mut named: Vec<_> = section.named().collect();
    if named.is_empty() {
        named.push((DEFAULT_NAME, section.chosen(DEFAULT_NAME)));
    }
    let several = named.len() > 1;
    let mut listeners = BTreeMap::new();
    for (name, section) in &named {
        let listener = listener(section, several);
        match ListenerName::parse(name) {
            Some(name) => drop(listeners.insert(name, listener)),
            None => section.error(Problem::new(
                format!("{} is not a valid listener name", quote(name)),
                "it must be 1 to 63 of a-z, 0-9, \"-\" and \"_\", starting with a letter or digit, \
                 without \"__\" and not ending with \"_\"",
            )),
        }
    }
    check_addresses(&named, &listeners);
    listeners
}

fn listener(section: &Section<'_>, several: bool) -> Listener {
    let address = section.read("address", |node| address(scalar::text(node)?));
    if several {
        section.missing("address", "give each listener its own, such as \"[::]:50051\"");
    }
    Listener {
        address: address.unwrap_or(DEFAULT_ADDRESS.into()),
        tls: section.section("tls").identity("certificate_file", "key_file"),
        http2: http2::http2(&section.section("http2")),
    }
}

fn check_addresses(sections: &[(&str, Section<'_>)], listeners: &BTreeMap<ListenerName, Listener>) {
    let good = sections.iter().filter(|(_, section)| !section.is_wrong("address"));
    let good: Vec<_> = good
        .filter_map(|(name, section)| Some((section, listeners.get_key_value(*name)?)))
        .collect();
    for (at, (section, (_, Listener { address, .. }))) in good.iter().enumerate() {
        let mut earlier = good.iter().take(at).map(|(_, listener)| listener);
        if let Some((other, _)) = earlier.find(|(_, other)| overlap(other.address, *address)) {
            section.contradiction(
                &["address"],
                Problem::new(
                    format!("{address} is taken by listener {other}"),
                    "give each listener its own port",
                ),
            );
        }
    }
}

/// Parses an address to listen on.
pub(super) fn address(text: &str) -> Result<SocketAddr, Problem> {
    text.parse().map_err(|_| {
        Problem::new(
            format!("{} is not an address to listen on", quote(text)),
            "give an IP address and a port, such as \"[::]:50051\", which takes IPv4 connections too, or \"127.0.0.1:50051\"",
        )
    })
}

/// Whether one process cannot listen on both addresses.
pub(super) fn overlap(one: SocketAddr, other: SocketAddr) -> bool {
    let same_port = one.port() == other.port() && one.port() != 0;
    // "[::]" has all addresses of both families, "0.0.0.0" those of its own.
    let has = |all: SocketAddr, one: SocketAddr| {
        all.ip().is_unspecified() && (all.is_ipv6() || one.is_ipv4())
    };
    same_port && (one.ip() == other.ip() || has(one, other) || has(other, one))
}

// === impl ListenerName ===

impl ListenerName {
    fn parse(text: &str) -> Option<Self> {
        let named = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit();
        let bytes = text.as_bytes();
        let good = bytes.len() <= 63
            && bytes.first().copied().is_some_and(named)
            && bytes.iter().all(|&b| named(b) || matches!(b, b'-' | b'_'))
            && !has_separator(text);
        good.then(|| Self(text.into()))
    }

    /// As the configuration spells it.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for ListenerName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for ListenerName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&*self.0, f)
    }
}

impl std::borrow::Borrow<str> for ListenerName {
    fn borrow(&self) -> &str {
        &self.0
    }
}

/// Warnings about listeners without TLS that other machines can reach.
pub(super) fn plaintext_warnings(
    listeners: &BTreeMap<ListenerName, Listener>,
) -> impl Iterator<Item = String> {
    let exposed = listeners
        .iter()
        .filter(|(_, listener)| listener.tls.is_none() && !listener.address.ip().is_loopback());
    exposed.map(|(name, listener)| {
        format!(
            "listeners.{name}.address is {} without [listeners.{name}.tls]: callers' requests, \
             Guids and passwords in them go over the network in plain text; give \
             certificate_file and key_file in [listeners.{name}.tls], or listen on 127.0.0.1",
            listener.address
        )
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_overlap_where_one_process_cannot_listen_on_both() {
        for (one, other, expected) in [
            ("127.0.0.1:1", "127.0.0.1:1", true),
            ("127.0.0.1:1", "127.0.0.1:2", false),
            ("127.0.0.1:1", "127.0.0.2:1", false),
            ("0.0.0.0:1", "127.0.0.1:1", true),
            ("[::1]:1", "[::]:1", true),
            ("[::]:1", "0.0.0.0:1", true),
            ("[::]:1", "127.0.0.1:1", true),
            ("[::1]:1", "0.0.0.0:1", false),
            ("127.0.0.1:0", "127.0.0.1:0", false),
        ] {
            let (one, other) = (one.parse().unwrap(), other.parse().unwrap());
            assert_eq!(overlap(one, other), expected, "{one} {other}");
            assert_eq!(overlap(other, one), expected, "{other} {one}");
        }
    }
}
