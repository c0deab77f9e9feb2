//! The bridge as its callers meet it: through gRPC, with a simulated gateway behind it.

#![expect(
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test fails by panicking"
)]

mod admission;
mod cancelling;
mod confirming;
mod faults;
mod gateway_tls;
mod keeping;
mod metrics;
mod refusals;
mod sessions;
mod set_busy;
mod sign_in;
mod support;
mod watching;
