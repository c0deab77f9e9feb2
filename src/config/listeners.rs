//! `[listeners.<name>]`.

mod http2;

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt,
    net::{Ipv4Addr, Ipv6Addr, SocketAddr},
};

use rustls::pki_types::CertificateDer;

pub use self::http2::Http2;
use super::{
    Identity,
    error::{Problem, quote},
    reader::Section,
    scalar,
    value::Node,
    variables::has_separator,
};

/// An address where gRPC callers connect.
#[derive(Debug)]
pub struct Listener {
    /// The address and port that it listens on. `[::]` takes IPv4 connections, too. `address`.
    pub address: SocketAddr,
    /// TLS for callers; `None`: plaintext. `tls`.
    pub tls: Option<ListenerTls>,
    /// The names of the issuers whose tokens it takes; by default all. `issuers`.
    pub issuers: Vec<String>,
    /// Whether callers need not show who they are. `allow_anonymous`.
    pub allow_anonymous: bool,
    /// Whether reflection is served there; by default as `server.reflection` says. `reflection`.
    pub reflection: bool,
    /// The HTTP/2 limits of each connection. `http2`.
    pub http2: Http2,
}

/// TLS of a listener.
#[derive(Debug)]
pub struct ListenerTls {
    /// The bridge's certificate. `certificate_file`, `key_file`.
    pub identity: Identity,
    /// Who issues callers' certificates; `None`: they are not asked for one. `client_ca_file`.
    pub client_roots: Option<Vec<CertificateDer<'static>>>,
    /// Whether a caller without a certificate may connect. `client_certificates = "optional"`.
    pub is_client_optional: bool,
}

/// The name of a listener: 1 to 63 of `a-z 0-9 - _`, starting with a letter or digit. It is used in
/// the configuration, as a metric label and as a log field.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct ListenerName(Box<str>);

/// The name of the listener that exists if none is configured.
pub(super) const DEFAULT_NAME: &str = "default";
const DEFAULT_PORT: u16 = 50051;
const ISSUERS_MAX: usize = 64;

