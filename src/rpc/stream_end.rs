//! How the service of a stream tells the server about the stream's end.
use std::sync::{Arc, OnceLock};

use tokio_util::sync::CancellationToken;
use tonic::Status;

/// Travels with the answer from a stream's service to the server, and says when and how the stream
/// ends. The server uses it when the caller does not read the end that the service sends.
#[derive(Clone, Debug)]
pub struct StreamEnd {
    /// Cancelled when the stream ends for a reason that the server does not see by itself.
    pub token: CancellationToken,
    status: Arc<OnceLock<Status>>,
}

impl StreamEnd {
    /// For a stream that ends when `token` is cancelled, or for a reason that the server sees.
    pub(super) fn new(token: CancellationToken) -> Self {
        Self { token, status: Arc::default() }
    }

    /// Sets the status that the server sends, if the service's own end has not been read.
    pub(super) fn tell(&self, status: Status) {
        // Only the first status counts.
        let _said_before = self.status.set(status);
    }

    /// The status to send. It is known once the stream has been dropped after its end.
    pub fn status(&self) -> Option<&Status> {
        self.status.get()
    }
}
