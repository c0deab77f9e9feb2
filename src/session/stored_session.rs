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
    hex::{hex, unhex},
    id::{AgentId, TenantId},
    keyring::{Keyring, Purpose, SealError, Sealed},
    secret,
    time::{millis, millis_now, millis_of},
};

/// One version of an agent's session, or its end, in JSON. Its agent and version can be read by everybody; all
/// else is sealed, and sealed for that agent and version.
#[derive(Serialize, Deserialize)]
pub struct StoredSession {
    agent: u32,
    /// The version of the session. The script that writes records looks for it behind the agent.
    pub version: u64,
    content: Stored,
}

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Stored {
    Sealed(Sealed),
    /// In hex. Only a file may hold it.
    Plain(String),
}

/// What is sealed. A session's Guid and cookies follow it.
#[derive(Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Content {
    Session {
        origin: Made,
        /// The version that it had when it was made.
        made: u64,
        /// In milliseconds, like all times here.
        renewed_at: u64,
        expires_at: Option<u64>,
        ttl: Option<u64>,
    },
    End {
        signed_out: bool,
        /// The session that a sign-out has ended, by its `made`.
        #[serde(default)]
        ended: Option<u64>,
    },
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
    /// Its version is too far ahead of the clock.
    #[error("its version is more than a day ahead of the clock")]
    Ahead,
}

/// Lua has only floating-point numbers, which are exact up to here. As microseconds it is the year
/// 2255.
const VERSION_MAX: u64 = 1 << 53;
/// How far the clocks of replicas and store may be apart. A time that is further ahead than this is not
/// believed.
pub const CLOCKS_APART_MAX: Duration = Duration::from_secs(24 * 60 * 60);
/// The longest record, a Guid with eight cookies of 1 KiB, is shorter, in base64 when sealed or in hex when not.
pub const RECORD_MAX: usize = 32 * 1024;

impl fmt::Debug for StoredSession {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { agent, version, .. } = self;
        let mut record = f.debug_struct("StoredSession");
        record.field("agent", agent).field("version", version).finish_non_exhaustive()
    }
}

impl StoredSession {
    /// Makes the record of an entry. Without keys, nothing in it is encrypted.
    pub fn of(
        tenant: &TenantId,
        agent: AgentId,
        entry: &Entry,
        keyring: Option<&Keyring>,
    ) -> Result<Self, SealError> {
        let (agent, version, plain) = (agent.get(), entry.version, plain_text(entry)?);
        let sealer = keyring.map(|keyring| keyring.sealer(Purpose::Session, tenant));
        let content = match sealer {
            None => Stored::Plain(hex(&plain)),
            Some(sealer) => Stored::Sealed(sealer.seal(&about(agent, version), &plain)?),
        };
        Ok(Self { agent, version, content })
    }

    /// Writes the record as bytes.
    pub fn encode(&self) -> Vec<u8> {
        // Serializing these fields cannot fail.
        serde_json::to_vec(self).unwrap_or_default()
    }

    /// Reads what [`encode`](Self::encode) writes.
    pub fn parse(bytes: &[u8]) -> Result<Self, Unreadable> {
        let record = Some(bytes).filter(|bytes| bytes.len() <= RECORD_MAX);
        let record = record.and_then(|bytes| serde_json::from_slice::<Self>(bytes).ok());
        let record = record.ok_or(Unreadable::Malformed)?;
        if record.version < VERSION_MAX { Ok(record) } else { Err(Unreadable::Ahead) }
    }

    /// The agent whose session it is.
    pub fn agent(&self) -> Option<AgentId> {
        AgentId::parse(&self.agent.to_string(), &(1..=u32::MAX)).ok()
    }

    /// Reads the entry from the record of a shared store. Others may write to that store, so a record that
    /// is not sealed is not accepted, and neither is one with a version that no replica can have given.
    pub fn open(&self, tenant: &TenantId, keyring: &Keyring) -> Result<Entry, Unreadable> {
        let latest = SystemTime::now() + CLOCKS_APART_MAX;
        let latest = latest.duration_since(UNIX_EPOCH).unwrap_or_default().as_micros();
        if u128::from(self.version) > latest {
            return Err(Unreadable::Ahead);
        }
        self.entry(&self.unsealed(tenant, keyring)?)
    }

    /// Reads the entry from a record that only the bridge can have written. A record that is not
    /// sealed is accepted.
    pub fn open_own(
        &self,
        tenant: &TenantId,
        keyring: Option<&Keyring>,
    ) -> Result<Entry, Unreadable> {
        let plain = match (&self.content, keyring) {
            (Stored::Plain(text), _) => {
                unhex(text).map(Zeroizing::new).ok_or(Unreadable::Malformed)
            }
            (Stored::Sealed(_), None) => Err(Unreadable::Sealed),
            (Stored::Sealed(_), Some(keyring)) => self.unsealed(tenant, keyring),
        };
        self.entry(&plain?)
    }

