//! The program as its operators meet it: started, looked at from outside, and stopped.

#![expect(
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test fails by panicking"
)]

mod call;
mod clients;
mod command_line;
mod connections;
mod demo;
mod doctor;
mod drain;
mod grpcurl;
mod logs;
mod papers;
mod readme;
mod secrets;
mod support;
