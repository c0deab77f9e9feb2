use std::{future::ready, sync::Arc, time::Duration};

use ccgateway_bridge::{
    id::AgentId,
    keyring::{Purpose, Renewal, Sealed},
    session::{Owner, SealedKind, SealedValueStore, SealedValues, StoreFuture, fuzzing::row_again},
};
use futures_util::{FutureExt as _, future::BoxFuture};
use serde_json::Value;

use crate::ring::{RING, agent, ring, seal, tenant};

/// A value that is stored beside a session. The first byte chooses its kind, and the second where the text of a sealed
/// value is changed.
///
/// It is opened for its kind, agent, tenant and installation, and nowhere else. Changed text is opened only if it still
/// says the same. The length of what is sealed shows only up to the next power of two.
pub fn sealed_value(data: &[u8]) {
    let Some(([kind, at], plain)) = data.split_first_chunk() else { return };
    let kind = SealedKind::ALL[usize::from(*kind) % SealedKind::ALL.len()];
    let (acme, owner) = (tenant("acme"), agent(1001));
    assert_eq!(kind.open(&RING, &acme, owner, plain), None, "nobody has sealed that");

    let sealed = kind.seal(&RING, &acme, owner, plain).expect("sealed");
    let value = Sealed::parse(&sealed).expect("what was written");
    let opened = |sealed: &[u8]| kind.open(&RING, &acme, owner, sealed);
    assert_eq!(opened(&sealed).as_deref().map(|opened| &**opened), Some(plain));
    let length = (plain.len() + 4).next_power_of_two().max(256);
    assert_eq!(value.data.len(), length + 16);

    let others = SealedKind::ALL.into_iter().filter(|other| *other != kind);
    for other in others {
        assert_eq!(other.open(&RING, &acme, owner, &sealed), None);
    }
    assert_eq!(kind.open(&RING, &acme, agent(1002), &sealed), None);
    assert_eq!(kind.open(&RING, &tenant("other"), owner, &sealed), None);
    assert_eq!(kind.open(&ring("other", &[7]), &acme, owner, &sealed), None);

    let at = usize::from(*at) * sealed.len() / 256;
    let mut changed = sealed.clone();
    for (byte, new) in changed[at..].iter_mut().zip(plain) {
        *byte = *new;
    }
    let says_the_same = Sealed::parse(&changed).as_ref() == Some(&value);
    assert_eq!(opened(&changed).is_some(), says_the_same);

    let renewed = ring("fuzz", &[9, 7]);
    let Renewal::Anew(anew) = kind.renewal(&renewed, &acme, owner, &sealed) else {
        panic!("it is sealed with the second key")
    };
    let again = kind.open(&ring("fuzz", &[9]), &acme, owner, &anew.encode());
    assert_eq!(again.as_deref().map(|again| &**again), Some(plain));
    counts_in_its_time(kind, plain);
}

/// A row of the file with a sealed value: what is read of it is written as it was.
pub fn sealed_row(data: &[u8]) {
    let Some(written) = row_again(agent(1001), data) else { return };
    assert_eq!(row_again(agent(1001), &written).as_ref(), Some(&written));
    let [before, after] = [data, &*written].map(|row| {
        let json: Value = serde_json::from_slice(row).expect("what is read is JSON");
        // serde also takes a list of the members.
        let member = |name, at: usize| json.get(name).or_else(|| json.get(at)).cloned();
        let sealed = member("sealed", 1).map(|sealed| sealed.as_str().map(str::to_lowercase));
        (member("until", 0), sealed)
    });
    assert_eq!(after, before);
}

/// What a replica has sealed, and counts only for its session and until its end, which are at its beginning.
fn counts_in_its_time(kind: SealedKind, content: &[u8]) {
    const SESSION: u64 = 5;
    let purpose = match kind {
        SealedKind::Rejected => Purpose::Rejection,
        SealedKind::Credentials => Purpose::Credentials,
        SealedKind::Changes => Purpose::Change,
        SealedKind::SignOut => Purpose::SignOut,
    };
    let store = Box::new(Stored(seal(purpose, "1001", content).encode()));
    let values = SealedValues::new(tenant("acme"), store, Arc::clone(&RING), true);
    let owner = Owner { agent: agent(1001), session: Some(SESSION) };
    let got = values.get(kind, owner).now_or_never().expect("the store does not wait");
    let Some(got) = got.expect("the store never fails") else { return };
    let (session, until, value) = (&content[..8], &content[8..16], &content[16..]);
    assert_eq!((session, &**got), (&SESSION.to_be_bytes()[..], value));
    assert!(until > &1_700_000_000_000_u64.to_be_bytes()[..], "its time is over");
}

/// A store that has this for everybody.
struct Stored(Vec<u8>);

impl SealedValueStore for Stored {
    fn put(&self, _: SealedKind, _: Owner, _: Vec<u8>, _: Duration) -> BoxFuture<'_, ()> {
        Box::pin(ready(()))
    }

    fn get(&self, _: SealedKind, _: AgentId) -> StoreFuture<'_, Option<Vec<u8>>> {
        Box::pin(ready(Ok(Some(self.0.clone()))))
    }

    fn remove(&self, _: SealedKind, _: AgentId) -> BoxFuture<'_, ()> {
        Box::pin(ready(()))
    }
}
