//! What must hold for any bytes of a peer, one function a parser.
//!
//! cargo-fuzz runs them under a fuzzer; `tests/replay.rs` runs them over the seeds.

mod agent_status;
mod config;
mod cookies;
mod envelope;
mod event;
mod guid;
mod id;
mod retcode;

pub use self::{
    agent_status::agent_status,
    config::config,
    cookies::cookies,
    envelope::envelope,
    event::event,
    guid::guid,
    id::{agent_id, tenant_id},
    retcode::retcode,
};

/// Panics if something does not hold for these bytes.
pub type Target = fn(&[u8]);

/// Every target, by the name of its program and of its seeds' folder.
pub const TARGETS: &[(&str, Target)] = &[
    ("agent_id", agent_id),
    ("agent_status", agent_status),
    ("config", config),
    ("cookies", cookies),
    ("envelope", envelope),
    ("event", event),
    ("guid", guid),
    ("retcode", retcode),
    ("tenant_id", tenant_id),
];
