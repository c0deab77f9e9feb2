//! `[store]`.

use std::{
    collections::HashSet,
    fs::OpenOptions,
    path::{Path, PathBuf},
};

use secrecy::SecretString;

use super::{
    FileStore, Redis, RedisNode, RedisStore, RedisTimeouts, RedisTls, Sentinel, Store, Topology,
    WhenAway,
    error::{Wrong, quote},
    files,
    reader::Section,
    server::{MILLISECOND, MINUTE, SECOND},
};
use crate::keyring::{EncryptionKey, KEY_LEN, unhex};

/// Sentinels, or the nodes of a cluster that are asked first.
const URLS_MAX: usize = 16;
/// The new key, the one in use, and one that was forgotten.
const KEYS_MAX: usize = 8;
const DEFAULT_PORT: u16 = 6379;
const DEFAULT_PREFIX: &str = "ccgw:";
const PREFIX_MAX: usize = 64;
const SECRET_MAX: u64 = 4096;
/// Keys that say nothing of a file.
const OF_REDIS: [&str; 9] = [
    "urls",
    "topology",
    "sentinel",
    "tls",
    "username",
    "password_file",
    "key_prefix",
    "lease",
    "timeouts",
];

const URLS_REMEDY: &str = "give redis://<host>[:<port>], or rediss:// for TLS, without user name, \
                           password or path";
const KEYS_REMEDY: &str = "give the path of a file with 32 random bytes, as they are or in hex or \
                           base64, such as \"openssl rand -hex 32\" prints";
const PASSWORD_REMEDY: &str = "give the path of a file that holds the password alone";

/// An address as given, before all of them are looked at together.
struct Url {
    node: RedisNode,
    tls: bool,
}

pub(super) fn store(root: &Section<'_>) -> Option<Store> {
    let section = root.section("store");
    // Every key is asked for, or those of the other kind would not be known.
    let path = section.path("file");
    let redis = redis(&section);
    let file = path.and_then(|path| file(&section, path, &redis));
    if !root.has("store") {
        return None;
    }
    if section.has("file") {
        return file.map(Store::File);
    }
    if !section.has("urls") {
        let remedy = "give urls, where replicas share sessions through a Redis, or file, where one \
                      process keeps them over a restart";
        section.missing("urls", remedy);
    }
    section.missing("encryption_keys", KEYS_REMEDY);
    Some(Store::Redis(Box::new(redis)))
}

/// What a store in a file has in common with one in Redis is read already.
fn file(section: &Section<'_>, path: PathBuf, redis: &RedisStore) -> Option<FileStore> {
    for key in OF_REDIS.into_iter().filter(|key| section.has(key)) {
        section.contradiction(
            &[key],
            Wrong::new(
                format!("{key} is for a Redis, and file for one process without it"),
                format!(
                    "give store.urls to share sessions with other replicas, or store.file to keep \
                     them over a restart, and no {key} with it"
                ),
            ),
        );
    }
    if redis.credentials && !section.has("encryption_keys") {
        let problem = "would store passwords in plain text";
        section.contradiction(&["credentials"], Wrong::new(problem, KEYS_REMEDY));
    }
    let path = section.read("file", |_| usable_file(path))?;
    if !section.has("encryption_keys") {
        section.notes().warn(format!(
            "store.file without store.encryption_keys: whoever can read {} has the Guids of all \
             agents; give encryption_keys",
            path.display()
        ));
    }
    let encryption_keys = redis.encryption_keys.clone();
    Some(FileStore { path, encryption_keys, credentials: redis.credentials })
}

/// The path, if there can be a file.
fn usable_file(path: PathBuf) -> Result<PathBuf, Wrong> {
    let shown = quote(&path.to_string_lossy());
    let remedy = "give the path of a file in a folder that exists and that the bridge may write to";
    let wrong = |problem| Err(Wrong::new(problem, remedy));
    match std::fs::metadata(&path) {
        Ok(found) if !found.is_file() => return wrong(format!("{shown} is no file")),
        Ok(_) => {
            return match OpenOptions::new().read(true).write(true).open(&path) {
                Ok(_) => Ok(path),
                Err(error) => {
                    let error = files::words(&error);
                    wrong(format!("{shown} cannot be read and written ({error})"))
                }
            };
        }
        Err(_) => {}
    }
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty());
    let folder = folder.unwrap_or(Path::new("."));
    match std::fs::metadata(folder) {
        Ok(found) if found.is_dir() => Ok(path),
        Ok(_) => wrong(format!("{shown} is in something that is no folder")),
        Err(error) => {
            let error = files::words(&error);
            wrong(format!("the folder of {shown} cannot be used ({error})"))
        }
    }
}

