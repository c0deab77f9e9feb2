//! How an agent parts from the poll of its node.

use std::time::Duration;

use super::Silence;
use crate::tenant::single_poll::Finding;

/// Why the poll of its node leaves an agent's session to a keeper of its own.
#[derive(Clone, Copy, Debug, Default)]
pub(in crate::tenant) struct Parting {
    /// What seems to be wrong.
    pub(in crate::tenant) suspicion: Option<Finding>,
    /// The version of the session with whose Guid the poll was refused.
    pub(in crate::tenant) refused_version: Option<u64>,
    /// An answer was lost that may have brought a newer Guid.
    pub(in crate::tenant) newer_guid_may_be_lost: bool,
    /// For how long the node was silent.
    pub(in crate::tenant) silence: Option<Silence>,
    /// The keeper begins at a random time within this duration: many may begin at once.
    pub(in crate::tenant) spread: Duration,
}
