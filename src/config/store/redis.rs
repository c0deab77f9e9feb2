use std::time::Duration;

use secrecy::SecretString;

use super::keys::keys;
use crate::{
    config::{
        error::{Problem, quote},
        files,
        reader::Section,
        scalar::{self, MILLISECOND, MINUTE, SECOND, is_this_machine},
    },
    keyring::EncryptionKey,
};

/// A Redis in which replicas share sessions.
#[derive(Clone, Debug)]
pub struct RedisStore {
    /// How the Redis or Valkey is reached.
    pub redis: Redis,
    /// The prefix of all names of keys and channels. `store.key_prefix`.
    pub key_prefix: String,
    /// How long a lease on polling for an agent lasts. After a replica is gone, it takes this long
    /// until another one polls for its agents. `store.lease`.
    pub lease: Duration,
    /// Whether a replica goes on polling while it cannot renew its leases. `store.when_away`.
    pub when_away: WhenAway,
    /// The keys that sessions are encrypted with; at least one. The first one encrypts, all of them
    /// decrypt. `store.encryption_key_files`.
    pub encryption_keys: Vec<EncryptionKey>,
    /// Whether the passwords that callers give are shared too. `store.credentials`.
    pub credentials: bool,
}

/// What a replica does when its leases end while Redis cannot be reached to renew them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum WhenAway {
    /// It goes on polling until Redis answers again. Then it stops polling for the agents whose leases
    /// another replica has.
    Keep,
    /// It stops polling, so that two replicas never poll for the same agent.
    Stop,
}

/// How a Redis or Valkey is reached.
#[derive(Clone, Debug)]
pub struct Redis {
    /// What kind of servers `nodes` are. `store.topology`.
    pub topology: Topology,
    /// The server, the sentinels, or nodes of the cluster; at least one. `store.urls`.
    pub nodes: Vec<RedisNode>,
    /// TLS settings; `None`: plaintext. `rediss://` in `store.urls`.
    pub tls: Option<RedisTls>,
    /// The user in Redis' access control list; `None`: the default user. `store.username`.
    pub username: Option<String>,
    /// That user's password. `store.password_file`.
    pub password: Option<SecretString>,
    /// Time limits. `store.timeouts`.
    pub timeouts: RedisTimeouts,
}

/// What kind of servers the addresses of a Redis are.
#[derive(Clone, Debug)]
pub enum Topology {
    /// One server.
    Standalone,
    /// Sentinels, which know where the master is.
    Sentinel(Sentinel),
    /// Nodes of a cluster; each of them knows the others.
    Cluster,
}

/// How sentinels are asked for the master.
#[derive(Clone, Debug)]
pub struct Sentinel {
    /// The name under which the sentinels watch the master. `store.sentinel.master`.
    pub master: String,
    /// The user for the sentinels themselves; `None`: the default user. `store.sentinel.username`.
    pub username: Option<String>,
    /// That user's password. `store.sentinel.password_file`.
    pub password: Option<SecretString>,
}

/// One address of a Redis.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RedisNode {
    /// A host name or an IP address.
    pub host: String,
    /// The TCP port.
    pub port: u16,
}

/// TLS towards a Redis.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RedisTls {
    /// The CA certificates, in PEM, that the server's certificate is checked with; `None`: the
    /// system's. `store.tls.ca_file`.
    pub ca_pem: Option<Vec<u8>>,
}

/// Time limits for a Redis.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RedisTimeouts {
    /// For a new connection: name lookup, TCP, TLS and authentication together.
    /// `store.timeouts.connect`.
    pub connect: Duration,
    /// For the answer to a command. `store.timeouts.command`.
    pub command: Duration,
    /// How often a connection that only subscribes is pinged, to notice that it is dead.
    pub heartbeat: Duration,
}

