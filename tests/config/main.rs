//! The configuration from outside: sources in, a `Config` or its mistakes out.

#![allow(
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::unwrap_used,
    reason = "clippy.toml allows these in #[test] functions, but not in their helpers"
)]

mod callers;
mod certificates;
mod credentials;
mod example;
mod former;
mod listeners;
mod mistakes;
mod parts;
mod precedence;
mod prose;
mod reference;
mod store;
mod support;
mod tenants;
mod traces;
