use std::time::{SystemTime, UNIX_EPOCH};

use ccgateway_bridge::{
    cluster::{Origin, Told, decode, encode, fuzzing::Replica},
    event::{What, read},
    keyring::Purpose,
};
use serde_json::Value;

use crate::ring::{RING, agent, ring, seal, tenant};

/// An event that one replica tells the others: what is read is written so that it is read again, and so is what a
/// gateway's event becomes.
pub fn told_event(data: &[u8]) {
    let Ok(text) = str::from_utf8(data) else { return };
    if let Some(told) = decode(text) {
        told_again(&told);
    }
    for event in read(text) {
        let origin = Origin { by: u64::MAX, nth: 1, sent: 2, at: 3, age: 4 };
        told_again(&Told { agent: agent(1001), what: Some(What::Gateway(event)), origin });
    }
}

fn told_again(told: &Told) {
    let text = encode(told).expect("what was read can be told");
    assert_eq!(decode(&text).as_ref(), Some(told), "{text}");
}

/// A heartbeat, before it is sealed; `NOW` in it stands for the time.
///
/// It counts if it has its replica and a time of today, and then its replica is heard. Nothing counts that no replica has
/// sealed as a heartbeat of this tenant.
pub fn heartbeat(data: &[u8]) {
    const DAY: u64 = 24 * 60 * 60 * 1000;
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    let now = u64::try_from(now.as_millis()).expect("milliseconds");
    let plain = String::from_utf8_lossy(data).replace("NOW", &now.to_string());
    let replica = Replica::new(1, tenant("acme"), RING.clone());
    assert_eq!(replica.heartbeat(data), None, "nobody has sealed that");
    assert_eq!(replica.receive(data), data.starts_with(b"alive:"));
    for purpose in Purpose::ALL.into_iter().filter(|purpose| *purpose != Purpose::Heartbeat) {
        let sealed = seal(purpose, "", plain.as_bytes()).encode();
        assert_eq!(replica.heartbeat(&sealed), None, "it is a {purpose:?}");
    }

    let sealed = seal(Purpose::Heartbeat, "", plain.as_bytes()).encode();
    let json = serde_json::from_str::<Value>(&plain).unwrap_or_default();
    // serde also takes a list of the members.
    let number = |name, at: usize| json.get(name).or_else(|| json.get(at))?.as_u64();
    let heard = replica.heartbeat(&sealed);
    if let Some(id) = heard {
        assert_eq!(number("replica", 0), Some(id));
        let apart = number("made", 2).expect("a time").abs_diff(now);
        assert!(apart <= DAY + 60_000, "{apart} ms");
        assert_eq!(replica.hears(id), [true, true]);
        assert!(replica.receive(&[b"alive:", &*sealed].concat()));
    }
    for id in [0, 1, 2, u64::MAX] {
        assert_eq!(replica.hears(id)[0], heard == Some(id));
    }
    let others = Replica::new(1, tenant("acme"), ring("other", &[7]));
    assert_eq!(others.heartbeat(&sealed), None);
}

/// What a replica says that asks for the lock of a sign-in, before it is sealed: it is of the attempt that it names, and
/// of its agent.
pub fn sign_in_lock(data: &[u8]) {
    let replica = Replica::new(1, tenant("acme"), RING.clone());
    assert_eq!(replica.lock(agent(1001), b"1f", data), None, "nobody has sealed that");
    let sealed = seal(Purpose::Lock, "1001", data).encode();
    let json = serde_json::from_slice::<Value>(data).unwrap_or_default();
    let attempt = json.get("attempt").and_then(Value::as_str).unwrap_or_default();
    let read = replica.lock(agent(1001), attempt.as_bytes(), &sealed);
    if let Some(number) = read {
        assert_eq!(u64::from_str_radix(attempt, 16), Ok(number));
        let times = ["replica", "asked", "time"].map(|name| json[name].as_u64());
        assert!(times.iter().all(Option::is_some));
    }
    assert_eq!(replica.lock(agent(1001), format!("{attempt}0").as_bytes(), &sealed), None);
    assert_eq!(replica.lock(agent(1002), attempt.as_bytes(), &sealed), None);
}
