//! What the bridge's tests have in common.
//!
//! A test stands on a [`Site`]: a simulated gateway and a folder. Bridges are started there by a [`Setup`],
//! as [`TestBridge`] in the test's own process or as [`Program`] in one of its own. Either is called
//! through its [`Clients`]. Around them there can be a [`RedisServer`], a [`lossy`] proxy before the
//! gateway, a [`collector`] of traces and a [`ClosedPort`].
//!
//! Whatever goes wrong in here fails the test by a panic. Unit tests of the bridge must not use this crate: the
//! bridge that it starts would be another one than theirs to the compiler.

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
mod gateway;
pub mod lossy;
pub mod page;
mod program;
mod programs;
mod redis;
mod refusal;
mod setup;
mod site;
mod waiting;
mod watching;

pub use bridge::{TestBridge, keeping, kept};
pub use certificate::Certificate;
pub use clients::{Clients, origin, set_busy};
pub use closed_port::ClosedPort;
pub use gateway::{asked, gateway, said};
pub use program::{Output, Program};
pub use programs::{command, python, run, signal};
pub use redis::RedisServer;
pub use refusal::{Refusal, refused};
pub use setup::{Setup, in_file, in_redis};
pub use site::Site;
pub use waiting::{until, until_within, within};
pub use watching::Watching;

/// The password of every agent, as the gateway knows it.
pub const PASSWORD: &str = "canary-password";

/// An agent that the gateway knows.
pub const AGENT: u32 = 1001;
