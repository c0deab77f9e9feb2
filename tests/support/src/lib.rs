//! Support for the bridge's tests.
//!
//! A test has a [`Site`]: a simulated gateway and a folder for files. It starts bridges there from a
//! [`Setup`]: a [`TestBridge`] in the test's own process, or a [`Program`] as a process of its own. Both are
//! called through [`Clients`]. There can also be a [`RedisServer`], a [`lossy`] proxy before the gateway, a
//! [`collector`] of traces, and a [`ClosedPort`].
//!
//! What a program logs and a bridge's pages, exports and errors show is searched for secrets in every test
//! ([`hides_secrets`]).
//!
//! Every failure in here panics, which fails the test. Unit tests of the bridge must not use this crate: to the
//! compiler, the bridge's crate that it uses is not the same as theirs, so their types would differ.

#![expect(
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::missing_panics_doc,
    reason = "a test fails by panicking"
)]

mod admin;
mod bridge;
mod certificate;
pub mod changes;
mod clients;
mod closed_port;
pub mod collector;
mod contract;
mod gateway;
pub mod lossy;
pub mod page;
mod program;
mod programs;
pub mod raw_gateway;
mod redis;
mod refusal;
mod secrets;
mod setup;
mod site;
mod waiting;
mod watching;

pub use bridge::{TestBridge, keeping, kept};
pub use certificate::Certificate;
pub use clients::{Clients, origin, set_busy};
pub use closed_port::ClosedPort;
pub use contract::reading_methods;
pub use gateway::{asked, gateway, said};
pub use program::{Output, Program};
pub use programs::{command, python, run, signal};
pub use redis::RedisServer;
pub use refusal::{Refusal, refused};
pub use secrets::{STORE_KEY, hides_secrets, key, key_hex};
pub use setup::{Setup, in_file, in_redis};
pub use site::Site;
pub use waiting::{until, until_asked, until_within, within};
pub use watching::Watching;

/// The password of every agent at the gateway.
pub const PASSWORD: &str = "canary-password";

/// An agent of the gateway.
pub const AGENT: u32 = 1001;
