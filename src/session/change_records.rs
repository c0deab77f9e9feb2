//! Where the outcomes of changes with ids are kept beyond this process.

use std::{fmt, time::Duration};

use futures_util::future::BoxFuture;
use secrecy::zeroize::Zeroizing;

use super::StoreError;
use crate::id::AgentId;

/// A tenant's records of changes that have an id, each under the name of the id. What they say is the caller's
/// own matter.
pub trait ChangeRecords: fmt::Debug + Send + Sync {
    /// Stores a record for `time`, unless there is one already. Returns the one that is there, and stores nothing
    /// then. One that equals `instead_of` is replaced.
    fn begin<'a>(
        &'a self,
        of: ChangeName<'a>,
        record: &'a [u8],
        instead_of: Option<&'a KnownRecord>,
        time: Duration,
    ) -> BoxFuture<'a, Result<Option<KnownRecord>, StoreError>>;

    /// Stores a record for `time`, whatever is there.
    fn put<'a>(
        &'a self,
        of: ChangeName<'a>,
        record: &'a [u8],
        time: Duration,
    ) -> BoxFuture<'a, Result<(), StoreError>>;

    /// The record, if there is one.
    fn find<'a>(&'a self, name: &'a str) -> BoxFuture<'a, Result<Option<KnownRecord>, StoreError>>;

    /// Removes the record.
    fn remove<'a>(&'a self, of: ChangeName<'a>) -> BoxFuture<'a, Result<(), StoreError>>;
}

/// Whose a record is.
#[derive(Clone, Copy, Debug)]
pub struct ChangeName<'a> {
    /// The agent of the change.
    pub agent: AgentId,
    /// The name that the change's id has.
    pub name: &'a str,
}

/// A record as it is stored.
pub struct KnownRecord {
    /// What it says.
    pub plain: Zeroizing<Vec<u8>>,
    /// What the store has.
    pub stored: Vec<u8>,
    /// Whether the process that has written it is known to have ended.
    pub is_left: bool,
}

/// An answer of a gateway may have what is not for logs.
impl fmt::Debug for KnownRecord {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("KnownRecord").finish_non_exhaustive()
    }
}
