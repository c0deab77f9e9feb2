use std::time::Duration;

use http::Extensions;
use hyper_util::client::legacy::connect::{CaptureConnection, capture_connection};
use tonic::{Request, metadata::MetadataMap};

/// One request's deadline, and whether a connection was made for it.
#[derive(Debug)]
pub(super) struct Attempt {
    deadline: Option<Duration>,
    /// They make the HTTP client fill `connection`.
    extensions: Extensions,
    connection: CaptureConnection,
}

impl Attempt {
    pub(super) fn new(deadline: Option<Duration>) -> Self {
        let mut carrier = http::Request::new(());
        let connection = capture_connection(&mut carrier);
        Self { deadline, extensions: carrier.into_parts().0.extensions, connection }
    }

    /// Wraps `message` into the request to send, with the deadline in it.
    pub(super) fn request<T>(&self, message: T) -> Request<T> {
        let extensions = self.extensions.clone();
        let mut request = Request::from_parts(MetadataMap::default(), extensions, message);
        if let Some(deadline) = self.deadline {
            request.set_timeout(deadline);
        }
        request
    }

    /// Whether a connection was made, TLS included. Without one no bridge has seen the request.
    pub(super) fn had_connection(&self) -> bool {
        self.connection.connection_metadata().is_some()
    }
}