/// The most addresses that may be given; only sentinels and clusters have several.
const URLS_MAX: usize = 16;
const DEFAULT_PORT: u16 = 6379;
const DEFAULT_PREFIX: &str = "ccgw:";
const PREFIX_MAX: usize = 64;
/// How soon a replica notices that its subscription is cut off; well below a sensible `store.lease`.
const HEARTBEAT: Duration = Duration::from_secs(5);
const URLS_REMEDY: &str = "give redis://<host>[:<port>], or rediss:// for TLS, without user name, \
                           password or path";
const PASSWORD_REMEDY: &str = "give the path of a file that holds the password alone";

/// One address of `store.urls`, before all of them are checked together.
struct Url {
    node: RedisNode,
    tls: bool,
}

pub(super) fn redis(section: &Section<'_>) -> RedisStore {
    let urls = section.list("urls", URLS_MAX, url).unwrap_or_default();
    let topology = topology(section);
    let tls = tls(section, &urls);
    check_count(section, &topology, urls.len());
    warn_of_plaintext(section, &urls);
    let username = section.text("username").map(str::to_owned);
    let password = section.secret("password_file", PASSWORD_REMEDY);
    if username.is_some() && !section.has("password_file") {
        section.contradiction(
            &["username"],
            Problem::new(
                "has no effect without password_file",
                "give password_file too, or neither of them",
            ),
        );
    }
    RedisStore {
        redis: Redis {
            topology,
            nodes: urls.into_iter().map(|url| url.node).collect(),
            tls,
            username,
            password,
            timeouts: timeouts(&section.section("timeouts")),
        },
        key_prefix: section
            .read("key_prefix", |node| prefix(scalar::text(node)?))
            .unwrap_or_else(|| DEFAULT_PREFIX.to_owned()),
        lease: section.duration("lease", 15 * SECOND, SECOND..=MINUTE),
        when_away: when_away(section),
        encryption_keys: keys(section),
        credentials: section.truth("credentials", false),
    }
}

impl Redis {
    /// This configuration with the user names, passwords and CA certificates of another.
    #[must_use]
    pub fn with_access_of(&self, other: &Self) -> Self {
        let mut changed = self.clone();
        changed.username.clone_from(&other.username);
        changed.password.clone_from(&other.password);
        if let (Some(own), Some(tls)) = (&mut changed.tls, &other.tls) {
            own.ca_pem.clone_from(&tls.ca_pem);
        }
        let topologies = (&mut changed.topology, &other.topology);
        if let (Topology::Sentinel(own), Topology::Sentinel(sentinel)) = topologies {
            own.username.clone_from(&sentinel.username);
            own.password.clone_from(&sentinel.password);
        }
        changed
    }
}

fn url(text: &str) -> Result<Url, Problem> {
    scalar::without_user(text, "give them as username and password_file")?;
    usable(text).ok_or_else(|| {
        Problem::new(format!("{} is not an address of a Redis", quote(text)), URLS_REMEDY)
    })
}

fn usable(text: &str) -> Option<Url> {
    let (scheme, rest) = text.split_once("://")?;
    let tls = match scheme {
        "redis" | "valkey" => false,
        "rediss" | "valkeys" => true,
        _ => return None,
    };
    let authority: http::uri::Authority = rest.trim_end_matches('/').parse().ok()?;
    let host = authority.host().trim_matches(['[', ']']);
    rustls::pki_types::ServerName::try_from(host).ok()?;
    let port = match authority.as_str().get(authority.host().len()..) {
        Some("") => DEFAULT_PORT,
        _ => authority.port_u16().filter(|port| *port > 0)?,
    };
    Some(Url { node: RedisNode { host: host.to_owned(), port }, tls })
}

