//! What must hold for any bytes of a peer, one function a parser.
//!
//! cargo-fuzz runs them under a fuzzer; `tests/replay.rs` runs them over the seeds.

mod config;
mod cookies;
mod envelope;
mod guid;
mod id;
mod retcode;

pub use self::{
    config::config,
    cookies::cookies,
    envelope::envelope,
    guid::guid,
    id::{agent_id, tenant_id},
    retcode::retcode,
};

/// Panics if something does not hold for these bytes.
pub type Target = fn(&[u8]);

/// Every target, by the name of its program and of its seeds' folder.
pub const TARGETS: &[(&str, Target)] = &[
    ("agent_id", agent_id),
    ("config", config),
    ("cookies", cookies),
    ("envelope", envelope),
    ("guid", guid),
    ("retcode", retcode),
    ("tenant_id", tenant_id),
];