pub(super) fn listeners(
    section: &Section<'_>,
    issuers: &BTreeSet<&str>,
    reflection: bool,
) -> BTreeMap<ListenerName, Listener> {
    let mut named: Vec<_> = section.named().collect();
    if named.is_empty() {
        named.push((DEFAULT_NAME, section.chosen(DEFAULT_NAME)));
    }
    let several = named.len() > 1;
    let mut listeners = BTreeMap::new();
    for (name, section) in &named {
        let listener = listener(section, several, issuers, reflection);
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

fn listener(
    section: &Section<'_>,
    several: bool,
    known_issuers: &BTreeSet<&str>,
    reflection: bool,
) -> Listener {
    let address = section.read("address", |node| address(scalar::text(node)?));
    if several {
        section.missing("address", "give each listener its own, such as \"[::]:50051\"");
    }
    let issuers = section.read("issuers", |node| issuers(node, known_issuers));
    let listener = Listener {
        address: address.unwrap_or((Ipv4Addr::LOCALHOST, DEFAULT_PORT).into()),
        tls: tls(&section.section("tls")),
        issuers: issuers
            .unwrap_or_else(|| known_issuers.iter().map(|&name| name.to_owned()).collect()),
        allow_anonymous: section.truth("allow_anonymous", false),
        reflection: section.truth("reflection", reflection),
        http2: http2::http2(&section.section("http2")),
    };
    // Where the CA's file is wrong, that is the mistake.
    let is_to_identify =
        section.section("tls").has("client_ca_file") || section.is_wrong("issuers");
    let wants_certificate = listener
        .tls
        .as_ref()
        .is_some_and(|tls| tls.client_roots.is_some() && !tls.is_client_optional);
    if listener.allow_anonymous && wants_certificate {
        section.contradiction(
            &["allow_anonymous"],
            Problem::new(
                "has no effect: nobody connects without a certificate of client_ca_file",
                "give tls.client_certificates = \"optional\", or remove this key",
            ),
        );
    }
    if listener.is_open() && !is_to_identify {
        section.contradiction(
            &["address"],
            Problem::new(
                format!(
                    "other machines can reach {}, but this listener does not ask callers who they are",
                    listener.address
                ),
                "give tls.client_ca_file to ask for their certificates, or add a section of [issuers] \
                 to take tokens; or listen on 127.0.0.1; or set allow_anonymous = true to let \
                 everybody call who reaches the port",
            ),
        );
    }
    // Where callers are identified, others may reach the listener.
    let is_default = !section.has("address") && (listener.identifies() || listener.allow_anonymous);
    let everywhere = SocketAddr::from((Ipv6Addr::UNSPECIFIED, DEFAULT_PORT));
    if is_default { Listener { address: everywhere, ..listener } } else { listener }
}

fn issuers(node: &Node, known: &BTreeSet<&str>) -> Result<Vec<String>, Problem> {
    let names = scalar::items(node)?;
    if names.len() > ISSUERS_MAX {
        let problem = format!("has {} entries", names.len());
        return Err(Problem::new(problem, format!("give at most {ISSUERS_MAX}")));
    }
    let known_name = |(_, name): (_, &str)| {
        known.contains(name).then(|| name.to_owned()).ok_or_else(|| {
            let problem = format!("{} names no section of [issuers]", quote(name));
            Problem::new(problem, "add that section, or give the name of another; [] is none")
        })
    };
    names.into_iter().map(known_name).collect()
}

fn tls(section: &Section<'_>) -> Option<ListenerTls> {
    let identity = section.identity("certificate_file", "key_file");
    let client_roots =
        section.roots("client_ca_file", "the CA certificate of callers' certificates");
    let words = [("required", false), ("optional", true)];
    let optional = section.choice("client_certificates", &words);
    if section.has("client_certificates") && !section.has("client_ca_file") {
        let remedy = "give the CA certificate of callers' certificates, or remove this key";
        let problem = "has no effect without client_ca_file";
        section.contradiction(&["client_certificates"], Problem::new(problem, remedy));
    }
    if section.has("client_ca_file") && !section.has("certificate_file") {
        let remedy = "give certificate_file and key_file too, since only TLS has certificates";
        section
            .contradiction(&["client_ca_file"], Problem::new("has no effect without TLS", remedy));
    }
    let is_client_optional = optional.unwrap_or(false);
    Some(ListenerTls { identity: identity?, client_roots, is_client_optional })
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

/// Parses an address to listen on. An IPv4 address in the form of an IPv6 one, such as `::ffff:127.0.0.1`, is
/// that IPv4 address: a socket that is bound to it takes the same connections.
pub(super) fn address(text: &str) -> Result<SocketAddr, Problem> {
    let parsed = text.parse::<SocketAddr>();
    parsed.map(|addr| (addr.ip().to_canonical(), addr.port()).into()).map_err(|_| {
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

// === impl Listener ===

impl Listener {
    /// Whether it asks callers who they are.
    pub fn identifies(&self) -> bool {
        let asks = self.tls.as_ref().is_some_and(|tls| tls.client_roots.is_some());
        asks || !self.issuers.is_empty()
    }

    /// Whether others may call without showing who they are, although nobody has said so.
    fn is_open(&self) -> bool {
        !self.identifies() && !self.allow_anonymous && !self.address.ip().is_loopback()
    }

    /// Whether callers need not show who they are. On this machine alone they need not where nothing
    /// says how they could.
    pub fn allows_anonymous(&self) -> bool {
        self.allow_anonymous || !self.identifies()
    }
}

// === impl ListenerName ===

impl ListenerName {
    fn parse(text: &str) -> Option<Self> {
        is_name(text).then(|| Self(text.into()))
    }

    /// As the configuration spells it.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// Whether this can be the name of a section: 1 to 63 of `a-z 0-9 - _`, starting with a letter or digit.
pub(super) fn is_name(text: &str) -> bool {
    let named = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit();
    let bytes = text.as_bytes();
    bytes.len() <= 63
        && bytes.first().copied().is_some_and(named)
        && bytes.iter().all(|&b| named(b) || matches!(b, b'-' | b'_'))
        && !has_separator(text)
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

/// Warnings about listeners where everybody may call.
pub(super) fn anonymous_warnings(
    listeners: &BTreeMap<ListenerName, Listener>,
) -> impl Iterator<Item = String> {
    let open = listeners
        .iter()
        .filter(|(_, listener)| listener.allow_anonymous && !listener.address.ip().is_loopback());
    open.map(|(name, listener)| {
        format!(
            "listeners.{name}.allow_anonymous is true: everybody who reaches {} may call without showing \
             who they are, and may do what [callers] allows to \"anonymous\", or everything without \
             [callers]; set it to false, and ask callers for a certificate or a token",
            listener.address
        )
    })
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
