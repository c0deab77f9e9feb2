//! How the bridge reports on itself: logs, metrics, and traces of its calls.
//!
//! This module depends on no other one. The modules that report something supply the labels, names
//! and destinations when they create the parts that they report through.

pub mod audit;
mod lines;
pub mod log;
pub mod metrics;
pub mod trace;
