//! W3C Trace Context in headers.

use http::{HeaderMap, HeaderName, HeaderValue};
use opentelemetry::propagation::{Extractor, Injector};

/// A caller's headers.
pub(super) struct Read<'a>(pub(super) &'a HeaderMap);

/// Headers towards a gateway.
pub(super) struct Write<'a>(pub(super) &'a mut HeaderMap);

impl Extractor for Read<'_> {
    fn get(&self, key: &str) -> Option<&str> {
        self.0.get(key)?.to_str().ok()
    }

    fn keys(&self) -> Vec<&str> {
        self.0.keys().map(HeaderName::as_str).collect()
    }
}

impl Injector for Write<'_> {
    fn set(&mut self, key: &str, value: String) {
        // An empty tracestate says nothing.
        if value.is_empty() {
            return;
        }
        if let (Ok(name), Ok(value)) = (key.parse::<HeaderName>(), HeaderValue::try_from(value)) {
            self.0.insert(name, value);
        }
    }
}