fn redis(section: &Section<'_>) -> RedisStore {
    let urls = section.list("urls", URLS_MAX, url).unwrap_or_default();
    let topology = topology(section);
    let tls = tls(section, &urls);
    check_count(section, &topology, urls.len());
    warn_of_plaintext(section, &urls);
    let username = section.text("username").map(str::to_owned);
    let password = password(section);
    if username.is_some() && !section.has("password_file") {
        section.contradiction(
            &["username"],
            Wrong::new("is of no use without password_file", "give password_file too, or neither"),
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
            .read("key_prefix", |node| prefix(super::scalar::text(node)?))
            .unwrap_or_else(|| DEFAULT_PREFIX.to_owned()),
        lease: section.duration("lease", 15 * SECOND, SECOND..=MINUTE),
        when_away: when_away(section),
        encryption_keys: keys(section),
        credentials: section.truth("credentials", false),
    }
}

fn url(text: &str) -> Result<Url, Wrong> {
    // What comes before an '@' may be a password, so it is not repeated.
    if text.contains('@') {
        let problem = "has an address with a user name or password";
        return Err(Wrong::new(problem, "give them as username and password_file"));
    }
    usable(text)
        .ok_or_else(|| Wrong::new(format!("{} is no address of a Redis", quote(text)), URLS_REMEDY))
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
        password: password(&inner),
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
            Wrong::new(
                format!("urls has {count} addresses, and topology is standalone"),
                "give the one address, or topology = \"sentinel\" or \"cluster\"",
            ),
        );
    }
}

fn tls(section: &Section<'_>, urls: &[Url]) -> Option<RedisTls> {
    let inner = section.section("tls");
    let roots = inner.certificates("ca_file", "the CA certificate of Redis");
    let checked = roots.and_then(|roots| inner.read("ca_file", |_| files::check_roots(&roots)));
    let ca_pem = checked.and_then(|()| {
        let path = inner.path("ca_file")?;
        files::read(&path, files::PEM_MAX).ok().map(|(pem, _)| pem)
    });
    let any = urls.iter().any(|url| url.tls);
    if any && !urls.iter().all(|url| url.tls) {
        let wrong = Wrong::new("has addresses with TLS and without", "give the same for all");
        section.contradiction(&["urls"], wrong);
    }
    if inner.has("ca_file") && !any && !urls.is_empty() {
        inner.contradiction(
            &["ca_file"],
            Wrong::new("is of no use without TLS", "give rediss:// in store.urls"),
        );
    }
    any.then_some(RedisTls { ca_pem })
}

fn warn_of_plaintext(section: &Section<'_>, urls: &[Url]) {
    let local = |host: &str| matches!(host, "localhost" | "::1") || host.starts_with("127.");
    if let Some(url) = urls.iter().find(|url| !url.tls && !local(&url.node.host)) {
        section.notes().warn(format!(
            "store.urls has redis://{}: the password of Redis goes over the network in plain text, \
             and whoever is between can undo changes of sessions; give rediss://",
            url.node.host
        ));
    }
}

fn password(section: &Section<'_>) -> Option<SecretString> {
    let path = section.path("password_file")?;
    section.read("password_file", |_| {
        let (bytes, metadata) = files::read(&path, SECRET_MAX)
            .map_err(|error| files::unreadable(&path, &error, PASSWORD_REMEDY))?;
        files::warn_of_readers(section, "password_file", &path, &metadata);
        let text = String::from_utf8(bytes);
        let text = text.map_err(|_| Wrong::new("names a file that is no text", PASSWORD_REMEDY))?;
        match text.trim_end_matches(['\r', '\n']) {
            "" => Err(Wrong::new("names an empty file", PASSWORD_REMEDY)),
            password => Ok(SecretString::from(password)),
        }
    })
}