    /// Whether it is sealed with the first key, or, without keys, not at all.
    pub fn is_sealed_with(&self, keyring: Option<&Keyring>) -> bool {
        let key = keyring.and_then(Keyring::first_id);
        match &self.content {
            Stored::Sealed(sealed) => Some(&sealed.key_id) == key.as_ref(),
            Stored::Plain(_) => key.is_none(),
        }
    }

    fn unsealed(
        &self,
        tenant: &TenantId,
        keyring: &Keyring,
    ) -> Result<Zeroizing<Vec<u8>>, Unreadable> {
        let Stored::Sealed(sealed) = &self.content else { return Err(Unreadable::Sealed) };
        let about = about(self.agent, self.version);
        let opened = keyring.sealer(Purpose::Session, tenant).open(&about, sealed);
        opened.ok_or(Unreadable::Sealed)
    }

    fn entry(&self, plain: &[u8]) -> Result<Entry, Unreadable> {
        self.parsed(plain).ok_or(Unreadable::Malformed)
    }

    fn parsed(&self, plain: &[u8]) -> Option<Entry> {
        let (content, secrets) = std::str::from_utf8(plain).ok()?.split_once('\n')?;
        let version = self.version;
        let (origin, made, renewed_at, expires_at, ttl) =
            match serde_json::from_str(content).ok()? {
                Content::End { signed_out: true, ended: Some(made) } => {
                    return Some(Entry::signed_out(version, made));
                }
                Content::End { signed_out, .. } => return Some(Entry::end(version, signed_out)),
                Content::Session { origin, made, renewed_at, expires_at, ttl } => {
                    (origin, made, renewed_at, expires_at, ttl)
                }
            };
        let (guid, cookies) = parse_secrets(secrets)?;
        let now = millis_now();
        let left = |at: u64| Duration::from_millis(at.saturating_sub(now));
        let expires_at = match expires_at {
            Some(at) => Some(Instant::now().checked_add(left(at))?),
            None => None,
        };
        let session = Session {
            guid,
            origin: match origin {
                Made::Registered => Origin::Registered,
                Made::SignedIn => Origin::SignedIn,
            },
            version,
            made,
            renewed_at: UNIX_EPOCH.checked_add(Duration::from_millis(renewed_at))?,
            expires_at,
            cookies,
        };
        Some(Entry::known(version, Some(Arc::new(session)), ttl.map(Duration::from_millis)))
    }
}

fn about(agent: u32, version: u64) -> String {
    format!("{agent}|{version}")
}

/// A line with what there is to know, one with the Guid, and one with the cookies. None contains a line break.
///
/// The ends of the cookies are not stored. Each answer may move them, and a session is stored much more
/// rarely. A load balancer reads a cookie that is past its end, while a call without it may reach a node
/// that does not know the session.
fn plain_text(entry: &Entry) -> Result<Zeroizing<Vec<u8>>, SealError> {
    let content = match &entry.session {
        None => Content::End { signed_out: entry.signed_out, ended: entry.ended },
        Some(session) => Content::Session {
            origin: match session.origin {
                Origin::Registered => Made::Registered,
                Origin::SignedIn => Made::SignedIn,
            },
            made: session.made,
            renewed_at: millis_of(session.renewed_at),
            expires_at: session.expires_at.map(|at| {
                millis_of(SystemTime::now() + at.saturating_duration_since(Instant::now()))
            }),
            ttl: entry.ttl.map(millis),
        },
    };
    let content = serde_json::to_string(&content).map_err(|_| SealError)?;
    let guid = entry.session.as_ref().map(|session| session.guid.header());
    let cookies = entry.session.as_ref().and_then(|session| session.cookies.header());
    let [guid, cookies] =
        [guid, cookies.as_ref()].map(|line| line.map_or(&[][..], HeaderValue::as_bytes));
    Ok(Zeroizing::new([content.as_bytes(), guid, cookies].join(&b'\n')))
}

fn parse_secrets(plain: &str) -> Option<(Guid, Cookies)> {
    let (guid, pairs) = plain.split_once('\n')?;
    let cookies = Cookies::default();
    let pairs = pairs.split("; ").filter_map(|pair| secret::header(pair.as_bytes()));
    pairs.for_each(|pair| cookies.set(&pair, None));
    Some((Guid::parse_stored(guid).ok()?, cookies))
}
