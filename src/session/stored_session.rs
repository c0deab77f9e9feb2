//! The form in which a session is stored and published.

use std::{
    fmt,
    sync::Arc,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use http::HeaderValue;
use secrecy::zeroize::Zeroizing;
use serde::{Deserialize, Serialize};
use tokio::time::Instant;

use super::{Cookies, Guid, Origin, Session, local::Entry};
use crate::{
    id::{AgentId, TenantId},
    keyring::{Keyring, Purpose, SealError, Sealed, hex, unhex},
    secret,
};

/// One version of an agent's session, in JSON. Unknown fields are ignored, so that replicas with
/// other versions of this program can read it.
#[derive(Serialize, Deserialize)]
pub struct StoredSession {
    agent: u32,
    /// The version of the session.
    pub version: u64,
    /// `None`: the session has ended.
    session: Option<Body>,
    /// Whether it ended by a sign-out.
    #[serde(default)]
    signed_out: bool,
}

#[derive(Serialize, Deserialize)]
struct Body {
    origin: Made,
    /// In milliseconds, like all times here.
    renewed_at: u64,
    expires_at: Option<u64>,
    ttl: Option<u64>,
    #[serde(flatten)]
    secret: Secret,
}

/// The Guid and the cookies.
#[derive(Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Secret {
    Sealed(Sealed),
    /// In hex. Only a file may hold it.
    Plain(String),
}

#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Made {
    Registered,
    SignedIn,
}

/// Why a record cannot be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Unreadable {
    /// It does not have the form of a record.
    #[error("it does not have the form of a record")]
    Malformed,
    /// It is sealed with a key that this process does not have.
    #[error("no key in store.encryption_key_files opens it")]
    Sealed,
}

/// Lua has only floating-point numbers, which are exact up to here. As microseconds it is the year
/// 2255.
const VERSION_MAX: u64 = 1 << 53;
/// The longest record. A Guid and the most cookies, sealed and in hex, are shorter.
const LENGTH_MAX: usize = 32 * 1024;

impl fmt::Debug for StoredSession {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { agent, version, .. } = self;
        let mut record = f.debug_struct("StoredSession");
        record.field("agent", agent).field("version", version).finish_non_exhaustive()
    }
}

impl StoredSession {
    /// Makes the record of an entry. Without keys, the Guid and the cookies in it are not
    /// encrypted.
    pub fn of(
        tenant: &TenantId,
        agent: AgentId,
        entry: &Entry,
        keyring: Option<&Keyring>,
    ) -> Result<Self, SealError> {
        let body = |session: &Arc<Session>| {
            let origin = match session.origin {
                Origin::Registered => Made::Registered,
                Origin::SignedIn => Made::SignedIn,
            };
            let left = session.expires_at.map(|at| at.saturating_duration_since(Instant::now()));
            let about = about(agent.get(), entry.version);
            let text = secret_text(session);
            let secret = match keyring.map(|keyring| keyring.sealer(Purpose::Session, tenant)) {
                None => Secret::Plain(hex(&text)),
                Some(sealer) => Secret::Sealed(sealer.seal(&about, &text)?),
            };
            Ok(Body {
                origin,
                renewed_at: since_epoch(session.renewed_at),
                expires_at: left.map(|left| since_epoch(SystemTime::now() + left)),
                ttl: entry.ttl.map(millis),
                secret,
            })
        };
        let session = entry.session.as_ref().map(body).transpose()?;
        let signed_out = entry.signed_out;
        Ok(Self { agent: agent.get(), version: entry.version, session, signed_out })
    }

    /// Writes the record as bytes.
    pub fn encode(&self) -> Vec<u8> {
        // Serializing these fields cannot fail.
        serde_json::to_vec(self).unwrap_or_default()
    }

    /// Reads what [`encode`](Self::encode) writes.
    pub fn parse(bytes: &[u8]) -> Result<Self, Unreadable> {
        let record = Some(bytes).filter(|bytes| bytes.len() <= LENGTH_MAX);
        let record = record.and_then(|bytes| serde_json::from_slice::<Self>(bytes).ok());
        record.filter(|record| record.version < VERSION_MAX).ok_or(Unreadable::Malformed)
    }

    /// The agent whose session it is.
    pub fn agent(&self) -> Option<AgentId> {
        AgentId::parse(&self.agent.to_string(), &(1..=u32::MAX)).ok()
    }

