//! The keys, tenant and agents of the targets that read what is sealed.

use std::sync::{Arc, LazyLock};

use ccgateway_bridge::{
    id::{AgentId, DEFAULT_AGENT_IDS, TenantId},
    keyring::{EncryptionKey, KEY_LEN, Keyring, Purpose, Sealed},
};

pub static RING: LazyLock<Arc<Keyring>> = LazyLock::new(|| ring("fuzz", &[7]));

/// A keyring of an installation, with keys made of these bytes.
pub fn ring(installation: &str, keys: &[u8]) -> Arc<Keyring> {
    let keys: Vec<_> = keys.iter().map(|key| EncryptionKey::new([*key; KEY_LEN])).collect();
    Keyring::new(installation, &keys).into()
}

pub fn tenant(name: &str) -> TenantId {
    TenantId::parse(name).expect("an id")
}

pub fn agent(number: u32) -> AgentId {
    AgentId::parse(&number.to_string(), &DEFAULT_AGENT_IDS).expect("an id")
}

/// What a replica of tenant acme seals.
pub fn seal(purpose: Purpose, about: &str, plain: &[u8]) -> Sealed {
    RING.sealer(purpose, &tenant("acme")).seal(about, plain).expect("sealed")
}
