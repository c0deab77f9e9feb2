//! The bridge as its callers meet it: through gRPC, with a simulated gateway behind it.

mod admission;
mod cancelling;
mod faults;
mod refusals;
mod sessions;
mod set_busy;
mod support;
