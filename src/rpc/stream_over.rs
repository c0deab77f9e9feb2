use std::sync::{Arc, OnceLock};

use tokio_util::sync::CancellationToken;
use tonic::Status;

/// Goes with the answer to a stream, to the server: when the stream is over, and how it ends. The
/// server ends it where its caller does not take the end that the stream's service has for it.
#[derive(Clone, Debug)]
pub struct StreamOver {
    /// Cancelled when the stream is over for a reason that the server does not see by itself.
    pub token: CancellationToken,
    status: Arc<OnceLock<Status>>,
}

impl StreamOver {
    /// Of a stream that is over when `token` is cancelled, and for what the server sees.
    pub(super) fn new(token: CancellationToken) -> Self {
        Self { token, status: Arc::default() }
    }

    /// Says what the caller is told, by the table, if it is not told otherwise.
    pub(super) fn tell(&self, status: Status) {
        // The first word counts.
        let _said_before = self.status.set(status);
    }

    /// What the caller is to be told. Known when the stream has been dropped after its end.
    pub fn status(&self) -> Option<&Status> {
        self.status.get()
    }
}
