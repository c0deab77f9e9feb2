//! What must hold for any bytes of a peer, one function a parser.
//!
//! cargo-fuzz runs them under a fuzzer; `tests/replay.rs` runs them over the seeds.

mod agent_status;
mod answer;
mod change_record;
mod config;
mod content_coding;
mod cookies;
mod envelope;
mod event;
mod grpc_message;
mod grpc_timeout;
mod guid;
mod http2;
mod id;
mod replicas;
mod retcode;
mod ring;
mod sealed_value;
mod session_record;
mod status;
mod token;

pub use self::{
    agent_status::agent_status,
    answer::answer,
    change_record::change_record,
    config::{config, environment},
    content_coding::content_coding,
    cookies::cookies,
    envelope::envelope,
    event::event,
    grpc_message::grpc_message,
    grpc_timeout::grpc_timeout,
    guid::guid,
    http2::{http2_frames, http2_preface},
    id::{agent_id, tenant_id},
    replicas::{heartbeat, sign_in_lock, told_event},
    retcode::retcode,
    sealed_value::{sealed_row, sealed_value},
    session_record::session_record,
    status::status,
    token::{key_set, token},
};

/// Panics if something does not hold for these bytes.
pub type Target = fn(&[u8]);

/// Every target, by the name of its program and of its seeds' folder.
pub const TARGETS: &[(&str, Target)] = &[
    ("agent_id", agent_id),
    ("agent_status", agent_status),
    ("answer", answer),
    ("change_record", change_record),
    ("config", config),
    ("content_coding", content_coding),
    ("cookies", cookies),
    ("envelope", envelope),
    ("environment", environment),
    ("event", event),
    ("grpc_message", grpc_message),
    ("grpc_timeout", grpc_timeout),
    ("guid", guid),
    ("heartbeat", heartbeat),
    ("http2_frames", http2_frames),
    ("http2_preface", http2_preface),
    ("key_set", key_set),
    ("retcode", retcode),
    ("sealed_row", sealed_row),
    ("sealed_value", sealed_value),
    ("session_record", session_record),
    ("sign_in_lock", sign_in_lock),
    ("status", status),
    ("tenant_id", tenant_id),
    ("token", token),
    ("told_event", told_event),
];