    /// Reads the entry from the record of a shared store. A session that is not sealed is not
    /// accepted, since others may write to that store.
    pub fn open(&self, tenant: &TenantId, keyring: &Keyring) -> Result<Entry, Unreadable> {
        self.opened(|secret| self.unsealed(secret, tenant, keyring))
    }

    /// Reads the entry from a record that only the bridge can have written. A session that is not
    /// sealed is accepted.
    pub fn open_own(
        &self,
        tenant: &TenantId,
        keyring: Option<&Keyring>,
    ) -> Result<Entry, Unreadable> {
        self.opened(|secret| match (secret, keyring) {
            (Secret::Plain(text), _) => {
                unhex(text).map(Zeroizing::new).ok_or(Unreadable::Malformed)
            }
            (Secret::Sealed(_), None) => Err(Unreadable::Sealed),
            (secret, Some(keyring)) => self.unsealed(secret, tenant, keyring),
        })
    }

    /// Whether the session is sealed with the first key, or, without keys, not at all.
    pub fn is_sealed_with(&self, keyring: Option<&Keyring>) -> bool {
        let key = keyring.and_then(Keyring::first_id);
        self.session.as_ref().is_none_or(|body| match &body.secret {
            Secret::Sealed(sealed) => Some(&sealed.key_id) == key.as_ref(),
            Secret::Plain(_) => key.is_none(),
        })
    }

    fn unsealed(
        &self,
        secret: &Secret,
        tenant: &TenantId,
        keyring: &Keyring,
    ) -> Result<Zeroizing<Vec<u8>>, Unreadable> {
        let Secret::Sealed(sealed) = secret else { return Err(Unreadable::Sealed) };
        let about = about(self.agent, self.version);
        let opened = keyring.sealer(Purpose::Session, tenant).open(&about, sealed);
        opened.ok_or(Unreadable::Sealed)
    }

    fn opened(
        &self,
        plain: impl FnOnce(&Secret) -> Result<Zeroizing<Vec<u8>>, Unreadable>,
    ) -> Result<Entry, Unreadable> {
        let Some(body) = &self.session else {
            return Ok(Entry::end(self.version, self.signed_out));
        };
        let (made, guid, cookies) =
            parse_secret_text(&plain(&body.secret)?).ok_or(Unreadable::Malformed)?;
        let now = since_epoch(SystemTime::now());
        let left = |at: u64| Duration::from_millis(at.saturating_sub(now));
        let session = Session {
            guid,
            origin: match body.origin {
                Made::Registered => Origin::Registered,
                Made::SignedIn => Origin::SignedIn,
            },
            version: self.version,
            made,
            renewed_at: UNIX_EPOCH + Duration::from_millis(body.renewed_at),
            expires_at: body.expires_at.map(|at| Instant::now() + left(at)),
            cookies: Arc::new(cookies),
        };
        let ttl = body.ttl.map(Duration::from_millis);
        Ok(Entry::known(self.version, Some(Arc::new(session)), ttl))
    }
}

fn about(agent: u32, version: u64) -> String {
    format!("{agent}|{version}")
}

/// A line with the version that it had when it was made, one with the Guid, and one with the cookies. None
/// contains a line break.
///
/// The ends of the cookies are not stored. Each answer may move them, and a session is stored much more
/// rarely. A load balancer reads a cookie that is past its end, while a call without it may reach a node
/// that does not know the session.
fn secret_text(session: &Session) -> Zeroizing<Vec<u8>> {
    let (guid, cookies) = (session.guid.header().as_bytes(), session.cookies.header());
    let made = session.made.to_string();
    let lines = [Some(made.as_bytes()), Some(guid), cookies.as_ref().map(HeaderValue::as_bytes)];
    let lines: Vec<_> = lines.into_iter().flatten().collect();
    Zeroizing::new(lines.join(&b'\n'))
}

fn parse_secret_text(plain: &[u8]) -> Option<(u64, Guid, Cookies)> {
    let (made, plain) = std::str::from_utf8(plain).ok()?.split_once('\n')?;
    let (guid, pairs) = plain.split_once('\n').unwrap_or((plain, ""));
    let cookies = Cookies::default();
    let pairs = pairs.split("; ").filter_map(|pair| secret::header(pair.as_bytes()));
    pairs.for_each(|pair| cookies.set(&pair, None));
    Some((made.parse().ok()?, Guid::parse_stored(guid).ok()?, cookies))
}

fn since_epoch(time: SystemTime) -> u64 {
    millis(time.duration_since(UNIX_EPOCH).unwrap_or_default())
}

fn millis(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}
