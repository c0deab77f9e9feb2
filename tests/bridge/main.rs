//! The bridge as its callers see it: through gRPC, with a simulated gateway.

#![expect(
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test fails by panicking"
)]

mod admission;
mod agent_state;
mod batch;
mod batch_share;
mod callers;
mod cancelling;
mod confirming;
mod effects;
mod fault_points;
mod faults;
mod gateway_tls;
mod get_state;
mod health;
mod keeping;
mod listeners;
mod metrics;
mod monitoring;
mod morning;
mod no_guids;
mod odd_replies;
mod overlaps;
mod overload;
mod polls_for_all;
mod proxied;
mod read_back;
mod reflection;
mod refusals;
mod request_ids;
mod routes;
mod sessions;
mod set_busy;
mod shares;
mod sign_in;
mod sign_out;
mod start;
mod status;
mod table;
mod take_overs;
mod traces;
mod unasked_sign_ins;
mod watching;
mod without_guid;
