//! Where the outcomes of changes with ids are kept beyond this process.

use std::{fmt, time::Duration};

use futures_util::future::BoxFuture;
use secrecy::zeroize::Zeroizing;

use super::StoreError;
use crate::id::AgentId;

/// A tenant's records of changes that have an id, each under the name of the id. What they say is the caller's
/// own matter.
pub trait ChangeRecords: fmt::Debug + Send + Sync {
    /// A record as the store would have it; no two are the same where the store is shared.
    ///
    /// # Errors
    ///
    /// [`StoreError::Unavailable`] if it cannot be encrypted.
    fn stored_form(&self, name: &str, record: &[u8]) -> Result<Vec<u8>, StoreError>;

    /// Stores a record for `time`, unless there is one already. Returns the one that is there, and stores nothing
    /// then. `instead_of` is replaced: what the store has of the record that the caller has found or stored.
    fn begin<'a>(
        &'a self,
        of: (AgentId, &'a str),
        stored: &'a [u8],
        instead_of: &'a [u8],
        time: Duration,
    ) -> BoxFuture<'a, Result<Option<KnownRecord>, StoreError>>;

    /// The record, if there is one.
    fn find<'a>(&'a self, name: &'a str) -> BoxFuture<'a, Result<Option<KnownRecord>, StoreError>>;

    /// Removes the record, if it is still this one.
    fn remove<'a>(
        &'a self,
        agent: AgentId,
        name: &'a str,
        stored: &'a [u8],
    ) -> BoxFuture<'a, Result<(), StoreError>>;
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