fn prefix(text: &str) -> Result<String, Wrong> {
    let good =
        |b: u8| b.is_ascii_graphic() && !matches!(b, b'{' | b'}' | b'*' | b'?' | b'[' | b']');
    if text.len() <= PREFIX_MAX && text.bytes().all(good) {
        return Ok(text.to_owned());
    }
    Err(Wrong::new(
        format!("{} is no prefix of keys", quote(text)),
        format!(
            "give up to {PREFIX_MAX} letters, digits and punctuation without braces, brackets, \"*\" and \"?\""
        ),
    ))
}

fn timeouts(section: &Section<'_>) -> RedisTimeouts {
    RedisTimeouts {
        connect: section.duration("connect", SECOND, MILLISECOND..=MINUTE),
        command: section.duration("command", 500 * MILLISECOND, MILLISECOND..=MINUTE),
        heartbeat: section.duration("heartbeat", 5 * SECOND, 10 * MILLISECOND..=10 * MINUTE),
    }
}

fn keys(section: &Section<'_>) -> Vec<EncryptionKey> {
    let keys = section.paths("encryption_keys", KEYS_MAX, |path| {
        let (bytes, metadata) = files::read(path, SECRET_MAX)
            .map_err(|error| files::unreadable(path, &error, KEYS_REMEDY))?;
        files::warn_of_readers(section, "encryption_keys", path, &metadata);
        key(&bytes).ok_or_else(|| {
            let shown = quote(&path.to_string_lossy());
            Wrong::new(format!("{shown} does not hold a key"), KEYS_REMEDY)
        })
    });
    let keys = keys.unwrap_or_default();
    let mut seen = HashSet::new();
    if keys.iter().any(|key| !seen.insert(key.id())) {
        let wrong = Wrong::new("names files with the same key", "give each key once");
        section.contradiction(&["encryption_keys"], wrong);
    }
    keys
}

/// A key in whichever form it is. No two of the forms have the same length.
fn key(bytes: &[u8]) -> Option<EncryptionKey> {
    let raw = <[u8; KEY_LEN]>::try_from(bytes).ok();
    let text = || {
        let text = std::str::from_utf8(bytes).ok()?.trim();
        let bytes = if text.len() == 2 * KEY_LEN { unhex(text) } else { base64(text) };
        bytes?.try_into().ok()
    };
    raw.or_else(text).map(EncryptionKey::new)
}

/// The bytes that base64 stands for, in either alphabet.
fn base64(text: &str) -> Option<Vec<u8>> {
    let mut bytes = Vec::new();
    let (mut bits, mut held) = (0_u32, 0);
    for c in text.trim_end_matches('=').bytes() {
        let value = match c {
            b'A'..=b'Z' => c - b'A',
            b'a'..=b'z' => c - b'a' + 26,
            b'0'..=b'9' => c - b'0' + 52,
            b'+' | b'-' => 62,
            b'/' | b'_' => 63,
            _ => return None,
        };
        bits = bits << 6 | u32::from(value);
        held += 6;
        if held >= 8 {
            held -= 8;
            bytes.push(u8::try_from(bits >> held & 0xff).ok()?);
        }
    }
    Some(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_are_read_in_every_form() {
        let same = EncryptionKey::new([0xfb; KEY_LEN]);
        let hex = "fb".repeat(KEY_LEN);
        let base64 = "+/v7".repeat(10) + "+/s=";
        let url_safe = base64.replace('+', "-").replace('/', "_").replace('=', "");
        assert_eq!(key(&[0xfb; KEY_LEN]), Some(same.clone()));
        for text in [hex.clone(), hex.to_uppercase() + "\n", base64, url_safe + "\r\n"] {
            assert_eq!(key(text.as_bytes()), Some(same.clone()), "{text}");
        }
        let short = "fb".repeat(31);
        for bad in ["", "fb", &short, &"zz".repeat(KEY_LEN), &(hex + "00"), &"é".repeat(17)] {
            assert_eq!(key(bad.as_bytes()), None, "{bad}");
        }
    }

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
