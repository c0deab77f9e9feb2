use std::{
    fmt::Write as _,
    time::{Duration, SystemTime},
};

use ccgateway_bridge::{
    keyring::{Keyring, Purpose},
    session::{Entry, Guid, Origin, RECORD_MAX, Session, StoredSession, Unreadable},
};
use http::HeaderValue;
use serde_json::{Value, json};

use crate::ring::{RING, agent, ring, seal, tenant};

const AGENT: u32 = 1001;
const VERSION: u64 = 1_700_000_000_000_000;
/// The one record among the seeds that a replica has sealed.
const GENUINE: &[u8] = include_bytes!("../seeds/session_record/sealed");

/// The record of an agent's session, as the shared store and the file have it: first the record itself, as anybody may
/// write it, then what is inside of one.
pub fn session_record(data: &[u8]) {
    record(data);
    content(data);
}

/// Only what a replica has sealed is opened, and what is read is written as it was.
fn record(data: &[u8]) {
    let Ok(record) = StoredSession::parse(data) else { return };
    assert!(data.len() <= RECORD_MAX && record.version < 1 << 53);
    let written = record.encode();
    let again = StoredSession::parse(&written).expect("what was written");
    assert_eq!(again.encode(), written);
    if record.open(&tenant("acme"), &RING).is_ok() {
        let genuine = StoredSession::parse(GENUINE).expect("the seed is a record");
        assert_eq!(written, genuine.encode(), "a forged record was opened");
    }
}

/// A sealed record says the same as one that is not sealed, and only at its place. What is said is written again, in a
/// record that is short enough.
fn content(plain: &[u8]) {
    let digits = plain.iter().fold(String::new(), |mut digits, byte| {
        let _written = write!(digits, "{byte:02x}");
        digits
    });
    let about = format!("{AGENT}|{VERSION}");
    let sealed = || json!({ "sealed": seal(Purpose::Session, &about, plain) });
    let Some(open) = record_of(AGENT, VERSION, &json!({ "plain": digits })) else { return };
    let Some(sealed_record) = record_of(AGENT, VERSION, &sealed()) else { return };
    let acme = tenant("acme");

    let said = open.open_own(&acme, None);
    for same in [sealed_record.open(&acme, &RING), sealed_record.open_own(&acme, Some(&RING))] {
        assert_eq!(same.as_ref().map(Said::of), said.as_ref().map(Said::of));
    }
    let forged = [
        open.open(&acme, &RING),
        sealed_record.open_own(&acme, None),
        sealed_record.open(&tenant("other"), &RING),
        sealed_record.open(&acme, &ring("other", &[7])),
        sealed_record.open(&acme, &ring("fuzz", &[8])),
        record_of(AGENT + 1, VERSION, &sealed()).expect("as long").open(&acme, &RING),
        record_of(AGENT, VERSION + 1, &sealed()).expect("as long").open(&acme, &RING),
    ];
    for opened in forged {
        assert_eq!(opened.err(), Some(Unreadable::Sealed));
    }
    let Ok(entry) = said else { return };
    hides_its_guid(&entry, &open);
    for keyring in [None, Some(&**RING)] {
        written_again(&entry, keyring);
    }
}

fn record_of(agent: u32, version: u64, content: &Value) -> Option<StoredSession> {
    let record = json!({ "agent": agent, "version": version, "content": content }).to_string();
    let parsed = StoredSession::parse(record.as_bytes());
    assert_eq!(parsed.is_ok(), record.len() <= RECORD_MAX);
    parsed.ok()
}

fn written_again(entry: &Entry, keyring: Option<&Keyring>) {
    let acme = tenant("acme");
    let record = StoredSession::of(&acme, agent(AGENT), entry, keyring).expect("written");
    let record = StoredSession::parse(&record.encode()).expect("short enough to be read");
    assert!(record.is_sealed_with(keyring) && record.agent() == Some(agent(AGENT)));
    let again = record.open_own(&acme, keyring).expect("opened");
    assert_eq!(Said::of(&again), Said::of(entry));
}

fn hides_its_guid(entry: &Entry, record: &StoredSession) {
    let guid = entry.session.as_ref().map(|session| session.guid.header().as_bytes());
    let Some(Ok(guid)) = guid.map(str::from_utf8) else { return };
    let secret = guid.rsplit_once('.').map_or(guid, |(secret, _node)| secret);
    // A shorter one may be a word of the type.
    if secret.len() > 24 {
        let shown = format!("{entry:?} {record:?}");
        assert!(!shown.contains(secret), "{shown}");
    }
}

/// What an entry says, but for its end, which is by the clock of this process.
#[derive(Debug, PartialEq)]
struct Said {
    version: u64,
    signed_out: bool,
    ended: Option<u64>,
    ttl: Option<Duration>,
    session: Option<(Guid, Origin, u64, SystemTime, bool, Option<HeaderValue>)>,
}

impl Said {
    fn of(entry: &Entry) -> Self {
        let session = entry.session.as_ref().map(|session| {
            let Session { guid, origin, version, made, renewed_at, expires_at, cookies } =
                &**session;
            assert_eq!(*version, entry.version);
            (guid.clone(), *origin, *made, *renewed_at, expires_at.is_some(), cookies.header())
        });
        let Entry { version, signed_out, ended, ttl, .. } = *entry;
        Self { version, signed_out, ended, ttl, session }
    }
}