fn topology(section: &Section<'_>) -> Topology {
    #[derive(Clone, Copy)]
    enum Kind {
        Standalone,
        Sentinel,
        Cluster,
    }
    let kinds = [
        ("standalone", Kind::Standalone),
        ("sentinel", Kind::Sentinel),
        ("cluster", Kind::Cluster),
    ];
    let kind = section.choice("topology", &kinds).unwrap_or(Kind::Standalone);
    let inner = section.section("sentinel");
    let sentinel = Sentinel {
        master: inner.text("master").unwrap_or_default().to_owned(),
        username: inner.text("username").map(str::to_owned),
        password: inner.secret("password_file", PASSWORD_REMEDY),
    };
    match kind {
        Kind::Sentinel => {
            inner.missing("master", "give the name under which the sentinels watch the master");
            Topology::Sentinel(sentinel)
        }
        Kind::Standalone => Topology::Standalone,
        Kind::Cluster => Topology::Cluster,
    }
}

fn when_away(section: &Section<'_>) -> WhenAway {
    let choices = [("keep", WhenAway::Keep), ("stop", WhenAway::Stop)];
    section.choice("when_away", &choices).unwrap_or(WhenAway::Keep)
}

fn check_count(section: &Section<'_>, topology: &Topology, count: usize) {
    if matches!(topology, Topology::Standalone) && count > 1 {
        section.contradiction(
            &["urls", "topology"],
            Problem::new(
                format!("urls has {count} addresses, and topology is standalone"),
                "give the one address, or topology = \"sentinel\" or \"cluster\"",
            ),
        );
    }
}

fn tls(section: &Section<'_>, urls: &[Url]) -> Option<RedisTls> {
    let inner = section.section("tls");
    let roots = inner.roots("ca_file", "the CA certificate of Redis");
    let ca_pem = roots.and_then(|_| {
        let path = inner.path("ca_file")?;
        files::read(&path, files::PEM_MAX).ok().map(|(pem, _)| pem.to_vec())
    });
    let any = urls.iter().any(|url| url.tls);
    if any && !urls.iter().all(|url| url.tls) {
        let wrong = Problem::new("has addresses with TLS and without", "give the same for all");
        section.contradiction(&["urls"], wrong);
    }
    if inner.has("ca_file") && !any && !urls.is_empty() {
        inner.contradiction(
            &["ca_file"],
            Problem::new("has no effect without TLS", "give rediss:// in store.urls"),
        );
    }
    any.then_some(RedisTls { ca_pem })
}

fn warn_of_plaintext(section: &Section<'_>, urls: &[Url]) {
    if let Some(url) = urls.iter().find(|url| !url.tls && !is_this_machine(&url.node.host)) {
        section.notes().warn(format!(
            "store.urls has redis://{}: the password of Redis goes over the network in plain text, \
             and everybody on the way can undo changes of sessions; give rediss://",
            url.node.host
        ));
    }
}

fn prefix(text: &str) -> Result<String, Problem> {
    let good =
        |b: u8| b.is_ascii_graphic() && !matches!(b, b'{' | b'}' | b'*' | b'?' | b'[' | b']');
    if text.len() <= PREFIX_MAX && text.bytes().all(good) {
        return Ok(text.to_owned());
    }
    Err(Problem::new(
        format!("{} is not a key prefix", quote(text)),
        format!(
            "give up to {PREFIX_MAX} letters, digits and punctuation without braces, brackets, \"*\" and \"?\""
        ),
    ))
}

fn timeouts(section: &Section<'_>) -> RedisTimeouts {
    RedisTimeouts {
        connect: section.duration("connect", SECOND, MILLISECOND..=MINUTE),
        command: section.duration("command", 500 * MILLISECOND, MILLISECOND..=MINUTE),
        heartbeat: HEARTBEAT,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_have_a_scheme_a_host_and_a_port() {
        let seen = |text| usable(text).map(|url| (url.node.host, url.node.port, url.tls));
        assert_eq!(seen("redis://cache"), Some(("cache".into(), 6379, false)));
        assert_eq!(
            seen("rediss://cache.example:7000/"),
            Some(("cache.example".into(), 7000, true))
        );
        assert_eq!(seen("valkeys://[::1]:7000"), Some(("::1".into(), 7000, true)));
        for bad in ["cache", "http://cache", "redis://", "redis://cache:0", "redis://cache/2"] {
            assert_eq!(seen(bad), None, "{bad}");
        }
    }
}
