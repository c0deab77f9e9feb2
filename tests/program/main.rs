//! The program as its operators see it: started, observed from outside, and stopped.

#![expect(
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test fails by panicking"
)]

mod admin_port;
mod audit;
mod authority;
mod book;
mod call;
mod clients;
mod command_line;
mod completions_and_man;
mod connections;
mod core_dumps;
mod demo;
mod dev_certs;
mod doctor;
mod doctor_services;
mod drain;
mod ends;
mod file_limit;
mod floods;
mod grpcurl;
mod half_messages;
mod lingering;
mod log_level;
mod logs;
mod malformed;
mod malformed_clients;
mod memory;
mod old_certificates;
mod otel;
mod rates;
mod raw;
mod reference;
mod release;
mod reloading;
mod request;
mod rude_peers;
mod secrets;
mod session_file;
mod simulator;
mod strangers;
mod streams;
mod support;
mod tenants;
mod tls_suites;
mod trickles;
mod unreached;
mod unread_answers;
