use futures_util::FutureExt as _;

use super::*;

fn ring(keys: &[u8]) -> Keyring {
    ring_of("ccgw:", keys)
}

fn ring_of(installation: &str, keys: &[u8]) -> Keyring {
    Keyring::new(installation, &keys.iter().map(|byte| key(*byte)).collect::<Vec<_>>())
}

fn key(byte: u8) -> EncryptionKey {
    EncryptionKey::new([byte; KEY_LEN])
}

fn tenant(id: &str) -> TenantId {
    TenantId::parse(id).unwrap()
}

fn sealed(keyring: &Keyring, about: &str) -> Sealed {
    keyring.sealer(Purpose::Session, &tenant("acme")).seal(about, b"secret").unwrap()
}

fn opened(keyring: &Keyring, about: &str, sealed: &Sealed) -> Option<Vec<u8>> {
    let plain = keyring.sealer(Purpose::Session, &tenant("acme")).open(about, sealed)?;
    Some(plain.to_vec())
}

fn renewal(keyring: &Keyring, about: &str, sealed: &Sealed) -> Renewal {
    keyring.sealer(Purpose::Session, &tenant("acme")).renewal(about, sealed).unwrap()
}

#[test]
fn what_one_ring_seals_another_with_the_key_opens() {
    let value = sealed(&ring(&[1, 2]), "1001|7");
    assert_eq!(opened(&ring(&[2, 1]), "1001|7", &value), Some(b"secret".to_vec()));
    assert_eq!(opened(&ring(&[2]), "1001|7", &value), None);
    let again = sealed(&ring(&[1]), "1001|7");
    assert!(again.salt != value.salt && again.data != value.data, "no key encrypts twice");
}

#[test]
fn a_value_is_opened_only_for_its_installation_tenant_and_purpose() {
    let keyring = ring(&[1]);
    for sealed_for in Purpose::ALL {
        let value = keyring.sealer(sealed_for, &tenant("acme")).seal("1001", b"secret").unwrap();
        let is_opened = |keyring: &Keyring, purpose, id| {
            keyring.sealer(purpose, &tenant(id)).open("1001", &value).is_some()
        };
        for purpose in Purpose::ALL {
            let is_right = purpose == sealed_for;
            assert_eq!(
                is_opened(&keyring, purpose, "acme"),
                is_right,
                "{sealed_for:?} {purpose:?}"
            );
        }
        assert!(!is_opened(&keyring, sealed_for, "globex"));
        assert!(!is_opened(&ring_of("other:", &[1]), sealed_for, "acme"));
        // The bytes of prefix and tenant are the same together.
        assert!(!is_opened(&ring_of("ccgw:a", &[1]), sealed_for, "cme"));
    }
}

#[test]
fn the_length_of_what_is_sealed_does_not_show() {
    let (keyring, tenant) = (ring(&[1]), tenant("acme"));
    let length = |purpose, plain: &[u8]| {
        keyring.sealer(purpose, &tenant).seal("1001", plain).unwrap().encode().len()
    };
    // A lease has no content.
    for purpose in Purpose::ALL.into_iter().filter(|purpose| *purpose != Purpose::Lease) {
        assert_eq!(length(purpose, b""), length(purpose, &[b'x'; 250]), "{purpose:?}");
    }
}

#[test]
fn what_another_key_seals_is_sealed_anew_with_the_first() {
    let (old, both, new) = (ring(&[1]), ring(&[2, 1]), ring(&[2]));
    let value = sealed(&old, "1001|7");
    let found = renewal(&both, "1001|7", &value);
    let Renewal::Anew(anew) = found else { panic!("{found:?}") };
    assert_eq!(opened(&new, "1001|7", &anew), Some(b"secret".to_vec()));
    assert_eq!(renewal(&both, "1001|7", &anew), Renewal::Current);
    assert_eq!(renewal(&new, "1001|7", &value), Renewal::Unreadable);
    assert_eq!(renewal(&both, "1002|7", &value), Renewal::Unreadable);
    assert_eq!(Sealed::parse(&anew.encode()), Some(anew));
    assert_eq!(Sealed::parse(b"{}"), None);
}

#[test]
fn keys_that_are_replaced_seal_from_then_on_and_open_what_they_can() {
    let keys = ring(&[1]);
    let mut changes = keys.changes();
    let value = sealed(&keys, "1001|7");
    keys.replace(&[key(2), key(1)]);
    assert!(changes.next().now_or_never().is_some());
    assert!(changes.next().now_or_never().is_none());
    assert!(keys.has(&[key(2), key(1)]) && !keys.has(&[key(1)]));
    assert_eq!(opened(&keys, "1001|7", &value), Some(b"secret".to_vec()));
    assert_eq!(sealed(&keys, "1001|7").key_id, key(2).id());
    keys.replace(&[key(2)]);
    assert_eq!(opened(&keys, "1001|7", &value), None);
}

#[test]
fn what_was_changed_or_moved_is_not_opened() {
    let keyring = ring(&[1]);
    let value = sealed(&keyring, "1001|7");
    assert_eq!(opened(&keyring, "1002|7", &value), None);
    for at in 0..value.data.len() {
        let mut changed = value.clone();
        changed.data[at] ^= 1;
        assert_eq!(opened(&keyring, "1001|7", &changed), None, "byte {at}");
    }
    for at in 0..value.salt.len() {
        let mut changed = value.clone();
        changed.salt[at] ^= 1;
        assert_eq!(opened(&keyring, "1001|7", &changed), None, "byte {at}");
    }
    let empty = Sealed { data: Vec::new(), ..value };
    assert_eq!(opened(&keyring, "1001|7", &empty), None);
}

#[test]
fn debug_shows_no_key() {
    let key = key(0x41);
    let keyring = Keyring::new("ccgw:", std::slice::from_ref(&key));
    let tenant = tenant("acme");
    let shown = format!("{key:?} {keyring:?} {:?}", keyring.sealer(Purpose::Session, &tenant));
    assert!(!shown.contains("4141") && !shown.contains("65, 65"), "{shown}");
}
