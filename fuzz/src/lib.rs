//! What must hold for any bytes of a peer, one function a parser.
//!
//! cargo-fuzz runs them under a fuzzer; `tests/replay.rs` runs them over the seeds.

mod agent_status;
mod config;
mod content_coding;
mod cookies;
mod envelope;
mod event;
mod guid;
mod heads;
mod id;
mod retcode;

pub use self::{
    agent_status::agent_status,
    config::config,
    content_coding::content_coding,
    cookies::cookies,
    envelope::envelope,
    event::event,
    guid::guid,
    heads::heads,
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
    ("content_coding", content_coding),
    ("cookies", cookies),
    ("envelope", envelope),
    ("event", event),
    ("guid", guid),
    ("heads", heads),
    ("retcode", retcode),
    ("tenant_id", tenant_id),
];
