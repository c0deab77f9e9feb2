//! What the bridge tells of itself: its log, its metrics, and the traces of its calls.
//!
//! Depends on no other room. Which labels, names and destinations there are comes from the rooms that
//! have something to tell, when they make the parts that they tell it through.

pub mod log;
pub mod metrics;
pub mod trace;
